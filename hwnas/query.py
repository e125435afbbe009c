"""Answers budget questions from a finished study: the most accurate network within 2 ms and 300 kB.

Reads columns of numbers only; opening a study of 10,000 trials and answering takes milliseconds. This
module must never import Optuna, torch or a runtime, or know what a metric means.
"""

from __future__ import annotations

import itertools
import math
from dataclasses import dataclass, field, replace
from pathlib import Path

import numpy as np

from hwnas.allowed import Limits
from hwnas.errors import ConfigError, StudyError
from hwnas.limits import as_limits
from hwnas.search.choice import Pick
from hwnas.search.limits import check_known, infeasible
from hwnas.search.study import Study
from hwnas.search.study_file import load_study
from hwnas.types import IntArray, Option


@dataclass(frozen=True, slots=True, kw_only=True, eq=False)
class Answer:
    """A network of the study that fits the question.

    Attributes:
        number: of its trial.
        architecture: choice name -> option.
        encoding: (D,) option indices.
        values: metric -> value.
        upper: metric -> upper bound, where the study has one.
        sources: metric -> `measured` or `estimated`.
        standard_errors: metric -> how much its value may be off, where the study tells it.
        preference: why it, and not another.
    """

    number: int
    architecture: dict[str, Option]
    encoding: IntArray
    values: dict[str, float]
    upper: dict[str, float]
    sources: dict[str, str]
    standard_errors: dict[str, float] = field(default_factory=dict)
    preference: Preference


@dataclass(frozen=True, slots=True, kw_only=True)
class Preference:
    """How an answer compares with the network that has the best value of all those not named before it.

    Attributes:
        metric: what was asked for.
        best: number of the trial with the best value; the answer's own if it is that one.
        best_value: its value.
        standard_error: of this value; None where the study does not tell it, and only equal values count as equal.
        tolerance: how much worse was taken for as good.
        cost: the metric in which the answer is cheaper; empty if it is the best itself.
        ratio: of the answer's cost to that of the best, by upper bounds where there are any; 1 if it is the best.
        asked_for: nothing was compared: this very network was asked for.
    """

    metric: str
    best: int
    best_value: float
    standard_error: float | None
    tolerance: float
    cost: str = ""
    ratio: float = 1.0
    asked_for: bool = False


def query(
    study: Study | Path | str,
    *,
    limits: Limits,
    metric: str = "",
    top: int = 1,
    tolerance: float | None = None,
) -> list[Answer]:
    """The best networks of a study within limits.

    Of networks whose values differ by no more than the standard error of the best of them, the cheapest is taken: by
    the study's other directions first, then what has a limit, then by size and the rest. So no answer is beaten by a
    network that is not named before it (see `hwnas.search.choice`).

    Args:
        study: a study or the path of its file.
        limits: metric -> `<= value`, or `>= value` for a metric that the study maximises, or `Between`; any metrics of
            the study, whether it searched with a limit on them or not. Kept by upper bounds where stored.
        metric: what to be best in; one of the study's directions. Empty: what its networks were evaluated for.
        top: how many answers at most.
        tolerance: how much worse in the metric is as good; None: one standard error, where the study tells it;
            0: only equal values are.

    Returns:
        One to `top` answers; each is what would be answered if those before it did not exist.

    Raises:
        StudyError: the study cannot be read, or has no such metric; lists the known ones.
        ConfigError: `top` is not positive, or `tolerance` is negative or not a number.
        InfeasibleError: no network of the study fits; names the limit that binds and the value nearest to it.
    """
    if top < 1:
        raise ConfigError(f"top is {top}; ask for at least 1 network")
    if tolerance is not None and not 0 <= tolerance < math.inf:
        raise ConfigError(f"the tolerance is {tolerance}; it is how much worse a value may be, 0 or more")
    study = _open(study)
    metric = metric or study.ranked_by
    check_known([metric], study.directions)
    rows = np.flatnonzero(study.keeps(limits) & ~np.isnan(study.values[metric]))
    if not len(rows):
        if not len(study):
            raise StudyError(f"study {study.name!r} has no finished trial to choose from")
        raise infeasible(
            study.values,
            study.upper,
            limits=as_limits(limits, study.directions),
            decode=study.architecture_at,
            among="the study",
            extreme="seen",
        )
    found = study.picks(metric, rows=rows, limits=limits, tolerance=tolerance)
    return [_answer(study, p, metric=metric, limits=limits, tolerance=tolerance) for p in itertools.islice(found, top)]


def trade_off(study: Study | Path | str, metric: str, cost: str) -> list[Answer]:
    """The front of two metrics over the networks that keep the study's own limits.

    Args:
        study: a study or the path of its file.
        metric: what is gained; one of the study's directions.
        cost: what is paid; any other metric of the study, minimised unless it has a direction.

    Returns:
        The networks that no other beats in both, cheapest first; of equal ones that which costs least otherwise.

    Raises:
        StudyError: the study cannot be read, or has no such metric; lists the known ones.
    """
    study = _open(study)
    check_known([metric], study.directions)
    check_known([cost], study.values)
    front = study.front_rows(metric, cost, rows=np.flatnonzero(study.feasible))
    alone = [Pick(row=i, best=i) for i in front]
    return [_answer(study, pick, metric=metric, limits={}, tolerance=0.0) for pick in alone]


def answer_for(study: Study, number: int) -> Answer:
    """What a study knows of one of its networks, compared with no other.

    Args:
        study: has a trial of this number.
        number: of the trial.
    """
    (row,) = np.flatnonzero(study.numbers == number).tolist()
    answer = _answer(study, Pick(row=row, best=row), metric=study.ranked_by, limits={}, tolerance=0.0)
    return replace(answer, preference=replace(answer.preference, asked_for=True))


def _open(study: Study | Path | str) -> Study:
    return study if isinstance(study, Study) else load_study(study)


def _answer(study: Study, pick: Pick, *, metric: str, limits: Limits, tolerance: float | None) -> Answer:
    trial = study.trial_at(pick.row)
    return Answer(
        number=trial.number,
        architecture=trial.architecture,
        encoding=trial.encoding,
        values=trial.values,
        upper=trial.upper,
        sources=dict(study.sources),
        standard_errors={
            m: float(errors[pick.row]) for m, errors in study.standard_errors.items() if not np.isnan(errors[pick.row])
        },
        preference=_preference(study, pick, metric=metric, limits=limits, tolerance=tolerance),
    )


def _preference(study: Study, pick: Pick, *, metric: str, limits: Limits, tolerance: float | None) -> Preference:
    errors = study.standard_errors.get(metric)
    error = None if errors is None or np.isnan(errors[pick.best]) else float(errors[pick.best])
    cost, ratio = "", 1.0
    if pick.row != pick.best:
        names, costs = study.costs(metric, first=limits)
        mine, its = (np.array([cost[row] for cost in costs]) for row in (pick.row, pick.best))
        # sums of the same entries in another order differ in their last bits: that is no difference to tell of
        different = np.flatnonzero(~np.isclose(mine, its, rtol=1e-12, atol=0.0, equal_nan=True))
        if len(different):
            j = int(different[0])
            cost, ratio = names[j], float(mine[j] / its[j]) if its[j] else 1.0
    return Preference(
        metric=metric,
        best=int(study.numbers[pick.best]),
        best_value=float(study.values[metric][pick.best]),
        standard_error=error,
        tolerance=(error or 0.0) if tolerance is None else tolerance,
        cost=cost,
        ratio=ratio,
    )
