"""The exact search: what is fitted, solved, evaluated and told."""

from __future__ import annotations

import json

import numpy as np
import pytest
from typer.testing import CliRunner

from hwnas import pipeline
from hwnas.cli import app
from hwnas.config import Config
from hwnas.cost import feasible_encodings
from hwnas.errors import ConfigError, InfeasibleError
from hwnas.limits import as_limits
from hwnas.pipeline import solving
from hwnas.pipeline.costs import load_costs
from hwnas.pipeline.evaluating import Evaluations
from hwnas.pipeline.solving import ExactResult
from hwnas.predict import fit_linear
from hwnas.search import load_study
from hwnas.workspace import Workspace
from tests.runs import ReadConsole


def solve(config: Config) -> ExactResult:
    return pipeline.search_exact(config, console=ReadConsole())


def test_the_network_joins_the_study_within_the_limits(config: Config) -> None:
    before = load_study(Workspace(config).study)
    result = solve(config)
    after = load_study(Workspace(config).study)
    assert after.name == before.name
    assert len(after) - len(before) in (0, 1)  # the best of the model may be one that was evaluated
    (trial,) = [t for t in after.trials if t.number == result.trial]
    assert trial.architecture == result.architecture
    assert trial.upper["latency_ms"] <= after.limits["latency_ms"]
    assert result.metrics["accuracy"] == trial.values["accuracy"]
    assert after.sources["accuracy"] == "measured on 100 validation images"


def test_only_its_network_is_evaluated_where_enough_is_known(config: Config, evaluated: list[object]) -> None:
    result = solve(config)
    assert len(evaluated) <= 1
    assert result.model.networks == len(load_study(Workspace(config).study)) - len(evaluated)
    evaluated.clear()
    again = solve(config)  # fitted to one more, perhaps; what was evaluated is not evaluated again
    assert len(evaluated) <= (again.trial != result.trial)


def test_where_little_is_known_some_networks_are_evaluated_first(config: Config, evaluated: list[object]) -> None:
    for path in Workspace(config).searched.iterdir():
        path.unlink()
    result = solve(config)
    assert result.model.networks == config.search.n_trials == 8
    assert len(evaluated) in (8, 9)
    assert len(load_study(Workspace(config).study)) == len(evaluated)


def test_no_network_is_predicted_to_be_better(config: Config) -> None:
    """Held against the predictions of the space's networks that keep the limits."""
    work = Workspace(config)
    costs = load_costs(work)
    encodings, accuracies = Evaluations.of(work).in_space()
    model, _ = fit_linear(work.space.choices, encodings, accuracies, seed=config.search.seed)
    result = solve(config)
    every = np.unique(work.space.sample(100_000, np.random.default_rng(0)), axis=0)
    within = every[feasible_encodings(every, costs.models, as_limits(dict(result.limits)))]
    assert result.predicted == pytest.approx(float(model.mean(within).max()), abs=solving._GAP)
    assert result.gap <= solving._GAP


def test_predicted_and_measured_accuracy_gap_and_time_are_told(config: Config) -> None:
    result = solve(config)
    rows = dict(result.shown.rows)
    assert rows["accuracy (predicted)"] == f"{result.predicted:.4f} ± {result.predicted_error:.4f}"
    assert rows["accuracy (validation)"].startswith(f"{result.metrics['accuracy']:.4f} ± ")
    assert {"no other is predicted better by more than", "solved in"} <= set(rows)
    assert f"its rank correlation is {result.model.rank_correlation:.2f} ± " in result.shown.notes[0]
    assert result.to_json()["model"]["rank_correlation"] == result.model.rank_correlation


def test_a_model_that_ranks_poorly_is_told(config: Config, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(solving, "_POOR", 1.1)
    assert any(note.startswith("The model ranks networks poorly") for note in solve(config).notes)
    monkeypatch.setattr(solving, "_POOR", -1.1)
    assert not any(note.startswith("The model ranks networks poorly") for note in solve(config).notes)


def test_a_network_that_breaks_a_limit_on_accuracy_is_told(config: Config) -> None:
    result = solve(config.with_limits({"accuracy": 0.999}))
    assert result.metrics["accuracy"] < 0.999
    assert "It breaks a limit on what is measured" in result.notes
    assert "It breaks a limit on what is measured" not in solve(config).notes


def test_the_command_tells_it_as_json(config: Config) -> None:
    ended = CliRunner().invoke(app, ["search", config.output.folder, "--exact", "--json"])
    assert ended.exit_code == 0
    document = json.loads(ended.stdout)
    assert document["gap"] <= solving._GAP
    assert document["metrics"]["accuracy"] >= 0
    assert document["architecture"]


def test_limits_that_nothing_keeps_are_refused_before_anything_is_evaluated(
    config: Config, evaluated: list[object]
) -> None:
    with pytest.raises(InfeasibleError, match="latency_ms"):
        solve(config.with_limits({"latency_ms": 1e-6}))
    assert not evaluated


def test_a_run_for_several_devices_says_how_to_name_one(config: Config) -> None:
    fleet = config.replaced({"device.names": ["fake", "cpu"], "device.name": None})
    with pytest.raises(ConfigError, match=r"--exact is for one device; name one of .* with --device"):
        solve(fleet)
