"""Where a graph is a chain: values through which everything passes, and the operators between them.

Only values that follow from the graph's inputs count. What follows from weights alone, as an embedding of positions,
crosses nothing: whoever reads it can compute it.
"""

from __future__ import annotations

from hwnas.graph.types import Op, OpGraph


def varying(graph: OpGraph) -> frozenset[str]:
    """The values that follow from the graph's inputs; all others follow from weights alone.

    `Value.batched` says less: a token that is repeated for each sample is batched, and the same for all of them.
    """
    found = set(graph.inputs)
    for op in graph.ops:
        if not found.isdisjoint(op.inputs):
            found.update(op.outputs)
    return frozenset(found)


def way(graph: OpGraph) -> tuple[str, ...]:
    """The values that follow from the graph's inputs and that its outputs need, in order."""
    needed = set(graph.outputs)
    for op in reversed(graph.ops):
        if not needed.isdisjoint(op.outputs):
            needed.update(op.inputs)
    kept = needed & varying(graph)
    return tuple(name for name in (*graph.inputs, *(n for op in graph.ops for n in op.outputs)) if name in kept)


def cuts(graph: OpGraph) -> tuple[str, ...]:
    """The values that every path from an input to an output passes, in order; inputs and outputs are not among them.

    One sweep finds them, whatever the order of independent operators. Every value on the way lies on a path from an
    input to an output, and positions rise along paths. So a path around v has a step from before v's position to behind
    it; and where there is such a step, the path that it lies on goes around v, because it cannot come to v's position
    before or after. Hence v is a cut where no step leads over it.
    """
    order = way(graph)
    position = {name: i for i, name in enumerate(order)}
    furthest = 0  # how far steps lead from what was passed
    ends = {*graph.inputs, *graph.outputs}
    found = []
    for i, name in enumerate(order):
        if furthest <= i and name not in ends:
            found.append(name)
        made = (position[n] for op in graph.consumers[name] for n in op.outputs if n in position)
        # an output is read behind everything
        furthest = max(furthest, len(order) if name in graph.outputs else max(made))
    return tuple(found)


def segments(graph: OpGraph) -> tuple[tuple[Op, ...], ...]:
    """The operators on the way, between one cut and the next; each segment's last operator makes the cut behind it.

    What comes before a cut in order is what it follows from, so that segments are slices of the graph's order.
    """
    on_way, last = set(way(graph)), set(cuts(graph))
    found: list[tuple[Op, ...]] = []
    current: list[Op] = []
    for op in graph.ops:
        if on_way.isdisjoint(op.outputs):
            continue
        current.append(op)
        if not last.isdisjoint(op.outputs):
            found.append(tuple(current))
            current = []
    return (*found, tuple(current)) if current else tuple(found)
