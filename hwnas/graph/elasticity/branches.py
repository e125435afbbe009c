"""Residual branches: what a network adds to a value, and so can do without (He et al., 2016; Huang et al., 2016).

Knows graphs; not whether a network is any good without them.
"""

from __future__ import annotations

from collections.abc import Iterable, Sequence
from dataclasses import dataclass, replace

from hwnas.errors import GraphError
from hwnas.graph.elasticity.cuts import varying
from hwnas.graph.elasticity.naming import group_names
from hwnas.graph.types import Op, OpGraph

Ops = tuple[Op, ...]


@dataclass(frozen=True, slots=True, kw_only=True)
class Branch:
    """f in `result = source + f(source)`.

    Attributes:
        name: unique among a graph's branches: the path of the module that computes it, where it has one of its own.
        ops: names of its operators, in order, the addition last; also of what follows from weights alone for this
            branch only.
        source: the value that is left where the branch is left out.
        result: what the addition makes.
        inside: index, among the graph's branches, of the smallest one that contains this one; None: none does.
    """

    name: str
    ops: tuple[str, ...]
    source: str
    result: str
    inside: int | None = None


def branches(graph: OpGraph) -> tuple[Branch, ...]:
    """All branches that hold weights, in the order of their additions.

    Of f, nothing is read elsewhere, nothing is an output, and nothing but the source and weights goes in. A sum of two
    branches beside each other is no branch: neither operand would be left as it was.
    """
    follows = varying(graph)
    found = []
    for op in graph.ops:
        if op.kind != "add":
            continue
        for source, added in (op.inputs, op.inputs[::-1]):
            inner = _between(graph, source, added, end=op, follows=follows)
            if inner and any(o.weights for o in inner):
                found.append((source, (*inner, op)))
    names = group_names(graph, [ops for _, ops in found])
    sets = [frozenset(op.name for op in ops) for _, ops in found]
    return tuple(
        Branch(
            name=name,
            ops=tuple(op.name for op in ops),
            source=source,
            result=ops[-1].outputs[0],
            inside=_smallest_around(i, sets),
        )
        for i, (name, (source, ops)) in enumerate(zip(names, found, strict=True))
    )


def without(graph: OpGraph, names: Iterable[str]) -> OpGraph:
    """The graph with these of its branches left out.

    Args:
        graph: any.
        names: of `branches(graph)`. One that lies in another that is left out goes with it, named or not.

    Raises:
        GraphError: a name is none of a branch.
    """
    known = {b.name: b for b in branches(graph)}
    wanted = tuple(names)
    unknown = [name for name in wanted if name not in known]
    if unknown:
        raise GraphError(
            f"no branch is called {unknown[0]!r}; what can be left out: {', '.join(known) or 'nothing in this graph'}"
        )
    return leave_out(graph, [known[name] for name in wanted])


def leave_out(graph: OpGraph, chosen: Sequence[Branch]) -> OpGraph:
    """The graph without these branches: who reads a result reads the source instead.

    Names stay otherwise; what no output needs goes.

    Args:
        graph: the one they were found in, or a part of it that holds all their operators.
        chosen: in any order.
    """
    gone = {name for b in chosen for name in b.ops}
    instead = {b.result: b.source for b in chosen}

    def left(name: str) -> str:
        while name in instead:  # a source may be another branch's result
            name = instead[name]
        return name

    outputs = tuple(left(name) for name in graph.outputs)
    read, kept = set(outputs), list[Op]()
    for op in reversed(graph.ops):
        if op.name in gone or read.isdisjoint(op.outputs):
            continue
        kept.append(replace(op, inputs=tuple(left(name) for name in op.inputs)))
        read.update(kept[-1].inputs)
    there = {*graph.inputs, *(name for op in kept for name in op.outputs)}
    return OpGraph(
        values=tuple(v for v in graph.values if v.name in there),
        ops=tuple(reversed(kept)),
        inputs=graph.inputs,
        outputs=outputs,
    )


def _between(graph: OpGraph, source: str, added: str, *, end: Op, follows: frozenset[str]) -> Ops | None:
    """The operators of f in `end = source + f(source)`, in order; None where `added` is no such f."""
    values = graph.by_name
    same = {replace(values[n], name="") for n in (source, added, *end.outputs)}
    if added not in follows or len(same) > 1:  # of other shapes or types: something is broadcast
        return None
    inner: set[str] = set()
    waiting = [added]
    while waiting:
        name = waiting.pop()
        if name == source:
            continue
        if name in graph.inputs:  # a way from the inputs that does not lead through the source
            return None
        op = graph.producers[name]
        if op.name not in inner:
            inner.add(op.name)
            waiting += op.inputs
    ops = [op for op in graph.ops if op.name in inner]
    mine = {end.name}
    for op in reversed(ops):
        readers = {reader.name for name in op.outputs for reader in graph.consumers[name]}
        if readers <= mine and not set(graph.outputs).intersection(op.outputs):
            mine.add(op.name)
        elif not follows.isdisjoint(op.outputs):
            return None  # somebody else reads it
    return tuple(op for op in ops if op.name in mine)


def _smallest_around(index: int, sets: Sequence[frozenset[str]]) -> int | None:
    """Of the sets that contain the one at `index`, the smallest; branches lie in each other or apart."""
    around = [i for i, ops in enumerate(sets) if ops > sets[index]]
    return min(around, key=lambda i: len(sets[i]), default=None)
