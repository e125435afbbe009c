"""The energy of one run, on a meter and sessions that are simulated: every number is known beforehand."""

from collections.abc import Mapping
from dataclasses import replace
from pathlib import Path

import numpy as np
import pytest

from hwnas.errors import ConfigError, MeasurementError, UnknownNameError
from hwnas.measure.client import Worker
from hwnas.measure.energy import (
    EnergySettings,
    MeterInfo,
    RunEnergy,
    check_meter_options,
    energy_limit_s,
    measure_energies,
    open_meter,
)
from hwnas.measure.timing import TimingSettings
from hwnas.testing.fake import FakeRuntime, fake_device
from hwnas.testing.meter import FakeMeter
from hwnas.testing.simulation import simulated_cost_ns, simulated_energy_mj
from hwnas.types import Artefact, Device, MeasurementFailure, Option, Statistic
from tests.measure.onnx_models import write_model

STILL: Mapping[str, Option] = {"noise": 0.0, "drift": 0.0}
QUICK = TimingSettings(rounds=3, min_rounds=3, timeout_s=20.0)


def models(folder: Path, n: int) -> dict[str, Artefact]:
    return {f"m{i}": write_model(folder / f"m{i}.onnx", size=i + 1) for i in range(n)}


def measured(
    artefacts: Mapping[str, Artefact],
    *,
    anchor: str | None = None,
    idle_w: float | None = None,
    settings: EnergySettings | None = None,
    device: Mapping[str, Option] = STILL,
    **meter: Option,
) -> dict[str, RunEnergy]:
    runtime = FakeRuntime()
    sessions = {key: runtime.load(a, fake_device(options=device)) for key, a in artefacts.items()}
    return measure_energies(
        sessions,
        FakeMeter(meter),
        run_ms={
            key: simulated_cost_ns(a.path) * 1e-6 / float(device.get("speed", 1.0)) for key, a in artefacts.items()
        },
        anchor=anchor,
        idle_w=idle_w,
        rng=np.random.default_rng(0),
        settings=settings,
    )


def test_the_net_energy_is_what_a_run_takes_above_the_idle_level(tmp_path: Path) -> None:
    artefacts = models(tmp_path, 3)
    for key, energy in measured(artefacts, idle_w=None).items():
        assert energy.net_mj == pytest.approx(simulated_energy_mj(artefacts[key].path), rel=0.01)
        assert energy.idle_w == pytest.approx(2.0, rel=1e-3)
        assert not energy.within_noise


def test_the_gross_energy_has_the_idle_level_in_it(tmp_path: Path) -> None:
    artefacts = models(tmp_path, 1)
    energy = measured(artefacts)["m0"]
    idle_mj = 2.0 * simulated_cost_ns(artefacts["m0"].path) * 1e-6
    assert energy.gross_mj == pytest.approx(energy.net_mj + idle_mj, rel=0.01)


def test_a_stated_idle_level_is_subtracted_and_none_is_measured(tmp_path: Path) -> None:
    artefacts = models(tmp_path, 1)
    stated = measured(artefacts, idle_w=0.0)["m0"]
    assert stated.idle_w == 0.0
    assert stated.net_mj == stated.gross_mj


@pytest.mark.parametrize("update_interval_s", [0.001, 0.02, 0.1])
def test_a_meter_of_few_updates_tells_as_much_as_one_of_many(tmp_path: Path, update_interval_s: float) -> None:
    artefacts = models(tmp_path, 2)
    for key, energy in measured(artefacts, update_interval_s=update_interval_s).items():
        assert energy.net_mj == pytest.approx(simulated_energy_mj(artefacts[key].path), rel=0.03)


def test_a_window_is_long_enough_for_the_meter_and_bounded() -> None:
    settings = EnergySettings()

    def info(interval_s: float) -> MeterInfo:
        return MeterInfo(name="m", covers="m", resolution_mj=1.0, update_interval_s=interval_s)

    assert settings.window_s(info(0.001)) == 0.5
    assert settings.window_s(info(0.05)) == 1.0
    assert settings.window_s(info(10.0)) == 2.0


def test_a_run_longer_than_a_window_is_measured_once_and_whole(tmp_path: Path) -> None:
    artefacts = models(tmp_path, 1)
    slow = measured(artefacts, device={**STILL, "speed": 1e-5})["m0"]
    assert 1 <= slow.runs <= 3
    assert slow.gross_mj == pytest.approx(simulated_energy_mj(artefacts["m0"].path) + 2e3 * slow.seconds, rel=0.01)


# ---------------------------------------------------------------- noise


def test_what_is_within_the_noise_is_marked_and_neither_negative_nor_smaller_than_the_truth(tmp_path: Path) -> None:
    artefacts = models(tmp_path, 4)
    found = [(k, e) for seed in range(5) for k, e in measured(artefacts, noise_w=200.0, seed=seed).items()]
    marked = [(k, e) for k, e in found if e.within_noise]
    assert len(marked) >= 18  # of 20: a threshold of three errors is passed by chance now and then
    assert all(e.net_mj > 0 for _, e in found)
    for key, energy in marked:
        assert energy.costs()["energy_within_noise"] == 1.0
        assert energy.net_mj > simulated_energy_mj(artefacts[key].path), key


def test_a_meter_too_coarse_for_the_run_marks_it(tmp_path: Path) -> None:
    energy = measured(models(tmp_path, 1), resolution_mj=1e6)["m0"]
    assert energy.within_noise
    assert energy.net_mj > 0


def test_a_power_sensor_too_coarse_for_the_level_marks_it(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    artefacts = models(tmp_path, 1)
    fine, coarse = (replace(FakeMeter({}).info, step_w=step_w) for step_w in (0.001, 20.0))
    for info, marked in ((fine, False), (coarse, True)):
        monkeypatch.setattr(FakeMeter, "info", info)
        assert measured(artefacts)["m0"].within_noise is marked


def test_a_clear_energy_has_no_mark(tmp_path: Path) -> None:
    costs = measured(models(tmp_path, 1))["m0"].costs()
    assert set(costs) == {"energy_mj", "energy_gross_mj", "energy_idle_w"}


# ---------------------------------------------------------------- the anchor


def test_the_energy_of_the_anchor_stands_beside_each(tmp_path: Path) -> None:
    artefacts = models(tmp_path, 12)
    energies = measured(artefacts, anchor="m5")
    assert "m5" not in energies
    assert len(energies) == 11
    for energy in energies.values():
        assert energy.anchor_mj == pytest.approx(simulated_energy_mj(artefacts["m5"].path), rel=0.01)


def test_an_anchor_within_the_noise_corrects_nothing(tmp_path: Path) -> None:
    energies = measured(models(tmp_path, 4), anchor="m1", noise_w=200.0)
    assert all(energy.anchor_mj is None for energy in energies.values())
    assert "energy_reference_mj" not in energies["m0"].costs()


def test_a_chip_that_becomes_warm_cancels_in_the_ratio_to_the_anchor(tmp_path: Path) -> None:
    artefacts = models(tmp_path, 16)
    anchor = simulated_energy_mj(artefacts["m5"].path)
    energies = measured(artefacts, anchor="m5", heat=0.5, heat_period_s=60.0)
    raw = np.array([e.net_mj / simulated_energy_mj(artefacts[k].path) for k, e in energies.items()])
    corrected = raw * np.array([anchor / (e.anchor_mj or 0.0) for e in energies.values()])
    assert raw.max() / raw.min() > 1.1
    np.testing.assert_allclose(corrected, 1.0, rtol=0.03)


# ---------------------------------------------------------------- through the measuring process


def metered(meter: str = "fake", **meter_options: Option) -> Device:
    device = fake_device(options=STILL)
    return Device(name="fake", runtime="fake", options=device.options, meter=meter, meter_options=meter_options)


def test_a_device_with_a_meter_has_energies_among_its_costs(tmp_path: Path) -> None:
    artefacts, anchor = models(tmp_path, 3), write_model(tmp_path / "reference.onnx", size=6)
    with Worker(metered()) as worker:
        results = worker.measure(artefacts, anchor=anchor, settings=QUICK)
    for key, result in results.items():
        assert isinstance(result, Statistic), result
        assert result.costs["energy_mj"] == pytest.approx(simulated_energy_mj(artefacts[key].path), rel=0.01)
        assert result.costs["energy_reference_mj"] == pytest.approx(simulated_energy_mj(anchor.path), rel=0.01)


def test_what_the_meter_covers_stands_in_the_context() -> None:
    with Worker(metered()) as worker:
        assert worker.context()["meter"] == "fake (simulated device)"


def test_times_are_the_same_with_and_without_a_meter(tmp_path: Path) -> None:
    artefacts = models(tmp_path, 3)
    found = []
    for device in (metered(), fake_device(options=STILL)):
        with Worker(device) as worker:
            results = worker.measure(artefacts, settings=QUICK)
        found.append({k: (r.minimum, r.median, r.n) for k, r in results.items() if isinstance(r, Statistic)})
    assert found[0] == found[1]
    assert len(found[0]) == 3


def test_the_device_s_stated_idle_level_is_subtracted(tmp_path: Path) -> None:
    device = metered()
    stated = Device(name="fake", runtime="fake", options=device.options, meter="fake", idle_w=1.25)
    with Worker(stated) as worker:
        (result,) = worker.measure(models(tmp_path, 1), settings=QUICK).values()
    assert isinstance(result, Statistic)
    assert result.costs["energy_idle_w"] == 1.25


def test_a_meter_that_cannot_be_read_any_more_fails_the_measurement_with_its_reason(tmp_path: Path) -> None:
    with Worker(metered(fail=True)) as worker:
        (result,) = worker.measure(models(tmp_path, 1), settings=QUICK).values()
    assert isinstance(result, MeasurementFailure)
    assert "meter cannot be read" in result.reason


def test_an_unknown_option_of_a_meter_stops_the_process_at_its_start() -> None:
    with Worker(metered(colour="red")) as worker, pytest.raises(ConfigError, match=r"'colour'; known: idle_w"):
        worker.context()


# ---------------------------------------------------------------- configuration


def test_a_device_without_a_meter_has_none() -> None:
    assert open_meter(fake_device()) is None


def test_an_unknown_meter_is_named_with_the_known() -> None:
    with pytest.raises(UnknownNameError, match=r"energy meter 'wattmeter'; known: fake, nvml, rapl, sysfs"):
        open_meter(metered("wattmeter"))


@pytest.mark.parametrize(("value", "fits"), [(1, True), (1.5, True), ("1", False), (True, False)])
def test_an_option_of_another_type_is_refused(value: Option, fits: bool) -> None:
    if fits:
        assert check_meter_options("m", {"a": value}, {"a": 0.5}) == {"a": value}
    else:
        with pytest.raises(ConfigError, match="allowed: a number"):
            check_meter_options("m", {"a": value}, {"a": 0.5})


@pytest.mark.parametrize("changes", [{"updates": 0}, {"min_window_s": 3.0}, {"clear": 0.0}])
def test_settings_that_make_no_sense_are_refused(changes: dict[str, float]) -> None:
    with pytest.raises(ConfigError, match=next(iter(changes))):
        EnergySettings(**changes)  # type: ignore[arg-type]


def test_whoever_waits_knows_for_how_long() -> None:
    assert energy_limit_s(16) > 16 * 2 * EnergySettings().max_window_s


def test_a_meter_that_fails_in_this_process_is_a_measurement_error(tmp_path: Path) -> None:
    with pytest.raises(MeasurementError, match="cannot be read"):
        measured(models(tmp_path, 1), fail=True)
