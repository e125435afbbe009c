"""Operators in float32 as TFLite writes them: one rule an operator; relu and relu6 ride on the operator before.

This module knows operators, not kinds of block, files, quantization, devices or search.
"""

from __future__ import annotations

import math
from collections.abc import Callable, Mapping, Sequence

import numpy as np
from ai_edge_litert import schema_py_generated as schema

from hwnas.graph import Op
from hwnas.graph.patterns import follower

from . import _tflite_attention, _tflite_layers, _tflite_moves
from . import _tflite_operators as ops
from ._tflite_constants import follows_from_weights, written_constants
from ._tflite_context import (
    Writing,
    as_it_is,
    as_series,
    as_stored,
    axis_of,
    is_series,
)
from ._tflite_graph import QuantizationParameters, Value

Rule = Callable[..., tuple[Value, ...]]
FUSED = ("relu", "relu6")  # activations that are an option of the operator before


def write(w: Writing, inputs: Sequence[Value]) -> tuple[Value, ...]:
    """Write all operators of a module.

    Raises:
        ExportError: one has no rule, or its rule cannot express it; names it.
    """
    graph = w.module.op_graph
    values = {**dict(zip(graph.inputs, inputs, strict=True)), **written_constants(w)}
    done: set[str] = set()
    for op in graph.ops:
        if op.name in done or follows_from_weights(graph, op):
            continue
        act = follower(graph, op, FUSED) if op.kind in FUSES else None
        done.update([act.name] if act else [])
        results = compute(w, op, [values[name] for name in op.inputs], act=act.kind if act else "")
        values.update(zip((act or op).outputs, results, strict=True))
    return tuple(values[name] for name in graph.outputs)


def compute(w: Writing, op: Op, x: Sequence[Value], *, act: str = "") -> tuple[Value, ...]:
    """Write one operator of floats.

    Raises:
        ExportError: it has no rule, or its rule cannot express it.
    """
    if op.kind in _tflite_moves.RULES:
        return _tflite_moves.RULES[op.kind](w, op, x)
    if op.kind not in RULES:
        known = ", ".join(sorted({*RULES, *_tflite_moves.RULES}))
        raise w.refuse(op, f"there is no rule for it; operators that have one: {known}")
    return RULES[op.kind](w, op, x, act=act) if op.kind in FUSES else RULES[op.kind](w, op, x)


# ---------------------------------------------------------------- number by number


def _binary(kind: str) -> Rule:
    def rule(w: Writing, op: Op, x: Sequence[Value], *, act: str = "") -> tuple[Value, ...]:
        return (ops.elementwise(w.graph, kind, *aligned(w, op, x), name=w.name(op), act=act),)

    return rule


def aligned(w: Writing, op: Op, x: Sequence[Value]) -> list[Value]:
    """Inputs of one rank, so that stored axes that belong together meet; all as series if one is."""
    shapes = w.call(op).inputs
    rank = max(map(len, shapes))
    series = rank == 2 and any(is_series(value, shape) for value, shape in zip(x, shapes, strict=True))
    found = []
    for i, (value, shape) in enumerate(zip(x, shapes, strict=True)):
        padded, name = (1,) * (rank - len(shape)) + shape, f"{w.name(op)}.input{i}"
        if series:
            found.append(as_series(w.graph, as_it_is(w.graph, value, shape, name=name), padded, name=name))
        else:
            held = as_stored(w.graph, value, shape, name=name) if is_series(value, shape) else value
            found.append(as_stored(w.graph, held, padded, name=name))
    return found


def _unary(kind: str, options: Callable[[], object | None] = lambda: None) -> Rule:
    def rule(w: Writing, op: Op, x: Sequence[Value]) -> tuple[Value, ...]:
        return (ops.unary(w.graph, kind, x[0], name=w.name(op), options=options()),)

    return rule


def _silu(w: Writing, op: Op, x: Sequence[Value]) -> tuple[Value, ...]:
    gate = ops.logistic(w.graph, x[0], name=f"{w.name(op)}.gate")
    return (ops.elementwise(w.graph, "MUL", x[0], gate, name=w.name(op)),)


def _hardsigmoid(w: Writing, op: Op, x: Sequence[Value]) -> tuple[Value, ...]:
    y = ops.by_constant(w.graph, "ADD", x[0], 3.0, name=f"{w.name(op)}.shifted", act="relu6")
    return (ops.by_constant(w.graph, "MUL", y, 1 / 6, name=w.name(op)),)


def _gelu(w: Writing, op: Op, x: Sequence[Value]) -> tuple[Value, ...]:
    options = schema.GeluOptionsT()
    options.approximate = w.call(op)["approximate"] == "tanh"
    return (ops.unary(w.graph, "GELU", x[0], name=w.name(op), options=options),)


def _leaky_relu(w: Writing, op: Op, x: Sequence[Value]) -> tuple[Value, ...]:
    options = schema.LeakyReluOptionsT()
    options.alpha = w.call(op)["negative_slope"]
    return (ops.unary(w.graph, "LEAKY_RELU", x[0], name=w.name(op), options=options),)


def _clamp(w: Writing, op: Op, x: Sequence[Value]) -> tuple[Value, ...]:
    call, y = w.call(op), x[0]
    for kind, bound in (("MAXIMUM", call["min"]), ("MINIMUM", call["max"])):
        if math.isfinite(bound):
            constant = w.graph.constant(f"{w.name(op)}.{kind.lower()}", np.array([bound], np.float32))
            name = f"{w.name(op)}.{kind.lower()}_of"
            options = schema.MaximumMinimumOptionsT()
            y = w.graph.operator(kind, [y, constant], name=name, shape=y.shape, options=options)
    return (y,)


def _power(w: Writing, op: Op, x: Sequence[Value]) -> tuple[Value, ...]:
    exponent = w.graph.constant(f"{w.name(op)}.exponent", np.array([w.call(op)["exponent"]], np.float32))
    options = schema.PowOptionsT()
    return (w.graph.operator("POW", [x[0], exponent], name=w.name(op), shape=x[0].shape, options=options),)


def _affine(w: Writing, op: Op, x: Sequence[Value]) -> tuple[Value, ...]:
    call = w.call(op)
    y = ops.by_constant(w.graph, "MUL", x[0], call["scale"], name=f"{w.name(op)}.scaled")
    return (ops.by_constant(w.graph, "ADD", y, call["shift"], name=w.name(op)),)


def _softmax(w: Writing, op: Op, x: Sequence[Value]) -> tuple[Value, ...]:
    return (softmax(w, op, x[0]),)


def softmax(w: Writing, op: Op, x: Value, *, quantization: QuantizationParameters | None = None) -> Value:
    """Along the axis that is the last in the file, or of matrices along their columns.

    Raises:
        ExportError: it is along another one.
    """
    call = w.call(op)
    if len(call.x) == 3 and call["axis"] == 2:  # scores of heads
        y = _tflite_moves.matrices(w, x, call.x, name=f"{w.name(op)}.input")
        y = ops.softmax(w.graph, y, name=f"{w.name(op)}.shares", quantization=quantization)
        return _tflite_moves.from_matrices(w, y, name=w.name(op))
    return ops.softmax(w.graph, _axis_last(w, op, x), name=w.name(op), quantization=quantization)


def _axis_last(w: Writing, op: Op, x: Value) -> Value:
    call = w.call(op)
    place = as_series if len(call.x) == 2 and call["axis"] == 0 else as_stored
    y = place(w.graph, x, call.x, name=f"{w.name(op)}.input")
    if axis_of(y, call["axis"], call.x) != len(y.shape) - 1:
        raise w.refuse(op, "written is a softmax along channels of images, or along the last axis of other tensors")
    return y


# ---------------------------------------------------------------- reductions and others


def _adaptive_avg_pool(w: Writing, op: Op, x: Sequence[Value]) -> tuple[Value, ...]:
    """The mean of an image, at once as a vector if that is what follows; else of windows of one size."""
    call = w.call(op)
    if call["output_size"] == (1, 1):
        flat = follower(w.module.op_graph, op, ("reshape",))
        as_vector = flat is not None and len(w.call(flat)["shape"]) == 1
        return (ops.mean(w.graph, x[0], name=w.name(op), keep_dims=not as_vector),)
    return (adaptive_pool(w, op, x[0], "AVERAGE_POOL_2D"),)


def adaptive_pool(w: Writing, op: Op, x: Value, kind: str) -> Value:
    """A pool whose windows are of one size.

    Raises:
        ExportError: they are not.
    """
    call = w.call(op)
    if any(n % out for n, out in zip(call.x[1:], call["output_size"], strict=True)):
        raise w.refuse(op, f"an image of {call.x[1:]} does not fall into {call['output_size']} equal windows")
    height, width = (n // out for n, out in zip(call.x[1:], call["output_size"], strict=True))
    return ops.pool(w.graph, kind, x, (height, width), ops.Window(stride=(height, width)), name=w.name(op))


def _adaptive_max_pool(w: Writing, op: Op, x: Sequence[Value]) -> tuple[Value, ...]:
    return (adaptive_pool(w, op, x[0], "MAX_POOL_2D"),)


def avg_pool(w: Writing, op: Op, x: Sequence[Value]) -> tuple[Value, ...]:
    """TFLite's own padding does not count; what counts is put around the image first."""
    call, y, padding = w.call(op), x[0], w.call(op)["padding"]
    window = ops.Window(stride=call["stride"] or call["kernel_size"], padding=padding)
    if any(padding) and call["count_include_pad"]:
        y = ops.pad(w.graph, y, [(p, p) for p in padding], name=f"{w.name(op)}.pad")
        window = ops.Window(stride=window.stride)
    elif any(padding):
        before = y
        y, _, _ = ops.placed(w.graph, y, call["kernel_size"], window, name=w.name(op))
        if y is not before:
            raise w.refuse(op, "zeros around the image that do not count, where TFLite's own padding is another")
    y = ops.pool(w.graph, "AVERAGE_POOL_2D", y, call["kernel_size"], window, name=w.name(op))
    return (_tflite_moves.checked(w, op, y),)


def _reduction(kind: str) -> Rule:
    def rule(w: Writing, op: Op, x: Sequence[Value]) -> tuple[Value, ...]:
        call = w.call(op)
        y = as_it_is(w.graph, x[0], call.x, name=f"{w.name(op)}.input")
        axes = sorted(axis_of(y, a, call.x) for a in call["axes"])
        kept = [a for a in range(len(call.x)) if a not in call["axes"]]
        if not call["keepdim"] and kept != sorted(kept, key=lambda a: axis_of(y, a, call.x)):
            raise w.refuse(op, "what is left of an image that is stored channels-last would be in another order")
        if is_series(y, call.x) and not call["keepdim"]:
            axes = sorted({1, *axes})  # the row, which the sample has not
        return (ops.reduction(w.graph, kind, y, axes, name=w.name(op), keep_dims=call["keepdim"]),)

    return rule


def _concat(w: Writing, op: Op, x: Sequence[Value]) -> tuple[Value, ...]:
    return (concatenated(w, op, aligned(w, op, x)),)


def concatenated(w: Writing, op: Op, x: Sequence[Value]) -> Value:
    """Tensors that stand as stored, of one scale if they have one."""
    call = w.call(op)
    return ops.concatenate(w.graph, x, axis=axis_of(x[0], call["axis"], call.x), name=w.name(op))


def _matmul(w: Writing, op: Op, x: Sequence[Value]) -> tuple[Value, ...]:
    """Of images' (C, H, W) too, which are heads of attention then: they go channels-first and back."""
    sides = [
        _tflite_moves.matrices(w, value, shape, name=f"{w.name(op)}.{side}")
        for value, shape, side in zip(x, w.call(op).inputs, ("left", "right"), strict=True)
    ]
    return (_tflite_moves.from_matrices(w, ops.matmul(w.graph, *sides, name=w.name(op)), name=w.name(op)),)


def _dequantize(w: Writing, op: Op, x: Sequence[Value]) -> tuple[Value, ...]:
    """In a network that was not quantized, conversions are nothing."""
    if x[0].quantization is None:
        return (x[0],)
    return (ops.dequantize(w.graph, _stored(w, op, x[0]), name=w.name(op)),)


def _stored(w: Writing, op: Op, x: Value) -> Value:
    return as_stored(w.graph, x, w.call(op).x, name=f"{w.name(op)}.input")


FUSES = _tflite_layers.FUSES | {"add", "sub", "mul", "div"}
RULES: Mapping[str, Rule] = {
    **_tflite_layers.RULES,
    "add": _binary("ADD"),
    "sub": _binary("SUB"),
    "mul": _binary("MUL"),
    "div": _binary("DIV"),
    "relu": _unary("RELU"),
    "relu6": _unary("RELU6"),
    "hardswish": _unary("HARD_SWISH", schema.HardSwishOptionsT),
    "hardsigmoid": _hardsigmoid,
    "silu": _silu,
    "sigmoid": _unary("LOGISTIC"),
    "tanh": _unary("TANH"),
    "elu": _unary("ELU"),
    "gelu": _gelu,
    "leaky_relu": _leaky_relu,
    "clamp": _clamp,
    "softmax": _softmax,
    "power": _power,
    "sqrt": _unary("SQRT"),
    "exp": _unary("EXP", schema.ExpOptionsT),
    "affine": _affine,
    "adaptive_avg_pool2d": _adaptive_avg_pool,
    "adaptive_max_pool2d": _adaptive_max_pool,
    "avg_pool2d": avg_pool,
    "mean": _reduction("MEAN"),
    "sum": _reduction("SUM"),
    "max": _reduction("REDUCE_MAX"),
    "concat": _concat,
    "matmul": _matmul,
    **_tflite_attention.RULES,
    "quantize": _tflite_moves.RULES["identity"],
    "dequantize": _dequantize,
}
