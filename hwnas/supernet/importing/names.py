"""What nodes of a file are called as modules: as the network they were exported from has them, where the file tells.

`/layer1/layer1.0/conv1/Conv` and the weight `layer1.0.conv1.weight` are both of `layer1.0.conv1`. Knows texts alone.
"""

from __future__ import annotations

import re
from collections import Counter
from collections.abc import Sequence

from hwnas.graph.patterns import unique_name
from hwnas.supernet.importing.nodes import Node

_WEIGHT = re.compile(r"[A-Za-z_]\w*(\.\w+)*\.weight")  # torch's name of a weight


def step_paths(nodes: Sequence[Node], *, layers: frozenset[str], taken: frozenset[str]) -> list[str]:
    """A path for each node, unique; no path lies within another.

    Args:
        nodes: of a network.
        layers: operators that hold weights: a module's path is theirs rather than that of what else is done in it.
        taken: what modules have already, so that no part of theirs can be called so.
    """
    places = [_places(node, layers=layers) for node in nodes]
    found = [(_escaped(module, taken), _escaped(operator, taken)) for module, operator in places]
    modules = [module for module, _ in found]
    held = {".".join(m.split(".")[:n]) for m in modules for n in range(1, m.count(".") + 1)}
    held |= {m for m, times in Counter(modules).items() if times > 1 and not _one_layer(m, nodes, modules, layers)}
    made = []
    used: set[str] = set(held)
    for node, (module, operator) in zip(nodes, found, strict=True):
        alone = module and module not in held
        path = module if alone and (node.kind in layers or modules.count(module) == 1) else ""
        path = path or (f"{module}_{operator}" if alone else f"{module}.{operator}" if module else operator)
        made.append(unique_name(path, used))
    return made


def _one_layer(module: str, nodes: Sequence[Node], modules: Sequence[str], layers: frozenset[str]) -> bool:
    """Whether one of the nodes of a module is a layer: the module is that, and others stand beside it."""
    return sum(m == module and n.kind in layers for n, m in zip(nodes, modules, strict=True)) == 1


def _places(node: Node, *, layers: frozenset[str]) -> tuple[str, str]:
    """The module a node lies in, and what it is called there."""
    *parts, operator = [p for p in node.name.split("/") if p] or [node.kind]
    operator = _word(re.sub(r"^node_", "", operator)).lower()
    if node.scope:
        return _path(node.scope.split(".")), node.kind.lower()
    module = _path([word for step in _steps(parts) for word in step.split(".")])
    weight = node.input(1).removesuffix(".transposed")
    if node.kind in layers and _WEIGHT.fullmatch(weight):
        holder = _path(weight.rpartition(".")[0].split("."))
        # a weight that several layers share has the name of the first of them; where it agrees it knows more
        if not module or f".{holder}".endswith(f".{module}"):
            return holder, operator
    return module, operator


def _steps(parts: Sequence[str]) -> list[str]:
    """Parts of a node's name, each of which leads on from those before."""
    steps: list[str] = []
    for part in parts:
        if steps and part.startswith(f"{steps[-1]}."):  # torch's: a part within a list has the list's name before it
            steps[-1] = part
        else:
            steps.append(part)
    return steps[1:] if steps[:1] == ["StatefulPartitionedCall"] else steps  # TensorFlow's


def _path(words: Sequence[str]) -> str:
    return ".".join(_word(w) for w in words if w)


def _word(text: str) -> str:
    """What may be part of an identifier."""
    return re.sub(r"\W", "_", text) or "_"


def _escaped(path: str, taken: frozenset[str]) -> str:
    """A path of words that no module has already."""
    return ".".join(f"{word}_" if word in taken else word for word in path.split("."))
