"""Operators with weights in float32 as TFLite writes them: layers, and normalisations that follow none.

A convolution along a series is one of an image of one row. This module knows operators, not kinds of block, files,
quantization, devices or search.
"""

from __future__ import annotations

from collections.abc import Callable, Mapping, Sequence

import numpy as np

from hwnas.graph import Op
from hwnas.types import Array

from . import _tflite_convolutions as convolutions
from . import _tflite_operators as ops
from ._tflite_attention import standardised
from ._tflite_context import Writing, as_series, as_stored
from ._tflite_graph import Value

Rule = Callable[..., tuple[Value, ...]]


def convolution_window(w: Writing, op: Op) -> ops.Window:
    """How a convolution's kernel moves; that of a series along the only row of an image."""
    call = w.call(op)
    return ops.Window(
        stride=_of_image(call["stride"], 1),
        padding=_of_image(call["padding"], 0),
        dilation=_of_image(call["dilation"], 1),
    )


def _of_image(along: tuple[int, ...], of_row: int) -> tuple[int, int]:
    """One number for each axis of an image, from that of a series or from both."""
    height, width = (of_row, *along)[-2:]
    return height, width


def image_read(w: Writing, op: Op, x: Value) -> Value:
    """What a convolution or a pool reads: an image, or a series as one of one row."""
    shape = w.call(op).x
    return as_series(w.graph, x, shape, name=f"{w.name(op)}.input") if len(shape) == 2 else x


def _convolution(w: Writing, op: Op, x: Sequence[Value], *, act: str = "") -> tuple[Value, ...]:
    kernel, bias = w.array(op, "weight"), w.array(op, "bias")
    assert kernel is not None
    weights = convolutions.Weights(
        kernel=image_kernel(kernel),
        bias=np.zeros(len(kernel), np.float32) if bias is None else bias,
        groups=w.call(op)["groups"],
        window=convolution_window(w, op),
    )
    return (convolutions.convolution(w.graph, image_read(w, op, x[0]), weights, name=w.name(op), act=act),)


def image_kernel(kernel: Array) -> Array:
    """(out, in of a group, K) of a series -> (out, in of a group, 1, K); those of images and of vectors likewise."""
    missing = (1,) * (4 - kernel.ndim)
    return kernel.reshape(*kernel.shape[:2], *missing, *kernel.shape[2:])


def _transposed_convolution(w: Writing, op: Op, x: Sequence[Value]) -> tuple[Value, ...]:
    kernel, bias = w.array(op, "weight"), w.array(op, "bias")
    assert kernel is not None
    turned = kernel.swapaxes(0, 1)  # (in, out, K, K) -> (out, in, K, K)
    weights = convolutions.Weights(
        kernel=turned,
        bias=np.zeros(len(turned), np.float32) if bias is None else bias,
        window=spread(w, op),
    )
    size = w.module.op_graph.output_values(op)[0].shape[1:]
    return (convolutions.transposed_convolution(w.graph, x[0], weights, size=size, name=w.name(op)),)


def spread(w: Writing, op: Op) -> ops.Window:
    """How a transposed convolution spreads its input.

    Raises:
        ExportError: TFLite has none like it.
    """
    call = w.call(op)
    if call["groups"] != 1 or call["dilation"] != (1, 1):
        raise w.refuse(op, "TRANSPOSE_CONV has neither groups nor dilation; a convolution behind a `resize` has both")
    return ops.Window(stride=call["stride"], padding=call["padding"])


def _embedding(w: Writing, op: Op, x: Sequence[Value]) -> tuple[Value, ...]:
    table = w.array(op, "weight")
    assert table is not None
    rows = w.graph.constant(f"{w.name(op)}.table", table)
    return (
        ops.gather(w.graph, rows, as_stored(w.graph, x[0], w.call(op).x, name=f"{w.name(op)}.input"), name=w.name(op)),
    )


def _linear(w: Writing, op: Op, x: Sequence[Value], *, act: str = "") -> tuple[Value, ...]:
    weight, bias = w.array(op, "weight"), w.array(op, "bias")
    assert weight is not None
    bias = np.zeros(len(weight), np.float32) if bias is None else bias
    return (
        ops.linear(
            w.graph,
            as_stored(w.graph, x[0], w.call(op).x, name=f"{w.name(op)}.input"),
            weight,
            bias,
            name=w.name(op),
            act=act,
        ),
    )


def _batch_norm(w: Writing, op: Op, x: Sequence[Value]) -> tuple[Value, ...]:
    """One that follows no layer: a product and a sum."""
    mean, variance = w.array(op, "running_mean"), w.array(op, "running_var")
    if mean is None or variance is None:
        raise w.refuse(op, "it has no running statistics")
    gain, shift = w.array(op, "weight"), w.array(op, "bias")
    if len(w.call(op).x) > 3:
        raise w.refuse(op, "written are those of vectors, series and images")
    factor = (1.0 if gain is None else gain) / np.sqrt(variance + np.float32(w.call(op)["eps"]))
    offset = (0.0 if shift is None else shift) - mean * factor
    y = ops.by_constant(w.graph, "MUL", image_read(w, op, x[0]), factor, name=f"{w.name(op)}.scaled")
    return (ops.by_constant(w.graph, "ADD", y, offset, name=w.name(op)),)


def _group_norm(w: Writing, op: Op, x: Sequence[Value]) -> tuple[Value, ...]:
    """Over groups of channels (Wu & He, 2018), which are the last axis of images and of series."""
    call = w.call(op)
    if not 2 <= len(call.x) <= 3:
        raise w.refuse(op, "written are those of series and images")
    y, name, groups = image_read(w, op, x[0]), w.name(op), call["groups"]
    parted = (1, y.shape[1] * y.shape[2], groups, y.shape[3] // groups)
    z = standardised(w, op, ops.reshape(w.graph, y, parted, name=f"{name}.groups"), [1, 3])
    z = ops.reshape(w.graph, z, y.shape, name=f"{name}.channels")
    for kind, role in (("MUL", "weight"), ("ADD", "bias")):
        weight = w.array(op, role)
        if weight is not None:
            z = ops.by_constant(w.graph, kind, z, weight, name=f"{name}.{kind.lower()}")
    return (z,)


def _prelu(w: Writing, op: Op, x: Sequence[Value]) -> tuple[Value, ...]:
    slope = w.array(op, "weight")
    assert slope is not None
    if len(slope) > 1 and len(w.call(op).x) not in (2, 3):
        raise w.refuse(op, "a slope for each channel of something that is neither an image nor a series")
    y = image_read(w, op, x[0])
    alpha = w.graph.constant(f"{w.name(op)}.slope", slope.reshape(*(1,) * (len(y.shape) - 2), -1))
    return (w.graph.operator("PRELU", [y, alpha], name=w.name(op), shape=y.shape),)


FUSES = frozenset({"conv1d", "conv2d", "linear"})  # which an activation may ride on
RULES: Mapping[str, Rule] = {
    "conv1d": _convolution,
    "conv2d": _convolution,
    "conv_transpose2d": _transposed_convolution,
    "embedding": _embedding,
    "linear": _linear,
    "batch_norm": _batch_norm,
    "group_norm": _group_norm,
    "prelu": _prelu,
}
