"""A new deployment as a result, in a few lines for the terminal. Knows manifests; never how they came about."""

from __future__ import annotations

from collections.abc import Mapping
from dataclasses import dataclass
from pathlib import Path
from typing import Any

from hwnas._places import quoted
from hwnas.deployment import Manifest, Parity
from hwnas.limits import ceiling
from hwnas.pipeline.verifying import MEASURED
from hwnas.quantities import allowed_text, metric_name, percent, quantity
from hwnas.results import Result, Shown


@dataclass(frozen=True, kw_only=True)
class ExportResult(Result):
    """A new deployment.

    Attributes:
        deployment: its folder.
        manifest: what it promises.
    """

    deployment: Path
    manifest: Manifest

    def values(self) -> Mapping[str, object]:
        """The folder, and the manifest as it stands in it."""
        return {"deployment": self.deployment, "manifest": self.manifest.model_dump(mode="json", by_alias=True)}

    @property
    def shown(self) -> Shown:
        """What was found of it, beside what was predicted and allowed."""
        folder, manifest = self.deployment, self.manifest
        accuracy = manifest.accuracy
        latency_limit = ceiling(manifest.limits, "latency_ms")
        bound = f", limit {quantity('latency_ms', latency_limit)}" if latency_limit is not None else ""
        predicted = manifest.predicted["latency_ms"]
        upper = manifest.predicted.get("latency_ms_upper", predicted)
        verify, board = f"hwnas verify {quoted(folder)}", manifest.device.connection
        return Shown(
            title=f"Deployed: {folder}",
            rows=[
                (
                    f"test {metric_name(accuracy.metric)} through the runtime",
                    f"{percent(accuracy.test_runtime, decimals=2)} of {accuracy.n_test}"
                    if manifest.output.task == "classification"
                    else f"{percent(accuracy.test_runtime, decimals=2)} on {accuracy.n_test}",
                ),
                (
                    "  in torch, same precision / fp32",
                    f"{percent(accuracy.test_torch, decimals=2)} / {percent(accuracy.test_fp32, decimals=2)}",
                ),
                *((f"  {metric_name(k)}", quantity(k, v)) for k, v in accuracy.others.items()),
                *_class_rows(manifest),
                *_latency_rows(manifest, bound),
                (
                    "  predicted",
                    f"{quantity('latency_ms', predicted)}, at most {quantity('latency_ms', upper)}",
                ),
                ("size", quantity("size_bytes", manifest.artefact.size_bytes)),
                *_elsewhere_rows(manifest),
                *(
                    (metric_name(metric), f"{quantity(metric, value)} ({manifest.measured.source})")
                    for metric, value in manifest.measured.costs.items()
                ),
                *speedup_rows(manifest),
                (f"{manifest.parity.decides}s equal to torch's", _agreement(manifest.parity)),
                ("candidates rejected before", len(manifest.rejected)),
            ],
            notes=[
                f"Chosen: {manifest.provenance['chosen']}.",
                f"Report: {folder / 'report.html'}",
                f"Check it again, DEVICE is your description of the board: {verify} --device DEVICE"
                if board
                else f"Check it again: {verify}",
            ],
        )


def _elsewhere_rows(manifest: Manifest) -> list[tuple[str, Any]]:
    """What other devices must keep, which is by prediction: nothing was measured there."""
    return [
        (
            f"{metric_name(m)}, not measured",
            f"at most {quantity(m, manifest.predicted.get(f'{m}_upper', manifest.predicted[m]))} predicted, "
            f"limit {allowed_text(m, allowed)}",
        )
        for m, allowed in manifest.limits.items()
        if "." in m and m in manifest.predicted
    ]


def _class_rows(manifest: Manifest) -> list[tuple[str, Any]]:
    by_class, by_pixel = manifest.accuracy.by_class, manifest.accuracy.by_pixel
    if by_pixel is not None:
        lowest = min((c for c in by_pixel.classes if c.iou is not None), key=lambda c: c.iou or 0.0)
        return [("  worst class", f"{lowest.name}: {percent(lowest.iou or 0.0, decimals=2)} IoU")]
    if by_class is None:
        return []
    # a class without test images has no recall, and is no worst class
    worst = min((c for c in by_class.classes if c.recall is not None), key=lambda c: c.recall or 0.0)
    return [
        (
            "  mean over classes / largest class",
            f"{percent(by_class.balanced_accuracy, decimals=2)} / {percent(by_class.majority_share, decimals=2)}",
        ),
        ("  worst class", f"{worst.name}: {worst.found} of {worst.n}"),
    ]


def _agreement(parity: Parity) -> str:
    ties = f", and {parity.near_ties} near-ties" if parity.near_ties else ""
    return f"{percent(parity.top1_agreement, decimals=2)} of {parity.n}{ties}"


def _latency_rows(manifest: Manifest, bound: str) -> list[tuple[str, Any]]:
    latency, source = manifest.measured.latency_ms, manifest.measured.source
    if source != MEASURED:
        return [(f"latency {source}", f"{quantity('latency_ms', latency.minimum)}{bound}")]
    return [
        ("latency measured", f"{quantity('latency_ms', latency.minimum)} minimum{bound}"),
        ("  median, as disturbed as it was", quantity("latency_ms", latency.median)),
    ]


def speedup_rows(manifest: Manifest) -> list[tuple[str, Any]]:
    """How much faster it is than its own float form; the report tells what stops it."""
    comparison = manifest.precision_speedup
    if comparison is None:
        return []
    floats = f"{comparison.against}: {quantity('latency_ms', comparison.float_latency_ms)}"
    return [
        (f"{manifest.precision} against {comparison.against}", f"{comparison.speedup:.2f} times as fast ({floats})")
    ]
