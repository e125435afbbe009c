"""One network within limits on several devices at once."""

from __future__ import annotations

from dataclasses import dataclass
from pathlib import Path

import numpy as np
import pytest

from hwnas import pipeline
from hwnas.config import Config
from hwnas.deployment import Manifest
from hwnas.errors import ConfigError, InfeasibleError, TableError
from hwnas.pipeline import ExportResult
from hwnas.pipeline.costs import absolute_limits, load_costs, reachable_limits
from hwnas.query import query
from hwnas.search import load_study
from hwnas.testing.run import describe_fake_device, tiny_config
from hwnas.workspace import Workspace
from tests.runs import ONE_PRECISION, ReadConsole


@dataclass(frozen=True)
class Run:
    """A finished run with a limit on another device than its own."""

    config: Config
    board: str
    result: pipeline.RunResult
    most: float

    @property
    def work(self) -> Workspace:
        return Workspace(self.config)


@pytest.fixture(scope="module")
def made(tmp_path_factory: pytest.TempPathFactory) -> Run:
    """Not to be changed."""
    folder = tmp_path_factory.mktemp("others")
    board = describe_fake_device(folder, {"speed": 0.3, "seed": 5}, name="board")
    config = tiny_config(folder / "run", {**ONE_PRECISION, "limits.latency_fraction": None})
    config = config.replaced({"limits.others": {board: {"latency_ms": 1e6}}})
    pipeline.profile(config, console=ReadConsole())
    board_costs = load_costs(Workspace(config)).others["board"]
    low, high = (v * board_costs.latency.upper_ratio for v in board_costs.models["latency_ms"].bounds())
    most = low + 0.5 * (high - low)
    config = config.replaced({"limits.others": {board: {"latency_ms": most}}})
    return Run(config=config, board=board, result=pipeline.run_all(config, console=ReadConsole()), most=most)


def test_every_network_of_the_study_keeps_the_limit_on_the_other_device(made: Run) -> None:
    study = load_study(made.work.study)
    assert len(study)
    assert (study.upper["board.latency_ms"] <= made.most).all()
    assert study.limits == {"board.latency_ms": made.most}
    assert study.sources["board.latency_ms"] == "estimated"


def test_its_costs_are_those_of_its_own_tables(made: Run) -> None:
    study = load_study(made.work.study)
    own = load_costs(Workspace(made.config.beside(made.board, ["fp32"])))
    found = own.models["latency_ms"].estimate(study.encodings.astype(np.int64))
    np.testing.assert_array_equal(study.values["board.latency_ms"], found.value)
    assert (study.values["board.latency_ms"] > study.values["latency_ms"]).all()  # a slower device


def test_the_deployment_says_what_was_promised_there_and_that_it_was_not_measured(made: Run) -> None:
    manifest = Manifest.read(Path(made.result.deployment))
    assert manifest.limits == {"board.latency_ms": made.most}
    # the fake device adds up exactly: its upper bound is the value, and is not told again
    assert manifest.predicted["board.latency_ms"] <= made.most
    assert "board.latency_ms" not in manifest.measured.costs
    shown = ExportResult(deployment=Path(made.result.deployment), manifest=manifest).shown
    assert any("latency on board, not measured" in str(row[0]) for row in shown.rows)
    pipeline.verify(Path(made.result.deployment), console=ReadConsole())


def test_a_finished_study_is_asked_about_both_devices(made: Run) -> None:
    study = load_study(made.work.study)
    limits = {
        "board.latency_ms": float(np.median(study.upper["board.latency_ms"])),
        "latency_ms": float(np.max(study.upper["latency_ms"])),
    }
    for answer in query(study, limits=limits, top=3):
        assert all(answer.upper[m] <= v for m, v in limits.items())


def test_limits_on_two_devices_that_conflict_name_both(made: Run) -> None:
    costs = load_costs(made.work)
    fast, slow = costs.models["board.latency_ms"], costs.models["latency_ms"]
    limits = {
        "latency_ms": {"at_least": slow.bounds()[1] * 0.999},
        "others": {made.board: {"latency_ms": fast.bounds()[0] * fast.upper_ratio * 1.001}},
    }
    config = made.config.replaced({f"limits.{k}": v for k, v in limits.items()})
    with pytest.raises(InfeasibleError, match=r"reachable board.latency_ms is") as caught:
        reachable_limits(Workspace(config), costs)
    assert {x.metric for x in caught.value.conflict} == {"board.latency_ms", "latency_ms"}


def test_a_limit_on_the_runs_own_device_by_name_is_one_of_its_own(made: Run) -> None:
    config = made.config.replaced({"limits.others": {"fake": {"latency_ms": 3.0}}})
    assert absolute_limits(Workspace(config), load_costs(Workspace(config))) == {"latency_ms": 3.0}


def test_a_device_that_was_not_profiled_says_what_does_it(made: Run, tmp_path: Path) -> None:
    other = describe_fake_device(tmp_path, name="elsewhere")
    config = made.config.replaced({"limits.others": {other: {"latency_ms": 3.0}}})
    with pytest.raises(TableError, match=r"limits on elsewhere: .*hwnas profile"):
        load_costs(Workspace(config))


def test_a_device_that_computes_in_other_precisions_is_refused_by_name(made: Run, tmp_path: Path) -> None:
    other = describe_fake_device(tmp_path, name="integers", precisions=["int8"])
    config = made.config.replaced({"limits.others": {other: {"latency_ms": 3.0}}})
    with pytest.raises(ConfigError, match="'integers' computes in int8"):
        load_costs(Workspace(config))
