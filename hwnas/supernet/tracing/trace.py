"""`trace`: torch modules to operator graphs.

It walks what torch exported, keeps what every name stands for, and asks the rules. It knows no operator but those that
write into their input.
"""

from __future__ import annotations

import operator
from collections.abc import Mapping, Sequence
from dataclasses import dataclass
from typing import Any

import torch
from torch import Tensor, fx, nn
from torch.export.graph_signature import InputKind, OutputKind
from torch.utils import _pytree as pytree

from hwnas.errors import GraphError
from hwnas.graph import OpGraph, Weight
from hwnas.graph.joining import in_one_row, joined
from hwnas.graph.types import Attribute
from hwnas.supernet.tracing import layers, numbers, shapes  # noqa: F401 - their rules
from hwnas.supernet.tracing.constants import Constant, as_value, computed, held_constant
from hwnas.supernet.tracing.export import checked_inputs, copied, exported, telling_size
from hwnas.supernet.tracing.layouts import (
    NoRule,
    Placed,
    SamplesMixed,
    Traced,
    sample_shape,
    told_by_size,
)
from hwnas.supernet.tracing.outputs import output_names
from hwnas.supernet.tracing.recorder import Recorder, checked, dtype_name
from hwnas.supernet.tracing.rules import RULES, Mask, TracedCall, layouts

# torch's operators whose result may be another view of their input's numbers
_VIEWS = frozenset(
    {
        *("view", "reshape", "_unsafe_view", "view_as", "reshape_as", "flatten", "unflatten", "squeeze", "unsqueeze"),
        *("ravel", "permute", "transpose", "swapaxes", "swapdims", "t", "numpy_T", "mT", "movedim", "moveaxis"),
        *(
            "expand",
            "expand_as",
            "slice",
            "narrow",
            "select",
            "unbind",
            "split",
            "split_with_sizes",
            "chunk",
            "tensor_split",
        ),
        *("contiguous", "detach", "alias", "to", "getitem"),
    }
)


@dataclass(frozen=True, slots=True)
class Untold:
    """What a graph of one sample cannot say, and why."""

    reason: str


class _Unreadable(Exception):  # noqa: N818 - carries an Untold to the result
    def __init__(self, untold: Untold) -> None:
        self.untold = untold


def trace(module: nn.Module, example_inputs: Tensor | Sequence[Tensor], *, training: bool = True) -> OpGraph:
    """What a module computes, as an operator graph.

    Weights have the names of the module's own parameters and buffers (a parameter that several modules share has one),
    operators those of its modules. Shapes, axes and attributes are of one sample. Operators of torch without a rule
    stay, under their names (`aten.cumsum`; `hwnas.graph.unknown_operators` lists them) and with torch's own arguments,
    in which what comes from the size of the batch is -1.

    The graph takes and gives tensors whose first axis are the samples. Where a module gives an output with its samples
    elsewhere, the graph gives it with the samples in front; in front too are windows or heads that a module folds
    into the batch axis, behind the samples.

    Args:
        module: any; it is called as it is and left as it was.
        example_inputs: one tensor, or one for each argument of forward, (N, ...); their numbers do not matter.
        training: as it trains, so that dropout and stochastic depth are in the graph; False: as it predicts, for
            modules that compute something else while training (further outputs).

    Returns:
        The graph: every shape is checked against torch's own.

    Raises:
        GraphError: the inputs are not tensors of one batch; the module cannot be exported, as where its control flow
            depends on data; an output mixes samples or is no tensor.
    """
    return trace_with_numbers(module, example_inputs, training=training)[0]


def trace_with_numbers(
    module: nn.Module,
    example_inputs: Tensor | Sequence[Tensor],
    *,
    training: bool = True,
    join: bool = False,
    names: Sequence[str] | None = None,
) -> tuple[OpGraph, dict[str, Tensor]]:
    """The graph of `trace`, and the numbers of its weights.

    Args:
        module: see `trace`; likewise the others.
        example_inputs: see there.
        training: see there.
        join: give several outputs as one, and take several inputs as one (`hwnas.graph.joining`).
        names: of several outputs that are joined; None: those that the module's result has.

    Returns:
        The graph, and name of a weight -> its tensor: the module's own, not a copy.

    Raises:
        GraphError: see `trace`; or the outputs cannot be joined.
    """
    inputs = checked_inputs(example_inputs)
    twin = copied(module).train(training)
    for part in twin.modules():
        if isinstance(part, nn.modules.batchnorm._BatchNorm) and part.momentum is None:
            # a cumulative average reads how many batches there were, which a graph cannot; torch's default in its place
            part.momentum = 0.1
    samples = telling_size(twin, inputs)
    program = exported(twin, inputs, samples=samples)
    walk = _Walk(Recorder(twin, samples=samples), program)
    graph = walk.graph()
    if join:
        graph = in_one_row(joined(graph, output_names(program) if names is None else names))
    return graph, {w.name: walk.numbers[w.name] for w in graph.weights()}


class _Walk:
    """One pass over an exported program.

    Args:
        recorder: an empty graph.
        program: of its module.
    """

    def __init__(self, recorder: Recorder, program: torch.export.ExportedProgram) -> None:
        self.recorder = recorder
        self.program = program
        self.known: dict[fx.Node, Any] = {}
        self.numbers: dict[str, Tensor] = {}  # of weights, by their names in the graph
        self._roots: dict[fx.Node, fx.Node] = {}  # of those that share their numbers: the one that made them
        self._same: dict[fx.Node, fx.Node] = {}  # of those that are one tensor under several names: the first
        # by their identity and by how often they were written; kept, so that no other gets one of these identities
        self._constants: dict[tuple[int, int], tuple[Constant, Traced]] = {}
        self._entered: dict[fx.Node, Sequence[object]] = {}  # parts whose steps were taken -> what they give

    def graph(self) -> OpGraph:
        """Everything, from inputs to outputs."""
        signature = {spec.arg.name: spec for spec in self.program.graph_signature.input_specs}
        for node in self.program.graph.nodes:
            if node.op == "placeholder":
                self.known[node] = self._given(node, signature[node.name])
        output = self._steps(self.program.graph_module)
        return self.recorder.build([self._output(i, n).ref for i, n in enumerate(self._outputs(output))])

    def _steps(self, owner: fx.GraphModule) -> fx.Node:
        """Everything but what is given, in order; the node that gives the results."""
        node: fx.Node
        for node in owner.graph.nodes:
            if node.op == "call_function":
                if _name(node) == "wrap_with_autocast" and not node.args[2]:
                    self._enter(node, owner)
                else:
                    self._call(node)
            elif node.op == "get_attr":  # a part of the module under another mode, as autocast or no_grad call it
                self.known[node] = None
            elif node.op == "output":
                return node
        raise AssertionError("an exported program without an output")

    def _enter(self, node: fx.Node, owner: fx.GraphModule) -> None:
        """A part under an autocast that is switched off: it is computed as all the rest is."""
        part, *given = node.args[4:]
        assert isinstance(part, fx.Node)
        inner = owner.get_submodule(str(part.target))
        assert isinstance(inner, fx.GraphModule)
        places = (n for n in inner.graph.nodes if n.op == "placeholder")
        for place, outer in zip(places, given, strict=True):
            assert isinstance(outer, fx.Node)
            self.known[place] = self.known[outer]
            self._is(place, outer)
        results = self._steps(inner).args[0]
        assert isinstance(results, tuple | list)
        self._entered[node] = results
        self.known[node] = [self.known[n] if isinstance(n, fx.Node) else n for n in results]

    def _is(self, node: fx.Node, other: fx.Node) -> None:
        """Two nodes are one tensor."""
        self._same[node], self._roots[node] = self._same.get(other, other), self._roots.get(other, other)

    def _given(self, node: fx.Node, spec: Any) -> Traced | Weight | Constant | None:
        """An input of the network, or one of its tensors."""
        if spec.kind == InputKind.USER_INPUT:
            value = node.meta["val"]
            return self.recorder.input(node.name, value.shape, value.dtype) if isinstance(value, Tensor) else None
        target = spec.target
        held = self.program.constants if target in self.program.constants else self.program.state_dict
        tensor = held[target]
        if not isinstance(tensor, Tensor):
            return None
        module, _, name = target.rpartition(".")
        if spec.kind == InputKind.CONSTANT_TENSOR:
            return held_constant(tensor)
        # the module's own, by which those that are shared are known
        own = getattr(self.recorder.module.get_submodule(module), name)
        weight = self.recorder.weight(target, own)
        self.numbers[weight.name] = own.detach()
        return weight

    def _outputs(self, node: fx.Node) -> list[object]:
        specs = self.program.graph_signature.output_specs
        pairs = zip(node.args[0], specs, strict=True)  # type: ignore[arg-type]
        given = [arg for arg, spec in pairs if spec.kind == OutputKind.USER_OUTPUT and arg is not None]
        if not given:
            raise GraphError("the module gives no tensor; its forward must return one, or several")
        return given

    def _output(self, index: int, node: object) -> Traced:
        if not isinstance(node, fx.Node):
            raise GraphError(
                f"output {index} of the module is a {type(node).__name__} ({node!r}); return tensors alone"
            )
        value = self.known[node]
        if isinstance(value, Untold):
            raise GraphError(f"output {index} of the module cannot be told: {value.reason}")
        if isinstance(value, Weight):
            return self.recorder.held(value)
        if isinstance(value, Constant):
            return self._as_value(value)
        if not isinstance(value, Traced):
            raise GraphError(f"output {index} of the module is no tensor; return tensors alone")
        return value

    # ------------------------------------------------------------ operators

    def _call(self, node: fx.Node) -> None:
        stack = list(node.meta.get("nn_module_stack", {}).values())
        self.recorder.enter(stack[-1][0].partition("@")[0] if stack else "")
        name = _name(node)
        try:
            result = self._result(node, name)
        except _Unreadable as e:
            result = e.untold
        except SamplesMixed:
            result = Untold(f"{node.target} ({node.name!r}) mixes the samples of a batch; a graph is of one sample")
        self.known[node] = result
        first = node.args[0] if node.args and isinstance(node.args[0], fx.Node) else None
        if first in self._entered:
            given = self._entered[first][node.args[1]]  # type: ignore[index]
            if isinstance(given, fx.Node):
                self._is(node, given)
        elif first is not None and _in_place(node) and not isinstance(result, Constant):
            self._written_(node, first, result)
        elif first is not None and name in _VIEWS:
            self._roots[node] = self._roots.get(first, first)

    def _result(self, node: fx.Node, name: str) -> Any:
        if node.target is operator.getitem:
            source, index = node.args
            assert isinstance(source, fx.Node)
            parts = self._read(source)
            if isinstance(parts, list) and isinstance(index, int):
                return parts[index]
            return Untold(f"{node.name!r} is part of what is no tensor")
        values = _values(node)
        constant = computed(node, self.known, samples=self.recorder.samples) if values else None
        if constant is not None:
            return constant
        arguments = self._arguments(node)
        if not values:
            return None  # assertions, and what export notes for itself
        rule = RULES.get(name)
        try:
            if rule is None:
                raise NoRule
            result = rule(TracedCall(name, self.recorder, arguments, [tuple(v.shape) for v in values]))
            return self._settled(node, result, values)
        except NoRule:
            return self._foreign(node, arguments, values)

    def _settled(self, node: fx.Node, result: Any, values: Sequence[Tensor]) -> Any:
        """What a rule gave, checked against what torch computed."""
        if isinstance(result, Mask):
            return result

        def settle(placed: Placed | None, value: Tensor) -> Traced | Untold:
            if placed is None:
                return Untold(f"{node.target} ({node.name!r}) gives what no operator here does, such as positions")
            expected = sample_shape(value.shape, placed.layout)
            return checked(placed, value.shape, value.dtype, expected=expected, what=str(node.target))

        if isinstance(result, Placed):
            return settle(result, values[0])
        settled = [settle(p, v) for p, v in zip(result, values, strict=True)]
        return settled if isinstance(node.meta["val"], tuple | list) else settled[0]

    def _foreign(self, node: fx.Node, arguments: Mapping[str, Any], values: Sequence[Tensor]) -> Any:
        """An operator without a rule, under torch's name and with torch's arguments."""
        flat = [(name, v) for name, value in arguments.items() for v in pytree.tree_leaves(value)]
        traced = [v if isinstance(v, Traced) else self._random(v) for _, v in flat if isinstance(v, Traced | Mask)]
        known = layouts(traced)
        found = [told_by_size(v.shape, known, samples=self.recorder.samples) for v in values]
        held: dict[str, Weight] = {}
        for name, v in flat:
            if isinstance(v, Weight):
                held[name if name not in held else f"{name}_{len(held)}"] = v
        defaults = _defaults(node)
        refs = self.recorder.append(
            _kind(node),
            *(t.ref for t in traced),
            weights=held,
            attributes={
                name: told
                for name, value in arguments.items()
                if value != defaults.get(name)
                for told in self._attribute(value)
            },
            values=[
                (sample_shape(v.shape, layout), dtype_name(v.dtype), layout is not None)
                for v, layout in zip(values, found, strict=True)
            ],
        )
        results = [Traced(ref, layout, tuple(v.shape)) for ref, layout, v in zip(refs, found, values, strict=True)]
        return results if isinstance(node.meta["val"], tuple | list) else results[0]

    def _random(self, mask: Mask) -> Traced:
        """Random numbers that are more to the network than a branch left out."""
        layout = told_by_size(mask.shape, [], samples=self.recorder.samples)
        value = (sample_shape(mask.shape, layout), "float32", layout is not None)
        (ref,) = self.recorder.append(
            "aten.bernoulli", weights={}, attributes={"p": mask.keep, "scaled": mask.scaled}, values=[value]
        )
        return Traced(ref, layout, mask.shape)

    def _attribute(self, value: object) -> list[Attribute]:
        """An argument of torch's as an attribute; none for tensors."""
        if isinstance(value, int) and not isinstance(value, bool) and value and value % self.recorder.samples == 0:
            return [-1]
        if isinstance(value, str | int | float | bool):
            return [value]
        if isinstance(value, list | tuple):
            if all(isinstance(v, int) for v in value):
                return [tuple(-1 if v and v % self.recorder.samples == 0 else v for v in value)]
            return [tuple(float(v) for v in value)] if all(isinstance(v, int | float) for v in value) else []
        return [] if value is None or isinstance(value, Traced | Weight | Mask) else [str(value)]

    # ------------------------------------------------------------ arguments

    def _read(self, node: fx.Node) -> Any:
        value = self.known[node]
        if isinstance(value, Untold):
            raise _Unreadable(value)
        return self._as_value(value) if isinstance(value, Constant) else value

    def _as_value(self, constant: Constant) -> Traced:
        """A constant in the graph, once as long as its numbers stay what they are."""
        version = id(constant.tensor), constant.tensor._version
        if version not in self._constants:
            try:
                self._constants[version] = constant, as_value(self.recorder, constant)
            except NoRule:
                raise _Unreadable(Untold("a tensor that the module makes differs between the samples")) from None
        return self._constants[version][1]

    def _arguments(self, node: fx.Node) -> dict[str, Any]:
        """By the names of torch's schema, defaults included."""
        read = fx.node.map_arg((node.args, node.kwargs), self._read)
        positional, named = read
        if not isinstance(node.target, torch._ops.OpOverload):
            return {**{f"argument_{i}": v for i, v in enumerate(positional)}, **named}
        names = [a.name for a in node.target._schema.arguments]
        return {**_defaults(node), **dict(zip(names, positional, strict=False)), **named}

    # ------------------------------------------------------------ writing in place

    def _written_(self, node: fx.Node, target: fx.Node, result: object) -> None:
        """All names of the tensor that was written mean the result now; other views of its numbers cannot be told."""
        same = self._same.get(target, target)
        root = self._roots.get(same, same)
        self._same[node], self._roots[node] = same, root
        for other in self.known:
            if self._same.get(other, other) is same:
                self.known[other] = result
            elif self._roots.get(other, other) is root:
                self.known[other] = Untold(
                    f"{node.target} ({node.name!r}) writes in place into numbers that {other.name!r} also shows; "
                    "use the operator that returns its result"
                )


def _in_place(node: fx.Node) -> bool:
    target = node.target
    return isinstance(target, torch._ops.OpOverload) and target._opname.endswith("_") and target._schema.is_mutable


def _name(node: fx.Node) -> str:
    """Its name in torch, without overload, and as if it returned its result."""
    if not isinstance(node.target, torch._ops.OpOverload):
        return getattr(node.target, "__name__", str(node.target))
    name = node.target._opname
    return name[:-1] if _in_place(node) else name


def _kind(node: fx.Node) -> str:
    if not isinstance(node.target, torch._ops.OpOverload):
        return str(node.target)
    return f"{node.target.namespace}.{_name(node)}"


def _defaults(node: fx.Node) -> dict[str, Any]:
    if not isinstance(node.target, torch._ops.OpOverload):
        return {}
    return {a.name: a.default_value if a.has_default_value() else None for a in node.target._schema.arguments}


def _values(node: fx.Node) -> list[Tensor]:
    value = node.meta.get("val")
    return [v for v in (value if isinstance(value, tuple | list) else [value]) if isinstance(v, Tensor)]
