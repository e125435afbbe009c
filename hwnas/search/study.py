"""What a search found: columns of numbers, and trials made from them when somebody looks.

A study of ten thousand trials must be opened and asked in milliseconds, so nothing here is an object
per trial until it is needed. Numpy only: this module must never know Optuna or torch.
"""

from __future__ import annotations

from collections.abc import Mapping
from dataclasses import dataclass, field
from functools import cached_property
from pathlib import Path

import numpy as np

from hwnas.errors import StudyError
from hwnas.search.archive import non_dominated, oriented
from hwnas.search.limits import check_known, infeasible, keeps
from hwnas.search.problem import BoolArray, decode
from hwnas.types import Choice, Direction, FloatArray, IntArray, Option


@dataclass(frozen=True, slots=True, kw_only=True, eq=False)
class Trial:
    """One evaluated architecture.

    Attributes:
        number: of the trial in its storage; failed trials have numbers too, so there may be gaps.
        architecture: choice name -> option, canonical.
        encoding: (D,) option indices, canonical.
        values: metric -> value: what `evaluate` gave and every closed form.
        upper: metric -> upper bound, for closed forms that have one.
        feasible: whether every limit is kept.
    """

    number: int
    architecture: dict[str, Option]
    encoding: IntArray
    values: dict[str, float]
    upper: dict[str, float]
    feasible: bool


@dataclass(frozen=True, slots=True, kw_only=True)
class FailedTrial:
    """An architecture whose evaluation raised an error of ours; it is not tried again."""

    number: int
    architecture: dict[str, Option]
    reason: str


@dataclass(frozen=True, kw_only=True, eq=False)
class Study:
    """All trials of one search, as columns in trial order.

    Attributes:
        name: of the study in its storage.
        space_name: of the space.
        choices: of the space, enough to read the encodings without it.
        directions: metric -> direction, of the objectives.
        limits: metric -> the limit the search kept.
        numbers: (N,) trial numbers.
        encodings: (N, D) canonical.
        values: metric -> (N,); NaN where a trial has none.
        upper: metric -> (N,) upper bounds of the closed forms that have one.
        feasible: (N,) whether every limit is kept.
        sources: metric -> `measured` or `estimated`.
        failed: trials that ended in an error.
        note: why the search ended early, empty if it did not.
    """

    name: str
    space_name: str
    choices: tuple[Choice, ...]
    directions: Mapping[str, Direction]
    limits: Mapping[str, float]
    numbers: IntArray
    encodings: IntArray
    values: Mapping[str, FloatArray]
    upper: Mapping[str, FloatArray] = field(default_factory=dict)
    feasible: BoolArray
    sources: Mapping[str, str] = field(default_factory=dict)
    failed: tuple[FailedTrial, ...] = ()
    note: str = ""

    def __len__(self) -> int:
        return len(self.numbers)

    @cached_property
    def trials(self) -> tuple[Trial, ...]:
        """All complete trials, in order."""
        return tuple(self.trial_at(i) for i in range(len(self)))

    def trial_at(self, row: int) -> Trial:
        """The trial in one row of the columns."""
        return Trial(
            number=int(self.numbers[row]),
            architecture=decode(self.choices, self.encodings[row]),
            encoding=self.encodings[row].astype(np.int64),
            values={m: float(v[row]) for m, v in self.values.items() if not np.isnan(v[row])},
            upper={m: float(v[row]) for m, v in self.upper.items() if not np.isnan(v[row])},
            feasible=bool(self.feasible[row]),
        )

    def front(self) -> list[Trial]:
        """The non-dominated trials that keep every limit, in trial order."""
        rows = np.flatnonzero(self.feasible)
        points = oriented({m: self.values[m][rows] for m in self.directions}, self.directions)
        return [self.trial_at(int(i)) for i in rows[non_dominated(points)]]

    def best(self, metric: str) -> Trial:
        """The trial that keeps every limit and is best in a metric; the first one if several are.

        Args:
            metric: one of the directions.

        Raises:
            StudyError: the study has no direction for this metric, or no trials.
            InfeasibleError: no trial keeps the limits; says which limit binds and the value that comes nearest.
        """
        check_known([metric], self.directions)
        if not len(self):
            raise StudyError(f"study {self.name!r} has no finished trial ({len(self.failed)} failed); run more")
        rows = np.flatnonzero(self.feasible)
        if not len(rows):
            raise infeasible(
                self.values,
                self.upper,
                limits=self.limits,
                directions=self.directions,
                decode=lambda i: decode(self.choices, self.encodings[i]),
                among="the study",
                extreme="seen",
            )
        column = self.values[metric][rows]
        i = np.argmax(column) if self.directions[metric] is Direction.MAXIMIZE else np.argmin(column)
        return self.trial_at(int(rows[i]))

    def keeps(self, limits: Mapping[str, float]) -> BoolArray:
        """(N,) which trials keep other limits than the study's own, by upper bounds where there are any."""
        check_known(limits, self.values)
        return keeps(self.values, self.upper, limits=limits, directions=self.directions)

    def save(self, path: Path | str) -> None:
        """Write the study as one compact file, whole; `load_study` reads it without Optuna.

        Raises:
            OSError: the file cannot be written; an older one is untouched.
        """
        from hwnas.search.study_file import save_study

        save_study(self, Path(path))
