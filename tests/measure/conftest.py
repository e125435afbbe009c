"""A board without a board: `adb` on the path is a stand-in that runs commands in a folder."""

from __future__ import annotations

import os
import sys
from pathlib import Path

import pytest

from tests.measure import fake_adb


@pytest.fixture
def board(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> Path:
    """The folder that plays the device; `adb` on the path leads there."""
    folder, programs = tmp_path / "board", tmp_path / "bin"
    (folder / "modules").mkdir(parents=True)
    programs.mkdir()
    adb = programs / "adb"
    adb.write_text(f'#!/bin/sh\nexec {sys.executable} {fake_adb.__file__} "$@"\n')
    adb.chmod(0o755)
    monkeypatch.setenv("PATH", f"{programs}:{os.environ['PATH']}")
    monkeypatch.setenv("FAKE_ADB_BOARD", str(folder))
    return folder
