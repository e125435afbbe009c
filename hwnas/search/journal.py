"""Optuna's journal of trials, hardened: a cut line is mended, a changed one noticed, a lock dies with its process.

Knows Optuna's records as lines of JSON; never what they mean.
"""

from __future__ import annotations

import itertools
import json
import os
from collections.abc import Generator, Mapping, Sequence
from pathlib import Path
from typing import Any

from optuna.storages.journal import JournalFileBackend, JournalFileOpenLock
from optuna.storages.journal._file import BaseJournalFileLock  # the type of `lock_obj`; not exported

from hwnas.errors import IntegrityError
from hwnas.files import open_own
from hwnas.integrity import line_checksum, open_line, seal_line

_CHECKSUM = b'"checksum":"'


class HealingJournal(JournalFileBackend):  # type: ignore[misc, unused-ignore]
    """Optuna's journal file, which also survives a writer that was killed in the middle of a line.

    Optuna reads past a half-written last line, but then appends to it, after which the file cannot be
    read any more. Here every append first mends the tail: a whole record gets its line end, part of
    one is cut off, since nobody can have read it. Every line carries its number and checksum, so that one
    that is not what was written is refused; a file from before that is read and gone on with as it is.
    Only finished trials are synced to the disk: a killed process loses nothing that it wrote, and records of a
    running trial are worth little after a power cut.
    """

    def __init__(self, path: Path) -> None:
        self._path = Path(path)
        os.close(open_own(self._path, create=True))  # Optuna would make what a dangling link points to
        self._file_lock: BaseJournalFileLock = _FileLock(self._path)
        super().__init__(str(path), lock_obj=self._file_lock)
        # how far lines were counted: numbering an append must not read the whole file every time
        self._counted = (0, 0)  # bytes and lines

    def read_logs(self, log_number_from: int) -> Generator[dict[str, Any], None, None]:
        """Records from one on, the first being 0; half a line at the end is left to who writes it.

        Raises:
            IntegrityError: a line is not what was written.
        """
        with open(self._path, "rb") as f:
            first = _first_checksum(f.readline())
            known = log_number_from if log_number_from in self._log_number_offset else 0
            offset = self._log_number_offset[known]
            f.seek(offset)
            # read from the nearest offset known; Optuna asks from where it stopped
            for number in itertools.count(known):
                line = f.readline()
                # somebody is writing it, or was killed there: the next who appends decides
                if not line.endswith(b"\n"):
                    return
                if number >= log_number_from:
                    yield _open_line(line, number, first)
                offset += len(line)
                self._log_number_offset[number + 1] = offset

    def append_logs(self, logs: list[dict[str, Any]]) -> None:
        """Append records, one a line, under the lock."""
        self._file_lock.acquire()
        try:
            # not "ab": the tail may have to be cut, and append mode ignores where one seeks
            with open(self._path, "r+b") as f:
                _mend_tail(f)
                f.write(self._seal(f, logs))
                f.flush()
                # a record with a state ends a trial: the value in it is what a search paid for
                if any("state" in log for log in logs):
                    os.fsync(f.fileno())
        finally:
            self._file_lock.release()

    def _seal(self, f: Any, logs: Sequence[Mapping[str, Any]]) -> bytes:
        """Records as lines that go on where the file ends, where it is left open."""
        end = f.seek(0, os.SEEK_END)
        f.seek(0)
        head = f.readline()
        first = _first_checksum(head)
        # an older journal goes on without checksums: a file of both kinds could not tell age from damage
        if head and first is None:
            f.seek(end)
            return "".join(json.dumps(log, separators=(",", ":")) + "\n" for log in logs).encode()
        # shorter than when it was counted: its tail was cut by another process
        known, lines = self._counted if self._counted[0] <= end else (0, 0)
        f.seek(known)
        while part := f.read(1 << 20):
            lines += part.count(b"\n")
        self._counted = (end, lines)
        text = ""
        for number, log in enumerate(logs, start=lines + 1):
            line = seal_line(log, number=number, first=first or "")
            first = first or line_checksum(line.rstrip("\n").encode())
            text += line
        return text.encode()


def _first_checksum(head: bytes) -> str | None:
    """What the lines of a journal are bound to; None if it is empty, or from before they were."""
    try:
        return line_checksum(head.rstrip(b"\n"))
    except IntegrityError:
        return None


def _open_line(line: bytes, number: int, first: str | None) -> dict[str, Any]:
    if first is None:
        if _CHECKSUM in line:  # the first line lost its own: damage, not age
            raise IntegrityError("its first line: its checksum is missing")
        values: dict[str, Any] = json.loads(line)
        return values
    try:
        # the first line is bound to nothing, all others to it: a line of another journal is refused
        found, values = open_line(line.rstrip(b"\n"), first=first if number else "")
    except IntegrityError as e:
        raise IntegrityError(f"line {number + 1}: {e}") from e
    if found != number + 1:
        raise IntegrityError(f"line {number + 1}: it was written as line {found}")
    return values


def _mend_tail(f: Any) -> None:
    """Leave a journal open for update at its end, with its last line whole."""
    end = f.seek(0, os.SEEK_END)
    if not end:
        return
    f.seek(end - 1)
    if f.read(1) == b"\n":
        return
    start, tail = end, b""
    # from the end in steps: a journal may be large, and only its last line matters
    while start and b"\n" not in tail:
        step = min(start, 1 << 16)
        start -= step
        f.seek(start)
        tail = f.read(step) + tail
    cut = start + tail.rfind(b"\n") + 1  # rfind is -1 where the first line itself is cut
    try:
        json.loads(tail[tail.rfind(b"\n") + 1 :])
    except ValueError:
        f.truncate(cut)
        f.seek(cut)
    else:
        f.seek(end)
        f.write(b"\n")


class _FileLock(BaseJournalFileLock):  # type: ignore[misc, unused-ignore]
    """An advisory lock on the journal itself; the system frees it when its process dies.

    Optuna's own locks are files that a killed process leaves behind for 30 seconds. They are used
    where the system has no `flock`.
    """

    def __init__(self, path: Path) -> None:
        self._path = path
        self._fd = -1
        self._fallback: BaseJournalFileLock | None = None
        try:
            import fcntl  # noqa: F401 - only asks whether it exists
        except ImportError:  # pragma: no cover - not on this system
            self._fallback = JournalFileOpenLock(str(path))

    def acquire(self) -> bool:
        # `flock` is not on Windows
        if self._fallback is not None:  # pragma: no cover
            return self._fallback.acquire()
        import fcntl

        fd = open_own(self._path, create=True)
        try:
            fcntl.flock(fd, fcntl.LOCK_EX)
        # Ctrl-C while waiting must not leak the descriptor
        except BaseException:
            os.close(fd)
            raise
        self._fd = fd
        return True

    def release(self) -> None:
        if self._fallback is not None:  # pragma: no cover
            self._fallback.release()
            return
        fd, self._fd = self._fd, -1
        os.close(fd)  # closing frees the lock
