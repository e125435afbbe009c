"""Files written whole, with the permissions the user asked for, and never through a link."""

from __future__ import annotations

import os
import signal
import subprocess
import sys
from collections.abc import Iterator
from pathlib import Path

import pytest

from hwnas import files as module
from hwnas.errors import ConfigError, IntegrityError
from hwnas.files import open_own, read_document, write_document, write_whole


@pytest.fixture
def umask(request: pytest.FixtureRequest) -> Iterator[int]:
    before = os.umask(request.param)
    yield request.param
    os.umask(before)


def mode(path: Path) -> int:
    return path.stat().st_mode & 0o777


@pytest.mark.parametrize(("umask", "expected"), [(0o022, 0o644), (0o077, 0o600), (0o002, 0o664)], indirect=["umask"])
def test_a_new_file_has_the_permissions_that_the_umask_leaves(umask: int, expected: int, tmp_path: Path) -> None:
    write_whole(tmp_path / "whole", b"x")
    os.close(open_own(tmp_path / "lock", create=True))
    assert (mode(tmp_path / "whole"), mode(tmp_path / "lock")) == (expected, expected)


_STUCK = """
import os, sys, time
from pathlib import Path
from hwnas.files import write_whole
os.fsync = lambda fd: (print("writing", flush=True), time.sleep(60))
write_whole(Path(sys.argv[1]), b"half")
"""


def temporary_of(folder: Path) -> list[Path]:
    return [p for p in folder.iterdir() if p.name.endswith(".tmp")]


def test_a_killed_writers_file_is_removed_by_the_next_writer_and_a_living_ones_is_not(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    with subprocess.Popen([sys.executable, "-c", _STUCK, str(tmp_path / "file")], stdout=subprocess.PIPE) as writer:
        assert writer.stdout is not None
        writer.stdout.readline()
        for expected in (1, 0):
            monkeypatch.setattr(module, "_swept", set())
            write_whole(tmp_path / "other", b"x")
            assert len(temporary_of(tmp_path)) == expected
            writer.send_signal(signal.SIGKILL)
            writer.wait()
    assert [p.name for p in tmp_path.iterdir()] == ["other"]


@pytest.mark.parametrize(("age_s", "stays"), [(60.0, True), (90_000.0, False)])
def test_a_file_of_a_writer_elsewhere_is_given_a_day(
    age_s: float, stays: bool, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr(module, "_where", lambda: "00000000")
    left = tmp_path / ".file.json.hwnas.1.1.ffffffff.00000000.tmp"
    left.write_bytes(b"")
    at = left.stat().st_mtime - age_s
    os.utime(left, (at, at))
    module.sweep(tmp_path)
    assert left.exists() == stays


@pytest.mark.parametrize("name", [".file.0a1b2c3d.tmp", "hwnas.999999999.1.00000000.00000000.tmp", ".hwnas.tmp"])
def test_files_of_others_are_not_removed(name: str, tmp_path: Path) -> None:
    (tmp_path / name).write_bytes(b"theirs")
    module.sweep(tmp_path)
    assert (tmp_path / name).read_bytes() == b"theirs"


@pytest.mark.parametrize("given", [0o600, 0o640, 0o666])
def test_a_file_that_is_replaced_keeps_its_permissions(given: int, tmp_path: Path) -> None:
    path = tmp_path / "file"
    write_whole(path, b"x")
    path.chmod(given)
    write_whole(path, b"y")
    assert (path.read_bytes(), mode(path)) == (b"y", given)


def test_a_symbolic_link_is_replaced_and_what_it_points_to_stays(tmp_path: Path) -> None:
    theirs, path = tmp_path / "theirs", tmp_path / "ours"
    theirs.write_bytes(b"theirs")
    path.symlink_to(theirs)
    write_whole(path, b"ours")
    assert (theirs.read_bytes(), path.read_bytes(), path.is_symlink()) == (b"theirs", b"ours", False)


def test_a_failed_write_leaves_the_old_file_and_nothing_else(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    path = tmp_path / "file"
    write_whole(path, b"old")

    def full(fd: int) -> None:
        raise OSError(28, "No space left on device")

    monkeypatch.setattr(os, "fsync", full)
    with pytest.raises(OSError, match="No space"):
        write_whole(path, b"new")
    assert [p.name for p in tmp_path.iterdir()] == ["file"]
    assert path.read_bytes() == b"old"


@pytest.mark.parametrize("to", ["file", "nothing", "folder"])
def test_our_own_file_is_never_opened_through_a_link(to: str, tmp_path: Path) -> None:
    (tmp_path / "file").write_bytes(b"theirs")
    (tmp_path / "folder").mkdir()
    (tmp_path / "link").symlink_to(tmp_path / to)
    with pytest.raises(ConfigError, match="is a symbolic link"):
        open_own(tmp_path / "link", create=True)
    assert (tmp_path / "file").read_bytes() == b"theirs"
    assert not (tmp_path / "nothing").exists()


def test_our_own_file_is_a_regular_one(tmp_path: Path) -> None:
    os.mkfifo(tmp_path / "fifo")
    (tmp_path / "folder").mkdir()
    for name in ("fifo", "folder"):
        with pytest.raises(ConfigError, match="no regular file"):
            open_own(tmp_path / name, create=True)


def test_our_own_file_is_not_emptied(tmp_path: Path) -> None:
    (tmp_path / "lock").write_bytes(b"123")
    os.close(open_own(tmp_path / "lock", create=True))
    assert (tmp_path / "lock").read_bytes() == b"123"


def test_a_document_is_read_as_it_was_written_and_a_changed_digit_is_told(tmp_path: Path) -> None:
    path = tmp_path / "d.json"
    write_document(path, {"schema": 2, "limit": 0.14})
    assert read_document(path) == {"schema": 2, "limit": 0.14}
    path.write_text(path.read_text().replace("0.14", "0.49"))
    with pytest.raises(IntegrityError, match="does not match its checksum"):
        read_document(path)
