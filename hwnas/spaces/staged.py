"""Spaces of networks made of a stem, stages of blocks and a head: what all such families have in common.

Resolution, width, and for each block presence, kernel size, expand ratio and precision are elastic. A family says which
blocks it puts at each place. This module knows no kind of block; never torch, devices or weights.
"""

from __future__ import annotations

from collections import ChainMap
from collections.abc import Mapping, Sequence
from dataclasses import replace
from typing import Any, ClassVar, Self

from hwnas.errors import SpaceError
from hwnas.spaces import _checks as check
from hwnas.spaces._blocks import BlockMaker
from hwnas.spaces._layout import make_layout
from hwnas.spaces._text import blocks_text
from hwnas.spaces.base import Space
from hwnas.spaces.network import NetworkSpec
from hwnas.spaces.stages import StageSpec
from hwnas.types import Block, IntArray


class StagedSpace(Space):
    """A family of networks of stages.

    A dimension with several options is a choice, with one it is fixed: `resolution`, `width_mult`,
    `stem.precision`, `stages.0.depth`, `stages.0.activation`, `stages.0.se`,
    `stages.0.blocks.1.kernel_size`, `.expand_ratio`, `.precision`, ..., `head.precision`. Choices of
    blocks beyond the stage's depth are switched off. Options stand in ascending order (int8 before
    fp32), so `largest` has the last option everywhere.

    Slots are `stem`, `stages.<s>.blocks.<b>` and `head`. Networks are told apart by their named blocks.

    Args:
        name: of the space.
        spec: its definition.

    Attributes:
        title: of the family, for errors.
        spec_type: of the family's definitions.
        in_channels: of the input; likewise `n_classes`, outputs of the head.
        resolutions: heights and widths of the input, in pixels; of series their lengths.
        width_mults: factors of all channels, which are then rounded to `channel_divisor`.
        stages: in order, at least one.
        precisions: which each block may have: one of floats at most, and one of integers.
        channel_divisor: channels are multiples of it.
        activations: all that some network has.

    Raises:
        SpaceError: another family's definition, more strides than the smallest resolution has pixels for, or options
            that make the same network twice.
    """

    title: ClassVar[str]
    spec_type: ClassVar[type[NetworkSpec]]

    def __init__(self, name: str, spec: NetworkSpec) -> None:
        if not isinstance(spec, self.spec_type):
            raise SpaceError(f"{self.title} space {name!r} is defined by a {self.spec_type.__name__}, not {spec!r}")
        self.spec = spec
        self.in_channels, self.n_classes = spec.in_channels, spec.n_classes
        self.channel_divisor = spec.channel_divisor
        self.stages = tuple(spec.stages)
        self.resolutions, self.width_mults = tuple(spec.resolutions), tuple(spec.width_mults)
        self.precisions = tuple(spec.precisions)
        geometry = spec.geometry
        geometry.check_distinct(self.width_mults)
        # at any width: a family's activations do not depend on it
        ends = (spec.stem(), spec.head(geometry.channels(self.width_mults[-1]).head))
        at_ends = {str(attributes["activation"]) for _, attributes in ends if "activation" in attributes}
        self.activations = frozenset(at_ends.union(*(s.activations for s in self.stages)))
        self._maker = BlockMaker(spec)
        self._layout = make_layout(
            resolutions=self.resolutions,
            width_mults=self.width_mults,
            stages=self.stages,
            precisions=self.precisions,
        )
        super().__init__(name, choices=self._layout.choices, slots=self._layout.slots)

    def block_at(self, slot: int, options: Sequence[int]) -> Block | None:
        """The block of a slot when the choices in its `depends_on` have these option indices; None: absent."""
        choices = [self.choices[j] for j in self.slots[slot].depends_on]
        chosen = {c.name: c.options[i] for c, i in zip(choices, options, strict=True)}
        return self._maker.make(self._layout.places[slot], ChainMap[str, Any](chosen, self._layout.fixed))

    # ------------------------------------------------------------ related spaces

    def restrict(
        self,
        *,
        precisions: Sequence[str] | None = None,
        resolutions: Sequence[int] | None = None,
        width_mults: Sequence[float] | None = None,
        kernel_sizes: Sequence[int] | None = None,
    ) -> Self:
        """The sub-space with fewer options, under the same name; slots of real blocks keep their names.

        Args:
            precisions: what is kept, None for all; likewise `resolutions` and `width_mults`.
            kernel_sizes: of all stages; each keeps those of its own that are among them.

        Raises:
            SpaceError: an option that this space does not have, or none at all, or none for one of the stages.
        """
        changes: dict[str, Sequence[Any]] = {}
        if kernel_sizes is not None:
            changes["stages"] = self._stages_with(kernel_sizes)
        kept = {"precisions": precisions, "resolutions": resolutions, "width_mults": width_mults}
        for what, options in kept.items():
            if options is None:
                continue
            changes[what] = check.among(what, options, known=getattr(self, what), space=self.name)
        return self._changed(changes)

    def computed_in(self, names: Mapping[str, str]) -> Self:
        """The same space where its precisions have other names: of what a device computes instead.

        Args:
            names: precision -> the other; those that are absent stay.

        Raises:
            SpaceError: a name is not known.
        """
        return self._changed({"precisions": tuple(names.get(p, p) for p in self.precisions)})

    def _changed(self, changes: Mapping[str, Any]) -> Self:
        return type(self)(self.name, replace(self.spec, **changes))

    def _stages_with(self, kernel_sizes: Sequence[int]) -> list[StageSpec]:
        """The stages with fewer kernel sizes."""
        known = sorted({k for stage in self.stages for k in stage.kernel_sizes})
        wanted = check.among("kernel_sizes", kernel_sizes, known=known, space=self.name)
        kept = []
        for i, stage in enumerate(self.stages):
            sizes = [k for k in stage.kernel_sizes if k in wanted]
            if not sizes:
                raise SpaceError(
                    f"stage {i} of space {self.name!r} has the kernel sizes {', '.join(map(str, stage.kernel_sizes))}; "
                    f"of {', '.join(map(str, wanted))} none is left"
                )
            kept.append(replace(stage, kernel_sizes=tuple(sizes)))
        return kept

    # ------------------------------------------------------------ people and files

    def arguments(self) -> dict[str, Any]:
        """Its definition as JSON values."""
        return self.spec.to_json()

    @classmethod
    def from_arguments(cls, name: str, arguments: Mapping[str, Any]) -> Self:
        """The inverse of `arguments`.

        Raises:
            SpaceError: an argument is unknown, missing or wrong.
        """
        return cls(name, cls.spec_type.from_json(arguments, title=cls.title))

    def describe(self, encoding: IntArray) -> str:
        """The network's blocks, one a line: slot, operator, shapes, precision.

        Raises:
            SpaceError: as `decode`.
        """
        chosen = ChainMap[str, Any](self.decode(encoding), self._layout.fixed)
        size = f"{chosen['resolution']} {'px' if self.spec.axes == 2 else 'positions'}"
        title = f"{self.name}: {size}, width {chosen['width_mult']:g}"
        return f"{title}\n{blocks_text(self.named_blocks(encoding))}"
