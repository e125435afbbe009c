"""The kind of block that a region of a given network is: known by a digest of what it computes.

A key cannot hold a graph, so graphs are kept for as long as the process lives, under their digests; the space that a
block comes from puts them here. Regions that compute the same are one block, whatever they are called.
"""

from __future__ import annotations

from collections.abc import Mapping

from hwnas.errors import SpaceError
from hwnas.graph import OpGraph
from hwnas.graph.renaming import renamed
from hwnas.spaces.kinds import BlockKind
from hwnas.types import Block, Option

NAME = "adapted"
_DIGITS = 16  # of a digest: 64 bits, by which no two regions of a space are taken for each other
_GRAPHS: dict[str, OpGraph] = {}


def block_of(graph: OpGraph, *, precision: str, variant: int = 0) -> Block:
    """What a region becomes that computes this.

    Args:
        graph: of one input and one output.
        precision: of the block.
        variant: tells apart what is computed alike by other weights of the same region.
    """
    digest = graph.digest()[:_DIGITS]
    if digest not in _GRAPHS:
        _GRAPHS[digest] = renamed(graph)
    shapes = [graph.by_name[name].shape for name in (graph.inputs[0], graph.outputs[0])]
    attributes: tuple[tuple[str, Option], ...] = (("graph", f"g{digest}"),)  # a letter first: never read as a number
    if variant:
        attributes += (("variant", variant),)
    return Block(kind=NAME, in_shape=shapes[0], out_shape=shapes[1], precision=precision, attributes=attributes)


def _build(block: Block, attributes: Mapping[str, Option]) -> OpGraph:
    digest = str(attributes["graph"])[1:]
    if digest not in _GRAPHS:
        raise SpaceError(
            f"block {block.key!r} is a region of a given network, whose space is not loaded here; load it first"
        )
    return _GRAPHS[digest]


ADAPTED = BlockKind(name=NAME, build=_build, required=("graph",), defaults={"variant": 0}, is_region=True)
