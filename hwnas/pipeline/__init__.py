"""The stages of a run, joined: train, profile, search, export, verify, report.

Knows every part by what it promises; of audits only the advice they have for a run, and never a fleet, which is made of
these stages. Each stage goes on from what it finds in the run's folder, and ends with a result for people and for
programs.
"""

from hwnas.pipeline.deploying import export
from hwnas.pipeline.profiling import profile
from hwnas.pipeline.reporting import report
from hwnas.pipeline.running import run_all
from hwnas.pipeline.searching import search
from hwnas.pipeline.training import train
from hwnas.pipeline.verifying import verify

__all__ = ["export", "profile", "report", "run_all", "search", "train", "verify"]
