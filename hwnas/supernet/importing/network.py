"""The module that an ONNX file becomes: a step for each operator, under the name it has in the file.

What follows from sizes alone is computed as numbers while it runs, so that a file that was written for one sample
runs, and is traced, for a batch. It knows steps and their order; what operators compute, the rules know.
"""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from dataclasses import dataclass

import numpy as np
import torch
from torch import Tensor, nn

from hwnas.errors import ModelError
from hwnas.given_inputs import InputShape
from hwnas.graph.patterns import unique_name
from hwnas.supernet.importing import arithmetic, layers, moves  # noqa: F401 - their rules
from hwnas.supernet.importing.attention import KIND
from hwnas.supernet.importing.folding import SIZES, evaluate, of_sizes
from hwnas.supernet.importing.names import step_paths
from hwnas.supernet.importing.nodes import Node, OnnxGraph
from hwnas.supernet.importing.rules import ROLES, RULES, STATISTICS, Call, Operand, Unsupported
from hwnas.types import Array

_OURS = frozenset({"Linear", "Silu", "Relu6", "Mish", KIND})  # which no file has
_LARGEST = 1e30  # beyond it a number is a mask's, not a weight
_LAYERS = frozenset(
    {"Conv", "ConvTranspose", "Linear", "BatchNormalization", "LayerNormalization", "GroupNormalization", "PRelu"}
    | {"InstanceNormalization"}
)
# attributes of any module, and of those below: torch refuses parts and weights that are called so
_TAKEN = frozenset(dir(nn.Module())) | {
    *("inputs", "outputs", "channels_last", "softmax_axis", "record_", "_graph", "_sizes", "_plan"),
    *("node", "sources", "opset", "first"),
}


@dataclass(frozen=True, slots=True)
class Source:
    """Where an operand comes from: a value's name, a tensor of the step's own, or numbers."""

    value: str = ""
    own: str = ""
    numbers: Array | None = None


class Step(nn.Module):
    """One operator.

    Args:
        node: as the file has it.
        sources: of its operands.
        opset: ONNX's version of the operators.
    """

    def __init__(self, node: Node, sources: Sequence[Source], *, opset: int) -> None:
        super().__init__()
        self.node = node
        self.sources = tuple(sources)
        self.opset = opset
        self.first: tuple[int, ...] | None = None  # shape of the first operand, of one sample of the file's own size

    def forward(self, samples: int, *given: Operand) -> Tensor | Sequence[Tensor]:
        """What the operator gives.

        Args:
            samples: in the batch.
            given: operands that are values.

        Raises:
            ModelError: the form of the operator is not covered, or the sizes do not fit.
        """
        values = iter(given)
        operands: list[Operand] = []
        for s in self.sources:
            operands.append(next(values) if s.value else getattr(self, s.own) if s.own else s.numbers)
        call = Call(
            kind=self.node.kind,
            operands=operands,
            attributes=self.node.attributes,
            opset=self.opset,
            training=self.training,
            first=self.first,
            samples=samples,
            outputs=len(self.node.outputs),
        )
        try:
            return RULES[self.node.kind](call)
        except Unsupported as e:
            raise ModelError(f"the ONNX operator {self.node} is of a form that is not read: {e}") from e


class OnnxNetwork(nn.Module):
    """A network from an ONNX file.

    Args:
        graph: cleaned.
        channels_last: whether the file takes its image as (height, width, channels).
        softmax_axis: of the softmax that the file ends with, which this module leaves out; None: there is none.

    Attributes:
        inputs: of one sample, in the order in which forward takes them.
        outputs: their names in the file.

    Raises:
        ModelError: operators have no rule.
    """

    def __init__(self, graph: OnnxGraph, *, channels_last: bool = False, softmax_axis: int | None = None) -> None:
        super().__init__()
        self.inputs: tuple[InputShape, ...] = tuple(s for s in graph.shapes if s is not None)
        self.outputs = graph.outputs
        self.channels_last, self.softmax_axis = channels_last, softmax_axis
        self._graph = graph
        self._sizes = of_sizes(graph)
        steps = [n for n in graph.nodes if not self._sizes.issuperset(n.outputs)]
        _refuse_unknown(steps)
        paths = step_paths(steps, layers=_LAYERS, taken=_TAKEN)
        of_steps = {node.outputs[0]: path for node, path in zip(steps, paths, strict=True)}
        self._plan = [(node, of_steps.get(node.outputs[0], "")) for node in graph.nodes]
        held: dict[tuple[str, bool], Tensor] = {}
        for node, path in self._plan:
            if path:
                self._add(path, _step(node, graph, held))

    def _add(self, path: str, step: Step) -> None:
        """A step at its place, with modules around it that do nothing themselves."""
        *around, name = path.split(".")
        place: nn.Module = self
        for word in around:
            if word not in place._modules:
                place.add_module(word, nn.Module())
            place = place.get_submodule(word)
        place.add_module(name, step)

    def forward(self, *inputs: Tensor) -> Tensor | tuple[Tensor, ...]:
        """The file's outputs.

        Args:
            inputs: (N, ...) each.
        """
        values: dict[str, Operand] = dict(zip(self._graph.inputs, inputs, strict=True))
        for node, path in self._plan:
            for name, value in zip(node.outputs, self._made(node, path, values, inputs[0].shape[0]), strict=False):
                values[name] = value
        outputs = tuple(self._output(name, values) for name in self._graph.outputs)
        return outputs[0] if len(outputs) == 1 else outputs

    def record_(self, *inputs: Tensor) -> None:
        """Note the sizes of one sample at which shapes are written in the file.

        Args:
            inputs: (1, ...) each, of the file's own sizes.

        Raises:
            ModelError: an operator's form is not covered, or the sizes do not fit.
        """
        steps = [self.get_submodule(path) for _, path in self._plan if path]
        handles = [step.register_forward_pre_hook(_note) for step in steps]
        try:
            with torch.no_grad():
                self(*inputs)
        finally:
            for handle in handles:
                handle.remove()

    def _made(self, node: Node, path: str, values: Mapping[str, Operand], samples: int) -> Sequence[Operand]:
        """What a node gives: by its step, or of numbers alone."""
        if path:
            step = self.get_submodule(path)
            assert isinstance(step, Step)
            made = step(samples, *(values[s.value] for s in step.sources if s.value))
            return [made] if isinstance(made, Tensor) else list(made)
        if node.kind in SIZES:
            return _size(node, values[node.inputs[0]])
        return evaluate(node, [self._number(n, values) for n in node.inputs], opset=self._graph.opset)

    def _number(self, name: str, values: Mapping[str, Operand]) -> Array | None:
        found = values[name] if name in values else self._graph.constants[name] if name else None
        assert not isinstance(found, Tensor)
        return found

    def _output(self, name: str, values: Mapping[str, Operand]) -> Tensor:
        found = values.get(name)
        if not isinstance(found, Tensor):
            raise ModelError(f"the output {name!r} of the ONNX file does not depend on its input")
        return found


def _step(node: Node, graph: OnnxGraph, held: dict[tuple[str, bool], Tensor]) -> Step:
    """A node with its tensors.

    A matrix that several nodes read is tied; a vector is not: exporters write equal ones once, zeros above all.
    """
    sources: list[Source] = []
    own: dict[str, Tensor] = {}
    places: set[str] = set()
    for i, name in enumerate(node.inputs):
        numbers, role = graph.constants.get(name), ROLES[node.kind].get(i)
        if not name:
            sources.append(Source())
        elif numbers is None:
            sources.append(Source(value=name))
        elif role is None or (role == "value" and numbers.size == 1):
            sources.append(Source(numbers=numbers))
        else:
            place = unique_name(_last(name) if role == "value" else role, places)
            statistic = role in STATISTICS
            if numbers.ndim < 2 or (name, statistic) not in held:
                held[name, statistic] = _tensor(numbers, trained=not statistic)
            own[place] = held[name, statistic]
            sources.append(Source(own=place))
    step = Step(node, sources, opset=graph.opset)
    for name, tensor in own.items():
        if isinstance(tensor, nn.Parameter):
            step.register_parameter(name, tensor)
        else:
            step.register_buffer(name, tensor)
    return step


def _tensor(numbers: Array, *, trained: bool) -> Tensor:
    """A parameter where it can be one: masks and whole numbers are none."""
    tensor = torch.from_numpy(np.array(numbers, copy=True))
    if not trained or numbers.dtype.kind != "f" or bool((np.abs(numbers) > _LARGEST).any()):
        return tensor
    return nn.Parameter(tensor)


def _last(name: str) -> str:
    """What a tensor is called in its module: `gamma` of `blocks.0.gamma`."""
    word = name.rpartition(".")[2]
    return word if "." in name and word.isidentifier() and word not in _TAKEN else "value"


def _size(node: Node, x: Operand) -> list[Array]:
    """Of a tensor, as numbers."""
    assert x is not None
    shape = np.array(x.shape, np.int64)
    if node.kind == "Size":
        return [np.array(shape.prod(), np.int64)]
    return [shape[slice(node.attributes.get("start", 0), node.attributes.get("end", len(shape)))]]


def _note(step: nn.Module, arguments: tuple[object, ...]) -> None:
    """Keep the shape of a step's first operand where its second, a shape, is written in the file."""
    assert isinstance(step, Step)
    constant = len(step.sources) > 1 and step.sources[1].numbers is not None
    if constant and step.sources[0].value and isinstance(arguments[1], Tensor):
        step.first = tuple(arguments[1].shape)


def _refuse_unknown(nodes: Sequence[Node]) -> None:
    """Hold that every operator has a rule.

    Raises:
        ModelError: names those that have none, with the first node of each, and how many there are.
    """
    unknown: dict[str, list[Node]] = {}
    for node in nodes:
        if node.kind not in RULES:
            unknown.setdefault(node.kind, []).append(node)
    if unknown:
        told = (f"{kind} ({len(of)}, first {of[0].name or of[0].outputs[0]})" for kind, of in unknown.items())
        raise ModelError(
            f"{sum(map(len, unknown.values()))} operators of the ONNX file are of kinds that are not read: "
            f"{', '.join(told)}; known: {', '.join(sorted(RULES.keys() - _OURS))}"
        )
