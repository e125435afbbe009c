"""From folders of runs to a page."""

from __future__ import annotations

import json
from pathlib import Path

import pytest
from typer.testing import CliRunner

from hwnas.cli import app
from hwnas.comparison import compare_studies
from hwnas.errors import ConfigError
from hwnas.search import save_study
from tests.comparison.studies import study


@pytest.fixture
def runs(tmp_path: Path) -> list[Path]:
    """Folders of three runs."""
    folders = []
    for name, sampler, seed in (("one", "random", 0), ("two", "random", 1), ("three", "nsga2", 0)):
        folder = tmp_path / name
        (folder / "search").mkdir(parents=True)
        save_study(study(sampler, seed), folder / "search" / "study.safetensors")
        folders.append(folder)
    return folders


def test_the_page_lies_in_the_first_run_and_is_the_same_again(runs: list[Path]) -> None:
    result = compare_studies(runs)
    assert result.file == runs[0] / "comparison.html"
    page = result.file.read_bytes()
    compare_studies(runs)
    assert result.file.read_bytes() == page
    assert list(result.inputs.studies) == ["one", "two", "three"]


def test_it_can_be_written_elsewhere_and_files_of_studies_can_be_named(runs: list[Path], tmp_path: Path) -> None:
    files = [folder / "search" / "study.safetensors" for folder in runs]
    result = compare_studies(files, folder=tmp_path / "new")
    assert result.file == tmp_path / "new" / "comparison.html"
    # as much of each path as tells them apart
    assert next(iter(result.inputs.studies)) == "one/search/study.safetensors"


@pytest.mark.parametrize(
    ("places", "said"),
    [(("one",), "at least two"), (("one", "./one"), "named twice"), (("one", "none"), "no study file|no finished")],
)
def test_what_cannot_be_compared_is_refused(runs: list[Path], places: tuple[str, ...], said: str) -> None:
    with pytest.raises((ConfigError, ValueError), match=said):
        compare_studies([runs[0].parent / place for place in places])


def test_the_command_compares_several_runs(runs: list[Path]) -> None:
    given = ["report", *map(str, runs), "--reference", "accuracy=0.2", "--reference", "cost=8", "--json"]
    done = CliRunner().invoke(app, given)
    assert done.exit_code == 0, done.output
    told = json.loads(done.stdout)
    assert told["reference"] == {"accuracy": 0.2, "cost": 8.0}
    assert [g["name"] for g in told["groups"]] == ["random", "nsga2"]
    assert len(told["groups"][0]["hypervolume_after_each"]["median"]) == 20
    assert Path(told["file"]).is_file()


def test_the_command_shows_a_row_a_sampler(runs: list[Path]) -> None:
    done = CliRunner().invoke(app, ["report", *map(str, runs)])
    assert done.exit_code == 0, done.output
    assert "random" in done.stdout
    assert "comparison.html" in done.stdout


@pytest.mark.parametrize(
    ("arguments", "said"),
    [
        (("--set", "search.n_trials=3"), "--set changes one run"),
        (("--reference", "accuracy"), "--reference 'accuracy' is not of the form"),
    ],
)
def test_options_that_make_no_sense_are_refused(runs: list[Path], arguments: tuple[str, ...], said: str) -> None:
    done = CliRunner().invoke(app, ["report", *map(str, runs), *arguments])
    assert done.exit_code == 2
    assert said in done.output


def test_one_run_takes_no_reference(runs: list[Path]) -> None:
    done = CliRunner().invoke(app, ["report", str(runs[0]), "--reference", "accuracy=0.2"])
    assert done.exit_code == 2
    assert "name two runs or more" in done.output
