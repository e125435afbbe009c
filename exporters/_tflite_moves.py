"""Operators that only move numbers, as TFLite writes them: the same in float32 and in int8, whose scale they keep."""

from __future__ import annotations

import math
from collections.abc import Callable, Mapping, Sequence

import numpy as np

from hwnas.graph import Op

from . import _tflite_operators as ops
from ._tflite_context import (
    Writing,
    as_it_is,
    as_series,
    as_stored,
    axis_of,
    is_read_as_series,
    is_series,
    series_shape,
    stored_shape,
)
from ._tflite_graph import Value

Rule = Callable[[Writing, Op, Sequence[Value]], tuple[Value, ...]]
_LOWEST = float(np.finfo(np.float32).min)
_NOT_NEGATIVE = ("relu", "relu6", "sigmoid", "hardsigmoid")


def _nothing(w: Writing, op: Op, x: Sequence[Value]) -> tuple[Value, ...]:
    return (x[0],)


def _reshape(w: Writing, op: Op, x: Sequence[Value]) -> tuple[Value, ...]:
    """Numbers are counted by channels first, as torch counts them."""
    call, name = w.call(op), w.name(op)
    shape: tuple[int, ...] = call["shape"]
    if (
        len(shape) == 1
        and (x[0].quantization or x[0].shape == (1, *shape))
        and x[0].shape in {(1, *shape), (1, 1, 1, *shape)}
    ):
        return (x[0],)  # a vector already; layers of integers take and give (1, 1, 1, C)
    channels_stay = len(call.x) in (2, 3) and shape[0] == call.x[0] and len(x[0].shape) == 4
    # what is no series has its rows in front, as heads of attention that are joined
    if channels_stay and (len(shape) == 3 or (len(shape) == 2 and is_read_as_series(w.module.op_graph, op.outputs[0]))):
        # channels stay: positions are counted alike, whether channels stand in front of them or behind
        to = series_shape(shape) if len(shape) == 2 else stored_shape(shape)
        return (x[0] if x[0].shape == to else ops.reshape(w.graph, x[0], to, name=name),)
    y = as_stored(w.graph, x[0], call.x, name=f"{name}.stored")
    y = first = channels_first(w, y, call.x, name=name)
    y = ops.reshape(w.graph, first, (1, *shape), name=name) if first.shape != (1, *shape) else first
    return (ops.transpose(w.graph, y, (0, 2, 3, 1), name=f"{name}.channels_last") if len(shape) == 3 else y,)


def channels_first(w: Writing, x: Value, shape: tuple[int, ...], *, name: str) -> Value:
    """(1, H, W, C) -> (1, C, H, W), where the difference shows."""
    if len(shape) != 3 or shape[0] == 1 or math.prod(shape[1:]) == 1:
        return x
    return ops.transpose(w.graph, x, (0, 3, 1, 2), name=f"{name}.channels_first")


def matrices(w: Writing, x: Value, shape: tuple[int, ...], *, name: str) -> Value:
    """A tensor as products of matrices read it, (1, *shape): of (heads, rows, columns) the heads go to the front."""
    y = channels_first(w, as_stored(w.graph, x, shape, name=f"{name}.stored"), shape, name=name)
    return y if y.shape == (1, *shape) else ops.reshape(w.graph, y, (1, *shape), name=f"{name}.matrices")


def from_matrices(w: Writing, y: Value, *, name: str) -> Value:
    """The inverse of `matrices`: as the tensor is stored."""
    return ops.transpose(w.graph, y, (0, 2, 3, 1), name=f"{name}.channels_last") if len(y.shape) == 4 else y


def _permute(w: Writing, op: Op, x: Sequence[Value]) -> tuple[Value, ...]:
    call = w.call(op)
    order: tuple[int, ...] = call["order"]
    rank = len(order)
    if order == (1, 0):
        if is_series(x[0], call.x):  # (1, 1, L, C) -> (1, L, C)
            return (ops.reshape(w.graph, x[0], stored_shape(call.x[::-1]), name=w.name(op)),)
        if is_read_as_series(w.module.op_graph, op.outputs[0]):  # (1, L, C) -> (1, 1, L, C)
            y = as_stored(w.graph, x[0], call.x, name=f"{w.name(op)}.stored")
            return (ops.reshape(w.graph, y, series_shape(call.x[::-1]), name=w.name(op)),)
    y = as_stored(w.graph, x[0], call.x, name=f"{w.name(op)}.stored")
    perm = [0] * (rank + 1)
    for to, source in enumerate(order):
        perm[axis_of(y, to, call.x)] = axis_of(y, source, call.x)
    return (y if perm == sorted(perm) else ops.transpose(w.graph, y, perm, name=w.name(op)),)


def _max_pool(w: Writing, op: Op, x: Sequence[Value]) -> tuple[Value, ...]:
    call = w.call(op)
    if call["dilation"] != (1, 1):
        raise w.refuse(op, "its maxima are not of neighbours (dilation)")
    window = ops.Window(stride=call["stride"] or call["kernel_size"], padding=call["padding"])
    before = w.module.op_graph.producers.get(op.inputs[0])
    lowest = 0.0 if before is not None and before.kind in _NOT_NEGATIVE else _LOWEST  # XNNPACK pads with zeros alone
    y = ops.pool(w.graph, "MAX_POOL_2D", x[0], call["kernel_size"], window, name=w.name(op), value=lowest)
    return (checked(w, op, y),)


def checked(w: Writing, op: Op, y: Value) -> Value:
    """The result, if it has the shape that torch gives.

    Raises:
        ExportError: it has not: a window that hangs over the edge, as in ceil mode.
    """
    (result,) = w.module.op_graph.output_values(op)
    if y.shape != stored_shape(result.shape):
        raise w.refuse(op, f"its windows give {y.shape} there, and {stored_shape(result.shape)} in torch")
    return y


def _slices(w: Writing, op: Op, x: Value, *, axis: int, parts: Sequence[tuple[int, int]]) -> list[Value]:
    """(start, size) of each, along an axis of the sample."""
    shape = w.call(op).x
    y = as_it_is(w.graph, x, shape, name=f"{w.name(op)}.stored")
    at = axis_of(y, axis, shape)
    names = [w.name(op)] if len(parts) == 1 else [f"{w.name(op)}.{i}" for i in range(len(parts))]
    return [
        ops.slice_of(w.graph, y, axis=at, start=start, size=size, name=name)
        for name, (start, size) in zip(names, parts, strict=True)
    ]


def _split(w: Writing, op: Op, x: Sequence[Value]) -> tuple[Value, ...]:
    call = w.call(op)
    starts = np.cumsum([0, *call["sizes"][:-1]]).tolist()
    return tuple(_slices(w, op, x[0], axis=call["axis"], parts=list(zip(starts, call["sizes"], strict=True))))


def _slice(w: Writing, op: Op, x: Sequence[Value]) -> tuple[Value, ...]:
    call = w.call(op)
    if call["step"] != 1:
        raise w.refuse(op, f"it takes every {call['step']}th number")
    start, stop, _ = slice(call["start"], call["stop"]).indices(call.x[call["axis"]])
    return tuple(_slices(w, op, x[0], axis=call["axis"], parts=[(start, stop - start)]))


def _unbind(w: Writing, op: Op, x: Sequence[Value]) -> tuple[Value, ...]:
    return _selected(w, op, x[0], range(w.call(op).x[w.call(op)["axis"]]))


def _select(w: Writing, op: Op, x: Sequence[Value]) -> tuple[Value, ...]:
    call = w.call(op)
    return _selected(w, op, x[0], [call["index"] % call.x[call["axis"]]])


def _selected(w: Writing, op: Op, x: Value, indices: Sequence[int]) -> tuple[Value, ...]:
    call = w.call(op)
    shape = call.x
    kept = [n for i, n in enumerate(shape) if i != call["axis"]]
    if len(shape) == 3 and call["axis"] > 0:
        raise w.refuse(op, "a row or column of an image that is stored channels-last")
    return tuple(
        ops.reshape(w.graph, y, (1, *kept), name=f"{y_name}.row")
        for y, y_name in zip(
            _slices(w, op, x, axis=call["axis"], parts=[(i, 1) for i in indices]),
            [f"{w.name(op)}.{i}" for i in range(len(indices))],
            strict=True,
        )
    )


def _pad(w: Writing, op: Op, x: Sequence[Value]) -> tuple[Value, ...]:
    call = w.call(op)
    amounts = call["amounts"]
    if call["mode"] != "constant" or call["value"] != 0.0:
        raise w.refuse(op, "written are zeros around a tensor")
    y = as_it_is(w.graph, x[0], call.x, name=f"{w.name(op)}.stored")
    pairs = [(0, 0)] * len(y.shape)
    for axis in range(len(call.x)):
        pairs[axis_of(y, axis, call.x)] = (amounts[2 * axis], amounts[2 * axis + 1])
    return (ops.pad(w.graph, y, pairs, name=w.name(op)),)


def _expand(w: Writing, op: Op, x: Sequence[Value]) -> tuple[Value, ...]:
    """Sizes of 1 repeated, as heads of keys are for several queries; axes that are missing are put in front."""
    call, name = w.call(op), w.name(op)
    shape: tuple[int, ...] = call["shape"]
    wide = (1,) * (len(shape) - len(call.x)) + call.x
    y = as_stored(w.graph, x[0], call.x, name=f"{name}.stored")
    if wide != call.x:
        y = as_stored(w.graph, channels_first(w, y, call.x, name=name), wide, name=f"{name}.wide")
    times = [n // m for n, m in zip(stored_shape(shape), y.shape, strict=True)]
    return (ops.tile(w.graph, y, times, name=name),)


def _resize(w: Writing, op: Op, x: Sequence[Value]) -> tuple[Value, ...]:
    call = w.call(op)
    mode, axes = call["mode"], len(call["size"])
    if mode not in ("nearest", "linear", "bilinear") or len(call.x) != axes + 1 or axes > 2:
        raise w.refuse(op, "written are images and series, resized by the nearest position or linearly")
    y = as_series(w.graph, x[0], call.x, name=f"{w.name(op)}.input") if axes == 1 else x[0]
    size = (1, *call["size"])[-2:]
    kind = "nearest" if mode == "nearest" else "bilinear"
    return (ops.resize(w.graph, y, size, name=w.name(op), mode=kind, align_corners=call["align_corners"]),)


RULES: Mapping[str, Rule] = {
    "identity": _nothing,
    "dropout": _nothing,  # in eval mode
    "reshape": _reshape,
    "permute": _permute,
    "max_pool2d": _max_pool,
    "split": _split,
    "slice": _slice,
    "unbind": _unbind,
    "select": _select,
    "pad": _pad,
    "expand": _expand,
    "resize": _resize,
}
