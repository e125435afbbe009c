"""Making the emulated board: what it must leave alone, and when it is made anew. Fetches nothing."""

from __future__ import annotations

from pathlib import Path

import pytest

from tests.emulated import board
from tests.emulated.board import CannotEmulateError, emulated_python


@pytest.fixture(autouse=True)
def installed(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr("shutil.which", lambda name: f"/usr/bin/{name}")


def test_a_folder_with_other_things_is_left_alone(tmp_path: Path) -> None:
    (tmp_path / "root").mkdir()
    (tmp_path / "root/mine.txt").write_text("mine")
    with pytest.raises(CannotEmulateError, match="is no board and not empty"):
        emulated_python(tmp_path, make=True)
    assert [str(path.relative_to(tmp_path)) for path in sorted(tmp_path.rglob("*"))] == ["root", "root/mine.txt"]


def test_a_board_of_other_versions_does_not_count(tmp_path: Path) -> None:
    (tmp_path / "python").write_text("")
    (tmp_path / "made-of.txt").write_text("numpy==1.0\n")
    with pytest.raises(CannotEmulateError, match="no board of these versions"):
        emulated_python(tmp_path)


def test_a_board_that_was_half_made_is_made_again(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    def fail(folder: Path) -> None:
        raise CannotEmulateError("no network")

    def make(folder: Path, script: Path | None = None) -> None:
        (script or folder / "root").write_text("")

    with monkeypatch.context() as patch:
        patch.setattr(board, "_fetch_debian", fail)
        with pytest.raises(CannotEmulateError, match="no network"):
            emulated_python(tmp_path, make=True)
    for name in ("_fetch_debian", "_fetch_wheels", "_compile", "_write_script"):
        monkeypatch.setattr(board, name, make)
    assert emulated_python(tmp_path, make=True) == emulated_python(tmp_path) == tmp_path / "python"
