"""Power rails of a board: INA sensors of Jetson and other boards, and whatever else the kernel shows in sysfs.

Knows which rails to add up; how a rail is found and read is in `_rails.py`.
"""

from __future__ import annotations

import os
import time
from collections.abc import Callable, Mapping
from pathlib import Path

from hwnas.errors import ConfigError, MeasurementError
from hwnas.foreign import as_written
from hwnas.measure.energy import MeterInfo, Reading, check_meter_options
from hwnas.types import Option

from ._rails import Rail, all_rails, rail_of_file
from ._sampling import PowerSampler, SampledMeter

_SYS = Path("/sys")
_WHOLE_BOARD = ("VDD_IN", "POM_5V_IN")  # what Jetson modules call the rail that feeds all others
_FASTEST_SAMPLE_S = 0.005  # a reading over I2C takes most of a millisecond
_SMALLEST_W = 0.001  # of a rail, as hwmon and iio tell it
_DEFAULTS: Mapping[str, Option] = {"rails": "", "path": ""}


class SysfsMeter(SampledMeter):
    """Sums rails.

    `options`: `rails`, labels with commas between, or `path`, one file of power or energy. Without either it takes the
    rail that feeds the whole board, if there is one of a known name, or the only one there is.
    """

    @staticmethod
    def check_options(options: Mapping[str, Option]) -> None:
        """Check the options without looking for the meter.

        Raises:
            ConfigError: one is not known, or has a wrong value.
        """
        _check(options, sys=_SYS)

    def __init__(
        self,
        options: Mapping[str, Option],
        *,
        sys: Path = _SYS,
        clock: Callable[[], float] = time.monotonic,
        sleep: Callable[[float], None] = time.sleep,
    ) -> None:
        """Find the rails.

        Raises:
            ConfigError: an option that is not known, or rails that are not there; names those that are.
            MeasurementError: there are none, or this user may not read them.
        """
        chosen = _check(options, sys=sys)
        self._rails = _chosen(sys, rails=str(chosen["rails"]), path=str(chosen["path"]))
        self._clock, self._sleep = clock, sleep
        self._interval_s = max(_FASTEST_SAMPLE_S, *(rail.update_interval_s for rail in self._rails))
        counter = self._rails[0].counter
        self._sampler = None if counter else PowerSampler(self._sum, interval_s=self._interval_s, clock=clock)
        self._sum()  # whether it may be read is known here and not in the middle of a profile

    @property
    def info(self) -> MeterInfo:
        """The rails and their sampling."""
        names = ", ".join(rail.label for rail in self._rails)
        step_mj = 1e-3 if self._sampler is None else 1e3 * _SMALLEST_W * self._interval_s
        return MeterInfo(
            name=f"sysfs {names}",
            covers=f"rails {names}, with everything they feed" if len(self._rails) > 1 else f"rail {names}",
            resolution_mj=step_mj * len(self._rails),
            update_interval_s=self._interval_s,
            step_w=sum(rail.step_w for rail in self._rails),
        )

    def read(self) -> Reading:
        """The counters' sum, or the integral of the power up to its last sample."""
        if self._sampler is not None:
            return self._sampler.reading()
        return Reading(energy_mj=self._sum(), time_s=self._clock())

    def _sum(self) -> float:
        return sum(rail.read() for rail in self._rails)


def rails_in(sys: Path) -> tuple[str, ...]:
    """Labels of the rails below a root of /sys."""
    return tuple(rail.label for rail in all_rails(sys))


def _check(options: Mapping[str, Option], *, sys: Path) -> dict[str, Option]:
    chosen = check_meter_options("sysfs", options, _DEFAULTS)
    path = str(chosen["path"])
    if chosen["rails"] and path:
        raise ConfigError("meter 'sysfs' has the options rails and path; give one of them")
    if path and not Path(os.path.normpath(path)).is_relative_to(sys):
        raise ConfigError(f"path of meter 'sysfs' is {as_written(path)}; allowed: a file below {sys}")
    if path and rail_of_file(Path(path)) is None:
        raise ConfigError(
            f"the name of {as_written(path)} tells no unit; known: powerN_input or powerN_average (uW), "
            "in_powerN_input (mW), energyN_input or energy_uj (uJ)"
        )
    return chosen


def _chosen(sys: Path, *, rails: str, path: str) -> tuple[Rail, ...]:
    rail = rail_of_file(Path(path)) if path else None
    if rail is not None:
        return (rail,)
    found = all_rails(sys)
    labels = [rail.label for rail in found]
    if not found:
        raise MeasurementError(
            f"there are no power sensors in {sys}; give the file's path in the meter's options if it is elsewhere, or "
            "set power_w in the device's [energy] for an estimate"
        )
    wanted = [label.strip() for label in rails.split(",") if label.strip()]
    wanted = wanted or [label for label in _WHOLE_BOARD if label in labels][:1] or (labels if len(labels) == 1 else [])
    if not wanted:
        raise ConfigError(
            f"no sensor of this board is known to feed all of it; name those to add up in the meter's options as rails "
            f"(one that feeds another counts twice). There are: {', '.join(labels)}"
        )
    for label in wanted:
        if labels.count(label) != 1:
            problem = "is there more than once: give its path" if label in labels else "is not there"
            raise ConfigError(f"rail {label!r} of meter 'sysfs' {problem}. There are: {', '.join(labels)}")
    picked = tuple(rail for label in wanted for rail in found if rail.label == label)
    if len({rail.counter for rail in picked}) > 1:
        raise ConfigError(f"rails {rails!r} are energy counters and power sensors; name rails of one kind")
    return picked
