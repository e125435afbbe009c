"""Searching: within limits, going on, several processes."""

from __future__ import annotations

import dataclasses
import json
import subprocess
import sys
from functools import partial
from pathlib import Path
from typing import Any

import numpy as np
import pytest

from hwnas import pipeline
from hwnas.config import Config
from hwnas.errors import CheckpointError, ConfigError, InfeasibleError, TableError
from hwnas.pipeline import searching
from hwnas.pipeline.costs import load_costs
from hwnas.pipeline.evaluating import EvaluationCounts
from hwnas.pipeline.searching import study_name
from hwnas.pipeline.workers import _elsewhere, _evaluate_elsewhere
from hwnas.search import Study, load_study, search
from hwnas.testing.run import tiny_config
from hwnas.workspace import Workspace
from tests.runs import ReadConsole


def without_search(config: Config) -> Config:
    for path in (Path(config.output.folder) / "search").iterdir():
        path.unlink()
    return config


def test_every_trial_keeps_the_limits_by_its_upper_bound(config: Config) -> None:
    study = load_study(Workspace(config).study)
    assert len(study) == config.search.n_trials
    assert (study.upper["latency_ms"] <= study.limits["latency_ms"]).all()
    assert (study.upper["latency_ms"] >= study.values["latency_ms"]).all()


def test_no_network_is_evaluated_twice(config: Config) -> None:
    study = load_study(Workspace(config).study)
    assert len(np.unique(study.encodings, axis=0)) == len(study)


def test_it_says_which_figures_are_measured(config: Config) -> None:
    sources = load_study(Workspace(config).study).sources
    assert sources["accuracy"] == "measured on 100 validation images"
    assert sources["latency_ms"] == sources["size_bytes"] == "estimated"


def test_it_says_how_the_study_came_about(config: Config) -> None:
    told = load_study(Workspace(config).study).provenance
    assert (told["device"], told["sampler"], told["seed"]) == ("fake", config.search.sampler, config.search.seed)
    assert float(told["seconds"]) > 0


def test_the_front_is_what_is_shown(config: Config) -> None:
    result = pipeline.search(config, console=ReadConsole())
    latencies = [t.values["latency_ms"] for t in result.front]
    accuracies = [t.values["accuracy"] for t in result.front]
    assert latencies == sorted(latencies)
    assert accuracies == sorted(accuracies)
    assert [row[0] for row in result.shown.rows] == [t.trial for t in result.front]


def test_an_interrupted_search_goes_on_where_it_was(config: Config, evaluated: list[object]) -> None:
    without_search(config)
    with pytest.raises(KeyboardInterrupt):
        pipeline.search(config, console=ReadConsole(interrupt_after=("search", 3)))
    assert len(evaluated) == 3
    assert not Workspace(config).study.exists()
    pipeline.search(config, console=ReadConsole())
    assert len(evaluated) == config.search.n_trials


def test_more_trials_are_added_to_those_there_are(config: Config, evaluated: list[object]) -> None:
    more = config.replaced({"search.n_trials": config.search.n_trials + 2})
    assert pipeline.search(more, console=ReadConsole()).n_trials == config.search.n_trials + 2
    assert len(evaluated) == 2


def test_other_limits_begin_another_study_and_keep_the_first(config: Config, evaluated: list[object]) -> None:
    first = load_study(Workspace(config).study)
    other = config.with_limits({"latency_fraction": 0.9}).replaced({"search.n_trials": 2})
    pipeline.search(other, console=ReadConsole())
    assert load_study(Workspace(config).study).name != first.name
    evaluated.clear()
    pipeline.search(config, console=ReadConsole())
    assert load_study(Workspace(config).study).name == first.name
    assert not evaluated


# ---------------------------------------------------------------- accuracies that are known


def test_a_network_that_was_evaluated_is_not_evaluated_again(config: Config, evaluated: list[object]) -> None:
    for path in (Workspace(config).study, Workspace(config).searched / "journal.log"):
        path.unlink()
    console = ReadConsole()
    result = pipeline.search(config, console=console)
    reused, n = config.search.n_trials - len(evaluated), config.search.n_trials
    assert reused > 0
    assert result.evaluations == EvaluationCounts(measured=len(evaluated), reused=reused)
    assert f"{reused} of {n} accuracies were known from earlier searches" in result.shown.notes


@pytest.mark.parametrize("left", ["nothing", "half", "empty"])
def test_trials_that_the_journal_lost_are_told_and_searched_for_again(config: Config, left: str) -> None:
    work = Workspace(config)
    before, journal = load_study(work.study), work.searched / "journal.log"
    lines = journal.read_bytes().splitlines(keepends=True)
    if left == "nothing":
        journal.unlink()
    else:
        journal.write_bytes(b"".join(lines[: len(lines) // 2]) if left == "half" else b"")
    console = ReadConsole()
    pipeline.search(config, console=console)
    assert "finished trials of" in console.said
    assert "are gone from the journal; they are searched for again" in console.said
    assert len(load_study(work.study)) == len(before)


def test_a_search_with_other_limits_begins_with_the_best_networks_known(config: Config) -> None:
    before = load_study(Workspace(config).study)
    other = config.with_limits({"latency_fraction": 0.95}).replaced({"search.n_trials": 12})
    result = pipeline.search(other, console=ReadConsole())
    assert 0 < result.evaluations.reused < 12
    assert result.evaluations.reused + result.evaluations.measured == 12
    began = load_study(Workspace(config).study).trials[0]
    assert began.architecture in [t.architecture for t in before.front()]


def test_known_accuracies_are_those_that_would_be_measured(config: Config, evaluated: list[object]) -> None:
    known = load_study(Workspace(config).study)
    without_search(config)
    pipeline.search(config, console=ReadConsole())
    assert len(evaluated) == config.search.n_trials
    again = load_study(Workspace(config).study)
    assert again.values["accuracy"].tolist() == known.values["accuracy"].tolist()
    assert again.encodings.tolist() == known.encodings.tolist()


def test_another_way_of_evaluating_reuses_nothing(config: Config) -> None:
    other = config.replaced({"search.validation_samples": 50, "search.n_trials": 2})
    assert pipeline.search(other, console=ReadConsole()).evaluations == EvaluationCounts(measured=2)


def test_what_a_study_shall_have_is_evaluated_first(config: Config) -> None:
    work = Workspace(config)
    last = load_study(work.study).trials[-1].architecture  # keeps the limits: others would be moved
    searching.search(without_search(config), console=ReadConsole(), initial=[last])
    assert load_study(work.study).trials[0].architecture == last


@pytest.mark.parametrize(
    "change", [{"search.validation_samples": 50}, {"search.seed": 1}, {"search.population_size": 6}]
)
def test_what_decides_the_trials_names_the_study(change: dict[str, object], config: Config) -> None:
    work, other = Workspace(config), Workspace(config.replaced(change))
    costs = load_costs(work)
    assert study_name(work, costs, {"latency_ms": 1.0}) != study_name(other, costs, {"latency_ms": 1.0})
    assert study_name(work, costs, {"latency_ms": 1.0}) == study_name(Workspace(config), costs, {"latency_ms": 1.0})


def test_without_tables_nothing_is_loaded_or_written(tmp_path: Path) -> None:
    with pytest.raises(TableError, match="hwnas profile"):
        pipeline.search(tiny_config(tmp_path / "run"), console=ReadConsole())
    assert not (tmp_path / "run").exists()


# ---------------------------------------------------------------- limits that cannot be kept

REFUSED = """
import sys, time
from hwnas import pipeline
from hwnas._console import Console
from hwnas.config import load_config
from hwnas.errors import InfeasibleError
from scipy import stats  # the predictions' quality needs it, which takes its time to load
config = load_config(sys.argv[1]).with_limits({"latency_ms": 1e-4})
begun = time.process_time()
try:
    pipeline.search(config, console=Console())
except InfeasibleError as e:
    print(time.process_time() - begun, "torch" in sys.modules, e.exit_status, e)
"""


def test_an_unreachable_limit_is_refused_within_a_second_and_without_torch(config: Config) -> None:
    done = subprocess.run(
        [sys.executable, "-c", REFUSED, config.output.folder], capture_output=True, text=True, check=True
    )
    seconds, torch_loaded, status, *message = done.stdout.split()
    assert float(seconds) < 1
    assert (torch_loaded, status) == ("False", "3")
    assert "the smallest reachable" in " ".join(message)


def test_a_refused_search_writes_nothing(config: Config) -> None:
    before = Path(config.output.folder, "config.toml").read_bytes()
    with pytest.raises(InfeasibleError):
        pipeline.search(config.with_limits({"size_bytes": 10}), console=ReadConsole())
    assert Path(config.output.folder, "config.toml").read_bytes() == before


# ---------------------------------------------------------------- several processes


TOGETHER = """
import sys, time
from pathlib import Path
import optuna, torch
from hwnas import pipeline
from hwnas._console import Console
from hwnas.config import load_config
config = load_config(sys.argv[1]).replaced({"search.n_trials": 30})
Path(sys.argv[2]).touch()
while not all(Path(name).exists() for name in sys.argv[2:]):
    time.sleep(0.01)
pipeline.search(config, console=Console())
"""


def test_two_processes_share_one_search(config: Config, tmp_path: Path) -> None:
    folder = without_search(config).output.folder
    ready = [str(tmp_path / name) for name in ("one", "other")]
    processes = [subprocess.Popen([sys.executable, "-c", TOGETHER, folder, *order]) for order in (ready, ready[::-1])]
    assert [p.wait(timeout=120) for p in processes] == [0, 0]
    study = load_study(Workspace(config).study)
    assert len(study) == 30
    assert not study.failed
    assert len(np.unique(study.encodings, axis=0)) == 30
    records = map(json.loads, Path(folder, "search", "journal.log").read_text().splitlines())
    owners = [r["user_attr"]["owner"]["pid"] for r in records if "owner" in r.get("user_attr", {})]
    assert set(owners) == {str(p.pid) for p in processes}


def test_a_process_that_ends_early_does_not_write_over_a_fuller_study(
    config: Config, monkeypatch: pytest.MonkeyPatch
) -> None:
    """It collected its trials before another process had finished the last one, and saves after it."""

    def early(*arguments: Any, **options: Any) -> Study:
        study = search(*arguments, **options)
        return dataclasses.replace(
            study,
            numbers=study.numbers[:-1],
            encodings=study.encodings[:-1],
            values={m: v[:-1] for m, v in study.values.items()},
            upper={m: v[:-1] for m, v in study.upper.items()},
            feasible=study.feasible[:-1],
        )

    monkeypatch.setattr(searching, "run_search", early)
    assert pipeline.search(config, console=ReadConsole()).n_trials == config.search.n_trials - 1
    assert len(load_study(Workspace(config).study)) == config.search.n_trials


def test_a_damaged_study_is_written_again(config: Config) -> None:
    path = Workspace(config).study
    whole = path.read_bytes()
    path.write_bytes(whole[: len(whole) // 2])
    pipeline.search(config, console=ReadConsole())
    assert path.read_bytes() == whole


# ---------------------------------------------------------------- several workers


def test_two_workers_find_what_one_found(config: Config, evaluated: list[object]) -> None:
    before = load_study(Workspace(config).study)
    without_search(config)
    console = ReadConsole()
    result = pipeline.search(config.replaced({"search.workers": 2}), console=console)
    after = load_study(Workspace(config).study)
    assert not evaluated  # not in this process
    assert result.evaluations == EvaluationCounts(measured=config.search.n_trials)
    assert (after.encodings == before.encodings).all()
    assert (after.values["accuracy"] == before.values["accuracy"]).all()
    assert after.standard_errors["accuracy"].tolist() == before.standard_errors["accuracy"].tolist()
    assert "workers" not in console.said


def test_workers_without_a_supernet_are_not_started(config: Config) -> None:
    Workspace(config).checkpoint.unlink()
    with pytest.raises(CheckpointError, match="there is no trained supernet"):
        pipeline.search(config.replaced({"search.workers": 2}), console=ReadConsole())


def test_a_worker_on_a_machine_without_the_folder_says_what_it_needs(config: Config, tmp_path: Path) -> None:
    with pytest.raises(ConfigError, match=r"has no folder .*machines of a cluster need the run's folder at the same"):
        _evaluate_elsewhere(config, threads=1, place=str(tmp_path / "absent"))


@pytest.mark.parametrize(("threads", "each"), [(None, 1), (2, 2)])
def test_threads_are_told_to_each_worker_of_a_cluster(
    threads: int | None, each: int, config: Config, monkeypatch: pytest.MonkeyPatch
) -> None:
    made: dict[str, object] = {}
    monkeypatch.setattr("hwnas.pipeline.workers.RayWorkers", lambda make, **given: made.update(make=make, **given))
    changed = config.replaced({"search.ray": "auto", "search.workers": 3, "train.threads": threads})
    _elsewhere(changed, threads=8)
    make = made.pop("make")
    assert isinstance(make, partial)
    assert make.keywords["threads"] == each
    assert made == {"address": "auto", "count": 3, "cpus": each}
