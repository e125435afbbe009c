"""Residual networks (He et al., 2016) with elastic dimensions: of basic blocks, or of bottlenecks.

A network is a stem, stages of `basic` or `bottleneck` blocks, and a `classifier`. Where a stage changes the shape, its
first block has a projection shortcut (option B of the paper), with weights that are elastic like all others. No network
mixes the two kinds, so the family says which it has, not the stage. Bottlenecks are those of Once-for-All's ResNet-50
(Cai et al., 2020): a deep stem, and shortcuts that are pooled before they are projected (He et al., 2019, ResNet-D).
This module knows operators and attributes of blocks; never torch, devices or weights.
"""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from dataclasses import dataclass

from hwnas.errors import SpaceError
from hwnas.graph import GraphBuilder, OpGraph, Ref
from hwnas.spaces import _checks as check
from hwnas.spaces._geometry import make_divisible
from hwnas.spaces.kinds import BlockKind, Variation
from hwnas.spaces.network import CHANNEL_DIVISOR, Asked, NetworkSpec, Part
from hwnas.spaces.parts import activation, conv_norm, ratio_of_channels, with_shortcut
from hwnas.spaces.staged import StagedSpace
from hwnas.spaces.stages import StageSpec
from hwnas.types import Block, Option

# ---------------------------------------------------------------- kinds of block


def _basic(block: Block, attributes: Mapping[str, Option]) -> OpGraph:
    """Two convolutions, the first with the stride, and the input added before the last activation."""
    stride, act, kernel_size = int(attributes["stride"]), str(attributes["activation"]), int(attributes["kernel_size"])
    g = GraphBuilder()
    x = g.input(block.in_shape)
    hidden = int(attributes["hidden_channels"])
    # (C, H, W) -> (hidden, H / stride, W / stride) -> (out, H / stride, W / stride)
    y = conv_norm(g, x, hidden, kernel_size=kernel_size, stride=stride, name="first")
    y = activation(g, y, act, name="first.act")
    y = conv_norm(g, y, block.out_shape[0], kernel_size=kernel_size, name="second")
    return g.build(activation(g, with_shortcut(g, x, y, stride=stride), act, name="act"))


def _bottleneck(block: Block, attributes: Mapping[str, Option]) -> OpGraph:
    """1x1 to few channels, a convolution with the stride on those, 1x1 back, and the input added.

    Where the shape changes, the input is projected; `pooled_shortcut`: it is averaged over the stride's windows first,
    so that the projection sees every pixel, and not one in each window alone.
    """
    stride, act, kernel_size = int(attributes["stride"]), str(attributes["activation"]), int(attributes["kernel_size"])
    hidden, out_channels = int(attributes["hidden_channels"]), block.out_shape[0]
    g = GraphBuilder()
    x = shortcut = g.input(block.in_shape)
    # (C, H, W) -> (hidden, H, W) -> (hidden, H / stride, W / stride) -> (out, H / stride, W / stride)
    y = activation(g, conv_norm(g, x, hidden, name="reduce"), act, name="reduce.act")
    y = conv_norm(g, y, hidden, kernel_size=kernel_size, stride=stride, name="spatial")
    y = activation(g, y, act, name="spatial.act")
    y = conv_norm(g, y, out_channels, name="expand")
    if stride != 1 and attributes["pooled_shortcut"]:
        shortcut = conv_norm(g, _pooled(g, x, stride, name="shortcut.pool"), out_channels, name="shortcut")
    elif stride != 1 or block.in_shape[0] != out_channels:
        shortcut = conv_norm(g, x, out_channels, stride=stride, name="shortcut")
    return g.build(activation(g, g.op("add", shortcut, y, name="sum"), act, name="act"))


def _pooled(g: GraphBuilder, x: Ref, stride: int, *, name: str) -> Ref:
    """Means of windows beside each other; the last is smaller where the stride does not divide the side."""
    rest = any(n % stride for n in x.shape[1:])
    return g.op("avg_pool2d", x, name=name, kernel_size=(stride, stride), ceil_mode=rest)


def _deep_stem(block: Block, attributes: Mapping[str, Option]) -> OpGraph:
    """Three 3x3 convolutions instead of one of 7x7 (He et al., 2019), and a maximum: a fourth of the input's side.

    The second stands beside a short cut, as in Once-for-All, where it may be skipped; here it is always there.
    """
    act, half = str(attributes["activation"]), make_divisible(block.out_shape[0] / 2, CHANNEL_DIVISOR)
    g = GraphBuilder()
    x = conv_norm(g, g.input(block.in_shape), half, kernel_size=3, stride=2, name="first")  # -> (C / 2, H / 2, W / 2)
    x = activation(g, x, act, name="first.act")
    y = activation(g, conv_norm(g, x, half, kernel_size=3, name="second"), act, name="second.act")
    x = conv_norm(g, g.op("add", x, y, name="sum"), block.out_shape[0], kernel_size=3, name="third")
    x = activation(g, x, act, name="third.act")
    return g.build(g.op("max_pool2d", x, name="pool", kernel_size=(3, 3), stride=(2, 2), padding=(1, 1)))


def _classifier(block: Block, attributes: Mapping[str, Option]) -> OpGraph:
    """Global pool and a linear layer."""
    g = GraphBuilder()
    x = g.op("adaptive_avg_pool2d", g.input(block.in_shape), name="pool", output_size=(1, 1))  # -> (C, 1, 1)
    return g.build(g.linear(g.flatten(x, name="flatten"), block.out_shape[0], name="classifier"))


def _variations(*expand_ratios: float) -> tuple[Variation, ...]:
    return (
        Variation(choice="activation", options=("relu", "relu6", "hswish", "silu")),
        Variation(choice="kernel_size", options=(3, 5)),
        Variation(
            choice="expand_ratio",
            options=expand_ratios,
            attribute="hidden_channels",
            to_value=lambda ratio, channels: int(ratio * channels),
            to_option=lambda hidden, block: ratio_of_channels(int(hidden), block.out_shape[0]),
        ),
    )


BASIC = BlockKind(
    name="basic",
    build=_basic,
    required=("activation", "hidden_channels", "kernel_size"),
    defaults={"stride": 1},
    variations=_variations(1, 0.5),
)
BOTTLENECK = BlockKind(
    name="bottleneck",
    build=_bottleneck,
    required=("activation", "hidden_channels", "kernel_size"),
    defaults={"pooled_shortcut": False, "stride": 1},
    variations=_variations(0.25, 0.5),
)
DEEP_STEM = BlockKind(name="deep_stem", build=_deep_stem, required=("activation",))
CLASSIFIER = BlockKind(name="classifier", build=_classifier)

# ---------------------------------------------------------------- the spaces


@dataclass(frozen=True, kw_only=True)
class ResNetSpec(NetworkSpec):
    """The definition of a space of residual networks of basic blocks: no more than every space of stages has.

    The stem has kernel size 3; stages are without squeeze-and-excitation.

    Raises:
        SpaceError: a value that cannot be, no options, or an option twice.
    """

    expands = "out"

    stem_stride: int = 1
    stem_activation: str = "relu"

    def __post_init__(self) -> None:
        super().__post_init__()
        _refuse_gates(self.stages, "basic")

    def block(self, asked: Asked) -> Part:
        return "basic", _attributes(asked)

    def head(self, channels: tuple[int, ...]) -> Part:
        return "classifier", {}


@dataclass(frozen=True, kw_only=True)
class BottleneckSpec(NetworkSpec):
    """The definition of a space of residual networks of bottlenecks; stages are without squeeze-and-excitation.

    Attributes:
        deep_stem: three convolutions and a maximum, by a stride of 4; else one convolution.
        pooled_shortcuts: shortcuts across a stride are pooled before they are projected. In int8 one mean of four
            integers in four lies halfway between two, where LiteRT and OpenVINO round otherwise than torch: without
            them integers are the same everywhere.

    Raises:
        SpaceError: a value that cannot be, no options, or an option twice; or a deep stem of another stride.
    """

    expands = "out"

    stem_stride: int = 4
    stem_activation: str = "relu"
    deep_stem: bool = True
    pooled_shortcuts: bool = True

    def __post_init__(self) -> None:
        super().__post_init__()
        self._keep(
            deep_stem=check.boolean("deep_stem", self.deep_stem),
            pooled_shortcuts=check.boolean("pooled_shortcuts", self.pooled_shortcuts),
        )
        _refuse_gates(self.stages, "bottleneck")
        if self.deep_stem and self.stem_stride != 4:
            raise SpaceError(
                f"stem_stride is {self.stem_stride}; a deep stem has 4: set deep_stem to false for another"
            )

    def stem(self) -> Part:
        return ("deep_stem", {"activation": self.stem_activation}) if self.deep_stem else super().stem()

    def block(self, asked: Asked) -> Part:
        pooled = self.pooled_shortcuts and asked.stride != 1  # elsewhere there is nothing to pool
        return "bottleneck", {**_attributes(asked), "pooled_shortcut": pooled}

    def head(self, channels: tuple[int, ...]) -> Part:
        return "classifier", {}


def _attributes(asked: Asked) -> dict[str, Option]:
    return {
        "activation": asked.activation,
        "hidden_channels": asked.hidden_channels,
        "kernel_size": asked.kernel_size,
        "stride": asked.stride,
    }


def _refuse_gates(stages: Sequence[StageSpec], kind: str) -> None:
    gated = [i for i, stage in enumerate(stages) if any(stage.se)]
    if gated:
        raise SpaceError(
            f"stage {gated[0]} of a ResNet space has squeeze-and-excitation, which {kind} blocks have not; "
            "leave out `se`"
        )


class ResNetSpace(StagedSpace):
    """Residual networks of basic blocks with elastic resolution, width, depth, kernel size, inner width and precision.

    Choices and slots are those of `StagedSpace`, its definition is a `ResNetSpec`; expand ratios multiply the channels
    that leave a block, so 1 is the block of the paper.
    """

    kind = "resnet"
    title = "ResNet"
    spec_type = ResNetSpec


class BottleneckSpace(StagedSpace):
    """The same of bottlenecks, whose definition is a `BottleneckSpec`; an expand ratio of 1/4 is the paper's."""

    kind = "resnet-bottleneck"
    title = "bottleneck ResNet"
    spec_type = BottleneckSpec


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


def resnet29(
    in_channels: int = 3, n_classes: int = 10, *, activation: str | None = None, channel_divisor: int = CHANNEL_DIVISOR
) -> BottleneckSpace:
    """For images of 16 to 32 pixels: three stages of one to three bottlenecks; the largest network is ResNet-29.

    ResNet-164 of He et al. (2016, "Identity mappings", section 4) with a sixth of its blocks, in their first form.

    Args:
        in_channels: of the input.
        n_classes: outputs.
        activation: for the whole network instead of relu.
        channel_divisor: channels are rounded to multiples of it.
    """
    act = activation or "relu"
    return BottleneckSpace(
        "resnet29",
        BottleneckSpec(
            in_channels=in_channels,
            n_classes=n_classes,
            resolutions=(16, 24, 32),
            width_mults=(0.75, 1.0),
            stem_channels=16,
            stem_stride=1,
            stem_activation=act,
            deep_stem=False,
            pooled_shortcuts=False,
            stages=[
                StageSpec(
                    channels=channels,
                    stride=stride,
                    depths=(1, 2, 3),
                    kernel_sizes=(3,),
                    expand_ratios=(0.125, 0.25),
                    activations=(act,),
                )
                for channels, stride in ((64, 1), (128, 2), (256, 2))
            ],
            channel_divisor=channel_divisor,
        ),
    )


_RESNET50_STAGES = (  # channels, stride, depths: ResNet-50 has 3, 4, 6 and 3 blocks
    (256, 1, (2, 3, 4)),
    (512, 2, (2, 3, 4)),
    (1024, 2, (4, 5, 6)),
    (2048, 2, (2, 3, 4)),
)


def resnet50(
    in_channels: int = 3,
    n_classes: int = 1000,
    *,
    activation: str | None = None,
    channel_divisor: int = CHANNEL_DIVISOR,
) -> BottleneckSpace:
    """The space of Once-for-All on ResNet-50 (Cai et al., 2020), with a precision a block; ResNet-50-D is in it.

    One width multiplier holds for the whole network, where Once-for-All has one for each stage, and resolutions are
    multiples of 32, so that every stride divides.

    Args:
        in_channels: of the input.
        n_classes: outputs.
        activation: for the whole network instead of relu.
        channel_divisor: channels are rounded to multiples of it.
    """
    act = activation or "relu"
    return BottleneckSpace(
        "resnet50",
        BottleneckSpec(
            in_channels=in_channels,
            n_classes=n_classes,
            resolutions=(128, 160, 192, 224),
            width_mults=(0.65, 0.8, 1.0),
            stem_channels=64,
            stem_activation=act,
            stages=[
                StageSpec(
                    channels=channels,
                    stride=stride,
                    depths=depths,
                    kernel_sizes=(3,),
                    expand_ratios=(0.2, 0.25, 0.35),
                    activations=(act,),
                )
                for channels, stride, depths in _RESNET50_STAGES
            ],
            channel_divisor=channel_divisor,
        ),
    )
