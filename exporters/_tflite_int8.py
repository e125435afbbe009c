"""Operators of quantized regions as TFLite's int8 ones: the same integers as torch's, so the same results.

torch has uint8 activations; the integers 0 ... 255 there are -128 ... 127 here, on the same scale. Clipping to the
output's range is the ReLU. What has no int8 rule here is written in float between DEQUANTIZE and QUANTIZE. This module
knows operators and quantized layers (`hwnas.supernet.quantization`), not kinds of block, files, devices or search.
"""

from __future__ import annotations

from collections.abc import Callable, Mapping, Sequence
from dataclasses import dataclass, replace

import numpy as np
import torch
from torch import nn

from hwnas.errors import ExportError
from hwnas.supernet.quantization.modules import (
    QuantizedHardswish,
    QuantizedSiLU,
    QuantizedWeights,
    Quantizer,
)
from hwnas.supernet.quantization.region import QuantizedOp, QuantizedRegion

from . import _tflite_attention, _tflite_float, _tflite_layers, _tflite_moves
from . import _tflite_convolutions as convolutions
from . import _tflite_operators as ops
from ._tflite_constants import follows_from_weights, written_constants
from ._tflite_context import Writing, array, as_it_is, as_stored, is_series
from ._tflite_graph import Graph, QuantizationParameters, Value

OFFSET = 128  # a uint8 less this is the int8
_WEIGHTED = ("conv1d", "conv2d", "conv_transpose2d", "linear")
Compute = Callable[[QuantizationParameters], Value]  # the result's parameters -> the result


def parameters(quantizer: Quantizer) -> QuantizationParameters:
    """A quantizer's scale and zero point in int8.

    Raises:
        ExportError: the network was quantized symmetrically, which leaves parts of it float.
    """
    if quantizer.scheme.symmetric:
        raise ExportError("TFLite's int8 operators want zero points; quantize the network with symmetric=False")
    return QuantizationParameters(scales=(float(quantizer.scale),), zero_point=int(quantizer.zero_point) - OFFSET)


def write(w: Writing, inputs: Sequence[Value]) -> tuple[Value, ...]:
    """Write all operators of a quantized region.

    Raises:
        ExportError: one has neither an int8 nor a float rule; names it.
    """
    region = w.module
    assert isinstance(region, QuantizedRegion)
    constants = written_constants(w, parameters=parameters)
    values = {**dict(zip(region.op_graph.inputs, inputs, strict=True)), **constants}
    for item in region.op_plan:
        if follows_from_weights(region.op_graph, item.op):
            continue
        results = _item(_Item(w=w, region=region, item=item, x=[values[name] for name in item.op.inputs]))
        values.update(zip(item.outputs, results, strict=True))
    return tuple(values[name] for name in region.op_graph.outputs)


@dataclass(frozen=True, slots=True, kw_only=True)
class _Item:
    """An operator being written: where, what it is, and what it reads."""

    w: Writing
    region: QuantizedRegion
    item: QuantizedOp
    x: Sequence[Value]

    @property
    def name(self) -> str:
        return self.w.name(self.item.op)

    def as_it_is(self, i: int = 0) -> Value:
        """An input as it stands in the file; a vector of integers as one of floats does."""
        return as_it_is(self.w.graph, self.x[i], self.w.call(self.item.op).inputs[i], name=f"{self.name}.input{i}")


def _item(it: _Item) -> tuple[Value, ...]:
    op, result = it.item.op, it.region.result_of(it.item)
    if not it.item.has_scale:
        return _tflite_float.compute(it.w, op, _floats(it))
    if result is None:
        if op.kind == "dequantize":
            return _tflite_float.compute(it.w, op, it.x)
        if op.kind in _tflite_moves.RULES:
            return _tflite_moves.RULES[op.kind](it.w, op, it.x)
        return (_in_float(it)(_scale_of(it.x[0])),)
    layer = it.region.layer_of(it.item)
    if layer is not None and op.kind in _WEIGHTED:
        return (_rounded(it, result, lambda q: _weighted(it, layer, q)),)
    if not it.item.computes:
        return (_rounded(it, result, lambda q: _requantized(it.w.graph, it.x[0], name=it.name, quantization=q)),)
    rule = RULES.get(op.kind, _moved if op.kind in _tflite_moves.RULES and it.x else None)
    return (_rounded(it, result, _in_float(it) if rule is None else lambda q: rule(it, q)),)


def _scale_of(x: Value) -> QuantizationParameters:
    assert x.quantization is not None
    return x.quantization


def _rounded(it: _Item, result: nn.Module, compute: Compute) -> Value:
    """What is computed, on the scale of the result, or of what the activation takes and then through that."""
    act = it.item.activation
    name = it.name if act is None else f"{it.w.prefix}{act.name}"
    match result:
        case Quantizer():
            return compute(parameters(result))
        case QuantizedHardswish():
            return hard_swish(it.w.graph, result, compute(parameters(result.before)), name=name)
        case QuantizedSiLU():
            y = compute(parameters(result.before))
            gate = ops.logistic(it.w.graph, y, name=f"{name}.gate", quantization=parameters(result.gate))
            return ops.elementwise(it.w.graph, "MUL", y, gate, name=name, quantization=parameters(result.after))
    raise ExportError(f"activation {name!r} ({type(result).__name__}) has no int8 form in TFLite")


def hard_swish(graph: Graph, module: QuantizedHardswish, x: Value, *, name: str) -> Value:
    """Hard-swish as x * clip(x / 6 + 1 / 2, 0, 1), by operators every runtime has fast kernels for.

    The native operator leaves XNNPACK, and rounds otherwise than torch. On the scale of `HardswishQuantizer` (3 / n,
    zero point n) the first two steps change no integer: x / 6 has the integers of x, and adding n of them moves
    the zero point to the lowest one.
    """
    scale, n = float(module.before.scale), int(module.before.zero_point)
    sixth = QuantizationParameters(scales=(float(np.float32(scale / 6)),), zero_point=n - OFFSET)
    gate = QuantizationParameters(scales=sixth.scales, zero_point=-OFFSET)
    half = graph.constant(f"{name}.half", np.full(_ones(x), n - OFFSET, np.int8), quantization=gate)
    y = _sixth_of(graph, x, name=f"{name}.sixth", quantization=sixth)
    y = ops.elementwise(graph, "ADD", y, half, name=f"{name}.gate", act="relu_n1_to_1", quantization=gate)
    return ops.elementwise(graph, "MUL", x, y, name=name, quantization=parameters(module.after))


def _sixth_of(graph: Graph, x: Value, *, name: str, quantization: QuantizationParameters) -> Value:
    """A sixth of x, which changes no integer where the scale is a sixth of that of x."""
    of_one = QuantizationParameters(scales=(float(np.float32(1 / 6)),))
    one = graph.constant("one_sixth", np.ones(_ones(x), np.int8), quantization=of_one)
    return ops.elementwise(graph, "MUL", x, one, name=name, quantization=quantization)


def _ones(x: Value) -> tuple[int, ...]:
    """Shape of one number that is broadcast to x."""
    return (1,) * len(x.shape)


def _weighted(it: _Item, layer: QuantizedWeights, quantization: QuantizationParameters) -> Value:
    """A convolution, or a linear layer as a 1x1 one on (1, 1, 1, C), or (1, rows, 1, C).

    FULLY_CONNECTED has a scale for each channel only since its version 12, which old boards' runtimes and small
    ones do not load; XNNPACK makes the same kernel of both.
    """
    weight, bias = layer.fake_quantized_parameters()
    weight = weight.transpose(0, layer.axis)  # output channels in front
    scales = layer.weight_scale
    of_rows = scales.view(-1, *[1] * (weight.dim() - 1)) if scales.dim() else scales
    integers = torch.round(weight / of_rows)
    bias_integers = torch.round(bias.double() / (layer.input_scale * scales).double())
    op, kind = it.item.op, it.item.op.kind
    weights = convolutions.Weights(
        kernel=_tflite_layers.image_kernel(array(integers.to(torch.int8))),
        bias=array(bias_integers.to(torch.int32)),
        scales=tuple(scales.reshape(-1).tolist()),
    )
    if kind == "conv_transpose2d":
        weights = replace(weights, window=_tflite_layers.spread(it.w, op))
        (size,) = (v.shape[1:] for v in it.region.op_graph.output_values(op))
        return convolutions.transposed_convolution(
            it.w.graph, it.x[0], weights, size=size, name=it.name, quantization=quantization
        )
    if kind != "linear":
        weights = replace(weights, groups=it.w.call(op)["groups"], window=_tflite_layers.convolution_window(it.w, op))
        x = _tflite_layers.image_read(it.w, op, it.x[0])
        return convolutions.convolution(it.w.graph, x, weights, name=it.name, quantization=quantization)
    x, shape = it.x[0], it.w.call(op).x
    if is_series(x, shape):
        x = as_stored(it.w.graph, x, shape, name=f"{it.name}.input")
    rows = int(np.prod(shape[:-1], dtype=int))
    wanted = (1, rows, 1, shape[-1]) if len(shape) > 1 else (1, 1, 1, shape[-1])
    if x.shape != wanted:
        x = _tflite_moves.channels_first(it.w, x, shape, name=it.name)
        x = ops.reshape(it.w.graph, x, wanted, name=f"{it.name}.rows")
    y = convolutions.convolution(it.w.graph, x, weights, name=it.name, quantization=quantization)
    if len(shape) == 1:
        return y
    y = ops.reshape(it.w.graph, y, (1, *shape[:-1], len(weights.bias)), name=f"{it.name}.stored")
    return ops.transpose(it.w.graph, y, (0, 2, 3, 1), name=f"{it.name}.channels_last") if len(shape) == 3 else y


def _requantized(graph: Graph, x: Value, *, name: str, quantization: QuantizationParameters) -> Value:
    return x if x.quantization == quantization else ops.quantize(graph, x, name=name, quantization=quantization)


def _floats(it: _Item) -> list[Value]:
    """What an operator reads, dequantized where it is quantized."""
    return _dequantized(it, [it.as_it_is(i) for i in range(len(it.x))])


def _dequantized(it: _Item, values: Sequence[Value]) -> list[Value]:
    return [
        x if x.quantization is None else ops.dequantize(it.w.graph, x, name=f"{it.name}.float{i}")
        for i, x in enumerate(values)
    ]


def _in_float(it: _Item) -> Compute:
    """An operator that TFLite has not in int8."""

    def compute(quantization: QuantizationParameters) -> Value:
        (y,) = _tflite_float.compute(it.w, it.item.op, _floats(it))
        return ops.quantize(it.w.graph, y, name=f"{it.name}.int8", quantization=quantization)

    return compute


# ---------------------------------------------------------------- operators that give a scale of their own


def _binary(kind: str) -> Callable[[_Item, QuantizationParameters], Value]:
    def rule(it: _Item, q: QuantizationParameters) -> Value:
        same = len({v.shape for v in it.x}) == 1 and len(set(it.w.call(it.item.op).inputs)) == 1
        x = it.x if same else _tflite_float.aligned(it.w, it.item.op, it.x)
        return ops.elementwise(it.w.graph, kind, *x, name=it.name, quantization=q)

    return rule


def _moved(it: _Item, q: QuantizationParameters) -> Value:
    """What stays on the scale of the input, and usually is wanted there."""
    (y,) = _tflite_moves.RULES[it.item.op.kind](it.w, it.item.op, it.x)
    return _requantized(it.w.graph, y, name=f"{it.name}.requantized", quantization=q)


def _resized(it: _Item, q: QuantizationParameters) -> Value:
    """Between pixels TFLite would round to the input's scale; torch rounds to the result's alone."""
    nearest = it.w.call(it.item.op)["mode"] == "nearest"
    return _moved(it, q) if nearest else _in_float(it)(q)


def _max_of_windows(it: _Item, q: QuantizationParameters) -> Value:
    y = _tflite_float.adaptive_pool(it.w, it.item.op, it.x[0], "MAX_POOL_2D")
    return _requantized(it.w.graph, y, name=f"{it.name}.requantized", quantization=q)


def _mean_of_image(it: _Item, q: QuantizationParameters) -> Value:
    if it.w.call(it.item.op)["output_size"] == (1, 1):
        return ops.mean(it.w.graph, it.x[0], name=it.name, keep_dims=True, quantization=q)
    return _requantized(
        it.w.graph,
        _tflite_float.adaptive_pool(it.w, it.item.op, it.x[0], "AVERAGE_POOL_2D"),
        name=f"{it.name}.requantized",
        quantization=q,
    )


def _mean(it: _Item, q: QuantizationParameters) -> Value:
    call, x = it.w.call(it.item.op), it.x[0]
    series = is_series(x, call.x)
    if len(call.x) == 2 and call["axes"] == (0,) and not call["keepdim"] and not series:
        x = ops.reshape(it.w.graph, x, (1, call.x[0], 1, call.x[1]), name=f"{it.name}.rows")  # positions are rows
    elif sorted(call["axes"]) != list(range(1, len(call.x))) or not (series or len(call.x) == 3):
        return _in_float(it)(q)
    return ops.mean(it.w.graph, x, name=it.name, keep_dims=True, quantization=q)  # a vector stays (1, 1, 1, C)


def _average(it: _Item, q: QuantizationParameters) -> Value:
    """As a convolution of each channel with equal weights where all of a window counts: XNNPACK has no int8 pool."""
    call = it.w.call(it.item.op)
    if call["ceil_mode"] or (any(call["padding"]) and not call["count_include_pad"]):
        (y,) = _tflite_float.avg_pool(it.w, it.item.op, it.x)
        return _requantized(it.w.graph, y, name=f"{it.name}.requantized", quantization=q)
    channels, size = call.x[0], call["kernel_size"]
    equal = convolutions.Weights(
        kernel=np.ones((channels, 1, *size), np.int8),
        bias=np.zeros(channels, np.int32),
        scales=(float(np.float32(1 / np.prod(size))),),
        groups=channels,
        window=ops.Window(stride=call["stride"] or size, padding=call["padding"]),
    )
    return convolutions.convolution(it.w.graph, it.x[0], equal, name=it.name, quantization=q)


def _concat(it: _Item, q: QuantizationParameters) -> Value:
    x = _tflite_float.aligned(it.w, it.item.op, it.x)
    same = [_requantized(it.w.graph, v, name=f"{it.name}.{i}", quantization=q) for i, v in enumerate(x)]
    return _tflite_float.concatenated(it.w, it.item.op, same)


def _sigmoid(it: _Item, q: QuantizationParameters) -> Value:
    return ops.logistic(it.w.graph, it.x[0], name=it.name, quantization=q)


def _hardsigmoid(it: _Item, q: QuantizationParameters) -> Value:
    """relu6(x + 3) / 6; the sum has the integers of the result, on six times its scale."""
    six_times = QuantizationParameters(scales=(6 * q.scales[0],), zero_point=q.zero_point)
    three = np.full(_ones(it.x[0]), round(0.5 / q.scales[0]) + q.zero_point, np.int8)
    constant = it.w.graph.constant(f"{it.name}.three", three, quantization=six_times)
    y = ops.elementwise(
        it.w.graph, "ADD", it.x[0], constant, name=f"{it.name}.shifted", act="relu6", quantization=six_times
    )
    return _sixth_of(it.w.graph, y, name=it.name, quantization=q)


def _softmax(it: _Item, q: QuantizationParameters) -> Value:
    return _tflite_float.softmax(it.w, it.item.op, it.x[0], quantization=q)


def _attention(it: _Item, q: QuantizationParameters) -> Value:
    """In floats between integers, which are what is moved: heads to the front and back."""
    given = [
        _tflite_moves.matrices(it.w, x, shape, name=f"{it.name}.input{i}")
        for i, (x, shape) in enumerate(zip(it.x, it.w.call(it.item.op).inputs, strict=True))
    ]
    y = _tflite_attention.attended(it.w, it.item.op, _dequantized(it, given))
    y = ops.quantize(it.w.graph, y, name=f"{it.name}.int8", quantization=q)
    return _tflite_moves.from_matrices(it.w, y, name=it.name)


RULES: Mapping[str, Callable[[_Item, QuantizationParameters], Value]] = {
    "add": _binary("ADD"),
    "sub": _binary("SUB"),
    "mul": _binary("MUL"),
    "adaptive_avg_pool2d": _mean_of_image,
    "adaptive_max_pool2d": _max_of_windows,
    "attention": _attention,
    "avg_pool2d": _average,
    "mean": _mean,
    "concat": _concat,
    "hardsigmoid": _hardsigmoid,
    "resize": _resized,
    "sigmoid": _sigmoid,
    "softmax": _softmax,
}
