"""What the rules of TFLite operators are given: the file being written, the module, and where tensors stand.

Images are kept as (1, H, W, C); everything else as torch has it. This module knows graphs and tensors, not operators.
"""

from __future__ import annotations

from dataclasses import dataclass
from typing import Any

import numpy as np
from torch import Tensor

from hwnas.errors import ExportError
from hwnas.graph import Op
from hwnas.graph.costs import call_of
from hwnas.graph.operators import Call
from hwnas.supernet.graph_module import GraphInterpreter
from hwnas.types import Array

from . import _tflite_operators as ops
from ._tflite_graph import Graph, Value

_STORED_AXES = (3, 1, 2)  # of (C, H, W) in (1, H, W, C)


@dataclass(frozen=True, slots=True, kw_only=True)
class Writing:
    """A module being written.

    Attributes:
        graph: the file.
        module: what is written, batch normalisation folded.
        prefix: of names, the path of the module with a dot behind, or nothing.
    """

    graph: Graph
    module: GraphInterpreter
    prefix: str

    def name(self, op: Op) -> str:
        """What an operator's result is called."""
        return f"{self.prefix}{self.module.label(op)}"

    def call(self, op: Op) -> Call:
        """An operator as rules see it."""
        return call_of(self.module.op_graph, op)

    def array(self, op: Op, role: str) -> Array | None:
        """The numbers of an operator's weight; None if it has none in that role."""
        weight = op.weight(role)
        if weight is None:
            return None
        found: Any = self.module
        for part in weight.name.split("."):
            found = getattr(found, part)
        return array(found)

    def refuse(self, op: Op, why: str) -> ExportError:
        """The error that this operator cannot be written."""
        return ExportError(f"operator {self.prefix}{op.name!s} ({op.kind}) cannot be written as TFLite: {why}")


def array(tensor: Tensor) -> Array:
    """A tensor's numbers."""
    values: Array = tensor.detach().cpu().numpy()
    return values


def stored_shape(shape: tuple[int, ...]) -> tuple[int, ...]:
    """Of one sample -> of its tensor in the file."""
    return (1, shape[1], shape[2], shape[0]) if len(shape) == 3 else (1, *shape)


def stored_numbers(numbers: Array) -> Array:
    """(1, *shape) as torch has it -> as the file does."""
    return np.ascontiguousarray(numbers.transpose(0, 2, 3, 1)) if numbers.ndim == 4 else numbers


def stored_axis(axis: int, rank: int) -> int:
    """An axis of one sample -> of its tensor in the file."""
    return _STORED_AXES[axis] if rank == 3 else axis + 1


def as_stored(graph: Graph, x: Value, shape: tuple[int, ...], *, name: str) -> Value:
    """The tensor of a sample of that shape: integer vectors come as (1, 1, 1, C) from the layers that made them."""
    return x if x.shape == stored_shape(shape) else ops.reshape(graph, x, stored_shape(shape), name=name)


def integers(values: list[int] | tuple[int, ...]) -> Array:
    """Numbers that say how, not what."""
    return np.array(values, np.int32)
