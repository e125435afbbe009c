"""Files of lines: appended whole, cut where they are not."""

from __future__ import annotations

import os
import subprocess
import sys
from collections.abc import Callable, Iterable
from pathlib import Path

import pytest

from hwnas import appending
from hwnas.appending import append_sealed, complete_lines, read_sealed, repair_sealed
from hwnas.errors import ConfigError, IntegrityError


def test_the_first_line_is_written_once(tmp_path: Path) -> None:
    path = tmp_path / "new" / "lines.jsonl"
    for n in (1, 2):
        append_sealed(path, [{"n": n}], first={"kind": "head"})
    assert [e.get("n", "head") for e in read_sealed(path)] == ["head", 1, 2]


def test_a_file_that_is_not_there_is_not_made_without_a_first_line(tmp_path: Path) -> None:
    with pytest.raises(FileNotFoundError):
        append_sealed(tmp_path / "lines.jsonl", [{"n": 1}])


@pytest.mark.parametrize("tail", [b"half", b"half" * 5000])
def test_a_last_line_without_its_end_is_not_read(tail: bytes, tmp_path: Path) -> None:
    path = tmp_path / "lines.jsonl"
    path.write_bytes(b"head\n1\n" + tail)
    assert complete_lines(path) == [b"head", b"1"]


def test_reading_goes_on_from_where_it_was(tmp_path: Path) -> None:
    path = tmp_path / "lines.jsonl"
    path.write_bytes(b"head\n1\n2\n")
    assert complete_lines(path, start=len(b"head\n1\n")) == [b"2"]


def test_a_disk_that_fills_up_leaves_the_file_as_it_was(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    path = tmp_path / "lines.jsonl"
    append_sealed(path, [], first={"kind": "head"})
    before = path.read_bytes()

    def half_then_full(fd: int, data: bytes) -> None:
        os.write(fd, data[: len(data) // 2])
        raise OSError(28, "No space left on device")

    monkeypatch.setattr(appending, "_write", half_then_full)
    with pytest.raises(OSError, match="No space"):
        append_sealed(path, [{"text": "a long line"}])
    assert path.read_bytes() == before


# ---------------------------------------------------------------- sealed lines


@pytest.fixture
def sealed(tmp_path: Path) -> Path:
    """A first line and ten more."""
    path = tmp_path / "sealed.jsonl"
    for i in range(10):
        append_sealed(path, [{"value": i}], first={"kind": "head"})
    return path


def lines_of(path: Path) -> list[bytes]:
    return path.read_bytes().splitlines(keepends=True)


def values_of(entries: Iterable[dict[str, object]]) -> list[object]:
    return [e.get("value", "head") for e in entries]


def test_sealed_lines_are_read_as_they_were_appended(sealed: Path) -> None:
    assert values_of(read_sealed(sealed)) == ["head", *range(10)]


def test_a_last_sealed_line_without_its_end_is_cut_off_and_its_number_used_again(sealed: Path) -> None:
    sealed.write_bytes(sealed.read_bytes()[:-3])
    assert values_of(read_sealed(sealed)) == ["head", *range(9)]
    append_sealed(sealed, [{"value": "again"}])
    assert values_of(read_sealed(sealed)) == ["head", *range(9), "again"]


DAMAGE: dict[str, tuple[Callable[[list[bytes]], list[bytes]], str, list[object]]] = {
    # what happens to the lines, what is told, what is left after the repair
    "a digit": (
        lambda x: [*x[:4], x[4].replace(b":3,", b":8,"), *x[5:]],
        "line 5 is damaged",
        [0, 1, 2, *range(4, 10)],
    ),
    "garbage": (lambda x: [*x[:4], b"\xff\n", *x[5:]], "line 5 is damaged", [0, 1, 2, *range(4, 10)]),
    "empty line": (lambda x: [*x[:4], b"\n", *x[4:]], "line 5 is damaged", [*range(10)]),
    "deleted": (lambda x: [*x[:4], *x[5:]], "1 line is missing", [0, 1, 2, *range(4, 10)]),
    "deleted two": (lambda x: [*x[:4], *x[6:]], "2 lines are missing", [0, 1, 2, *range(5, 10)]),
    "doubled": (lambda x: [*x[:4], x[3], *x[4:]], "line 5 stands twice", [*range(10)]),
    "swapped": (lambda x: [*x[:4], x[6], x[5], x[4], *x[7:]], "line 6 stood elsewhere", [*range(10)]),
    "merged": (lambda x: [*x[:4], x[4][:-1] + b" ", *x[5:]], "line 5 is damaged", [0, 1, 2, *range(5, 10)]),
    "NUL at the end": (lambda x: [*x, b"\0" * 512 + b"\n"], "line 12 is damaged", [*range(10)]),
    "old style": (lambda x: [*x, b'{"value":10}\n'], "line 12 is damaged: its checksum is missing", [*range(10)]),
}


@pytest.mark.parametrize("what", DAMAGE)
def test_damage_to_sealed_lines_is_told_and_takes_nothing_else_with_it(what: str, sealed: Path) -> None:
    change, message, left = DAMAGE[what]
    sealed.write_bytes(b"".join(change(lines_of(sealed))))
    with pytest.raises(IntegrityError, match=message):
        read_sealed(sealed)
    assert any(message in problem for problem in repair_sealed(sealed))
    assert values_of(read_sealed(sealed)) == ["head", *left]
    assert repair_sealed(sealed) == ()
    assert sealed.with_name("sealed.jsonl.damaged").exists() == ("is damaged" in message)
    append_sealed(sealed, [{"value": "more"}])
    assert values_of(read_sealed(sealed)) == ["head", *left, "more"]


def test_a_file_whose_first_line_is_damaged_is_put_aside_whole(sealed: Path) -> None:
    damaged = sealed.read_bytes().replace(b"head", b"heat")
    sealed.write_bytes(damaged)
    assert repair_sealed(sealed)[0].startswith("line 1 is damaged")
    assert not sealed.exists()
    assert sealed.with_name("sealed.jsonl.damaged").read_bytes() == damaged


def test_nothing_is_appended_after_a_damaged_line(sealed: Path) -> None:
    sealed.write_bytes(sealed.read_bytes()[:-4] + b'0"}\n')
    with pytest.raises(IntegrityError):
        append_sealed(sealed, [{"value": 1}])


def test_a_line_of_another_file_does_not_count(sealed: Path, tmp_path: Path) -> None:
    append_sealed(tmp_path / "other.jsonl", [{"value": i} for i in range(10)], first={"kind": "other head"})
    lines = lines_of(sealed)
    lines[4] = lines_of(tmp_path / "other.jsonl")[4]
    sealed.write_bytes(b"".join(lines))
    with pytest.raises(IntegrityError, match="line 5 is damaged"):
        read_sealed(sealed)


def test_a_lock_on_a_file_that_was_replaced_meanwhile_does_not_count(sealed: Path) -> None:
    with appending._locked(sealed, create=False) as fd:
        assert appending._is_at(fd, sealed)
        sealed.rename(sealed.with_name("gone"))
        assert not appending._is_at(fd, sealed)


def test_many_processes_append_sealed_lines_and_none_is_lost(tmp_path: Path) -> None:
    path = tmp_path / "many.jsonl"
    code = (
        "import sys; from pathlib import Path; from hwnas.appending import append_sealed\n"
        "for i in range(50): append_sealed(Path(sys.argv[1]), [{'who': sys.argv[2], 'i': i}], first={'kind': 'head'})"
    )
    writers = [subprocess.Popen([sys.executable, "-c", code, str(path), str(n)]) for n in range(3)]
    assert [w.wait() for w in writers] == [0, 0, 0]
    found = read_sealed(path)[1:]
    assert sorted((e["who"], e["i"]) for e in found) == sorted((str(n), i) for n in range(3) for i in range(50))


def test_what_a_link_points_to_is_not_touched(tmp_path: Path) -> None:
    theirs, path = tmp_path / "token", tmp_path / "ours.jsonl"
    theirs.write_bytes(b"a secret without a newline")
    path.symlink_to(theirs)
    with pytest.raises(ConfigError, match="symbolic link"):
        append_sealed(path, [], first={"kind": "head"})
    assert theirs.read_bytes() == b"a secret without a newline"
