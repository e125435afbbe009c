"""The state of this machine's processors that a measured time depends on, from the kernel's own files.

Knows where Linux keeps them; not what is made of them, nor runtimes. Another system, or a container that hides the
files, gives a state in which little is known.
"""

from __future__ import annotations

import os
import re
from collections.abc import Iterable, Iterator, Mapping
from dataclasses import dataclass, field
from pathlib import Path

ROOT = Path("/")
_CPU = "sys/devices/system/cpu"
_UNEQUAL = 1.25  # times the fastest clock of a core: favoured cores of one kind differ by less
_PROCESSOR_ZONE = re.compile(r"cpu|pkg|soc|core|k10temp|zenpower|tdie|tctl", re.IGNORECASE)
_SLOWING_TRIPS = ("passive", "hot", "critical")
_SENSIBLE_C = (1.0, 150.0)  # outside of it a sensor is not connected
_USER_HZ_FIELDS = 8  # of a line of /proc/stat: user, nice, system, idle, iowait, irq, softirq, steal
_IDLE_FIELDS = (3, 4)


@dataclass(frozen=True, slots=True, kw_only=True)
class CpuState:
    """What the system tells; what it does not is None or absent.

    Attributes:
        online: processors that exist and are switched on.
        usable: those of them this process may run on.
        governors: usable processor -> clock governor.
        turbo: whether clocks above the nominal one are allowed.
        max_khz: usable processor -> highest clock it is allowed.
        hardware_khz: usable processor -> highest clock it could reach.
        siblings: usable processor -> the processors that share its core, itself included.
        unequal: whether the machine has cores of different speed.
        temperature_c: of the processor's hottest sensor.
        throttle_c: where that one makes the system slow down.
        load: average number of running threads in the last minute.
        quota: cores' worth of time a container allows.
    """

    online: tuple[int, ...]
    usable: tuple[int, ...]
    governors: Mapping[int, str] = field(default_factory=dict)
    turbo: bool | None = None
    max_khz: Mapping[int, int] = field(default_factory=dict)
    hardware_khz: Mapping[int, int] = field(default_factory=dict)
    siblings: Mapping[int, tuple[int, ...]] = field(default_factory=dict)
    unequal: bool = False
    temperature_c: float | None = None
    throttle_c: float | None = None
    load: float | None = None
    quota: float | None = None


def cpu_state(root: Path = ROOT, *, usable: Iterable[int] | None = None) -> CpuState:
    """The state now.

    Args:
        root: of the file system.
        usable: processors this process may run on; by default what the system says.
    """
    cpu = root / _CPU
    online = online_processors(root)
    allowed = tuple(sorted(usable if usable is not None else _affinity(online)))
    speeds = {c: _number(cpu / f"cpu{c}/cpu_capacity") or _frequency(cpu, c, "cpuinfo_max_freq") for c in online}
    known = [speed for speed in speeds.values() if speed]
    hottest = max(_temperatures(root), key=lambda pair: pair[0], default=(None, None))
    return CpuState(
        online=online,
        usable=allowed,
        governors={c: g for c in allowed if (g := read_text(cpu / f"cpu{c}/cpufreq/scaling_governor"))},
        turbo=_turbo(cpu),
        max_khz={c: f for c in allowed if (f := _frequency(cpu, c, "scaling_max_freq"))},
        hardware_khz={c: f for c in allowed if (f := _frequency(cpu, c, "cpuinfo_max_freq"))},
        siblings={
            c: group for c in allowed if (group := parse_list(read_text(cpu / f"cpu{c}/topology/thread_siblings_list")))
        },
        unequal=bool(known) and max(known) > _UNEQUAL * min(known),
        temperature_c=hottest[0],
        throttle_c=hottest[1],
        load=_load(root),
        quota=_quota(root),
    )


def online_processors(root: Path = ROOT) -> tuple[int, ...]:
    """Numbers of the processors that are switched on."""
    return parse_list(read_text(root / _CPU / "online")) or tuple(range(os.cpu_count() or 1))


def busy_ticks(root: Path = ROOT) -> dict[int, tuple[int, int]]:
    """Processor -> (ticks it worked, ticks altogether) since the start: two of them give a share."""
    found = {}
    for line in read_text(root / "proc/stat").splitlines():
        match = re.match(r"cpu(\d+)\s+(.*)", line)
        if match:
            ticks = [int(n) for n in match[2].split()[:_USER_HZ_FIELDS]]
            idle = sum(ticks[i] for i in _IDLE_FIELDS if i < len(ticks))
            found[int(match[1])] = (sum(ticks) - idle, sum(ticks))
    return found


def read_text(path: Path) -> str:
    """What a file holds, stripped; "" where there is none or it may not be read."""
    try:
        return path.read_text(encoding="utf-8", errors="replace").strip()
    except OSError:
        return ""


def parse_list(text: str) -> tuple[int, ...]:
    """The kernel's notation: `0-3,8` -> (0, 1, 2, 3, 8); () for anything else."""
    numbers: list[int] = []
    for part in text.split(","):
        match = re.fullmatch(r"\s*(\d+)(?:-(\d+))?\s*", part)
        if match is None:
            return ()
        numbers.extend(range(int(match[1]), int(match[2] or match[1]) + 1))
    return tuple(numbers)


def format_list(numbers: Iterable[int]) -> str:
    """The inverse of `parse_list`: (0, 1, 2, 3, 8) -> `0-3,8`."""
    runs: list[list[int]] = []
    for number in sorted(set(numbers)):
        if runs and number == runs[-1][-1] + 1:
            runs[-1].append(number)
        else:
            runs.append([number])
    return ",".join(f"{run[0]}-{run[-1]}" if len(run) > 1 else str(run[0]) for run in runs)


def _affinity(online: tuple[int, ...]) -> Iterable[int]:
    return os.sched_getaffinity(0) if hasattr(os, "sched_getaffinity") else online


def _number(path: Path) -> int | None:
    text = read_text(path)
    return int(text) if re.fullmatch(r"-?\d+", text) else None


def _frequency(cpu: Path, core: int, name: str) -> int | None:
    return _number(cpu / f"cpu{core}/cpufreq/{name}")


def _turbo(cpu: Path) -> bool | None:
    no_turbo, boost = _number(cpu / "intel_pstate/no_turbo"), _number(cpu / "cpufreq/boost")
    if no_turbo is not None:
        return no_turbo == 0
    return None if boost is None else boost == 1


def _temperatures(root: Path) -> Iterator[tuple[float, float | None]]:
    """(degrees, degrees at which it slows down) of each sensor of the processor."""
    for zone in sorted((root / "sys/class/thermal").glob("thermal_zone*")):
        if _PROCESSOR_ZONE.search(read_text(zone / "type")):
            trips = [
                _number(kind.with_name(kind.name.replace("_type", "_temp")))
                for kind in zone.glob("trip_point_*_type")
                if read_text(kind) in _SLOWING_TRIPS
            ]
            yield from _sensible(_number(zone / "temp"), trips)
    for chip in sorted((root / "sys/class/hwmon").glob("hwmon*")):
        if _PROCESSOR_ZONE.search(read_text(chip / "name")):
            for sensor in sorted(chip.glob("temp*_input")):
                limits = [_number(sensor.with_name(sensor.name.replace("_input", end))) for end in ("_max", "_crit")]
                yield from _sensible(_number(sensor), limits)


def _sensible(milli_c: int | None, limits: Iterable[int | None]) -> Iterator[tuple[float, float | None]]:
    """In degrees, what is not plausible left out."""
    low, high = _SENSIBLE_C
    if milli_c is not None and low <= milli_c / 1000 <= high:
        plausible = [limit / 1000 for limit in limits if limit is not None and low < limit / 1000 <= high]
        yield milli_c / 1000, min(plausible, default=None)


def _load(root: Path) -> float | None:
    text = read_text(root / "proc/loadavg").partition(" ")[0]
    return float(text) if re.fullmatch(r"\d+(\.\d+)?", text) else None


def _quota(root: Path) -> float | None:
    """The tightest of the limits of this process's control group and those above it."""
    base = root / "sys/fs/cgroup"
    inside = next(
        (line[3:] for line in read_text(root / "proc/self/cgroup").splitlines() if line.startswith("0::")), "/"
    )
    folder = base / inside.strip("/")
    limits = []
    for path in (folder, *(p for p in folder.parents if p.is_relative_to(base))):
        limit, _, period = read_text(path / "cpu.max").partition(" ")
        if limit.isdigit() and period.isdigit() and int(period):
            limits.append(int(limit) / int(period))
    limit_us, period_us = (_number(base / "cpu" / f"cpu.cfs_{name}_us") for name in ("quota", "period"))
    if limit_us is not None and limit_us > 0 and period_us:
        limits.append(limit_us / period_us)
    return min(limits, default=None)
