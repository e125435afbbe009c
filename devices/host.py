"""What is known about the machine this process runs on: processor, instruction sets, clock governor.

Knows the operating system's own files and nothing of runtimes.
"""

from __future__ import annotations

import os
import platform
from collections.abc import Mapping
from pathlib import Path

# Instruction sets that decide which kernels a runtime picks: the same processor name with another set
# (a virtual machine may hide some) is another machine.
_RELEVANT_FLAGS = (
    *("avx", "avx2", "fma", "f16c", "avx512f", "avx512bw", "avx512_vnni", "avx_vnni", "avx512_bf16", "amx_int8"),
    *("asimd", "asimddp", "asimdhp", "i8mm", "bf16", "sve", "sve2"),  # Arm
)
_CPUINFO = Path("/proc/cpuinfo")
_GOVERNOR = Path("/sys/devices/system/cpu/cpu0/cpufreq/scaling_governor")


def host_context(*, threads: int) -> dict[str, str]:
    """What changes a time on this machine.

    Args:
        threads: the runtime's setting, recorded with the rest.

    Returns:
        `hardware` (processor, and its instruction sets that matter), `governor` (`unknown` where the system does not
        tell), `os`, `machine`, `cores` and `threads`.
    """
    fields = _cpuinfo(_read(_CPUINFO))
    return {
        "hardware": _hardware(fields),
        "governor": _read(_GOVERNOR).strip() or "unknown",
        "os": f"{platform.system()} {platform.release()}",
        "machine": platform.machine(),
        "cores": str(os.cpu_count() or 1),
        "threads": str(threads),
    }


def _hardware(fields: Mapping[str, str]) -> str:
    """Processor name and relevant instruction sets: `AMD EPYC [avx2 fma avx512_vnni]`."""
    name = fields.get("model name") or fields.get("Model") or fields.get("Hardware")
    if not name and "CPU part" in fields:  # Arm servers give numbers only
        name = f"implementer {fields.get('CPU implementer', '?')} part {fields['CPU part']}"
    name = name or platform.processor() or platform.machine() or "unknown"
    flags = set((fields.get("flags") or fields.get("Features") or "").split())
    relevant = [flag for flag in _RELEVANT_FLAGS if flag in flags]
    return f"{name} [{' '.join(relevant)}]" if relevant else name


def _cpuinfo(text: str) -> dict[str, str]:
    """Fields of the first processor, and those of the board, which stand last."""
    fields: dict[str, str] = {}
    for line in text.splitlines():
        key, colon, value = line.partition(":")
        if colon:
            fields.setdefault(key.strip(), value.strip())
    return fields


def _read(path: Path) -> str:
    try:
        return path.read_text(errors="replace")
    except OSError:  # another operating system, or a container that hides it
        return ""
