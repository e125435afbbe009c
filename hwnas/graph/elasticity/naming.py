"""What groups of operators are called: by the modules that people wrote. Knows names of operators, not what groups are.

The name is the path of a module that holds the group's layers and no other: `layer1.0`. Where they have no module to
themselves, it is the first of these layers: `conv1`.
"""

from __future__ import annotations

from collections import Counter
from collections.abc import Iterator, Sequence

from hwnas.graph.operators import OPERATORS
from hwnas.graph.patterns import common_path, unique_name
from hwnas.graph.types import Op, OpGraph


def multiplies(op: Op) -> bool:
    """Whether an operator has multiply-accumulates; what has no rule counts none."""
    return op.kind in OPERATORS and OPERATORS[op.kind].multiplies


def containers(name: str) -> Iterator[str]:
    """The modules that an operator's name lies in, the outermost first: `a.b.c` lies in `a` and `a.b`."""
    steps = name.split(".")
    return (".".join(steps[:n]) for n in range(1, len(steps)))


def group_names(graph: OpGraph, groups: Sequence[Sequence[Op]]) -> tuple[str, ...]:
    """A name for each group of a graph's operators, unique among them.

    Args:
        graph: all operators, by which a module is known to be a group's own.
        groups: none of them empty.
    """
    held = _layers_in(graph.ops)
    taken: set[str] = set()
    return tuple(unique_name(_path(group, held), taken) for group in groups)


def _layers_in(ops: Sequence[Op]) -> Counter[str]:
    """Module -> how many layers lie in it."""
    return Counter(path for op in ops if op.weights or multiplies(op) for path in containers(op.name))


def _path(group: Sequence[Op], held: Counter[str]) -> str:
    """A group's name: by all its operators, else by those that tell most of it, else by the first of these."""
    telling = [op for op in group if multiplies(op)] or [op for op in group if op.weights] or group
    names = {op.name for op in telling}
    own = _layers_in(group)
    paths = [common_path(op.name for op in ops) for ops in (group, telling)]
    # a module that holds others too is not theirs
    path = next((p for p in paths if p in names or (p and own[p] == held[p])), telling[0].name)
    # What holds nothing else says as much in fewer words: `features.2` rather than `features.2.conv`. But where blocks
    # are numbered people stop: the only block of a stage is `layer1.0`, not `layer1`.
    while "." in path and (path in names or not path[-1].isdecimal()):
        parent = path.rpartition(".")[0]
        if own[parent] != held[parent]:
            break
        path = parent
    return path
