"""Which axes of a reshape carry what can be removed: of (heads, features of a head) the heads, say.

A reshape merges neighbouring axes into one or takes one apart. Removing positions of the one axis leaves a tensor of
several axes only where these are all of one of them, for all positions of the others: that axis is the carrier, the
others keep their sizes. It is chosen by what the other operators say: what they pin is none. Where several are left,
the longest is taken (of the channels of a shuffle those within a group).
"""

from __future__ import annotations

import math
from collections.abc import Sequence
from dataclasses import dataclass

from hwnas.graph.elasticity.links import Links, Positions, Shape, flat_indices
from hwnas.graph.types import Op, OpGraph

KEPT = "a reshape takes it apart or puts it together with another axis, of which whole positions are removed"


@dataclass(frozen=True, slots=True)
class Segment:
    """Neighbouring axes of a reshape's input and output that hold the same numbers.

    Attributes:
        sides: axes of the input, and of the output; none of size 1.
        shapes: their sizes.
    """

    sides: tuple[tuple[Positions, ...], tuple[Positions, ...]]
    shapes: tuple[Shape, Shape]


def link_reshapes(links: Links, graph: OpGraph, ops: Sequence[Op]) -> None:
    """Join what reshapes join, once all other operators have been heard.

    Args:
        links: what the others say.
        graph: of the operators.
        ops: its reshapes.
    """
    open_ = [segment for op in ops for segment in _segments(links, graph, op)]
    while open_:
        ready = [s for s in open_ if all(len(found) < 2 for found in _candidates(links, s))]
        # one whose way nobody decides: the first, and perhaps the others follow from it
        for segment in ready or open_[:1]:
            _settle(links, segment)
        done = {id(s) for s in ready or open_[:1]}
        open_ = [s for s in open_ if id(s) not in done]


def segments(before: Shape, after: Shape) -> list[tuple[tuple[int, ...], tuple[int, ...]]]:
    """Runs of axes of a tensor and of its reshape that hold the same numbers, as short as can be.

    Axes of size 1 are in none. Of a tensor without numbers there is none.
    """
    if math.prod(before) == 0:
        return []
    a = [i for i, n in enumerate(before) if n > 1]
    b = [i for i, n in enumerate(after) if n > 1]
    found = []
    while a and b:
        first, second = [a.pop(0)], [b.pop(0)]
        sizes = [before[first[0]], after[second[0]]]
        while sizes[0] != sizes[1]:
            if sizes[0] < sizes[1]:
                first.append(a.pop(0))
                sizes[0] *= before[first[-1]]
            else:
                second.append(b.pop(0))
                sizes[1] *= after[second[-1]]
        found.append((tuple(first), tuple(second)))
    return found


def _segments(links: Links, graph: OpGraph, op: Op) -> list[Segment]:
    (before,), (after,) = graph.input_values(op), graph.output_values(op)
    return [
        Segment(
            sides=(
                tuple(links.positions(before.name, i) for i in first),
                tuple(links.positions(after.name, i) for i in second),
            ),
            shapes=(tuple(before.shape[i] for i in first), tuple(after.shape[i] for i in second)),
        )
        for first, second in segments(before.shape, after.shape)
    ]


def _candidates(links: Links, segment: Segment) -> tuple[list[Positions], list[Positions]]:
    """On each side the axes that can be carriers; none on either if one of the sides has none."""
    found = [[p for p in side if not links.why_pinned(p.axis)] for side in segment.sides]
    return (found[0], found[1]) if all(found) else ([], [])


def _settle(links: Links, segment: Segment) -> None:
    """Choose the carriers; the rest keeps its size."""
    candidates = _candidates(links, segment)
    if not candidates[0]:
        reason = next((r for side in segment.sides for p in side if (r := links.why_pinned(p.axis))), KEPT)
        for side in segment.sides:
            for p in side:
                links.pin(p, links.why_pinned(p.axis) or reason)
        return
    carriers = [max(side, key=len) for side in candidates]
    for side, carrier in zip(segment.sides, carriers, strict=True):
        for p in side:
            if p.axis != carrier.axis:
                links.pin(p, KEPT)
    if all(len(side) == 1 for side in segment.sides):
        links.join(carriers[0], carriers[1])
        return
    links.join_axes(carriers[0].axis, carriers[1].axis)
    flat = links.unnamed(math.prod(segment.shapes[0]))
    for side, shape, carrier in zip(segment.sides, segment.shapes, carriers, strict=True):
        along = flat_indices(shape)[[p.axis for p in side].index(carrier.axis)]
        links.join_ids(flat, carrier.ids[along])
