"""The two functions that start a search or look at one; everything heavy is imported when they run.

Never knows what a metric means, and never torch or devices.
"""

from __future__ import annotations

from pathlib import Path
from typing import TYPE_CHECKING

import numpy as np

from hwnas.search.problem import Problem
from hwnas.search.sampling import Sampling
from hwnas.search.study import Study
from hwnas.search.workers import Evaluate, Executor, InProcess
from hwnas.types import ProgressCallback, ignore_progress

if TYPE_CHECKING:
    from hwnas.search.space_sampler import SpaceSampler

_DEFAULT_SAMPLING = Sampling()


def search(
    problem: Problem,
    evaluate: Evaluate | Executor,
    *,
    sampling: Sampling = _DEFAULT_SAMPLING,
    storage: str | Path | None = None,
    study_name: str = "search",
    progress: ProgressCallback = ignore_progress,
) -> Study:
    """Find the networks of a space that trade metrics best within limits.

    Every trial is a network that was not evaluated before and keeps the limits on closed-form metrics. Limits on
    evaluated metrics are Optuna constraints: the sampler learns to keep them, and trials that do not are marked
    infeasible.

    The same call on the same storage goes on until the problem's `n_trials` are complete in total, also at the same
    time in other processes or on other machines. An interrupted search loses at most the trials that were running.
    With one seed the trials are always the same, as long as no other process searches in the same study: also with
    several workers if the sampler says which results it waits for, as `random`, `nsga2` and `nsga3` do; any other
    learns from what is known when it proposes. A resumed search need not find what an uninterrupted one finds.

    Processes and machines may share a study. The call then ends when all trials are complete, those of the others
    included; trials of one that died are free again, at once where its process can be seen from here, in a database
    after a minute (`hwnas.search.lease`). Where neither is possible, as for a journal on a network drive, they are left
    alone, the study may end a few trials short, and the same call on the other machine completes it.

    Args:
        problem: what is searched.
        evaluate: the expensive part: one architecture (choice name -> option) to metric -> value. Metrics that are
            not directions are kept as extra values. An error of ours (HwnasError) marks the trial as failed and the
            search goes on; any other ends it. Or an executor, which evaluates several at once (see
            `hwnas.search.Processes`); whoever made it closes it.
        sampling: how architectures are proposed.
        storage: None for memory, a path for a journal file, or a database URL.
        study_name: several studies may live in one storage.
        progress: called after every trial with (complete, n_trials, note).

    Returns:
        The study with the trials of all processes so far. Its `note` says if the space was exhausted.

    Raises:
        InfeasibleError: no network keeps the closed-form limits; says which binds and the smallest reachable.
        StudyError: the storage holds another search under this name, cannot be read, `evaluate` does not give the
            metrics asked for, or ten evaluations in a row failed.
        SpaceError: an initial architecture is not of the space.
        UnknownNameError: no such sampler; lists the known ones.
        EvaluationError: workers died one after the other.
    """
    sampler = _sampler(problem, sampling)  # before the study: a search that cannot find anything leaves nothing behind

    from hwnas.search import optuna_study
    from hwnas.search import storage as storages
    from hwnas.search.run import Run

    where = storages.shown(storage)
    with (
        optuna_study.quiet(),
        storages.told_of_database(storage),
        storages.opened(storage) as opened,
        storages.session() as owner,
    ):
        study = optuna_study.open_or_create(problem, sampler, opened=opened, storage=where, study_name=study_name)
        # first: networks of killed processes are free again before anything new is proposed
        storages.fail_abandoned(study)
        # values of two tables in one study would be compared with each other
        optuna_study.check_closed_forms(study, problem)
        executor = evaluate if isinstance(evaluate, Executor) else InProcess(evaluate)
        run = Run(study, problem, sampler, executor=executor, owner=owner)
        # kept with the study: whoever reads it later must know that the space was exhausted
        optuna_study.set_note(study, run.to_the_end(progress))
        return optuna_study.collect(study)


def _sampler(problem: Problem, sampling: Sampling) -> SpaceSampler:
    """What proposes architectures of a problem, once nothing is wrong with what the caller gave."""
    factory = sampling.factory()
    initial = [problem.encode(a) for a in sampling.initial]

    from hwnas.search.space_sampler import SpaceSampler

    sampler = SpaceSampler(factory, problem, seed=sampling.seed, initial=initial)
    sampler.candidates.require_feasible(np.random.default_rng(sampling.seed))
    return sampler


def read_study(storage: str | Path, *, study_name: str = "search") -> Study:
    """The study in a storage as it stands, finished or not; evaluates nothing.

    Raises:
        StudyError: there is no such study; lists those there are.
    """
    from hwnas.search import optuna_study
    from hwnas.search import storage as storages

    where = storages.shown(storage)
    with (
        optuna_study.quiet(),
        storages.told_of_database(storage),
        storages.opened(storage, new=False) as opened,
    ):
        return optuna_study.collect(optuna_study.open_existing(opened, storage=where, study_name=study_name))
