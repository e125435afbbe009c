"""The elastic dimensions of one stage of a network.

This module knows plain values: no choices, no blocks.
"""

from __future__ import annotations

from collections.abc import Iterable, Mapping
from dataclasses import dataclass, fields
from functools import partial
from typing import Any

from hwnas.spaces import _checks as check
from hwnas.spaces._serialize import check_keys

# options; `hwnas.spaces.parts` has their operators
ACTIVATIONS = ("relu", "relu6", "hswish", "silu")


@dataclass(frozen=True, slots=True, kw_only=True)
class StageSpec:
    """A run of blocks with the same output channels; each tuple with several options is elastic.

    Options are kept in ascending order, whatever the order they are given in (activations: as given).

    Attributes:
        channels: output channels at width 1.0, before rounding.
        stride: of the first block; the others have stride 1.
        depths: numbers of blocks.
        kernel_sizes: of the convolutions over space, odd; per block.
        expand_ratios: channels inside a block over those that enter it (or leave it: the space says which); per block.
        activations: for all blocks of the stage.
        se: squeeze-and-excitation in all blocks of the stage.

    Raises:
        SpaceError: a value that cannot be, an empty tuple, or an option twice.
    """

    channels: int
    stride: int
    depths: tuple[int, ...]
    kernel_sizes: tuple[int, ...]
    expand_ratios: tuple[float, ...]
    activations: tuple[str, ...] = ("relu6",)
    se: tuple[bool, ...] = (False,)

    def __post_init__(self) -> None:
        checked: dict[str, object] = {
            "channels": check.integer("channels of a stage", self.channels),
            "stride": check.integer("stride of a stage", self.stride),
            "depths": _ascending("depths of a stage", self.depths, each=check.integer),
            "kernel_sizes": _ascending("kernel_sizes of a stage", self.kernel_sizes, each=check.odd),
            "expand_ratios": _ascending("expand_ratios of a stage", self.expand_ratios, each=check.ratio),
            "activations": check.options(
                "activations of a stage", self.activations, each=partial(check.member, of=ACTIVATIONS)
            ),
            "se": _ascending("se of a stage", self.se, each=check.boolean),
        }
        for name, value in checked.items():
            object.__setattr__(self, name, value)  # frozen for everybody else

    def to_json(self) -> dict[str, Any]:
        """The specification as JSON values."""
        values = {f.name: getattr(self, f.name) for f in fields(self)}
        return {name: list(v) if isinstance(v, tuple) else v for name, v in values.items()}

    @classmethod
    def from_json(cls, value: Mapping[str, Any]) -> StageSpec:
        """The inverse of `to_json`.

        Raises:
            SpaceError: a key is unknown or missing, or a value is wrong.
        """
        check_keys("stage", value, known=[f.name for f in fields(cls)])
        return cls(**value)


def stages_alike(
    rows: Iterable[tuple[int, int, tuple[int, ...], tuple[int, ...]]], *, activation: str, se: bool
) -> list[StageSpec]:
    """Stages of one activation that expand 3, 4 or 6 times, as Once-for-All's do (Cai et al., 2020, section 4.1).

    Args:
        rows: channels, stride, depths and kernel sizes of each.
        activation: of all.
        se: squeeze-and-excitation in all blocks.
    """
    return [
        StageSpec(
            channels=channels,
            stride=stride,
            depths=depths,
            kernel_sizes=kernel_sizes,
            expand_ratios=(3, 4, 6),
            activations=(activation,),
            se=(se,),
        )
        for channels, stride, depths, kernel_sizes in rows
    ]


def _ascending(what: str, values: Iterable[object], *, each: Any) -> tuple[Any, ...]:
    return tuple(sorted(check.options(what, values, each=each)))
