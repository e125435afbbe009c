"""Several inputs of a network as one, and several outputs.

So a network takes and gives one tensor whatever it is for, and a chain of regions begins and ends with one;
`hwnas.row_parts` says what is in it. Outputs are joined by an operator `join_outputs` at the end, which copies no
number: a file gives the tensors that it reads. Inputs are cut from a row at the beginning, in files as well. Knows
graphs alone.
"""

from __future__ import annotations

import math
import re
from collections.abc import Sequence
from dataclasses import replace

from hwnas.errors import GraphError
from hwnas.graph.costs import JOIN
from hwnas.graph.elasticity.cuts import varying
from hwnas.graph.operators import Call, operator
from hwnas.graph.patterns import unique_name
from hwnas.graph.types import Op, OpGraph, Value, sorted_attributes
from hwnas.row_parts import RowPart

_SEPARATOR = ","
_NOT_IN_NAMES = re.compile(r"[^A-Za-z0-9_.\-]")
_ROW = "inputs_in_one_row"
_FLAT = "_in_row"  # behind the name of an input of several axes, before it is shaped
_TAKEN = "input"  # by the first tensor of a file


def joined(graph: OpGraph, names: Sequence[str]) -> OpGraph:
    """The graph with its outputs as one, (sum of sizes,); itself if it has one.

    Args:
        graph: any.
        names: of its outputs, in their order; characters that a file's names should not have become `_`.

    Raises:
        GraphError: an output is no tensor of floats with an axis, does not depend on the input, is that itself, or is
            there twice.
    """
    if len(graph.outputs) == 1:
        return graph
    taken = {_TAKEN}
    told = [unique_name(_NOT_IN_NAMES.sub("_", name) or "output", taken) for name in names]
    values = [graph.by_name[name] for name in graph.outputs]
    _check(graph, values, told)
    name = unique_name("outputs", {op.name for op in graph.ops} | set(graph.by_name))
    rule = operator(JOIN)
    attributes = rule.complete({"names": _SEPARATOR.join(told)})
    (shape,) = rule.infer(Call(inputs=tuple(v.shape for v in values), weights={}, attributes=attributes))
    op = Op(
        name=name,
        kind=JOIN,
        inputs=graph.outputs,
        outputs=(name,),
        attributes=sorted_attributes(rule.given(attributes)),
    )
    return replace(graph, values=(*graph.values, Value(name=name, shape=shape)), ops=(*graph.ops, op), outputs=(name,))


def in_one_row(graph: OpGraph) -> OpGraph:
    """The graph with its inputs as one, (sum of sizes,), which it cuts into them; itself if it has one.

    Raises:
        GraphError: an input is no tensor of floats with an axis.
    """
    if len(graph.inputs) == 1:
        return graph
    values = [graph.by_name[name] for name in graph.inputs]
    for value in values:
        if value.dtype != "float32" or not value.shape:
            shape = "x".join(map(str, value.shape)) or "one number"
            raise GraphError(
                f"input {value.name!r} is {shape} of {value.dtype}; several inputs must be tensors of float32 with an "
                "axis beside the samples': let the network make of them what it needs"
            )
    values_taken = set(graph.by_name)
    ops_taken = {op.name for op in graph.ops}
    row = Value(name=unique_name(_ROW, values_taken), shape=(sum(math.prod(v.shape) for v in values),))
    # those of one axis are cut from the row as they are, the others as rows
    flat = [
        v
        if len(v.shape) == 1
        else Value(name=unique_name(f"{v.name}{_FLAT}", values_taken), shape=(math.prod(v.shape),))
        for v in values
    ]
    cut = Op(
        name=unique_name(_ROW, ops_taken),
        kind="split",
        inputs=(row.name,),
        outputs=tuple(v.name for v in flat),
        attributes=sorted_attributes({"axis": 0, "sizes": tuple(v.shape[0] for v in flat)}),
    )
    shaped = [
        Op(
            name=unique_name(v.name, ops_taken),
            kind="reshape",
            inputs=(f.name,),
            outputs=(v.name,),
            attributes=sorted_attributes({"shape": v.shape}),
        )
        for f, v in zip(flat, values, strict=True)
        if f is not v
    ]
    made = [f for f, v in zip(flat, values, strict=True) if f is not v]
    return replace(graph, values=(row, *made, *graph.values), ops=(cut, *shaped, *graph.ops), inputs=(row.name,))


def input_parts(graph: OpGraph) -> tuple[RowPart, ...]:
    """The inputs that a graph cuts its only one into; none where it does not."""
    if len(graph.inputs) != 1 or not graph.inputs[0].startswith(_ROW):
        return ()
    (cut,) = (op for op in graph.ops if graph.inputs[0] in op.inputs)
    # those of `in_one_row` alone: the network may reshape an input of one axis itself
    shaped = {
        op.inputs[0]: op.outputs[0]
        for op in graph.ops
        if op.kind == "reshape" and op.inputs[0] in cut.outputs and op.inputs[0].startswith(f"{op.outputs[0]}{_FLAT}")
    }
    values = [graph.by_name[shaped.get(name, name)] for name in cut.outputs]
    return tuple(RowPart(name=v.name, shape=v.shape) for v in values)


def output_parts(graph: OpGraph) -> tuple[RowPart, ...]:
    """The outputs that a graph's only one is joined of; none where it is not."""
    op = _join_of(graph)
    if op is None:
        return ()
    names = str(dict(op.attributes)["names"]).split(_SEPARATOR)
    return tuple(RowPart(name=n, shape=v.shape) for n, v in zip(names, graph.input_values(op), strict=True))


def parted(graph: OpGraph) -> OpGraph:
    """The graph with the outputs that its only one is joined of; itself where it is not."""
    op = _join_of(graph)
    if op is None:
        return graph
    values = tuple(v for v in graph.values if v.name not in op.outputs)
    return replace(graph, values=values, ops=tuple(o for o in graph.ops if o is not op), outputs=op.inputs)


def _join_of(graph: OpGraph) -> Op | None:
    op = graph.producers.get(graph.outputs[0]) if len(graph.outputs) == 1 else None
    return op if op is not None and op.kind == JOIN else None


def _check(graph: OpGraph, values: Sequence[Value], names: Sequence[str]) -> None:
    follows = varying(graph)
    for i, (value, name) in enumerate(zip(values, names, strict=True)):
        same = graph.outputs.index(value.name)
        if same < i:
            raise GraphError(f"outputs {names[same]!r} and {name!r} are one tensor; let the network return it once")
        if value.name in graph.inputs:
            raise GraphError(f"output {name!r} is what the network is given; let it return what it computes alone")
        if value.name not in follows:
            raise GraphError(
                f"output {name!r} is the same for every input, as anchors are; let the network return what it computes "
                "of its input alone, and keep the rest beside it"
            )
        if value.dtype != "float32":
            raise GraphError(
                f"output {name!r} is of {value.dtype}; several outputs must be tensors of float32: let the network "
                "return scores or coordinates, and decide by them outside of it"
            )
        if not value.shape:
            raise GraphError(
                f"output {name!r} is one number a sample without an axis; let the network return it as (N, 1)"
            )
