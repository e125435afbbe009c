"""A torch module from an operator graph.

Operators with weights are `torch.nn` modules at the paths of their weights, so that parameters have the graph's names,
its order and torch's own initial numbers; weights that several operators share, or that no module of theirs keeps, are
bare parameters. What the names have in common becomes a module of its own where its operators follow each other:
`expand.conv` and `expand.bn` are parts of `expand`. So exported files and hooks name places as people wrote them.

The module can be scripted by tracing, traced by `torch.fx`, exported by `torch.export`, copied, pickled, and called on
other weights (`torch.func.functional_call`). It knows graphs; never blocks, spaces or where weights come from.
"""

from __future__ import annotations

from collections import Counter
from collections.abc import Iterator, Mapping, Sequence
from dataclasses import dataclass, replace
from functools import reduce
from itertools import groupby
from typing import Any

import torch
from torch import Tensor, nn

from hwnas.errors import GraphError
from hwnas.graph import Op, OpGraph, Weight
from hwnas.graph.costs import call_of
from hwnas.graph.operators import Call
from hwnas.supernet.operators import FUNCTIONS, GIVE_SEVERAL, MODULES, TAKES_BATCH, TAKES_MODE


@dataclass(frozen=True, slots=True, kw_only=True)
class Step:
    """One call: of the module at `path`, or of an operator's function where there is none.

    Attributes:
        inputs: names of values it reads.
        outputs: names of values it makes.
        path: of a module, from the one that takes the step.
        kind: of the operator, where a function computes it.
        call: what the function is told.
        weights: (role, name) of what the function is given besides values.
        repeated: positions of inputs that follow from weights alone and are wanted once for each sample.
        like: a value that has the batch's size, where inputs are repeated.
    """

    inputs: tuple[str, ...]
    outputs: tuple[str, ...]
    path: str = ""
    kind: str = ""
    call: Call | None = None
    weights: tuple[tuple[str, str], ...] = ()
    repeated: tuple[int, ...] = ()
    like: str = ""

    @property
    def reads(self) -> tuple[str, ...]:
        """All it needs to know, by name."""
        return (*self.inputs, *(name for _, name in self.weights), *([self.like] if self.like else []))


class Part(nn.Module):
    """Operators that follow each other and share the beginning of their names."""

    def __init__(self) -> None:
        super().__init__()
        self._steps: tuple[Step, ...] = ()
        self._inputs: tuple[str, ...] = ()
        self._outputs: tuple[str, ...] = ()

    def forward(self, *inputs: Tensor) -> Tensor | tuple[Tensor, ...]:
        values = {name: inputs[i] for i, name in enumerate(self._inputs)}
        for step in self._steps:
            result = self._take(step, values)
            several = len(step.outputs) > 1 or step.kind in GIVE_SEVERAL
            values.update({name: result[i] if several else result for i, name in enumerate(step.outputs)})
        outputs = tuple(values[name] for name in self._outputs)
        return outputs[0] if len(outputs) == 1 else outputs

    def takes(self, kind: str) -> bool:
        """Whether it computes operators of a kind itself, without a module of their own."""
        return any(step.kind == kind for step in self._steps)

    def _take(self, step: Step, values: Mapping[str, Tensor]) -> Any:
        given = [values[name] for name in step.inputs]
        if step.path:
            return _at(self, step.path)(*given)
        for i in (
            step.repeated
        ):  # torch repeats along an axis of size 1 in arithmetic, but not in `cat`: (1, ...) -> (N, ...)
            batch = values[step.like].shape[0]
            given[i] = given[i].expand(batch, *(-1,) * (given[i].dim() - 1))
        weights = {role: values[name] for role, name in step.weights}
        mode = {"training": self.training} if step.kind in TAKES_MODE else {}
        return FUNCTIONS[step.kind](step.call, given, weights, **mode)


class GraphInterpreter(Part):
    """What takes the steps of a graph. Those that inherit say which.

    Attributes:
        op_graph: the graph.
        op_labels: name of an operator -> what it is called together with those that became part of it.
    """

    def __init__(self, graph: OpGraph) -> None:
        super().__init__()
        self.op_graph = graph
        self.op_labels: Mapping[str, str] = {}
        self._uses = Counter(w.name for op in graph.ops for _, w in op.weights)

    def forward(self, *inputs: Tensor) -> Any:
        given = [inputs[i] for i in range(len(self.op_graph.inputs))]  # torch.fx has no end of `inputs` to come to
        return super().forward(*given, *(_at(self, name) for name in self._bare))

    def keeps(self, op: Op) -> bool:
        """Whether an operator's weights are those of a module at its path, and of no other operator."""
        return all(w.name == f"{op.name}.{role}" and self._uses[w.name] == 1 for role, w in op.weights)

    def label_of(self, op: Op) -> str:
        """What an operator is called in files."""
        return self.op_labels.get(op.name, op.name)

    def _take_steps_(self, steps: Sequence[tuple[str, Step]]) -> None:
        """Compute by these steps, each with the name that says which part it belongs to."""
        bare = dict.fromkeys(name for _, step in steps for _, name in step.weights)
        self._bare = tuple(bare)
        self._inputs, self._outputs = (*self.op_graph.inputs, *bare), self.op_graph.outputs
        self._steps = tuple(_fold_(self, "", steps, wanted=frozenset(self.op_graph.outputs)))

    def _put_(self, path: str, module: nn.Module) -> None:
        _put_(self, path, module)

    def _step_(self, op: Op, module: nn.Module | None) -> Step:
        """How an operator is computed: by that module, put in its place, or by its function and bare weights."""
        if module is not None:
            _put_(self, op.name, module)
            return Step(path=op.name, inputs=op.inputs, outputs=op.outputs)
        for _, weight in op.weights:  # shared with other operators, or kept at a path that is no module's
            _hold_(self, weight)
        values, results = self.op_graph.input_values(op), self.op_graph.output_values(op)
        repeats = op.kind in TAKES_BATCH and results[0].batched
        repeated = tuple(i for i, v in enumerate(values) if repeats and not v.batched)
        return Step(
            kind=op.kind,
            call=call_of(self.op_graph, op),
            inputs=op.inputs,
            outputs=op.outputs,
            weights=tuple((role, w.name) for role, w in op.weights),
            repeated=repeated,
            like=self.op_graph.inputs[0] if repeated else "",
        )


class OpGraphModule(GraphInterpreter):
    """What an operator graph computes. Each input and output has the batch axis in front.

    Args:
        graph: any; its operators need a rule in `hwnas.supernet.operators`.
        filters: name of a value -> path and module of what it goes through before anybody reads it.

    Raises:
        GraphError: operators without a rule; names them, with their places.
    """

    def __init__(self, graph: OpGraph, *, filters: Mapping[str, tuple[str, nn.Module]] | None = None) -> None:
        super().__init__(graph)
        unknown = [op for op in graph.ops if op.kind not in MODULES and op.kind not in FUNCTIONS]
        if unknown:
            named = ", ".join(f"{op.kind} ({op.name!r})" for op in unknown)
            raise GraphError(f"torch has no rule here for {named}; known: {', '.join(sorted({*MODULES, *FUNCTIONS}))}")
        self._take_steps_([step for op in graph.ops for step in self._filtered_(op, filters or {})])

    def _filtered_(self, op: Op, filters: Mapping[str, tuple[str, nn.Module]]) -> Iterator[tuple[str, Step]]:
        """An operator's step, and those of what its results go through."""
        step = self._step_(op, self._new_module(op))
        names = {name: f"{name} before {filters[name][0]}" for name in step.outputs if name in filters}
        yield op.name, replace(step, outputs=tuple(names.get(name, name) for name in step.outputs))
        for name, raw in names.items():
            path, module = filters[name]
            self._put_(path, module)
            yield path, Step(path=path, inputs=(raw,), outputs=(name,))

    def _new_module(self, op: Op) -> nn.Module | None:
        if op.kind in MODULES and (self.keeps(op) or op.kind not in FUNCTIONS):
            return MODULES[op.kind](call_of(self.op_graph, op))
        return None


def _at(root: nn.Module, path: str) -> Any:
    """The module, parameter or buffer at a path."""
    return reduce(getattr, path.split("."), root)


def _container_(root: nn.Module, names: Sequence[str]) -> nn.Module:
    """The module at a path; a `Part` for each step of it that is not there yet."""
    for name in names:
        if name not in dict(root.named_children()):
            root.add_module(name, Part())
        root = root.get_submodule(name)
    return root


def _put_(root: nn.Module, path: str, module: nn.Module) -> None:
    *names, last = path.split(".")
    holder = _container_(root, names)
    before = dict(holder.named_children()).get(last)
    if before is not None:  # a container for others whose names begin with this one's
        for name, child in before.named_children():
            module.add_module(name, child)
        delattr(holder, last)
    try:
        holder.add_module(last, module)
    except KeyError as e:
        raise GraphError(f"operator {path!r} cannot be a module of that name: torch's own have it") from e


def _hold_(root: nn.Module, weight: Weight) -> None:
    """A parameter or buffer that no module of an operator keeps, once, with numbers as embeddings begin with."""
    *names, last = weight.name.split(".")
    holder = _container_(root, names)
    if hasattr(holder, last):
        return
    tensor = torch.empty(weight.shape, dtype=getattr(torch, weight.dtype))
    if weight.trained:
        holder.register_parameter(last, nn.Parameter(nn.init.trunc_normal_(tensor, std=0.02)))
    else:
        holder.register_buffer(last, nn.init.ones_(tensor) if last == "running_var" else nn.init.zeros_(tensor))


# ---------------------------------------------------------------- parts of a module


def _fold_(root: nn.Module, prefix: str, steps: Sequence[tuple[str, Step]], *, wanted: frozenset[str]) -> list[Step]:
    """The steps of the module under `prefix`, those of its parts given to the parts.

    Args:
        root: the whole module; its parts get their steps.
        prefix: path of the module whose steps these are.
        steps: (name of the operator, step with paths from the root), in order.
        wanted: values that are read after these steps.
    """
    depth = len(prefix.split(".")) if prefix else 0
    runs = [(key, list(run)) for key, run in groupby(steps, key=lambda s: _part_name(s[0], depth))]
    times = Counter(key for key, _ in runs)
    found: list[Step] = []
    for i, (key, run) in enumerate(runs):
        path = f"{prefix}.{key}" if prefix else key
        # a part is called once, with all its steps in a row; what stands apart stays with the module above
        if not key or times[key] > 1 or not _is_part(root, path):
            found += [_from(step, prefix) for _, step in run]
            continue
        later = wanted.union(*(step.reads for _, rest in runs[i + 1 :] for _, step in rest))
        made = [name for _, step in run for name in step.outputs]
        inputs = dict.fromkeys(n for _, step in run for n in step.reads if n not in made)
        outputs = tuple(n for n in made if n in later)
        if not inputs or not outputs:  # weights alone, or what nobody reads: nothing to call a module on or for
            found += [_from(step, prefix) for _, step in run]
            continue
        part = _at(root, path)
        assert isinstance(part, Part)
        part._inputs, part._outputs = tuple(inputs), outputs
        part._steps = tuple(_fold_(root, path, run, wanted=frozenset(outputs)))
        found.append(Step(path=key, inputs=part._inputs, outputs=outputs))
    return found


def _part_name(name: str, depth: int) -> str:
    """What an operator's name has in common with its neighbours' at this depth; "" for one that stands there itself."""
    parts = name.split(".")
    return parts[depth] if len(parts) > depth + 1 else ""


def _is_part(root: nn.Module, path: str) -> bool:
    try:
        return type(root.get_submodule(path)) is Part
    except AttributeError:  # nothing under this name needs a module
        return False


def _from(step: Step, prefix: str) -> Step:
    """A step with its path counted from the module that takes it."""
    if not prefix or not step.path:
        return step
    return Step(path=step.path.removeprefix(f"{prefix}."), inputs=step.inputs, outputs=step.outputs)
