"""Residual networks of basic blocks for small images (He et al., 2016, section 4.2), with elastic dimensions.

A network is a stem convolution, stages of `basic` blocks, and a `classifier`. Where a stage changes the shape, its
first block has a projection shortcut (option B of the paper), with weights that are elastic like all others.
This module knows operators and attributes of blocks; never torch, devices or weights.
"""

from __future__ import annotations

from collections.abc import Mapping
from dataclasses import dataclass

from hwnas.errors import SpaceError
from hwnas.graph import GraphBuilder, OpGraph
from hwnas.spaces.kinds import BlockKind, Variation
from hwnas.spaces.network import CHANNEL_DIVISOR, Asked, NetworkSpec, Part
from hwnas.spaces.parts import activation, conv_norm, ratio_of_channels
from hwnas.spaces.staged import StagedSpace
from hwnas.spaces.stages import StageSpec
from hwnas.types import Block, Option

# ---------------------------------------------------------------- kinds of block


def _basic(block: Block, attributes: Mapping[str, Option]) -> OpGraph:
    """Two convolutions, the first with the stride, and the input added before the last activation."""
    stride, act, kernel_size = int(attributes["stride"]), str(attributes["activation"]), int(attributes["kernel_size"])
    g = GraphBuilder()
    x = shortcut = g.input(block.in_shape)
    hidden = int(attributes["hidden_channels"])
    # (C, H, W) -> (hidden, H / stride, W / stride) -> (out, H / stride, W / stride)
    y = conv_norm(g, x, hidden, kernel_size=kernel_size, stride=stride, name="first")
    y = activation(g, y, act, name="first.act")
    y = conv_norm(g, y, block.out_shape[0], kernel_size=kernel_size, name="second")
    if stride != 1 or block.in_shape[0] != block.out_shape[0]:
        shortcut = conv_norm(g, x, block.out_shape[0], stride=stride, name="shortcut")
    return g.build(activation(g, g.op("add", shortcut, y, name="sum"), act, name="act"))


def _classifier(block: Block, attributes: Mapping[str, Option]) -> OpGraph:
    """Global pool and a linear layer."""
    g = GraphBuilder()
    x = g.op("adaptive_avg_pool2d", g.input(block.in_shape), name="pool", output_size=(1, 1))  # -> (C, 1, 1)
    return g.build(g.linear(g.flatten(x, name="flatten"), block.out_shape[0], name="classifier"))


BASIC = BlockKind(
    name="basic",
    build=_basic,
    required=("activation", "hidden_channels", "kernel_size"),
    defaults={"stride": 1},
    variations=(
        Variation(choice="activation", options=("relu", "relu6", "hswish", "silu")),
        Variation(choice="kernel_size", options=(3, 5)),
        Variation(
            choice="expand_ratio",
            options=(1, 0.5),
            attribute="hidden_channels",
            to_value=lambda ratio, channels: int(ratio * channels),
            to_option=lambda hidden, block: ratio_of_channels(int(hidden), block.out_shape[0]),
        ),
    ),
)
CLASSIFIER = BlockKind(name="classifier", build=_classifier)

# ---------------------------------------------------------------- the space


@dataclass(frozen=True, kw_only=True)
class ResNetSpec(NetworkSpec):
    """The definition of a space of residual networks: no more than every space of stages has.

    The stem has kernel size 3; stages are without squeeze-and-excitation.

    Raises:
        SpaceError: a value that cannot be, no options, or an option twice.
    """

    expands = "out"

    stem_stride: int = 1
    stem_activation: str = "relu"

    def __post_init__(self) -> None:
        super().__post_init__()
        gated = [i for i, stage in enumerate(self.stages) if any(stage.se)]
        if gated:
            raise SpaceError(
                f"stage {gated[0]} of a ResNet space has squeeze-and-excitation, which basic blocks have not; "
                "leave out `se`"
            )

    def block(self, asked: Asked) -> Part:
        return "basic", {
            "activation": asked.activation,
            "hidden_channels": asked.hidden_channels,
            "kernel_size": asked.kernel_size,
            "stride": asked.stride,
        }

    def head(self, channels: tuple[int, ...]) -> Part:
        return "classifier", {}


class ResNetSpace(StagedSpace):
    """Residual networks with elastic resolution, width, depth, kernel size, inner width and precision.

    Choices and slots are those of `StagedSpace`, its definition is a `ResNetSpec`; expand ratios multiply the channels
    that leave a block, so 1 is the block of the paper.
    """

    kind = "resnet"
    title = "ResNet"
    spec_type = ResNetSpec


# ---------------------------------------------------------------- ready-made


def resnet20(
    in_channels: int = 3, n_classes: int = 10, *, activation: str | None = None, channel_divisor: int = CHANNEL_DIVISOR
) -> ResNetSpace:
    """For images of 16 to 32 pixels: three stages of one to three blocks; the largest network is ResNet-20.

    Args:
        in_channels: of the input.
        n_classes: outputs.
        activation: for the whole network instead of relu.
        channel_divisor: channels are rounded to multiples of it.
    """
    act = activation or "relu"
    return ResNetSpace(
        "resnet20",
        ResNetSpec(
            in_channels=in_channels,
            n_classes=n_classes,
            resolutions=(16, 24, 32),
            width_mults=(0.75, 1.0),
            stem_channels=16,
            stem_activation=act,
            stages=[
                StageSpec(
                    channels=channels,
                    stride=stride,
                    depths=(1, 2, 3),
                    kernel_sizes=(3,),
                    expand_ratios=(0.5, 1),
                    activations=(act,),
                )
                for channels, stride in ((16, 1), (32, 2), (64, 2))
            ],
            channel_divisor=channel_divisor,
        ),
    )
