"""The board's files: whole and verified or absent, never elsewhere, the least recently used going first."""

import hashlib
import os
from pathlib import Path

import pytest

from hwnas.errors import ConfigError
from hwnas.measure._store import Store

MIB = 1 << 20


def store(folder: Path, *, max_file_bytes: int = 100, cache_bytes: int = 250) -> Store:
    return Store(folder / "store", max_file_bytes=max_file_bytes, cache_bytes=cache_bytes)


def digest(data: bytes) -> str:
    return hashlib.sha256(data).hexdigest()


def put(there: Store, data: bytes, **pinned: Path) -> Path:
    name = digest(data)
    assert not there.offer(name, ".onnx", size_bytes=len(data), pinned=set(pinned.values()))["full"]
    assert there.put(name, ".onnx", size_bytes=len(data), offset=0, data=data) == {"state": "stored"}
    return there.path(name, ".onnx")


def test_a_file_arrives_in_pieces_and_goes_on_where_it_was_cut_off(tmp_path: Path) -> None:
    data = bytes(range(50))
    name = digest(data)
    there = store(tmp_path)
    there.offer(name, "", size_bytes=50, pinned=())
    assert there.put(name, "", size_bytes=50, offset=0, data=data[:20]) == {"state": "more"}
    again = store(tmp_path)  # after the link was cut
    offer = again.offer(name, "", size_bytes=50, pinned=())
    assert (offer["have"], offer["received_bytes"]) == (False, 20)
    assert again.put(name, "", size_bytes=50, offset=20, data=data[20:]) == {"state": "stored"}
    assert again.path(name, "").read_bytes() == data
    assert again.offer(name, "", size_bytes=50, pinned=()) == {"have": True}


def test_half_a_file_is_not_a_file(tmp_path: Path) -> None:
    there, name = store(tmp_path), digest(b"abcd")
    there.put(name, ".onnx", size_bytes=4, offset=0, data=b"ab")
    assert not there.path(name, ".onnx").exists()


@pytest.mark.parametrize(("offset", "data"), [(0, b"abcX"), (2, b"cd"), (0, b"abcde")])
def test_other_bytes_than_announced_are_corrupt_and_leave_nothing(tmp_path: Path, offset: int, data: bytes) -> None:
    there, name = store(tmp_path), digest(b"abcd")
    assert there.put(name, "", size_bytes=4, offset=offset, data=data) == {"state": "corrupt"}
    assert not any(p.is_file() for p in (tmp_path / "store").rglob("*"))


@pytest.mark.parametrize(
    ("name", "suffix"),
    [
        ("../" * 5 + "etc/passwd", ""),
        ("a" * 64, "/../../x"),
        ("A" * 64, ""),
        ("a" * 63, ""),
        ("a" * 64, ".toolongsuffix"),
    ],
)
def test_a_name_that_is_no_hash_is_refused(tmp_path: Path, name: str, suffix: str) -> None:
    with pytest.raises(ConfigError, match="not the name of a file"):
        store(tmp_path).put(name, suffix, size_bytes=1, offset=0, data=b"a")


def test_a_file_that_is_too_large_is_refused_by_the_board_too(tmp_path: Path) -> None:
    there, name = store(tmp_path), digest(bytes(101))
    with pytest.raises(ConfigError, match="101 bytes is larger than the 100 allowed"):
        there.offer(name, "", size_bytes=101, pinned=())
    assert there.put(name, "", size_bytes=101, offset=0, data=bytes(101)) == {"state": "corrupt"}


def test_the_least_recently_used_goes_first_whatever_the_clock_says(tmp_path: Path) -> None:
    there = store(tmp_path)
    first, second = put(there, b"1" * 100), put(there, b"2" * 100)
    there.offer(first.stem, ".onnx", size_bytes=100, pinned=())  # used again
    third = put(there, b"3" * 100)
    assert [p.exists() for p in (first, second, third)] == [True, False, True]
    assert max(os.stat(p).st_mtime for p in (first, third)) < 100  # a count, not a time


def test_files_in_use_stay(tmp_path: Path) -> None:
    there = store(tmp_path)
    first, second = put(there, b"1" * 100), put(there, b"2" * 100)
    third = put(there, b"3" * 100, first=first)
    assert [p.exists() for p in (first, second, third)] == [True, False, True]


def test_a_file_for_which_there_is_no_room_on_the_disk_is_told_before_it_is_sent(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    there = store(tmp_path)
    old = put(there, b"1" * 100)
    monkeypatch.setattr(Store, "_free_bytes", lambda _: MIB + 99)
    offer = there.offer(digest(b"2" * 100), "", size_bytes=100, pinned=())
    assert (offer["full"], offer["free_bytes"]) == (True, MIB + 99)
    assert not old.exists()  # it might have been enough


def test_a_disk_that_fills_while_a_file_arrives_is_told_and_the_half_is_removed(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    there = store(tmp_path)

    def full(*_: object) -> None:
        raise OSError(28, "No space left on device")

    monkeypatch.setattr("hwnas.measure._store.os.fsync", full)
    state = there.put(digest(b"abcd"), "", size_bytes=4, offset=0, data=b"abcd")
    assert state["state"] == "full"
    assert not any(p.is_file() for p in (tmp_path / "store").rglob("*"))


def test_a_stored_file_that_rotted_is_not_taken_for_whole(tmp_path: Path) -> None:
    there = store(tmp_path)
    path = put(there, b"abcd")
    path.write_bytes(b"abce")
    assert there.offer(path.stem, ".onnx", size_bytes=4, pinned=())["have"] is False
    assert not path.exists()
