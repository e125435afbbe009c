"""What stands at each place of a network of stages when its options are chosen.

This module knows shapes, and asks the family what it puts there: no kind of block, no encodings, no indices.
"""

from __future__ import annotations

from collections.abc import Mapping
from typing import Any

from hwnas.spaces._geometry import Channels
from hwnas.spaces._layout import Place, block_name
from hwnas.spaces.network import Asked, NetworkSpec
from hwnas.types import Block

Chosen = Mapping[str, Any]  # dimension name -> the option taken


class BlockMaker:
    """Makes the block of a place; shapes are worked out once for each resolution and width multiplier.

    Raises:
        SpaceError: a resolution is too small for the strides.
    """

    def __init__(self, spec: NetworkSpec) -> None:
        geometry = spec.geometry
        self._geometry = geometry
        self._spec = spec
        self._stages = geometry.stages
        self._channels = {w: geometry.channels(w) for w in spec.width_mults}
        self._sizes = {r: geometry.sizes(r) for r in spec.resolutions}

    def make(self, place: Place, chosen: Chosen) -> Block | None:
        """The block of a place, None if these options leave it empty; `chosen` may hold other dimensions too."""
        if not self._present(place, chosen):
            return None
        in_shape = self._entering(place, chosen)
        channels, sizes = self._channels[chosen["width_mult"]], self._sizes[chosen["resolution"]]
        if place.role == "head":
            n_classes = self._geometry.n_classes
            out_shape = self._geometry.shape(n_classes, sizes[0]) if self._spec.every_position else (n_classes,)
            kind, attributes = self._spec.head(channels.head)
        elif place.role == "stem":
            out_shape = self._geometry.shape(channels.stem, sizes[1])
            kind, attributes = self._spec.stem()
        else:  # what leaves a stage enters the next one, or the head: see `_entering`
            out_shape = self._geometry.shape(channels.stages[place.stage], sizes[place.stage + 2])
            kind, attributes = self._spec.block(self._asked(place, channels, chosen))
        return Block(
            kind=kind,
            in_shape=in_shape,
            out_shape=out_shape,
            precision=self._precision(place.stage, place.block, chosen),
            attributes=tuple(sorted(attributes.items())),
        )

    def _present(self, place: Place, chosen: Chosen) -> bool:
        # stem, head and the blocks that every depth has: nothing decides about them, and `chosen` may hold no depth
        if not 0 <= place.stage < len(self._stages) or place.block < min(self._stages[place.stage].depths):
            return True
        return bool(place.block < chosen[f"stages.{place.stage}.depth"])

    def _entering(self, place: Place, chosen: Chosen) -> tuple[int, ...]:
        """(C, H, W), or (C, L), of the tensor that enters a place."""
        sizes = self._sizes[chosen["resolution"]]  # sizes[0] enters the stem, sizes[1] stage 0, ...
        if place.stage < 0:
            return self._geometry.shape(self._geometry.in_channels, sizes[0])  # whatever the width multiplier
        size = sizes[place.stage + 1] if place.block == 0 else sizes[place.stage + 2]  # the first block has the stride
        channels = self._channels[chosen["width_mult"]]
        return self._geometry.shape(self._geometry.entering(channels, place.stage, place.block), size)

    def _asked(self, place: Place, channels: Channels, chosen: Chosen) -> Asked:
        stage, name = f"stages.{place.stage}", f"stages.{place.stage}.blocks.{place.block}"
        expanded = self._geometry.expanded(channels, place.stage, place.block)
        return Asked(
            stage=place.stage,
            hidden_channels=self._geometry.hidden(expanded, chosen[f"{name}.expand_ratio"]),
            kernel_size=chosen[f"{name}.kernel_size"],
            stride=self._stages[place.stage].stride if place.block == 0 else 1,
            activation=chosen[f"{stage}.activation"],
            se=chosen[f"{stage}.se"],
        )

    def _precision(self, stage: int, block: int, chosen: Chosen) -> str:
        return str(chosen[f"{block_name(stage, block, n_stages=len(self._stages))}.precision"])
