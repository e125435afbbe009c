"""Who evaluates the networks of a search, as its configuration says: this process, or several at once.

Knows the run and its evaluator; never a study.
"""

from __future__ import annotations

import functools
import os
import socket
from collections.abc import Iterator, Mapping
from contextlib import closing, contextmanager
from typing import TYPE_CHECKING

from hwnas.config import Config
from hwnas.data.memory import available_memory
from hwnas.errors import ConfigError
from hwnas.search import Executor, InProcess, Processes, RayWorkers
from hwnas.torch_process import prepare_torch
from hwnas.types import Option
from hwnas.workspace import Workspace

if TYPE_CHECKING:
    from hwnas.accuracy import SubnetEvaluator

STANDARD_ERROR = "standard_error"  # beside what a run ranks networks by


@contextmanager
def workers(work: Workspace) -> Iterator[Executor]:
    """What evaluates for a run, ended with the context.

    Raises:
        CheckpointError: the supernet was not trained yet.
    """
    import torch

    prepare_torch(work.config.train.threads)
    c = work.config
    if c.search.ray is None and (c.search.workers or 1) == 1:
        yield InProcess(_Evaluate(work))
        return
    with closing(_elsewhere(c, threads=torch.get_num_threads())) as executor:
        yield executor


def _elsewhere(config: Config, *, threads: int) -> Executor:
    """Several workers.

    Args:
        config: of the run.
        threads: of this machine, which its workers share.
    """
    n, place = config.search.workers or 1, os.getcwd()
    if config.search.ray is None:
        make = functools.partial(_evaluate_elsewhere, config, threads=max(1, threads // n), place=place)
        return Processes(make, n, free_memory=available_memory)
    # on machines of their own: what is said of threads is said of one worker
    each = config.train.threads or 1
    make = functools.partial(_evaluate_elsewhere, config, threads=each, place=place)
    return RayWorkers(make, address=config.search.ray, count=config.search.workers, cpus=each)


def make_evaluator(work: Workspace) -> SubnetEvaluator:
    """How good sub-networks of the run's supernet are, on its validation samples."""
    from hwnas.accuracy import SubnetEvaluator

    c = work.config.search
    return SubnetEvaluator(
        work.supernet,
        train=work.stream("train"),
        validation=work.stream("validation"),
        task=work.task,
        recalibration_samples=c.recalibration_samples,
        calibration_samples=c.calibration_samples,
        validation_samples=c.validation_samples,
        symmetric=work.symmetric,
    )


def n_validation(work: Workspace) -> int:
    """How many images an accuracy is measured on."""
    there, asked = len(work.data.validation), work.config.search.validation_samples
    return there if asked is None else min(there, asked)


class _Evaluate:
    """Architecture -> what a run ranks networks by, and its standard error."""

    def __init__(self, work: Workspace) -> None:
        self._metric, self._space, self._evaluator = work.config.ranked_by, work.space, make_evaluator(work)

    def __call__(self, architecture: Mapping[str, Option]) -> dict[str, float]:
        found = self._evaluator(self._space.named_blocks(self._space.encode(architecture)))
        return {self._metric: found.value, STANDARD_ERROR: found.standard_error}


def _evaluate_elsewhere(config: Config, *, threads: int, place: str) -> _Evaluate:
    """The same in a worker, which has its own copy of all that it needs.

    Args:
        config: of the run.
        threads: for the worker.
        place: the folder that paths of the configuration begin at.

    Raises:
        ConfigError: the worker's machine has no such folder.
    """
    try:
        os.chdir(place)
    except OSError as e:
        raise ConfigError(
            f"worker {socket.gethostname()} has no folder {place} ({e.strerror}); machines of a cluster need the run's "
            "folder at the same place, as on a network drive"
        ) from e
    prepare_torch(threads)
    # what there is to say of the data is said by whoever started the workers
    return _Evaluate(Workspace(config, tell=lambda text: None))
