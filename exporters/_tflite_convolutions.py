"""TFLite's convolutions and transposed convolutions: kernels, scales, paddings, and the version that has them.

This module knows the operators' semantics, not torch, modules, devices or search.
"""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import dataclass

import numpy as np
from ai_edge_litert import schema_py_generated as schema

from hwnas.errors import ExportError
from hwnas.types import Array

from . import _tflite_operators as ops
from ._tflite_graph import Graph, QuantizationParameters, Value

_EVERYWHERE = ops.Window()


@dataclass(frozen=True, slots=True, kw_only=True)
class Weights:
    """Of a convolution: as floats, or as integers with their scales.

    Attributes:
        kernel: (out, in of a group, height, width) float32, or int8.
        bias: (out,) float32, or int32.
        scales: of the kernel, one, or one for each output channel; empty for floats. The bias has scale input * kernel.
        groups: of the channels.
        window: how the kernel moves.
    """

    kernel: Array
    bias: Array
    scales: tuple[float, ...] = ()
    groups: int = 1
    window: ops.Window = _EVERYWHERE

    @property
    def depthwise(self) -> bool:
        """Whether each channel has filters of its own."""
        return self.groups > 1 and self.kernel.shape[1] == 1


def convolution(
    graph: Graph,
    x: Value,
    weights: Weights,
    *,
    name: str,
    act: str = "",
    quantization: QuantizationParameters | None = None,
) -> Value:
    """(1, H, W, C) -> (1, H', W', out), padded as in torch.

    Raises:
        ExportError: the input has other channels than the kernel, or is float where the kernel is int8, or the reverse.
    """
    _check_input(x, weights, name)
    channels, _, *size = weights.kernel.shape
    x, padding, sides = ops.placed(graph, x, size, weights.window, name=name)
    kernel, bias = _stored(graph, x, weights, name)
    kind, options = "CONV_2D", schema.Conv2DOptionsT()
    if weights.depthwise:
        kind, options = "DEPTHWISE_CONV_2D", schema.DepthwiseConv2DOptionsT()
        options.depthMultiplier = channels // weights.groups
    options.strideH, options.strideW = weights.window.stride
    options.padding, options.fusedActivationFunction = padding, ops.ACTIVATIONS[act]
    options.dilationHFactor, options.dilationWFactor = weights.window.dilation
    return graph.operator(
        kind,
        [x, kernel, bias],
        name=name,
        shape=(1, *sides, channels),
        quantization=quantization,
        version=_convolution_version(weights, quantized=quantization is not None),
        options=options,
    )


def _convolution_version(weights: Weights, *, quantized: bool) -> int:
    """Dilated depthwise convolutions came in version 2, int8 in version 3, groups in version 6."""
    if not weights.depthwise and weights.groups > 1:
        return 6
    if quantized:
        return 3
    return 2 if weights.depthwise and weights.window.dilation != (1, 1) else 1


def _check_input(x: Value, weights: Weights, name: str) -> None:
    channels = weights.groups * weights.kernel.shape[1]
    if len(x.shape) != 4 or x.shape[3] != channels:
        raise ExportError(f"{name!r} takes images of {channels} channels, but gets a tensor {x.shape} (NHWC)")
    if bool(weights.scales) != (x.quantization is not None):
        own, given, missing = ("int8", "float", "quantize") if weights.scales else ("float", "int8", "dequantize")
        raise ExportError(f"{name!r} is {own}, but its input is {given}; put a {missing!r} block before it")


def _stored(graph: Graph, x: Value, weights: Weights, name: str) -> tuple[Value, Value]:
    kernel = weights.kernel.transpose((1, 2, 3, 0) if weights.depthwise else (0, 2, 3, 1))
    of_kernel = of_bias = None
    if weights.scales:
        assert x.quantization is not None
        of_kernel = QuantizationParameters(scales=weights.scales, axis=3 if weights.depthwise else 0)
        products = np.float32(x.quantization.scale) * np.array(weights.scales, np.float32)
        of_bias = QuantizationParameters(scales=tuple(map(float, products)))
    return (
        graph.constant(f"{name}.weight", kernel, quantization=of_kernel),
        graph.constant(f"{name}.bias", weights.bias, quantization=of_bias),
    )


def transposed_convolution(
    graph: Graph,
    x: Value,
    weights: Weights,
    *,
    size: Sequence[int],
    name: str,
    quantization: QuantizationParameters | None = None,
) -> Value:
    """(1, H, W, C) -> (1, *size, out).

    TFLite's paddings are none, and SAME: H' = H * stride, with the odd row of what hangs over at the end. What others
    cut off is a SLICE; what they add at the end, behind the last window, comes from zeros behind the input.

    Args:
        graph: gets the operators.
        x: (1, H, W, C).
        weights: a kernel (out, in, height, width); their window says stride and padding.
        size: height and width of the result.
        name: of the result.
        quantization: of an int8 result.
    """
    _check_input(x, weights, name)
    window, kernel_size = weights.window, weights.kernel.shape[2:]
    full = [(n - 1) * s + k for n, s, k in zip(x.shape[1:3], window.stride, kernel_size, strict=True)]
    over = [f - n for f, n in zip(full, size, strict=True)]  # what the windows give more than is wanted
    exact = not any(over) and not any(window.padding)
    steps = zip(x.shape[1:3], window.stride, size, over, window.padding, strict=True)
    if exact or all(n * s == out and o >= 0 and o // 2 == p for n, s, out, o, p in steps):
        return _transposed(graph, x, weights, size=size, same=not exact, name=name, quantization=quantization)
    # further windows, of zeros, reach the positions behind the last one
    more = [
        max(0, -(-(p + out - f) // s)) for p, out, f, s in zip(window.padding, size, full, window.stride, strict=True)
    ]
    if any(more):
        x = ops.pad(graph, x, [(0, n) for n in more], name=f"{name}.more")
        full = [f + n * s for f, n, s in zip(full, more, window.stride, strict=True)]
    y = _transposed(graph, x, weights, size=full, same=False, name=f"{name}.whole", quantization=quantization)
    begin, end = (0, *window.padding, 0), (1, *size, y.shape[3])
    return ops.part(graph, y, begin, end, name=name)


def _transposed(
    graph: Graph,
    x: Value,
    weights: Weights,
    *,
    size: Sequence[int],
    same: bool,
    name: str,
    quantization: QuantizationParameters | None,
) -> Value:
    """TRANSPOSE_CONV; int8 came in its version 2, a bias in version 3."""
    kernel, bias = _stored(graph, x, weights, name)
    shape = (1, *size, len(weights.kernel))
    target = graph.constant(f"{name}.shape", np.array(shape, np.int32))
    options = schema.TransposeConvOptionsT()
    options.strideH, options.strideW = weights.window.stride
    options.padding = schema.Padding.SAME if same else schema.Padding.VALID
    options.fusedActivationFunction = ops.ACTIVATIONS[""]
    return graph.operator(
        "TRANSPOSE_CONV",
        [target, kernel, x, bias],
        name=name,
        shape=shape,
        quantization=quantization,
        version=3,
        options=options,
    )
