"""The stages of a run for several devices or budgets: one training; tables, a study and deployments for each device.

They have the names of those in `hwnas.pipeline`, which they put together; never an audit or how a device is described.
"""

from hwnas.fleet.results import FleetProfile, FleetReport, FleetResult, FleetSearch, ProfiledDevice
from hwnas.fleet.running import export, profile, report, run_all, search

STAGES = ("export", "profile", "report", "run_all", "search")  # the training is that of `hwnas.pipeline`

__all__ = [
    "STAGES",
    "FleetProfile",
    "FleetReport",
    "FleetResult",
    "FleetSearch",
    "ProfiledDevice",
    "export",
    "profile",
    "report",
    "run_all",
    "search",
]
