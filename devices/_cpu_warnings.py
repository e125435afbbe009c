"""What about a machine's state spoils a measurement, in words, with what to do.

Knows the state and nothing of where it was read; nothing is changed.
"""

from __future__ import annotations

from collections.abc import Iterator, Mapping, Sequence

from ._cpu import CpuState, format_list

FOLLOWING_GOVERNORS = ("powersave", "ondemand", "conservative", "schedutil", "interactive")
_NEAR_C = 10.0  # below the point at which the processor slows down
_BUSY = 0.1  # share of a pinned processor that others may take
_LOADED = 0.5  # load for each usable core
_CAPPED = 0.99  # of the hardware's clock


def cpu_warnings(state: CpuState, *, threads: int, pinned: Sequence[int], busy: Mapping[int, float]) -> Iterator[str]:
    """One short text for each thing that spoils a measurement.

    Args:
        state: of the machine, as the measuring process sees it.
        threads: the runtime will use.
        pinned: processors the process was pinned to; empty: it was not.
        busy: processor -> share of its time that others use, measured while this process slept.
    """
    n = len(state.usable)
    where = f"{'core' if n == 1 else 'cores'} {format_list(state.usable)}"
    if threads > n:
        yield f"{threads} threads share {n} ({where}): give the device more cores or fewer threads"
    if state.quota is not None and state.quota < threads:
        yield (
            f"a quota allows {state.quota:g} cores' time for {threads} threads, so runs are paused in the middle: "
            "raise it (docker run --cpus)"
        )
    yield from _clock(state)
    yield from _neighbours(state, pinned, busy, where)


def _clock(state: CpuState) -> Iterator[str]:
    following = sorted({g for g in state.governors.values() if g in FOLLOWING_GOVERNORS})
    if following:
        yield (
            f"clock governor {', '.join(following)}: the clock follows the load. For steady times: "
            "sudo cpupower frequency-set -g performance"
        )
    if state.turbo:
        yield (
            "turbo is on: the clock depends on temperature and on what other cores do. For steady times: "
            "echo 1 | sudo tee /sys/devices/system/cpu/intel_pstate/no_turbo (or echo 0 to cpufreq/boost), unless the "
            "device ships with it"
        )
    capped = [c for c, khz in state.max_khz.items() if khz < _CAPPED * state.hardware_khz.get(c, 0)]
    if capped:
        allowed, possible = (max(of[c] for c in capped) / 1e6 for of in (state.max_khz, state.hardware_khz))
        yield (
            f"the clock is capped at {allowed:.2g} of {possible:.2g} GHz: remove the cap (cpupower frequency-set -u) "
            "unless the device ships with it"
        )
    now_c, limit_c = state.temperature_c, state.throttle_c
    if now_c is not None and limit_c is not None and now_c > limit_c - _NEAR_C:
        yield f"the processor has {now_c:.0f} °C and slows down at {limit_c:.0f} °C: let it cool, or cool it better"


def _neighbours(state: CpuState, pinned: Sequence[int], busy: Mapping[int, float], where: str) -> Iterator[str]:
    shared = sorted({tuple(sorted(set(group) & set(pinned))) for c, group in state.siblings.items() if c in pinned})
    for group in shared:
        if len(group) > 1:
            yield f"cores {format_list(group)} are threads of one physical core: name one of them in the device's cores"
    taken = {c: share for c, share in busy.items() if c in pinned and share > _BUSY}
    if taken:
        worst = max(taken, key=taken.__getitem__)
        yield (
            f"core {worst} is {taken[worst]:.0%} busy with other work: stop it, or choose other cores for the device"
        )
    beside = sorted(
        {s for c in pinned for s in state.siblings.get(c, ()) if s not in pinned and busy.get(s, 0) > _BUSY}
    )
    if beside:
        yield f"core {format_list(beside)}, the other thread of a core measured on, is busy: stop what runs there"
    if not pinned and state.load is not None and state.load > _LOADED * max(1, len(state.usable)):
        yield (
            f"load is {state.load:.1f} on {where}: other work is running; stop it, or name quiet cores in the device's "
            "cores"
        )
