"""How good each of several comparable searches is, by one reference point and the best front that all of them know.

Knows studies and measures; never files or pages.
"""

from __future__ import annotations

from collections.abc import Iterable, Mapping, Sequence
from dataclasses import dataclass
from functools import partial

import numpy as np

from hwnas.errors import StudyError
from hwnas.report.comparison import ComparedGroup, ComparisonInputs, Spread
from hwnas.search.archive import hypervolume, non_dominated, oriented
from hwnas.search.limits import check_known
from hwnas.search.measures import (
    Quartiles,
    additive_epsilon,
    after_each,
    best_so_far,
    common_front,
    hypervolumes,
    inverted_generational_distance_plus,
    median_evaluations_to,
    quartiles,
    relative_improvement,
    scaled,
)
from hwnas.search.study import Study
from hwnas.types import BoolArray, Direction, FloatArray

TARGETS = (0.9, 0.95, 0.99)  # shares of the best known hypervolume
_COUNTED = 90  # percent of all networks that are better than the reference in one metric, where nobody gives one
_RANDOM = "random"  # the registered sampler whose networks are the average ones


@dataclass(frozen=True, slots=True, kw_only=True, eq=False)
class _Measured:
    """One search. `points` (N, M) are to be minimised, `kept` (N,) tells which keep the limits of all searches."""

    study: Study
    points: FloatArray
    kept: BoolArray
    curve: FloatArray  # hypervolume after each evaluation


def measured(
    studies: Mapping[str, Study], *, reference: Mapping[str, float], notes: Sequence[str] = ()
) -> ComparisonInputs:
    """What the page of a comparison shows.

    Args:
        studies: what each is called -> the study; comparable, see `checks`.
        reference: metric -> the worst value that counts; of metrics without one, a tenth of all networks is worse.
        notes: to be shown.

    Raises:
        StudyError: the reference names a metric that is not searched for, or no network keeps all limits and is better
            than the reference.
    """
    directions = next(iter(studies.values())).directions
    check_known(reference, directions)
    kept = {name: _kept(study, among=studies.values()) for name, study in studies.items()}
    points = {name: oriented(study.values, study.directions) for name, study in studies.items()}
    corner = _corner([points[n][kept[n]] for n in studies], directions, reference)
    known = common_front([points[n][kept[n]] for n in studies])
    whole = hypervolume(known, reference=corner.tolist())
    known = known[(known < corner).all(axis=1)]  # what is worse than the reference must not stretch the distances
    if not whole > 0:
        raise StudyError(
            f"no network that keeps all limits is better than the reference point, "
            f"{', '.join(f'{m} {v:g}' for m, v in _turned(corner, directions).items())}; give another one"
        )
    found = {
        name: _Measured(
            study=study,
            points=points[name],
            kept=kept[name],
            curve=hypervolumes(points[name], reference=corner.tolist(), kept=kept[name]) / whole,
        )
        for name, study in studies.items()
    }
    n_common = min(len(study) for study in studies.values())
    metric, cost = _axes(directions)
    average = _average(studies.values(), metric) if directions[metric] is Direction.MAXIMIZE else None
    groups = [
        _group(name, {n: found[n] for n in names}, known=known, n_common=n_common, axes=(metric, cost), average=average)
        for name, names in grouped(studies).items()
    ]
    return ComparisonInputs(
        studies=studies,
        groups=groups,
        reference=_turned(corner, directions),
        n_common=n_common,
        metric=metric,
        cost=cost,
        notes=notes,
    )


def grouped(studies: Mapping[str, Study]) -> dict[str, tuple[str, ...]]:
    """Name of a group -> names of its studies, in the order given: those of one sampler within the same limits.

    A study that does not tell its sampler, or has the seed of another one of its group, is a group of its own.
    """
    groups: dict[tuple[object, ...], list[str]] = {}
    for name, study in studies.items():
        how = study.provenance
        key: tuple[object, ...] = (how.get("sampler"), tuple(sorted(study.limits.items())))
        seeds = [studies[other].provenance.get("seed") for other in groups.get(key, ())]
        if "sampler" not in how or how.get("seed") in seeds:
            key = (name,)
        groups.setdefault(key, []).append(name)
    samplers = [str(key[0]) for key in groups]
    return {
        # a name alone where it tells which is meant
        (str(key[0]) if samplers.count(str(key[0])) == 1 else f"{key[0]} ({names[0]})"): tuple(names)
        for key, names in groups.items()
    }


def _group(
    name: str,
    searches: Mapping[str, _Measured],
    *,
    known: FloatArray,
    n_common: int,
    axes: tuple[str, str],
    average: float | None,
) -> ComparedGroup:
    metric, cost = axes
    curves = [s.curve for s in searches.values()]
    # of the first networks that all searches have, so that a longer one is not called better
    early = [s.points[:n_common][s.kept[:n_common]] for s in searches.values()]
    fronts = [scaled(p[non_dominated(p)], front=known) for p in early if len(p)]
    best = scaled(known, front=known)
    gains = []
    if average is not None:
        bests = [best_so_far(s.study.values[metric], kept=s.kept) for s in searches.values()]
        gains = [relative_improvement(found, average=average) for found in bests]
    # a search that found nothing within the limits has no front, and is at no distance that could be told
    complete = len(fronts) == len(early) and len(known.T) > 1
    return ComparedGroup(
        name=name,
        studies=tuple(searches),
        share=quartiles(curves),
        share_at=_spread([float(curve[n_common - 1]) for curve in curves]) or Spread(lower=0.0, median=0.0, upper=0.0),
        front=_front(list(searches.values()), metric, cost, n_common=n_common),
        distances=_known(_distances(searches.values(), known, best)) if complete else None,
        distance=_spread([inverted_generational_distance_plus(f, front=best) for f in fronts]) if complete else None,
        epsilon=_spread([additive_epsilon(f, front=best) for f in fronts]) if complete else None,
        evaluations_to={target: median_evaluations_to(curves, target) for target in TARGETS},
        improvement=_spread([float(of[n_common - 1]) for of in gains]),
        improvements=_known(gains),
    )


def _distances(searches: Iterable[_Measured], known: FloatArray, best: FloatArray) -> list[FloatArray]:
    """IGD+ of each search after each evaluation."""
    measure = partial(inverted_generational_distance_plus, front=best)
    return [after_each(scaled(s.points, front=known), measure, kept=s.kept) for s in searches]


def _known(curves: Sequence[FloatArray]) -> Quartiles | None:
    """Median and quartiles; None if a search has no value as far as all of them went."""
    found = quartiles(curves) if curves else None
    return found if found is not None and np.isfinite(found.median[-1]) else None


def _spread(values: Sequence[float]) -> Spread | None:
    """Median and quartiles; None if one is not known."""
    if not values or not np.isfinite(values).all():
        return None
    lower, median, upper = np.quantile(values, [0.25, 0.5, 0.75]).tolist()
    return Spread(lower=lower, median=median, upper=upper)


def _front(searches: Sequence[_Measured], metric: str, cost: str, *, n_common: int) -> tuple[FloatArray, FloatArray]:
    """Of the search whose hypervolume is the median, of an even number the better of the two in the middle."""
    if not cost:
        return np.zeros(0), np.zeros(0)
    search = sorted(searches, key=lambda s: float(s.curve[n_common - 1]))[len(searches) // 2]
    values = search.study.values
    rows = search.study.front_rows(metric, cost, rows=np.flatnonzero(search.kept[:n_common]))
    return values[cost][rows], values[metric][rows]


def _kept(study: Study, *, among: Iterable[Study]) -> BoolArray:
    """(N,) which networks of a study keep the limits of all."""
    kept = np.ones(len(study), dtype=bool)
    for other in among:
        kept &= study.keeps(other.limits)
    return kept


def _corner(sets: Sequence[FloatArray], directions: Mapping[str, Direction], given: Mapping[str, float]) -> FloatArray:
    """(M,) the reference point, to be minimised like the points (N, M) of each search."""
    together = np.concatenate(list(sets))
    if not len(together):
        raise StudyError("no network of these searches keeps the limits of all of them, so nothing can be compared")
    corner: FloatArray = np.percentile(together, _COUNTED, axis=0)
    for i, (metric, direction) in enumerate(directions.items()):
        if metric in given:
            corner[i] = -given[metric] if direction is Direction.MAXIMIZE else given[metric]
    return corner


def _turned(corner: FloatArray, directions: Mapping[str, Direction]) -> dict[str, float]:
    """Metric -> its value at a point that is to be minimised."""
    return {
        m: float(-v if d is Direction.MAXIMIZE else v) for (m, d), v in zip(directions.items(), corner, strict=True)
    }


def _axes(directions: Mapping[str, Direction]) -> tuple[str, str]:
    """What is gained and what is paid; what is paid is empty if one metric alone is searched for."""
    metric = next((m for m, d in directions.items() if d is Direction.MAXIMIZE), next(iter(directions)))
    others = sorted((m for m in directions if m != metric), key=lambda m: directions[m] is Direction.MAXIMIZE)
    return metric, others[0] if others else ""


def _average(studies: Iterable[Study], metric: str) -> float | None:
    """The mean of a metric over networks that were drawn at random; None if nobody drew any, or it is not positive."""
    drawn = [s.values[metric] for s in studies if s.provenance.get("sampler") == _RANDOM]
    average = float(np.nanmean(np.concatenate(drawn))) if drawn else 0.0
    return average if average > 0 else None
