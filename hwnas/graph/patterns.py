"""Operators that belong together: what alone reads another's result. Knows graphs, not what patterns are for."""

from __future__ import annotations

from collections.abc import Container

from hwnas.graph.types import Op, OpGraph


def follower(graph: OpGraph, op: Op, kinds: Container[str]) -> Op | None:
    """The operator of one of these kinds that alone reads the only result of `op` and nothing else; None: none does."""
    if len(op.outputs) != 1 or op.outputs[0] in graph.outputs:
        return None
    readers = graph.consumers[op.outputs[0]]
    return readers[0] if len(readers) == 1 and readers[0].kind in kinds and len(readers[0].inputs) == 1 else None


def common_name(first: str, second: str) -> str:
    """What two operators that become one are called: the path their names share, or the name of the first.

    `stem.conv` and `stem.bn` become `stem`.
    """
    shared = []
    for a, b in zip(first.split("."), second.split("."), strict=False):
        if a != b:
            break
        shared.append(a)
    return ".".join(shared) or first
