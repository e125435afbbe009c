"""The kinds of block of networks that say of every pixel what it is: hourglass, mask head.

Networks here are chains: what a block reads is what the block before it gives, so that each can be timed by itself. An
encoder whose decoder reads early features again is no chain. So the way down and up again lies within each block: an
hourglass computes at a fraction of the resolution and is added to features that keep theirs, which takes the place of
the connections across (Newell et al., 2016, sections 3.1 and 3.3). No torch, no choices.
"""

from __future__ import annotations

from collections.abc import Mapping

from hwnas.graph import GraphBuilder, OpGraph, Ref
from hwnas.spaces.kinds import BlockKind
from hwnas.spaces.mobilenet_kinds import MBCONV, SIGMOID, inverted_residual
from hwnas.spaces.parts import activation, conv_norm, with_shortcut
from hwnas.types import Block, Option


def _resized(g: GraphBuilder, x: Ref, size: tuple[int, ...], *, name: str) -> Ref:
    """By the nearest position: integers stay what they are, and every runtime computes the same. No step if it fits."""
    return x if x.shape[1:] == size else g.op("resize", x, name=name, size=size)


def _hourglass(block: Block, attributes: Mapping[str, Option]) -> OpGraph:
    """An inverted residual at a fraction of the resolution, resized to that of the input and added to it.

    Down by a depthwise convolution that reads every pixel. Where the channels change, the input is projected.
    """
    reduction = int(attributes["reduction"])
    g = GraphBuilder()
    x = g.input(block.in_shape)
    # (C, H, W) -> (C, H / r, W / r) -> (out, H / r, W / r) -> (out, H, W)
    y = conv_norm(
        g, x, x.shape[0], kernel_size=reduction // 2 * 2 + 1, stride=reduction, groups=x.shape[0], name="reduce"
    )
    y = inverted_residual(g, y, block.out_shape[0], attributes, stride=1)
    y = _resized(g, y, x.shape[1:], name="resized")
    return g.build(with_shortcut(g, x, y, stride=1))


def _mask_head(block: Block, attributes: Mapping[str, Option]) -> OpGraph:
    """What is in the whole image gates a 1x1 convolution; then up to the input's size, and logits of every pixel.

    The gate is that of LR-ASPP (Howard et al., 2019, section 6.4), its pool over the whole image as images here are
    small. Each step up doubles the sides, and a depthwise convolution smooths what was repeated; the last step is that
    of the logits, so that only as many channels as there are classes have the input's size.
    """
    hidden, act, n_classes = int(attributes["hidden_channels"]), str(attributes["activation"]), block.out_shape[0]
    g = GraphBuilder()
    x = g.input(block.in_shape)
    gate = g.op("adaptive_avg_pool2d", x, name="gate.pool", output_size=(1, 1))  # (C, h, w) -> (C, 1, 1)
    gate = g.op("sigmoid", g.conv2d(gate, hidden, name="gate.conv", bias=True), name="gate.act")  # -> (hidden, 1, 1)
    x = activation(g, conv_norm(g, x, hidden, name="conv"), act, name="conv.act")  # (C, h, w) -> (hidden, h, w)
    x = g.op("mul", x, gate, name="gated")
    *between, size = _sizes(block)
    for i, inner in enumerate(between):  # (hidden, h, w) -> (hidden, 2 h, 2 w)
        x = _resized(g, x, inner, name=f"up{i}.resized")
        x = activation(g, conv_norm(g, x, hidden, kernel_size=3, groups=hidden, name=f"up{i}"), act, name=f"up{i}.act")
    x = g.op("dropout", x, name="dropout", p=0.0)
    x = g.conv2d(x, n_classes, name="classifier", bias=True)  # -> (classes, H / 2, W / 2)
    x = _resized(g, x, size, name="resized")  # -> (classes, H, W)
    return g.build(g.conv2d(x, n_classes, kernel_size=3, groups=n_classes, name="smooth", bias=True))


def _sizes(block: Block) -> list[tuple[int, ...]]:
    """(H, W) of each step from what enters a head to what leaves it: no step more than doubles a side."""
    sizes: list[tuple[int, ...]] = [block.out_shape[1:]]
    while any(-(-after // 2) > before for before, after in zip(block.in_shape[1:], sizes[0], strict=True)):
        sizes.insert(0, tuple(-(-n // 2) for n in sizes[0]))
    return sizes


HOURGLASS = BlockKind(  # not audited by itself: its options are those of inverted residuals, at smaller images
    name="hourglass",
    build=_hourglass,
    required=MBCONV.required,
    defaults={"se_channels": 0, "se_gate": SIGMOID, "reduction": 2},
)
MASK_HEAD = BlockKind(name="mask_head", build=_mask_head, required=("activation", "hidden_channels"))
