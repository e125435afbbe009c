"""End to end on the fake device: a table profiled with a meter has energies whose sums are those of networks."""

from __future__ import annotations

import numpy as np
import pytest

from hwnas import pipeline
from hwnas.cost.energy import METRIC
from hwnas.cost.table import LatencyTable
from hwnas.pipeline.costs import load_costs, table_path
from hwnas.testing.run import tiny_config
from hwnas.workspace import Workspace
from tests.runs import ReadConsole

METERED = """schema = 1
runtime = "fake"

[energy]
meter = "fake"

[energy.options]
heat = 0.3
heat_period_s = 20.0
update_interval_s = 0.05
"""


@pytest.fixture(scope="module")
def work(tmp_path_factory: pytest.TempPathFactory) -> Workspace:
    """A profile with a coarse meter on a device that becomes warm and cool again."""
    folder = tmp_path_factory.mktemp("metered")
    (folder / "board.toml").write_text(METERED)
    changes = {"device.name": str(folder / "board.toml"), "profile.n_networks": 8, "space.resolutions": [8]}
    config = tiny_config(folder / "run", changes)
    pipeline.profile(config, console=ReadConsole())
    return Workspace(config)


def test_every_entry_has_an_energy_and_how_it_came_about(work: Workspace) -> None:
    table = LatencyTable.open(table_path(work, "int8"))
    assert table.statistics
    for statistic in table.statistics.values():
        assert {METRIC, "energy_gross_mj", "energy_idle_w", "energy_reference_mj"} <= set(statistic.costs)
        assert 0 < statistic.costs[METRIC] < statistic.costs["energy_gross_mj"]
        assert statistic.costs["energy_idle_w"] == pytest.approx(2.0, rel=0.01)


def test_sums_of_blocks_predict_the_energies_of_networks(work: Workspace) -> None:
    costs = load_costs(work)
    assert costs.energy is not None
    assert costs.energy.correction is not None
    assert costs.energy.correction.quality.mean_abs_error_percent < 5.0


def test_a_prediction_bounds_what_is_measured(work: Workspace) -> None:
    costs = load_costs(work)
    low, high = costs.models[METRIC].bounds()
    assert 0 < low < high
    measured = np.array([n.statistic.costs[METRIC] for n in costs.networks])
    assert low / 1.5 < measured.min()
    assert measured.max() < 1.5 * high


def test_int8_takes_less_energy_as_the_device_is_made(work: Workspace) -> None:
    def total(precision: str) -> float:
        table = LatencyTable.open(table_path(work, precision))
        return sum(s.costs[METRIC] for key, s in table.statistics.items() if "mbconv" in key)

    assert total("int8") < total("fp32")
