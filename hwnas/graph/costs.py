"""What a graph costs: multiply-accumulates, parameters, and the memory its activations need.

Conventions: one multiply-accumulate (MAC) is one operation, counted for convolutions, linear layers, matrix products
and attention (as Sandler et al., 2018, and Cai et al., 2020, count the former two). Everything follows from the
operators' own rules (`hwnas.graph.operators`); no network or kind of block is known here.
"""

from __future__ import annotations

import math
from collections.abc import Callable, Mapping

from hwnas.errors import GraphError
from hwnas.graph.operators import OPERATORS, Call, operator
from hwnas.graph.types import Op, OpGraph, Value

JOIN = "join_outputs"  # several outputs side by side: they stay where they are
NORMALISATIONS = ("batch_norm",)  # of fixed statistics: folded into the layer before when a network ships


def call_of(graph: OpGraph, op: Op) -> Call:
    """An operator as its rules see it.

    Raises:
        GraphError: the operator is not known.
    """
    return Call(
        inputs=tuple(v.shape for v in graph.input_values(op)),
        weights={role: w.shape for role, w in op.weights},
        attributes=operator(op.kind).complete(dict(op.attributes)),
    )


def unknown_operators(graph: OpGraph) -> tuple[str, ...]:
    """Kinds of operators in the graph without a rule, each once, in order."""
    return tuple(dict.fromkeys(op.kind for op in graph.ops if op.kind not in OPERATORS))


def op_macs(graph: OpGraph, op: Op) -> int:
    """Multiply-accumulates of one operator for one sample.

    Raises:
        GraphError: the operator is not known.
    """
    rule = operator(op.kind)
    if not rule.multiplies:
        return 0
    return rule.macs(call_of(graph, op), tuple(v.shape for v in graph.output_values(op)))


def macs(graph: OpGraph) -> int:
    """Multiply-accumulates of one sample.

    Raises:
        GraphError: an operator is not known.
    """
    return sum(op_macs(graph, op) for op in graph.ops)


def parameters(graph: OpGraph) -> int:
    """Trained numbers; a weight that several operators share counts once."""
    return sum(math.prod(w.shape) for w in graph.weights() if w.trained)


def peak_memory_bytes(graph: OpGraph, *, element_bytes: int | Callable[[Value], int] = 4) -> int:
    """The largest set of activation tensors alive at once, for one sample.

    The operators run in the graph's order. A tensor is alive from the operator that makes it to the last that reads
    it; inputs and outputs of an operator are alive together while it runs. Operators that compute number by number
    work in place where nothing else reads their input any more. What follows from weights alone is no activation, and
    weights are not counted.

    Args:
        graph: its branches count: a tensor that waits for a later operator stays alive.
        element_bytes: that a number takes; or a function of the value.

    Raises:
        GraphError: an operator is not known.
    """
    size = _sizes(graph, element_bytes)
    live = liveness(graph)
    return max((sum(size[name] for name in names) for names in live), default=sum(size[n] for n in graph.inputs))


def liveness(graph: OpGraph) -> tuple[frozenset[str], ...]:
    """For each operator in order, the stored tensors alive while it runs.

    A tensor that is computed in place has the name of what it overwrites.

    Raises:
        GraphError: an operator is not known.
    """
    last = dict.fromkeys(graph.by_name, -1)  # index of the last operator that reads a value
    for i, op in enumerate(graph.ops):
        last.update(dict.fromkeys(op.inputs, i))
    last.update(dict.fromkeys(graph.outputs, len(graph.ops)))  # outputs outlive all operators
    # Value -> the tensor whose memory it is in, and tensor -> index of the last operator that needs that memory. Two
    # tables, because several values may lie in one tensor: what a reshape gives shows the numbers of its input.
    storage: dict[str, str] = {name: name for name in graph.inputs}
    until = {name: last[name] for name in graph.inputs}
    alive = set(graph.inputs)
    found: list[frozenset[str]] = []
    for i, op in enumerate(graph.ops):
        rule = operator(op.kind)
        first = op.inputs[0] if op.inputs else ""
        reuses = rule.in_place and bool(first) and until[storage[first]] == i and not _widens(graph, op)
        for name in op.outputs:
            if not graph.by_name[name].batched or op.kind == JOIN:
                storage[name], until[name] = name, -1  # constant, or no tensor of its own: never alive
                continue
            storage[name] = storage[first] if reuses else name
            until[storage[name]] = max(last[name], i)  # at least while it is made, though nobody reads it
            alive.add(storage[name])
        found.append(frozenset(alive))
        alive = {name for name in alive if until[name] > i}
    return tuple(found)


def _widens(graph: OpGraph, op: Op) -> bool:
    """Whether the output has more numbers than the first input, so that it cannot stand in its place."""
    (out, *_), (x, *_) = graph.output_values(op), graph.input_values(op)
    return math.prod(out.shape) > math.prod(x.shape) or not x.batched


def _sizes(graph: OpGraph, element_bytes: int | Callable[[Value], int]) -> Mapping[str, int]:
    each = element_bytes if callable(element_bytes) else lambda _: element_bytes
    return {v.name: math.prod(v.shape) * each(v) for v in graph.values}


def trained_activations(graph: OpGraph) -> int:
    """Numbers of one sample that a training step keeps for its way back, at least.

    What the graph takes, and what each normalisation of the batch reads and gives; activation functions may keep more.

    Raises:
        GraphError: the graph has no input.
    """
    if not graph.inputs:
        raise GraphError("a graph without inputs cannot be trained")
    kept = sum(
        math.prod(v.shape)
        for op in graph.ops
        if op.kind in NORMALISATIONS
        for v in (*graph.input_values(op)[:1], *graph.output_values(op))
    )
    return kept + sum(math.prod(graph.by_name[name].shape) for name in graph.inputs)
