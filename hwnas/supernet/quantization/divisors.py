"""What is divided by, and stays in floats therefore. Knows graphs and the rules of operators, not what computes them.

A scale fits the largest number of a tensor. A divisor that is small beside it would be rounded to 0, and the quotient
to nothing that is a number, or to one far too large: sums of attention that is linear in its keys, and norms, are so.
"""

from __future__ import annotations

from collections.abc import Iterator

from hwnas.graph import Op, OpGraph
from hwnas.graph.costs import call_of
from hwnas.supernet.quantization.rules import has_integer_form, moves_numbers

# what divisors are led through, number by number, and what gives them
_THROUGH = frozenset({"add", "sub", "mul", "div", "affine", "clamp", "sqrt", "power"})
_GIVES = frozenset({"sum", "mean", "max", "matmul", "exp", "weight", "constant"})


def unrounded(graph: OpGraph) -> frozenset[str]:
    """Names of the operators whose results no scale rounds: those that lead to a divisor, from where it is summed up.

    What only moves such numbers goes on with them. Operators of integers read none: what they read is rounded.
    """
    found: dict[str, Op] = {}
    waiting = [graph.producers[name] for name in _divisors(graph) if name in graph.producers]
    while waiting:
        op = waiting.pop()
        leads = op.kind in _THROUGH or moves_numbers(op.kind)
        if op.name in found or not (leads or op.kind in _GIVES):
            continue
        found[op.name] = op
        if leads:
            waiting += [graph.producers[name] for name in op.inputs if name in graph.producers]
    waiting = list(found.values())
    while waiting:
        for reader in _readers(graph, waiting.pop()):
            if moves_numbers(reader.kind) and reader.name not in found:
                found[reader.name] = reader
                waiting.append(reader)
    while refused := [op.name for op in found.values() if _is_asked_for(graph, op, found)]:
        for name in refused:
            del found[name]
    return frozenset(found)


def _divisors(graph: OpGraph) -> Iterator[str]:
    for op in graph.ops:
        if op.kind == "div":
            yield op.inputs[1]
        elif op.kind == "power" and call_of(graph, op)["exponent"] < 0:
            yield op.inputs[0]


def _readers(graph: OpGraph, op: Op) -> Iterator[Op]:
    for name in op.outputs:
        yield from graph.consumers.get(name, ())


def _is_asked_for(graph: OpGraph, op: Op, unrounded: dict[str, Op]) -> bool:
    """Whether somebody wants an operator's results as integers."""
    return any(name in graph.outputs for name in op.outputs) or any(
        reader.name not in unrounded and has_integer_form(reader.kind, call_of(graph, reader))
        for reader in _readers(graph, op)
    )
