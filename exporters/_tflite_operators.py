"""TFLite's operators, one function each: shapes, options, and the version that has what is asked for.

A function works in float32 or in int8, as the grid asked of its output says. This module knows the operators'
semantics, not torch, modules, devices or search.
"""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import dataclass

import numpy as np
from ai_edge_litert import schema_py_generated as schema

from hwnas.errors import ExportError
from hwnas.types import Array

from ._tflite_graph import Graph, Grid, Value

ACTIVATIONS = {
    "": schema.ActivationFunctionType.NONE,
    "relu": schema.ActivationFunctionType.RELU,
    "relu6": schema.ActivationFunctionType.RELU6,
    "relu_n1_to_1": schema.ActivationFunctionType.RELU_N1_TO_1,
}


@dataclass(frozen=True, slots=True, kw_only=True)
class Weights:
    """Of a convolution: as floats, or as levels with their scales.

    Attributes:
        kernel: (out, in, height, width) float32, or int8 levels.
        bias: (out,) float32, or int32 levels.
        scales: of the kernel, one for each output channel; empty for floats. The bias has scale input * kernel.
        depthwise: one filter for each channel; `in` is 1 then.
        stride: of both axes.
    """

    kernel: Array
    bias: Array
    scales: tuple[float, ...] = ()
    depthwise: bool = False
    stride: int = 1


def convolution(
    graph: Graph, x: Value, weights: Weights, *, name: str, act: str = "", grid: Grid | None = None
) -> Value:
    """(1, H, W, C) -> (1, ceil(H / stride), ceil(W / stride), out), padded by kernel // 2 on each side as in torch.

    Raises:
        ExportError: the input has other channels than the kernel, or is float where the kernel is int8, or the reverse.
    """
    _check_input(x, weights, name)
    channels, _, *size = weights.kernel.shape
    before = [k // 2 for k in size]
    outcome = [-(-n // weights.stride) for n in x.shape[1:3]]
    total = [max(0, (out - 1) * weights.stride + k - n) for out, k, n in zip(outcome, size, x.shape[1:3], strict=True)]
    same = [t // 2 for t in total] == before
    if not same:  # TFLite's SAME puts the odd row at the end, torch at the beginning
        x = pad(graph, x, [(b, t - b) for b, t in zip(before, total, strict=True)], name=f"{name}.pad")
    padding = schema.Padding.SAME if same else schema.Padding.VALID
    kernel, bias = _stored(graph, x, weights, name)
    kind, options = "CONV_2D", schema.Conv2DOptionsT()
    if weights.depthwise:
        kind, options = "DEPTHWISE_CONV_2D", schema.DepthwiseConv2DOptionsT()
        options.depthMultiplier = 1
    options.strideH = options.strideW = weights.stride
    options.padding, options.fusedActivationFunction = padding, ACTIVATIONS[act]
    options.dilationHFactor = options.dilationWFactor = 1
    shape = (1, *outcome, channels)
    version = 3 if grid else 1
    return graph.operator(kind, [x, kernel, bias], name=name, shape=shape, grid=grid, version=version, options=options)


def _check_input(x: Value, weights: Weights, name: str) -> None:
    channels = weights.kernel.shape[0 if weights.depthwise else 1]
    if len(x.shape) != 4 or x.shape[3] != channels:
        raise ExportError(f"{name!r} takes images of {channels} channels, but gets a tensor {x.shape} (NHWC)")
    if bool(weights.scales) != (x.grid is not None):
        own, given, missing = ("int8", "float", "quantize") if weights.scales else ("float", "int8", "dequantize")
        raise ExportError(f"{name!r} is {own}, but its input is {given}; put a {missing!r} block before it")


def _stored(graph: Graph, x: Value, weights: Weights, name: str) -> tuple[Value, Value]:
    kernel = weights.kernel.transpose((1, 2, 3, 0) if weights.depthwise else (0, 2, 3, 1))
    kernel_grid = bias_grid = None
    if weights.scales:
        assert x.grid is not None
        kernel_grid = Grid(scales=weights.scales, axis=3 if weights.depthwise else 0)
        products = np.float32(x.grid.scale) * np.array(weights.scales, np.float32)
        bias_grid = Grid(scales=tuple(map(float, products)))
    return (
        graph.constant(f"{name}.weight", kernel, grid=kernel_grid),
        graph.constant(f"{name}.bias", weights.bias, grid=bias_grid),
    )


def linear(graph: Graph, x: Value, weight: Array, bias: Array, *, name: str, act: str = "") -> Value:
    """(1, in) -> (1, out) in float32, by a weight (out, in)."""
    stored = [graph.constant(f"{name}.weight", weight), graph.constant(f"{name}.bias", bias)]
    options = schema.FullyConnectedOptionsT()
    options.fusedActivationFunction = ACTIVATIONS[act]
    return graph.operator("FULLY_CONNECTED", [x, *stored], name=name, shape=(1, len(bias)), options=options)


def pad(graph: Graph, x: Value, amounts: Sequence[tuple[int, int]], *, name: str) -> Value:
    """Zeros (the zero point, in int8) around the height and the width: (before, after) of each."""
    pairs = np.array([(0, 0), *amounts, (0, 0)], np.int32)
    shape = tuple(n + int(b) + int(a) for n, (b, a) in zip(x.shape, pairs, strict=True))
    return graph.operator(
        "PAD",
        [x, graph.constant(f"{name}.amounts", pairs)],
        name=name,
        shape=shape,
        grid=x.grid,
        version=2 if x.grid else 1,
        options=schema.PadOptionsT(),
    )


def mean(graph: Graph, x: Value, *, name: str, keep_dims: bool, grid: Grid | None = None) -> Value:
    """Over height and width: (1, H, W, C) -> (1, 1, 1, C), or (1, C)."""
    options = schema.ReducerOptionsT()
    options.keepDims = keep_dims
    shape = (1, 1, 1, x.shape[3]) if keep_dims else (1, x.shape[3])
    axes = graph.constant("height_and_width", np.array([1, 2], np.int32))
    return graph.operator(
        "MEAN", [x, axes], name=name, shape=shape, grid=grid, version=2 if grid else 1, options=options
    )


def add(graph: Graph, x: Value, y: Value, *, name: str, act: str = "", grid: Grid | None = None) -> Value:
    """Element by element; `y` may be broadcast."""
    options = schema.AddOptionsT()
    options.fusedActivationFunction = ACTIVATIONS[act]
    return graph.operator("ADD", [x, y], name=name, shape=x.shape, grid=grid, version=2 if grid else 1, options=options)


def multiply(graph: Graph, x: Value, y: Value, *, name: str, grid: Grid | None = None) -> Value:
    """Element by element; `y` may be broadcast."""
    return graph.operator(
        "MUL", [x, y], name=name, shape=x.shape, grid=grid, version=2 if grid else 1, options=schema.MulOptionsT()
    )


def logistic(graph: Graph, x: Value, *, name: str, grid: Grid | None = None) -> Value:
    """The sigmoid. In int8 its output grid is given: scale 1/256, zero point -128."""
    return graph.operator("LOGISTIC", [x], name=name, shape=x.shape, grid=grid, version=2 if grid else 1)


def hard_swish(graph: Graph, x: Value, *, name: str) -> Value:
    """In float32."""
    return graph.operator("HARD_SWISH", [x], name=name, shape=x.shape, options=schema.HardSwishOptionsT())


def quantize(graph: Graph, x: Value, *, name: str, grid: Grid) -> Value:
    """Float32 -> int8."""
    return graph.operator("QUANTIZE", [x], name=name, shape=x.shape, grid=grid, options=schema.QuantizeOptionsT())


def dequantize(graph: Graph, x: Value, *, name: str) -> Value:
    """Int8 -> float32."""
    return graph.operator("DEQUANTIZE", [x], name=name, shape=x.shape, version=2, options=schema.DequantizeOptionsT())


def reshape(graph: Graph, x: Value, shape: Sequence[int], *, name: str) -> Value:
    """The same numbers under another shape."""
    options = schema.ReshapeOptionsT()
    options.newShape = np.array(shape, np.int32)
    target = graph.constant(f"{name}.shape", np.array(shape, np.int32))
    return graph.operator("RESHAPE", [x, target], name=name, shape=shape, grid=x.grid, options=options)


def transpose(graph: Graph, x: Value, order: Sequence[int], *, name: str) -> Value:
    """Axes in another order."""
    return graph.operator(
        "TRANSPOSE",
        [x, graph.constant(f"{name}.order", np.array(order, np.int32))],
        name=name,
        shape=[x.shape[i] for i in order],
        grid=x.grid,
        version=2 if x.grid else 1,
        options=schema.TransposeOptionsT(),
    )
