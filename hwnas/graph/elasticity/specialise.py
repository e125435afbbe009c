"""A smaller network's graph: the same operators on fewer channels, heads and groups.

Every shape follows from the dependencies; the attributes that say sizes are written anew, by one rule an operator.
"""

from __future__ import annotations

from collections.abc import Callable, Mapping
from dataclasses import replace

from hwnas.graph.elasticity.dependencies import Dependencies
from hwnas.graph.operators import operator
from hwnas.graph.types import Attribute, Op, OpGraph, Value, Weight, sorted_attributes
from hwnas.types import IntArray


def specialise(graph: OpGraph, dependencies: Dependencies, kept: IntArray) -> OpGraph:
    """What a network, or a part of it, computes that keeps so many units of each dimension.

    Args:
        graph: the whole network, or operators of it under the same names, some perhaps left out.
        dependencies: of the whole network.
        kept: (dims,) as `Dependencies.kept` gives.

    Returns:
        A graph with the same names; the same object where nothing is smaller.
    """
    here = _Here(dependencies, kept)
    weights = {w.name: here.weight(w) for w in graph.weights()}
    values = tuple(here.value(v) for v in graph.values)
    ops = tuple(here.op(op, weights) for op in graph.ops)
    if all(
        new is old
        for news, olds in ((values, graph.values), (ops, graph.ops))
        for new, old in zip(news, olds, strict=True)
    ):
        return graph
    return OpGraph(values=values, ops=ops, inputs=graph.inputs, outputs=graph.outputs)


class _Here:
    """The sizes of one smaller network."""

    def __init__(self, dependencies: Dependencies, kept: IntArray) -> None:
        self.dependencies = dependencies
        self.kept = kept

    def weight(self, weight: Weight) -> Weight:
        shape = self.dependencies.shape(weight.name, self.kept, is_weight=True, of=weight.shape)
        return weight if shape == weight.shape else replace(weight, shape=shape)

    def value(self, value: Value) -> Value:
        shape = self.shape(value.name)
        return value if shape == value.shape else replace(value, shape=shape)

    def shape(self, name: str) -> tuple[int, ...]:
        return self.dependencies.shape(name, self.kept)

    def op(self, op: Op, weights: Mapping[str, Weight]) -> Op:
        held = tuple((role, weights[w.name]) for role, w in op.weights)
        changed = op.attributes
        if op.kind in ATTRIBUTES:
            known = operator(op.kind)
            complete = known.complete({**dict(op.attributes), **ATTRIBUTES[op.kind](self, op)})
            changed = sorted_attributes(known.given(complete))
        if changed == op.attributes and all(a is b for (_, a), (_, b) in zip(held, op.weights, strict=True)):
            return op
        return replace(op, weights=held, attributes=changed)


# ---------------------------------------------------------------- attributes that say sizes


def _groups(here: _Here, op: Op) -> dict[str, Attribute]:
    """Whole groups are kept, or any channels of a single one."""
    groups = dict(op.attributes).get("groups", 1)
    assert isinstance(groups, int)
    if groups == 1:
        return {}
    before = here.dependencies.graph.by_name[op.inputs[0]].shape[0]
    return {"groups": here.shape(op.inputs[0])[0] * groups // before}


def _normalized(here: _Here, op: Op) -> dict[str, Attribute]:
    rank = len(_tuple(op, "normalized_shape"))
    return {"normalized_shape": here.shape(op.inputs[0])[-rank:]}


def _sizes(here: _Here, op: Op) -> dict[str, Attribute]:
    axis = dict(op.attributes)["axis"]
    assert isinstance(axis, int)
    return {"sizes": tuple(here.shape(name)[axis] for name in op.outputs)}


def _ends(here: _Here, op: Op) -> dict[str, Attribute]:
    attributes = dict(op.attributes)
    axis = attributes["axis"]
    assert isinstance(axis, int)
    name = op.inputs[0]
    whole = here.dependencies.graph.by_name[name].shape[axis]
    if here.shape(name)[axis] == whole:
        return {}
    start, _, _ = slice(attributes["start"], attributes["stop"]).indices(whole)
    begin = here.dependencies.place(name, axis, start, here.kept)
    return {"start": begin, "stop": begin + here.shape(op.outputs[0])[axis]}


def _shape(here: _Here, op: Op) -> dict[str, Attribute]:
    return {"shape": here.shape(op.outputs[0])}


def _tuple(op: Op, name: str) -> tuple[int | float, ...]:
    value = dict(op.attributes)[name]
    assert isinstance(value, tuple)
    return value


ATTRIBUTES: Mapping[str, Callable[[_Here, Op], dict[str, Attribute]]] = {
    **dict.fromkeys(("conv2d", "conv1d", "conv_transpose2d", "group_norm"), _groups),
    "layer_norm": _normalized,
    "split": _sizes,
    "slice": _ends,
    "reshape": _shape,
    "expand": _shape,
}
