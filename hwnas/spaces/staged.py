"""Spaces of networks made of a stem, stages of blocks and a head: what all such families have in common.

Resolution, width, and for each block presence, kernel size, expand ratio and precision are elastic. A family says which
blocks it puts at each place. This module knows no kind of block; never torch, devices or weights.
"""

from __future__ import annotations

import inspect
from abc import abstractmethod
from collections import ChainMap
from collections.abc import Mapping, Sequence
from functools import partial
from typing import Any, ClassVar, Self

from hwnas.errors import SpaceError
from hwnas.precisions import KNOWN, by_exactness, is_quantized
from hwnas.spaces import _checks as check
from hwnas.spaces._blocks import BlockMaker, Family
from hwnas.spaces._geometry import Geometry
from hwnas.spaces._layout import make_layout
from hwnas.spaces._serialize import check_keys
from hwnas.spaces._text import blocks_text
from hwnas.spaces.base import Space
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

    Attributes:
        title: of the family, for errors.
        in_channels: of the input; likewise `n_classes`, outputs of the head.
        resolutions: heights and widths of the input, in pixels.
        width_mults: factors of all channels, which are then rounded to `channel_divisor`.
        stages: in order, at least one.
        precisions: which each block may have: one of floats at most, and one of integers.
        channel_divisor: channels are multiples of it.
        activations: all that some network has.

    Raises:
        SpaceError: a wrong value, more strides than the smallest resolution has pixels for, or options
            that make the same network twice.
    """

    title: ClassVar[str]

    def __init__(
        self,
        name: str,
        geometry: Geometry,
        family: Family,
        *,
        resolutions: Sequence[int],
        width_mults: Sequence[float],
        precisions: Sequence[str],
    ) -> None:
        self.in_channels = geometry.in_channels
        self.n_classes = geometry.n_classes
        self.channel_divisor = geometry.divisor
        self.stages = geometry.stages
        if not self.stages or not all(isinstance(s, StageSpec) for s in self.stages):
            raise SpaceError(f"stages must be one or more StageSpec, not {self.stages!r}")
        self.resolutions = tuple(sorted(check.options("resolutions", resolutions, each=check.integer)))
        self.width_mults = tuple(sorted(check.options("width_mults", width_mults, each=check.positive)))
        given = check.options("precisions", precisions, each=partial(check.member, of=tuple(KNOWN)))
        if len({is_quantized(p) for p in given}) < len(given):
            raise SpaceError(f"precisions {', '.join(given)}: a space has one of floats at most, and one of integers")
        # ascending, as all options: the largest network computes in floats
        self.precisions = tuple(reversed(by_exactness(given)))
        geometry.check_distinct(self.width_mults)
        # at any width: a family's activations do not depend on it
        ends = (family.stem(), family.head(geometry.channels(self.width_mults[-1]).head))
        at_ends = {str(attributes["activation"]) for _, attributes in ends if "activation" in attributes}
        self.activations = frozenset(at_ends.union(*(s.activations for s in self.stages)))
        self._maker = BlockMaker(geometry, family, resolutions=self.resolutions, width_mults=self.width_mults)
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
        arguments = self.arguments()
        if kernel_sizes is not None:
            arguments["stages"] = self._stages_with(kernel_sizes)
        kept = {"precisions": precisions, "resolutions": resolutions, "width_mults": width_mults}
        for what, options in kept.items():
            if options is None:
                continue
            wanted = check.options(what, options, each=lambda _, option: option)
            wrong = [o for o in wanted if o not in arguments[what]]
            if wrong:
                raise SpaceError(
                    f"space {self.name!r} has no {wrong[0]!r} among its {what}; "
                    f"allowed: {', '.join(map(str, arguments[what]))}"
                )
            arguments[what] = list(wanted)
        return self.from_arguments(self.name, arguments)

    def computed_in(self, names: Mapping[str, str]) -> Self:
        """The same space where its precisions have other names: of what a device computes instead.

        Args:
            names: precision -> the other; those that are absent stay.

        Raises:
            SpaceError: a name is not known.
        """
        arguments = self.arguments()
        arguments["precisions"] = [names.get(p, p) for p in arguments["precisions"]]
        return self.from_arguments(self.name, arguments)

    def _stages_with(self, kernel_sizes: Sequence[int]) -> list[dict[str, Any]]:
        """The stages as JSON values with fewer kernel sizes."""
        wanted = check.options("kernel_sizes", kernel_sizes, each=lambda _, option: option)
        known = sorted({k for stage in self.stages for k in stage.kernel_sizes})
        wrong = [k for k in wanted if k not in known]
        if wrong:
            raise SpaceError(
                f"space {self.name!r} has no {wrong[0]!r} among its kernel_sizes; allowed: {', '.join(map(str, known))}"
            )
        kept = []
        for i, stage in enumerate(self.stages):
            sizes = [k for k in stage.kernel_sizes if k in wanted]
            if not sizes:
                raise SpaceError(
                    f"stage {i} of space {self.name!r} has the kernel sizes {', '.join(map(str, stage.kernel_sizes))}; "
                    f"of {', '.join(map(str, wanted))} none is left"
                )
            kept.append({**stage.to_json(), "kernel_sizes": sizes})
        return kept

    # ------------------------------------------------------------ people and files

    @abstractmethod
    def arguments(self) -> dict[str, Any]:
        """The arguments it was made with, as JSON values: those of its `__init__`, all but the name."""

    @classmethod
    def from_arguments(cls, name: str, arguments: Mapping[str, Any]) -> Self:
        """The inverse of `arguments`.

        Raises:
            SpaceError: an argument is unknown, missing or wrong.
        """
        # `arguments` writes what `__init__` takes, so the signature is the one list of what a file may hold
        known = [p for p in inspect.signature(cls).parameters if p != "name"]
        check_keys(f"{cls.title} space", arguments, known=known)
        if not isinstance(arguments["stages"], list):
            raise SpaceError(f"stages of {cls.title} space {name!r} must be a list, not {arguments['stages']!r}")
        make: Any = cls  # families have arguments of their own
        space: Self = make(name, **{**arguments, "stages": [StageSpec.from_json(s) for s in arguments["stages"]]})
        return space

    def describe(self, encoding: IntArray) -> str:
        """The network's blocks, one a line: slot, operator, shapes, precision.

        Raises:
            SpaceError: as `decode`.
        """
        chosen = ChainMap[str, Any](self.decode(encoding), self._layout.fixed)
        title = f"{self.name}: {chosen['resolution']} px, width {chosen['width_mult']:g}"
        return f"{title}\n{blocks_text(self.named_blocks(encoding))}"
