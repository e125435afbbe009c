"""What speaks against a measured latency: it is far from its prediction, or the machine was not itself.

Knows a measurement and a prediction; never how either was made.
"""

from __future__ import annotations

from typing import TYPE_CHECKING, Literal

from hwnas.quantities import percent, quantity

if TYPE_CHECKING:
    from hwnas.deployment.manifest import Latency

Doubt = Literal["far_from_prediction", "large_drift"]

FAR = 0.15  # of the prediction: bounds of predictions are a few per cent wide
SMALL_DRIFT = (0.8, 1.25)  # of the anchor's time over its time in the table


def doubts_of(latency: Latency, *, predicted_ms: float | None) -> tuple[Doubt, ...]:
    """What speaks against a measurement; nothing, most of the time.

    Args:
        latency: what was measured.
        predicted_ms: what was predicted, at the same time of the anchor; None: nothing was.
    """
    found: list[Doubt] = []
    if predicted_ms is not None and abs(latency.minimum / predicted_ms - 1) >= FAR:
        found.append("far_from_prediction")
    if any(d is not None and not SMALL_DRIFT[0] <= d <= SMALL_DRIFT[1] for d in (latency.drift, latency.phase_drift)):
        found.append("large_drift")
    return tuple(found)


def doubt_texts(latency: Latency, *, predicted_ms: float | None) -> tuple[str, ...]:
    """The same for people, a sentence each."""
    texts: dict[Doubt, str] = {"large_drift": _drift_text(latency)}
    if predicted_ms is not None:
        error = latency.minimum / predicted_ms - 1
        texts["far_from_prediction"] = (
            f"the measured latency is {percent(abs(error), decimals=0)} {'above' if error > 0 else 'below'} its "
            f"prediction ({quantity('latency_ms', latency.minimum)} measured, {quantity('latency_ms', predicted_ms)} "
            "predicted): one of the two is wrong"
        )
    return tuple(texts[doubt] for doubt in doubts_of(latency, predicted_ms=predicted_ms))


def _drift_text(latency: Latency) -> str:
    slow = f"while the latency was measured the machine took {latency.drift:.2f} times as long as for its table"
    phase = latency.phase_drift
    if phase is None or latency.phase_share is None:
        return f"{slow}; the correction for that may be wrong"
    if SMALL_DRIFT[0] <= phase <= SMALL_DRIFT[1] and latency.phase_share > 0:
        share = percent(latency.phase_share, decimals=0)
        return f"{slow}, but {share} of the rounds saw it as fast as then, and these count"
    return (
        f"{slow}, and at best {phase:.2f} times: networks are slowed more or less than the drift anchor, so the "
        "corrected latency may be wrong by some ten per cent; measure again when the machine is quiet"
    )
