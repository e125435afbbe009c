"""A network of several outputs as files have it: a module that gives each by itself, in place of one row of all.

Exporters write what this gives, so that nobody pays for putting the outputs together. Knows modules of graphs.
"""

from __future__ import annotations

import copy
from collections.abc import Iterator
from typing import TypeVar

from torch import Tensor, nn

from hwnas.graph.joining import output_parts, parted
from hwnas.precisions import DEQUANTIZE
from hwnas.row_parts import RowPart
from hwnas.supernet.graph_module import GraphInterpreter
from hwnas.supernet.quantization.region import QuantizedRegion
from hwnas.supernet.subnetwork import BlockSequence

Interpreter = TypeVar("Interpreter", bound=GraphInterpreter)


class Parted(nn.Module):
    """Modules in a row, of which the last gives several outputs: `(N, ...) -> ((N, ...), ...)`.

    Attributes:
        parts: what they are, in order.
    """

    def __init__(self, blocks: list[nn.Module], parts: tuple[RowPart, ...]) -> None:
        super().__init__()
        self.blocks = nn.ModuleList(blocks)
        self.parts = parts

    def forward(self, x: Tensor) -> tuple[Tensor, ...]:
        *before, last = self.blocks
        for block in before:
            x = block(x)
        outputs: tuple[Tensor, ...] = last(x)
        return outputs


def parts_of(model: nn.Module) -> tuple[RowPart, ...]:
    """The several outputs of a network; none where it has one."""
    return next((parts for _, module in _ends(model) if (parts := output_parts(module.op_graph))), ())


def parted_network(model: nn.Module) -> Parted | None:
    """A network with its outputs apart, on the same weights; None where it has one output.

    What only leads from integers to floats behind them is left out: in torch that computes nothing.
    """
    for i, module in _ends(model):
        if parts := output_parts(module.op_graph):
            before = list(model.blocks)[:i] if isinstance(model, BlockSequence) else []
            return Parted([*before, parted_module(module)], parts)
    return None


def parted_module(module: Interpreter) -> Interpreter:
    """A module of one graph with its outputs apart, on the same weights; itself where it has one output."""
    graph = parted(module.op_graph)
    if graph is module.op_graph:
        return module
    join = module.op_graph.outputs
    found = copy.copy(module)
    found.op_graph, found._outputs = graph, graph.outputs
    found._steps = tuple(step for step in module._steps if step.outputs != join)
    if isinstance(found, QuantizedRegion):
        found.op_plan = tuple(item for item in found.op_plan if item.outputs != join)
    return found


def _ends(model: nn.Module) -> Iterator[tuple[int, GraphInterpreter]]:
    """The last module of a network that computes something, with its place; if it is one of a graph."""
    blocks = list(model.blocks) if isinstance(model, BlockSequence) else [model]
    for i, block in reversed(list(enumerate(blocks))):
        if isinstance(block, GraphInterpreter):
            if {op.kind for op in block.op_graph.ops} == {DEQUANTIZE}:
                continue
            yield i, block
        return
