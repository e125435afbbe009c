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

from hwnas.errors import HwnasError, MeasurementTimeoutError, WorkerCrashedError
from hwnas.foreign import quoted, words_of
from hwnas.measure.protocol import ReplyError, check_reply, error_from_json

_TAIL_BYTES = 2000  # of the child's standard error, shown when it dies
_NOTED_BYTES = 2000  # likewise of what it printed that was no reply
# a process that is not ours to trust must not fill this one's memory
_LONGEST_REPLY = 16 << 20  # bytes; the longest we ask for are a megabyte
_MOST_NOISE = 16 << 20  # bytes it may print that are no reply
_GRACE_S = 5.0  # to end by itself when asked to


class Child:
    """A running child. After a crash, a timeout or `kill` it is dead and stays so."""

    def __init__(self, command: Sequence[str], *, mark: bytes = b"") -> None:
        """Start the process.

        Args:
            command: program and arguments.
            mark: stands before its first reply; whatever comes earlier is what surrounds it (a login) and is passed
                over. Empty: every reply has a line of its own from the beginning.

        Raises:
            WorkerCrashedError: the command cannot be started.
        """
        self._errors: IO[bytes] = tempfile.TemporaryFile()  # noqa: SIM115  a pipe nobody reads would fill and block it
        self._next_id = 0
        self._received = bytearray()
        self._seen = 0  # bytes of `_received` known to hold no new line
        self._mark = mark
        # until then lines that are no replies are banners of a login; afterwards they are errors
        self._has_answered = False
        self._noise = 0
        self.printed = b""  # the beginning of what was no reply
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
        # a child that reads nothing would block a write beyond any deadline
        os.set_blocking(self._stdin, False)
        os.set_blocking(self._stdout, False)

    @property
    def name(self) -> str:
        """For messages."""
        return "the measuring process"

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
            ReplyError: it answered with something else; it is dead now.
            HwnasError: the child reported an error; it can still be used.
        """
        reply = self.exchange(op, arguments, timeout_s=timeout_s)
        if not reply["ok"]:
            raise error_from_json(reply["error"])
        return reply["result"]

    def exchange(self, op: str, arguments: Mapping[str, Any], *, timeout_s: float) -> dict[str, Any]:
        """The reply as it comes: what the child reports is not raised.

        Raises:
            MeasurementTimeoutError, WorkerCrashedError, ReplyError: as for `request`.
        """
        self._next_id += 1
        line = json.dumps({"id": self._next_id, "op": op, **arguments}).encode() + b"\n"
        # one for sending and receiving together; of the monotonic clock, which nobody sets
        deadline = time.monotonic() + timeout_s
        try:
            self._send(line, deadline)
            return self._receive(deadline)
        except TimeoutError:
            self._note(bytes(self._received))  # a menu that waits for an answer, perhaps
            last_words = self._last_words()
            self.kill()
            raise MeasurementTimeoutError(
                f"the measuring process did not answer {op!r} within {timeout_s:g} s and was stopped{last_words}"
            ) from None
        # EOFError from reading, BrokenPipeError from writing: which comes first is chance
        except (BrokenPipeError, EOFError):
            raise self._crashed(op) from None
        except ReplyError as e:
            self.kill()
            raise ReplyError(f"the measuring process answered {op!r} with what is no reply to it: {e}") from None
        except BaseException:  # Ctrl-C: its answer would be taken for that of the next request
            self.kill()
            raise

    def close(self) -> None:
        """Ask the child to end; kill it if it does not."""
        if self.alive:
            try:
                self.request("quit", {}, timeout_s=_GRACE_S)
                self._process.wait(_GRACE_S)
            except (HwnasError, subprocess.TimeoutExpired):
                pass  # killed below
        self.kill()

    def cut_off(self) -> None:
        """From another thread: end the child and its children; the thread that waits for it notices, and frees it."""
        if self.alive:
            self._end()

    def kill(self) -> None:
        """End the child and its children at once, and free its pipes."""
        if self._process.returncode is None:
            self._end()
            # reaped, or it stays a zombie as long as this process lives
            self._process.wait()
        for pipe in (self._process.stdin, self._process.stdout, self._errors):
            if pipe is not None:
                pipe.close()

    def _end(self) -> None:
        try:
            # its group, which is its session's: see `start_new_session`
            os.killpg(self._process.pid, signal.SIGKILL)
        except (ProcessLookupError, PermissionError):  # already gone (macOS says the second)
            self._process.kill()

    def _send(self, line: bytes, deadline: float) -> None:
        while line:
            _wait(deadline, writable=self._stdin)
            # a pipe takes 64 KiB at a time, a request may have more
            line = line[os.write(self._stdin, line) :]

    def _receive(self, deadline: float) -> dict[str, Any]:
        while True:
            line = self._next_line()
            if line is not None:
                reply = self._reply(line)
                if reply is not None:
                    self._has_answered = True
                    return reply
                continue
            _wait(deadline, readable=self._stdout)
            data = os.read(self._stdout, 1 << 16)
            # end of file: it closed its output, or died
            if not data:
                self._note(bytes(self._received))  # its last line may have had no end
                raise EOFError
            self._received += data

    def _next_line(self) -> bytes | None:
        """The next line that may be a reply, without its end; None if it has not arrived yet."""
        if self._mark:
            start = self._received.find(self._mark)
            # all but what may be the beginning of the mark
            self._pass_over(start if start >= 0 else max(0, len(self._received) - len(self._mark)))
            if start < 0:
                return None
            del self._received[: len(self._mark)]
            self._mark, self._seen, self._has_answered = b"", 0, True
        # from `_seen` on: a reply of megabytes comes in pieces, and each would be searched from its beginning
        end = self._received.find(b"\n", self._seen)
        if end < 0:
            self._seen = len(self._received)
            if self._seen > _LONGEST_REPLY:
                raise ReplyError(f"its line is longer than {_LONGEST_REPLY:,} bytes: {words_of(self._received[:1000])}")
            return None
        line = bytes(self._received[:end])
        del self._received[: end + 1]
        self._seen = 0
        return line

    def _reply(self, line: bytes) -> dict[str, Any] | None:
        """The reply in a line; None for a line that somebody else printed: a banner, a start-up message."""
        try:
            value = json.loads(line)
        except (ValueError, RecursionError):  # the second: brackets within brackets
            if self._has_answered and line.lstrip()[:1] in (b"{", b"["):
                raise ReplyError(f"it is no JSON: {words_of(line[:1000])}") from None
            self._note(line + b"\n")
            return None
        if not self._has_answered and not (isinstance(value, dict) and value.get("id") == self._next_id):
            self._note(line + b"\n")
            return None
        if not isinstance(value, dict):
            raise ReplyError(f"it is {quoted(value)}")
        try:
            check_reply(value, asked=self._next_id)
        except ReplyError as e:
            raise ReplyError(f"{e}; it is {words_of(line[:1000])}") from None
        return value

    def _pass_over(self, n_bytes: int) -> None:
        self._note(bytes(self._received[:n_bytes]))
        del self._received[:n_bytes]

    def _note(self, data: bytes) -> None:
        """Remember the beginning of what was printed, for messages; it must end sometime."""
        self.printed += data[: _NOTED_BYTES - len(self.printed)] if len(self.printed) < _NOTED_BYTES else b""
        self._noise += len(data)
        if self._noise > _MOST_NOISE:
            raise ReplyError(f"it printed more than {_MOST_NOISE:,} bytes that are none: {words_of(self.printed)}")

    def _crashed(self, op: str) -> WorkerCrashedError:
        try:
            # its pipes close a moment before its status can be read
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
        # the end: what a process says last is why it died
        self._errors.seek(max(0, size - _TAIL_BYTES))
        self.last_words = words_of(self._errors.read(), last=True)
        printed = words_of(self.printed)
        return "".join(
            (
                f"; it printed: {printed}" if printed else "",
                f"; its last words: {self.last_words}" if self.last_words else "",
            )
        )


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
