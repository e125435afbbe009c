"""The kinds of block of MobileNet-like networks beside the first convolution: inverted residual, head.

The only place that knows what is inside them. No torch, no choices.
"""

from __future__ import annotations

from collections.abc import Mapping

from hwnas.errors import SpaceError
from hwnas.graph import GraphBuilder, OpGraph, Ref
from hwnas.spaces.kinds import BlockKind, Variation
from hwnas.spaces.parts import activation, conv_norm, ratio_of_channels
from hwnas.types import Block, Option

SIGMOID = "sigmoid"  # the gate of squeeze-and-excitation where nothing else is said
SE_GATES = {SIGMOID: "sigmoid", "hard_sigmoid": "hardsigmoid"}  # attribute -> operator


def squeeze_excite(g: GraphBuilder, x: Ref, squeezed: int, *, gate: str, name: str) -> Ref:
    """Channel attention (Hu et al., 2018): pool, two 1x1 convolutions, a gate for each channel.

    Args:
        g: the block's graph.
        x: (C, H, W) what is gated.
        squeezed: channels between the two convolutions.
        gate: one of `SE_GATES`; MobileNetV3's is the hard sigmoid (Howard et al., 2019, section 5.2).
        name: what its operators' names begin with.

    Raises:
        SpaceError: the gate is unknown.
    """
    if gate not in SE_GATES:
        raise SpaceError(f"unknown gate {gate!r}; known: {', '.join(SE_GATES)}")
    s = g.op("adaptive_avg_pool2d", x, name=f"{name}.pool", output_size=(1, 1))  # (C, H, W) -> (C, 1, 1)
    s = g.op("relu", g.conv2d(s, squeezed, name=f"{name}.reduce", bias=True), name=f"{name}.act")
    s = g.op(SE_GATES[gate], g.conv2d(s, x.shape[0], name=f"{name}.expand", bias=True), name=f"{name}.gate")
    return g.op("mul", x, s, name=f"{name}.scaled")


def inverted_residual(
    g: GraphBuilder, x: Ref, out_channels: int, attributes: Mapping[str, Option], *, stride: int
) -> Ref:
    """Expand, depthwise, squeeze-and-excite, project (Sandler et al., 2018, section 3; Howard et al., 2019).

    `expand` is absent where hidden_channels equals the input's channels. Nothing is added to it here.
    """
    hidden, act = int(attributes["hidden_channels"]), str(attributes["activation"])
    if hidden != x.shape[0]:  # (C, H, W) -> (hidden, H, W)
        x = activation(g, conv_norm(g, x, hidden, name="expand"), act, name="expand.act")
    kernel_size = int(attributes["kernel_size"])
    x = conv_norm(g, x, hidden, kernel_size=kernel_size, stride=stride, groups=hidden, name="depthwise")
    x = activation(g, x, act, name="depthwise.act")  # (hidden, H, W) -> (hidden, H / stride, W / stride)
    if attributes["se_channels"]:
        x = squeeze_excite(g, x, int(attributes["se_channels"]), gate=str(attributes["se_gate"]), name="se")
    return conv_norm(g, x, out_channels, name="project")  # no activation: a linear bottleneck


def _mbconv(block: Block, attributes: Mapping[str, Option]) -> OpGraph:
    """An inverted residual; the input is added to it where stride is 1 and both have as many channels."""
    stride = int(attributes["stride"])
    g = GraphBuilder()
    x = g.input(block.in_shape)
    y = inverted_residual(g, x, block.out_shape[0], attributes, stride=stride)
    if stride == 1 and block.in_shape[0] == block.out_shape[0]:
        y = g.op("add", x, y, name="sum")
    return g.build(y)


def _head(block: Block, attributes: Mapping[str, Option]) -> OpGraph:
    """1x1 convolution, global pool, an optional hidden layer, classifier."""
    features, act = int(attributes["features"]), str(attributes["activation"])
    g = GraphBuilder()
    x = conv_norm(g, g.input(block.in_shape), int(attributes["hidden_channels"]), name="conv")
    x = activation(g, x, act, name="conv.act")
    x = g.op("adaptive_avg_pool2d", x, name="pool", output_size=(1, 1))  # (hidden, H, W) -> (hidden, 1, 1)
    x = g.flatten(x, name="flatten")  # -> (hidden,)
    if features:  # behind the pool, where it costs one position only (Howard et al., 2019, section 5.1)
        x = activation(g, g.linear(x, features, name="mix"), act, name="act")
    x = g.op("dropout", x, name="dropout", p=0.0)
    return g.build(g.linear(x, block.out_shape[0], name="classifier"))


MBCONV = BlockKind(
    name="mbconv",
    build=_mbconv,
    required=("activation", "hidden_channels", "kernel_size"),
    defaults={"se_channels": 0, "se_gate": SIGMOID, "stride": 1},
    variations=(
        Variation(choice="activation", options=("relu6", "relu", "hswish", "silu")),
        Variation(
            choice="se",
            options=(False, True),
            attribute="se_channels",
            to_value=lambda option, channels: channels if option else 0,  # a quarter of the hidden ones, as published
            to_option=lambda value, block: value != 0,
            words="squeeze-and-excitation",
            is_work=False,  # it adds some MACs of its own, and is no larger network
        ),
        Variation(choice="kernel_size", options=(3, 5, 7)),
        Variation(
            choice="expand_ratio",
            options=(4, 3, 6),
            attribute="hidden_channels",
            to_value=lambda ratio, channels: int(ratio * channels),
            to_option=lambda hidden, block: ratio_of_channels(int(hidden), block.in_shape[0]),
            at_widths=3,
        ),
    ),
)
HEAD = BlockKind(name="head", build=_head, required=("activation", "hidden_channels"), defaults={"features": 0})
