"""Exporting exactly one network, on the run's device or on another."""

from __future__ import annotations

from collections.abc import Callable
from pathlib import Path

import numpy as np
import pytest
from typer.testing import CliRunner

from hwnas.cli import app
from hwnas.config import Config
from hwnas.deployment import Manifest
from hwnas.errors import ConfigError, InfeasibleError, SpaceError
from hwnas.pipeline import deploying, export_network
from hwnas.pipeline.costs import load_costs
from hwnas.pipeline.evaluated import study_with
from hwnas.pipeline.evaluating import Evaluations
from hwnas.pipeline.reporting import chosen_from
from hwnas.pipeline.workers import make_evaluator
from hwnas.search import Study, load_study
from hwnas.types import IntArray
from hwnas.workspace import Workspace
from tests.catalogue.later import profiled_later
from tests.runs import ReadConsole


@pytest.fixture(autouse=True)
def no_page(monkeypatch: pytest.MonkeyPatch) -> None:
    """The page is tested elsewhere, and takes as long to draw as all the rest."""
    monkeypatch.setattr(deploying, "write_deployment_report", lambda *_, **__: None)


def never_evaluated(work: Workspace, study: Study) -> IntArray:
    """A network of the space that the study has not."""
    known = {e.tobytes() for e in study.encodings.astype(np.int64)}
    sampled = work.space.sample(50, np.random.default_rng(5))
    return next(e for e in sampled if e.tobytes() not in known)


def test_it_is_this_network_and_not_the_best(config: Config) -> None:
    study = load_study(Workspace(config).study)
    worst = study.trial_at(int(study.values["accuracy"].argmin()))
    result = export_network(config.with_limits({}), worst.architecture, console=ReadConsole())
    manifest = Manifest.read(result.deployment)
    assert dict(manifest.architecture) == worst.architecture
    assert (manifest.provenance["trial"], manifest.provenance["study"]) == (worst.number, study.name)
    assert manifest.provenance["chosen"].startswith(f"trial {worst.number} was asked for itself")


@pytest.fixture
def on_later(config: Config) -> Callable[..., Config]:
    later = profiled_later(config, slower=1.0, options={"drift": 0.2, "noise": 0.01, "seed": 0})

    def part(**limits: float) -> Config:
        return config.with_limits(limits).part_for(later)

    return part


def test_a_network_that_was_never_evaluated_ships_on_a_device_that_was_never_searched_for(
    config: Config, on_later: Callable[..., Config], evaluated: list[object]
) -> None:
    work = Workspace(config)
    new = never_evaluated(work, load_study(work.study))
    result = export_network(on_later(), work.space.decode(new), console=ReadConsole())
    manifest = Manifest.read(result.deployment)
    assert manifest.device.name == "later"
    assert dict(manifest.architecture) == work.space.decode(new)
    assert len(evaluated) == 1
    # its page can be made again: the study it is told from is kept
    kept = load_study(work.study_called(manifest.provenance["study"]))
    assert chosen_from(work, manifest, newest=load_study(work.study)) is not None
    assert kept.trial_at(len(kept) - 1).values["accuracy"] == pytest.approx(manifest.predicted["accuracy"])


def test_the_runs_own_study_stays_as_it_is(config: Config, on_later: Callable[..., Config]) -> None:
    work = Workspace(config)
    before, study = work.study.read_bytes(), load_study(work.study)
    part = Workspace(on_later())
    evaluator = make_evaluator(part)
    encoding = never_evaluated(part, study)
    found, number = study_with(part, load_costs(part), encoding, evaluator=evaluator)
    assert work.study.read_bytes() == before
    assert number not in study.numbers
    assert found.trials[-1].encoding.tolist() == encoding.tolist()
    known = Evaluations.of(part).accuracy(part.space.decode(encoding), evaluator)
    assert found.trials[-1].values["accuracy"] == known
    assert found.standard_errors["accuracy"][-1] > 0


def test_a_limit_that_it_misses_is_told_of_this_network(config: Config) -> None:
    study = load_study(Workspace(config).study)
    with pytest.raises(InfeasibleError, match="the network misses a limit when measured"):
        export_network(config.with_limits({"latency_ms": 1e-6}), study.architecture_at(0), console=ReadConsole())


def test_what_is_no_network_of_the_space_is_refused_before_anything_is_loaded(
    config: Config, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr(deploying, "make_evaluator", pytest.fail)
    with pytest.raises(SpaceError, match="says nothing about"):
        export_network(config, {}, console=ReadConsole())


def test_a_run_for_several_devices_asks_which(config: Config, tmp_path: Path) -> None:
    fleet = config.replaced({"device.names": ["fake", "cpu"], "device.name": None})
    with pytest.raises(ConfigError, match="give --device fake or cpu"):
        fleet.part_for()


@pytest.mark.parametrize(
    ("text", "told"), [("no JSON", "is not JSON"), ("[1]", "is no architecture"), (None, "No such")]
)
def test_a_file_that_is_no_architecture_is_refused(config: Config, tmp_path: Path, text: str | None, told: str) -> None:
    path = tmp_path / "network.json"
    if text is not None:
        path.write_text(text)
    ended = CliRunner().invoke(app, ["export", config.output.folder, "--architecture", str(path)])
    assert (ended.exit_code, told in ended.stderr) == (2, True)
