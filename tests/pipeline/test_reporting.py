"""The pages of a run's deployments."""

from __future__ import annotations

from pathlib import Path

import numpy as np
import pytest

from hwnas import pipeline
from hwnas.config import Config
from hwnas.errors import ConfigError
from hwnas.pipeline.costs import load_costs
from hwnas.pipeline.reporting import prediction_points
from hwnas.pipeline.workspace import Workspace
from hwnas.testing.run import tiny_config
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
    assert result["rows"] == [(page.parent.name, str(page))]
    assert page.read_bytes() == (folder / "report.html").read_bytes()


def test_without_a_deployment_the_command_that_makes_one_is_named(tmp_path: Path) -> None:
    with pytest.raises(ConfigError, match="hwnas export"):
        pipeline.report(tiny_config(tmp_path), console=ReadConsole())


def test_every_measured_network_is_a_point_and_the_held_out_ones_are_marked(config: Config) -> None:
    work = Workspace(config)
    costs = load_costs(work)
    points = prediction_points(work, costs)
    assert len(points) == len(costs.networks)
    assert {p.precision for p in points} == {"fp32", "int8", "mixed"}
    held_out = [p for p in points if p.held_out]
    assert len(held_out) == costs.latency.quality.n
    errors = [100 * abs(p.predicted_ms / p.measured_ms - 1) for p in held_out]
    assert np.isfinite(errors).all()
