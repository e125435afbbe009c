"""The graph that a trace writes: operators by rule, their names and weights, and what is left at the end.

It knows modules by their paths and tensors by their names; which of torch's operators is which, the rules know.
"""

from __future__ import annotations

from collections.abc import Mapping, Sequence

import torch
from torch import nn

from hwnas.errors import GraphError
from hwnas.graph import GraphBuilder, OpGraph, Ref, Weight
from hwnas.graph.patterns import unique_name
from hwnas.graph.types import Attribute
from hwnas.supernet.tracing.layouts import NoRule, Placed, SamplesMixed, Shape, TensorLayout, Traced


def dtype_name(dtype: torch.dtype) -> str:
    """The name that numpy has for it."""
    return str(dtype).removeprefix("torch.")


class Recorder:
    """A graph while it is traced.

    Args:
        module: whose parameters and buffers are the graph's weights.
        samples: in the traced batch; a prime number that is the size of nothing else.
    """

    def __init__(self, module: nn.Module, *, samples: int) -> None:
        self.module = module
        self.samples = samples
        self.builder = GraphBuilder()
        self._taken: set[str] = set()
        self._weights: dict[str, Ref] = {}
        # By identity: a tensor that several modules share is one weight, under its first name. The module holds them
        # all, so no other tensor gets one of these ids meanwhile.
        self._names = {id(t): name for name, t in (*module.named_buffers(), *module.named_parameters())}
        self._place, self._fresh = "", True  # the module whose operators come next; whether its name is still unused

    # ------------------------------------------------------------ names

    def enter(self, path: str) -> None:
        """What follows was called in the module at this path."""
        self._place, self._fresh = path, True

    def input(self, name: str, shape: Sequence[int], dtype: torch.dtype) -> Traced:
        """A tensor the network takes; its first axis are the samples."""
        ref = self.builder.input(shape[1:], name=self._unique(name), dtype=dtype_name(dtype))
        return Traced(ref, TensorLayout(0), tuple(shape))

    def weight(self, name: str, tensor: torch.Tensor) -> Weight:
        """A parameter, buffer or constant; one that several modules share has the first of its names."""
        return Weight(
            name=self._names.get(id(tensor), name),
            shape=tuple(tensor.shape),
            dtype=dtype_name(tensor.dtype),
            trained=isinstance(tensor, nn.Parameter),
        )

    def _name(self, kind: str, weights: Mapping[str, Weight]) -> str:
        """The module's path where the operator is what the module is, else a name below or beside it."""
        path = self._place
        try:
            module = self.module.get_submodule(path)
        except AttributeError:  # a path that export made up
            return self._unique(f"{path}.{kind}" if path else kind)
        own = {name for name, _ in (*module.named_parameters(recurse=False), *module.named_buffers(recurse=False))}
        if any(True for _ in module.children()) or not path:
            # a layer that also holds its activation is the operator all the same that has all of its tensors
            if path and own and {*own, "num_batches_tracked"} == {*weights, "num_batches_tracked"} and self._fresh:
                self._fresh = False
                return self._unique(path)
            return self._unique(f"{path}.{kind}" if path else kind)
        if self._fresh and (weights or not own):
            self._fresh = False
            return self._unique(path)
        return self._unique(f"{path}_{kind}")

    def _unique(self, name: str) -> str:
        return unique_name(name, self._taken)

    # ------------------------------------------------------------ operators

    def emit(
        self,
        kind: str,
        *inputs: Ref,
        weights: Mapping[str, Weight | None] | None = None,
        **attributes: Attribute,
    ) -> tuple[Ref, ...]:
        """Append an operator that has a rule; weights that are None are left out."""
        held = {role: w for role, w in (weights or {}).items() if w is not None}
        return self.builder.ops(kind, *inputs, name=self._name(kind, held), weights=held, **attributes)

    def append(
        self,
        kind: str,
        *inputs: Ref,
        weights: Mapping[str, Weight],
        attributes: Mapping[str, Attribute],
        values: Sequence[tuple[Shape, str, bool]],
    ) -> tuple[Ref, ...]:
        """Append an operator as it is."""
        name = self._name(kind.rpartition(".")[2], weights)
        return self.builder.append(kind, *inputs, name=name, weights=weights, attributes=attributes, values=values)

    def held(self, weight: Weight) -> Traced:
        """A weight as a value of its own, once however often it is read."""
        if weight.name not in self._weights:
            name = self._unique(f"{weight.name}_value")  # values and weights may be looked up in one place
            (self._weights[weight.name],) = self.builder.ops("weight", name=name, weights={"weight": weight})
        return Traced(self._weights[weight.name], None, weight.shape)

    def reshape(self, ref: Ref, shape: Shape) -> Ref:
        """Another shape for a value, if it is another."""
        return ref if ref.shape == shape else self.emit("reshape", ref, shape=shape)[0]

    def aligned(self, *tensors: Traced) -> tuple[list[Ref], TensorLayout | None]:
        """Values as they are broadcast against each other: without their batch axis they still meet where they met.

        Raises:
            SamplesMixed: their batch axes do not meet.
        """
        rank = max(len(t.shape) for t in tensors)
        layouts = {
            TensorLayout(t.layout.axis + rank - len(t.shape), t.layout.before, t.layout.after)
            for t in tensors
            if t.layout is not None
        }
        if len(layouts) > 1:
            raise SamplesMixed
        if not layouts:
            return [t.ref for t in tensors], None
        (layout,) = layouts
        longest = rank - 1 + len(layout.folded)
        return [self._beside(t, layout, rank=rank, longest=longest) for t in tensors], layout

    def _beside(self, t: Traced, layout: TensorLayout, *, rank: int, longest: int) -> Ref:
        if t.layout is not None:
            return self.reshape(t.ref, (1,) * (longest - len(t.ref.shape)) + t.ref.shape)
        full = (1,) * (rank - len(t.shape)) + t.shape
        if full[layout.axis] != 1:
            raise SamplesMixed
        shape = (*full[: layout.axis], *(1,) * len(layout.folded), *full[layout.axis + 1 :])
        while shape and shape[0] == 1:  # leading axes of 1 say nothing where shapes are aligned at their ends
            shape = shape[1:]
        fits = len(t.ref.shape) <= longest and t.ref.shape[len(t.ref.shape) - len(shape) :] == shape
        return t.ref if fits else self.reshape(t.ref, shape)

    # ------------------------------------------------------------ the end

    def build(self, outputs: Sequence[Ref]) -> OpGraph:
        """The graph of what the outputs need."""
        graph = self.builder.build(*outputs)
        needed = set(graph.outputs)
        kept = []
        for op in reversed(graph.ops):
            if needed.intersection(op.outputs):
                kept.append(op)
                needed.update(op.inputs)
        needed.update(graph.inputs, *(op.outputs for op in kept))
        return OpGraph(
            values=tuple(v for v in graph.values if v.name in needed),
            ops=tuple(reversed(kept)),
            inputs=graph.inputs,
            outputs=graph.outputs,
        )


def checked(placed: Placed, shape: Sequence[int], dtype: torch.dtype, *, expected: Shape, what: str) -> Traced:
    """What a rule gave, held against what torch computed.

    Raises:
        NoRule: the numbers are of another type.
        GraphError: the shapes differ, which is a mistake in a rule.
    """
    if placed.ref.dtype != dtype_name(dtype):
        raise NoRule
    if placed.ref.shape != expected or placed.ref.batched != (placed.layout is not None):
        raise GraphError(
            f"a rule for {what} says {placed.ref.shape} where torch gives {expected} a sample; this is a mistake in "
            "hwnas.supernet.tracing: please report it with the module"
        )
    return Traced(placed.ref, placed.layout, tuple(shape))
