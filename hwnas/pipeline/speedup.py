"""How much faster quantization makes a network on its device, and which blocks stop it where that is little.

Knows exporters and the measuring process; not how a network was chosen.
"""

from __future__ import annotations

import dataclasses
from collections import Counter
from collections.abc import Iterator, Mapping, Sequence
from pathlib import Path
from typing import TYPE_CHECKING

from hwnas.deployment import PrecisionSpeedup, SlowBlock
from hwnas.measure import Worker
from hwnas.pipeline.verdict import VERDICT
from hwnas.precisions import EXACT, is_allowed, is_conversion, is_quantized
from hwnas.scratch import scratch
from hwnas.types import Artefact, Block, MeasurementFailure, Statistic
from hwnas.workspace import Workspace

if TYPE_CHECKING:
    from torch import nn

ENOUGH = 1.3  # times as fast as in floats: below it, the blocks are looked at one by one


def measure_speedup(
    work: Workspace,
    worker: Worker,
    *,
    blocks: Sequence[Block],
    float_network: nn.Module,
    artefact: Artefact,
    anchor: Artefact,
    anchor_ms: float,
) -> PrecisionSpeedup | None:
    """Time a network against its own float form, in the same interleaved rounds.

    Where it is less than 1.3 times as fast, every distinct block is timed in both precisions, and those with less than
    that are listed with what they cost in the network, the most expensive first.

    Args:
        work: of the run.
        worker: of the device.
        blocks: of the network, boundaries included.
        float_network: the same network in floats, recalibrated.
        artefact: the network as it ships.
        anchor: the table's drift anchor.
        anchor_ms: its time in the table.

    Returns:
        None if the network has no quantized block, the device computes in no floats, or one of the two cannot be timed.
    """
    import torch

    floats = work.computed[EXACT]
    if not is_allowed(floats, work.device) or not any(is_quantized(b.precision) for b in blocks):
        return None
    with scratch("speedup") as folder:
        example = torch.zeros(1, *blocks[0].in_shape)
        path = Path(folder, f"{floats}.{work.exporter.format}")
        other = work.exporter.export(float_network, example, path, precision=floats)
        # in the same rounds: a ratio of two times hours apart would hold the machine's drift
        found = worker.measure(
            {"floats": other, "ships": artefact}, anchor=anchor, anchor_ms=anchor_ms, settings=VERDICT
        )
        in_floats, ships = found["floats"], found["ships"]
        if isinstance(in_floats, MeasurementFailure) or isinstance(ships, MeasurementFailure):
            return None
        speedup = in_floats.minimum / ships.minimum
        whole = {"floats": in_floats.minimum, "integers": ships.minimum}
        slow = () if speedup >= ENOUGH else tuple(_slow_blocks(work, worker, blocks, whole, anchor, anchor_ms))
    return PrecisionSpeedup(
        float_latency_ms=in_floats.minimum,
        latency_ms=ships.minimum,
        speedup=speedup,
        slow_blocks=slow,
        against=floats,
    )


def _slow_blocks(
    work: Workspace,
    worker: Worker,
    blocks: Sequence[Block],
    whole_ms: Mapping[str, float],
    anchor: Artefact,
    anchor_ms: float,
) -> Iterator[SlowBlock]:
    """The quantized blocks of too small a speed-up, by what they cost; a boundary has no float form, and none."""
    from hwnas.supernet.untrained import untrained_block

    # equal blocks are timed once and counted as often as they occur
    counts = Counter(b for b in blocks if is_quantized(b.precision))
    forms: dict[str, Counter[Block]] = {"integers": counts, "floats": Counter()}
    floats = work.computed[EXACT]
    for block, count in counts.items():
        if not is_conversion(block.kind):
            forms["floats"][dataclasses.replace(block, precision=floats)] = count
    with scratch("blocks") as folder:
        suffix = work.exporter.format
        everything = [b for of in forms.values() for b in of]
        artefacts = {
            b.key: untrained_block(b, symmetric=work.symmetric).write(work.exporter, Path(folder, f"{i}.{suffix}"))
            for i, b in enumerate(everything)
        }
        results = worker.measure(artefacts, anchor=anchor, anchor_ms=anchor_ms)
    alone = {key: r.minimum for key, r in results.items() if isinstance(r, Statistic)}
    shares = {p: _shares({b: alone[b.key] for b in of if b.key in alone}, of, whole_ms[p]) for p, of in forms.items()}
    found = []
    for block, count in counts.items():
        ships = shares["integers"].get(block)
        in_floats = shares["floats"].get(dataclasses.replace(block, precision=floats))
        if ships is not None and (in_floats is None or in_floats / ships < ENOUGH):
            # None: a conversion has no float form, or the form failed
            found.append(SlowBlock(block=block.key, count=count, latency_ms=ships, float_latency_ms=in_floats))
    yield from sorted(found, key=lambda block: -block.count * block.latency_ms)


def _shares(alone: Mapping[Block, float], counts: Mapping[Block, int], whole_ms: float) -> dict[Block, float]:
    """What each block costs inside the network: alone, less the call that every block alone pays and the network once.

    The call's cost is what makes the blocks' sum more than the network; at most 90 % of a block is taken for it.
    """
    n = sum(counts[b] for b in alone)
    excess = sum(counts[b] * ms for b, ms in alone.items()) - whole_ms
    # n calls alone against one in the network: n - 1 too many
    call = max(0.0, excess / (n - 1)) if n > 1 else 0.0
    return {b: max(0.1 * ms, ms - call) for b, ms in alone.items()}
