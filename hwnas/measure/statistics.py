"""Robust statistics of timed rounds, and the correction for the machine's drift.

Knows numbers only; never what was timed, nor where it is kept.

Why medians of ratios. On a shared machine the clock, the caches and the neighbours change the time of
one and the same model by half within seconds, slowly enough that visits some milliseconds apart see the same
machine. So every sample is divided by the reference model's time around that moment, which removes the drift
round by round; the median over the rounds then removes the visits in which something else happened. A single visit
to the reference is as noisy as any other, so its times are smoothed by a running median over a few rounds
before they are interpolated. Multiplying by the reference's time in the table expresses the result in the table's
own state of the machine, so that entries measured on different days can be added.
"""

from __future__ import annotations

import numpy as np

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
    local_reference_ms: FloatArray | None = None,
    *,
    reference_ms: float | None = None,
    fastest_ms: float | None = None,
    reference_fastest_ms: float | None = None,
) -> Statistic:
    """Median, spread and drift of one candidate's rounds.

    Args:
        samples_ms: (R,) time of one run in each round.
        local_reference_ms: (R,) the reference model's time at the same moments; None: no correction.
        reference_ms: the reference model's time in the table; needed with `local_reference_ms`.
        fastest_ms: the candidate's fastest burst; None: its fastest round.
        reference_fastest_ms: likewise of the reference.

    Returns:
        median and p90 as they would be at the table's reference time; drift is 1.0 without a reference.

    Raises:
        ValueError: no samples, a sample that is not a positive number, or one of the two references is absent.
    """
    samples = np.asarray(samples_ms, dtype=np.float64)
    _check(samples, "samples_ms")
    drift = 1.0
    if (local_reference_ms is None) != (reference_ms is None):
        raise ValueError("local_reference_ms and reference_ms go together: give both or neither")
    if local_reference_ms is not None and reference_ms is not None:
        reference = np.asarray(local_reference_ms, dtype=np.float64)
        _check(reference, "local_reference_ms")
        _check(np.array([reference_ms]), "reference_ms")
        if reference.shape != samples.shape:
            raise ValueError(f"{samples.shape[0]} samples but {reference.shape[0]} reference times")
        drift = float(np.median(reference)) / reference_ms
        samples = samples / reference * reference_ms
    fastest = fastest_ms if fastest_ms is not None else float(np.min(samples_ms))
    if local_reference_ms is not None and reference_ms is not None:
        fastest_reference = reference_fastest_ms if reference_fastest_ms is not None else np.min(local_reference_ms)
        fastest *= reference_ms / float(fastest_reference)
    return Statistic(
        fastest=fastest,
        median=float(np.median(samples)),
        p90=float(np.percentile(samples, 90)),
        n=len(samples),
        cv=robust_cv(samples),
        drift=drift,
    )


def _check(values: FloatArray, name: str) -> None:
    if values.ndim != 1 or not len(values):
        raise ValueError(f"{name} must be a non-empty vector, not of shape {values.shape}")
    if not bool(np.all(np.isfinite(values) & (values > 0))):
        raise ValueError(f"{name} holds a time that is not a positive number: {values.tolist()}")
