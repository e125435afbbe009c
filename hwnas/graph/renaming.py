"""Graphs under names that follow from what they compute: equal ones become one graph, whatever they were called."""

from __future__ import annotations

from dataclasses import replace

from hwnas.graph.types import Op, OpGraph, Value, Weight


def renamed(graph: OpGraph) -> OpGraph:
    """The graph with operators called by their kinds, weights by their operators, without what no output needs.

    Graphs of equal digests give equal graphs.
    """
    values: dict[str, str] = {name: f"input_{i + 1}" for i, name in enumerate(graph.inputs)}
    weights: dict[str, str] = {}
    counts: dict[str, int] = {}
    ops: list[Op] = []
    for op in graph.asked_for():
        kind = op.kind.replace(".", "_")
        counts[kind] = counts.get(kind, 0) + 1
        name = f"{kind}_{counts[kind]}"
        held: list[tuple[str, Weight]] = []
        for role, weight in op.weights:
            held.append((role, replace(weight, name=weights.setdefault(weight.name, f"{name}.{role}"))))
        outputs = tuple(name if len(op.outputs) == 1 else f"{name}.{i}" for i in range(len(op.outputs)))
        values.update(zip(op.outputs, outputs, strict=True))
        ops.append(
            replace(op, name=name, inputs=tuple(values[n] for n in op.inputs), outputs=outputs, weights=tuple(held))
        )
    kept: list[Value] = [replace(graph.by_name[name], name=new) for name, new in values.items()]
    return OpGraph(
        values=tuple(kept),
        ops=tuple(ops),
        inputs=tuple(values[n] for n in graph.inputs),
        outputs=tuple(values[n] for n in graph.outputs),
    )
