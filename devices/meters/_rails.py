"""Power rails in sysfs: where kernels and boards put them, and how each is read.

Knows three layouts: hwmon with `powerN_input` (uW) or `energyN_input` (uJ); hwmon with labelled voltages and currents
(`inN_label`, mV and mA: the INA3221 of Jetson boards since Linux 5.10); and the older driver of Jetson boards
(`rail_name_N`, `in_powerN_input` in mW, under iio). Not what a rail feeds.
"""

from __future__ import annotations

import re
from collections.abc import Iterator
from dataclasses import dataclass
from pathlib import Path

from ._files import read_label, read_number

# Below a root of /sys. The same chip is reached by several ways; it counts once.
_HWMON = ("class/hwmon/hwmon*", "bus/i2c/drivers/ina*/*/hwmon/hwmon*")
_IIO = (
    "bus/iio/devices/iio:device*",
    "bus/i2c/drivers/ina3221*/*/iio:device*",
    "bus/i2c/drivers/ina3221*/*/iio_device",
)
_DEFAULT_UPDATE_S = 0.01  # where the chip does not tell
_NOTHING = ("", "NC")  # labels of channels to which nothing is connected
_INA3221_STEP_UV = 40  # of the voltage over the shunt (its data sheet)


@dataclass(frozen=True, slots=True, kw_only=True)
class Rail:
    """One measured supply.

    Attributes:
        label: its own, or chip and channel: `VDD_IN`, `ina226/power1`.
        files: to be read; two are voltage and current.
        scale: of their product: to watts, or to millijoules of a counter.
        counter: whether it counts energy.
        update_interval_s: of the chip.
        step_w: smallest step of a power, as far as the chip tells; 0 if it does not.
    """

    label: str
    files: tuple[Path, ...]
    scale: float
    counter: bool = False
    update_interval_s: float = _DEFAULT_UPDATE_S
    step_w: float = 0.0

    def read(self) -> float:
        """Watts now, or millijoules so far.

        Raises:
            MeasurementError: a file cannot be read.
        """
        value = self.scale
        for file in self.files:
            value *= read_number(file)
        return value


def all_rails(sys: Path) -> tuple[Rail, ...]:
    """Every rail below a root of /sys, in the order of the chips. Only names are read."""
    return tuple(
        rail
        for patterns, layout in ((_HWMON, _hwmon_rails), (_IIO, _iio_rails))
        for chip in _chips(sys, patterns)
        for rail in layout(chip)
    )


def rail_of_file(path: Path) -> Rail | None:
    """The rail of a single file, judged by its name; None if the name tells no unit."""
    for pattern, scale, counter in (
        (r"power\d+_(input|average)", 1e-6, False),
        (r"in_power\d+_input", 1e-3, False),
        (r"energy\d+_input|energy_uj", 1e-3, True),
    ):
        if re.fullmatch(pattern, path.name):
            interval_s = _update_interval_s(path.parent)
            return Rail(label=path.name, files=(path,), scale=scale, counter=counter, update_interval_s=interval_s)
    return None


def _chips(sys: Path, patterns: tuple[str, ...]) -> list[Path]:
    return list(dict.fromkeys(path.resolve() for pattern in patterns for path in sorted(sys.glob(pattern))))


def _hwmon_rails(chip: Path) -> Iterator[Rail]:
    name = read_label(chip / "name") or chip.name
    interval_s = _update_interval_s(chip)
    seen: set[str] = set()
    for kind, scale, counter in (("energy", 1e-3, True), ("power", 1e-6, False)):
        for file in sorted([*chip.glob(f"{kind}[0-9]*_input"), *chip.glob(f"{kind}[0-9]*_average")]):
            channel = file.name.partition("_")[0]
            if channel in seen:
                continue
            seen.add(channel)
            label = read_label(chip / f"{channel}_label") or f"{name}/{channel}"
            yield Rail(label=label, files=(file,), scale=scale, counter=counter, update_interval_s=interval_s)
    if any(channel.startswith("power") for channel in seen):
        return
    for label_file in sorted(chip.glob("in[0-9]*_label")):
        number = label_file.name.removeprefix("in").removesuffix("_label")
        pair = (chip / f"in{number}_input", chip / f"curr{number}_input")
        label = read_label(label_file)
        if label not in _NOTHING and all(file.exists() for file in pair):  # the sums of an INA3221 have no pair
            yield Rail(
                label=label,
                files=pair,
                scale=1e-6,
                update_interval_s=interval_s,
                step_w=_step_w(pair[0], chip / f"shunt{number}_resistor"),
            )


def _iio_rails(chip: Path) -> Iterator[Rail]:
    for label_file in sorted(chip.glob("rail_name_[0-9]*")):
        file = chip / f"in_power{label_file.name.rpartition('_')[2]}_input"
        if file.exists():
            yield Rail(label=read_label(label_file), files=(file,), scale=1e-3)


def _step_w(volts: Path, shunt: Path) -> float:
    """The power of one step of an INA3221's current, which is coarse: 40 mW at 5 V over 5 milliohms."""
    millivolts, microohms = read_label(volts), read_label(shunt)
    if not millivolts.isdigit() or not microohms.isdigit() or not int(microohms):
        return 0.0
    return _INA3221_STEP_UV / int(microohms) * int(millivolts) * 1e-3


def _update_interval_s(chip: Path) -> float:
    text = read_label(chip / "update_interval")
    return int(text) * 1e-3 if text.isdigit() and int(text) > 0 else _DEFAULT_UPDATE_S
