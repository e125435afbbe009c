"""The largest network within limits: what is found, what it needs, and what is told."""

from __future__ import annotations

import dataclasses
import json
import shutil
from pathlib import Path

import numpy as np
import pytest
from typer.testing import CliRunner

from hwnas import pipeline
from hwnas._arguments import read_architecture
from hwnas.cli import app
from hwnas.config import Config
from hwnas.cost import Objective, entropy, feasible_encodings
from hwnas.errors import ConfigError, InfeasibleError, TableError, UnknownNameError
from hwnas.limits import as_limits
from hwnas.pipeline import MostResult
from hwnas.pipeline import most as most_module
from hwnas.pipeline.costs import load_costs
from hwnas.types import Block, FloatArray, IntArray
from hwnas.workspace import Workspace
from tests.runs import ReadConsole


def most(config: Config, of: str = "macs") -> MostResult:
    return pipeline.most_within(config, most=of, console=ReadConsole())


def entropies(objective: Objective, encodings: IntArray) -> FloatArray:
    return np.array([objective.value(e) for e in encodings])


@pytest.fixture
def untrained(config: Config) -> Config:
    """A run of which nothing is left but its device's tables."""
    for path in Path(config.output.folder).iterdir():
        if path.name not in ("config.toml", "latency_tables"):
            shutil.rmtree(path) if path.is_dir() else path.unlink()
    return config


@pytest.mark.parametrize("of", ["macs", "entropy"])
def test_no_network_within_the_limits_has_more_and_none_that_has_as_much_is_faster(
    untrained: Config, of: str, evaluated: list[object]
) -> None:
    result = most(untrained, of)
    work = Workspace(untrained)
    costs = load_costs(work)
    # nearly all of the tiny space
    every = np.unique(work.space.sample(100_000, np.random.default_rng(0)), axis=0)
    within = every[feasible_encodings(every, costs.models, as_limits(dict(result.limits)))]
    has = costs.models["macs"].estimate(within).value
    if of == "entropy":
        has = entropies(entropy(costs.blocks), within)
    assert result.metrics[of] == pytest.approx(has.max(), rel=1e-9)
    as_large = within[has >= has.max() * (1 - 1e-9)]
    assert result.metrics["latency_ms"] == pytest.approx(costs.models["latency_ms"].estimate(as_large).value.min())
    assert result.upper["latency_ms"] <= result.limits["latency_ms"]
    assert result.gap == pytest.approx(0.0, abs=1e-5 * has.max())
    assert not evaluated


@pytest.mark.parametrize("of", ["macs", "entropy"])
def test_where_int8_is_slower_it_is_fp32(config: Config, of: str, monkeypatch: pytest.MonkeyPatch) -> None:
    costs = load_costs(Workspace(config))
    slower = {
        key: value * (3.0 if Block.from_key(key).precision == "int8" else 1.0) for key, value in costs.entries.items()
    }
    monkeypatch.setattr(most_module, "load_costs", lambda work: dataclasses.replace(costs, entries=slower))
    found = most(config.with_limits({"latency_ms": 10.0}), of).architecture  # all networks keep it
    assert {v for k, v in found.items() if k.endswith(".precision")} == {"fp32"}


def test_it_writes_nothing(untrained: Config) -> None:
    before = {p: p.stat().st_mtime_ns for p in Path(untrained.output.folder).rglob("*")}
    most(untrained)
    assert {p: p.stat().st_mtime_ns for p in Path(untrained.output.folder).rglob("*")} == before


def test_a_limit_on_accuracy_is_left_aside_and_told(untrained: Config) -> None:
    told = most(untrained.with_limits({"accuracy": 0.9})).notes
    assert "The limit on accuracy was left aside: nothing was evaluated" in told
    assert "The limit on accuracy was left aside: nothing was evaluated" not in most(untrained).notes


def test_limits_that_nothing_keeps_are_refused(untrained: Config) -> None:
    with pytest.raises(InfeasibleError, match="latency_ms"):
        most(untrained.with_limits({"latency_ms": 1e-6}))


def test_a_device_that_was_not_profiled_says_so(untrained: Config) -> None:
    shutil.rmtree(Path(untrained.output.folder) / "latency_tables")
    with pytest.raises(TableError, match="hwnas profile"):
        most(untrained)


def test_another_quantity_is_refused_with_those_there_are(config: Config) -> None:
    with pytest.raises(UnknownNameError, match="unknown quantity in --most 'speed'; known: accuracy, entropy, macs"):
        most(config, "speed")


def test_a_run_for_several_devices_says_how_to_name_one(config: Config) -> None:
    with pytest.raises(ConfigError, match=r"--exact is for one device; name one of .* with --device"):
        most(config.replaced({"device.names": ["fake", "cpu"], "device.name": None}))


def test_the_command_tells_what_it_has_and_its_choices_as_json(untrained: Config, tmp_path: Path) -> None:
    ended = CliRunner().invoke(app, ["search", untrained.output.folder, "--exact", "--most", "entropy", "--json"])
    assert ended.exit_code == 0
    document = json.loads(ended.stdout)
    result = most(untrained, "entropy")
    assert document["title"] == "The network with the most entropy within the limits"
    (tmp_path / "network.json").write_text(json.dumps(document["architecture"]))
    assert read_architecture(str(tmp_path / "network.json")) == result.architecture  # what `hwnas export` takes
    assert document["metrics"]["entropy"] == result.metrics["entropy"]
    rows = dict(result.shown.rows)
    assert rows["entropy"] == f"{result.metrics['entropy']:,.2f}"
    assert rows["no other has more entropy by more than"] == f"{result.gap:.2g}"


def test_most_without_exact_is_refused(config: Config) -> None:
    ended = CliRunner().invoke(app, ["search", config.output.folder, "--most", "macs"])
    assert ended.exit_code == 2
    assert "give --exact too" in ended.stderr
