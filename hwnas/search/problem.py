"""What a search is about: a space, directions, limits and what is known in closed form.

Every sampler gets one `Problem`, so a sampler of one's own can use all that is known. Numpy only:
this module must never know Optuna, torch, or what a metric means.
"""

from __future__ import annotations

from collections.abc import Callable, Mapping, Sequence
from typing import Protocol, runtime_checkable

import numpy as np

from hwnas.allowed import Between, Limits
from hwnas.errors import ConfigError, StudyError
from hwnas.limits import Limit, as_limits, as_mapping
from hwnas.spaces.encoding import ChoiceTree
from hwnas.types import Direction, Estimate, FloatArray, IntArray, Option, SearchSpace


@runtime_checkable
class Estimator(Protocol):
    """A closed form with an upper bound beside its value; every `CostModel` is one."""

    def estimate(self, encodings: IntArray) -> Estimate:
        """(N, D) -> values and upper bounds, each (N,)."""
        ...


@runtime_checkable
class Minimizing(Protocol):
    """A closed form that knows its exact extremes over the space; every `CostModel` is one."""

    def bounds(self) -> tuple[float, float]:
        """Exact minimum and maximum of the value over the space."""
        ...

    def minimizer(self) -> IntArray:
        """(D,) an architecture that reaches the minimum."""
        ...


@runtime_checkable
class Deciding(Protocol):
    """A closed form that decides exactly about limits on several of its kind together; every slot table does."""

    def decide(self, forms: Mapping[str, object], limits: Sequence[Limit], space: SearchSpace) -> IntArray | None:
        """(D,) a network of the space that keeps all limits, None if that was not decided.

        Args:
            forms: metric -> closed form, of all metrics with a limit.
            limits: on metrics of `forms`.
            space: of the forms.

        Raises:
            InfeasibleError: there is none.
        """
        ...


ClosedForm = Callable[[IntArray], FloatArray] | Estimator


class Problem:
    """One search, without its trials.

    Args:
        space: the networks.
        directions: metric -> `maximize` or `minimize`: the objectives, closed-form or evaluated, at least one.
        n_trials: how many architectures will be evaluated at most.
        limits: metric -> hard limit: `metric <= value`, or `metric >= value` for a metric that is maximised; a
            `Between` for the other side or both.
        closed_form: metrics known for every architecture: encodings (N, D) -> (N,), or an object with `estimate`,
            whose `.value` is the objective and by whose `.upper` limits are kept (by its value one from
            below). A network whose value is NaN cannot run and is never proposed.

    Attributes:
        directions: metric -> whether more is better, sorted by name; likewise `limits`, a number where it says all.
        tree: the space's choices, to encode and decode with.

    Raises:
        ConfigError: no direction, a direction that is neither word, a limit that is not a number, fewer than one
            trial.
    """

    def __init__(
        self,
        space: SearchSpace,
        directions: Mapping[str, str],
        *,
        n_trials: int,
        limits: Limits | None = None,
        closed_form: Mapping[str, ClosedForm] | None = None,
    ) -> None:
        if not directions:
            raise ConfigError("a search needs at least one direction, for example {'accuracy': 'maximize'}")
        if n_trials < 1:
            raise ConfigError(f"n_trials is {n_trials}; it must be at least 1")
        # compared as texts, since `Direction` is a StrEnum
        wrong = {m: d for m, d in directions.items() if d not in set(Direction)}
        if wrong:
            raise ConfigError(f"directions {wrong} are not known; each must be 'maximize' or 'minimize'")
        for metric, value in (limits or {}).items():
            if not isinstance(value, Between) and not np.isfinite(value):
                raise ConfigError(f"the limit of {metric!r} is {value}; it must be a finite number")
        self.space = space
        # sorted: Optuna's objectives have an order and no names, and a resumed study must have the same one
        self.directions: Mapping[str, Direction] = {m: Direction(directions[m]) for m in sorted(directions)}
        # in the fewest words: the same limits must read the same in a resumed study
        said = as_mapping(as_limits(limits or {}, self.directions), self.directions)
        self.limits: Limits = {m: v if isinstance(v, Between) else float(v) for m, v in sorted(said.items())}
        self.closed_form: Mapping[str, ClosedForm] = dict(closed_form or {})
        self.n_trials = n_trials
        self.tree = ChoiceTree(space.choices)

    @property
    def sizes(self) -> IntArray:
        """(D,) number of options of each choice."""
        return np.array([len(c.options) for c in self.space.choices], dtype=np.int64)

    @property
    def known_costs(self) -> tuple[str, ...]:
        """Closed-form metrics that are not maximised: objectives first, then what is limited, then others, as given."""
        found = [m for m in self.closed_form if self.directions.get(m) is not Direction.MAXIMIZE]
        return tuple(sorted(found, key=lambda m: 0 if m in self.directions else 1 if m in self.limits else 2))

    def decode(self, encoding: IntArray) -> dict[str, Option]:
        """(D,) -> choice name -> option, of the choices that matter."""
        return self.tree.decode(encoding)

    def encode(self, architecture: Mapping[str, Option]) -> IntArray:
        """Choice name -> option, as option indices (D,), canonical. Choices that are switched off may be missing.

        Raises:
            SpaceError: an unknown choice, a value that is no option, or an active choice that is missing.
        """
        return self.tree.encode(architecture)

    def estimate(self, encodings: IntArray) -> dict[str, Estimate]:
        """(N, D) -> closed-form metric -> values and upper bounds, each (N,); equal where there is no bound.

        Raises:
            StudyError: a closed form does not give one number for each architecture.
        """
        return {metric: self._estimate_one(metric, encodings) for metric in self.closed_form}

    def violations(
        self, encodings: IntArray, estimates: Mapping[str, Estimate] | None = None
    ) -> tuple[tuple[str, ...], FloatArray]:
        """How far architectures are beyond the limits known in closed form.

        Args:
            encodings: (N, D).
            estimates: of them, where they are known already.

        Returns:
            The names of the L closed-form metrics that can rule a network out, and (N, L) the excess
            relative to the limit: 0 where it is kept, inf where the closed form is NaN.
        """
        # a metric that is neither limited nor an objective rules nothing out
        metrics = tuple(m for m in self.closed_form if m in self.limits or m in self.directions)
        excess = np.zeros((len(encodings), len(metrics)))
        for j, metric in enumerate(metrics):
            estimate = self._estimate_one(metric, encodings) if estimates is None else estimates[metric]
            for limit in self.limits_on(metric):
                excess[:, j] += limit.excess(limit.decisive({metric: estimate.value}, {metric: estimate.upper}))
            # also without a limit: a network without a value cannot run
            excess[np.isnan(estimate.value), j] = np.inf
        return metrics, excess

    def limits_on(self, metric: str) -> tuple[Limit, ...]:
        """The limits on a metric: none, one or two."""
        asked = {metric: self.limits[metric]} if metric in self.limits else {}
        # a direction turns a limit round: `accuracy >= value`
        return as_limits(asked, self.directions)

    def _estimate_one(self, metric: str, encodings: IntArray) -> Estimate:
        form = self.closed_form[metric]
        if isinstance(form, Estimator):
            estimate = form.estimate(encodings)
            value, upper = np.asarray(estimate.value, dtype=float), np.asarray(estimate.upper, dtype=float)
        else:
            value = upper = np.asarray(form(encodings), dtype=float)
        # closed forms are others' code: a wrong shape would broadcast and give wrong answers in silence
        for a in (value, upper):
            if a.shape != (len(encodings),):
                raise StudyError(
                    f"the closed form of {metric!r} gave shape {a.shape} for {len(encodings)} architectures; "
                    f"it must give ({len(encodings)},): one number each"
                )
        return Estimate(value=value, upper=upper)
