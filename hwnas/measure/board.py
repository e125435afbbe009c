"""A measuring process on a board, used like one here: a lost link is found again and nobody above notices.

Knows requests and what must be repeated on a new connection; never how the board is reached, nor what is measured.

Whatever ends the connection is no fault of an artefact: it is made again, the artefacts that were loaded are loaded
again, and the request that was cut short is repeated; all requests may be. A crash or a hang of the measuring process
there is told by the agent, over a connection that is well, and raised like that of a process here.
"""

from __future__ import annotations

import errno
import logging
import os
import re
import secrets
import threading
import time
from collections.abc import Mapping
from pathlib import Path
from typing import Any

from hwnas import registry
from hwnas.errors import ArtefactError, HwnasError, MeasurementTimeoutError, WorkerCrashedError
from hwnas.files import sha256_file
from hwnas.foreign import as_written, quoted
from hwnas.measure._replies import Greeting, R, RanThere, WorkerError, parse
from hwnas.measure._store import is_suffix
from hwnas.measure._wire import BoardError, BoardReplyError, BoardSetupError, LinkLostError, Wire
from hwnas.measure.connection import open_connection
from hwnas.measure.protocol import ReplyError, error_from_json
from hwnas.types import Device

_LOSSES = 5  # of the link during one request, each after the board was found again
_BACKOFF_S = (0.5, 15.0)  # between attempts, doubled from the first to the second
# not the load or the governor: they may differ after a reboot, and drift is corrected
_SAME_AFTER_REBOOT = ("runtime_version", "hardware", "os", "machine")
_ABSENT = ("ModuleNotFoundError", "MissingPackageError")
# a runtime's error arrives as text; these words are all that is left of its number
_DISK_FULL = os.strerror(errno.ENOSPC)
_ABSENT_MODULE = re.compile(r"(?:named|package) '([\w.]+)'")

_log = logging.getLogger(__name__)


class Board:
    """The board of one device: what stays while connections and processes come and go.

    Attributes:
        is_lost: whether it answered once and is being looked for.
    """

    def __init__(self, device: Device) -> None:
        """Check the settings; nothing is opened.

        Raises:
            ConfigError, UnknownNameError: a setting of `device.connection` is wrong.
        """
        self.settings, self.transport = open_connection(device.connection)
        self.runtime = device.runtime
        self._session = secrets.token_hex(8)
        self._was_reached = False
        self.is_lost = False
        self._wire: Wire | None = None  # the latest
        self._given_up = threading.Event()
        self._context: dict[str, str] = {}  # of the first process

    @property
    def name(self) -> str:
        """The board's name, for people."""
        return self.transport.board

    def connect(self) -> Wire:
        """A connection. The first attempt ever must succeed; later, the board is looked for as long as allowed.

        Raises:
            BoardError: it is not reached, or lacks something.
        """
        start_s, pause_s = time.monotonic(), _BACKOFF_S[0]
        while True:
            if self._given_up.is_set():
                raise BoardError(f"nobody waits for the board {self.name} any more")
            try:
                wire = Wire(self.settings, self.transport, session=self._session)
            except LinkLostError as e:
                self.is_lost = self._was_reached
                # a board that never answered is rather a wrong name than a lost link: say so at once
                if not self._was_reached:
                    raise BoardSetupError(str(e)) from e
                # before the pause: waiting longer than allowed only to give up helps nobody
                if time.monotonic() + pause_s > start_s + self.settings.reconnect_s:
                    raise BoardError(
                        f"the board {self.name} was lost and not found again within {self.settings.reconnect_s:g} s "
                        f"(reconnect_s); what was measured is kept, run the command again to go on. Last: {e}"
                    ) from e
            else:
                self._was_reached, self.is_lost, self._wire = True, False, wire
                return wire
            self._given_up.wait(pause_s)
            pause_s = min(2 * pause_s, _BACKOFF_S[1])

    def abandon(self) -> None:
        """From another thread: look for it no more, and cut what runs there; what waits for it ends with an error."""
        self._given_up.set()
        if self._wire is not None:
            self._wire.cut_off()

    def check_context(self, context: Mapping[str, str]) -> None:
        """A board that was found again must be the same as at first.

        Raises:
            BoardError: its runtime or hardware is another.
        """
        if not self._context:
            self._context = dict(context)
        changed = [k for k in _SAME_AFTER_REBOOT if self._context.get(k) != context.get(k)]
        if changed:
            listed = "; ".join(
                f"{k} was {as_written(self._context.get(k))}, is {as_written(context.get(k))}" for k in changed
            )
            raise BoardError(f"the board {self.name} came back changed ({listed}); run the command again")

    def lacks(self, error: WorkerError, *, python: str) -> BoardSetupError:
        """The error for a package that is absent on the board."""
        absent = _ABSENT_MODULE.search(error.message)
        packages = registry.distributions("runtimes", self.runtime) or ([absent[1]] if absent else [self.runtime])
        return BoardSetupError(
            f"runtime {self.runtime!r} needs a package that the board {self.name} lacks "
            f"({absent[1] if absent else quoted(error.message)}); install it there: "
            f"{quoted(python)} -m pip install {' '.join(packages)}"
        )


class BoardProcess:
    """A measuring process on the board. After a crash, a timeout or `kill` it is dead and stays so."""

    def __init__(self, board: Board) -> None:
        """Nothing is started before the first request, which must be `hello`."""
        self._board = board
        self._wire: Wire | None = None
        self._hello: tuple[Mapping[str, Any], float] | None = None  # arguments, timeout_s
        self._greeting: Mapping[str, Any] | None = None
        self._loads: dict[str, tuple[Mapping[str, Any], float]] = {}  # key -> what loaded it
        self._dead = False

    @property
    def name(self) -> str:
        """For messages."""
        return f"the board {self._board.name}"

    @property
    def alive(self) -> bool:
        """Whether requests can be made; the link may be down for the moment."""
        return not self._dead

    @property
    def pid(self) -> int:
        """Id of the process here that leads to the board; 0 between two connections."""
        return self._wire.pid if self._wire is not None else 0

    def request(self, op: str, arguments: Mapping[str, Any], *, timeout_s: float) -> Any:
        """Ask for one operation and wait for its result, however often the link is lost in between.

        Args:
            op: the operation's name.
            arguments: JSON values, with paths here.
            timeout_s: kept by the board. Transfers and looking for the board are not counted.

        Raises:
            MeasurementTimeoutError, WorkerCrashedError: the process on the board hung or died.
            BoardError: the board cannot be used.
            HwnasError: the process reported an error; it can still be used.
        """
        if op == "hello":
            # the process there must not look for a board of its own
            self._hello = ({**arguments, "device": {**arguments["device"], "connection": {}}}, timeout_s)
        # requests may be repeated: loading and timing have no effect that lasts
        for losses in range(1, _LOSSES + 1):
            try:
                wire = self._connect()
                return self._greeting if op == "hello" else self._carry_out(wire, op, arguments, timeout_s=timeout_s)
            except LinkLostError as e:
                self._cut()
                if losses == _LOSSES:
                    self._dead = True
                    raise BoardError(
                        f"the link to the board {self._board.name} was lost {losses} times during {op!r} of "
                        f"{_subject(arguments)}, though the board was found again each time; what was measured is "
                        f"kept. Is it this that brings the board down? Last: {e}"
                    ) from e
                _log.warning("lost the link to the board %s, looking for it: %s", self._board.name, e)
            except (WorkerCrashedError, MeasurementTimeoutError, BoardError):
                self.kill()
                raise
            except HwnasError:
                raise
            except BaseException:  # Ctrl-C: a reply would be taken for that of the next request
                self.kill()
                raise
        raise AssertionError("the loop returns or raises")

    def close(self) -> None:
        """End the process and the agent politely."""
        if self._wire is not None:
            self._wire.close()
        self._wire, self._dead = None, True

    def kill(self) -> None:
        """Cut the connection, with which everything on the board ends."""
        self._cut()
        # an artefact that brings its board down every time would do so for ever
        self._dead = True

    def _cut(self) -> None:
        if self._wire is not None:
            self._wire.kill()
        self._wire = None

    # ------------------------------------------------------------ connecting

    def _connect(self) -> Wire:
        """The connection, made if there is none, with everything loaded that was."""
        if self._wire is None:
            self._wire = self._board.connect()
            again = self._greeting is not None
            try:
                self._greet(self._wire)
                for arguments, timeout_s in list(self._loads.values()):
                    self._load(self._wire, arguments, timeout_s=timeout_s)
            except BoardError:
                raise
            except HwnasError as e:
                if not again:
                    raise
                # All of it ran before, and it is not what was asked for now: that must not be blamed.
                raise LinkLostError(f"the process could not be brought back to where it was: {e}") from e
        return self._wire

    def _greet(self, wire: Wire) -> None:
        assert self._hello is not None, "the first request must be 'hello'"
        arguments, timeout_s = self._hello
        reply = self._work(wire, "hello", arguments, timeout_s=timeout_s)
        self._board.check_context(self._check(wire, "hello", Greeting, reply).context)
        self._greeting = reply

    # ------------------------------------------------------------ requests

    def _carry_out(self, wire: Wire, op: str, arguments: Mapping[str, Any], *, timeout_s: float) -> Any:
        if op == "load":
            result = self._load(wire, arguments, timeout_s=timeout_s)
            # only after it worked: a file that crashes must not be loaded again on each new connection
            self._loads[arguments["key"]] = (arguments, timeout_s)
            return result
        if op == "run":
            return self._run(wire, arguments, timeout_s=timeout_s)
        result = self._work(wire, op, arguments, timeout_s=timeout_s)
        if op == "close":
            for key in arguments["keys"]:
                self._loads.pop(key, None)
        return result

    def _load(self, wire: Wire, arguments: Mapping[str, Any], *, timeout_s: float) -> Any:
        artefact = arguments["artefact"]
        path, sha256 = Path(artefact["path"]), artefact["sha256"]
        # before it travels: the board would find the same, minutes later
        self._check_file(path, sha256)
        suffix = path.suffix.lower() if is_suffix(path.suffix.lower()) else ""
        wire.send(path, sha256, suffix=suffix)
        there = {**arguments, "artefact": {**artefact, "path": ""}, "suffix": suffix}
        return self._work(wire, "load", there, timeout_s=timeout_s)

    def _run(self, wire: Wire, arguments: Mapping[str, Any], *, timeout_s: float) -> Any:
        path = Path(arguments["inputs"])
        sha256 = sha256_file(path)
        self._check_file(path, sha256)
        wire.send(path, sha256, suffix=path.suffix)
        try:
            there = {"key": arguments["key"], "inputs": sha256}
            reply = self._work(wire, "run", there, timeout_s=timeout_s)
            result = self._check(wire, "run", RanThere, reply)
        finally:
            # on a lost link the request is repeated, and what is left there is removed by the next agent
            if wire.alive:
                wire.drop(sha256)
        Path(arguments["outputs"]).write_bytes(wire.fetch(result.sha256, size_bytes=result.size_bytes))
        wire.drop(result.sha256)
        return reply

    def _work(self, wire: Wire, op: str, arguments: Mapping[str, Any], *, timeout_s: float) -> Any:
        reply = wire.work(op, arguments, timeout_s=timeout_s)
        if reply.error is None:
            return reply.result
        # a package that is absent is absent for all artefacts: nothing to blame one of them for
        if reply.error.type in _ABSENT:
            raise self._board.lacks(reply.error, python=wire.facts.executable)
        if _DISK_FULL in reply.error.message:
            raise BoardSetupError(
                f"the disk of the board {self._board.name} is full: the runtime there cannot write what it must "
                f"({quoted(reply.error.message)}); free some space. What was measured is kept"
            )
        raise error_from_json(reply.error.model_dump())

    def _check(self, wire: Wire, op: str, model: type[R], reply: object) -> R:
        try:
            return parse(model, reply)
        except ReplyError as e:
            wire.kill()
            raise BoardReplyError(
                f"board {self._board.name}: it answered {op!r} with what is no reply to it: {e}"
            ) from None

    def _check_file(self, path: Path, sha256: str) -> None:
        """A file that is absent, has changed or is too large must not travel."""
        try:
            size_bytes, found = path.stat().st_size, sha256_file(path)
        except OSError as e:
            raise ArtefactError(f"cannot read the artefact {path}: {e.strerror}") from e
        if found != sha256:
            raise ArtefactError(
                f"{path} has changed: it was described with sha256 {sha256[:12]}… and now has {found[:12]}…; "
                "export it again"
            )
        limit_mb = self._board.settings.max_file_mb
        if size_bytes > limit_mb * 1e6:
            raise ArtefactError(
                f"{path} has {size_bytes} bytes, more than the {limit_mb:g} MB that are sent to the board "
                f"{self._board.name}; raise max_file_mb of its connection"
            )


def _subject(arguments: Mapping[str, Any]) -> str:
    """What a request is about, for people."""
    if "artefact" in arguments:
        return str(arguments["artefact"]["path"])
    keys = arguments.get("keys") or [arguments.get("key", "the runtime")]
    return ", ".join(str(key) for key in keys)
