"""One network timed for a verdict: long, and a second time where the first time is doubtful.

Knows artefacts and a worker; never limits, nor what is decided.
"""

from __future__ import annotations

import math
import time
from dataclasses import dataclass

from hwnas.deployment import Latency
from hwnas.deployment.doubts import Doubt, doubts_of
from hwnas.errors import VerificationError
from hwnas.measure import PHASE_WIDTH, TimingSettings, Worker
from hwnas.types import Artefact, MeasurementFailure, Statistic

# Long enough that its own error is about one per cent on a shared machine, and that a slow phase of a second passes
VERDICT = TimingSettings(rounds=301, min_rounds=21, target_error=0.005, candidate_limit_s=20.0)
_PAUSE_S = 1.0  # before the second look: a machine stays in a phase for as long


@dataclass(frozen=True, kw_only=True)
class Verdict:
    """What counts of a network's looks.

    Attributes:
        statistic: of the look that counts.
        looks: how often it was timed.
        doubts: what still speaks against it.
    """

    statistic: Statistic
    looks: int
    doubts: tuple[Doubt, ...]


def reach_verdict(
    worker: Worker,
    artefact: Artefact,
    *,
    anchor: Artefact,
    anchor_ms: float | None,
    predicted_ms: float | None,
) -> Verdict:
    """Time one artefact; once more, a moment later, if the first time is doubtful.

    The second look counts, unless the machine was seen less like its table's then. Which of the two is nearer the
    prediction, or within a limit, does not matter.

    Args:
        worker: of the device.
        artefact: what ships.
        anchor: the table's drift anchor.
        anchor_ms: its time in the table; None: no drift correction.
        predicted_ms: what the network should take; None: nothing is compared.

    Raises:
        VerificationError: the runtime cannot run it.
    """
    first = measure_latency(worker, artefact, anchor=anchor, anchor_ms=anchor_ms)
    doubts = doubts_of(Latency.of(first), predicted_ms=predicted_ms)
    if not doubts:
        return Verdict(statistic=first, looks=1, doubts=())
    time.sleep(_PAUSE_S)
    second = measure_latency(worker, artefact, anchor=anchor, anchor_ms=anchor_ms)
    counts = first if _strangeness(first) < _strangeness(second) - PHASE_WIDTH else second
    return Verdict(statistic=counts, looks=2, doubts=doubts_of(Latency.of(counts), predicted_ms=predicted_ms))


def measure_latency(worker: Worker, artefact: Artefact, *, anchor: Artefact, anchor_ms: float | None) -> Statistic:
    """Time one artefact among rounds of the anchor.

    Raises:
        VerificationError: the runtime cannot run it.
    """
    result = worker.measure(
        {"deployment": artefact},
        anchor=anchor if anchor_ms is not None else None,
        anchor_ms=anchor_ms,
        settings=VERDICT,
    )["deployment"]
    if isinstance(result, MeasurementFailure):
        raise VerificationError(f"the runtime cannot run {artefact.path}: {result.reason}")
    return result


def _strangeness(statistic: Statistic) -> float:
    """How far the machine was from its table's state in the phase that counts; 0 if nothing tells."""
    return abs(math.log(statistic.phase_drift)) if statistic.phase_drift is not None else 0.0
