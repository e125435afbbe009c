"""The minimum on a machine whose speed changes in phases: which samples may be compared, and what they tell.

What is called *minimum* is robust: not the smallest time ever seen, but the fastest batches of a quarter of a
millisecond that enough samples share. A sample, a batch and a round are what `hwnas.measure.timing` says.

Knows numbers only; never what was timed, nor where it is kept.

Why phases. A shared processor has more than one speed: while somebody else computes on the same core, everything is
slower by half, for milliseconds or seconds. The smallest time of a candidate over all samples and the smallest of the
anchor over all samples may come from different phases, and their ratio is then wrong by what lies between the two.
Nor is it enough to divide what stands side by side: in its slow phase a machine slows one model by 1.6 and another by
2, so that a ratio from there is wrong for the fast one. So each sample is held against the samples of the anchor
before and after it; the faster of the two tells its phase (the slower was disturbed, or the phase ended between). Of
all phases that enough samples share the fastest counts, and only what was seen there is divided.

Of the samples there the tenth percentile counts, of the candidate and of the anchor alike: the very smallest of some
hundred samples is luck, and repeats half as well.
"""

from __future__ import annotations

import math
from dataclasses import dataclass

import numpy as np

from hwnas.types import FloatArray

PHASE_WIDTH = 0.08  # the anchor's samples within this share are of one phase: its noise is 5 % on a busy machine
_FEWEST = 3  # samples that must share a phase, however few rounds there are
_PERCENTILE = 10


@dataclass(frozen=True, slots=True, kw_only=True)
class PhaseMinimum:
    """What one candidate and the anchor cost in the same phase.

    Attributes:
        candidate_ms: of one run.
        anchor_ms: of one run of the anchor, there.
        share: of the candidate's samples, those in that phase; 0 where no phase has enough.
    """

    candidate_ms: float
    anchor_ms: float
    share: float


def minimum_in_phase(minima_ms: FloatArray, around_ms: FloatArray, *, anchor_ms: float | None = None) -> PhaseMinimum:
    """What a candidate cost in the fastest phase that enough of its samples share (see `phase`).

    Where none is shared, each sample is divided by the mean of the anchor's two beside it, and the median over the
    samples counts: right if the machine slows all models alike, and marked with a share of 0.

    Args:
        minima_ms: (R,) the fastest batch of each sample of the candidate.
        around_ms: (R, 2) the same of the anchor's samples before and after each of them.
        anchor_ms: the anchor while nothing disturbs the machine; None: not known.
    """
    inside = phase(around_ms, anchor_ms=anchor_ms)
    if not inside.any():
        beside = around_ms.mean(axis=1)
        anchor = float(np.median(beside))
        # times `anchor`, so that dividing the two fields gives the median ratio back
        return PhaseMinimum(candidate_ms=float(np.median(minima_ms / beside)) * anchor, anchor_ms=anchor, share=0.0)
    beside = around_ms[inside]
    # a sample is in the phase by the faster of its two neighbours; the slower may be of another phase
    beside = beside[beside <= (1 + PHASE_WIDTH) * beside.min()]
    return PhaseMinimum(
        candidate_ms=float(np.percentile(minima_ms[inside], _PERCENTILE)),
        anchor_ms=float(np.percentile(beside, _PERCENTILE)),
        share=float(inside.mean()),
    )


def phase(around_ms: FloatArray, *, anchor_ms: float | None = None) -> np.ndarray[tuple[int], np.dtype[np.bool_]]:
    """Which samples are of the fastest phase that enough share; none if no three share any.

    In a phase as fast as the machine while nothing disturbs it three samples are enough: that such a phase exists is
    known. Of any other they must be the square root of all, where that is more: three of three hundred may be a slip of
    the clock. Only where no phase has so many, the fastest that three share must do.

    Args:
        around_ms: (R, 2) the anchor before and after each sample.
        anchor_ms: the anchor while nothing disturbs the machine; None: not known.

    Returns:
        (R,)
    """
    nearest = around_ms.min(axis=1)
    ascending = np.sort(nearest)
    inside = (nearest >= ascending[:, None]) & (nearest <= (1 + PHASE_WIDTH) * ascending[:, None])  # (phases, R)
    n = inside.sum(axis=1)
    enough = np.full(len(ascending), max(_FEWEST, math.isqrt(len(ascending))))
    if anchor_ms is not None:
        # both sides: an anchor that is faster than its table is as good
        enough[np.abs(ascending / anchor_ms - 1) <= PHASE_WIDTH] = _FEWEST
    for shared in (n >= enough, n >= _FEWEST):
        if shared.any():
            # they ascend, so the first is the fastest
            found: np.ndarray[tuple[int], np.dtype[np.bool_]] = inside[int(np.argmax(shared))]
            return found
    return np.zeros(len(ascending), dtype=np.bool_)


def fastest_shared(drifts: FloatArray) -> float:
    """The fast end of the fastest phase that enough measurements share (see `phase`); the fastest if none is shared.

    Args:
        drifts: (N,) of each measurement the anchor's time, over its time while nothing disturbs the machine.
    """
    inside = phase(np.stack([drifts, drifts], axis=1), anchor_ms=1.0)
    return float(drifts[inside].min() if inside.any() else drifts.min())


def is_settled(minima_ms: FloatArray, around_ms: FloatArray, *, tolerance: float, anchor_ms: float | None) -> bool:
    """Whether more samples would tell nothing new: a phase has enough of them, and they agree.

    Args:
        minima_ms: (R,), as for `minimum_in_phase`.
        around_ms: (R, 2), likewise.
        tolerance: the three fastest of the candidate there must agree to this share, and those of the anchor.
        anchor_ms: of a machine that nothing disturbs; a phase that is slower may pass. None: not known.
    """
    # (R,)
    inside = phase(around_ms, anchor_ms=anchor_ms)
    if not inside.any():
        return False
    if anchor_ms is not None and around_ms[inside].min() > (1 + PHASE_WIDTH) * anchor_ms:
        return False
    return agree(minima_ms[inside], tolerance) and agree(around_ms[inside].min(axis=1), tolerance)


def agree(times_ms: FloatArray, tolerance: float) -> bool:
    """Whether the three fastest agree to a share: one fast batch alone may be a slip of the clock."""
    ascending = np.sort(times_ms)[:_FEWEST]
    return len(ascending) == _FEWEST and bool(ascending[-1] <= ascending[0] * (1 + tolerance))
