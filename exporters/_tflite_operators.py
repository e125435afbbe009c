"""TFLite's operators, one function each: shapes, options, and the version that has what is asked for.

A function works in float32 or in int8, as the quantization asked of its output says. This module knows the operators'
semantics, not torch, modules, devices or search.
"""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import dataclass

import numpy as np
from ai_edge_litert import schema_py_generated as schema

from hwnas.types import Array

from ._tflite_graph import Graph, QuantizationParameters, Value

ACTIVATIONS = {
    "": schema.ActivationFunctionType.NONE,
    "relu": schema.ActivationFunctionType.RELU,
    "relu6": schema.ActivationFunctionType.RELU6,
    "relu_n1_to_1": schema.ActivationFunctionType.RELU_N1_TO_1,
}


@dataclass(frozen=True, slots=True, kw_only=True)
class Window:
    """Where a window stands, of the height and of the width: its stride, dilation, and the zeros on both sides."""

    stride: tuple[int, int] = (1, 1)
    padding: tuple[int, int] = (0, 0)
    dilation: tuple[int, int] = (1, 1)


def placed(
    graph: Graph, x: Value, size: Sequence[int], window: Window, *, name: str, value: float = 0.0
) -> tuple[Value, int, list[int]]:
    """The input of an operator with a window, padded where TFLite's own padding is another, and where that leads.

    Args:
        graph: gets a PAD if one is needed.
        x: (1, H, W, C).
        size: of the window.
        window: how it moves.
        name: of the operator.
        value: what is around the image.

    Returns:
        The input, the padding to ask for, and (height, width) of the result.
    """
    steps = zip(x.shape[1:3], size, window.stride, window.padding, window.dilation, strict=True)
    sides, total, own = [], [], True
    for n, k, stride, padding, dilation in steps:
        reach = dilation * (k - 1) + 1
        out = (n + 2 * padding - reach) // stride + 1
        sides.append(out)
        total.append(max(0, (out - 1) * stride + reach - n))
        # TFLite's SAME puts the odd row at the end, torch at the beginning
        own = own and out == -(-n // stride) and total[-1] // 2 == padding
    if own:
        return x, schema.Padding.SAME, sides
    amounts = [(b, max(0, t - b)) for b, t in zip(window.padding, total, strict=True)]
    if any(map(any, amounts)):
        x = pad(graph, x, amounts, name=f"{name}.pad", value=value)
    return x, schema.Padding.VALID, sides


def pool(
    graph: Graph, kind: str, x: Value, size: tuple[int, int], window: Window, *, name: str, value: float = 0.0
) -> Value:
    """MAX_POOL_2D or AVERAGE_POOL_2D; in int8 the result has the input's scale.

    Args:
        graph: gets the operator.
        kind: which.
        x: (1, H, W, C).
        size: of the window.
        window: how it moves.
        name: of the result.
        value: what is around the image.
    """
    x, padding, sides = placed(graph, x, size, window, name=name, value=value)
    options = schema.Pool2DOptionsT()
    (options.filterHeight, options.filterWidth), (options.strideH, options.strideW) = size, window.stride
    options.padding = padding
    return graph.operator(
        kind,
        [x],
        name=name,
        shape=(1, *sides, x.shape[3]),
        quantization=x.quantization,
        version=2 if x.quantization else 1,
        options=options,
    )


def gather(graph: Graph, table: Value, rows: Value, *, name: str) -> Value:
    """Rows of a table (rows, features) by their numbers (1, ...) -> (1, ..., features); int8 if the table is."""
    options = schema.GatherOptionsT()
    options.axis, options.batchDims = 0, 0
    shape = (*rows.shape, table.shape[1])
    version = 2 if table.quantization else 1
    return graph.operator(
        "GATHER",
        [table, rows],
        name=name,
        shape=shape,
        quantization=table.quantization,
        version=version,
        options=options,
    )


def linear(graph: Graph, x: Value, weight: Array, bias: Array, *, name: str, act: str = "") -> Value:
    """(1, ..., in) -> (1, ..., out) in float32, by a weight (out, in)."""
    stored = [graph.constant(f"{name}.weight", weight), graph.constant(f"{name}.bias", bias)]
    options = schema.FullyConnectedOptionsT()
    options.fusedActivationFunction = ACTIVATIONS[act]
    rows = len(x.shape) > 2
    options.keepNumDims = rows
    shape = (*x.shape[:-1], len(bias))
    version = 5 if rows else 1
    return graph.operator("FULLY_CONNECTED", [x, *stored], name=name, shape=shape, version=version, options=options)


def pad(graph: Graph, x: Value, amounts: Sequence[tuple[int, int]], *, name: str, value: float = 0.0) -> Value:
    """Zeros (the zero point, in int8), or the lowest number, around a tensor: (before, after) of each axis.

    Of an image, of its height and its width alone.
    """
    whole = amounts if len(amounts) == len(x.shape) else [(0, 0), *amounts, (0, 0)]
    pairs = np.array(whole, np.int32)
    shape = tuple(n + int(b) + int(a) for n, (b, a) in zip(x.shape, pairs, strict=True))
    inputs = [x, graph.constant(f"{name}.amounts", pairs)]
    kind, options, version = "PAD", schema.PadOptionsT(), 2 if x.quantization else 1
    if value and (x.quantization is None or x.quantization.zero_point != -128):  # else 0 is the lowest
        lowest = np.array(value, np.float32) if x.quantization is None else np.array(-128, np.int8)
        inputs.append(graph.constant(f"{name}.value", lowest.reshape(1), quantization=x.quantization))
        kind, options = "PADV2", schema.PadV2OptionsT()
    return graph.operator(
        kind, inputs, name=name, shape=shape, quantization=x.quantization, version=version, options=options
    )


def reduction(graph: Graph, kind: str, x: Value, axes: Sequence[int], *, name: str, keep_dims: bool) -> Value:
    """MEAN, SUM or REDUCE_MAX over axes of the stored tensor, in float32."""
    options = schema.ReducerOptionsT()
    options.keepDims = keep_dims
    shape = [1 if i in axes else n for i, n in enumerate(x.shape) if keep_dims or i not in axes]
    constant = graph.constant(f"{name}.axes", np.array(axes, np.int32))
    return graph.operator(kind, [x, constant], name=name, shape=shape, options=options)


def mean(
    graph: Graph, x: Value, *, name: str, keep_dims: bool, quantization: QuantizationParameters | None = None
) -> Value:
    """Over height and width: (1, H, W, C) -> (1, 1, 1, C), or (1, C)."""
    options = schema.ReducerOptionsT()
    options.keepDims = keep_dims
    shape = (1, 1, 1, x.shape[3]) if keep_dims else (1, x.shape[3])
    axes = graph.constant("height_and_width", np.array([1, 2], np.int32))
    return graph.operator(
        "MEAN",
        [x, axes],
        name=name,
        shape=shape,
        quantization=quantization,
        version=2 if quantization else 1,
        options=options,
    )


def elementwise(
    graph: Graph,
    kind: str,
    x: Value,
    y: Value,
    *,
    name: str,
    act: str = "",
    quantization: QuantizationParameters | None = None,
) -> Value:
    """ADD, SUB, MUL or DIV, number by number; either side may be broadcast."""
    options = getattr(schema, f"{kind.capitalize()}OptionsT")()
    options.fusedActivationFunction = ACTIVATIONS[act]
    return graph.operator(
        kind,
        [x, y],
        name=name,
        shape=np.broadcast_shapes(x.shape, y.shape),
        quantization=quantization,
        version=2 if quantization else 1,
        options=options,
    )


def by_constant(graph: Graph, kind: str, x: Value, number: Array | float, *, name: str, act: str = "") -> Value:
    """ADD or MUL with a number, or with one for each index of the last axis, in float32."""
    constant = graph.constant(f"{name}.by", np.asarray(number, np.float32).reshape(-1))
    return elementwise(graph, kind, x, constant, name=name, act=act)


def unary(graph: Graph, kind: str, x: Value, *, name: str, options: object | None = None) -> Value:
    """An operator of one tensor that keeps its shape, in float32."""
    return graph.operator(kind, [x], name=name, shape=x.shape, options=options)


def logistic(graph: Graph, x: Value, *, name: str, quantization: QuantizationParameters | None = None) -> Value:
    """The sigmoid. In int8 its output quantization is given: scale 1/256, zero point -128."""
    return graph.operator(
        "LOGISTIC", [x], name=name, shape=x.shape, quantization=quantization, version=2 if quantization else 1
    )


def quantize(graph: Graph, x: Value, *, name: str, quantization: QuantizationParameters) -> Value:
    """Float32 -> int8, or int8 -> int8 of another scale."""
    version = 2 if x.quantization else 1
    return graph.operator(
        "QUANTIZE",
        [x],
        name=name,
        shape=x.shape,
        quantization=quantization,
        version=version,
        options=schema.QuantizeOptionsT(),
    )


def dequantize(graph: Graph, x: Value, *, name: str) -> Value:
    """Int8 -> float32."""
    return graph.operator("DEQUANTIZE", [x], name=name, shape=x.shape, version=2, options=schema.DequantizeOptionsT())


def reshape(graph: Graph, x: Value, shape: Sequence[int], *, name: str) -> Value:
    """The same numbers under another shape; of what was reshaped before, the first counts."""
    x, _ = graph.moved_from(x, by_order=False)
    if x.shape == tuple(shape):
        return x
    options = schema.ReshapeOptionsT()
    options.newShape = np.array(shape, np.int32)
    target = graph.constant(f"{name}.shape", np.array(shape, np.int32))
    y = graph.operator("RESHAPE", [x, target], name=name, shape=shape, quantization=x.quantization, options=options)
    graph.note_move(y, x, None)
    return y


def transpose(graph: Graph, x: Value, order: Sequence[int], *, name: str) -> Value:
    """Axes in another order; two orders in a row are one, or none."""
    x, before = graph.moved_from(x, by_order=True)
    order = tuple(before[i] for i in order)
    if order == tuple(range(len(order))):
        return x
    y = graph.operator(
        "TRANSPOSE",
        [x, graph.constant(f"{name}.order", np.array(order, np.int32))],
        name=name,
        shape=[x.shape[i] for i in order],
        quantization=x.quantization,
        version=2 if x.quantization else 1,
        options=schema.TransposeOptionsT(),
    )
    graph.note_move(y, x, order)
    return y


def concatenate(graph: Graph, values: Sequence[Value], *, axis: int, name: str) -> Value:
    """Along an axis of the stored tensors; in int8 all of one scale."""
    options = schema.ConcatenationOptionsT()
    options.axis = axis
    options.fusedActivationFunction = ACTIVATIONS[""]
    shape = list(values[0].shape)
    shape[axis] = sum(v.shape[axis] for v in values)
    quantization = values[0].quantization
    version = 2 if quantization else 1
    return graph.operator(
        "CONCATENATION",
        values,
        name=name,
        shape=shape,
        quantization=quantization,
        version=version,
        options=options,
    )


def resize(graph: Graph, x: Value, size: Sequence[int], *, name: str, mode: str, align_corners: bool) -> Value:
    """(1, H, W, C) -> (1, *size, C), `nearest` or `bilinear`, by pixels' centres as torch does."""
    kind, options = (
        ("RESIZE_BILINEAR", schema.ResizeBilinearOptionsT())
        if mode == "bilinear"
        else ("RESIZE_NEAREST_NEIGHBOR", schema.ResizeNearestNeighborOptionsT())
    )
    options.alignCorners = align_corners
    options.halfPixelCenters = mode == "bilinear" and not align_corners
    target = graph.constant(f"{name}.size", np.array(size, np.int32))
    version = 3 if options.halfPixelCenters else 2 if x.quantization else 1
    shape = (1, *size, x.shape[3])
    return graph.operator(
        kind, [x, target], name=name, shape=shape, quantization=x.quantization, version=version, options=options
    )


def slice_of(graph: Graph, x: Value, *, axis: int, start: int, size: int, name: str) -> Value:
    """Neighbours along an axis of the stored tensor."""
    begin, sizes = [0] * len(x.shape), list(x.shape)
    begin[axis], sizes[axis] = start, size
    return part(graph, x, begin, sizes, name=name)


def part(graph: Graph, x: Value, begin: Sequence[int], sizes: Sequence[int], *, name: str) -> Value:
    """A box of the stored tensor: where it begins, and its size, along each axis."""
    given = [graph.constant(f"{name}.{key}", np.array(v, np.int32)) for key, v in (("begin", begin), ("size", sizes))]
    return graph.operator(
        "SLICE",
        [x, *given],
        name=name,
        shape=sizes,
        quantization=x.quantization,
        version=2 if x.quantization else 1,
        options=schema.SliceOptionsT(),
    )


def tile(graph: Graph, x: Value, times: Sequence[int], *, name: str) -> Value:
    """The tensor beside itself, so often along each axis."""
    return graph.operator(
        "TILE",
        [x, graph.constant(f"{name}.times", np.array(times, np.int32))],
        name=name,
        shape=[n * m for n, m in zip(x.shape, times, strict=True)],
        quantization=x.quantization,
        version=3 if x.quantization else 1,
        options=schema.TileOptionsT(),
    )


def softmax(graph: Graph, x: Value, *, name: str, quantization: QuantizationParameters | None = None) -> Value:
    """Along the last axis of the stored tensor. In int8 its output quantization is given, as the sigmoid's."""
    options = schema.SoftmaxOptionsT()
    options.beta = 1.0
    return graph.operator(
        "SOFTMAX",
        [x],
        name=name,
        shape=x.shape,
        quantization=quantization,
        version=2 if quantization else 1,
        options=options,
    )


def matmul(graph: Graph, x: Value, y: Value, *, name: str, turned: bool = False) -> Value:
    """(..., L, E) x (..., E, S) -> (..., L, S) in float32; `turned`: the second is (..., S, E)."""
    columns = y.shape[-2 if turned else -1]
    shape = (*np.broadcast_shapes(x.shape[:-2], y.shape[:-2]), x.shape[-2], columns)
    options = schema.BatchMatMulOptionsT()
    options.adjY = turned
    return graph.operator("BATCH_MATMUL", [x, y], name=name, shape=shape, options=options)
