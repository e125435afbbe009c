"""What is known about the machine this process runs on: processor, instruction sets, clocks, load, temperature.

Tells what spoils a measurement, and pins a process. Knows the operating system's own files and nothing of runtimes.
"""

from __future__ import annotations

import os
import platform
import time
from collections.abc import Mapping, Sequence
from pathlib import Path

from hwnas.errors import ConfigError

from ._cpu import ROOT, CpuState, busy_ticks, cpu_state, format_list, online_processors, read_text
from ._cpu_warnings import cpu_warnings

# Instruction sets that decide which kernels a runtime picks: the same processor name with another set
# (a virtual machine may hide some) is another machine.
_RELEVANT_FLAGS = (
    *("avx", "avx2", "fma", "f16c", "avx512f", "avx512bw", "avx512_vnni", "avx_vnni", "avx512_bf16", "amx_int8"),
    *("asimd", "asimddp", "asimdhp", "i8mm", "bf16", "sve", "sve2"),  # Arm
)
_X86 = ("x86_64", "amd64", "i386", "i686", "x86")
EMULATED = "emulated: correctness only"  # instead of "measured"
_ARM = ("aarch64", "arm64", "armv7l", "armv8l", "armv6l")
_LISTEN_S = 0.2  # to what others do with a processor


def host_context(*, threads: int, root: Path = ROOT) -> dict[str, str]:
    """What changes a time on this machine.

    Tables of one `hardware` are comparable; the other keys are recorded beside it, for people.

    Args:
        threads: the runtime's setting, recorded with the rest.
        root: of the file system.

    Returns:
        `hardware` (processor, its instruction sets that matter and, on a machine of unequal cores, those this process
        may use), `governor` (of the cores it may use, `unknown` where the system does not tell), `turbo` (`on`, `off`,
        `unknown`), `os`, `machine`, `cores` (of the machine), `affinity`, `threads`; where told, `temperature_c`,
        `load` and `max_mhz`. Where this processor is emulated, `source` says that no time is to be believed.
    """
    state = cpu_state(root)
    told = {
        "temperature_c": f"{state.temperature_c:.0f}" if state.temperature_c is not None else "",
        "load": f"{state.load:.2f}" if state.load is not None else "",
        "max_mhz": f"{max(state.max_khz.values()) / 1000:.0f}" if state.max_khz else "",
    }
    return {
        "hardware": _hardware(_cpuinfo(read_text(root / "proc/cpuinfo")), state),
        "governor": ", ".join(sorted(set(state.governors.values()))) or "unknown",
        "turbo": "unknown" if state.turbo is None else "on" if state.turbo else "off",
        "os": f"{platform.system()} {platform.release()}",
        "machine": platform.machine(),
        "cores": str(os.cpu_count() or 1),
        "affinity": format_list(state.usable),
        "threads": str(threads),
        **{key: value for key, value in told.items() if value},
        **({"source": EMULATED} if is_emulated(root=root, machine=platform.machine()) else {}),
    }


def is_emulated(*, root: Path, machine: str) -> bool:
    """Whether programs run here on a processor that another one plays, as QEMU's user mode does.

    Told by the name the kernel has for this process, which is the emulator's, or by a processor of another kind in
    the kernel's list. An emulator that hides both is not noticed.

    Args:
        root: of the file system.
        machine: what programs are told it is: `aarch64`, `x86_64`.
    """
    if read_text(root / "proc/self/comm").startswith("qemu-"):
        return True
    cpuinfo = read_text(root / "proc/cpuinfo")
    plays_arm = machine.lower() in _ARM and "vendor_id" in cpuinfo and "CPU implementer" not in cpuinfo
    return plays_arm or (machine.lower() in _X86 and "CPU implementer" in cpuinfo)


def saturates_int8(context: Mapping[str, str]) -> bool:
    """Whether kernels for uint8 activations and int8 weights saturate there: x86 with neither of the two VNNI.

    Args:
        context: what `host_context` told on that machine, or of it `hardware` alone. An x86 processor that does not
            tell its instruction sets is taken for one without.
    """
    flags = set(context.get("hardware", "").rpartition("[")[2].rstrip("]").split())
    x86 = context.get("machine", "").lower() in _X86 or bool(flags & {"avx", "avx2", "avx512f"})
    return x86 and not flags & {"avx512_vnni", "avx_vnni"}


def warnings(*, threads: int, pinned: Sequence[int] = (), root: Path = ROOT, listen_s: float = _LISTEN_S) -> list[str]:
    """What spoils a measurement by this process now, with what to do; empty if nothing is known to.

    Args:
        threads: the runtime will use.
        pinned: processors this process was pinned to; empty: it was not.
        root: of the file system.
        listen_s: how long to sleep and see what others do with those processors.
    """
    before = busy_ticks(root)
    time.sleep(listen_s if pinned and before else 0.0)
    after = busy_ticks(root)
    busy = {
        c: (after[c][0] - worked) / (after[c][1] - all_ticks)
        for c, (worked, all_ticks) in before.items()
        if c in after and after[c][1] > all_ticks
    }
    return list(cpu_warnings(cpu_state(root), threads=threads, pinned=pinned, busy=busy))


def pin(cores: Sequence[int], *, root: Path = ROOT) -> bool:
    """Let the calling thread, and all it will start, run on these processors only.

    Args:
        cores: their numbers, at least one.
        root: of the file system.

    Returns:
        False on a system that knows no pinning: nothing was done.

    Raises:
        ConfigError: a processor that does not exist or that this process may not use; names those it may.
    """
    there = online_processors(root)
    absent = sorted(set(cores) - set(there))
    if absent:
        raise ConfigError(
            f"the device's cores name {format_list(absent)}, but this machine has the processors {format_list(there)}"
        )
    if not hasattr(os, "sched_setaffinity"):
        return False
    before = os.sched_getaffinity(0)
    try:
        os.sched_setaffinity(0, cores)
        got = os.sched_getaffinity(0)
    except OSError:
        got = set()
    if got != set(cores):  # a container grants a part of what is asked for, or nothing
        os.sched_setaffinity(0, before)
        raise ConfigError(
            f"this process may not be pinned to the processors {format_list(cores)} that the device's cores name; it "
            f"may use {format_list(before)}"
        )
    return True


def _hardware(fields: Mapping[str, str], state: CpuState) -> str:
    """Processor name and relevant instruction sets: `AMD EPYC [avx2 fma avx512_vnni]`."""
    name = fields.get("model name") or fields.get("Model") or fields.get("Hardware")
    if not name and "CPU part" in fields:  # Arm servers give numbers only
        name = f"implementer {fields.get('CPU implementer', '?')} part {fields['CPU part']}"
    name = name or platform.processor() or platform.machine() or "unknown"
    flags = set((fields.get("flags") or fields.get("Features") or "").split())
    relevant = [flag for flag in _RELEVANT_FLAGS if flag in flags]
    if state.unequal and set(state.usable) < set(state.online):
        name = f"{name}, cores {format_list(state.usable)}"
    return f"{name} [{' '.join(relevant)}]" if relevant else name


def _cpuinfo(text: str) -> dict[str, str]:
    """Fields of the first processor, and those of the board, which stand last."""
    fields: dict[str, str] = {}
    for line in text.splitlines():
        key, colon, value = line.partition(":")
        if colon:
            fields.setdefault(key.strip(), value.strip())
    return fields
