"""A new deployment in a few lines, for the terminal. Knows manifests; never how they came about."""

from __future__ import annotations

from pathlib import Path
from typing import Any

from hwnas.deployment import Manifest
from hwnas.pipeline.verifying import MEASURED, shown_costs
from hwnas.types import Block


def deployment_summary(folder: Path, manifest: Manifest) -> dict[str, Any]:
    """What `hwnas export` prints and gives."""
    accuracy = manifest.accuracy
    latency_limit = manifest.limits.get("latency_ms")
    bound = f", limit {latency_limit:.3f} ms" if latency_limit is not None else ""
    upper = manifest.predicted.get("latency_ms_upper", manifest.predicted["latency_ms"])
    board = " --device DEVICE, your description of the board" if manifest.device.connection else ""
    return {
        "title": f"Deployed: {folder}",
        "rows": [
            ("test accuracy through the runtime", f"{accuracy.test_runtime:.2%} of {accuracy.n_test}"),
            ("  in torch, same precision / fp32", f"{accuracy.test_torch:.2%} / {accuracy.test_fp32:.2%}"),
            *_latency_rows(manifest, bound),
            ("  predicted", f"{manifest.predicted['latency_ms']:.3f} ms, upper bound {upper:.3f} ms"),
            ("size", f"{manifest.artefact.size_bytes:,} bytes"),
            *(
                (metric, f"{value:,.4g} ({manifest.measured.source})")
                for metric, value in shown_costs(manifest.measured.costs).items()
            ),
            *gain_rows(manifest),
            ("predictions equal to torch's", f"{manifest.parity.top1_agreement:.2%} of {manifest.parity.n}"),
            ("candidates rejected before", len(manifest.rejected)),
        ],
        "notes": [
            f"Chosen: {manifest.provenance['chosen']}.",
            f"Report: {folder / 'report.html'}",
            f"Check it again: hwnas verify {folder}{board}",
        ],
        "deployment": str(folder),
        "manifest": manifest.model_dump(mode="json"),
    }


def _latency_rows(manifest: Manifest, bound: str) -> list[tuple[str, Any]]:
    latency, source = manifest.measured.latency_ms, manifest.measured.source
    if source != MEASURED:
        return [(f"latency {source}", f"{latency.fastest:.3f} ms{bound}")]
    return [("latency measured", f"{latency.fastest:.3f} ms undisturbed{bound} (median {latency.median:.3f})")]


def gain_rows(manifest: Manifest) -> list[tuple[str, Any]]:
    """How much faster it is than its own fp32 form, and what stops it."""
    gain = manifest.precision_gain
    if gain is None:
        return []
    rows: list[tuple[str, Any]] = [
        (f"{manifest.precision} against fp32", f"{gain.speedup:.2f} times as fast ({gain.fp32_latency_ms:.3f} ms)")
    ]
    if gain.slow_blocks:
        worst = gain.slow_blocks[0]
        block = Block.from_key(worst.block)
        kernel = next((f" {v} x {v}" for k, v in block.attributes if k == "kernel_size"), "")
        other = "" if worst.fp32_latency_ms is None else f", in fp32 {worst.fp32_latency_ms:.4f}"
        rows.append(
            (
                "  stopped most by",
                f"{block.kind}{kernel} of {' x '.join(map(str, block.in_shape))}: {worst.latency_ms:.4f} ms{other} "
                f"({len(gain.slow_blocks)} such blocks in the report)",
            )
        )
    return rows
