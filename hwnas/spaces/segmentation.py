"""Networks that say of every pixel of an image what it is, with elastic dimensions.

A network is a stem, stages of inverted residuals that shrink the image, stages of `hourglass` blocks that see more and
more of it while their outputs keep its size, and a `mask_head` with logits of every pixel. Their depth, kernel sizes
and expand ratios are elastic as those of Once-for-All (Cai et al., 2020, section 3), and so is the resolution: logits
have the size of the images that a network takes, and the task brings them to that of the masks. This module knows
attributes of blocks; never torch, devices or weights.
"""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import dataclass
from functools import partial

from hwnas.errors import SpaceError
from hwnas.spaces import _checks as check
from hwnas.spaces._geometry import make_divisible
from hwnas.spaces.mobilenet import SE_DIVISOR
from hwnas.spaces.network import CHANNEL_DIVISOR, Asked, NetworkSpec, Part
from hwnas.spaces.staged import StagedSpace
from hwnas.spaces.stages import ACTIVATIONS, stages_alike
from hwnas.types import Option


@dataclass(frozen=True, kw_only=True)
class SegmentationSpec(NetworkSpec):
    """The definition of a space of networks for segmentation.

    Attributes:
        reductions: one for each stage: 1 for inverted residuals, more for hourglasses, which compute at the size of
            their stage divided by it.
        head_channels: of the head, at width 1.0.
        head_activation: of the head.
        se_ratio: channels inside squeeze-and-excitation over hidden channels, then rounded to 8.

    Raises:
        SpaceError: a value that cannot be, no options, or an option twice; not one reduction for each stage, or a stage
            of hourglasses with a stride.
    """

    every_position = True

    stem_stride: int = 2
    stem_activation: str = "relu6"
    reductions: Sequence[int]
    head_channels: int
    head_activation: str = "relu6"
    se_ratio: float = 0.25

    def __post_init__(self) -> None:
        super().__post_init__()
        if not isinstance(self.reductions, list | tuple):
            raise SpaceError(f"reductions is {self.reductions!r}, but must be whole numbers, one for each stage")
        self._keep(
            reductions=tuple(map(partial(check.integer, "reduction of a stage"), self.reductions)),
            head_channels=check.integer("head_channels", self.head_channels),
            head_activation=check.member("head_activation", self.head_activation, of=ACTIVATIONS),
            se_ratio=check.positive("se_ratio", self.se_ratio),
        )
        if len(self.reductions) != len(self.stages):
            raise SpaceError(
                f"there are {len(self.reductions)} reductions for {len(self.stages)} stages; give one each, 1 for "
                "inverted residuals"
            )
        for i, (stage, reduction) in enumerate(zip(self.stages, self.reductions, strict=True)):
            if reduction > 1 and stage.stride > 1:
                raise SpaceError(
                    f"stage {i} has the reduction {reduction} and the stride {stage.stride}; what leaves hourglasses "
                    "has the size of what enters them: give it the stride 1, or the reduction 1"
                )

    def block(self, asked: Asked) -> Part:
        reduction = self.reductions[asked.stage]
        attributes: dict[str, Option] = {
            "activation": asked.activation,
            "hidden_channels": asked.hidden_channels,
            "kernel_size": asked.kernel_size,
            "se_channels": make_divisible(asked.hidden_channels * self.se_ratio, SE_DIVISOR) if asked.se else 0,
        }
        if reduction > 1:
            return "hourglass", {**attributes, "reduction": reduction}
        return "mbconv", {**attributes, "stride": asked.stride}

    def head(self, channels: tuple[int, ...]) -> Part:
        (hidden,) = channels
        return "mask_head", {"activation": self.head_activation, "hidden_channels": hidden}

    @property
    def inside_head(self) -> tuple[int, ...]:
        return (self.head_channels,)


class SegmentationSpace(StagedSpace):
    """Networks for segmentation with elastic resolution, width, depth, kernel size, expand ratio and precision.

    Choices and slots are those of `StagedSpace`, its definition is a `SegmentationSpec`; expand ratios multiply the
    channels that enter a block. Outputs are (classes, H, W) logits, of the size of the images that are taken.
    """

    kind = "segmentation"
    title = "segmentation"
    spec_type = SegmentationSpec


# ---------------------------------------------------------------- ready-made


def segment_tiny(
    in_channels: int = 3,
    n_classes: int = 2,
    *,
    activation: str | None = None,
    se: bool | None = None,
    channel_divisor: int = CHANNEL_DIVISOR,
) -> SegmentationSpace:
    """For images of 32 to 64 pixels: a stage of inverted residuals, two of hourglasses, of one to three blocks.

    Args:
        in_channels: of the input.
        n_classes: of pixels.
        activation: for the whole network instead of relu6.
        se: squeeze-and-excitation in all blocks.
        channel_divisor: channels are rounded to multiples of it.
    """
    return _make(
        "segment-tiny",
        (in_channels, n_classes),
        resolutions=(32, 48, 64),
        stages=((16, 2, 1), (24, 1, 2), (32, 1, 4)),
        depths=(1, 2, 3),
        kernel_sizes=(3, 5),
        head_channels=32,
        style=(activation, se, channel_divisor),
    )


def segment_mobile(
    in_channels: int = 3,
    n_classes: int = 21,
    *,
    activation: str | None = None,
    se: bool | None = None,
    channel_divisor: int = CHANNEL_DIVISOR,
) -> SegmentationSpace:
    """For images of 160 to 224 pixels: a stage of inverted residuals, three of hourglasses, of two to four blocks.

    Args:
        in_channels: of the input.
        n_classes: of pixels.
        activation: for the whole network instead of relu6.
        se: squeeze-and-excitation in all blocks.
        channel_divisor: channels are rounded to multiples of it.
    """
    return _make(
        "segment-mobile",
        (in_channels, n_classes),
        resolutions=(160, 192, 224),
        stages=((24, 2, 1), (32, 1, 2), (48, 1, 4), (64, 1, 8)),
        depths=(2, 3, 4),
        kernel_sizes=(3, 5, 7),
        head_channels=64,
        style=(activation, se, channel_divisor),
    )


def _make(
    name: str,
    sizes: tuple[int, int],
    *,
    resolutions: Sequence[int],
    stages: Sequence[tuple[int, int, int]],
    depths: tuple[int, ...],
    kernel_sizes: tuple[int, ...],
    head_channels: int,
    style: tuple[str | None, bool | None, int],
) -> SegmentationSpace:
    """A space whose stages differ in (channels, stride, reduction) alone."""
    act = style[0] or "relu6"
    return SegmentationSpace(
        name,
        SegmentationSpec(
            in_channels=sizes[0],
            n_classes=sizes[1],
            resolutions=resolutions,
            stem_channels=16,
            stem_activation=act,
            stages=stages_alike(
                [(channels, stride, depths, kernel_sizes) for channels, stride, _ in stages],
                activation=act,
                se=bool(style[1]),
            ),
            reductions=[reduction for _, _, reduction in stages],
            head_channels=head_channels,
            head_activation=act,
            channel_divisor=style[2],
        ),
    )
