"""Temporary folders: gone with their process, whoever ended it; nobody else's are touched."""

from __future__ import annotations

import os
import signal
import subprocess
import sys
import tempfile
from pathlib import Path

import pytest

from hwnas import scratch as module
from hwnas.processes import started
from hwnas.scratch import scratch


@pytest.fixture
def temporary(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> Path:
    """The system's folder for temporary files, empty."""
    monkeypatch.setattr(tempfile, "tempdir", str(tmp_path))
    monkeypatch.setattr(module, "_swept", set())
    return tmp_path


_WAITING = """
import tempfile, sys, time
tempfile.tempdir = sys.argv[1]
from hwnas.scratch import scratch
with scratch("profile") as folder:
    (folder / "file").write_text("")
    print(folder, flush=True)
    time.sleep(60)
"""


def killed(temporary: Path) -> Path:
    """The folder of a process that is killed without a chance to tidy up."""
    with subprocess.Popen(
        [sys.executable, "-c", _WAITING, str(temporary)], stdout=subprocess.PIPE, text=True
    ) as process:
        assert process.stdout is not None
        folder = Path(process.stdout.readline().strip())
        process.send_signal(signal.SIGKILL)
    return folder


def test_a_folder_goes_with_its_context(temporary: Path) -> None:
    with scratch("run") as folder:
        (folder / "file").write_text("")
        assert folder.is_dir()
    assert not folder.exists()


def test_what_a_killed_process_left_is_removed_by_the_next_and_what_lives_stays(temporary: Path) -> None:
    left = killed(temporary)
    assert (left / "file").exists()
    with scratch("run") as mine:
        module._swept.clear()
        with scratch("run"):
            assert not left.exists()
            assert mine.is_dir()
        assert mine.parent == left.parent


def test_a_later_process_with_the_same_number_does_not_keep_a_folder(temporary: Path) -> None:
    with scratch("run") as mine:
        place = mine.parent
    for name in (f"run.{os.getpid()}.1.abc", f"run.{10**9}.{started(os.getpid())}.abc", f"run.{10**30}.1.abc"):
        (place / name).mkdir()
    (place / "of somebody").mkdir()
    module.sweep(place)
    assert [p.name for p in place.iterdir()] == ["of somebody"]


def test_a_place_that_somebody_else_prepared_is_not_used(temporary: Path, tmp_path: Path) -> None:
    place = module._place()
    place.rmdir()
    (tmp_path / "theirs").mkdir()
    place.symlink_to(tmp_path / "theirs")
    with scratch("run") as folder:
        assert folder.parent == temporary
    place.unlink()
    place.mkdir()
    place.chmod(0o777)
    with scratch("run") as folder:
        assert folder.parent == temporary
