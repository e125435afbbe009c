"""A network as a drawing: one outline a block, as tall as it has channels, in rows of equal resolution.

The outlines of neighbours meet, so a row reads as one body that widens and narrows with the channels.
Knows blocks by their operators; never a space, weights or latencies.
"""

from __future__ import annotations

import math
from collections.abc import Sequence
from dataclasses import dataclass
from itertools import groupby

from hwnas.graph.summary import Summary
from hwnas.precisions import DEQUANTIZE, QUANTIZE
from hwnas.report.palette import block_role
from hwnas.spaces.kinds import block_summary, is_region
from hwnas.types import Block

_HALF = 50.0  # the outline's viewport is 100 wide and 100 high
_NARROWEST, _WIDEST = 2.0, 47.0  # half heights of one channel and of the most
_CONVERSIONS = {QUANTIZE: "floats → {}", DEQUANTIZE: "{} → floats"}  # a block knows its integers, not which floats
_UNKNOWN = Summary(
    between=(), enters=0, leaves=0, kernel_size=0, axes=0, stride=1, activations=(), gates=(), residual=False
)
_SHORT = {"hardswish": "hswish"}  # as spaces call them


@dataclass(frozen=True, slots=True, kw_only=True)
class BlockView:
    """A block as it is drawn.

    Attributes:
        slot: its position.
        title: `mbconv 5×5`; of a region of a given network `layer1.0 5×5`.
        channels: `16→96→24`: in, hidden, out.
        notes: what else distinguishes it: stride, squeeze-and-excitation, activation; of an unknown kind its
            attributes.
        precision: shown in words.
        role: its colour in the palette.
        outline: points of an SVG polygon.
        residual: whether its input is added to its output.
        boundary: whether it only changes the precision.
    """

    slot: str
    title: str
    channels: str
    notes: tuple[str, ...]
    precision: str
    role: str
    outline: str
    residual: bool
    boundary: bool


@dataclass(frozen=True, slots=True, kw_only=True)
class Level:
    """Consecutive blocks whose outputs have the same height and width, or as many positions.

    Attributes:
        label: `8 × 8`, or `64` positions; `vector` where there is but one.
        blocks: in order.
    """

    label: str
    blocks: tuple[BlockView, ...]


def levels(named_blocks: Sequence[tuple[str, Block]]) -> tuple[Level, ...]:
    """The rows of the drawing, from the input down to the output.

    Args:
        named_blocks: (slot, block) in network order.
    """
    profiles = _profiles([b for _, b in named_blocks])
    # one scale for all blocks: heights are compared across rows
    most = max((c for profile in profiles for c in profile), default=1)
    activations = {a for _, b in named_blocks for a in _activations(b)}
    # consecutive ones only, so the order stays that of the network
    drawn = zip(named_blocks, profiles, strict=True)
    rows = groupby(drawn, key=lambda d: _sides(d[0][1].out_shape, d[1][-1]))
    return tuple(
        Level(
            label=" × ".join(map(str, sides)) or "vector",
            blocks=tuple(
                _view(slot, b, profile, most=most, same_activation=len(activations) < 2) for (slot, b), profile in row
            ),
        )
        for sides, row in rows
    )


def common_activation(blocks: Sequence[Block]) -> str:
    """The activation that all blocks have, empty if they differ or have none."""
    found = {a for b in blocks for a in _activations(b)}
    return found.pop() if len(found) == 1 else ""


def _view(slot: str, block: Block, profile: tuple[int, ...], *, most: int, same_activation: bool) -> BlockView:
    of = _summary(block)
    notes = [f"stride {of.stride}"] if of.stride != 1 else []
    notes += [f"SE {channels}" for channels in of.gates]
    name = slot if slot and is_region(block) else block.kind
    # without a graph its attributes are all that can be told
    if of is _UNKNOWN and not is_region(block):
        notes += [f"{name} {value}" for name, value in block.attributes]
    if not same_activation:
        notes += _activations(block)
    return BlockView(
        slot=slot,
        title=f"{name} {'×'.join([str(of.kernel_size)] * of.axes)}" if of.kernel_size else name,
        channels=str(profile[0]) if block.kind in _CONVERSIONS else "\u2009→\u2009".join(map(str, profile)),
        notes=tuple(notes),
        precision=_CONVERSIONS.get(block.kind, "{}").format(block.precision),
        role=block_role(block.kind, block.precision),
        outline=_outline(profile, most=most),
        residual=of.residual,
        boundary=block.kind in _CONVERSIONS,
    )


def _summary(block: Block) -> Summary:
    """What the drawing shows of a block; little, but no error, of a kind that only its maker's package knows."""
    return block_summary(block) or _UNKNOWN


def _profiles(blocks: Sequence[Block]) -> list[tuple[int, ...]]:
    """Channels along each block: in, what is between, out."""
    found: list[tuple[int, ...]] = []
    for block in blocks:
        of = _summary(block)
        # a block without a layer changes nothing of that: what it takes is what the one before it gave
        enters = of.enters or (found[-1][-1] if found else 0)
        ends = [
            channels if channels in shape else shape[0]
            for channels, shape in ((enters, block.in_shape), (of.leaves or enters, block.out_shape))
        ]
        found.append((ends[0], *of.between, ends[1]))
    return found


def _sides(shape: tuple[int, ...], channels: int) -> tuple[int, ...]:
    """A shape without the axis of its channels: the first of (C, H, W), the last of (positions, features)."""
    axis = shape.index(channels) if channels in shape else 0
    return (*shape[:axis], *shape[axis + 1 :])


def _activations(block: Block) -> list[str]:
    return [_SHORT.get(kind, kind) for kind in _summary(block).activations]


def _outline(profile: Sequence[int], *, most: int) -> str:
    """An SVG polygon, 100 x 100: plateaus for what is between, slopes from and to the neighbours' channels.

    The height grows with the root of the channels, so that the few of the first blocks can still be seen.
    """
    halves = [_NARROWEST + (_WIDEST - _NARROWEST) * math.sqrt(c / most) for c in profile]
    first, *between, last = halves
    # n plateaus and n + 1 slopes, all of one width
    slope = 100 / (2 * len(between) + 1) if between else 100.0
    top = [(0.0, first)]
    for i, half in enumerate(between):
        top += [((2 * i + 1) * slope, half), ((2 * i + 2) * slope, half)]
    top.append((100.0, last))
    # the upper edge from left to right, the lower one back
    points = [(x, _HALF - h) for x, h in top] + [(x, _HALF + h) for x, h in reversed(top)]
    return " ".join(f"{x:.1f},{y:.1f}" for x, y in points)
