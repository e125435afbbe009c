"""Boards of a kind, played by a stand-in for adb: shared work, one scale, and what becomes of one that is not alike."""

from __future__ import annotations

import json
import time
from collections.abc import Callable, Mapping
from dataclasses import replace
from pathlib import Path

import pytest

from hwnas.errors import ConfigError, MeasurementError
from hwnas.measure._wire import BoardError
from hwnas.measure.boards import Boards, _group_sizes
from hwnas.measure.timing import TimingSettings
from hwnas.types import Device, MeasurementFailure, Option, Statistic
from tests.measure.onnx_models import write_model
from tests.measure.test_client import models
from tests.measure.test_connection import fakes

QUICK = TimingSettings(rounds=3, min_rounds=3, timeout_s=20.0, group_size=2)

MakeBoards = Callable[[Mapping[str, Mapping[str, Option]]], Path]


@pytest.fixture
def several(board: Path, monkeypatch: pytest.MonkeyPatch) -> MakeBoards:
    """Makes boards: name -> options of the runtime in which it is another than the rest."""
    monkeypatch.setattr("hwnas.measure.board._BACKOFF_S", (0.1, 0.5))
    # what an anchor is timed for: noise plays no part here
    monkeypatch.setattr("hwnas.measure.client._ANCHOR_REPETITIONS", 2)

    def make(options: Mapping[str, Mapping[str, Option]]) -> Path:
        for name, its in options.items():
            (board / name / "modules").mkdir(parents=True)
            (board / name / "options").write_text(json.dumps({"noise": 0.0, "drift": 0.0, **its}))
        return board

    return make


def statistics(results: Mapping[str, object]) -> dict[str, Statistic]:
    found = {key: r for key, r in results.items() if isinstance(r, Statistic)}
    assert len(found) == len(results)
    return found


def test_what_is_measured_is_shared_and_in_the_order_that_was_asked_for(several: MakeBoards, tmp_path: Path) -> None:
    several({"A": {}, "B": {}})
    artefacts = models(tmp_path, 8)
    told: list[str] = []
    with Boards(fakes("A", "B"), warn=pytest.fail) as boards:
        results = boards.measure(artefacts, settings=QUICK, on_result=lambda key, _: told.append(key))
        by_board = {boards.measured_by[key] for key in artefacts}
    assert list(results) == list(artefacts)
    assert sorted(told) == sorted(artefacts)
    assert by_board == {"A", "B"}
    assert sum(share.n_measured for share in boards.shares()) == len(artefacts)


def test_two_boards_measure_at_the_same_time_each_one_thing(several: MakeBoards, tmp_path: Path) -> None:
    """Each request to time waits: two boards wait together, one board never for two at once."""
    folder = several({"A": {}, "B": {}})
    for name in ("A", "B"):
        (folder / name / "wait_s").write_text("1")
    artefacts = models(tmp_path, 8)
    with Boards(fakes("A", "B"), warn=pytest.fail) as boards:
        boards.context()  # the boards are connected
        began = time.monotonic()
        boards.measure(artefacts, settings=QUICK)
        seconds = time.monotonic() - began
    # four groups of two, 1 s each: 2 s for each board, and 4 s one after the other
    assert 2.0 <= seconds < 4.0


def test_a_slower_board_gives_the_times_of_the_first(several: MakeBoards, tmp_path: Path) -> None:
    several({"A": {}, "B": {"speed": 1 / 1.06}})
    artefacts, anchor = models(tmp_path, 8), write_model(tmp_path / "reference.onnx", size=6)
    with Boards(fakes("A", "B"), warn=pytest.fail) as boards:
        together = statistics(boards.measure(artefacts, anchor=anchor, settings=QUICK))
        assert set(boards.measured_by.values()) == {"A", "B"}
    with Boards(fakes("A"), warn=pytest.fail) as boards:
        alone = statistics(boards.measure(artefacts, anchor=anchor, settings=QUICK))
    for key, statistic in together.items():
        assert statistic.minimum == pytest.approx(alone[key].minimum, rel=1e-4)
        assert statistic.median == pytest.approx(alone[key].median, rel=1e-4)
        # of its own anchor: a slower board is not in a slow phase
        assert statistic.phase_drift == pytest.approx(1.0, rel=1e-4)


def test_how_far_the_boards_differ_is_told(several: MakeBoards, tmp_path: Path) -> None:
    several({"A": {}, "B": {"speed": 1 / 1.06}})
    with Boards(fakes("A", "B"), warn=pytest.fail) as boards:
        boards.measure_anchor(write_model(tmp_path / "reference.onnx", size=6), settings=QUICK)
        first, second = boards.shares()
    assert (first.anchor_ratio, second.anchor_ratio) == (1.0, pytest.approx(1.06, rel=1e-3))
    assert second.shown == "0 timed, drift anchor 1.060 of the first board's"


def test_a_board_slower_by_a_third_is_left_out_whichever_it_is(several: MakeBoards, tmp_path: Path) -> None:
    several({"A": {"speed": 1 / 1.3}, "B": {}, "C": {}})
    artefacts, anchor = models(tmp_path, 6), write_model(tmp_path / "reference.onnx", size=6)
    told: list[str] = []
    with Boards(fakes("A", "B", "C"), warn=told.append) as boards:
        statistics(boards.measure(artefacts, anchor=anchor, settings=QUICK))
        assert set(boards.measured_by.values()) == {"B", "C"}
        assert "A" not in boards.anchors
    assert len(told) == 1
    assert "board A is left out: its drift anchor takes 1.30 times that of" in told[0]
    assert boards.shares()[0].gone.startswith("left out")


def test_a_time_of_the_anchor_that_is_known_is_not_measured_again(several: MakeBoards, tmp_path: Path) -> None:
    """It is the board's from when it was first used: one that is slower today is seen to be."""
    several({"A": {}, "B": {"speed": 1 / 1.3}})
    artefacts, anchor = models(tmp_path, 4), write_model(tmp_path / "reference.onnx", size=6)
    kept: list[dict[str, dict[str, float]]] = []
    with Boards(fakes("A"), warn=pytest.fail, on_anchors=kept.append) as boards:
        boards.measure_anchor(anchor, settings=QUICK)
    known = dict.fromkeys(("A", "B"), kept[-1]["A"])
    with Boards(fakes("A", "B"), warn=pytest.fail, anchors=known) as boards:
        ms = known["A"][anchor.sha256]
        found = statistics(boards.measure(artefacts, anchor=anchor, anchor_ms=ms, settings=QUICK))
        of_b = [statistic for key, statistic in found.items() if boards.measured_by[key] == "B"]
    assert of_b
    assert all(statistic.phase_drift == pytest.approx(1.3, rel=1e-3) for statistic in of_b)


def test_a_board_of_another_kind_is_refused_by_name(several: MakeBoards) -> None:
    several({"A": {}, "B": {"hardware": "another processor"}})
    words = "against A, B: hardware is 'another processor' and not 'simulated processor'"
    with (
        pytest.raises(ConfigError, match=f"not of a kind; {words}.*a description of its own"),
        Boards(fakes("A", "B"), warn=pytest.fail) as boards,
    ):
        boards.context()


# ---------------------------------------------------------------- boards that are lost


def test_a_board_that_dies_leaves_its_work_to_the_others(several: MakeBoards, tmp_path: Path) -> None:
    folder = several({"A": {}, "B": {}})
    (folder / "B" / "die").write_text("2")  # at its second group
    (folder / "A" / "wait_s").write_text("0.6")  # so that it is still at work when the other is given up
    artefacts = models(tmp_path, 12)
    told: list[str] = []
    with Boards(_impatient("A", "B"), warn=told.append) as boards:
        results = statistics(boards.measure(artefacts, settings=QUICK))
        assert list(results) == list(artefacts)
        # what it had measured is kept
        assert [boards.measured_by[key] for key in artefacts].count("B") == 2
    assert len(told) == 1
    assert "board B cannot measure; the others do its work" in told[0]
    assert boards.shares()[1].gone == "lost"


def test_the_others_do_not_wait_for_a_board_that_is_looked_for(several: MakeBoards, tmp_path: Path) -> None:
    folder = several({"A": {}, "B": {}})
    (folder / "B" / "die").write_text("1")
    artefacts = models(tmp_path, 4)
    began = time.monotonic()
    with Boards(fakes("A", "B"), warn=pytest.fail) as boards:  # it may look for five minutes
        statistics(boards.measure(artefacts, settings=QUICK))
        assert set(boards.measured_by.values()) == {"A"}
        assert boards.shares()[1].gone == "lost, and looked for"
    assert time.monotonic() - began < 60


def test_when_all_are_dead_what_was_measured_is_there_and_the_error_is_the_last_ones(
    several: MakeBoards, tmp_path: Path
) -> None:
    folder = several({"A": {}, "B": {}})
    for name in ("A", "B"):
        (folder / name / "die").write_text("2")
    kept: list[str] = []
    with (
        pytest.raises(BoardError, match=r"was lost and not found again.*what was measured is kept"),
        Boards(_impatient("A", "B"), warn=lambda _: None) as boards,
    ):
        boards.measure(models(tmp_path, 12), settings=QUICK, on_result=lambda key, _: kept.append(key))
    assert len(kept) == 4


def test_a_board_that_is_off_from_the_beginning_is_told_and_done_without(several: MakeBoards, tmp_path: Path) -> None:
    folder = several({"A": {}, "B": {}})
    (folder / "A" / "down").touch()
    told: list[str] = []
    with Boards(fakes("A", "B"), warn=told.append) as boards:
        statistics(boards.measure(models(tmp_path, 2), settings=QUICK))
    assert ["board A cannot measure" in text for text in told] == [True]


def test_what_brings_two_boards_down_does_not_reach_a_third(several: MakeBoards, tmp_path: Path) -> None:
    folder = several({"A": {}, "B": {}, "C": {}})
    for name in ("A", "B", "C"):
        (folder / name / "die").write_text("1")
    with (
        pytest.raises(MeasurementError, match=r"2 boards were lost, one after the other.*is it this that brings them"),
        Boards(_impatient("A", "B", "C"), warn=lambda _: None) as boards,
    ):
        boards.measure(models(tmp_path, 1), settings=QUICK)
    assert [(folder / name / "down").exists() for name in ("A", "B", "C")].count(True) == 2


def test_an_artefact_that_crashes_the_runtime_is_named_and_no_board_is_lost(
    several: MakeBoards, tmp_path: Path
) -> None:
    artefacts = models(tmp_path, 4)
    several({name: {"crash_on": artefacts["m1"].sha256} for name in ("A", "B")})
    with Boards(fakes("A", "B"), warn=pytest.fail) as boards:
        results = boards.measure(artefacts, settings=QUICK)
    assert isinstance(results.pop("m1"), MeasurementFailure)
    statistics(results)


def test_ctrl_c_ends_what_runs_on_every_board(several: MakeBoards, tmp_path: Path) -> None:
    several({"A": {}, "B": {}})

    def interrupt(key: str, result: object) -> None:
        raise KeyboardInterrupt

    boards = Boards(fakes("A", "B"), warn=pytest.fail)
    with pytest.raises(KeyboardInterrupt), boards:
        boards.measure(models(tmp_path, 8), settings=QUICK, on_result=interrupt)
    assert not any(thread.is_alive() for thread in boards._crew._threads.values())


# ---------------------------------------------------------------- shares


@pytest.mark.parametrize(
    ("n", "n_boards", "largest", "sizes"),
    [
        (100, 2, 16, [16, 16, 16, 16, 16, 10, 10]),
        (9, 2, 16, [5, 4]),
        (1, 3, 16, [1]),
        (32, 2, 16, [16, 16]),
        (5, 1, 2, [2, 2, 1]),
        (0, 2, 16, []),
    ],
)
def test_the_last_groups_are_shared_by_all_boards_alike(n: int, n_boards: int, largest: int, sizes: list[int]) -> None:
    assert _group_sizes(n, n_boards=n_boards, largest=largest) == sizes


def _impatient(*serials: str) -> Device:
    """Boards that are given up when they were looked for once."""
    device = fakes(*serials)
    return replace(device, connection={**device.connection, "reconnect_s": 0.05})
