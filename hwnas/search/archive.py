"""Pareto fronts and hypervolume, exact, for any number of objectives.

All functions take points (N, M) whose every column is minimised; `oriented` turns a study's metrics
into that. Numpy only: never a study, never a sampler.
"""

from __future__ import annotations

from collections.abc import Mapping, Sequence

import numpy as np

from hwnas.types import BoolArray, Direction, FloatArray


def oriented(values: Mapping[str, FloatArray], directions: Mapping[str, Direction]) -> FloatArray:
    """Metric -> (N,) as points (N, M) to minimise, one column a direction, in their order."""
    columns = [(-values[m] if d is Direction.MAXIMIZE else values[m]) for m, d in directions.items()]
    return np.stack(columns, axis=1).astype(float)


def non_dominated(points: FloatArray) -> BoolArray:
    """Which points no other point dominates.

    A point dominates another if it is nowhere larger and somewhere smaller, so equal points do not
    dominate one another and are all kept. A point with a NaN is never in the front.

    Args:
        points: (N, M), every column minimised.

    Returns:
        (N,) True for the points of the front.
    """
    points = np.asarray(points, dtype=float)
    front = np.zeros(len(points), dtype=bool)
    valid = np.flatnonzero(~np.isnan(points).any(axis=1))
    if not len(valid):
        return front
    unique, inverse = np.unique(points[valid], axis=0, return_inverse=True)  # lexicographic order
    # reshaped: NumPy 2.0 gives the inverse another shape
    front[valid] = _front_of_sorted(unique)[inverse.reshape(-1)]
    return front


def _front_of_sorted(points: FloatArray) -> BoolArray:
    """(N,) the front of distinct points in lexicographic order; none is dominated by a later one."""
    alive = np.ones(len(points), dtype=bool)
    if points.shape[1] <= 2:  # a point stays if its last objective is below all before it
        alive[1:] = points[1:, -1] < np.minimum.accumulate(points[:, -1])[:-1]
        return alive
    # a point that is alive here is in the front, for nothing later dominates it; so each only strikes out later ones
    for i in range(len(points)):
        if alive[i]:
            later = np.flatnonzero(alive[i + 1 :]) + i + 1
            alive[later] = (points[later] < points[i]).any(axis=1)
    return alive


def hypervolume(points: FloatArray, *, reference: Sequence[float]) -> float:
    """The volume that the points dominate, up to the reference point; larger is better.

    Exact: slices along the last objective, recursively (Zitzler, 2001), with a sweep for two. Meant for
    two to four objectives and fronts of some hundred points.

    Args:
        points: (N, M), every column minimised.
        reference: (M,) the corner; points that are not below it in every objective add nothing.

    Raises:
        ValueError: the reference has another number of objectives, or is not finite.
    """
    points, corner = np.asarray(points, dtype=float), np.asarray(reference, dtype=float)
    if points.ndim != 2 or corner.shape != (points.shape[1],):
        raise ValueError(f"points {points.shape} and reference {corner.shape} must be (N, M) and (M,)")
    if not np.isfinite(corner).all():
        raise ValueError(f"the reference point {corner.tolist()} must be finite")
    # a point at the corner's height in one objective encloses nothing
    below = points[(points < corner).all(axis=1)]
    return _volume(below[non_dominated(below)], corner) if len(below) else 0.0


def _volume(front: FloatArray, corner: FloatArray) -> float:
    """Of mutually non-dominated (or equal) points strictly below the corner."""
    if front.shape[1] == 1:
        return float(corner[0] - front[:, 0].min())
    if front.shape[1] == 2:
        front = np.unique(front, axis=0)  # rising in the first, hence falling in the second objective
        heights = np.concatenate([[corner[1]], front[:-1, 1]]) - front[:, 1]
        return float(((corner[0] - front[:, 0]) * heights).sum())
    front = front[np.argsort(front[:, -1], kind="stable")]
    depths = np.concatenate([front[1:, -1], [corner[-1]]]) - front[:, -1]
    total = 0.0
    for i in np.flatnonzero(depths > 0):
        shadow = front[: i + 1, :-1]
        # a slab between two values of the last objective: as deep as
        # their distance, and its face a front of one objective less
        total += float(depths[i]) * _volume(shadow[non_dominated(shadow)], corner[:-1])
    return total
