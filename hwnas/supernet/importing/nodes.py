"""What is read of an ONNX file: nodes, constants, and names for what lies between them.

It knows ONNX's words; never torch, nor which operators have a rule.
"""

from __future__ import annotations

from collections.abc import Iterable, Iterator, Mapping
from dataclasses import dataclass, field
from typing import Any

from hwnas.given_inputs import InputShape
from hwnas.types import Array


@dataclass(slots=True)
class Node:
    """One operator of the file.

    Attributes:
        kind: ONNX's name of the operator, or that of one that takes the place of several (`Linear`).
        name: of the node in the file; may be empty.
        scope: path of the module that it was exported from, where the file says so.
        inputs: names of values; "" where one is left out.
        outputs: likewise.
        attributes: those that the file gives; tensors as arrays.
    """

    kind: str
    name: str
    scope: str
    inputs: list[str]
    outputs: list[str]
    attributes: dict[str, Any] = field(default_factory=dict)

    def input(self, i: int) -> str:
        """Name of an input; "" where it is left out."""
        return self.inputs[i] if i < len(self.inputs) else ""

    def __str__(self) -> str:
        """For messages."""
        return f"{self.kind} ({self.name or self.outputs[0]})"


@dataclass
class OnnxGraph:
    """An ONNX file, read.

    Attributes:
        nodes: in an order in which they can run.
        constants: name -> numbers, of initializers and of all that follows from these alone.
        inputs: names of what the network takes.
        shapes: of these, of one sample; None where the file leaves a size open.
        outputs: names of what it gives.
        opset: ONNX's version of the operators.
    """

    nodes: list[Node]
    constants: dict[str, Array]
    inputs: tuple[str, ...]
    shapes: tuple[InputShape | None, ...]
    outputs: tuple[str, ...]
    opset: int

    def producers(self) -> dict[str, Node]:
        """Value -> the node that makes it."""
        return {name: node for node in self.nodes for name in node.outputs if name}

    def renamed(self, names: Mapping[str, str]) -> None:
        """Read these values under other names from now on."""
        if names:
            for node in self.nodes:
                node.inputs = [names.get(n, n) for n in node.inputs]
            self.outputs = tuple(names.get(n, n) for n in self.outputs)

    def prune(self) -> None:
        """Leave out what no output needs."""
        needed, kept = set(self.outputs), []
        for node in reversed(self.nodes):
            if needed.intersection(node.outputs):
                kept.append(node)
                needed.update(node.inputs)
        self.nodes = kept[::-1]
        self.constants = {name: a for name, a in self.constants.items() if name in needed}

    def is_scalar(self, name: str) -> bool:
        """Whether a value is a constant of one number."""
        return name in self.constants and self.constants[name].size == 1

    def scalar(self, name: str) -> float:
        """The number of such a constant."""
        return float(self.constants[name].reshape(-1)[0])


def ordered(nodes: Iterable[Node], given: Iterable[str]) -> Iterator[Node]:
    """Nodes in an order in which they can run, in that of the list where it does not matter."""
    waiting, made = list(nodes), {"", *given}
    while waiting:
        ready = [n for n in waiting if made.issuperset(n.inputs)]
        assert ready, "a graph in a circle, which ONNX's checker refuses"
        for node in ready:
            made.update(node.outputs)
            yield node
        done = set(map(id, ready))
        waiting = [n for n in waiting if id(n) not in done]
