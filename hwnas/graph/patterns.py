"""Operators that belong together: what alone reads another's result. Knows graphs, not what patterns are for."""

from __future__ import annotations

from collections.abc import Container, Iterable

from hwnas.graph.types import Op, OpGraph


def follower(graph: OpGraph, op: Op, kinds: Container[str]) -> Op | None:
    """The operator of one of these kinds that alone reads the only result of `op` and nothing else; None: none does."""
    if len(op.outputs) != 1 or op.outputs[0] in graph.outputs:
        return None
    readers = graph.consumers[op.outputs[0]]
    return readers[0] if len(readers) == 1 and readers[0].kind in kinds and len(readers[0].inputs) == 1 else None


def common_path(names: Iterable[str]) -> str:
    """The path that names begin with, step by step; of one name the name itself, "" where they share nothing."""
    shared: list[str] | None = None
    for name in names:
        steps = name.split(".")
        if shared is None:
            shared = steps
        same = (i for i, (a, b) in enumerate(zip(shared, steps, strict=False)) if a != b)
        shared = shared[: next(same, min(len(shared), len(steps)))]
    return ".".join(shared or [])


def unique_name(name: str, taken: set[str]) -> str:
    """The name, or the first of `name_1`, `name_2` and so on that is not taken; it is then."""
    found, n = name, 0
    while found in taken:
        n += 1
        found = f"{name}_{n}"
    taken.add(found)
    return found


def common_name(first: str, second: str) -> str:
    """What two operators that become one are called: the path their names share, or the name of the first.

    `stem.conv` and `stem.bn` become `stem`.
    """
    return common_path((first, second)) or first
