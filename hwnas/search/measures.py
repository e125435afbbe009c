"""How good what a search found is, after each evaluation: of one search, and over searches that differ in their seed.

Measures take points (N, M) whose every column is minimised (`archive.oriented`); distances want columns that
can be compared, see `scaled`. Numpy only: never a study, never a sampler.
"""

from __future__ import annotations

from collections.abc import Callable, Sequence
from dataclasses import dataclass

import numpy as np

from hwnas.search.archive import hypervolume, non_dominated
from hwnas.types import BoolArray, FloatArray

Measure = Callable[[FloatArray], float]


@dataclass(frozen=True, slots=True, kw_only=True, eq=False)
class Quartiles:
    """A measure over several searches, after each evaluation.

    Attributes:
        lower: (N,) a quarter of the searches is below, or at it.
        median: (N,)
        upper: (N,) a quarter of the searches is above, or at it.
        n_searches: how many there are.
    """

    lower: FloatArray
    median: FloatArray
    upper: FloatArray
    n_searches: int


def scaled(points: FloatArray, *, front: FloatArray) -> FloatArray:
    """(N, M) points in units of a known front: 0 where it is best in an objective, 1 where it is worst.

    Args:
        points: (N, M), every column minimised.
        front: (K, M) K at least 1; an objective in which all of it is the same keeps its unit.
    """
    low = front.min(axis=0)
    span: FloatArray = front.max(axis=0) - low
    moved: FloatArray = (points - low) / np.where(span > 0, span, 1.0)
    return moved


def inverted_generational_distance(points: FloatArray, *, front: FloatArray) -> float:
    """Mean distance from a known front to the nearest point, IGD (Coello Coello & Reyes Sierra, 2004); less is better.

    A front that is better than another may have a larger one: `inverted_generational_distance_plus` has not this flaw.

    Args:
        points: (N, M), N at least 1.
        front: (K, M) known, K at least 1.
    """
    return _mean_distance(np.abs(_gaps(points, front)))


def inverted_generational_distance_plus(points: FloatArray, *, front: FloatArray) -> float:
    """IGD+ (Ishibuchi et al., 2015): as IGD, but a point is only as far away as it is worse; less is better.

    Args:
        points: (N, M), N at least 1.
        front: (K, M) known, K at least 1.
    """
    return _mean_distance(np.maximum(_gaps(points, front), 0.0))


def additive_epsilon(points: FloatArray, *, front: FloatArray) -> float:
    """How much must be taken off every objective of the points so that they are nowhere worse than a known front.

    The additive epsilon indicator (Zitzler et al., 2003, section IV.B); less is better, 0 for the front itself.

    Args:
        points: (N, M), N at least 1.
        front: (K, M) known, K at least 1.
    """
    return float(_gaps(points, front).max(axis=2).min(axis=1).max())


def relative_improvement(value: FloatArray, *, average: float) -> FloatArray:
    """How much better a maximised metric is than that of the average random architecture, as a share of it.

    Yang, Esperança & Carlucci (2020, section 3): of accuracies, it compares searches of spaces in which all networks
    are good with those of others.

    Args:
        value: (N,) of what a search found.
        average: of networks drawn at random from the space, positive.

    Raises:
        ValueError: the average is not positive.
    """
    if not average > 0:
        raise ValueError(f"the average of random architectures is {average}; it must be positive")
    share: FloatArray = (np.asarray(value, dtype=float) - average) / average
    return share


def best_so_far(values: FloatArray, *, kept: BoolArray | None = None) -> FloatArray:
    """(N,) the largest value after each evaluation; NaN before the first that counts.

    Args:
        values: (N,) in the order of evaluation; a NaN does not count.
        kept: (N,) which count; None: all.
    """
    counts = ~np.isnan(values) if kept is None else kept & ~np.isnan(values)
    best = np.maximum.accumulate(np.where(counts, values, -np.inf))
    return np.where(np.isneginf(best), np.nan, best)


def after_each(
    points: FloatArray, measure: Measure, *, kept: BoolArray | None = None, nothing: float = np.nan
) -> FloatArray:
    """(N,) a measure of the front of the first 1, 2, ... N networks.

    Args:
        points: (N, M) in the order of evaluation, every column minimised.
        measure: of a front (K, M); it must be the same for all points of a set as for those no other dominates, as
            all of this module are that are no IGD.
        kept: (N,) which count; None: all. A point with a NaN counts never.
        nothing: the value before the first that counts.
    """
    counts = np.asarray(~np.isnan(points).any(axis=1))
    if kept is not None:
        counts = counts & kept
    found = np.full(len(points), nothing, dtype=float)
    front = points[:0]
    for i, point in enumerate(points):
        # a point that one of the front equals or dominates changes nothing
        if counts[i] and not (front <= point).all(axis=1).any():
            front = np.concatenate([front[~(front >= point).all(axis=1)], point[None]])
            found[i] = measure(front)
        elif i:
            found[i] = found[i - 1]
    return found


def hypervolumes(points: FloatArray, *, reference: Sequence[float], kept: BoolArray | None = None) -> FloatArray:
    """(N,) the hypervolume up to a fixed reference point after each evaluation.

    Args:
        points: (N, M) in the order of evaluation, every column minimised.
        reference: (M,), see `hypervolume`.
        kept: (N,) which count; None: all.
    """
    return after_each(points, lambda front: hypervolume(front, reference=reference), kept=kept, nothing=0.0)


def evaluations_to(curve: FloatArray, target: float) -> int | None:
    """How many evaluations it took until a measure of which more is better reached a target; None: it did not.

    Args:
        curve: (N,) after each evaluation.
        target: reached when a value is at least this.
    """
    reached = np.flatnonzero(curve >= target)
    return int(reached[0]) + 1 if len(reached) else None


def median_evaluations_to(curves: Sequence[FloatArray], target: float) -> float | None:
    """The median of `evaluations_to` over several searches; None if half of them or more did not reach it.

    A search that did not reach the target would have needed more than any that did, so the median is known as long as
    more than half did.
    """
    needed = [evaluations_to(curve, target) for curve in curves]
    numbers = sorted(n for n in needed if n is not None)
    middle = (len(needed) - 1) // 2, len(needed) // 2
    return (numbers[middle[0]] + numbers[middle[1]]) / 2 if middle[1] < len(numbers) else None


def quartiles(curves: Sequence[FloatArray]) -> Quartiles:
    """Median and quartiles of several searches after each evaluation, as far as all of them went.

    Args:
        curves: at least one, (N,) each, of any lengths.
    """
    shortest = min(len(curve) for curve in curves)
    together = np.stack([np.asarray(curve, dtype=float)[:shortest] for curve in curves])
    # of inner values too: with three searches a quartile lies between two of them
    lower, median, upper = np.quantile(together, [0.25, 0.5, 0.75], axis=0)
    return Quartiles(lower=lower, median=median, upper=upper, n_searches=len(curves))


def common_front(sets: Sequence[FloatArray]) -> FloatArray:
    """(K, M) distinct points of several sets that no point of any dominates: the best front that is known."""
    points = np.concatenate(list(sets))
    front: FloatArray = np.unique(points[non_dominated(points)], axis=0)
    return front


def _gaps(points: FloatArray, front: FloatArray) -> FloatArray:
    """(K, N, M) how much worse each point is than each of the front."""
    gaps: FloatArray = np.asarray(points, dtype=float)[None] - np.asarray(front, dtype=float)[:, None]
    return gaps


def _mean_distance(gaps: FloatArray) -> float:
    return float(np.sqrt((gaps**2).sum(axis=2)).min(axis=1).mean())
