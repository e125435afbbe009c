"""The pages of a run's deployments."""

from __future__ import annotations

import dataclasses
from pathlib import Path

import numpy as np
import pytest

from hwnas import pipeline
from hwnas.config import Config
from hwnas.deployment import Manifest
from hwnas.errors import ConfigError
from hwnas.pipeline.costs import load_costs
from hwnas.pipeline.reporting import chosen_from, prediction_points
from hwnas.search import load_study, save_study
from hwnas.testing.run import tiny_config
from hwnas.workspace import Workspace
from tests.runs import FinishedRun, ReadConsole


def test_the_page_lies_in_the_deployment_and_beside_the_configuration(finished: FinishedRun) -> None:
    page = (finished.deployment / "report.html").read_bytes()
    assert page.startswith(b"<!doctype html>") or page.startswith(b"<!DOCTYPE html>")
    assert (finished.folder / "report.html").read_bytes() == page


def test_pages_are_written_again(config: Config) -> None:
    folder = Path(config.output.folder)
    (page,) = folder.glob("deployments/*/report.html")
    page.unlink()
    (folder / "report.html").unlink()
    result = pipeline.report(config, console=ReadConsole())
    assert result.files == {page.parent.name: page}
    assert page.read_bytes() == (folder / "report.html").read_bytes()


def test_after_another_search_the_page_still_shows_the_study_its_network_was_chosen_from(config: Config) -> None:
    folder = Path(config.output.folder)
    (page,) = folder.glob("deployments/*/report.html")
    before = page.read_bytes()
    study = load_study(Workspace(config).study)
    limit = float(np.median(study.upper["latency_ms"]))
    other = config.with_limits({"latency_ms": limit}).replaced({"search.n_trials": 2})
    pipeline.search(other, console=ReadConsole())
    assert load_study(Workspace(config).study).name != study.name
    pipeline.report(config, console=ReadConsole())
    assert page.read_bytes() == before


def test_a_page_whose_study_is_gone_stays_as_it_was_and_that_is_told(config: Config) -> None:
    work = Workspace(config)
    (page,) = work.folder.glob("deployments/*/report.html")
    before = page.read_bytes()
    study = load_study(work.study)
    work.study_called(study.name).unlink()
    other = dataclasses.replace(study, name="search-of-another")
    save_study(other, work.study)
    result = pipeline.report(config, console=ReadConsole())
    assert page.read_bytes() == before
    assert "the study its network was chosen from is gone" in result.shown.notes[0]


def test_an_older_manifest_names_no_study_and_is_believed_if_its_architecture_is_that_of_the_trial(
    config: Config, finished: FinishedRun
) -> None:
    work, manifest = Workspace(config), Manifest.read(finished.deployment)
    older = {k: v for k, v in manifest.provenance.items() if k != "study"}
    study = load_study(work.study)
    assert chosen_from(work, manifest.model_copy(update={"provenance": older}), newest=study) is study
    other = {**older, "trial": next(int(n) for n in study.numbers if n != older["trial"])}
    assert chosen_from(work, manifest.model_copy(update={"provenance": other}), newest=study) is None


def test_without_a_deployment_the_command_that_makes_one_is_named(tmp_path: Path) -> None:
    with pytest.raises(ConfigError, match="hwnas export"):
        pipeline.report(tiny_config(tmp_path), console=ReadConsole())


def test_every_measured_network_is_a_point_and_the_held_out_ones_are_marked(config: Config) -> None:
    work = Workspace(config)
    costs = load_costs(work)
    points = prediction_points(costs, seed=config.search.seed, confidence=config.profile.confidence)
    assert len(points) == len(costs.networks)
    assert {p.precision for p in points} == {"fp32", "int8", "mixed"}
    held_out = [p for p in points if p.held_out]
    assert len(held_out) == costs.latency.quality.n
    errors = [100 * abs(p.predicted_ms / p.measured_ms - 1) for p in held_out]
    assert np.isfinite(errors).all()
