"""Smaller kernels: the centre of a convolution's kernel, on the same positions (Cai et al., 2020, section 3.3).

Knows graphs; not what a smaller kernel's numbers are.
"""

from __future__ import annotations

from collections.abc import Mapping
from dataclasses import replace

from hwnas.errors import GraphError
from hwnas.graph.elasticity.links import Shape
from hwnas.graph.operators import OPERATORS
from hwnas.graph.types import Op, OpGraph, sorted_attributes

SMALLEST = 3


def kernel_sizes(op: Op) -> tuple[int, ...]:
    """The kernel sizes a convolution can have without another shape of what it gives, ascending, its own the last.

    Odd ones from 3 on, of a kernel of one axis or a square one that its padding lets shrink. One alone where nothing
    can.
    """
    weight = op.weight("weight")
    if op.kind not in ("conv1d", "conv2d") or weight is None or len(set(weight.shape[2:])) != 1:
        return ()
    size = weight.shape[-1]
    if size % 2 == 0 or any(n < 0 for n in _padding(op, (size - SMALLEST) // 2)):
        return (size,)
    return tuple(range(SMALLEST, size + 1, 2)) or (size,)


def with_kernels(graph: OpGraph, sizes: Mapping[str, int]) -> OpGraph:
    """The graph with smaller kernels.

    Args:
        graph: any.
        sizes: name of a convolution -> its kernel size; those that are not named stay.

    Raises:
        GraphError: a convolution cannot have that size.
    """
    if not sizes:
        return graph
    ops = tuple(_shrunk(op, sizes[op.name]) if op.name in sizes else op for op in graph.ops)
    return graph if all(a is b for a, b in zip(ops, graph.ops, strict=True)) else replace(graph, ops=ops)


def _shrunk(op: Op, size: int) -> Op:
    known = kernel_sizes(op)
    if size not in known:
        raise GraphError(
            f"the kernel of {op.name!r} cannot have size {size}; allowed: {', '.join(map(str, known)) or 'none'}"
        )
    if size == known[-1]:
        return op
    (role, weight), *rest = op.weights
    smaller = replace(weight, shape=(*weight.shape[:2], *(size,) * len(weight.shape[2:])))
    padding = _padding(op, (known[-1] - size) // 2)
    attributes = {**dict(op.attributes), "padding": padding}
    if not any(padding):
        del attributes["padding"]  # its default
    return replace(op, weights=((role, smaller), *rest), attributes=sorted_attributes(attributes))


def _padding(op: Op, margin: int) -> Shape:
    """With as many positions fewer on each side of the kernel."""
    attributes = {**OPERATORS[op.kind].defaults, **dict(op.attributes)}
    padding, dilation = attributes["padding"], attributes["dilation"]
    assert isinstance(padding, tuple)
    assert isinstance(dilation, tuple)
    return tuple(int(p) - margin * int(d) for p, d in zip(padding, dilation, strict=True))
