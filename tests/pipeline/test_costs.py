"""Cost models of a run, made from its tables."""

from __future__ import annotations

import dataclasses
from pathlib import Path

import numpy as np
import pytest

from hwnas import pipeline
from hwnas.appending import append_sealed, read_sealed
from hwnas.config import Config
from hwnas.cost.table import LatencyTable
from hwnas.errors import ConfigError, InfeasibleError, TableError
from hwnas.pipeline._last_used import FILE as LAST_USED
from hwnas.pipeline.costs import (
    Costs,
    absolute_limits,
    largest_network,
    load_costs,
    precision_of,
    reachable_limits,
    table_path,
)
from hwnas.testing.run import tiny_config
from hwnas.types import Block
from hwnas.workspace import Workspace
from tests.runs import ONE_PRECISION, ReadConsole


def with_limits(config: Config, **limits: float) -> Workspace:
    return Workspace(config.with_limits(limits))


def test_every_metric_a_limit_may_name_has_a_model(config: Config) -> None:
    models = load_costs(Workspace(config)).models
    assert set(models) == {"latency_ms", "size_bytes", "macs", "parameters", "peak_memory_bytes"}


def test_without_tables_the_command_that_makes_them_is_named(tmp_path: Path) -> None:
    with pytest.raises(TableError, match=r"does not exist; measure this device with `hwnas profile`"):
        load_costs(Workspace(tiny_config(tmp_path)))


def test_a_profile_that_stopped_before_the_networks_says_how_to_go_on(config: Config) -> None:
    work = Workspace(config)
    for precision in ("fp32", "int8", "mixed"):
        path = table_path(work, precision)
        head, *rest = read_sealed(path)
        path.unlink()
        append_sealed(path, [values for values in rest if values["kind"] != "network"], first=head)
    (work.folder / LAST_USED).unlink()  # a profile that was stopped does not write it
    with pytest.raises(TableError, match=r"hold 0 whole networks.*measure more with `hwnas profile`"):
        load_costs(work)


def test_a_network_that_was_measured_again_counts_once_and_as_the_last(config: Config) -> None:
    work = Workspace(config)
    table = LatencyTable.open(table_path(work, "fp32"))
    first = load_costs(work)
    entry = table.networks[0]
    table.append_network(entry.blocks, entry.statistic, size_bytes=entry.size_bytes + 1)
    second = load_costs(work)
    assert len(second.networks) == len(first.networks)
    assert [n.size_bytes for n in second.networks if n.blocks == entry.blocks] == [entry.size_bytes + 1]


def test_estimates_of_measured_networks_are_near(config: Config) -> None:
    costs = load_costs(Workspace(config))
    predicted = np.array([costs.latency.predict(n.blocks, costs.entries) for n in costs.networks])
    measured = np.array([n.statistic.minimum for n in costs.networks])
    assert np.abs(predicted / measured - 1).max() < 0.1


def test_a_fraction_becomes_milliseconds(config: Config) -> None:
    work = with_limits(config, latency_fraction=0.25, size_bytes=3e5)
    costs = load_costs(work)
    assert absolute_limits(work, costs) == {"latency_ms": 0.25 * costs.largest_ms, "size_bytes": 3e5}


def test_limits_that_can_be_kept_come_with_a_network_that_keeps_them(config: Config) -> None:
    work = with_limits(config, latency_fraction=0.9, macs=1e6)
    costs = load_costs(work)
    limits, fitting = reachable_limits(work, costs)
    assert fitting is not None
    for metric, limit in limits.items():
        assert costs.models[metric].estimate(fitting[None]).upper[0] <= limit


@pytest.mark.parametrize("metric", ["latency_ms", "size_bytes", "macs", "parameters", "peak_memory_bytes"])
def test_the_smallest_value_that_an_error_names_can_be_kept(metric: str, config: Config) -> None:
    work = with_limits(config, **{metric: 1e-6})
    costs = load_costs(work)
    with pytest.raises(InfeasibleError) as caught:
        reachable_limits(work, costs)
    assert caught.value.metric == metric
    assert caught.value.architecture is not None
    assert caught.value.reachable is not None
    reachable_limits(with_limits(config, **{metric: caught.value.reachable * (1 + 1e-9)}), costs)


def test_a_fraction_that_cannot_be_kept_is_told_as_one_that_can(config: Config) -> None:
    work = with_limits(config, latency_fraction=1e-6)
    costs = load_costs(work)
    with pytest.raises(InfeasibleError, match="as latency_fraction") as caught:
        reachable_limits(work, costs)
    told = float(str(caught.value).rsplit(" ", 1)[1])
    _, fitting = reachable_limits(with_limits(config, latency_fraction=told), costs)
    assert fitting is not None


def test_on_a_device_without_fp32_fractions_are_of_the_largest_int8_network(config: Config, tmp_path: Path) -> None:
    device = tmp_path / "integers.toml"
    device.write_text('schema = 1\nruntime = "fake"\nprecisions = ["int8"]\n[options]\nnoise = 0.01\n')
    values = {"device.name": str(device), "space.precisions": ["int8"], "output.folder": str(tmp_path / "run")}
    work = with_limits(config.replaced(values), latency_fraction=0.5)
    pipeline.profile(work.config, console=ReadConsole())
    assert {p.name for p in work.tables.glob("*.jsonl")} == {"fake-int8.jsonl"}
    costs = load_costs(work)
    largest = next(n for n in costs.networks if n.blocks == largest_network(work))
    assert absolute_limits(work, costs) == {"latency_ms": 0.5 * largest.statistic.minimum}


def limited(costs: Costs, size_bytes: float) -> Costs:
    return dataclasses.replace(costs, device=dataclasses.replace(costs.device, limits={"size_bytes": size_bytes}))


def test_a_devices_own_limit_holds_whatever_a_run_asks_for(config: Config) -> None:
    work = with_limits(config, size_bytes=3e5)
    costs = load_costs(work)
    assert absolute_limits(work, limited(costs, 1e5)) == {"size_bytes": 1e5}
    assert absolute_limits(work, limited(costs, 9e5)) == {"size_bytes": 3e5}


def test_a_limit_on_what_nothing_tells_names_what_is_known(config: Config) -> None:
    work = with_limits(config, memory_bytes=1e5)
    with pytest.raises(ConfigError, match=r"nothing tells memory_bytes.*latency_ms"):
        absolute_limits(work, load_costs(work))


def test_quantize_and_dequantize_do_not_make_a_network_mixed(config: Config) -> None:
    space = Workspace(config).space.restrict(precisions=("int8",))
    blocks = [b for _, b in space.named_blocks(space.largest())]
    assert {b.kind for b in blocks} >= {"quantize", "dequantize"}
    assert precision_of(blocks) == "int8"


def test_a_missing_mixed_table_is_no_error(config: Config) -> None:
    work = Workspace(config)
    table_path(work, "mixed").unlink()
    (work.folder / LAST_USED).unlink()
    networks = [[Block.from_key(k) for k in n.blocks] for n in load_costs(work).networks]
    assert {precision_of(n) for n in networks} == {"fp32", "int8"}


# ---------------------------------------------------------------- energy


def powered(config: Config, folder: Path, text: str) -> Config:
    """The run on the same simulated device with a section more in its description."""
    work = Workspace(config)
    options = "\n".join(f"{k} = {v}" for k, v in work.device.options.items())
    device = folder / f"{work.device.name}.toml"
    device.write_text(f'schema = 1\nruntime = "fake"\n[options]\n{options}\n{text}')
    return config.replaced({"device.name": str(device)})


def test_a_stated_power_makes_an_estimate_of_energy(config: Config, tmp_path: Path) -> None:
    costs = load_costs(Workspace(powered(config, tmp_path, "[energy]\npower_w = 4.0\nidle_w = 1.5\n")))
    assert costs.energy is not None
    assert costs.energy.estimated
    encodings = Workspace(config).space.sample(20, np.random.default_rng(0))
    expected = 2.5 * costs.models["latency_ms"].estimate(encodings).upper
    np.testing.assert_allclose(costs.models["energy_mj"].estimate(encodings).upper, expected)


def test_an_energy_limit_without_meter_or_power_is_an_error_that_says_what_to_do(config: Config) -> None:
    work = with_limits(config, energy_mj=1.0)
    with pytest.raises(ConfigError, match=r"neither a meter nor a stated power"):
        absolute_limits(work, load_costs(work))


def test_a_device_that_got_a_meter_is_profiled_again_and_its_energies_hold_limits(
    config: Config, tmp_path: Path
) -> None:
    metered = powered(config.replaced(ONE_PRECISION), tmp_path, '[energy]\nmeter = "fake"\n')
    with pytest.raises(ConfigError, match="measured before it had one"):
        absolute_limits(with_limits(metered, energy_mj=1.0), load_costs(Workspace(metered)))
    pipeline.profile(metered, console=ReadConsole())
    costs = load_costs(Workspace(metered))
    assert costs.energy is not None
    assert not costs.energy.estimated
    low, high = costs.models["energy_mj"].bounds()
    assert 0 < low < high
    work = with_limits(metered, energy_mj=0.5 * (low + high))
    _, fitting = reachable_limits(work, costs)
    assert fitting is not None
