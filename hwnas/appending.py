"""Files of lines that several processes append to, none of which is lost or changed unnoticed.

A line counts once its end is on disk: what a killed process or a full disk left without one is dropped on reading
and cut off before the next append. Sealed lines (`hwnas.integrity`) carry their number and a checksum, so damage in
the middle is found line by line: `read_sealed` refuses it, `repair_sealed` puts the damaged lines aside and keeps the
rest. Knows locks and the disk, not what a line says.
"""

from __future__ import annotations

import fcntl
import os
from collections.abc import Callable, Iterator, Mapping, Sequence
from contextlib import contextmanager
from dataclasses import dataclass
from pathlib import Path
from typing import Any

from hwnas.errors import IntegrityError
from hwnas.files import open_own, write_whole
from hwnas.foreign import ForeignFileError, read_foreign
from hwnas.integrity import CHECKSUM, line_checksum, open_line, parse_json, seal_line

_LARGEST_BYTES = 4 << 30  # of such a file; it may be anybody's


def complete_lines(path: Path, *, start: int = 0) -> list[bytes]:
    """The lines of a file without their newlines; a last one that is cut short is left out.

    Args:
        path: of the file.
        start: bytes to leave out at its beginning.

    Raises:
        FileNotFoundError: there is no file.
        IntegrityError: it is no regular file, or larger than any of ours.
    """
    try:
        data = read_foreign(path, limit_bytes=_LARGEST_BYTES, start=start)
    except ForeignFileError as e:
        raise IntegrityError(str(e)) from e
    return data.split(b"\n")[:-1]  # what follows the last newline is cut short, or empty


# ---------------------------------------------------------------- sealed lines


def append_sealed(path: Path, entries: Sequence[Mapping[str, Any]], *, first: Mapping[str, Any] | None = None) -> None:
    """Append sealed lines under the file's lock and sync them: all of them, or none.

    Args:
        path: created if `first` is given.
        entries: the values of each line.
        first: of the first line, written before them if the file has no complete line yet.

    Raises:
        IntegrityError: the file's first or last line is damaged; nothing is appended to such a file.
        ConfigError: the file is a symbolic link, or none of our own.
        OSError: the disk is full or the file cannot be written; it holds what it held before.
    """
    with _locked(path, create=first is not None) as fd:
        size = _cut_tail(fd)
        head = _first_line(fd)
        number, lines = 0, []
        if head is None:
            if first is None:
                raise IntegrityError(f"{path} has no complete first line")
            number, lines = 1, [seal_line(first, number=1)]
            checksum = line_checksum(lines[0].rstrip("\n").encode())
        else:
            checksum = line_checksum(head)
            last = _last_line(fd, size)
            # every line but the first is bound to the first one's checksum
            number, _ = open_line(last, first="" if last == head else checksum)
        lines += [seal_line(e, number=number + i, first=checksum) for i, e in enumerate(entries, start=1)]
        _append(fd, size, "".join(lines).encode())


@dataclass(frozen=True, slots=True, kw_only=True)
class SealedLines:
    """What is in a file of sealed lines.

    Attributes:
        entries: the values of every sound line, the first included, in the order they were written.
        problems: what is wrong, a sentence each; empty for a file as it was written.
        damaged: the lines that are not sound, as they are.
    """

    entries: tuple[dict[str, Any], ...]
    problems: tuple[str, ...]
    damaged: tuple[bytes, ...]


def inspect_sealed(path: Path) -> SealedLines:
    """Everything in a file of sealed lines that is sound, and what is not. Without a sound first line nothing is.

    Raises:
        FileNotFoundError: there is no file.
    """
    return _inspect(complete_lines(path))


def read_sealed(path: Path) -> list[dict[str, Any]]:
    """The values of all lines of a file, the first included; a last line without its end is left out.

    Raises:
        FileNotFoundError: there is no file.
        IntegrityError: a line is damaged, lost, doubled or moved; names all that is wrong.
    """
    found = inspect_sealed(path)
    if found.problems:
        raise IntegrityError("; ".join(found.problems))
    return list(found.entries)


def repair_sealed(path: Path) -> tuple[str, ...]:
    """Put the damaged lines of a file aside, into `<file>.damaged`, and keep the sound ones.

    A file whose first line is damaged is put aside whole, since nobody can say what its other lines are about.

    Returns:
        What was wrong, a sentence each; empty if nothing was, or there is no file.

    Raises:
        OSError: the file cannot be written; it is as it was.
    """
    if not path.exists():
        return ()
    with _locked(path, create=False) as fd:
        size = _cut_tail(fd)
        raw = os.pread(fd, size, 0).split(b"\n")[:-1]
        found = _inspect(raw)
        if not found.problems:
            return ()
        if found.damaged:  # put aside before the file is written anew: a kill in between leaves them twice, not nowhere
            aside = path.with_name(path.name + ".damaged")
            with _locked(aside, create=True) as other:
                _append(other, _cut_tail(other), b"".join(line + b"\n" for line in found.damaged))
        if not found.entries:
            path.unlink()
            return found.problems
        write_whole(path, _seal(found.entries))
    return found.problems


def is_unsealed(first_line: bytes, *, schema: int) -> bool:
    """Whether a file is of the schema before its lines were sealed: its first line is whole, says so, has no checksum.

    A damaged line of today never looks like one: that takes another schema number and no checksum at once.
    """
    try:
        values = parse_json(first_line)
    except IntegrityError:
        return False
    return isinstance(values, dict) and values.get("schema") == schema and CHECKSUM not in values


def upgrade_sealed(
    path: Path, *, unsealed: int, becomes: int, convert: Callable[[dict[str, Any]], Mapping[str, Any]]
) -> bool:
    """Bring a file of an earlier schema to today's, under its lock; lines that have no checksums yet get them.

    Args:
        path: of the file.
        unsealed: the number in the first line of a file whose lines have no checksums.
        becomes: today's number.
        convert: values of a line, not the first -> its values today.

    Returns:
        Whether it was such a file.

    Raises:
        IntegrityError: a line is damaged.
        OSError: the file cannot be written; it is as it was.
    """
    with _locked(path, create=False) as fd:
        lines = os.pread(fd, _cut_tail(fd), 0).split(b"\n")[:-1]
        if not lines:
            return False
        if is_unsealed(lines[0], schema=unsealed):
            entries = [parse_json(line) for line in lines]
        else:
            found = _inspect(lines)
            if found.problems:
                raise IntegrityError("; ".join(found.problems))
            entries = list(found.entries)
        first, *rest = entries
        if first.get("schema") not in range(unsealed, becomes):
            return False
        write_whole(path, _seal([{**first, "schema": becomes}, *map(convert, rest)]))
    return True


def _seal(entries: Sequence[Mapping[str, Any]]) -> bytes:
    """A whole file of sealed lines."""
    lines = [seal_line(entries[0], number=1)]
    first = line_checksum(lines[0].rstrip("\n").encode())
    lines += [seal_line(e, number=i, first=first) for i, e in enumerate(entries[1:], start=2)]
    return "".join(lines).encode()


def _inspect(lines: Sequence[bytes]) -> SealedLines:
    if not lines:
        return SealedLines(entries=(), problems=(), damaged=())
    try:
        checksum = line_checksum(lines[0])
        number, head = open_line(lines[0])
        if number != 1:
            raise IntegrityError(f"it says that it is line {number}")
    except IntegrityError as e:
        return SealedLines(entries=(), problems=(f"line 1 is damaged: {e}",), damaged=tuple(lines))
    sound: dict[int, dict[str, Any]] = {1: head}
    problems, damaged, after = [], [], 1
    for position, line in enumerate(lines[1:], start=2):
        try:
            number, values = open_line(line, first=checksum)
        except IntegrityError as e:
            problems.append(f"line {position} is damaged: {e}")
            damaged.append(line)
            continue
        if number in sound:
            problems.append(f"line {position} stands twice")
        elif number < after:
            problems.append(f"line {position} stood elsewhere when it was written")
        after = max(after, number)
        sound.setdefault(number, values)
    lost = after - len(sound) - len(damaged)  # each damaged line had one of the missing numbers
    if lost > 0:
        problems.append(f"{lost} {'line is' if lost == 1 else 'lines are'} missing")
    return SealedLines(entries=tuple(sound[n] for n in sorted(sound)), problems=tuple(problems), damaged=tuple(damaged))


# ---------------------------------------------------------------- the file


@contextmanager
def _locked(path: Path, *, create: bool) -> Iterator[int]:
    """A file descriptor with the exclusive lock; closing it frees the lock, also when the process dies."""
    if create:
        path.parent.mkdir(parents=True, exist_ok=True)
    while True:
        fd = open_own(path, create=create)
        try:
            fcntl.flock(fd, fcntl.LOCK_EX)
            if _is_at(fd, path):
                yield fd
                return
        finally:
            os.close(fd)


def _is_at(fd: int, path: Path) -> bool:
    """Whether an open file still has its name: another process may have put a repaired one in its place."""
    try:
        return os.path.samestat(os.fstat(fd), path.lstat())
    except FileNotFoundError:
        return False


def _first_line(fd: int) -> bytes | None:
    """The first line without its newline, None if there is none."""
    found = b""
    while b"\n" not in found:
        piece = os.pread(fd, 4096, len(found))
        if not piece:
            return None
        found += piece
    return found.partition(b"\n")[0]


def _last_line(fd: int, size: int) -> bytes:
    """The last line without its newline, of a file that ends with one."""
    found = b""
    start = size - 1  # the newline that ends the last line is not the one that is looked for
    while start > 0 and b"\n" not in found:
        step = min(start, 4096)
        start -= step
        found = os.pread(fd, step, start) + found
    return found.rpartition(b"\n")[2]


def _append(fd: int, size: int, data: bytes) -> None:
    """Write at the end of a file of that size, and sync; all or nothing."""
    try:
        _write(fd, data)
        os.fsync(fd)
    except BaseException:
        os.ftruncate(fd, size)  # what was written of it is no entry
        raise


def _cut_tail(fd: int) -> int:
    """Cut off a last line without its end, and return the size of what remains."""
    size = os.fstat(fd).st_size
    end = size
    while end > 0:  # backwards in pieces until the last newline
        start = max(0, end - 4096)
        newline = os.pread(fd, end - start, start).rfind(b"\n")
        if newline >= 0:
            end = start + newline + 1
            break
        end = start
    if end < size:
        os.ftruncate(fd, end)
    return end


def _write(fd: int, data: bytes) -> None:
    while data:
        data = data[os.write(fd, data) :]
