"""Answers budget questions from a finished study: the most accurate network within 2 ms and 300 kB.

Reads columns of numbers only; opening a study of 10,000 trials and answering takes milliseconds. This
module must never import Optuna, torch or a runtime, or know what a metric means.
"""

from __future__ import annotations

from collections.abc import Mapping
from dataclasses import dataclass
from pathlib import Path

import numpy as np

from hwnas.errors import ConfigError, StudyError
from hwnas.search.archive import non_dominated, oriented
from hwnas.search.limits import check_known, infeasible
from hwnas.search.problem import decode
from hwnas.search.study import Study
from hwnas.search.study_file import load_study
from hwnas.types import Direction, IntArray, Option


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
    """

    number: int
    architecture: dict[str, Option]
    encoding: IntArray
    values: dict[str, float]
    upper: dict[str, float]
    sources: dict[str, str]


def query(
    study: Study | Path | str, *, limits: Mapping[str, float], metric: str = "accuracy", top: int = 1
) -> list[Answer]:
    """The best networks of a study within limits.

    Args:
        study: a study or the path of its file.
        limits: metric -> `<= value`, or `>= value` for a metric that the study maximises; any metrics of
            the study, whether it searched with a limit on them or not. Kept by upper bounds where stored.
        metric: what to be best in; one of the study's directions.
        top: how many answers at most.

    Returns:
        One to `top` answers, best first; equally good ones by trial number.

    Raises:
        StudyError: the study cannot be read, or has no such metric; lists the known ones.
        ConfigError: `top` is not positive.
        InfeasibleError: no network of the study fits; names the limit that binds and the value nearest to it.
    """
    if top < 1:
        raise ConfigError(f"top is {top}; ask for at least 1 network")
    study = _opened(study)
    check_known([metric], study.directions)
    rows = np.flatnonzero(study.keeps(limits) & ~np.isnan(study.values[metric]))
    if not len(rows):
        if not len(study):
            raise StudyError(f"study {study.name!r} has no finished trial to choose from")
        raise infeasible(
            study.values,
            study.upper,
            limits=limits,
            directions=study.directions,
            decode=lambda i: decode(study.choices, study.encodings[i]),
            among="the study",
            extreme="seen",
        )
    column = study.values[metric][rows]
    order = np.argsort(-column if study.directions[metric] is Direction.MAXIMIZE else column, kind="stable")
    return [_answer(study, int(i)) for i in rows[order[:top]]]


def trade_off(study: Study | Path | str, metric: str, cost: str) -> list[Answer]:
    """The front of two metrics over the networks that keep the study's own limits.

    Args:
        study: a study or the path of its file.
        metric: what is gained; one of the study's directions.
        cost: what is paid; any other metric of the study, minimised unless it has a direction.

    Returns:
        The networks that no other beats in both, cheapest first.

    Raises:
        StudyError: the study cannot be read, or has no such metric; lists the known ones.
    """
    study = _opened(study)
    check_known([metric], study.directions)
    check_known([cost], study.values)
    rows = np.flatnonzero(study.feasible)
    directions = {metric: study.directions[metric], cost: study.directions.get(cost, Direction.MINIMIZE)}
    points = oriented({m: study.values[m][rows] for m in directions}, directions)
    front = rows[non_dominated(points)]
    cheapest_first = front[np.argsort(study.values[cost][front], kind="stable")]
    return [_answer(study, int(i)) for i in cheapest_first]


def _opened(study: Study | Path | str) -> Study:
    return study if isinstance(study, Study) else load_study(study)


def _answer(study: Study, row: int) -> Answer:
    trial = study.trial_at(row)
    return Answer(
        number=trial.number,
        architecture=trial.architecture,
        encoding=trial.encoding,
        values=trial.values,
        upper=trial.upper,
        sources=dict(study.sources),
    )
