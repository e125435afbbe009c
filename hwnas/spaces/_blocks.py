"""What stands at each place of a MobileNet-like network when its options are chosen.

This module knows blocks and their attributes: no encodings, no indices.
"""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from dataclasses import dataclass
from typing import Any

from hwnas.spaces._geometry import Channels, Geometry, make_divisible
from hwnas.spaces._layout import Place, block_name
from hwnas.types import Block, Option

STEM_KERNEL_SIZE = 3
SE_DIVISOR = 8

Chosen = Mapping[str, Any]  # dimension name -> the option taken


@dataclass(frozen=True, slots=True, kw_only=True)
class Style:
    """What is the same in every network of a space."""

    n_classes: int
    stem_activation: str
    head_activation: str
    se_ratio: float


class BlockMaker:
    """Makes the block of a place; shapes are worked out once for each resolution and width multiplier.

    Raises:
        SpaceError: a resolution is too small for the strides.
    """

    def __init__(
        self, geometry: Geometry, style: Style, *, resolutions: Sequence[int], width_mults: Sequence[float]
    ) -> None:
        self._geometry = geometry
        self._style = style
        self._stages = geometry.stages
        self._channels = {w: geometry.channels(w) for w in width_mults}
        self._sizes = {r: geometry.sizes(r) for r in resolutions}

    def make(self, place: Place, chosen: Chosen) -> Block | None:
        """The block of a place, None if these options leave it empty; `chosen` may hold other dimensions too."""
        if not self._present(place, chosen):
            return None
        in_shape = self._entering(place, chosen)
        precision = self._precision(place.stage, place.block, chosen)
        channels, sizes = self._channels[chosen["width_mult"]], self._sizes[chosen["resolution"]]
        if place.role == "head":
            out_shape: tuple[int, ...] = (self._style.n_classes,)
            attributes = self._head(channels)
        elif place.role == "stem":
            out_shape = (channels.stem, sizes[1], sizes[1])
            attributes = self._stem()
        else:
            out_shape = (channels.stages[place.stage], sizes[place.stage + 2], sizes[place.stage + 2])
            attributes = self._mbconv(place, in_shape[0], chosen)
        return Block(
            kind="conv" if place.role == "stem" else place.role,
            in_shape=in_shape,
            out_shape=out_shape,
            precision=precision,
            attributes=tuple(sorted(attributes.items())),
        )

    def _present(self, place: Place, chosen: Chosen) -> bool:
        if not 0 <= place.stage < len(self._stages) or place.block < min(self._stages[place.stage].depths):
            return True
        return bool(place.block < chosen[f"stages.{place.stage}.depth"])

    def _entering(self, place: Place, chosen: Chosen) -> tuple[int, ...]:
        """(C, H, W) of the tensor that enters a place."""
        sizes = self._sizes[chosen["resolution"]]  # sizes[0] enters the stem, sizes[1] stage 0, ...
        if place.stage < 0:
            return (self._geometry.in_channels, sizes[0], sizes[0])  # whatever the width multiplier
        size = sizes[place.stage + 1] if place.block == 0 else sizes[place.stage + 2]
        channels = self._channels[chosen["width_mult"]]
        return (self._geometry.entering(channels, place.stage, place.block), size, size)

    def _stem(self) -> dict[str, Option]:
        return {
            "activation": self._style.stem_activation,
            "kernel_size": STEM_KERNEL_SIZE,
            "stride": self._geometry.stem_stride,
        }

    def _head(self, channels: Channels) -> dict[str, Option]:
        return {
            "activation": self._style.head_activation,
            "features": channels.features,
            "hidden_channels": channels.head,
        }

    def _mbconv(self, place: Place, in_channels: int, chosen: Chosen) -> dict[str, Option]:
        stage, name = f"stages.{place.stage}", f"stages.{place.stage}.blocks.{place.block}"
        hidden = self._geometry.hidden(in_channels, chosen[f"{name}.expand_ratio"])
        return {
            "activation": chosen[f"{stage}.activation"],
            "hidden_channels": hidden,
            "kernel_size": chosen[f"{name}.kernel_size"],
            "se_channels": make_divisible(hidden * self._style.se_ratio, SE_DIVISOR) if chosen[f"{stage}.se"] else 0,
            "stride": self._stages[place.stage].stride if place.block == 0 else 1,
        }

    def _precision(self, stage: int, block: int, chosen: Chosen) -> str:
        return str(chosen[f"{block_name(stage, block, n_stages=len(self._stages))}.precision"])
