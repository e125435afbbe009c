"""Energy meters on recorded trees of /sys and a made-up NVML: no hardware is needed, and none is measured."""

from __future__ import annotations

import os
import sys
import time
from collections.abc import Callable, Mapping
from pathlib import Path
from types import SimpleNamespace
from typing import Any, cast

import numpy as np
import pytest

from hwnas.devices.meters import found_meters
from hwnas.devices.meters._sampling import PowerSampler
from hwnas.devices.meters.nvml import NvmlMeter
from hwnas.devices.meters.rapl import RaplMeter, zones_in
from hwnas.devices.meters.sysfs import SysfsMeter, rails_in
from hwnas.errors import ConfigError, MeasurementError, MissingPackageError
from hwnas.measure.energy import EnergySettings, Meter, measure_energies
from hwnas.testing.fake import SimulatedMachine
from hwnas.testing.meter import FakeMeter
from hwnas.testing.meter_suite import MeterSuite
from hwnas.types import Option, Session


class Clock:
    """Seconds that pass when somebody waits."""

    def __init__(self) -> None:
        self.now_s = 100.0

    def __call__(self) -> float:
        return self.now_s

    def sleep(self, seconds: float) -> None:
        self.now_s += seconds


def write_tree(root: Path, files: Mapping[str, object]) -> Path:
    for name, value in files.items():
        path = root / name
        path.parent.mkdir(parents=True, exist_ok=True)
        path.write_text(f"{value}\n")
    return root


# ---------------------------------------------------------------- RAPL

RANGE_UJ = 262_143_328_850
SERVER = {  # two sockets; as `ls /sys/class/powercap` shows them, side by side
    "intel-rapl/enabled": 1,
    "intel-rapl:0/name": "package-0",
    "intel-rapl:0/energy_uj": 1_000_000,
    "intel-rapl:0/max_energy_range_uj": RANGE_UJ,
    "intel-rapl:0:0/name": "core",
    "intel-rapl:0:0/energy_uj": 500_000,
    "intel-rapl:0:0/max_energy_range_uj": RANGE_UJ,
    "intel-rapl:0:1/name": "dram",
    "intel-rapl:0:1/energy_uj": 300_000,
    "intel-rapl:0:1/max_energy_range_uj": 65_712_999_613,
    "intel-rapl:1/name": "package-1",
    "intel-rapl:1/energy_uj": 2_000_000,
    "intel-rapl:1/max_energy_range_uj": RANGE_UJ,
    "intel-rapl-mmio:0/name": "package-0",
    "intel-rapl-mmio:0/energy_uj": 1_000_000,
    "intel-rapl-mmio:0/max_energy_range_uj": RANGE_UJ,
}


def rapl(folder: Path, **options: Option) -> RaplMeter:
    clock = Clock()
    return RaplMeter(options, folder=folder, clock=clock, sleep=clock.sleep)


class TestRapl(MeterSuite):
    name = "rapl"

    def meter(self, folder: Path) -> Meter:
        self.counter = write_tree(folder, SERVER) / "intel-rapl:0/energy_uj"
        return rapl(folder)

    def spend(self, meter: Meter, seconds: float) -> None:
        meter.wait(seconds)
        self.counter.write_text(str(int(self.counter.read_text()) + int(20e6 * seconds)))


def test_rapl_names_packages_and_their_parts(tmp_path: Path) -> None:
    names = list(zones_in(write_tree(tmp_path, SERVER)))
    assert names == ["package-0", "package-0/core", "package-0/dram", "package-1"]


def test_rapl_counts_all_packages_unless_told_otherwise(tmp_path: Path) -> None:
    meter = rapl(write_tree(tmp_path, SERVER))
    write_tree(tmp_path, {"intel-rapl:0/energy_uj": 1_005_000, "intel-rapl:1/energy_uj": 2_007_000})
    assert meter.read().energy_mj == pytest.approx(12.0)
    assert "package-0, package-1" in meter.info.covers


def test_rapl_goes_on_where_a_counter_begins_again_at_zero(tmp_path: Path) -> None:
    write_tree(tmp_path, {**SERVER, "intel-rapl:0/energy_uj": RANGE_UJ - 1000})
    with rapl(tmp_path, zones="package-0") as meter:
        before = meter.read().energy_mj
        write_tree(tmp_path, {"intel-rapl:0/energy_uj": 4000})
        assert meter.read().energy_mj - before == pytest.approx(5.0)


def test_rapl_does_not_count_what_passed_before_it_was_entered(tmp_path: Path) -> None:
    meter = rapl(write_tree(tmp_path, SERVER))
    before = meter.read().energy_mj
    write_tree(tmp_path, {"intel-rapl:0/energy_uj": 5})  # it may have gone round many times
    with meter:
        assert meter.read().energy_mj == before


def test_rapl_adds_memory_where_asked(tmp_path: Path) -> None:
    meter = rapl(write_tree(tmp_path, SERVER), zones="package-0, package-0/dram")
    write_tree(tmp_path, {"intel-rapl:0/energy_uj": 1_001_000, "intel-rapl:0:1/energy_uj": 302_000})
    assert meter.read().energy_mj == pytest.approx(3.0)


@pytest.mark.parametrize(
    ("zones", "words"),
    [("package-7", "there are: package-0"), ("package-0, package-0/core", "counted in 'package-0' too")],
)
def test_rapl_refuses_zones_that_are_not_there_or_count_twice(tmp_path: Path, zones: str, words: str) -> None:
    with pytest.raises(ConfigError, match=words):
        rapl(write_tree(tmp_path, SERVER), zones=zones)


def test_rapl_without_counters_says_why_and_what_else_there_is(tmp_path: Path) -> None:
    with pytest.raises(MeasurementError, match=r"no RAPL counters in .*power_w"):
        rapl(tmp_path)


def test_rapl_that_only_root_may_read_says_how_to_allow_it(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    write_tree(tmp_path, SERVER)
    read_text = Path.read_text

    def refusing(path: Path, *args: Any, **kwargs: Any) -> str:
        if path.name == "energy_uj":
            raise PermissionError(13, "Permission denied")
        return read_text(path, *args, **kwargs)

    monkeypatch.setattr(Path, "read_text", refusing)  # a test run by root could read any file
    with pytest.raises(MeasurementError, match=r"CVE-2020-8694.*chmod a\+r"):
        rapl(tmp_path)


# ---------------------------------------------------------------- sysfs

ORIN_NX = {  # Linux 5.10 and later: one INA3221, three rails and their sums
    "class/hwmon/hwmon1/name": "ina3221",
    "class/hwmon/hwmon1/update_interval": 5,
    "class/hwmon/hwmon1/in1_label": "VDD_IN",
    "class/hwmon/hwmon1/in1_input": 5000,
    "class/hwmon/hwmon1/curr1_input": 1200,
    "class/hwmon/hwmon1/in2_label": "VDD_CPU_GPU_CV",
    "class/hwmon/hwmon1/in2_input": 5000,
    "class/hwmon/hwmon1/curr2_input": 400,
    "class/hwmon/hwmon1/in3_label": "VDD_SOC",
    "class/hwmon/hwmon1/in3_input": 5000,
    "class/hwmon/hwmon1/curr3_input": 300,
    "class/hwmon/hwmon1/in4_input": 6,  # shunt voltage, uV
    "class/hwmon/hwmon1/curr4_input": 1900,  # sum of the currents
    "class/hwmon/hwmon1/in7_label": "sum of shunt voltages",
    "class/hwmon/hwmon1/in7_input": 10,
    "class/hwmon/hwmon0/name": "soctherm",
    "class/hwmon/hwmon0/temp1_input": 45000,
}
AGX_ORIN = {  # two chips, and no rail that feeds all
    "class/hwmon/hwmon3/name": "ina3221",
    **{
        f"class/hwmon/hwmon3/in{i}_label": label
        for i, label in ((1, "VDD_GPU_SOC"), (2, "VDD_CPU_CV"), (3, "VIN_SYS_5V0"))
    },
    **{f"class/hwmon/hwmon3/in{i}_input": 12000 for i in (1, 2, 3)},
    **{f"class/hwmon/hwmon3/curr{i}_input": 100 * i for i in (1, 2, 3)},
}
TX2 = {  # Linux 4.9: the older driver, in mW under iio
    "bus/i2c/drivers/ina3221x/0-0041/iio:device1/name": "ina3221x",
    "bus/i2c/drivers/ina3221x/0-0041/iio:device1/rail_name_0": "VDD_IN",
    "bus/i2c/drivers/ina3221x/0-0041/iio:device1/in_power0_input": 3500,
    "bus/i2c/drivers/ina3221x/0-0041/iio:device1/rail_name_1": "VDD_SYS_CPU",
    "bus/i2c/drivers/ina3221x/0-0041/iio:device1/in_power1_input": 600,
}
INA226 = {
    "class/hwmon/hwmon2/name": "ina226",
    "class/hwmon/hwmon2/in0_input": 3,
    "class/hwmon/hwmon2/in1_input": 5000,
    "class/hwmon/hwmon2/curr1_input": 800,
    "class/hwmon/hwmon2/power1_input": 4_000_000,
    "class/hwmon/hwmon2/update_interval": 2,
}
BOARDS = {"Orin NX": (ORIN_NX, 6.0), "TX2": (TX2, 3.5), "INA226": (INA226, 4.0)}


def watts(meter: SysfsMeter) -> float:
    """Mean power over some samples, which the thread takes by the real clock."""
    with meter:
        first = meter.read()
        while (last := meter.read()).time_s == first.time_s:
            time.sleep(0.001)
    return 1e-3 * (last.energy_mj - first.energy_mj) / (last.time_s - first.time_s)


class TestSysfs(MeterSuite):
    name = "sysfs"

    def meter(self, folder: Path) -> Meter:
        return SysfsMeter({}, sys=write_tree(folder, ORIN_NX))

    def spend(self, meter: Meter, seconds: float) -> None:
        until = meter.read().time_s + seconds
        while meter.read().time_s < until:
            time.sleep(0.001)


@pytest.mark.parametrize("board", BOARDS)
def test_sysfs_finds_the_rail_that_feeds_the_board_in_every_layout(tmp_path: Path, board: str) -> None:
    tree, expected_w = BOARDS[board]
    assert watts(SysfsMeter({}, sys=write_tree(tmp_path, tree))) == pytest.approx(expected_w)


def test_sysfs_lists_rails_and_leaves_sums_and_shunt_voltages_out(tmp_path: Path) -> None:
    assert rails_in(write_tree(tmp_path, ORIN_NX)) == ("VDD_IN", "VDD_CPU_GPU_CV", "VDD_SOC")


def test_sysfs_tells_how_coarse_the_current_of_an_ina3221_is(tmp_path: Path) -> None:
    tree = {**ORIN_NX, "class/hwmon/hwmon1/shunt1_resistor": 5000}
    assert SysfsMeter({}, sys=write_tree(tmp_path / "a", tree)).info.step_w == pytest.approx(0.04)
    assert SysfsMeter({}, sys=write_tree(tmp_path / "b", ORIN_NX)).info.step_w == 0.0


def test_sysfs_counts_a_chip_once_that_is_reached_by_two_ways(tmp_path: Path) -> None:
    write_tree(tmp_path, ORIN_NX)
    by_driver = tmp_path / "bus/i2c/drivers/ina3221/1-0040/hwmon"
    by_driver.mkdir(parents=True)
    (by_driver / "hwmon1").symlink_to(tmp_path / "class/hwmon/hwmon1")
    assert len(rails_in(tmp_path)) == 3


def test_sysfs_adds_the_rails_that_are_named(tmp_path: Path) -> None:
    meter = SysfsMeter({"rails": "VDD_GPU_SOC, VDD_CPU_CV"}, sys=write_tree(tmp_path, AGX_ORIN))
    assert watts(meter) == pytest.approx(1.2 + 2.4)
    assert "VDD_GPU_SOC, VDD_CPU_CV" in meter.info.covers


def test_sysfs_leaves_out_channels_to_which_nothing_is_connected(tmp_path: Path) -> None:
    assert rails_in(write_tree(tmp_path, {**ORIN_NX, "class/hwmon/hwmon1/in2_label": "NC"})) == ("VDD_IN", "VDD_SOC")


class SleepingSession:
    """Runs for a millisecond by the real clock, and draws nothing."""

    def time_ns(self, *, iterations: int) -> int:
        time.sleep(0.001 * iterations)
        return 1_000_000 * iterations


def test_what_a_real_sensor_shows_the_same_at_rest_is_within_its_noise(tmp_path: Path) -> None:
    energies = measure_energies(
        {"m": cast("Session", SleepingSession())},
        SysfsMeter({}, sys=write_tree(tmp_path, ORIN_NX)),
        run_ms={"m": 1.0},
        anchor=None,
        idle_w=None,
        rng=np.random.default_rng(0),
        settings=EnergySettings(min_window_s=0.1, max_window_s=0.1),
    )
    assert energies["m"].idle_w == pytest.approx(6.0)
    assert energies["m"].within_noise
    assert energies["m"].net_mj > 0


def test_sysfs_does_not_guess_which_rails_make_up_a_board(tmp_path: Path) -> None:
    with pytest.raises(ConfigError, match=r"name those to add up.*VDD_GPU_SOC, VDD_CPU_CV, VIN_SYS_5V0"):
        SysfsMeter({}, sys=write_tree(tmp_path, AGX_ORIN))


def test_sysfs_names_the_rails_there_are_for_one_that_is_not(tmp_path: Path) -> None:
    with pytest.raises(ConfigError, match=r"'VDD_NPU'.* is not there.*VDD_IN"):
        SysfsMeter({"rails": "VDD_NPU"}, sys=write_tree(tmp_path, ORIN_NX))


@pytest.mark.parametrize(
    ("file", "value", "expected_w"), [("power1_input", 2_500_000, 2.5), ("in_power0_input", 2500, 2.5)]
)
def test_sysfs_reads_one_file_in_the_unit_of_its_name(tmp_path: Path, file: str, value: int, expected_w: float) -> None:
    write_tree(tmp_path, {file: value})
    assert watts(SysfsMeter({"path": str(tmp_path / file)}, sys=tmp_path)) == pytest.approx(expected_w)


def test_sysfs_reads_an_energy_counter_without_sampling(tmp_path: Path) -> None:
    write_tree(tmp_path, {"class/hwmon/hwmon0/name": "amd_energy", "class/hwmon/hwmon0/energy1_input": 1_000_000})
    with SysfsMeter({}, sys=tmp_path) as meter:
        before = meter.read().energy_mj
        write_tree(tmp_path, {"class/hwmon/hwmon0/energy1_input": 1_250_000})
        assert meter.read().energy_mj - before == pytest.approx(250.0)


def test_sysfs_samples_as_often_as_the_chip_has_something_new(tmp_path: Path) -> None:
    fast = SysfsMeter({}, sys=write_tree(tmp_path / "fast", ORIN_NX)).info.update_interval_s
    slow_tree = {**ORIN_NX, "class/hwmon/hwmon1/update_interval": 40}
    slow = SysfsMeter({}, sys=write_tree(tmp_path / "slow", slow_tree)).info.update_interval_s
    assert (fast, slow) == (0.005, 0.04)


@pytest.mark.parametrize(
    ("options", "words"),
    [
        ({"path": "/elsewhere/power1_input"}, "allowed: a file below"),
        ({"path": "/x/power1_input", "rails": "A"}, "give one of them"),
    ],
)
def test_sysfs_refuses_options_that_make_no_sense(tmp_path: Path, options: dict[str, Option], words: str) -> None:
    with pytest.raises(ConfigError, match=words):
        SysfsMeter(options, sys=tmp_path)


def test_sysfs_refuses_a_file_whose_name_tells_no_unit(tmp_path: Path) -> None:
    with pytest.raises(ConfigError, match="tells no unit"):
        SysfsMeter({"path": str(tmp_path / "temp1_input")}, sys=tmp_path)


def test_sysfs_without_sensors_says_what_else_there_is(tmp_path: Path) -> None:
    with pytest.raises(MeasurementError, match=r"no power sensors .*power_w"):
        SysfsMeter({}, sys=tmp_path)


# ---------------------------------------------------------------- sampling


def test_power_is_integrated_by_the_trapezoidal_rule() -> None:
    clock = Clock()
    sampler = PowerSampler(lambda: 2.0 * clock.now_s, interval_s=10.0, clock=clock)  # watts that rise
    for seconds in (0.0, 0.5, 1.0, 0.25):
        clock.sleep(seconds)
        sampler.sample()
    exact_j = 101.75**2 - 100.0**2
    assert sampler.reading().energy_mj == pytest.approx(1e3 * exact_j)
    assert sampler.reading().time_s == 101.75


def test_a_sensor_that_breaks_is_reported_to_whoever_reads() -> None:
    samples = iter([1.0, 1.0])

    def read_w() -> float:
        try:
            return next(samples)
        except StopIteration:
            raise MeasurementError("the sensor is gone") from None

    sampler = PowerSampler(read_w, interval_s=0.001, clock=time.monotonic)

    def read_for_a_while() -> None:
        for _ in range(5000):
            sampler.reading()
            time.sleep(0.001)

    sampler.start()
    with pytest.raises(MeasurementError, match="the sensor is gone"):
        read_for_a_while()
    sampler.stop()


@pytest.mark.skipif(not hasattr(os, "sched_setaffinity"), reason="this system knows no pinning")
def test_a_sampler_leaves_the_cores_that_are_measured_on() -> None:
    before = os.sched_getaffinity(0)
    if len(before) < 2:
        pytest.skip("one processor: there is nowhere to go")
    seen: list[set[int]] = []

    def read_w() -> float:
        seen.append(os.sched_getaffinity(0))  # of the thread that asks
        return 1.0

    sampler = PowerSampler(read_w, interval_s=0.001, clock=time.monotonic)
    pinned = {min(before)}
    os.sched_setaffinity(0, pinned)
    try:
        sampler.start()
        while len(seen) < 3:
            time.sleep(0.001)
        sampler.stop()
        assert os.sched_getaffinity(0) == pinned
    finally:
        os.sched_setaffinity(0, before)
    assert not seen[-1] & pinned


def test_what_passed_between_two_uses_is_not_counted() -> None:
    clock = Clock()
    sampler = PowerSampler(lambda: 1.0, interval_s=1000.0, clock=clock)
    for _ in range(2):
        sampler.start()
        clock.sleep(1.0)
        sampler.sample()
        sampler.stop()
        clock.sleep(100.0)
    assert sampler.reading().energy_mj == pytest.approx(2000.0)


# ---------------------------------------------------------------- NVML


class NvmlError(Exception):
    """Like pynvml's: carries its number."""


class FakeNvml:
    """What NvmlMeter uses of pynvml, for one GPU whose calls may be switched off."""

    NVMLError = NvmlError
    NVML_SUCCESS = 0
    NVML_FI_DEV_POWER_INSTANT = 186

    def __init__(self, clock: Callable[[], float], *, lacks: tuple[str, ...] = ()) -> None:
        self.clock = clock
        self.lacks = lacks

    def nvmlInit(self) -> None:  # noqa: N802
        self._check("driver")

    def nvmlDeviceGetHandleByIndex(self, index: int) -> str:  # noqa: N802
        if index != 0:
            raise NvmlError("Invalid Argument")
        return "gpu"

    def nvmlDeviceGetHandleByUUID(self, uuid: str) -> str:  # noqa: N802
        if uuid != "GPU-1":
            raise NvmlError("Not Found")
        return "gpu"

    def nvmlDeviceGetName(self, handle: str) -> bytes:  # noqa: N802
        return b"Some GPU"

    def nvmlDeviceGetTotalEnergyConsumption(self, handle: str) -> int:  # noqa: N802
        self._check("counter")
        return int(50e3 * self.clock())

    def nvmlDeviceGetPowerUsage(self, handle: str) -> int:  # noqa: N802
        self._check("power")
        return 50_000

    def nvmlDeviceGetFieldValues(self, handle: str, fields: list[int]) -> list[Any]:  # noqa: N802
        self._check("field")
        status = 3 if "instant" in self.lacks else 0
        return [SimpleNamespace(nvmlReturn=status, value=SimpleNamespace(uiVal=60_000)) for _ in fields]

    def _check(self, what: str) -> None:
        if what in self.lacks:
            raise NvmlError("Not Supported")


@pytest.fixture
def nvml(monkeypatch: pytest.MonkeyPatch) -> Callable[..., FakeNvml]:
    """Installs a FakeNvml in the place of pynvml."""

    def install(clock: Callable[[], float] = time.monotonic, **settings: Any) -> FakeNvml:
        fake = FakeNvml(clock, **settings)
        monkeypatch.setitem(sys.modules, "pynvml", cast("Any", fake))
        return fake

    return install


class TestNvml(MeterSuite):
    name = "nvml"

    @pytest.fixture(autouse=True)
    def _installed(self, nvml: Callable[..., FakeNvml]) -> None:
        self.clock = Clock()
        nvml(self.clock)

    def meter(self, folder: Path) -> Meter:
        return NvmlMeter({}, clock=self.clock, sleep=self.clock.sleep)

    def spend(self, meter: Meter, seconds: float) -> None:
        meter.wait(seconds)


def sampled_w(meter: NvmlMeter) -> float:
    with meter:
        first = meter.read()
        while (last := meter.read()).time_s == first.time_s:
            time.sleep(0.001)
    return 1e-3 * (last.energy_mj - first.energy_mj) / (last.time_s - first.time_s)


def test_nvml_reads_the_counter_in_millijoules(nvml: Callable[..., FakeNvml]) -> None:
    clock = Clock()
    nvml(clock)
    meter = NvmlMeter({}, clock=clock, sleep=clock.sleep)
    before = meter.read()
    meter.wait(2.0)
    assert meter.read().energy_mj - before.energy_mj == pytest.approx(100e3)
    assert "energy counter" in meter.info.name


def test_nvml_samples_the_instant_power_of_a_gpu_without_a_counter(nvml: Callable[..., FakeNvml]) -> None:
    nvml(lacks=("counter",))
    meter = NvmlMeter({})
    assert sampled_w(meter) == pytest.approx(60.0)
    assert "sampled" in meter.info.name


@pytest.mark.parametrize("lacking", ["instant", "field"])
def test_nvml_lets_the_averaged_power_of_a_gpu_that_knows_no_other_settle(
    nvml: Callable[..., FakeNvml], lacking: str
) -> None:
    nvml(lacks=("counter", lacking))
    meter = NvmlMeter({})
    assert sampled_w(meter) == pytest.approx(50.0)
    assert meter.info.settle_s >= 1.0


def test_nvml_on_a_gpu_that_tells_nothing_says_what_else_there_is(nvml: Callable[..., FakeNvml]) -> None:
    nvml(lacks=("counter", "field", "power"))
    with pytest.raises(MeasurementError, match=r"neither energy nor power.*power_w"):
        NvmlMeter({})


def test_nvml_without_a_driver_says_what_to_install(nvml: Callable[..., FakeNvml]) -> None:
    nvml(lacks=("driver",))
    with pytest.raises(MeasurementError, match="install NVIDIA's driver"):
        NvmlMeter({})


@pytest.mark.parametrize("options", [{"index": 3}, {"uuid": "GPU-7"}])
def test_nvml_names_a_gpu_that_is_not_there(nvml: Callable[..., FakeNvml], options: dict[str, Option]) -> None:
    nvml()
    with pytest.raises(ConfigError, match=r"(index 3|uuid 'GPU-7').*nvidia-smi -L"):
        NvmlMeter(options)
    NvmlMeter({"uuid": "GPU-1"})


def test_nvml_lost_in_the_middle_is_a_measurement_error(nvml: Callable[..., FakeNvml]) -> None:
    fake = nvml()
    meter = NvmlMeter({})
    fake.lacks = ("counter",)
    with pytest.raises(MeasurementError, match="cannot read the GPU any more"):
        meter.read()


def test_nvml_without_its_package_names_the_extra(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setitem(sys.modules, "pynvml", None)
    with pytest.raises(MissingPackageError, match=r"hwnas\[nvml\]"):
        NvmlMeter({})


def test_nvml_uses_names_that_the_real_package_has() -> None:
    real = pytest.importorskip("pynvml", reason="nvidia-ml-py is not installed")
    for name in (n for n in vars(FakeNvml) if n.startswith(("nvml", "NVML"))):
        assert hasattr(real, name), name


# ---------------------------------------------------------------- the simulated one, and which there are


class TestFake(MeterSuite):
    name = "fake"

    def meter(self, folder: Path) -> Meter:
        SimulatedMachine.new()
        return FakeMeter({})

    def spend(self, meter: Meter, seconds: float) -> None:
        meter.wait(seconds)


def test_the_meters_of_a_machine_are_found_without_opening_them(tmp_path: Path) -> None:
    assert not found_meters(tmp_path)
    write_tree(tmp_path / "sys", ORIN_NX)
    write_tree(tmp_path / "sys/class/powercap", SERVER)
    write_tree(tmp_path / "dev", {"nvidia0": "", "nvidiactl": ""})
    found = found_meters(tmp_path)
    assert found["nvml"] == "nvidia0"
    assert found["rapl"].startswith("package-0, ")
    assert found["sysfs"].startswith("VDD_IN, ")
