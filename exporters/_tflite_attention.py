"""Normalisation along features, and attention, as TFLite writes them in float32: put together from smaller operators.

TFLite has neither as an operator of its own; XNNPACK computes all that they are made of here. This module knows
operators, not kinds of block, files, quantization, devices or search.
"""

from __future__ import annotations

import math
from collections.abc import Callable, Mapping, Sequence

import numpy as np

from hwnas.graph import Op
from hwnas.types import Array

from . import _tflite_operators as ops
from ._tflite_context import Writing, as_stored, axis_of, stored_numbers
from ._tflite_graph import Value
from ._tflite_moves import from_matrices, matrices

_NOTHING = -1e9  # added to a score, its share is 0; infinity is not, which some kernels make no number of


def _layer_norm(w: Writing, op: Op, x: Sequence[Value]) -> tuple[Value, ...]:
    """(x - mean) / sqrt(variance + eps) over the last axes, times a weight and with a bias added."""
    call, name, graph = w.call(op), w.name(op), w.graph
    rank, normalised = len(call.x), len(call["normalized_shape"])
    y = as_stored(graph, x[0], call.x, name=f"{name}.input")
    y = standardised(w, op, y, sorted(axis_of(y, a, call.x) for a in range(rank - normalised, rank)))
    for kind, role in (("MUL", "weight"), ("ADD", "bias")):
        numbers = w.array(op, role)
        if numbers is not None:
            constant = graph.constant(f"{name}.{role}", _broadcast(numbers, rank))
            y = ops.elementwise(graph, kind, y, constant, name=f"{name}.by_{role}")
    return (y,)


def standardised(w: Writing, op: Op, x: Value, axes: Sequence[int]) -> Value:
    """Less its mean over axes of the file, divided by the root of its variance there and the operator's `eps`."""
    name, graph = w.name(op), w.graph
    mean = ops.reduction(graph, "MEAN", x, axes, name=f"{name}.mean", keep_dims=True)
    centred = ops.elementwise(graph, "SUB", x, mean, name=f"{name}.centred")
    squares = ops.elementwise(graph, "MUL", centred, centred, name=f"{name}.squares")
    variance = ops.reduction(graph, "MEAN", squares, axes, name=f"{name}.variance", keep_dims=True)
    variance = ops.by_constant(graph, "ADD", variance, w.call(op)["eps"], name=f"{name}.shifted")
    return ops.elementwise(
        graph, "MUL", centred, ops.unary(graph, "RSQRT", variance, name=f"{name}.inverse"), name=name
    )


def _broadcast(numbers: Array, rank: int) -> Array:
    """A weight of the last axes in the rank of what it is multiplied with, as that is stored."""
    return stored_numbers(numbers.reshape((1,) * (rank + 1 - numbers.ndim) + numbers.shape))


def _attention(w: Writing, op: Op, x: Sequence[Value]) -> tuple[Value, ...]:
    given = [
        matrices(w, v, shape, name=f"{w.name(op)}.input{i}")
        for i, (v, shape) in enumerate(zip(x, w.call(op).inputs, strict=True))
    ]
    return (from_matrices(w, attended(w, op, given), name=w.name(op)),)


def attended(w: Writing, op: Op, x: Sequence[Value]) -> Value:
    """softmax(query * key / sqrt(width) + mask) * value (Vaswani et al., 2017), for each head alone.

    Args:
        w: the file and the module.
        op: the attention.
        x: query, key, value and the mask if there is one: (1, heads, positions, width), in float32.
    """
    call, name, graph = w.call(op), w.name(op), w.graph
    query, key, value, *mask = x
    scale = graph.constant(f"{name}.scale", np.array([call["scale"] or 1 / math.sqrt(call.x[-1])], np.float32))
    query = ops.elementwise(graph, "MUL", query, scale, name=f"{name}.scaled")  # smaller than the scores
    scores = ops.matmul(graph, query, key, name=f"{name}.scores", turned=True)  # (1, heads, L, S)
    if mask:
        scores = ops.elementwise(graph, "ADD", scores, mask[0], name=f"{name}.masked")
    if call["causal"]:  # positions do not see later ones
        later = np.triu(np.full(scores.shape[-2:], _NOTHING, np.float32), k=1)
        causal = graph.constant(f"{name}.causal", later.reshape(1, *(1,) * (len(scores.shape) - 3), *later.shape))
        scores = ops.elementwise(graph, "ADD", scores, causal, name=f"{name}.earlier")
    return ops.matmul(graph, ops.softmax(graph, scores, name=f"{name}.shares"), value, name=name)


RULES: Mapping[str, Callable[[Writing, Op, Sequence[Value]], tuple[Value, ...]]] = {
    "attention": _attention,
    "layer_norm": _layer_norm,
}
