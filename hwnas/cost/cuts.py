"""What blocks pay alone and no network pays, tensor by tensor, from neighbours that were measured together.

A block alone takes its input from outside and gives its output there, in the layout of the file. Inside a network,
neighbours hand tensors on as their kernels want them: OpenVINO's convolutions compute channels last and spend two
thirds of some blocks' time on turning what enters and leaves them (`benchmarks/prediction.py --space resnet29`). What
cutting a network costs between two blocks is the sum of their entries less the time of the pair. It depends on the
tensor that is cut and hardly on the blocks beside it, so one pair for each tensor tells it for all networks.

Knows blocks and times; never how a time was taken.
"""

from __future__ import annotations

from collections.abc import Iterable, Mapping, Sequence
from statistics import fmean

from hwnas.precisions import is_conversion
from hwnas.types import Block

LEAST = 0.1  # of an entry: so much of it is left at least, whatever its end is said to cost


def cut_of(block: Block) -> str | None:
    """Names the tensor that a block hands on; None of a conversion, which is what it is because of its ends."""
    if is_conversion(block.kind):
        return None
    return f"{block.precision}|{'x'.join(map(str, block.out_shape))}"


def cut_costs(pairs: Iterable[tuple[Sequence[str], float]], entries: Mapping[str, float]) -> dict[str, float]:
    """Name of a tensor -> what cutting networks there adds to the sum of their blocks; the mean of its pairs.

    Args:
        pairs: keys of two neighbouring blocks, and the cost of both together.
        entries: block key -> its cost alone. Pairs of blocks that have none are left out.
    """
    found: dict[str, list[float]] = {}
    for (first, second), together in pairs:
        name = cut_of(Block.from_key(first))
        if name is not None and first in entries and second in entries:
            found.setdefault(name, []).append(entries[first] + entries[second] - together)
    return {name: fmean(costs) for name, costs in found.items()}


def without_cut(block: Block, entry: float, cuts: Mapping[str, float]) -> float:
    """A block's entry less what handing its tensor on costs when it is alone."""
    name = cut_of(block)
    return entry if name is None else max(LEAST * entry, entry - cuts.get(name, 0.0))
