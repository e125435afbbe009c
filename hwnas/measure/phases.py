"""The undisturbed time on a machine whose speed changes in phases: which visits may be compared, and what they tell.

Knows numbers only; never what was timed, nor where it is kept.

Why phases. A shared processor has more than one speed: while somebody else computes on the same core, everything is
slower by half, for milliseconds or seconds. The smallest time of a candidate over all visits and the smallest of the
reference over all visits may come from different phases, and their ratio is then wrong by what lies between the two.
Nor is it enough to divide what stands side by side: in its slow phase a machine slows one model by 1.6 and another by
2, so that a ratio from there is wrong for the fast one. So each visit is held against the visits to the reference
before and after it; the faster of the two tells its phase (the slower was disturbed, or the phase ended between). Of
all phases that enough visits share the fastest counts, and only what was seen there is divided.

Of the visits there the tenth percentile counts, of the candidate and of the reference alike: the very smallest of some
hundred visits is luck, and repeats half as well.
"""

from __future__ import annotations

import math
from dataclasses import dataclass

import numpy as np

from hwnas.types import FloatArray

PHASE_WIDTH = 0.08  # visits to the reference within this share are of one phase: its own noise is 5 % on a busy machine
_FEWEST = 3  # visits that must share a phase, however few rounds there are
_PERCENTILE = 10


@dataclass(frozen=True, slots=True, kw_only=True)
class Undisturbed:
    """What one candidate and the reference cost in the same phase.

    Attributes:
        candidate_ms: of one run.
        reference_ms: of one run of the reference, there.
        share: of the candidate's visits, those in that phase; 0 where no phase has enough.
    """

    candidate_ms: float
    reference_ms: float
    share: float


def undisturbed(fastest_ms: FloatArray, around_ms: FloatArray, *, reference_ms: float | None = None) -> Undisturbed:
    """What a candidate cost in the fastest phase that enough of its visits share (see `phase`).

    Where none is shared, each visit is divided by the mean of the reference's two beside it, and the median over the
    visits counts: right if the machine slows all models alike, and marked with a share of 0.

    Args:
        fastest_ms: (R,) the fastest burst of each visit to the candidate.
        around_ms: (R, 2) the fastest bursts of the reference's visits before and after each of them.
        reference_ms: the reference on the undisturbed machine; None: not known.
    """
    inside = phase(around_ms, reference_ms=reference_ms)
    if not inside.any():
        beside = around_ms.mean(axis=1)
        reference = float(np.median(beside))
        # times `reference`, so that dividing the two fields gives the median ratio back
        return Undisturbed(
            candidate_ms=float(np.median(fastest_ms / beside)) * reference, reference_ms=reference, share=0.0
        )
    beside = around_ms[inside]
    # a visit is in the phase by the faster of its two neighbours; the slower may be of another phase
    beside = beside[beside <= (1 + PHASE_WIDTH) * beside.min()]
    return Undisturbed(
        candidate_ms=float(np.percentile(fastest_ms[inside], _PERCENTILE)),
        reference_ms=float(np.percentile(beside, _PERCENTILE)),
        share=float(inside.mean()),
    )


def phase(around_ms: FloatArray, *, reference_ms: float | None = None) -> np.ndarray[tuple[int], np.dtype[np.bool_]]:
    """Which visits are of the fastest phase that enough share; none if no three share any.

    In a phase about as fast as the undisturbed machine three visits are enough: that such a phase exists is known. Of
    any other they must be the square root of all, where that is more: three of three hundred may be a slip of the
    clock. Only where no phase has so many, the fastest that three share must do.

    Args:
        around_ms: (R, 2) the reference before and after each visit.
        reference_ms: the reference on the undisturbed machine; None: not known.

    Returns:
        (R,)
    """
    nearest = around_ms.min(axis=1)
    levels = np.sort(nearest)
    inside = (nearest >= levels[:, None]) & (nearest <= (1 + PHASE_WIDTH) * levels[:, None])  # (levels, R)
    n = inside.sum(axis=1)
    enough = np.full(len(levels), max(_FEWEST, math.isqrt(len(levels))))
    if reference_ms is not None:
        # both sides: a reference that is faster than its table is as good
        enough[np.abs(levels / reference_ms - 1) <= PHASE_WIDTH] = _FEWEST
    for shared in (n >= enough, n >= _FEWEST):
        if shared.any():
            # levels rise, so the first is the fastest
            found: np.ndarray[tuple[int], np.dtype[np.bool_]] = inside[int(np.argmax(shared))]
            return found
    return np.zeros(len(levels), dtype=np.bool_)


def is_settled(fastest_ms: FloatArray, around_ms: FloatArray, *, tolerance: float, reference_ms: float | None) -> bool:
    """Whether more visits would tell nothing new: a phase has enough of them, and they agree.

    Args:
        fastest_ms: (R,), as for `undisturbed`.
        around_ms: (R, 2), likewise.
        tolerance: the three fastest of the candidate there must agree to this share, and those of the reference.
        reference_ms: of a machine that nothing disturbs; a phase that is slower may pass. None: not known.
    """
    # (R,)
    inside = phase(around_ms, reference_ms=reference_ms)
    if not inside.any():
        return False
    if reference_ms is not None and around_ms[inside].min() > (1 + PHASE_WIDTH) * reference_ms:
        return False
    return agree(fastest_ms[inside], tolerance) and agree(around_ms[inside].min(axis=1), tolerance)


def agree(times_ms: FloatArray, tolerance: float) -> bool:
    """Whether the three fastest agree to a share: one fast burst alone may be a slip of the clock."""
    ascending = np.sort(times_ms)[:_FEWEST]
    return len(ascending) == _FEWEST and bool(ascending[-1] <= ascending[0] * (1 + tolerance))
