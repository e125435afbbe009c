"""Networks of inverted residuals with elastic dimensions (MobileNetV2/V3; Once-for-All, Cai et al., 2020, section 3).

A network is a stem convolution, stages of `mbconv` blocks, and a head. This module knows attributes of blocks; never
torch, devices or weights.
"""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import dataclass
from typing import Any

from hwnas.spaces import _checks as check
from hwnas.spaces._blocks import Asked, Part
from hwnas.spaces._geometry import Geometry, make_divisible
from hwnas.spaces.staged import StagedSpace
from hwnas.spaces.stages import ACTIVATIONS, StageSpec
from hwnas.types import PRECISIONS

STEM_KERNEL_SIZE = 3
SE_DIVISOR = 8  # of the channels inside squeeze-and-excitation, whatever the network's own divisor


@dataclass(frozen=True, slots=True, kw_only=True)
class _MobileNet:
    """What is the same in every network of a space."""

    stem_activation: str
    stem_stride: int
    head_activation: str
    se_ratio: float

    def stem(self) -> Part:
        return "conv", {
            "activation": self.stem_activation,
            "kernel_size": STEM_KERNEL_SIZE,
            "stride": self.stem_stride,
        }

    def block(self, asked: Asked) -> Part:
        return "mbconv", {
            "activation": asked.activation,
            "hidden_channels": asked.hidden_channels,
            "kernel_size": asked.kernel_size,
            "se_channels": make_divisible(asked.hidden_channels * self.se_ratio, SE_DIVISOR) if asked.se else 0,
            "stride": asked.stride,
        }

    def head(self, channels: tuple[int, ...]) -> Part:
        hidden, features = channels
        return "head", {"activation": self.head_activation, "features": features, "hidden_channels": hidden}


class MobileNetSpace(StagedSpace):
    """A MobileNet-like space: elastic resolution, width, depth, kernel size, expand ratio, precision and more.

    Choices and slots are those of `StagedSpace`; expand ratios multiply the channels that enter a block.

    Args:
        name: of the space.
        in_channels: of the input.
        n_classes: outputs of the head.
        resolutions: heights and widths of the input, in pixels.
        width_mults: factors of all channels, which are then rounded to `channel_divisor`.
        stem_channels: at width 1.0; the stem has kernel size 3.
        stem_stride: of the stem.
        stem_activation: of the stem.
        stages: in order, at least one.
        head_channels: of the head's convolution, at width 1.0.
        head_features: of the head's hidden layer, at width 1.0; 0 for none.
        head_activation: of the head.
        precisions: which each block may have: one of floats at most, and one of integers.
        se_ratio: channels inside squeeze-and-excitation over hidden channels, then rounded to 8.
        channel_divisor: channels are multiples of it.

    Raises:
        SpaceError: a wrong value, more strides than the smallest resolution has pixels for, or options
            that make the same network twice.
    """

    kind = "mobilenet"
    title = "MobileNet"

    def __init__(
        self,
        name: str,
        *,
        in_channels: int,
        n_classes: int,
        resolutions: Sequence[int],
        width_mults: Sequence[float] = (1.0,),
        stem_channels: int,
        stem_stride: int = 2,
        stem_activation: str = "relu6",
        stages: Sequence[StageSpec],
        head_channels: int,
        head_features: int = 0,
        head_activation: str = "relu6",
        precisions: Sequence[str] = PRECISIONS,
        se_ratio: float = 0.25,
        channel_divisor: int = 8,
    ) -> None:
        self.stem_channels = check.integer("stem_channels", stem_channels)
        self.stem_stride = check.integer("stem_stride", stem_stride)
        self.stem_activation = check.member("stem_activation", stem_activation, of=ACTIVATIONS)
        self.head_channels = check.integer("head_channels", head_channels)
        self.head_features = check.integer("head_features", head_features, at_least=0)
        self.head_activation = check.member("head_activation", head_activation, of=ACTIVATIONS)
        self.se_ratio = check.positive("se_ratio", se_ratio)
        geometry = Geometry(
            in_channels=check.integer("in_channels", in_channels),
            n_classes=check.integer("n_classes", n_classes),
            stem_channels=self.stem_channels,
            stem_stride=self.stem_stride,
            stages=tuple(stages),
            divisor=check.integer("channel_divisor", channel_divisor),
            head_channels=(self.head_channels, self.head_features),
        )
        family = _MobileNet(
            stem_activation=self.stem_activation,
            stem_stride=self.stem_stride,
            head_activation=self.head_activation,
            se_ratio=self.se_ratio,
        )
        super().__init__(
            name, geometry, family, resolutions=resolutions, width_mults=width_mults, precisions=precisions
        )

    def arguments(self) -> dict[str, Any]:
        """The arguments it was made with, as JSON values."""
        return {
            "in_channels": self.in_channels,
            "n_classes": self.n_classes,
            "resolutions": list(self.resolutions),
            "width_mults": list(self.width_mults),
            "stem_channels": self.stem_channels,
            "stem_stride": self.stem_stride,
            "stem_activation": self.stem_activation,
            "stages": [s.to_json() for s in self.stages],
            "head_channels": self.head_channels,
            "head_features": self.head_features,
            "head_activation": self.head_activation,
            "precisions": list(self.precisions),
            "se_ratio": self.se_ratio,
            "channel_divisor": self.channel_divisor,
        }
