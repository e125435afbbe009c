"""What a report is made from. Plain data, collected by whoever ran the stages.

This module must never know how any of it was measured, nor how it is drawn.
"""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from dataclasses import dataclass, field
from typing import TYPE_CHECKING

from hwnas.types import Block

if TYPE_CHECKING:
    from hwnas.deployment import Manifest, Mistake
    from hwnas.search.study import Study


@dataclass(frozen=True, slots=True, kw_only=True)
class BlockShare:
    """One block's share of the network's estimated latency.

    Attributes:
        slot: its position in the network.
        block: what stands there.
        latency_ms: estimated, in milliseconds.
    """

    slot: str
    block: Block
    latency_ms: float


@dataclass(frozen=True, slots=True, kw_only=True)
class PredictionPoint:
    """One network whose latency was predicted and measured.

    Attributes:
        precision: it was measured in: `fp32` or `int8`.
        predicted_ms: milliseconds, positive.
        measured_ms: milliseconds, positive, corrected for the machine's drift.
        held_out: True if the prediction had not been fitted to it; only these tell the error.
    """

    precision: str
    predicted_ms: float
    measured_ms: float
    held_out: bool


@dataclass(frozen=True, slots=True, kw_only=True)
class ReportInputs:
    """Everything a report shows. What is empty has no section.

    Attributes:
        manifest: of the deployment.
        shares: the deployed network's blocks in network order.
        points: networks that check the latency prediction.
        study: the search the network was chosen from.
        trial: number of the chosen trial.
        history: one mapping a training step: `step`, `loss` (largest network), `loss_smallest`.
        sources: metric -> `measured` or `estimated from ...`, for the values of the study and the predictions.
        mistakes: test images of the most frequent confusions.
    """

    manifest: Manifest
    shares: Sequence[BlockShare]
    points: Sequence[PredictionPoint]
    study: Study
    trial: int
    history: Sequence[Mapping[str, float]] = ()
    sources: Mapping[str, str] = field(default_factory=dict)
    mistakes: Sequence[Mistake] = ()
