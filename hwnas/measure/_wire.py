"""One connection to the agent on a board: starting it there, files there and back, requests to the process there.

Knows the transport and the agent's operations; never which requests there are, nor what happens after a loss.
"""

from __future__ import annotations

import base64
import hashlib
import os
import platform
from collections.abc import Mapping
from contextlib import suppress
from pathlib import Path
from typing import Any

from hwnas.errors import HwnasError, MeasurementTimeoutError, WorkerCrashedError
from hwnas.measure import _boot
from hwnas.measure._child import Child
from hwnas.measure._link import RuntimeBrokenError
from hwnas.measure.bundle import OLDEST_PYTHON, agent_bytes
from hwnas.measure.connection import Connection, Transport
from hwnas.measure.protocol import AGENT_PROTOCOL

_CHUNK_BYTES = 384 << 10  # 512 KiB as base64
_CHUNK_TIMEOUT_S = 120.0
_ATTEMPTS = 3  # to get one file over unharmed
_START_S = 60.0  # a small board needs a while to import numpy
_GRACE_S = 15.0  # for the way there and back, beyond what the board itself allows
_QUIT_S = 5.0
_SETUP_STATUSES = (_boot.REFUSED, 126, 127)  # the last two: the shell's, for a command that is not there


class BoardError(RuntimeBrokenError):
    """The board cannot go on; no artefact is to blame."""


class BoardSetupError(BoardError):
    """Something must be installed or set on the board first."""

    exit_status = 2


class LinkLostError(BoardError):
    """The connection ended; a new one may do better."""


class Wire:
    """An agent that runs on the board. One thread at a time.

    Attributes:
        facts: what the board said of itself.
    """

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
        self._connection, self._transport = connection, transport
        try:
            self._child = Child(self._command())
        except WorkerCrashedError as e:
            words = f"{self._command()[0]} cannot be started"
            raise BoardSetupError(self._advised(f"cannot reach the board {self.board}: {words}", words)) from e
        try:
            self._send_agent()
            self.facts: dict[str, Any] = self._introduce(session)
        except BaseException:
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

    def work(self, op: str, arguments: Mapping[str, Any], *, timeout_s: float) -> Mapping[str, Any]:
        """What the measuring process on the board replies: `{"result": ...}` or `{"error": ...}`.

        Args:
            op: one of the measuring process's operations.
            arguments: JSON values.
            timeout_s: kept by the board, also when the link is gone.

        Raises:
            LinkLostError: no reply.
        """
        request = {"request": {"op": op, **arguments}, "timeout_s": timeout_s}
        reply: Mapping[str, Any] = self._ask("work", request, timeout_s=timeout_s + _GRACE_S)
        return reply

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
            offer = self._ask("offer", name, timeout_s=_CHUNK_TIMEOUT_S)
            if offer["have"]:
                return
            if offer["full"]:
                raise self._full(path, size_bytes, offer["free_bytes"])
            state = self._send_rest(path, name, offset=offer["received_bytes"])
            if state["state"] == "stored":
                return
            if state["state"] == "full":
                raise self._full(path, size_bytes, state["free_bytes"])
        raise BoardError(f"{path} arrived damaged on the board {self.board} {_ATTEMPTS} times; check the connection")

    def fetch(self, sha256: str, *, size_bytes: int) -> bytes:
        """The outputs of a run.

        Raises:
            LinkLostError: the connection ended.
            BoardError: they never arrived unharmed.
        """
        for _ in range(_ATTEMPTS):
            pieces = []
            for offset in range(0, size_bytes, _CHUNK_BYTES):
                request = {"sha256": sha256, "offset": offset, "size_bytes": _CHUNK_BYTES}
                piece = self._ask("get", request, timeout_s=_CHUNK_TIMEOUT_S)["data"]
                pieces.append(base64.b64decode(piece))
            data = b"".join(pieces)
            if hashlib.sha256(data).hexdigest() == sha256:
                return data
        raise BoardError(f"outputs arrived damaged from the board {self.board} {_ATTEMPTS} times; check the connection")

    def drop(self, sha256: str) -> None:
        """Remove the inputs or outputs of a run from the board.

        Raises:
            LinkLostError: the connection ended.
        """
        self._ask("drop", {"sha256": sha256}, timeout_s=_CHUNK_TIMEOUT_S)

    # ------------------------------------------------------------ starting

    def _command(self) -> list[str]:
        settings = self._connection
        # One word without quotes or new lines: every shell passes it on.
        boot = base64.b64encode(Path(_boot.__file__).read_bytes()).decode()
        digest = hashlib.sha256(agent_bytes()).hexdigest()
        by_hand = [settings.agent] if settings.agent else []
        # -I: a file in the home folder there named like a module must not be imported in its place.
        program = f"import base64;exec(base64.b64decode('{boot}'))"
        arguments = [settings.python, "-I", "-c", program, settings.folder, digest, OLDEST_PYTHON, *by_hand]
        return self._transport.command(arguments, timeout_s=settings.connect_timeout_s)

    def _send_agent(self) -> None:
        timeout_s = self._connection.connect_timeout_s + _GRACE_S
        if not self._ask("boot", {}, timeout_s=timeout_s)["wanted"]:
            return
        data = base64.b64encode(agent_bytes()).decode()
        for _ in range(_ATTEMPTS):
            if not self._ask("agent", {"data": data}, timeout_s=_CHUNK_TIMEOUT_S)["wanted"]:
                return
        raise BoardError(f"the agent arrived damaged on the board {self.board} {_ATTEMPTS} times")

    def _introduce(self, session: str) -> dict[str, Any]:
        if not session:
            facts: dict[str, Any] = self._ask("facts", {}, timeout_s=_START_S)
            return facts
        hello = {
            "protocol": AGENT_PROTOCOL,
            "session": session,
            "who": f"{platform.node()} (process {os.getpid()})",
            "max_file_bytes": int(self._connection.max_file_mb * 1e6),
            "cache_bytes": int(self._connection.cache_mb * 1e6),
        }
        try:
            reply: dict[str, Any] = self._ask("hello", hello, timeout_s=_START_S)
        except LinkLostError:
            raise
        except BoardError as e:  # another version, a folder that cannot be written
            raise BoardSetupError(str(e)) from e
        if reply["busy"]:
            raise LinkLostError(f"board {self.board}: {reply['busy']}; only one may measure at a time")
        return reply

    # ------------------------------------------------------------ asking

    def _send_rest(self, path: Path, name: Mapping[str, Any], *, offset: int) -> Mapping[str, Any]:
        with open(path, "rb") as file:
            file.seek(offset)
            while True:
                data = file.read(_CHUNK_BYTES)
                piece = {**name, "offset": offset, "data": base64.b64encode(data).decode()}
                state: Mapping[str, Any] = self._ask("put", piece, timeout_s=_CHUNK_TIMEOUT_S)
                if state["state"] != "more" or not data:
                    return state
                offset += len(data)

    def _ask(self, op: str, arguments: Mapping[str, Any], *, timeout_s: float) -> Any:
        """One operation of the agent; whatever ends the transport's process is a lost link."""
        try:
            return self._child.request(op, arguments, timeout_s=timeout_s)
        except (WorkerCrashedError, MeasurementTimeoutError) as e:
            words, status = self._child.last_words, self._child.exit_status
            if status in _SETUP_STATUSES:
                raise BoardSetupError(f"board {self.board}: {words or e}") from e
            silent = f"nothing came within {timeout_s:g} s" if isinstance(e, MeasurementTimeoutError) else ""
            why = words or silent or f"the connection ended with status {status}"
            what = f"no answer from the board {self.board} to {op!r}: {why}"
            raise LinkLostError(self._advised(what, words)) from e
        except HwnasError as e:
            raise BoardError(f"board {self.board}: {e}") from e

    def _advised(self, what: str, words: str) -> str:
        advice = self._transport.advice(words)
        return f"{what}; {advice}" if advice else what

    def _full(self, path: Path, size_bytes: int, free_bytes: int) -> BoardError:
        return BoardSetupError(
            f"the disk of the board {self.board} is full: {path.name} needs {size_bytes} bytes and {free_bytes} are "
            f"free in {self.facts['folder']}, though everything not in use was removed there; free some space, or give "
            "the connection another folder. What was measured is kept"
        )
