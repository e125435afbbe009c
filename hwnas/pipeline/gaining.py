"""What int8 gains a network on its device, and which blocks stop it where that is little.

Knows exporters and the measuring process; not how a network was chosen.
"""

from __future__ import annotations

import dataclasses
import tempfile
from collections import Counter
from collections.abc import Iterator, Sequence
from pathlib import Path
from typing import TYPE_CHECKING

from hwnas.deployment import BlockGain, PrecisionGain
from hwnas.measure import Worker
from hwnas.pipeline.verifying import VERDICT
from hwnas.pipeline.workspace import Workspace
from hwnas.types import Artefact, Block, MeasurementFailure, Statistic

if TYPE_CHECKING:
    from torch import nn

ENOUGH = 1.3  # times as fast as fp32: below it, the blocks are looked at one by one
_BOUNDARIES = ("quantize", "dequantize")


def precision_gain(
    work: Workspace,
    worker: Worker,
    *,
    blocks: Sequence[Block],
    plain: nn.Module,
    artefact: Artefact,
    reference: Artefact,
    reference_ms: float,
) -> PrecisionGain | None:
    """Time a network against its own fp32 form, in the same interleaved rounds.

    Where it is less than 1.3 times as fast, every distinct block is timed in both precisions, and those that gain less
    than that are listed with what they cost in the network, the most expensive first.

    Args:
        work: of the run.
        worker: of the device.
        blocks: of the network, boundaries included.
        plain: the same network at fp32, recalibrated.
        artefact: the network as it ships.
        reference: the table's reference model.
        reference_ms: its time in the table.

    Returns:
        None if the network has no int8 block, the device does not compute in fp32, or one of the two cannot be timed.
    """
    import torch

    if "fp32" not in work.device.precisions or all(b.precision == "fp32" for b in blocks):
        return None
    with tempfile.TemporaryDirectory(prefix="hwnas-gain-") as folder:
        example = torch.zeros(1, *blocks[0].in_shape)
        path = Path(folder, f"fp32.{work.exporter.format}")
        other = work.exporter.export(plain, example, path, precision="fp32")
        found = worker.measure(
            {"fp32": other, "ships": artefact}, reference=reference, reference_ms=reference_ms, settings=VERDICT
        )
        fp32, ships = found["fp32"], found["ships"]
        if isinstance(fp32, MeasurementFailure) or isinstance(ships, MeasurementFailure):
            return None
        speedup = fp32.fastest / ships.fastest
        slow = () if speedup >= ENOUGH else tuple(_slow_blocks(work, worker, blocks, reference, reference_ms))
    return PrecisionGain(fp32_latency_ms=fp32.fastest, latency_ms=ships.fastest, speedup=speedup, slow_blocks=slow)


def _slow_blocks(
    work: Workspace, worker: Worker, blocks: Sequence[Block], reference: Artefact, reference_ms: float
) -> Iterator[BlockGain]:
    """The int8 blocks that gain too little, by what they cost; a boundary has no fp32 form and gains nothing."""
    counts = Counter(b for b in blocks if b.precision == "int8")
    with tempfile.TemporaryDirectory(prefix="hwnas-blocks-") as folder:
        artefacts = {}
        for i, block in enumerate(counts):
            forms = [block]
            if block.kind not in _BOUNDARIES:
                forms.append(dataclasses.replace(block, precision="fp32"))
            for form in forms:
                path = Path(folder, f"{i}-{form.precision}.{work.exporter.format}")
                artefacts[form.key] = work.exporter.export_block(form, path)
        results = worker.measure(artefacts, reference=reference, reference_ms=reference_ms)

    def time_of(block: Block) -> float | None:
        result = results.get(block.key)
        return result.fastest if isinstance(result, Statistic) else None

    found = []
    for block, count in counts.items():
        int8, fp32 = time_of(block), time_of(dataclasses.replace(block, precision="fp32"))
        if int8 is not None and (fp32 is None or fp32 / int8 < ENOUGH):
            found.append(BlockGain(block=block.key, count=count, latency_ms=int8, fp32_latency_ms=fp32))
    yield from sorted(found, key=lambda gain: -gain.count * gain.latency_ms)
