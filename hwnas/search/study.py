"""What a search found: columns of numbers, and trials made from them when somebody looks.

A study of ten thousand trials must be opened and asked in milliseconds, so nothing here is an object
per trial until it is needed. Numpy only: this module must never know Optuna or torch.
"""

from __future__ import annotations

from collections.abc import Iterable, Iterator, Mapping
from dataclasses import dataclass, field
from functools import cached_property

import numpy as np

from hwnas.allowed import Limits
from hwnas.errors import StudyError
from hwnas.limits import as_limits, feasible
from hwnas.search.archive import non_dominated, oriented
from hwnas.search.choice import Pick, by_price, cost_names, paid, picks
from hwnas.search.limits import check_known, infeasible
from hwnas.spaces.encoding import ChoiceTree
from hwnas.types import BoolArray, Choice, Direction, FloatArray, IntArray, Option


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
        standard_errors: metric -> (N,) of values that were measured on samples; none of a metric that is exact, or in
            a study from before these were kept.
        feasible: (N,) whether every limit is kept.
        sources: metric -> `measured` or `estimated`.
        failed: trials that ended in an error.
        note: why the search ended early, empty if it did not.
        provenance: how it came about, for people: `seconds` of its trials, and what whoever searched adds (`device`,
            `sampler`, `seed`); empty in a study from before this was kept.
    """

    name: str
    space_name: str
    choices: tuple[Choice, ...]
    directions: Mapping[str, Direction]
    limits: Limits
    numbers: IntArray
    encodings: IntArray
    values: Mapping[str, FloatArray]
    upper: Mapping[str, FloatArray] = field(default_factory=dict)
    standard_errors: Mapping[str, FloatArray] = field(default_factory=dict)
    feasible: BoolArray
    sources: Mapping[str, str] = field(default_factory=dict)
    failed: tuple[FailedTrial, ...] = ()
    note: str = ""
    provenance: Mapping[str, Option] = field(default_factory=dict)

    def __len__(self) -> int:
        return len(self.numbers)

    @property
    def ranked_by(self) -> str:
        """What its networks were evaluated for: the first metric of which more is better, or the first of all.

        Raises:
            StudyError: it has no direction.
        """
        gains = [m for m, direction in self.directions.items() if direction is Direction.MAXIMIZE]
        if not self.directions:
            raise StudyError(f"study {self.name!r} has no direction, so no network of it is the best")
        return gains[0] if gains else next(iter(self.directions))

    @cached_property
    def trials(self) -> tuple[Trial, ...]:
        """All complete trials, in order."""
        return tuple(self.trial_at(i) for i in range(len(self)))

    @cached_property
    def _tree(self) -> ChoiceTree:
        return ChoiceTree(self.choices)

    def architecture_at(self, row: int) -> dict[str, Option]:
        """Choice name -> option, of the trial in one row of the columns."""
        return self._tree.decode(self.encodings[row])

    def trial_at(self, row: int) -> Trial:
        """The trial in one row of the columns."""
        return Trial(
            number=int(self.numbers[row]),
            architecture=self.architecture_at(row),
            # kept narrow in the columns and in the file
            encoding=self.encodings[row].astype(np.int64),
            # columns need a number in every row; a trial need not have every metric
            values={m: float(v[row]) for m, v in self.values.items() if not np.isnan(v[row])},
            upper={m: float(v[row]) for m, v in self.upper.items() if not np.isnan(v[row])},
            # NumPy's own bool is no JSON
            feasible=bool(self.feasible[row]),
        )

    def front(self) -> list[Trial]:
        """The non-dominated trials that keep every limit, in trial order."""
        # before the front: one that breaks a limit must not hide one that keeps it
        rows = np.flatnonzero(self.feasible)
        points = oriented({m: self.values[m][rows] for m in self.directions}, self.directions)
        return [self.trial_at(int(i)) for i in rows[non_dominated(points)]]

    def best(self, metric: str) -> Trial:
        """The trial that keeps every limit and is best in a metric; the cheapest one if several are equally good.

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
                limits=as_limits(self.limits, self.directions),
                decode=self.architecture_at,
                among="the study",
                extreme="seen",
            )
        # no tolerance: the best is asked for, not what is as good within its noise
        return self.trial_at(next(self.picks(metric, rows=rows, limits=self.limits, tolerance=0.0)).row)

    def picks(self, metric: str, *, rows: IntArray, limits: Limits, tolerance: float | None = None) -> Iterator[Pick]:
        """Some of the trials in the order in which to take them, see `hwnas.search.choice`.

        Args:
            metric: one of the directions.
            rows: of the trials; none has a NaN in this metric.
            limits: that were asked for; their metrics come next among the costs.
            tolerance: how much worse in the metric is as good; None: one standard error, where the study tells it.
        """
        column = self.values[metric]
        # `picks` maximises
        gain = column if self.directions[metric] is Direction.MAXIMIZE else -column
        error = self.standard_errors.get(metric) if tolerance is None else None
        # without a standard error a value is exact, or from a study that did not keep it: only equal ones are as good
        allowed = np.full(len(self), tolerance or 0.0) if error is None else np.nan_to_num(error)
        return picks(gain, self.costs(metric, first=limits)[1], tolerance=allowed, rows=rows)

    def costs(self, metric: str, *, first: Iterable[str] = ()) -> tuple[list[str], list[FloatArray]]:
        """What trials are paid with, the most important first: metrics, and for each (N,) to minimise.

        Args:
            metric: what is gained.
            first: metrics that count after the directions, those with a limit.
        """
        names = cost_names(self.values, metric=metric, directions=self.directions, first=first)
        return names, [self._paid[name] for name in names]

    @cached_property
    def _paid(self) -> dict[str, FloatArray]:
        return {m: paid(v, self.upper.get(m), direction=self.directions.get(m)) for m, v in self.values.items()}

    def front_rows(self, metric: str, cost: str, *, rows: IntArray) -> list[int]:
        """Those of some trials that no other of them beats in two metrics, by rising cost; of equal ones the cheapest.

        Args:
            metric: what is gained; maximised unless it has another direction.
            cost: what is paid; minimised unless it has another direction.
            rows: of the trials; one without both values is in no front.
        """
        directions = {
            metric: self.directions.get(metric, Direction.MAXIMIZE),
            cost: self.directions.get(cost, Direction.MINIMIZE),
        }
        points = oriented({m: self.values[m][rows] for m in directions}, directions)
        front = non_dominated(points)
        # by price first, so that `np.unique`, which keeps the first, keeps the cheapest of equal points
        rows = by_price(self.costs(metric)[1], rows[front])
        points = oriented({m: self.values[m][rows] for m in directions}, directions)
        rows = rows[np.unique(points, axis=0, return_index=True)[1]]
        return [int(i) for i in rows[np.argsort(self.values[cost][rows], kind="stable")]]

    def keeps(self, limits: Limits) -> BoolArray:
        """(N,) which trials keep other limits than the study's own, by upper bounds where there are any."""
        check_known(limits, self.values)
        return feasible(as_limits(limits, self.directions), self.values, self.upper)
