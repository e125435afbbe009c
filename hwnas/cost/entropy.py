"""The entropy of a network, from its widths, depths and kernels: what can stand for accuracy before any is known.

DeepMAD (Shen et al., 2023, section 3.2): a convolution of `c` input channels, kernel `k` and `g` groups has the width
`c k^2 / g`, and a network of `L` of them whose last feature map has `C` channels and `R x R` places the entropy
`log(R^2 C)` times the sum of the logarithms of the widths. Convolutions count that see more than one place, so neither
squeeze-and-excitation nor what follows the global pooling does. The paper adds entropies of earlier stages with small
weights; here the last feature map alone counts.

Both factors follow from few choices, so the entropy is a sum of small tables, and its maximum within limits is found
exactly (`hwnas.cost.milp`). Knows blocks by their operator graphs; never a kind of block, devices or torch.
"""

from __future__ import annotations

import math
from functools import lru_cache

import numpy as np

from hwnas.cost.elimination import Factor
from hwnas.cost.milp import Objective
from hwnas.cost.slots import SlotBlocks
from hwnas.errors import SpaceError
from hwnas.graph import Op, OpGraph
from hwnas.spaces.kinds import block_graph
from hwnas.types import Block, FloatArray

_CONVOLUTIONS = ("conv1d", "conv2d")
_KEPT = 4096  # blocks of a large space


def entropy(blocks: SlotBlocks) -> Objective:
    """The entropy of every network of a space.

    Args:
        blocks: of the space. The last feature map is that of the last slot that is in every network.

    Raises:
        SpaceError: no slot that is in every network has a convolution, or a kind of block has no operator graph.
    """
    slots = list(zip(blocks.scopes, blocks.index, strict=True))
    sizes = [np.array([*(log_feature_map(b) for b in blocks.blocks), 0.0])[cells] for _, cells in slots]
    always = [i for i, of_cells in enumerate(sizes) if (of_cells > 0).all()]
    if not always:
        raise SpaceError("no slot that is in every network has a convolution, so there is no last feature map")
    last = Factor.over(slots[always[-1]][0], sizes[always[-1]])
    widths = np.array([*(log_width(b) for b in blocks.blocks), 0.0])  # index -1, absent, adds nothing
    factors = (_times(Factor.over(scope, widths[cells]), last) for scope, cells in slots)
    return Objective(factors=tuple(f for f in factors if f.values.any()))


def log_width(block: Block) -> float:
    """The sum of the logarithms of its convolutions' widths; 0 if it has none."""
    return _logarithms(block)[0]


def log_feature_map(block: Block) -> float:
    """The logarithm of the numbers in what its last convolution gives; 0 if it has none."""
    return _logarithms(block)[1]


@lru_cache(maxsize=_KEPT)
def _logarithms(block: Block) -> tuple[float, float]:
    graph = block_graph(block)
    seen = [op for op in graph.ops if op.kind in _CONVOLUTIONS and _places(graph, op) > 1]
    widths = sum(math.log(math.prod(weight.shape[1:])) for op in seen if (weight := op.weight("weight")) is not None)
    return widths, math.log(math.prod(graph.by_name[seen[-1].outputs[0]].shape)) if seen else 0.0


def _places(graph: OpGraph, op: Op) -> int:
    return math.prod(graph.by_name[op.outputs[0]].shape[1:])  # (C, H, W) -> H * W


def _times(a: Factor, b: Factor) -> Factor:
    scope = tuple(sorted({*a.scope, *b.scope}))
    values: FloatArray = a.aligned(scope) * b.aligned(scope)
    return Factor(scope=scope, values=values)
