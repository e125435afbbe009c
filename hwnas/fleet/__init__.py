"""The stages of a run for several devices or budgets: one training; tables, a study and deployments for each device.

They have the names of those in `hwnas.pipeline`, which they put together; never an audit or how a device is described.
"""

from hwnas.fleet.running import export, profile, report, run_all, search

__all__ = ["export", "profile", "report", "run_all", "search"]
