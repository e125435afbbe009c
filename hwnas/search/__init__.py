"""Finds the networks of a space that trade metrics best within limits; needs Optuna only to run."""

from hwnas.search.archive import hypervolume, non_dominated
from hwnas.search.loop import read_study, search
from hwnas.search.problem import ClosedForm, Problem
from hwnas.search.process_workers import Processes
from hwnas.search.ray_workers import RayWorkers
from hwnas.search.sampling import Sampling
from hwnas.search.study import FailedTrial, Study, Trial
from hwnas.search.study_file import load_study, save_study
from hwnas.search.workers import Executor, InProcess, Outcome

__all__ = [
    "ClosedForm",
    "Executor",
    "FailedTrial",
    "InProcess",
    "Outcome",
    "Problem",
    "Processes",
    "RayWorkers",
    "Sampling",
    "Study",
    "Trial",
    "hypervolume",
    "load_study",
    "non_dominated",
    "read_study",
    "save_study",
    "search",
]
