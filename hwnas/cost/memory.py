"""The memory a network needs while it runs (`memory_bytes`), where the runtime or the maker's compiler tells.

Of a network that is computed block by block the peak is that of one of its blocks: only one tensor crosses from block
to block. So the model is a maximum over slots, corrected by whole networks and bounded as latency is. It must never
know how a sample was taken, or torch.
"""

from __future__ import annotations

from collections.abc import Mapping, Sequence

import numpy as np

from hwnas.cost import analytic
from hwnas.cost.correction import conformal_ratio, held_out_rows
from hwnas.cost.least_squares import non_negative_least_squares
from hwnas.cost.model import SlotCost
from hwnas.cost.slots import SlotBlocks
from hwnas.types import Block

METRIC = "memory_bytes"
_SLIGHT = 1e-4  # against errors that are relative
_FEWEST = 4  # whole networks, to fit to and to bound with


def memory_cost(
    blocks: SlotBlocks,
    *,
    entries: Mapping[str, float],
    networks: Sequence[tuple[tuple[str, ...], float]],
    seed: int,
    confidence: float,
) -> SlotCost | None:
    """A cost model of `memory_bytes`, or None where too few whole networks told theirs.

    Estimate: `scale * (largest of the blocks' needs) + offset`, both at least 0, by least squares on relative errors.
    A block's need is what it told when it was measured alone; if one of the space's blocks told nothing, all are taken
    from their activations in closed form. Upper bound: split-conformal on the networks the fit has not seen (Lei et
    al., 2018, section 2.2), as for latency.

    Args:
        blocks: of the space.
        entries: block key -> bytes it needs alone, where known.
        networks: (block keys, bytes) of whole networks of the space.
        seed: decides which networks are held out.
        confidence: of the upper bound.
    """
    if len(networks) < _FEWEST:
        return None
    # all or none: a maximum over two kinds of numbers would follow whichever is larger
    told = all(block.key in entries for block in blocks.blocks)

    def need(block: Block) -> float:
        return entries[block.key] if told else float(analytic.peak_memory_bytes(block))

    base = np.array([max(need(Block.from_key(key)) for key in keys) for keys, _ in networks])
    found = np.array([value for _, value in networks])
    if not base.any():
        return None  # nothing to scale
    # the same split rule as for latency, so that both bounds mean the same
    test = held_out_rows(len(networks), seed=seed, confidence=confidence)
    train = np.setdiff1d(np.arange(len(networks)), test)
    unit = float(base.mean())  # of the offset, so that both columns are of one size
    # (N, 2); divided by what was found: least squares on relative errors, against a target of 1
    design = np.stack([base, np.full_like(base, unit)], axis=1) / found[:, None]
    # the last row decides only where networks of one base leave open which it is: then nothing is offset
    rows, asked = np.vstack([design[train], [0.0, _SLIGHT]]), np.append(np.ones(len(train)), 0.0)
    scale, offset = non_negative_least_squares(rows, asked)
    ratio, _ = conformal_ratio(found[test] / (scale * base[test] + offset * unit), confidence)
    table = blocks.table(lambda block: scale * need(block), combine="max", offset=offset * unit)
    # below 1 the bound would be under the estimate
    return SlotCost(metric=METRIC, table=table, upper_ratio=max(1.0, ratio))
