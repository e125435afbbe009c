"""A child process that answers JSON lines, and never makes its parent wait for ever.

Knows pipes, deadlines and exit signals; not what is asked of the child.
"""

from __future__ import annotations

import json
import os
import select
import signal
import subprocess
import tempfile
import time
from collections.abc import Mapping, Sequence
from typing import IO, Any

from hwnas.errors import MeasurementTimeoutError, WorkerCrashedError
from hwnas.measure.protocol import error_from_json

_TAIL_BYTES = 2000  # of the child's standard error, shown when it dies
_GRACE_S = 5.0  # to end by itself when asked to


class Child:
    """A running child. After a crash, a timeout or `kill` it is dead and stays so."""

    def __init__(self, command: Sequence[str]) -> None:
        """Start the process.

        Raises:
            WorkerCrashedError: the command cannot be started.
        """
        self._errors: IO[bytes] = tempfile.TemporaryFile()  # noqa: SIM115  a pipe nobody reads would fill and block it
        self._next_id = 0
        self._received = b""
        self.last_words = ""  # of its standard error, once it was found dead or stopped
        try:
            # A session of its own: Ctrl-C reaches the parent alone, and the child's children die with it.
            self._process = subprocess.Popen(
                list(command),
                stdin=subprocess.PIPE,
                stdout=subprocess.PIPE,
                stderr=self._errors,
                bufsize=0,
                start_new_session=True,
            )
        except OSError as e:
            self._errors.close()
            raise WorkerCrashedError(f"cannot start the measuring process {command[0]!r}: {e.strerror}") from e
        assert self._process.stdin is not None
        assert self._process.stdout is not None
        self._stdin, self._stdout = self._process.stdin.fileno(), self._process.stdout.fileno()
        os.set_blocking(self._stdin, False)
        os.set_blocking(self._stdout, False)

    @property
    def alive(self) -> bool:
        """Whether the process still runs."""
        return self._process.poll() is None

    @property
    def pid(self) -> int:
        """Process id."""
        return self._process.pid

    @property
    def exit_status(self) -> int | None:
        """Of the dead process; negative for the signal it died of. None while it runs."""
        return self._process.poll()

    def request(self, op: str, arguments: Mapping[str, Any], *, timeout_s: float) -> Any:
        """Ask for one operation and wait for its result.

        Args:
            op: the operation's name.
            arguments: JSON values.
            timeout_s: a child that has not answered by then is killed.

        Raises:
            MeasurementTimeoutError: no answer in time; the child is dead now.
            WorkerCrashedError: the child died; the message has its exit signal and last words.
            HwnasError: the child reported an error; it can still be used.
        """
        reply = self.exchange(op, arguments, timeout_s=timeout_s)
        if not reply["ok"]:
            raise error_from_json(reply["error"])
        return reply["result"]

    def exchange(self, op: str, arguments: Mapping[str, Any], *, timeout_s: float) -> dict[str, Any]:
        """The reply as it comes: what the child reports is not raised.

        Raises:
            MeasurementTimeoutError, WorkerCrashedError: as for `request`.
        """
        self._next_id += 1
        line = json.dumps({"id": self._next_id, "op": op, **arguments}).encode() + b"\n"
        deadline = time.monotonic() + timeout_s
        try:
            self._send(line, deadline)
            return self._receive(deadline)
        except TimeoutError:
            last_words = self._last_words()
            self.kill()
            raise MeasurementTimeoutError(
                f"the measuring process did not answer {op!r} within {timeout_s:g} s and was stopped{last_words}"
            ) from None
        except (BrokenPipeError, EOFError):
            raise self._crashed(op) from None
        except BaseException:  # Ctrl-C: its answer would be taken for that of the next request
            self.kill()
            raise

    def close(self) -> None:
        """Ask the child to end; kill it if it does not."""
        if self.alive:
            try:
                self.request("quit", {}, timeout_s=_GRACE_S)
                self._process.wait(_GRACE_S)
            except (MeasurementTimeoutError, WorkerCrashedError, subprocess.TimeoutExpired):
                pass  # killed below
        self.kill()

    def kill(self) -> None:
        """End the child and its children at once, and free its pipes."""
        if self._process.returncode is None:
            try:
                os.killpg(self._process.pid, signal.SIGKILL)
            except (ProcessLookupError, PermissionError):  # already gone (macOS says the second)
                self._process.kill()
            self._process.wait()
        for pipe in (self._process.stdin, self._process.stdout, self._errors):
            if pipe is not None:
                pipe.close()

    def _send(self, line: bytes, deadline: float) -> None:
        while line:
            _wait(deadline, writable=self._stdin)
            line = line[os.write(self._stdin, line) :]

    def _receive(self, deadline: float) -> dict[str, Any]:
        while True:
            line, newline, rest = self._received.partition(b"\n")
            if not newline:
                _wait(deadline, readable=self._stdout)
                data = os.read(self._stdout, 1 << 16)
                if not data:
                    raise EOFError
                self._received += data
                continue
            self._received = rest
            try:
                reply = json.loads(line)
            except ValueError:
                continue  # printed before the worker took its pipes over: a banner, a start-up message
            if isinstance(reply, dict) and reply.get("id") == self._next_id:
                return reply

    def _crashed(self, op: str) -> WorkerCrashedError:
        try:
            code = self._process.wait(_GRACE_S)
        except subprocess.TimeoutExpired:
            how = "closed its output"
        else:
            how = f"died of {_signal_name(-code)}" if code < 0 else f"ended with status {code}"
        last_words = self._last_words()
        self.kill()
        return WorkerCrashedError(f"the measuring process {how} during {op!r}{last_words}")

    def _last_words(self) -> str:
        size = self._errors.seek(0, os.SEEK_END)
        self._errors.seek(max(0, size - _TAIL_BYTES))
        self.last_words = self._errors.read().decode(errors="replace").strip()
        return f"; its last words: {self.last_words}" if self.last_words else ""


def _wait(deadline: float, *, readable: int | None = None, writable: int | None = None) -> None:
    remaining = deadline - time.monotonic()
    wanted = ([readable] if readable is not None else [], [writable] if writable is not None else [])
    if remaining <= 0 or not any(select.select(*wanted, [], remaining)):
        raise TimeoutError


def _signal_name(number: int) -> str:
    try:
        return signal.Signals(number).name
    except ValueError:
        return f"signal {number}"
