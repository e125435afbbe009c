"""What kinds of block are put together from, and the kind that is one such part alone: a convolution.

No torch, no choices; no family of networks.
"""

from __future__ import annotations

from collections.abc import Mapping

from hwnas.errors import SpaceError
from hwnas.graph import GraphBuilder, OpGraph, Ref
from hwnas.spaces.kinds import BlockKind
from hwnas.types import Block, Option

ACTIVATIONS = {"relu": "relu", "relu6": "relu6", "hswish": "hardswish", "silu": "silu"}  # option -> operator


def activation(g: GraphBuilder, x: Ref, act: str, *, name: str) -> Ref:
    """An activation by its option's name.

    Raises:
        SpaceError: it is unknown.
    """
    if act not in ACTIVATIONS:
        raise SpaceError(f"unknown activation {act!r}; known: {', '.join(sorted(ACTIVATIONS))}")
    return g.op(ACTIVATIONS[act], x, name=name)


def conv_norm(
    g: GraphBuilder,
    x: Ref,
    out_channels: int,
    *,
    name: str,
    kernel_size: int = 1,
    stride: int = 1,
    groups: int = 1,
) -> Ref:
    """Convolution without bias, and batch normalisation: of an image (C, H, W), or of a series (C, L)."""
    convolve = g.conv2d if len(x.shape) == 3 else g.conv1d
    x = convolve(x, out_channels, kernel_size=kernel_size, stride=stride, groups=groups, name=f"{name}.conv")
    return g.batch_norm(x, name=f"{name}.bn")


def with_shortcut(g: GraphBuilder, x: Ref, y: Ref, *, stride: int) -> Ref:
    """The input of a residual block added to what it makes of it, projected where the shape changes (He et al., 2016).

    Args:
        g: the block's graph.
        x: what enters the block.
        y: what it makes of that.
        stride: from the one to the other.
    """
    shortcut = x
    if stride != 1 or x.shape[0] != y.shape[0]:
        shortcut = conv_norm(g, x, y.shape[0], stride=stride, name="shortcut")
    return g.op("add", shortcut, y, name="sum")


def ratio_of_channels(channels: int, of: int) -> int | float:
    """How many times as many channels: an expand ratio, whole where it is."""
    return channels // of if channels % of == 0 else channels / of


def _conv(block: Block, attributes: Mapping[str, Option]) -> OpGraph:
    g = GraphBuilder()
    kernel_size, stride = int(attributes["kernel_size"]), int(attributes["stride"])
    x = conv_norm(g, g.input(block.in_shape), block.out_shape[0], kernel_size=kernel_size, stride=stride, name="conv")
    return g.build(activation(g, x, str(attributes["activation"]), name="conv.act"))


CONV = BlockKind(name="conv", build=_conv, required=("activation", "kernel_size"), defaults={"stride": 1})
