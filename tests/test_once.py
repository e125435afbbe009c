"""What tests share is made by the first who asks, whole or again."""

from __future__ import annotations

import threading
import time
from pathlib import Path

import pytest

from tests.once import made_once


def test_of_several_who_ask_at_once_one_makes_it_and_the_others_wait(
    tmp_path_factory: pytest.TempPathFactory, request: pytest.FixtureRequest
) -> None:
    tmp_path_factory.getbasetemp()  # made when it is first asked for, which threads must not do at once
    made: list[Path] = []
    found: list[str] = []

    def make(folder: Path) -> None:
        time.sleep(0.05)
        (folder / "file").write_text("whole")
        made.append(folder)

    def ask() -> None:
        found.append((made_once(tmp_path_factory, request.node.name, make) / "file").read_text())

    threads = [threading.Thread(target=ask) for _ in range(4)]
    for thread in threads:
        thread.start()
    for thread in threads:
        thread.join()
    assert len(made) == 1
    assert found == ["whole"] * 4


def test_what_failed_half_made_is_made_anew(
    tmp_path_factory: pytest.TempPathFactory, request: pytest.FixtureRequest
) -> None:
    def fail(folder: Path) -> None:
        (folder / "half").touch()
        raise OSError("the disk is full")

    with pytest.raises(OSError, match="full"):
        made_once(tmp_path_factory, request.node.name, fail)
    folder = made_once(tmp_path_factory, request.node.name, lambda folder: (folder / "whole").touch())
    assert [path.name for path in folder.iterdir()] == ["whole"]


def test_processes_of_one_test_run_share_and_runs_do_not(
    tmp_path: Path, tmp_path_factory: pytest.TempPathFactory, monkeypatch: pytest.MonkeyPatch
) -> None:
    own = tmp_path / "popen-gw0"
    own.mkdir()
    monkeypatch.setattr(tmp_path_factory, "getbasetemp", lambda: own)
    monkeypatch.setenv("PYTEST_XDIST_WORKER", "gw0")
    assert made_once(tmp_path_factory, "x", lambda folder: None) == tmp_path / "once" / "x"
    monkeypatch.delenv("PYTEST_XDIST_WORKER")
    assert made_once(tmp_path_factory, "x", lambda folder: None) == own / "once" / "x"
