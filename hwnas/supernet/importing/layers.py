"""Rules for ONNX operators with weights, normalisations, pools, and sums over axes."""

from __future__ import annotations

import math
from collections.abc import Sequence

import torch
from torch import Tensor
from torch.nn import functional as F

from hwnas.supernet.importing.attention import KIND
from hwnas.supernet.importing.rules import Call, Result, Unsupported, rule

_CLOSE = 1e-5  # relative: scales are computed in float32, by roots of roots

# ---------------------------------------------------------------- convolutions, linear layers, products


@rule("Conv", roles=(None, "weight", "bias"))
def convolution(c: Call) -> Result:
    """One axis of positions, or two; what is padded unevenly is padded before."""
    weight = c.tensor(1)
    count = weight.ndim - 2
    if count not in {1, 2}:
        raise Unsupported(f"it has {count} axes of positions; 1 and 2 are covered")
    stride, dilation = _of_axes(c, "strides", count), _of_axes(c, "dilations", count)
    sizes = [d * (k - 1) + 1 for d, k in zip(dilation, weight.shape[2:], strict=True)]
    x, padding = _padded(c, sizes, stride)
    convolve = F.conv1d if count == 1 else F.conv2d
    return convolve(x, weight, c.optional(2), stride, padding, dilation, c.attribute("group", 1))


@rule("ConvTranspose", roles=(None, "weight", "bias"))
def transposed_convolution(c: Call) -> Result:
    """Two axes of positions, padded evenly."""
    weight = c.tensor(1)
    if weight.ndim != 4 or "output_shape" in c.attributes or c.attribute("auto_pad", "NOTSET") != "NOTSET":
        raise Unsupported("it has other than 2 axes of positions, output_shape or auto_pad")
    pads = c.attribute("pads", [0, 0, 0, 0])
    if list(pads[:2]) != list(pads[2:]):
        raise Unsupported(f"its pads are uneven ({pads})")
    extra = c.attribute("output_padding", [0, 0])
    stride, dilation = _of_axes(c, "strides", 2), _of_axes(c, "dilations", 2)
    return F.conv_transpose2d(
        c.x, weight, c.optional(2), stride, list(pads[:2]), list(extra), c.attribute("group", 1), dilation
    )


@rule("Linear", roles=(None, "weight", "bias"))
def linear(c: Call) -> Result:
    """A product with a constant matrix, kept as torch keeps it: (out, in)."""
    return F.linear(c.x, c.tensor(1), c.optional(2))


@rule("Gemm", roles=(None, "weight", "bias"))
def gemm(c: Call) -> Result:
    """Of two matrices of which neither is a layer's."""
    a = c.x.transpose(0, 1) if c.attribute("transA", 0) else c.x
    b = c.tensor(1).transpose(0, 1) if c.attribute("transB", 0) else c.tensor(1)
    made = torch.matmul(a, b) * float(c.attribute("alpha", 1.0))
    return made + c.tensor(2) * float(c.attribute("beta", 1.0)) if c.has(2) else made


@rule("MatMul", roles=("value", "weight"))
def matmul(c: Call) -> Result:
    """Of the last two axes."""
    return torch.matmul(c.x, c.tensor(1))


@rule(KIND)
def attention(c: Call) -> Result:
    """With its scale as torch has it where it is that; a mask is added to the scores."""
    query, key, value, order = c.x, c.tensor(1), c.tensor(2), c.attribute("order", [])
    key = key.permute(order) if order else key
    scale = 1.0
    for i, power in enumerate(c.attribute("powers", []), start=4):
        number = c.known(i)
        assert number is not None
        scale *= float(number.reshape(-1)[0]) ** power
    usual = math.isclose(scale, query.shape[-1] ** -0.5, rel_tol=_CLOSE)
    return F.scaled_dot_product_attention(query, key, value, c.optional(3), scale=None if usual else scale)


# ---------------------------------------------------------------- normalisations


@rule("BatchNormalization", roles=(None, "weight", "bias", "running_mean", "running_var"))
def batch_norm(c: Call) -> Result:
    """It stays one: its statistics are computed anew for smaller networks."""
    weight, bias, mean, var = (c.tensor(i) for i in range(1, 5))
    return F.batch_norm(c.x, mean, var, weight, bias, c.training, 0.1, float(c.attribute("epsilon", 1e-5)))


@rule("LayerNormalization", roles=(None, "weight", "bias"))
def layer_norm(c: Call) -> Result:
    """Over the last axes."""
    axis = c.attribute("axis", -1) % c.x.ndim
    shape = list(c.x.shape[axis:])
    weight, bias = (None if t is None else t.reshape(shape) if t.ndim != len(shape) else t for t in _scales(c))
    return F.layer_norm(c.x, shape, weight, bias, float(c.attribute("epsilon", 1e-5)))


@rule("GroupNormalization", roles=(None, "weight", "bias"))
def group_norm(c: Call) -> Result:
    """With a scale for each channel, as ONNX has it from opset 21 on."""
    weight, bias = _scales(c)
    if weight is None or len(weight) != c.x.shape[1]:
        raise Unsupported("it has a scale for each group rather than each channel (opset 18)")
    return F.group_norm(c.x, c.attribute("num_groups", 1), weight, bias, float(c.attribute("epsilon", 1e-5)))


@rule("InstanceNormalization", roles=(None, "weight", "bias"))
def instance_norm(c: Call) -> Result:
    """Over the positions of each channel."""
    weight, bias = _scales(c)
    return F.instance_norm(c.x, weight=weight, bias=bias, eps=float(c.attribute("epsilon", 1e-5)))


def _scales(c: Call) -> tuple[Tensor | None, Tensor | None]:
    return c.optional(1), c.optional(2)


@rule("Softmax", "LogSoftmax")
def softmax(c: Call) -> Result:
    """Along one axis; over all behind it in old versions, where there is more than one."""
    x = c.x
    axis = c.attribute("axis", -1 if c.opset >= 13 else 1) % x.ndim
    if c.opset < 13 and math.prod(x.shape[axis + 1 :]) != 1:
        raise Unsupported(f"opset {c.opset} has it over all axes from {axis} on; export with 13 or later")
    return F.softmax(x, axis) if c.kind == "Softmax" else F.log_softmax(x, axis)


# ---------------------------------------------------------------- pools and sums


@rule("MaxPool", "AveragePool")
def pool(c: Call) -> Result:
    """One axis of positions, or two."""
    kernel = list(c.attribute("kernel_shape", []))
    count = len(kernel)
    if count not in {1, 2} or c.attribute("storage_order", 0):
        raise Unsupported(f"it has {count} axes of positions; 1 and 2 are covered")
    stride, dilation, ceil = (
        _of_axes(c, "strides", count),
        _of_axes(c, "dilations", count),
        bool(c.attribute("ceil_mode", 0)),
    )
    sizes = [d * (k - 1) + 1 for d, k in zip(dilation, kernel, strict=True)]
    if c.kind == "MaxPool":
        x, padding = _padded(c, sizes, stride, fill=-math.inf, most=[k // 2 for k in kernel])
        reduce = F.max_pool1d if count == 1 else F.max_pool2d
        return reduce(x, kernel, stride, padding, dilation, ceil)
    include = bool(c.attribute("count_include_pad", 0))
    x, padding = _padded(c, sizes, stride, most=[k // 2 for k in kernel])
    if x is not c.x and not include:
        raise Unsupported("it is padded unevenly, and what is padded does not count")
    if any(d != 1 for d in dilation):
        raise Unsupported("it is dilated")
    average = F.avg_pool1d if count == 1 else F.avg_pool2d
    return average(x, kernel, stride, padding, ceil, include)


@rule("GlobalAveragePool", "GlobalMaxPool")
def global_pool(c: Call) -> Result:
    """All positions of each channel."""
    if c.kind == "GlobalAveragePool":
        return F.adaptive_avg_pool2d(c.x, 1) if c.x.ndim == 4 else c.x.mean(list(range(2, c.x.ndim)), True)
    return c.x.amax(list(range(2, c.x.ndim)), True)


@rule("ReduceMean", "ReduceSum", "ReduceMax", "ReduceL2")
def reduce(c: Call) -> Result:
    """Over axes; over all where none is named, but for the samples."""
    axes = c.numbers(1, "axes")
    if not axes:
        if c.attribute("noop_with_empty_axes", 0):
            return c.x
        raise Unsupported("it is over all axes, those of the samples too")
    keep = bool(c.attribute("keepdims", 1))
    if c.kind == "ReduceL2":
        norm: Tensor = torch.linalg.vector_norm(c.x, 2, axes, keep)
        return norm
    if c.kind == "ReduceMax":
        return c.x.amax(axes, keep)
    return c.x.mean(axes, keep) if c.kind == "ReduceMean" else c.x.sum(axes, keep)


# ---------------------------------------------------------------- windows


def _of_axes(c: Call, name: str, count: int) -> list[int]:
    return list(c.attribute(name, [1] * count))


def _padded(
    c: Call, sizes: Sequence[int], stride: Sequence[int], *, fill: float = 0.0, most: Sequence[int] | None = None
) -> tuple[Tensor, list[int]]:
    """The input, and what torch pads on both sides of each axis; the input padded where that is not enough.

    Args:
        c: the call.
        sizes: of windows, with what dilation spreads.
        stride: of each axis.
        fill: what is padded.
        most: that torch pads of each axis.
    """
    begins, ends = _pads(c, sizes, stride)
    if begins == ends and all(b <= m for b, m in zip(begins, most or begins, strict=True)):
        return c.x, begins
    pairs = [n for pair in zip(reversed(begins), reversed(ends), strict=True) for n in pair]  # the last axis first
    return F.pad(c.x, pairs, value=fill), [0] * len(begins)


def _pads(c: Call, sizes: Sequence[int], stride: Sequence[int]) -> tuple[list[int], list[int]]:
    """Before and after each axis."""
    count, mode = len(sizes), c.attribute("auto_pad", "NOTSET")
    if mode == "VALID":
        return [0] * count, [0] * count
    if mode == "NOTSET":
        pads = list(c.attribute("pads", [0] * (2 * count)))
        return pads[:count], pads[count:]
    # as many positions as strides go into the input
    totals = [max(0, (-(-n // s) - 1) * s + k - n) for n, k, s in zip(c.x.shape[2:], sizes, stride, strict=True)]
    small, large = [n // 2 for n in totals], [n - n // 2 for n in totals]
    return (small, large) if mode == "SAME_UPPER" else (large, small)
