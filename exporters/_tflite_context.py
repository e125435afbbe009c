"""What the rules of TFLite operators are given: the file being written, the module, and where tensors stand.

Images (C, H, W) are kept as (1, H, W, C). A series (C, L) that a convolution reads or gives is kept as an image of one
row, (1, 1, L, C), as long as what reads it can do with that; everything else as torch has it. This module knows graphs
and tensors, not operators.
"""

from __future__ import annotations

from dataclasses import dataclass
from typing import Any

import numpy as np
from torch import Tensor

from hwnas.errors import ExportError
from hwnas.graph import Op, OpGraph
from hwnas.graph.costs import call_of
from hwnas.graph.operators import OPERATORS, Call
from hwnas.supernet.graph_module import GraphInterpreter
from hwnas.types import Array

from . import _tflite_operators as ops
from ._tflite_graph import Graph, Value

_STORED_AXES = (3, 1, 2)  # of (C, H, W) in (1, H, W, C)
_SERIES_AXES = (3, 2)  # of (C, L) in (1, 1, L, C)


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
        return f"{self.prefix}{self.module.label_of(op)}"

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


# ---------------------------------------------------------------- where tensors stand


def stored_shape(shape: tuple[int, ...]) -> tuple[int, ...]:
    """Of one sample -> of its tensor in the file, if it is not kept as a series."""
    return (1, shape[1], shape[2], shape[0]) if len(shape) == 3 else (1, *shape)


def stored_numbers(numbers: Array) -> Array:
    """(1, *shape) as torch has it -> as the file does."""
    return np.ascontiguousarray(numbers.transpose(0, 2, 3, 1)) if numbers.ndim == 4 else numbers


def series_shape(shape: tuple[int, ...]) -> tuple[int, ...]:
    """Of a series (C, L) -> of its tensor in the file, an image of one row."""
    channels, length = shape
    return (1, 1, length, channels)


def is_series(x: Value, shape: tuple[int, ...]) -> bool:
    """Whether the tensor of a sample of that shape is kept as a series."""
    return len(shape) == 2 and x.shape == series_shape(shape)


def axis_of(x: Value, axis: int, shape: tuple[int, ...]) -> int:
    """An axis of a sample of that shape -> of its tensor in the file."""
    if is_series(x, shape):
        return _SERIES_AXES[axis]
    return _STORED_AXES[axis] if len(shape) == 3 else axis + 1


def as_stored(graph: Graph, x: Value, shape: tuple[int, ...], *, name: str) -> Value:
    """The tensor of a sample of that shape as torch has it, images channels-last.

    Integer vectors come as (1, 1, 1, C) from the layers that made them, series as images of one row.
    """
    if x.shape == stored_shape(shape):
        return x
    if is_series(x, shape) and 1 not in shape:
        x = ops.transpose(graph, x, (0, 1, 3, 2), name=f"{name}.channels_first")  # (1, 1, L, C) -> (1, 1, C, L)
    return ops.reshape(graph, x, stored_shape(shape), name=name)


def as_series(graph: Graph, x: Value, shape: tuple[int, ...], *, name: str) -> Value:
    """The tensor of a sample (C, L) as an image of one row."""
    if is_series(x, shape):
        return x
    y = as_stored(graph, x, shape, name=f"{name}.stored")
    if 1 not in shape:
        y = ops.transpose(graph, y, (0, 2, 1), name=f"{name}.channels_last")  # (1, C, L) -> (1, L, C)
    return ops.reshape(graph, y, series_shape(shape), name=name)


def as_it_is(graph: Graph, x: Value, shape: tuple[int, ...], *, name: str) -> Value:
    """The tensor of a sample of that shape for what asks `axis_of` where its axes are: a series may stay one."""
    return x if is_series(x, shape) else as_stored(graph, x, shape, name=name)


def is_read_as_series(graph: OpGraph, name: str) -> bool:
    """Whether a convolution reads a value (C, L), be it behind what computes number by number."""
    if len(graph.by_name[name].shape) != 2:
        return False
    for op in graph.consumers.get(name, ()):
        if op.kind in ("conv1d", "batch_norm"):
            return True
        if op.kind == "reshape" and _keeps_channels(graph, op):
            return True
        if _is_by_number(op) and any(is_read_as_series(graph, output) for output in op.outputs):
            return True
    return False


def _is_by_number(op: Op) -> bool:
    """Whether an operator computes number by number."""
    known = OPERATORS.get(op.kind)
    in_place = known is not None and known.in_place and not known.shape_only and not op.weights
    return op.kind in ("quantize", "dequantize", "add", "sub", "mul") or (in_place and op.kind != "softmax")


def _keeps_channels(graph: OpGraph, op: Op) -> bool:
    """Whether a reshape lets the first axis stand: (C, L) as an image of C channels."""
    (before,), (after,) = graph.input_values(op), graph.output_values(op)
    return len(after.shape) == 3 and before.shape[0] == after.shape[0]
