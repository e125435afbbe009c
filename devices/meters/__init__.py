"""Energy meters: adapters from counters and sensors to `hwnas.measure.energy.Meter`, and what there is here.

Each knows one source of energy and nothing of runtimes or models. Importing this package loads none of them.
"""

from __future__ import annotations

from collections.abc import Mapping
from pathlib import Path


def found_meters(root: Path = Path("/")) -> Mapping[str, str]:
    """Meter -> what it would read on this machine, for those that would find anything; nothing is opened.

    Args:
        root: of the file system.
    """
    from .rapl import zones_in
    from .sysfs import rails_in

    found: dict[str, str] = {}
    gpus = sorted(path.name for path in (root / "dev").glob("nvidia[0-9]*"))
    if gpus:
        found["nvml"] = ", ".join(gpus)
    zones = zones_in(root / "sys/class/powercap")
    if zones:
        found["rapl"] = ", ".join(zones)
    rails = rails_in(root / "sys")
    if rails:
        found["sysfs"] = ", ".join(rails)
    return found
