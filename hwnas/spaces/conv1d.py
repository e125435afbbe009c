"""One-dimensional convolutional networks for series, (C, L): sensors, and features of sound over time.

A network is a stem convolution along the series, stages of `separable1d` blocks, and a `head1d` that takes the mean
over the series. The blocks are those of MatchboxNet (Majumdar & Ginsburg, 2020), depthwise-separable along time as
keyword spotters are since Zhang et al. (2017, "Hello Edge", section 3.3); depth, width and kernel sizes are elastic as
in EfficientTDNN (Wang et al., 2021), and expand ratio and precision beside them. This module knows operators and
attributes of blocks; never torch, devices or weights.

The length is no choice, as a resolution is. A window has to hold what is looked for (a word, a step), so a shorter one
is another task; and the same window in fewer samples would want a resampler beside the network, whose time no table
holds. Who wants fewer positions gives the stem or a stage a stride: that is part of the network, and is measured.
"""

from __future__ import annotations

from collections.abc import Mapping
from dataclasses import dataclass

from hwnas.errors import SpaceError
from hwnas.graph import GraphBuilder, OpGraph, Ref
from hwnas.spaces import _checks as check
from hwnas.spaces.kinds import BlockKind, Variation
from hwnas.spaces.network import CHANNEL_DIVISOR, Asked, NetworkSpec, Part
from hwnas.spaces.parts import activation, conv_norm, ratio_of_channels, with_shortcut
from hwnas.spaces.staged import StagedSpace
from hwnas.spaces.stages import ACTIVATIONS, StageSpec
from hwnas.types import Block, Option

# ---------------------------------------------------------------- kinds of block


def _separable_conv(g: GraphBuilder, x: Ref, out_channels: int, *, name: str, kernel_size: int, stride: int = 1) -> Ref:
    """Along the series channel by channel, then across the channels: (C, L) -> (C, L / stride) -> (out, L / stride)."""
    channels = x.shape[0]
    x = conv_norm(g, x, channels, kernel_size=kernel_size, stride=stride, groups=channels, name=f"{name}.depthwise")
    return conv_norm(g, x, out_channels, name=f"{name}.pointwise")


def _separable(block: Block, attributes: Mapping[str, Option]) -> OpGraph:
    """Two separable convolutions, the first with the stride, and the input added before the last activation."""
    stride, act, kernel_size = int(attributes["stride"]), str(attributes["activation"]), int(attributes["kernel_size"])
    g = GraphBuilder()
    x = g.input(block.in_shape)
    hidden = int(attributes["hidden_channels"])
    # (C, L) -> (hidden, L / stride) -> (out, L / stride)
    y = _separable_conv(g, x, hidden, kernel_size=kernel_size, stride=stride, name="first")
    y = activation(g, y, act, name="first.act")
    y = _separable_conv(g, y, block.out_shape[0], kernel_size=kernel_size, name="second")
    return g.build(activation(g, with_shortcut(g, x, y, stride=stride), act, name="act"))


def _head(block: Block, attributes: Mapping[str, Option]) -> OpGraph:
    """A convolution across the channels where there is one, the mean over the series, a linear layer."""
    hidden = int(attributes["hidden_channels"])
    g = GraphBuilder()
    x = g.input(block.in_shape)
    if hidden:  # (C, L) -> (hidden, L)
        x = activation(g, conv_norm(g, x, hidden, name="conv"), str(attributes["activation"]), name="conv.act")
    # as an image of one row: pools of images have kernels of integers everywhere. (C, L) -> (C, 1, L) -> (C, 1, 1)
    x = g.op("reshape", x, name="row", shape=(x.shape[0], 1, x.shape[1]))
    x = g.op("adaptive_avg_pool2d", x, name="pool", output_size=(1, 1))
    return g.build(g.linear(g.flatten(x, name="flatten"), block.out_shape[0], name="classifier"))


SEPARABLE1D = BlockKind(
    name="separable1d",
    build=_separable,
    required=("activation", "hidden_channels", "kernel_size"),
    defaults={"stride": 1},
    variations=(
        Variation(choice="activation", options=("relu", "relu6", "hswish", "silu")),
        Variation(choice="kernel_size", options=(9, 3, 5, 13, 17)),
        Variation(
            choice="expand_ratio",
            options=(1, 0.5),
            attribute="hidden_channels",
            to_value=lambda ratio, channels: int(ratio * channels),
            to_option=lambda hidden, block: ratio_of_channels(int(hidden), block.out_shape[0]),
        ),
    ),
    takes="series",
)
HEAD1D = BlockKind(name="head1d", build=_head, defaults={"activation": "relu", "hidden_channels": 0})

# ---------------------------------------------------------------- the space


@dataclass(frozen=True, kw_only=True)
class Conv1dSpec(NetworkSpec):
    """The definition of a space of one-dimensional networks.

    Stages are without squeeze-and-excitation.

    Attributes:
        resolutions: the length of the series, one.
        stem_kernel_size: of the stem, odd.
        head_channels: of the head's convolution, at width 1.0; 0 for none.
        head_activation: behind it.

    Raises:
        SpaceError: a value that cannot be, no options, or an option twice; or several lengths.
    """

    expands = "out"
    axes = 1

    stem_stride: int = 1
    stem_activation: str = "relu"
    stem_kernel_size: int = 3
    head_channels: int = 0
    head_activation: str = "relu"

    def __post_init__(self) -> None:
        super().__post_init__()
        self._keep(
            stem_kernel_size=check.odd("stem_kernel_size", self.stem_kernel_size),
            head_channels=check.integer("head_channels", self.head_channels, at_least=0),
            head_activation=check.member("head_activation", self.head_activation, of=ACTIVATIONS),
        )
        if len(self.resolutions) > 1:
            raise SpaceError(
                f"a space of 1-D networks is of series of one length, not of {', '.join(map(str, self.resolutions))}; "
                "give one of them, and a stride to the stem or a stage where fewer positions would do"
            )
        gated = [i for i, stage in enumerate(self.stages) if any(stage.se)]
        if gated:
            raise SpaceError(
                f"stage {gated[0]} of a space of 1-D networks has squeeze-and-excitation, which separable1d blocks "
                "have not; leave out `se`"
            )

    def stem(self) -> Part:
        kind, attributes = super().stem()
        return kind, {**attributes, "kernel_size": self.stem_kernel_size}

    def block(self, asked: Asked) -> Part:
        return "separable1d", {
            "activation": asked.activation,
            "hidden_channels": asked.hidden_channels,
            "kernel_size": asked.kernel_size,
            "stride": asked.stride,
        }

    def head(self, channels: tuple[int, ...]) -> Part:
        (hidden,) = channels
        return "head1d", {"activation": self.head_activation, "hidden_channels": hidden} if hidden else {}

    @property
    def inside_head(self) -> tuple[int, ...]:
        return (self.head_channels,)


class Conv1dSpace(StagedSpace):
    """Networks for series with elastic width, depth, kernel size, inner width and precision.

    Choices and slots are those of `StagedSpace`, its definition is a `Conv1dSpec`; expand ratios multiply the channels
    that leave a block, so 1 is the block of the paper.
    """

    kind = "conv1d"
    title = "1-D convolutional"
    spec_type = Conv1dSpec


# ---------------------------------------------------------------- ready-made


def conv1d_sensor(
    in_channels: int = 6,
    n_classes: int = 6,
    *,
    length: int = 128,
    activation: str | None = None,
    channel_divisor: int = CHANNEL_DIVISOR,
) -> Conv1dSpace:
    """For windows of 128 to 256 samples of a few sensors: three stages of one to three blocks.

    Args:
        in_channels: of the series: 6 of an accelerometer and a gyroscope.
        n_classes: outputs.
        length: of the series, in samples.
        activation: for the whole network instead of relu.
        channel_divisor: channels are rounded to multiples of it.
    """
    act = activation or "relu"
    return Conv1dSpace(
        "conv1d-sensor",
        Conv1dSpec(
            in_channels=in_channels,
            n_classes=n_classes,
            resolutions=(length,),
            width_mults=(0.5, 0.75, 1.0),
            stem_channels=32,
            stem_stride=2,
            stem_kernel_size=5,
            stem_activation=act,
            stages=[
                StageSpec(
                    channels=channels,
                    stride=stride,
                    depths=(1, 2, 3),
                    kernel_sizes=(3, 5, 9),
                    expand_ratios=(0.5, 1),
                    activations=(act,),
                )
                for channels, stride in ((32, 1), (48, 2), (64, 2))
            ],
            channel_divisor=channel_divisor,
        ),
    )


def conv1d_keyword(
    in_channels: int = 40,
    n_classes: int = 12,
    *,
    length: int = 101,
    activation: str | None = None,
    channel_divisor: int = CHANNEL_DIVISOR,
) -> Conv1dSpace:
    """For one second of sound as features over time: three stages of one or two blocks of growing kernels.

    The largest network with one block a stage is MatchboxNet-3x2x64 (Majumdar & Ginsburg, 2020, table 1) without the
    dilated convolution of its end. Features, not samples, are what it takes: 40 numbers every 10 ms are a fortieth of
    the positions of 16,000 samples a second, at which most of a network's work would be in its first layers.

    Args:
        in_channels: features of a moment: mel-frequency cepstral coefficients, or energies of mel bands.
        n_classes: outputs.
        length: moments; 101 of one second, every 10 ms.
        activation: for the whole network instead of relu.
        channel_divisor: channels are rounded to multiples of it.
    """
    act = activation or "relu"
    return Conv1dSpace(
        "conv1d-keyword",
        Conv1dSpec(
            in_channels=in_channels,
            n_classes=n_classes,
            resolutions=(length,),
            width_mults=(0.5, 0.75, 1.0),
            stem_channels=128,
            stem_stride=2,
            stem_kernel_size=11,
            stem_activation=act,
            stages=[
                StageSpec(
                    channels=64,
                    stride=1,
                    depths=(1, 2),
                    kernel_sizes=kernel_sizes,
                    expand_ratios=(0.5, 1),
                    activations=(act,),
                )
                for kernel_sizes in ((5, 9, 13), (7, 11, 15), (9, 13, 17))
            ],
            head_channels=128,
            head_activation=act,
            channel_divisor=channel_divisor,
        ),
    )
