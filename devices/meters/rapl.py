"""RAPL: the energy counters of Intel and AMD processors, as Linux's powercap shows them.

Knows `/sys/class/powercap`; never what runs on the processor.
"""

from __future__ import annotations

import re
import time
from collections.abc import Callable, Mapping
from dataclasses import dataclass
from pathlib import Path

from hwnas.errors import ConfigError, MeasurementError
from hwnas.measure.energy import MeterInfo, Reading, check_meter_options
from hwnas.types import Option

from ._files import read_label, read_number

_POWERCAP = Path("/sys/class/powercap")
_ZONE = re.compile(r"^[a-z]+-rapl:\d+(:\d+)?$")  # not intel-rapl-mmio: it shows the package a second time
_OUTSIDE_THE_PACKAGE = ("dram",)  # every other part of a package is counted in the package too
_RESOLUTION_MJ = 0.061  # 2^-14 J, Intel's usual unit; AMD's is a quarter of it
_UPDATE_S = 0.001  # the registers' period (Intel SDM, volume 3, "Power and thermal management")
_ADVICE = (
    "since 2020 Linux lets only root read it (CVE-2020-8694). Allow it until the next start with: "
    "sudo chmod a+r /sys/class/powercap/*/energy_uj; or profile as root; or set power_w in the device's [energy]"
)


@dataclass(frozen=True, slots=True, kw_only=True)
class _Zone:
    """One counter."""

    name: str
    file: Path
    range_uj: int  # it begins at 0 again after this


class RaplMeter:
    """Sums counters.

    `options`: `zones`, names with commas between (`package-0, package-0/dram`); all packages if it is empty.
    """

    @staticmethod
    def check_options(options: Mapping[str, Option]) -> None:
        """Check the options without looking for the meter.

        Raises:
            ConfigError: one is not known, or has a wrong value.
        """
        check_meter_options("rapl", options, {"zones": ""})

    def __init__(
        self,
        options: Mapping[str, Option],
        *,
        folder: Path = _POWERCAP,
        clock: Callable[[], float] = time.monotonic,
        sleep: Callable[[float], None] = time.sleep,
    ) -> None:
        """Find the counters.

        Raises:
            ConfigError: an option that is not known, a zone that does not exist, or zones that count one thing twice.
            MeasurementError: there are no counters here, or this user may not read them.
        """
        wanted = str(check_meter_options("rapl", options, {"zones": ""})["zones"])
        self._zones = _chosen(zones_in(folder), wanted, folder)
        self._clock, self._sleep = clock, sleep
        self._last_uj: dict[str, int] = {}
        self._total_uj = 0
        self.read()  # whether it may be read is known here and not in the middle of a profile

    @property
    def info(self) -> MeterInfo:
        """The zones; the processor updates them every millisecond."""
        names = ", ".join(zone.name for zone in self._zones)
        return MeterInfo(
            name=f"rapl {names}",
            covers=f"processor: {names}, with everything that runs there",
            resolution_mj=_RESOLUTION_MJ * len(self._zones),
            update_interval_s=_UPDATE_S,
        )

    def read(self) -> Reading:
        """Energy since the meter was made; a counter that began again at 0 goes on.

        It must be read once in a counter's round, which takes minutes at the least.
        """
        for zone in self._zones:
            now_uj = read_number(zone.file, advice=_ADVICE)
            step_uj = now_uj - self._last_uj.get(zone.name, now_uj)
            self._total_uj += step_uj if step_uj >= 0 else step_uj + zone.range_uj
            self._last_uj[zone.name] = now_uj
        return Reading(energy_mj=self._total_uj * 1e-3, time_s=self._clock())

    def wait(self, seconds: float) -> None:
        """Sleep."""
        self._sleep(seconds)

    def __enter__(self) -> RaplMeter:
        self._last_uj.clear()  # it may have gone round since it was read last
        self.read()
        return self

    def __exit__(self, *exc: object) -> None: ...


def zones_in(folder: Path) -> dict[str, Path]:
    """Name -> folder of each counter: `package-0`, `package-0/dram`, `psys`. Nothing is read but names."""
    found: dict[str, Path] = {}
    for path in sorted(folder.glob("*-rapl:*")) if folder.is_dir() else []:
        if not _ZONE.match(path.name) or not (path / "energy_uj").exists():
            continue
        name = read_label(path / "name") or path.name
        parent = folder / path.name.rpartition(":")[0]
        if path.name.count(":") == 2:
            name = f"{read_label(parent / 'name') or parent.name}/{name}"
        found[name] = path
    return found


def _chosen(found: Mapping[str, Path], wanted: str, folder: Path) -> tuple[_Zone, ...]:
    if not found:
        raise MeasurementError(
            f"there are no RAPL counters in {folder}: the processor has none, a virtual machine hides them, or the "
            "kernel module intel_rapl_common is not loaded; set power_w in the device's [energy] for an estimate"
        )
    packages = [name for name in found if name.startswith("package") and "/" not in name] or list(found)[:1]
    names = list(dict.fromkeys(name.strip() for name in wanted.split(",") if name.strip())) or packages
    for name in names:
        if name not in found:
            raise ConfigError(f"zones of meter 'rapl' names {name!r}; there are: {', '.join(found)}")
        package, _, part = name.partition("/")
        if part and part not in _OUTSIDE_THE_PACKAGE and package in names:
            raise ConfigError(f"zones of meter 'rapl': {name!r} is counted in {package!r} too; name one of them")
    if "psys" in names and len(names) > 1:
        raise ConfigError("zones of meter 'rapl': 'psys' is the whole system and counts the others too; name it alone")
    return tuple(
        _Zone(name=n, file=found[n] / "energy_uj", range_uj=read_number(found[n] / "max_energy_range_uj"))
        for n in names
    )
