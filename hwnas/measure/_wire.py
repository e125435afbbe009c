"""One connection to the agent on a board: starting it there, files there and back, requests to the process there.

Knows the transport and the agent's operations; never which requests there are, nor what happens after a loss.
"""

from __future__ import annotations

import base64
import hashlib
import os
import platform
import secrets
from collections.abc import Mapping
from contextlib import suppress
from pathlib import Path
from typing import Any, overload

from hwnas.errors import HwnasError, MeasurementTimeoutError, WorkerCrashedError
from hwnas.foreign import words_of
from hwnas.measure import _boot
from hwnas.measure._child import Child
from hwnas.measure._replies import Busy, Facts, Offered, Piece, Put, R, Reply, Wanted, Worked, parse
from hwnas.measure.bundle import OLDEST_PYTHON, agent_bytes
from hwnas.measure.connection import Connection, Transport
from hwnas.measure.protocol import AGENT_PROTOCOL, ReplyError, RuntimeBrokenError

_CHUNK_BYTES = 384 << 10  # 512 KiB as base64
_CHUNK_TIMEOUT_S = 120.0
_ATTEMPTS = 3  # to get one file over unharmed
_START_S = 60.0  # a small board needs a while to import numpy
_GRACE_S = 15.0  # for the way there and back, beyond what the board itself allows
_QUIT_S = 5.0
_SPEAK_S = 1.0  # for the transport's program to say itself that the time to connect is over
_SETUP_STATUSES = (_boot.REFUSED, 126, 127)  # the last two: the shell's, for a command that is not there


class BoardError(RuntimeBrokenError):
    """The board cannot go on; no artefact is to blame.

    What to do: look at the board with `hwnas agent --check DEVICE`.
    """


class BoardSetupError(BoardError):
    """Something must be installed or set on the board first.

    What to do: install or set there what the message names, then `hwnas agent --check DEVICE`.
    """

    exit_status = 2


class BoardReplyError(BoardError):
    """The board says something else than what was asked for: nothing it says counts.

    What to do: see that the shell of the board prints nothing when it is entered, and that both sides have the same
    version.
    """

    exit_status = 2


class LinkLostError(BoardError):
    """The connection ended; a new one may do better.

    What to do: see that the board is on and can be reached, and repeat the command, which goes on.
    """


class Wire:
    """An agent that runs on the board. One thread at a time.

    Attributes:
        facts: what the board said of itself.
        settings: of the connection.
    """

    # the mark is a hash, so that a shell that echoes the command cannot print it
    def __init__(self, connection: Connection, transport: Transport, *, session: str) -> None:
        """Connect, send the agent if the board does not have it, and start it.

        Args:
            connection: the settings.
            transport: the way there.
            session: the same for all connections of one measurement: a later one ends what is left of an earlier one.
                Empty: only look; somebody else may be measuring.

        Raises:
            LinkLostError: no connection, it ended, or somebody else is measuring.
            BoardSetupError: the board lacks something.
        """
        self.board = transport.board
        self.settings, self._transport = connection, transport
        token = secrets.token_hex(16)
        command = self._command(token)
        try:
            self._child = Child(command, mark=hashlib.sha256(token.encode()).hexdigest().encode())
        except WorkerCrashedError as e:
            words = f"{command[0]} cannot be started"
            raise BoardSetupError(self._advised(f"cannot reach the board {self.board}: {words}", words)) from e
        try:
            self._send_agent()
            self.facts = self._introduce(session)
        except BaseException:
            # also for Ctrl-C: an agent left behind would hold the board's lock
            self.kill()
            raise

    @property
    def pid(self) -> int:
        """Id of the transport's process here."""
        return self._child.pid

    @property
    def alive(self) -> bool:
        """Whether the transport's process runs."""
        return self._child.alive

    def close(self) -> None:
        """End the agent politely."""
        if self.alive:
            with suppress(HwnasError):  # gone already
                self._child.request("quit", {}, timeout_s=_QUIT_S)
        self.kill()

    def kill(self) -> None:
        """Cut the connection; the agent and what it started end with it."""
        self._child.kill()

    def cut_off(self) -> None:
        """From another thread: cut the connection; the thread that waits for a reply notices."""
        self._child.cut_off()

    def work(self, op: str, arguments: Mapping[str, Any], *, timeout_s: float) -> Worked:
        """What the measuring process on the board replies: its result, unchecked, or its error.

        Args:
            op: one of the measuring process's operations.
            arguments: JSON values.
            timeout_s: kept by the board, also when the link is gone.

        Raises:
            LinkLostError: no reply.
        """
        request = {"request": {"op": op, **arguments}, "timeout_s": timeout_s}
        return self._ask("work", request, Worked, timeout_s=timeout_s + _GRACE_S)

    def send(self, path: Path, sha256: str, *, suffix: str) -> None:
        """Bring a file to the board unless it is there; what an earlier attempt left is used.

        Args:
            path: of the file here.
            sha256: its hash.
            suffix: its name's ending, which runtimes look at.

        Raises:
            LinkLostError: the connection ended.
            BoardError: the board's disk is full, or the file never arrived unharmed.
        """
        size_bytes = path.stat().st_size
        name = {"sha256": sha256, "suffix": suffix, "size_bytes": size_bytes}
        for _ in range(_ATTEMPTS):
            offer = self._ask("offer", name, Offered, timeout_s=_CHUNK_TIMEOUT_S)
            if offer.have:
                return
            if offer.full:
                raise self._full(path, size_bytes, offer.free_bytes)
            # what an earlier attempt left is kept: a lost link costs one piece, not the file
            answer = self._send_rest(path, name, offset=min(offer.received_bytes, size_bytes))
            if answer.state == "stored":
                return
            if answer.state == "full":
                raise self._full(path, size_bytes, answer.free_bytes)
        raise BoardError(f"{path} arrived damaged on the board {self.board} {_ATTEMPTS} times; check the connection")

    def fetch(self, sha256: str, *, size_bytes: int) -> bytes:
        """The outputs of a run.

        Raises:
            LinkLostError: the connection ended.
            BoardError: they never arrived unharmed, or are larger than the connection allows.
        """
        if size_bytes > self.settings.max_file_mb * 1e6:
            raise BoardError(
                f"the board {self.board} has outputs of {size_bytes} bytes, more than the "
                f"{self.settings.max_file_mb:g} MB that are fetched; raise max_file_mb of its connection"
            )
        for _ in range(_ATTEMPTS):
            pieces = []
            for offset in range(0, size_bytes, _CHUNK_BYTES):
                request = {"sha256": sha256, "offset": offset, "size_bytes": _CHUNK_BYTES}
                piece = self._ask("get", request, Piece, timeout_s=_CHUNK_TIMEOUT_S).data
                pieces.append(self._decode(piece, n_bytes=min(_CHUNK_BYTES, size_bytes - offset)))
            data = b"".join(pieces)
            # a link may change bytes; the hash notices, and the file is fetched again
            if hashlib.sha256(data).hexdigest() == sha256:
                return data
        raise BoardError(f"outputs arrived damaged from the board {self.board} {_ATTEMPTS} times; check the connection")

    def drop(self, sha256: str) -> None:
        """Remove the inputs or outputs of a run from the board.

        Raises:
            LinkLostError: the connection ended.
        """
        self._ask("drop", {"sha256": sha256}, None, timeout_s=_CHUNK_TIMEOUT_S)

    # ------------------------------------------------------------ starting

    def _command(self, token: str) -> list[str]:
        settings = self.settings
        # One word without quotes or new lines: every shell passes it on.
        # the program travels on the command line, so that a board needs nothing but Python and numpy
        boot = base64.b64encode(Path(_boot.__file__).read_bytes()).decode()
        digest = hashlib.sha256(agent_bytes()).hexdigest()
        by_hand = [settings.agent] if settings.agent else []
        # -I: a file in the home folder there named like a module must not be imported in its place.
        program = f"import base64;exec(base64.b64decode('{boot}'))"
        arguments = [settings.python, "-I", "-c", program, settings.folder, digest, OLDEST_PYTHON, token, *by_hand]
        return self._transport.command(arguments, timeout_s=settings.connect_timeout_s)

    def _send_agent(self) -> None:
        timeout_s = self.settings.connect_timeout_s + _SPEAK_S
        if not self._ask("boot", {}, Wanted, timeout_s=timeout_s).wanted:
            return
        data = base64.b64encode(agent_bytes()).decode()
        for _ in range(_ATTEMPTS):
            if not self._ask("agent", {"data": data}, Wanted, timeout_s=_CHUNK_TIMEOUT_S).wanted:
                return
        raise BoardError(f"the agent arrived damaged on the board {self.board} {_ATTEMPTS} times")

    def _introduce(self, session: str) -> Facts:
        # looking must not take the lock from somebody who measures
        if not session:
            return self._ask("facts", {}, Facts, timeout_s=_START_S)
        hello = {
            "protocol": AGENT_PROTOCOL,
            "session": session,
            "who": f"{platform.node()} (process {os.getpid()})",
            "max_file_bytes": int(self.settings.max_file_mb * 1e6),
            "cache_bytes": int(self.settings.cache_mb * 1e6),
        }
        try:
            reply = self._ask("hello", hello, None, timeout_s=_START_S)
        except (LinkLostError, BoardReplyError):  # subclasses of `BoardError` that say more than the general case below
            raise
        except BoardError as e:  # another version, a folder that cannot be written
            raise BoardSetupError(str(e)) from e
        if busy := self._check("hello", Busy, reply).busy:
            raise LinkLostError(f"board {self.board}: {words_of(busy.encode())}; only one may measure at a time")
        return self._check("hello", Facts, reply)

    # ------------------------------------------------------------ asking

    def _send_rest(self, path: Path, name: Mapping[str, Any], *, offset: int) -> Put:
        with open(path, "rb") as file:
            file.seek(offset)
            while True:
                data = file.read(_CHUNK_BYTES)
                piece = {**name, "offset": offset, "data": base64.b64encode(data).decode()}
                answer = self._ask("put", piece, Put, timeout_s=_CHUNK_TIMEOUT_S)
                # an empty piece is sent for an empty file, and asks whether all is there
                if answer.state != "more" or not data:
                    return answer
                offset += len(data)

    @overload
    def _ask(self, op: str, arguments: Mapping[str, Any], model: type[R], *, timeout_s: float) -> R: ...

    @overload
    def _ask(self, op: str, arguments: Mapping[str, Any], model: None, *, timeout_s: float) -> object: ...

    def _ask(self, op: str, arguments: Mapping[str, Any], model: type[Reply] | None, *, timeout_s: float) -> object:
        """One operation of the agent; whatever ends the transport's process is a lost link."""
        try:
            result = self._child.request(op, arguments, timeout_s=timeout_s)
        except (WorkerCrashedError, MeasurementTimeoutError) as e:
            raise self._lost(op, e, timeout_s=timeout_s) from e
        except ReplyError as e:
            raise BoardReplyError(f"board {self.board}: {str(e).replace('the measuring process', 'it')}") from e
        except HwnasError as e:
            raise BoardError(f"board {self.board}: {e}") from e
        return result if model is None else self._check(op, model, result)

    def _check(self, op: str, model: type[R], reply: object) -> R:
        try:
            return parse(model, reply)
        except ReplyError as e:
            self.kill()
            raise BoardReplyError(f"board {self.board}: it answered {op!r} with what is no reply to it: {e}") from e

    def _lost(self, op: str, error: HwnasError, *, timeout_s: float) -> BoardError:
        """What ended the connection, with everything that was said at its end, by the board and by the transport."""
        words, status = self._child.last_words, self._child.exit_status
        printed = words_of(self._child.printed)
        # in time and with such a status: the board itself refused, and trying again gives the same
        if status in _SETUP_STATUSES and not isinstance(error, MeasurementTimeoutError):
            return BoardSetupError(f"board {self.board}: {'; '.join(filter(None, (words, printed))) or error}")
        if isinstance(error, MeasurementTimeoutError):
            ended = f"nothing {'else ' if printed or words else ''}came within {timeout_s:g} s"
            if op == "boot" and printed:
                ended += "; a login there must run the command that it is given, and ask nothing"
        # what a program does that is started as Python and is none: it ends and says nothing
        elif op == "boot" and status in (0, 1) and not (words or printed):
            ended = f"the command ended with status {status}; is {self.settings.python!r} there Python?"
        else:
            ended = f"the connection ended with status {status}"
        why = "; ".join([*([f"it printed: {printed}"] if printed else []), *([words] if words else []), ended])
        return LinkLostError(
            self._advised(f"no answer from the board {self.board} to {op!r}: {why}", f"{words} {printed}")
        )

    def _decode(self, text: str, *, n_bytes: int) -> bytes:
        try:
            # without it characters that are not of the alphabet would be passed over
            data = base64.b64decode(text, validate=True)
        except ValueError:
            data = b""
        if len(data) != n_bytes:
            self.kill()
            raise BoardReplyError(
                f"board {self.board}: it answered 'get' with {len(text)} characters that are not the {n_bytes} bytes "
                "asked for"
            )
        return data

    def _advised(self, what: str, words: str) -> str:
        advice = self._transport.advice(words)
        return f"{what}; {advice}" if advice else what

    def _full(self, path: Path, size_bytes: int, free_bytes: int | None) -> BoardError:
        return BoardSetupError(
            f"the disk of the board {self.board} is full: {path.name} needs {size_bytes} bytes and "
            f"{free_bytes or 0} are free in {self.facts.folder}, though everything not in use was removed there; free "
            "some space, or give the connection another folder. What was measured is kept"
        )
