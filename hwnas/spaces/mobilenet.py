"""Networks of inverted residuals with elastic dimensions (MobileNetV2/V3; Once-for-All, Cai et al., 2020, section 3).

A network is a stem convolution, stages of `mbconv` blocks, and a head. This module knows attributes of blocks; never
torch, devices or weights.
"""

from __future__ import annotations

from dataclasses import dataclass
from typing import ClassVar

from hwnas.spaces import _checks as check
from hwnas.spaces._geometry import make_divisible
from hwnas.spaces.mobilenet_kinds import SE_GATES, SIGMOID
from hwnas.spaces.network import Asked, NetworkSpec, Part
from hwnas.spaces.staged import StagedSpace
from hwnas.spaces.stages import ACTIVATIONS

SE_DIVISOR = 8  # of the channels inside squeeze-and-excitation, whatever the network's own divisor


@dataclass(frozen=True, kw_only=True)
class MobileNetSpec(NetworkSpec):
    """The definition of a MobileNet-like space: beside what every space of stages has, a head with layers of its own.

    The stem has kernel size 3.

    Attributes:
        head_channels: of the head's convolution, at width 1.0.
        head_features: of the head's hidden layer, at width 1.0; 0 for none.
        head_activation: of the head.
        se_ratio: channels inside squeeze-and-excitation over hidden channels, then rounded to 8.
        se_gate: of squeeze-and-excitation: `sigmoid` or `hard_sigmoid`.

    Raises:
        SpaceError: a value that cannot be, no options, or an option twice.
    """

    later: ClassVar[frozenset[str]] = frozenset({"se_gate"})

    stem_stride: int = 2
    stem_activation: str = "relu6"
    head_channels: int
    head_features: int = 0
    head_activation: str = "relu6"
    se_ratio: float = 0.25
    se_gate: str = SIGMOID

    def __post_init__(self) -> None:
        super().__post_init__()
        self._keep(
            head_channels=check.integer("head_channels", self.head_channels),
            head_features=check.integer("head_features", self.head_features, at_least=0),
            head_activation=check.member("head_activation", self.head_activation, of=ACTIVATIONS),
            se_ratio=check.positive("se_ratio", self.se_ratio),
            se_gate=check.member("se_gate", self.se_gate, of=SE_GATES),
        )

    def block(self, asked: Asked) -> Part:
        return "mbconv", {
            "activation": asked.activation,
            "hidden_channels": asked.hidden_channels,
            "kernel_size": asked.kernel_size,
            "se_channels": make_divisible(asked.hidden_channels * self.se_ratio, SE_DIVISOR) if asked.se else 0,
            "se_gate": self.se_gate if asked.se else SIGMOID,  # of none: the same block, whatever gate others have
            "stride": asked.stride,
        }

    def head(self, channels: tuple[int, ...]) -> Part:
        hidden, features = channels
        return "head", {"activation": self.head_activation, "features": features, "hidden_channels": hidden}

    @property
    def inside_head(self) -> tuple[int, ...]:
        return self.head_channels, self.head_features


class MobileNetSpace(StagedSpace):
    """A MobileNet-like space: elastic resolution, width, depth, kernel size, expand ratio, precision and more.

    Choices and slots are those of `StagedSpace`, its definition is a `MobileNetSpec`; expand ratios multiply the
    channels that enter a block.
    """

    kind = "mobilenet"
    title = "MobileNet"
    spec_type = MobileNetSpec
