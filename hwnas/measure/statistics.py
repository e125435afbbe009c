"""Robust statistics of timed rounds, and the correction for the machine's drift.

Knows numbers only; never what was timed, nor where it is kept.

Why medians of ratios. On a shared machine the clock, the caches and the neighbours change the time of
one and the same model by half within seconds, slowly enough that samples some milliseconds apart see the same
machine. So every sample is divided by the drift anchor's time around that moment, which removes the drift
round by round; the median over the rounds then removes the samples in which something else happened. A single sample
of the anchor is as noisy as any other, so its times are smoothed by a running median over a few rounds
before they are interpolated. Multiplying by the anchor's time in the table expresses the result in the table's
own state of the machine, so that entries measured on different days can be added.
"""

from __future__ import annotations

import dataclasses

import numpy as np

from hwnas.measure.phases import minimum_in_phase
from hwnas.types import FloatArray, Statistic

_MAD_TO_SIGMA = 1.4826  # median absolute deviation -> standard deviation, of a normal distribution


def robust_cv(samples: FloatArray) -> float:
    """Coefficient of variation that outliers do not move: 1.4826 MAD / median.

    Args:
        samples: (R,) positive.
    """
    center = float(np.median(samples))
    return _MAD_TO_SIGMA * float(np.median(np.abs(samples - center))) / center


def running_median(values: FloatArray, *, half_width: int) -> FloatArray:
    """Median of each value and its neighbours; towards the ends of fewer, always as many on either side.

    A window that is symmetric everywhere leaves a steady drift as it is.

    Args:
        values: (N,).
        half_width: neighbours on either side.

    Returns:
        (N,)
    """
    n = len(values)
    widths = [min(i, n - 1 - i, half_width) for i in range(n)]
    return np.array([np.median(values[i - w : i + w + 1]) for i, w in enumerate(widths)])


def summarize(
    samples_ms: FloatArray,
    local_anchor_ms: FloatArray | None = None,
    *,
    anchor_ms: float | None = None,
    minima_ms: FloatArray | None = None,
    around_ms: FloatArray | None = None,
) -> Statistic:
    """Median, spread and drift of one candidate's rounds, and its minimum.

    The minimum is corrected by the anchor's in the same phase (`hwnas.measure.phases`), the median by the
    anchor's at each moment, which neighbours slow too. Where they slow the anchor more than the candidate, that
    takes away too much: no round counts as faster than the minimum.

    Args:
        samples_ms: (R,) time of one run in each round.
        local_anchor_ms: (R,) the drift anchor's time at the same moments; None: no correction.
        anchor_ms: the drift anchor's time in the table; needed with `local_anchor_ms`.
        minima_ms: (R,) the fastest batch of each sample; None: the samples.
        around_ms: (R, 2) the anchor's minima before and after each sample; None: `local_anchor_ms`.

    Returns:
        times as they would be at the table's anchor's time; minimum <= median <= p90. Drift is 1.0 without one.

    Raises:
        ValueError: no samples, a sample that is not a positive number, or one of the two anchors is absent.
    """
    samples = _check(samples_ms, "samples_ms", shape=None)
    minima = samples if minima_ms is None else _check(minima_ms, "minima_ms", shape=samples.shape)
    if (local_anchor_ms is None) != (anchor_ms is None):
        raise ValueError("local_anchor_ms and anchor_ms go together: give both or neither")
    if local_anchor_ms is None or anchor_ms is None:
        return _statistic(samples, minimum=float(np.min(minima)))
    _check(np.array([anchor_ms]), "anchor_ms", shape=None)
    local = _check(local_anchor_ms, "local_anchor_ms", shape=samples.shape)
    # (R,) -> (R, 2)
    around = np.stack([local, local], axis=1) if around_ms is None else np.asarray(around_ms, dtype=np.float64)
    _check(around, "around_ms", shape=(len(samples), 2))
    # the minima by phase; the medians, disturbed as they are, by the moment's anchor
    found = minimum_in_phase(minima, around, anchor_ms=anchor_ms)
    return dataclasses.replace(
        _statistic(samples / local * anchor_ms, minimum=found.candidate_ms / found.anchor_ms * anchor_ms),
        # not from the phase: it tells how slow the machine was on the whole
        drift=float(np.median(local)) / anchor_ms,
        phase_drift=found.anchor_ms / anchor_ms,
        phase_share=found.share,
    )


def _statistic(samples_ms: FloatArray, *, minimum: float) -> Statistic:
    # see `summarize`: a correction may take away too much
    samples = np.maximum(samples_ms, minimum)
    return Statistic(
        minimum=minimum,
        median=float(np.median(samples)),
        p90=float(np.percentile(samples, 90)),
        n=len(samples),
        cv=robust_cv(samples),
    )


def _check(values: FloatArray, name: str, *, shape: tuple[int, ...] | None) -> FloatArray:
    """Times as an array of that shape; None: a vector of any length."""
    times = np.asarray(values, dtype=np.float64)
    if shape is None and (times.ndim != 1 or not len(times)):
        raise ValueError(f"{name} must be a non-empty vector, not of shape {times.shape}")
    if shape is not None and times.shape != shape:
        raise ValueError(f"{shape[0]} samples but {len(times)} anchor times: {name} is of shape {times.shape}")
    if not bool(np.all(np.isfinite(times) & (times > 0))):
        raise ValueError(f"{name} holds a time that is not a positive number: {times.tolist()}")
    return times
