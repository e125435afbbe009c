"""A graph cut into a chain of regions, each a graph of one input and one output: what people call its blocks.

The finest pieces lie between values through which everything passes, and keep together what a runtime fuses. Pieces of
one block are joined, where blocks are known by the modules that operators lie in. Knows graphs and names; not what
regions are for, nor how many variants are too many.
"""

from __future__ import annotations

from collections import Counter
from collections.abc import Callable, Sequence
from dataclasses import dataclass
from itertools import pairwise

from hwnas.errors import GraphError
from hwnas.graph.elasticity.branches import Branch
from hwnas.graph.elasticity.cuts import segments, varying
from hwnas.graph.elasticity.naming import containers, group_names, multiplies
from hwnas.graph.patterns import common_path
from hwnas.graph.types import Op, OpGraph

Ops = tuple[Op, ...]

# number by number, so that it is fused into the layer that made the numbers
_ACTIVATIONS = frozenset(
    {
        *("relu", "relu6", "hardswish", "hardsigmoid", "silu", "sigmoid", "tanh", "mish", "gelu", "leaky_relu", "elu"),
        *("prelu", "clamp", "dropout", "identity", "power", "sqrt", "exp"),
        *("affine", "add", "sub", "mul", "div"),  # with numbers or weights, or parts of an activation written out
    }
)
_FUSED = _ACTIVATIONS | {"batch_norm"}
_POOLS = frozenset({"max_pool2d", "avg_pool2d"})
_NEUTRAL = frozenset({"reshape", "permute", "expand", "dropout", "identity"})


@dataclass(frozen=True, slots=True, kw_only=True)
class Region:
    """A link of the chain.

    Attributes:
        name: unique in the chain: the path of the module whose multiplying operators it holds, `layer1.0`; or the first
            of these operators.
        graph: its operators. It takes the value before it and gives the one behind it; the first region takes the whole
            graph's inputs, the last gives its outputs. Values, operators and weights have the names they had.
    """

    name: str
    graph: OpGraph


@dataclass(frozen=True, slots=True)
class _Piece:
    """Operators that are never parted.

    Attributes:
        ops: all of them.
        core: those of the one segment that multiplies; the rest stand before and behind it.
    """

    ops: Ops
    core: Ops


def regions(graph: OpGraph, *, fits: Callable[[Sequence[Op]], bool]) -> tuple[Region, ...]:
    """The chain: each operator that outputs need is in one region, those of weights alone in all that read from them.

    A block is the smallest module with several multiplying operators that is a row of pieces. It becomes one region
    where it fits, else its pieces do. Pieces of different blocks, or of none, stay apart, and the module that is the
    whole network counts for none.

    Args:
        graph: any.
        fits: whether these operators, several pieces in a row, may be one region: whether it has few enough variants.
    """
    found: list[Ops] = []
    for run in _blocks(_pieces(graph)):
        together = _with_constants(graph, [op for piece in run for op in piece.ops])
        parted = len(run) > 1 and not fits(together)
        found += [_with_constants(graph, piece.ops) for piece in run] if parted else [together]
    return _chain(graph, found)


def chain_of(graph: OpGraph, names: Sequence[Sequence[str]]) -> tuple[Region, ...]:
    """The chain whose regions hold these operators: as `regions` gave it, told by names.

    Args:
        graph: the same, or one of other positions with the same operators.
        names: of each region's operators.

    Raises:
        GraphError: an operator is not in the graph.
    """
    by_name = {op.name: op for op in graph.ops}
    unknown = [name for group in names for name in group if name not in by_name]
    if unknown:
        raise GraphError(f"the network has no operator {unknown[0]!r}")
    return _chain(graph, [_with_constants(graph, [by_name[name] for name in group]) for group in names])


def _chain(graph: OpGraph, found: Sequence[Ops]) -> tuple[Region, ...]:
    # the last region gives the outputs, also those that follow from weights alone
    ends = [graph.producers[name] for name in graph.outputs if name in graph.producers]
    groups = [ops for ops in (*found[:-1], _with_constants(graph, (*found[-1], *ends))) if ops]
    taken, chain = graph.inputs, []
    for i, (name, ops) in enumerate(zip(group_names(graph, groups), groups, strict=True)):
        given = graph.outputs if i == len(groups) - 1 else _crossing(ops, groups[i + 1])
        chain.append(Region(name=name, graph=_part(graph, ops, inputs=taken, outputs=given)))
        taken = given
    return tuple(chain)


def droppable(region: Region, branches: Sequence[Branch]) -> tuple[Branch, ...]:
    """The branches without which a region multiplies nothing: its place in the chain can be all but empty.

    Only what stood before and behind the branches stays, as an activation. A block of two branches, as a transformer's,
    has to leave out both. None where that is not enough.

    Args:
        region: of a graph.
        branches: of the same graph, all.
    """
    names = {op.name for op in region.graph.ops}
    inside = [i for i, b in enumerate(branches) if names.issuperset(b.ops)]
    outermost = tuple(branches[i] for i in inside if branches[i].inside not in inside)
    gone = {name for b in outermost for name in b.ops}
    return () if any(multiplies(op) and op.name not in gone for op in region.graph.ops) else outermost


# ---------------------------------------------------------------- pieces


def _pieces(graph: OpGraph) -> list[_Piece]:
    """The finest: segments between cuts, those that multiply nothing with the piece before or behind them."""
    parts = segments(graph)
    heavy = [i for i, ops in enumerate(parts) if any(map(multiplies, ops))]
    if not heavy:
        everything = tuple(op for ops in parts for op in ops)
        return [_Piece(everything, everything)]
    starts = [0, *(_parting(parts, a, b) for a, b in pairwise(heavy)), len(parts)]
    return [
        _Piece(tuple(op for ops in parts[begin:end] for op in ops), parts[core])
        for core, (begin, end) in zip(heavy, pairwise(starts), strict=True)
    ]


def _parting(parts: Sequence[Ops], before: int, behind: int) -> int:
    """Of the segments between two that multiply, the first that goes with the later one."""
    maker = parts[before][-1]
    # what may follow: all that is fused into a layer; into a sum only activations
    fused = _FUSED if multiplies(maker) else _ACTIVATIONS if maker.kind == "add" else frozenset[str]()
    layer = next(op for op in reversed(parts[before]) if multiplies(op))
    next_layer = next(op for op in parts[behind] if multiplies(op))
    parting = before + 1
    for i in range(before + 1, behind):
        ops = parts[i]
        fused = fused if all(op.kind in fused for op in ops) else frozenset()
        nearer = _shared(ops, layer) - _shared(ops, next_layer)
        side = 1 if fused else nearer or _leaning(ops)
        if side < 0:
            break
        if side > 0:  # and with it what is between, which leans to neither side
            parting = i + 1
    return parting


def _shared(ops: Ops, layer: Op) -> int:
    """How many modules around one another some operators and a layer lie in."""
    path = common_path((*(op.name for op in ops), layer.name))
    return len(path.split(".")) if path else 0


def _leaning(ops: Ops) -> int:
    """Where operators go if names do not say: 1 with what is before them, -1 with what is behind, 0 with neighbours.

    Pools of all positions, and norms of one position, begin something new.
    """
    if all(op.kind in _NEUTRAL for op in ops):
        return 0
    # Nothing but the cut before it varies, so what is concatenated at once is a weight: a class token before patches.
    return 1 if ops[0].kind == "concat" or all(op.kind in _FUSED or op.kind in _POOLS for op in ops) else -1


# ---------------------------------------------------------------- blocks


def _blocks(pieces: Sequence[_Piece]) -> list[list[_Piece]]:
    """The pieces of a block in one list, every other piece in a list of its own."""
    starts = {min(places): max(places) for places in _modules(pieces).values()}
    found, i = [], 0
    while i < len(pieces):
        end = starts.get(i, i) + 1
        found.append(list(pieces[i:end]))
        i = end
    return found


def _modules(pieces: Sequence[_Piece]) -> dict[str, list[int]]:
    """The modules that are blocks, with the places of their pieces; none of them lies in another."""
    whole: dict[str, list[int]] = {}
    broken: set[str] = set()
    for i, piece in enumerate(pieces):
        times = Counter(path for op in piece.core for path in containers(op.name))
        for path, n in times.items():
            if n == len(piece.core):
                whole.setdefault(path, []).append(i)
            else:
                broken.add(path)
    blocks = {
        path: places
        for path, places in whole.items()
        if path not in broken
        and places == list(range(places[0], places[-1] + 1))
        and len(places) < len(pieces)
        and (len(places) > 1 or _is_block(pieces[places[0]].core))
    }
    return {path: places for path, places in blocks.items() if not any(p.startswith(f"{path}.") for p in blocks)}


def _is_block(core: Ops) -> bool:
    """Whether a piece that has a module to itself is what people call a block, rather than a part of one.

    It is where layers follow each other or are summed; a gate, as of squeeze-and-excitation, is not, and neither is a
    layer that is computed in parts.
    """
    if sum(map(multiplies, core)) < 2 or core[-1].kind == "mul":
        return False
    return core[-1].kind == "add" or _is_deep(core)


def _is_deep(ops: Ops) -> bool:
    """Whether a multiplying operator reads what another one made."""
    made: set[str] = set()  # values that a multiplying operator of these has part in
    for op in ops:
        reads = not made.isdisjoint(op.inputs)
        if reads and multiplies(op):
            return True
        if reads or multiplies(op):
            made.update(op.outputs)
    return False


# ---------------------------------------------------------------- parts of a graph


def _with_constants(graph: OpGraph, ops: Sequence[Op]) -> Ops:
    """Operators with those they read from that follow from weights alone, in the graph's order."""
    follows = varying(graph)
    names = {op.name for op in ops}
    waiting = list(ops)
    while waiting:
        for name in waiting.pop().inputs:
            if name not in follows and graph.producers[name].name not in names:
                names.add(graph.producers[name].name)
                waiting.append(graph.producers[name])
    return tuple(op for op in graph.ops if op.name in names)


def _crossing(ops: Ops, behind: Ops) -> tuple[str, ...]:
    """The value between two regions: the last operator makes it, perhaps beside others that nothing reads."""
    read = {name for op in behind for name in op.inputs}
    return tuple(name for name in ops[-1].outputs if name in read)


def _part(graph: OpGraph, ops: Ops, *, inputs: tuple[str, ...], outputs: tuple[str, ...]) -> OpGraph:
    names = {*inputs, *(name for op in ops for name in op.outputs)}
    return OpGraph(values=tuple(v for v in graph.values if v.name in names), ops=ops, inputs=inputs, outputs=outputs)
