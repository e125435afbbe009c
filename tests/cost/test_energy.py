"""Energy models: from a meter's entries, from a stated power, and from nothing."""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from dataclasses import replace

import numpy as np
import pytest

from hwnas.cost.correction import Correction
from hwnas.cost.energy import EnergyModel, energy_model, no_energy_error, without_energy
from hwnas.cost.model import SlotCost
from hwnas.cost.slots import SlotBlocks
from hwnas.cost.table import NetworkEntry
from hwnas.errors import ConfigError
from hwnas.limits import Limit
from hwnas.types import Block, Device, Statistic
from tests.cost.toy import ToySpace, everything

SPACE = ToySpace()
BLOCKS = SlotBlocks.of(SPACE)
DEVICE = Device(name="board", runtime="fake", meter="rapl")
TRUE_MJ = {b.key: 0.001 * (1 + i % 7) * (0.5 if b.precision == "int8" else 1.0) for i, b in enumerate(BLOCKS.blocks)}
ANCHOR_MJ = {"fp32": 2.0, "int8": 1.0}


def true_energy(keys: Sequence[str]) -> float:
    return sum(TRUE_MJ[k] for k in keys)


def statistic(costs: Mapping[str, float]) -> Statistic:
    return Statistic(minimum=1.0, median=1.0, p90=1.0, n=9, cv=0.0, costs=dict(costs))


def all_networks() -> list[tuple[str, ...]]:
    encodings = np.unique(SPACE.canonical(everything(SPACE)), axis=0)
    return [tuple(b.key for _, b in SPACE.named_blocks(e)) for e in encodings]


def anchor_of(keys: Sequence[str]) -> float:
    kinds = {Block.from_key(k).precision for k in keys if not k.startswith(("quantize", "dequantize"))}
    return ANCHOR_MJ["int8" if kinds == {"int8"} else "fp32"]


def measured_networks(n: int = 30, *, warmth: float = 0.0, **extra: float) -> list[NetworkEntry]:
    """Networks measured while the chip was warmer by up to that share, with the anchor's energy beside each."""
    rng = np.random.default_rng(0)
    chosen = rng.permutation(len(networks := all_networks()))[:n]
    entries = []
    for i in chosen:
        factor = 1 + warmth * rng.random()
        costs = {
            "energy_mj": factor * true_energy(networks[i]),
            "energy_reference_mj": factor * anchor_of(networks[i]),
        }
        entries.append(NetworkEntry(blocks=networks[i], statistic=statistic({**costs, **extra}), size_bytes=1))
    return entries


def measured_blocks(*, warmth: float = 0.0) -> dict[str, dict[str, float]]:
    rng = np.random.default_rng(1)
    entries = {}
    for block in BLOCKS.blocks:
        factor = 1 + warmth * rng.random()
        anchor_mj = factor * ANCHOR_MJ[block.precision]
        entries[block.key] = {"energy_mj": factor * TRUE_MJ[block.key], "energy_reference_mj": anchor_mj}
    return entries


def latency() -> SlotCost:
    return SlotCost(
        metric="latency_ms", table=BLOCKS.table(lambda b: 0.1 * b.out_shape[1], offset=0.3), upper_ratio=1.25
    )


def model(
    entries: Mapping[str, Mapping[str, float]],
    networks: Sequence[NetworkEntry] = (),
    device: Device = DEVICE,
    seed: int = 0,
) -> EnergyModel | None:
    return energy_model(
        BLOCKS, latency=latency(), entries=entries, networks=networks, device=device, seed=seed, confidence=0.9
    )


def errors(found: EnergyModel) -> np.ndarray:
    """Relative errors over the whole space."""
    encodings = everything(SPACE)
    truth = np.array([true_energy([b.key for _, b in SPACE.named_blocks(e)]) for e in SPACE.canonical(encodings)])
    return found.cost.estimate(encodings).value / truth - 1


# ---------------------------------------------------------------- measured


def test_measured_energies_add_up_to_those_of_networks() -> None:
    found = model(measured_blocks(), measured_networks())
    assert found is not None
    assert not found.estimated
    assert found.source.startswith("measured with meter 'rapl'")
    assert found.cost.metric == "energy_mj"
    assert np.abs(errors(found)).max() < 0.02


def test_a_chip_that_was_warm_now_and_then_is_corrected_by_its_anchor() -> None:
    entries, networks = measured_blocks(warmth=0.5), measured_networks(warmth=0.5)
    raw_entries = {key: {"energy_mj": costs["energy_mj"]} for key, costs in entries.items()}
    raw_networks = [replace(n, statistic=statistic({"energy_mj": n.statistic.costs["energy_mj"]})) for n in networks]
    corrected, raw = model(entries, networks), model(raw_entries, raw_networks)
    assert corrected is not None
    assert raw is not None
    whole = SPACE.canonical(everything(SPACE))
    for precision in (0, 1):
        pure = (whole[:, 3] == precision) & ((whole[:, 1] == 0) | (whole[:, 5] == precision))
        spread = [np.ptp(1 + errors(m)[pure]) for m in (corrected, raw)]
        assert spread[0] < 0.03
        assert spread[1] > 0.15


def test_integers_and_floats_measured_in_two_states_of_the_chip_are_brought_to_one() -> None:
    """As if the integers' table, its anchor too, had been measured on a chip that draws a fifth more."""
    entries = {key: dict(costs) for key, costs in measured_blocks().items()}
    for block in BLOCKS.blocks:
        if block.precision == "int8":
            entries[block.key] = {name: 1.2 * mj for name, mj in entries[block.key].items()}
    networks = [
        replace(n, statistic=statistic({name: 1.2 * mj for name, mj in n.statistic.costs.items()}))
        if anchor_of(n.blocks) == ANCHOR_MJ["int8"]
        else n
        for n in measured_networks()
    ]
    found = model(entries, networks)
    assert found is not None
    assert np.abs(errors(found)).max() < 0.03
    today = {"energy_mj": 0.5, "energy_reference_mj": ANCHOR_MJ["int8"]}
    assert found.comparable(today, "int8") == pytest.approx(0.5, rel=0.03)


def test_a_measurement_of_today_is_compared_in_the_table_s_state() -> None:
    found = model(measured_blocks(), measured_networks())
    assert found is not None
    warm = {"energy_mj": 1.3 * 0.5, "energy_reference_mj": 1.3 * ANCHOR_MJ["int8"]}
    assert found.comparable(warm, "int8") == pytest.approx(0.5)
    mixed = {"energy_mj": 1.3 * 0.5, "energy_reference_mj": 1.3 * ANCHOR_MJ["fp32"]}
    assert found.comparable(mixed, "mixed") == pytest.approx(0.5)
    assert found.comparable({"energy_mj": 0.5}, "int8") == 0.5


def test_upper_bounds_hold_for_networks_not_fitted() -> None:
    networks = measured_networks(len(all_networks()))
    found = model(measured_blocks(), networks[:40])
    assert found is not None
    assert found.cost.upper_ratio >= 1
    assert isinstance(found.correction, Correction)


def test_one_block_without_an_energy_is_told_and_found() -> None:
    entries = measured_blocks()
    unlucky = BLOCKS.blocks[3].key
    entries[unlucky] = {"memory_bytes": 7.0}
    assert model(entries, measured_networks()) is None
    stated = model(entries, measured_networks(), replace(DEVICE, power_w=3.0))
    assert stated is not None
    assert stated.estimated
    assert f"1 of {len(entries)} blocks were measured without it" in stated.source
    assert without_energy(list(entries), entries) == (unlucky,)


def test_networks_within_the_noise_do_not_correct() -> None:
    noisy = measured_networks(30, energy_within_noise=1.0)
    found = model(measured_blocks(), noisy, replace(DEVICE, power_w=3.0))
    assert found is not None
    assert "0 of 30 whole networks clearly" in found.source
    assert model(measured_blocks(), noisy) is None


def test_a_meter_that_sees_only_noise_makes_no_model() -> None:
    entries = {key: {**costs, "energy_within_noise": 1.0} for key, costs in measured_blocks().items()}
    found = model(entries, measured_networks(), replace(DEVICE, power_w=3.0))
    assert found is not None
    assert f"{len(entries)} of {len(entries)} blocks were within its noise" in found.source


def test_some_blocks_within_the_noise_are_told() -> None:
    entries = measured_blocks()
    entries[BLOCKS.blocks[0].key]["energy_within_noise"] = 1.0
    found = model(entries, measured_networks())
    assert found is not None
    assert f"1 of {len(entries)} blocks within the meter's noise" in found.source


# ---------------------------------------------------------------- estimated, and nothing


@pytest.mark.parametrize(("idle_w", "watts"), [(None, 4.0), (0.0, 4.0), (1.5, 2.5)])
def test_without_a_meter_energy_is_stated_power_times_latency_and_called_estimated(
    idle_w: float | None, watts: float
) -> None:
    found = model({}, device=Device(name="board", runtime="fake", power_w=4.0, idle_w=idle_w))
    assert found is not None
    assert found.estimated
    assert found.source.startswith(f"estimated: {watts:g} W")
    encodings = everything(SPACE)
    times, energies = latency().estimate(encodings), found.cost.estimate(encodings)
    np.testing.assert_allclose(energies.value, watts * times.value)
    np.testing.assert_allclose(energies.upper, watts * times.upper)


def test_an_idle_power_above_the_power_is_refused() -> None:
    with pytest.raises(ConfigError, match=r"idle_w \(5\) must be below power_w \(4\)"):
        model({}, device=Device(name="board", runtime="fake", power_w=4.0, idle_w=5.0))


def test_with_neither_there_is_no_model_and_a_limit_says_what_to_do() -> None:
    device = Device(name="board", runtime="fake")
    assert model({}, device=device) is None
    assert "energy_mj <= 3" in str(no_energy_error(device, Limit(metric="energy_mj", value=3.0)))
    assert "power_w" in str(no_energy_error(device))


def test_tables_from_before_the_meter_are_estimated_where_a_power_is_stated() -> None:
    found = model(
        {"a block": {"memory_bytes": 1.0}}, device=Device(name="b", runtime="fake", meter="rapl", power_w=2.0)
    )
    assert found is not None
    assert found.estimated


def test_tables_from_before_the_meter_are_named_as_the_reason() -> None:
    assert model({}) is None
    assert "measured before it had one" in str(no_energy_error(DEVICE))
    assert "'rapl'" in str(no_energy_error(DEVICE, Limit(metric="energy_mj", value=3.0)))
