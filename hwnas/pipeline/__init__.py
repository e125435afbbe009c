"""The stages of a run, joined: train, profile, search, export, verify, report.

Knows every part by what it promises; of audits only the advice they have for a run, and never a fleet, which is made of
these stages. Each stage goes on from what it finds in the run's folder, and ends with a result for people and for
programs.
"""

from hwnas.pipeline._deployment_summary import ExportResult
from hwnas.pipeline.adapting import AdaptResult, adapt
from hwnas.pipeline.deploying import export, export_network
from hwnas.pipeline.most import MostResult, most_within
from hwnas.pipeline.profiling import ProfileResult, profile
from hwnas.pipeline.reporting import ReportResult, report
from hwnas.pipeline.running import RunResult, run_all
from hwnas.pipeline.searching import SearchResult, search
from hwnas.pipeline.solving import ExactResult, search_exact
from hwnas.pipeline.training import TrainResult, train
from hwnas.pipeline.verifying import VerifyResult, verify

__all__ = [
    "AdaptResult",
    "ExactResult",
    "ExportResult",
    "MostResult",
    "ProfileResult",
    "ReportResult",
    "RunResult",
    "SearchResult",
    "TrainResult",
    "VerifyResult",
    "adapt",
    "export",
    "export_network",
    "most_within",
    "profile",
    "report",
    "run_all",
    "search",
    "search_exact",
    "train",
    "verify",
]
