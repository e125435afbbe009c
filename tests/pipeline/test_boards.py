"""Profiling on several boards of a kind: one table, whoever measured it, and tables of one board that go on."""

from __future__ import annotations

import json
import sys
from collections.abc import Mapping
from pathlib import Path

import pytest

from hwnas import pipeline
from hwnas.appending import read_sealed
from hwnas.config import Config
from hwnas.devices import load_device
from hwnas.files import read_document
from hwnas.measure.boards import Boards
from hwnas.pipeline._boards import FILE
from hwnas.pipeline.costs import load_costs, table_path
from hwnas.testing.run import tiny_config
from hwnas.types import Artefact, Option
from hwnas.workspace import Workspace
from tests.measure.conftest import board
from tests.runs import ONE_PRECISION, ReadConsole, contents

__all__ = ["board"]


def described(folder: Path, *serials: str, name: str = "fake") -> str:
    """The path of a description like that of the fake device, of boards that `tests.measure.fake_adb` plays."""
    options = {key: json.dumps(value) for key, value in load_device("fake").options.items()}
    lines = ["schema = 1", 'runtime = "fake"', "[options]", *(f"{k} = {v}" for k, v in options.items())]
    lines += ["[connection]", 'transport = "adb"', f"serials = {json.dumps(serials)}"]
    path = folder / f"{name}.toml"
    path.write_text("\n".join([*lines, f"python = {json.dumps(sys.executable)}", 'folder = "~/agent"', ""]))
    return str(path)


def make(board: Path, name: str, **options: Option) -> None:
    (board / name / "modules").mkdir(parents=True)
    (board / name / "options").write_text(json.dumps(options))


@pytest.fixture
def shared(monkeypatch: pytest.MonkeyPatch) -> list[str]:
    """Grows with the key of everything that several boards are to time."""
    keys: list[str] = []
    measure = Boards.measure

    def counting(self: Boards, artefacts: Mapping[str, Artefact], **arguments: object) -> object:
        keys.extend(artefacts)
        return measure(self, artefacts, **arguments)  # type: ignore[arg-type]

    monkeypatch.setattr(Boards, "measure", counting)
    return keys


def test_a_profile_goes_on_with_other_boards_and_gives_one_table(
    tmp_path: Path, board: Path, config: Config, shared: list[str]
) -> None:
    make(board, "A")
    make(board, "B", speed=1 / 1.06)
    make(board, "C", speed=1.03)
    small = {**ONE_PRECISION, "space.kernel_sizes": [3], "profile.n_networks": 4}
    run = tiny_config(tmp_path / "new", {**small, "device.name": described(tmp_path, "A", "B", name="shelf")})
    with pytest.raises(KeyboardInterrupt):
        pipeline.profile(run, console=ReadConsole(interrupt_after=("blocks, fp32", 1)))
    path = table_path(Workspace(run), "fp32")
    before = read_sealed(path)
    assert {line["board"] for line in before[1:]} <= {"A", "B"}
    shared.clear()
    described(tmp_path, "B", "C", name="shelf")
    console = ReadConsole()
    result = pipeline.profile(run, console=console)
    whole = read_sealed(path)
    assert whole[: len(before)] == before
    assert not set(shared) & {line["block"] for line in before[1:]}
    assert {line["board"] for line in whole[len(before) :]} == {"B", "C"}
    # the boards' times are those of the one that the table was begun on
    alone, together = load_costs(Workspace(config)).entries, load_costs(Workspace(run)).entries
    assert {key: together[key] for key in together} == pytest.approx({key: alone[key] for key in together}, rel=0.04)
    assert [share.board for share in result.boards] == ["B", "C"]
    assert result.boards[1].anchor_ratio == pytest.approx(1 / (1.03 * 1.06), rel=0.03)
    assert any(row[0] == "board C" and "drift anchor 0.9" in str(row[1]) for row in result.shown.rows)
    assert set(read_document(Workspace(run).tables / FILE)["anchors_ms"]) == {"A", "B", "C"}


def test_a_second_board_does_not_throw_the_table_of_the_first_away(
    tmp_path: Path, board: Path, config: Config, shared: list[str]
) -> None:
    make(board, "A")
    make(board, "B")
    before = contents(Workspace(config).tables)
    run = config.replaced({"device.name": described(tmp_path, "A", "B")})
    result = pipeline.profile(run, console=ReadConsole())
    assert not shared
    assert contents(Workspace(run).tables) == before
    assert [share.n_measured for share in result.boards] == [0, 0]


def test_damage_to_what_is_known_of_the_boards_is_told_and_costs_another_look(
    tmp_path: Path, board: Path, config: Config
) -> None:
    make(board, "A")
    make(board, "B")
    run = config.replaced({"device.name": described(tmp_path, "A", "B"), "profile.n_networks": 5})
    (Workspace(run).tables / FILE).write_text("{")
    console = ReadConsole()
    pipeline.profile(run, console=console)
    assert f"{FILE} is damaged" in console.said
    assert set(read_document(Workspace(run).tables / FILE)["anchors_ms"]) == {"A", "B"}


def test_a_table_of_one_board_has_no_names_of_boards(config: Config) -> None:
    assert not any("board" in line for line in read_sealed(table_path(Workspace(config), "fp32")))
    assert not (Workspace(config).tables / FILE).exists()
