"""Channels and sizes of a network of stages under each width multiplier and resolution.

This module knows arithmetic: no choices, no slots. Stage -1 is the stem, the stage after the last is the head.
"""

from __future__ import annotations

import math
from collections.abc import Sequence
from dataclasses import dataclass
from typing import Literal

from hwnas.errors import SpaceError
from hwnas.spaces.stages import StageSpec


def make_divisible(channels: float, divisor: int) -> int:
    """The multiple of `divisor` nearest to `channels`, never more than 10 % below it (Sandler et al., 2018)."""
    rounded = max(divisor, int(channels + divisor / 2) // divisor * divisor)  # halves upwards
    return rounded + divisor if rounded < 0.9 * channels else rounded


@dataclass(frozen=True, slots=True, kw_only=True)
class Channels:
    """Channels of every part at one width multiplier; `head` as in `Geometry.head_channels`."""

    stem: int
    stages: tuple[int, ...]
    head: tuple[int, ...]


@dataclass(frozen=True, slots=True, kw_only=True)
class Geometry:
    """What all shapes follow from.

    Attributes:
        in_channels: of the input.
        n_classes: outputs of the head.
        stem_channels: at width 1.0.
        stem_stride: of the stem.
        stages: in order.
        divisor: channels are multiples of it.
        head_channels: those inside the head, at width 1.0; 0 stays 0: a layer that is not there.
        expands: what an expand ratio multiplies: the channels that enter a block, or those that leave it.
        axes: positions have: 2 of images, which are square, or 1 of series.
    """

    in_channels: int
    n_classes: int
    stem_channels: int
    stem_stride: int
    stages: tuple[StageSpec, ...]
    divisor: int
    head_channels: tuple[int, ...] = ()
    expands: Literal["in", "out"] = "in"
    axes: Literal[1, 2] = 2

    def shape(self, channels: int, size: int) -> tuple[int, ...]:
        """Of a tensor: (C, H, W) of an image, (C, L) of a series."""
        return (channels, *(size,) * self.axes)

    def channels(self, width_mult: float) -> Channels:
        """Channels of every part at a width multiplier."""

        def scale(channels: int) -> int:
            return make_divisible(channels * width_mult, self.divisor)

        return Channels(
            stem=scale(self.stem_channels),
            stages=tuple(scale(s.channels) for s in self.stages),
            head=tuple(scale(c) if c else 0 for c in self.head_channels),
        )

    def sizes(self, resolution: int) -> tuple[int, ...]:
        """Sizes of the tensors that enter the stem, each stage and the head: heights in pixels, or lengths of series.

        Raises:
            SpaceError: fewer positions than the strides divide by.
        """
        strides = (self.stem_stride, *(s.stride for s in self.stages))
        if resolution < math.prod(strides):
            size = "resolution" if self.axes > 1 else "length"
            raise SpaceError(
                f"{size} {resolution} is too small for strides that shrink it {math.prod(strides)} times; "
                f"use {size}s from {math.prod(strides)}, or smaller strides"
            )
        sizes = [resolution]
        for stride in strides:
            sizes.append(-(-sizes[-1] // stride))  # ceil: what symmetric padding gives for odd kernels
        return tuple(sizes)

    def entering(self, channels: Channels, stage: int, block: int) -> int:
        """Channels of the tensor that enters a block of a stage, or the head."""
        if block > 0:
            return channels.stages[stage]
        return channels.stages[stage - 1] if stage > 0 else channels.stem

    def expanded(self, channels: Channels, stage: int, block: int) -> int:
        """Channels of a block that its expand ratio multiplies."""
        return channels.stages[stage] if self.expands == "out" else self.entering(channels, stage, block)

    def hidden(self, expanded: int, expand_ratio: float) -> int:
        """Channels inside a block."""
        return make_divisible(expanded * expand_ratio, self.divisor)

    def check_distinct(self, width_mults: Sequence[float]) -> None:
        """Refuse two options with the same effect: they would make one network out of two encodings.

        Raises:
            SpaceError: two widths give the same channels everywhere, or two expand ratios the same somewhere.
        """
        seen: dict[Channels, float] = {}
        for width in width_mults:
            channels = self.channels(width)
            other = seen.setdefault(channels, width)
            if other != width:
                raise SpaceError(
                    f"width_mults {other:g} and {width:g} give the same channels everywhere, rounded to multiples of "
                    f"{self.divisor}; drop one or lower channel_divisor"
                )
            for s, stage in enumerate(self.stages):
                for b in range(min(2, max(stage.depths))):  # later blocks have the shapes of the second
                    self._check_hidden(s, self.expanded(channels, s, b))

    def _check_hidden(self, stage: int, expanded: int) -> None:
        seen: dict[int, float] = {}
        for ratio in self.stages[stage].expand_ratios:
            hidden = self.hidden(expanded, ratio)
            other = seen.setdefault(hidden, ratio)
            if other != ratio:
                raise SpaceError(
                    f"expand_ratios {other:g} and {ratio:g} of stage {stage} both give {hidden} hidden channels from "
                    f"{expanded}; drop one or lower channel_divisor ({self.divisor})"
                )
