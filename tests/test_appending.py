"""Files of lines: appended whole, cut where they are not."""

from __future__ import annotations

import os
from pathlib import Path

import pytest

from hwnas import appending
from hwnas.appending import append_lines, complete_lines


def test_the_first_line_is_written_once(tmp_path: Path) -> None:
    path = tmp_path / "new" / "lines.jsonl"
    for line in ("1\n", "2\n"):
        append_lines(path, [line], first_line="head\n")
    assert complete_lines(path) == [b"head", b"1", b"2"]


def test_a_file_that_is_not_there_is_not_made_without_a_first_line(tmp_path: Path) -> None:
    with pytest.raises(FileNotFoundError):
        append_lines(tmp_path / "lines.jsonl", ["1\n"])


@pytest.mark.parametrize("tail", [b"half", b"half" * 5000])
def test_a_last_line_without_its_end_is_not_read_and_cut_off(tail: bytes, tmp_path: Path) -> None:
    path = tmp_path / "lines.jsonl"
    path.write_bytes(b"head\n1\n" + tail)
    assert complete_lines(path) == [b"head", b"1"]
    append_lines(path, ["2\n"])
    assert path.read_bytes() == b"head\n1\n2\n"


def test_reading_goes_on_from_where_it_was(tmp_path: Path) -> None:
    path = tmp_path / "lines.jsonl"
    path.write_bytes(b"head\n1\n2\n")
    assert complete_lines(path, start=len(b"head\n1\n")) == [b"2"]


def test_a_disk_that_fills_up_leaves_the_file_as_it_was(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    path = tmp_path / "lines.jsonl"
    path.write_bytes(b"head\n")

    def half_then_full(fd: int, data: bytes) -> None:
        os.write(fd, data[: len(data) // 2])
        raise OSError(28, "No space left on device")

    monkeypatch.setattr(appending, "_write", half_then_full)
    with pytest.raises(OSError, match="No space"):
        append_lines(path, ["a long line\n"])
    assert path.read_bytes() == b"head\n"
