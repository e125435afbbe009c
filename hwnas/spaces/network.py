"""What a space of stages is defined by: values that hold for all its networks, and which block stands where.

This module knows values: no choices, and no kind of block but the convolution that a network begins with.
"""

from __future__ import annotations

from abc import ABC, abstractmethod
from collections.abc import Mapping, Sequence
from dataclasses import dataclass, fields
from functools import partial
from typing import Any, ClassVar, Literal, Self

from hwnas.errors import SpaceError
from hwnas.precisions import KNOWN, by_exactness, is_quantized
from hwnas.spaces import _checks as check
from hwnas.spaces._geometry import Geometry
from hwnas.spaces._serialize import check_keys
from hwnas.spaces.stages import ACTIVATIONS, StageSpec
from hwnas.types import PRECISIONS, Option

CHANNEL_DIVISOR = 8  # as published; some runtimes' int8 kernels want 16: `hwnas devices audit` tells
STEM_KERNEL_SIZE = 3

Part = tuple[str, Mapping[str, Option]]  # kind of a block, its attributes


@dataclass(frozen=True, slots=True, kw_only=True)
class Asked:
    """What a block inside a stage is to be.

    Attributes:
        stage: that it is in, from 0.
        hidden_channels: inside it, by its expand ratio.
        kernel_size: of its convolutions over space.
        stride: over the whole block.
        activation: of its stage.
        se: squeeze-and-excitation in its stage.
    """

    stage: int
    hidden_channels: int
    kernel_size: int
    stride: int
    activation: str
    se: bool


@dataclass(frozen=True, kw_only=True)
class NetworkSpec(ABC):
    """The definition of a space of stages, all but its name; each tuple with several options is elastic.

    A family adds what else its networks have, and says which block stands where; shapes and precision are not its
    business. Options are kept in ascending order, whatever the order they are given in.

    Attributes:
        expands: what an expand ratio multiplies: the channels that enter a block, or those that leave it.
        axes: positions have: 2 of images (C, H, W), 1 of series (C, L).
        every_position: the head gives outputs for each position of the input, (classes, H, W), rather than (classes,).
        later: names of fields that definitions leave out at their defaults: files of before have none of them.
        in_channels: of the input.
        n_classes: outputs of the head.
        resolutions: heights and widths of the input, in pixels; of series their lengths.
        width_mults: factors of all channels, which are then rounded to `channel_divisor`.
        stem_channels: at width 1.0.
        stem_stride: of the stem.
        stem_activation: of the stem.
        stages: in order, at least one.
        precisions: which each block may have: one of floats at most, and one of integers.
        channel_divisor: channels are multiples of it.

    Raises:
        SpaceError: a value that cannot be, no options, or an option twice.
    """

    expands: ClassVar[Literal["in", "out"]] = "in"
    axes: ClassVar[Literal[1, 2]] = 2
    every_position: ClassVar[bool] = False
    later: ClassVar[frozenset[str]] = frozenset()

    in_channels: int
    n_classes: int
    resolutions: Sequence[int]
    width_mults: Sequence[float] = (1.0,)
    stem_channels: int
    stem_stride: int
    stem_activation: str
    stages: Sequence[StageSpec]
    precisions: Sequence[str] = PRECISIONS
    channel_divisor: int = CHANNEL_DIVISOR

    def __post_init__(self) -> None:
        if not self.stages or not all(isinstance(s, StageSpec) for s in self.stages):
            raise SpaceError(f"stages must be one or more StageSpec, not {self.stages!r}")
        given = check.options("precisions", self.precisions, each=partial(check.member, of=tuple(KNOWN)))
        if len({is_quantized(p) for p in given}) < len(given):
            raise SpaceError(f"precisions {', '.join(given)}: a space has one of floats at most, and one of integers")
        self._keep(
            in_channels=check.integer("in_channels", self.in_channels),
            n_classes=check.integer("n_classes", self.n_classes),
            resolutions=tuple(sorted(check.options("resolutions", self.resolutions, each=check.integer))),
            width_mults=tuple(sorted(check.options("width_mults", self.width_mults, each=check.positive))),
            stem_channels=check.integer("stem_channels", self.stem_channels),
            stem_stride=check.integer("stem_stride", self.stem_stride),
            stem_activation=check.member("stem_activation", self.stem_activation, of=ACTIVATIONS),
            stages=tuple(self.stages),
            # ascending, as all options: the largest network computes in floats
            precisions=tuple(reversed(by_exactness(given))),
            channel_divisor=check.integer("channel_divisor", self.channel_divisor),
        )

    def _keep(self, **checked: object) -> None:
        """Values as they were checked; the specification is frozen for everybody else."""
        for name, value in checked.items():
            object.__setattr__(self, name, value)

    # ------------------------------------------------------------ which block stands where

    def stem(self) -> Part:
        """The first block: a convolution of kernel size 3, if the family has no other."""
        return "conv", {
            "activation": self.stem_activation,
            "kernel_size": STEM_KERNEL_SIZE,
            "stride": self.stem_stride,
        }

    @abstractmethod
    def block(self, asked: Asked) -> Part:
        """A block inside a stage."""

    @abstractmethod
    def head(self, channels: tuple[int, ...]) -> Part:
        """The last block; gets `inside_head` at the width multiplier."""

    @property
    def inside_head(self) -> tuple[int, ...]:
        """Channels inside the head at width 1.0; 0 stays 0: a layer that is not there."""
        return ()

    @property
    def geometry(self) -> Geometry:
        """What all shapes follow from."""
        return Geometry(
            in_channels=self.in_channels,
            n_classes=self.n_classes,
            stem_channels=self.stem_channels,
            stem_stride=self.stem_stride,
            stages=tuple(self.stages),
            divisor=self.channel_divisor,
            head_channels=self.inside_head,
            expands=self.expands,
            axes=self.axes,
        )

    # ------------------------------------------------------------ files

    def to_json(self) -> dict[str, Any]:
        """The specification as JSON values."""
        kept = [f.name for f in fields(self) if f.name not in self.later or getattr(self, f.name) != f.default]
        values = {name: getattr(self, name) for name in kept}
        plain = {name: list(v) if isinstance(v, tuple) else v for name, v in values.items()}
        return {**plain, "stages": [s.to_json() for s in self.stages]}

    @classmethod
    def from_json(cls, value: Mapping[str, Any], *, title: str) -> Self:
        """The inverse of `to_json`.

        Args:
            value: what `to_json` gave.
            title: of the family, for errors.

        Raises:
            SpaceError: a key is unknown or missing, or a value is wrong.
        """
        # `to_json` writes what the class takes, so its fields are the one list of what a file may hold
        known = [f.name for f in fields(cls) if f.name in value or f.name not in cls.later]
        check_keys(f"{title} space", value, known=known)
        if not isinstance(value["stages"], list):
            raise SpaceError(f"stages of a {title} space must be a list, not {value['stages']!r}")
        return cls(**{**value, "stages": [StageSpec.from_json(s) for s in value["stages"]]})
