"""The stages of a run, joined: train, profile, search, export, verify, report.

This package is the only place that knows all parts. Importing it loads neither torch nor a runtime;
each stage loads what it needs when it is called. A stage goes on from what it finds in the run's folder.
"""

from hwnas.pipeline.running import export, profile, report, run_all, search
from hwnas.pipeline.training import train
from hwnas.pipeline.verifying import verify

__all__ = ["export", "profile", "report", "run_all", "search", "train", "verify"]
