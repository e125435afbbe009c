"""Which options of a space's choices a network has, told by its blocks.

A supernet is given a network as named blocks. What weighs copies of its weights by the whole architecture needs the
choices behind them. Knows the protocol of spaces; never weights.
"""

from __future__ import annotations

import itertools
from collections.abc import Sequence
from dataclasses import replace

from hwnas.errors import SpaceError
from hwnas.spaces.kinds import normalised
from hwnas.spaces.slots import slot_blocks, slot_sizes
from hwnas.types import Block, SearchSpace


class ChoiceReader:
    """Reads choices off blocks, whatever precision these are in.

    Args:
        space: whose networks are read.

    Attributes:
        told: indices of the choices that some slot's blocks tell, by more than their precision; ascending.

    Raises:
        SpaceError: see `slot_sizes`.
    """

    def __init__(self, space: SearchSpace) -> None:
        self._space_name = space.name
        self._n_options = [len(c.options) for c in space.choices]
        # a set of options is an integer, each option a bit
        self._all = [(1 << n) - 1 for n in self._n_options]
        # slot -> its choices, and of each of its blocks the options that it may come from
        self._slots: dict[str, tuple[tuple[int, ...], dict[Block | None, list[int]]]] = {}
        for index, slot in enumerate(space.slots):
            taken = itertools.product(*map(range, slot_sizes(space, index)))
            found: dict[Block | None, list[int]] = {}
            for options, block in zip(taken, slot_blocks(space, index), strict=True):
                sets = found.setdefault(_without_precision(block), [0] * len(options))
                for at, option in enumerate(options):
                    sets[at] |= 1 << option
            self._slots[slot.name] = (slot.depends_on, found)
        self.told = tuple(
            sorted(
                {
                    choice
                    for depends_on, found in self._slots.values()
                    for sets in found.values()
                    for choice, some in zip(depends_on, sets, strict=True)
                    if some != self._all[choice]
                }
            )
        )

    def options(self, blocks: Sequence[tuple[str, Block]]) -> tuple[int | None, ...]:
        """Of each choice the option that a network has; None where it could be any, as of one that is switched off.

        Where a few options would give the same network it is the first of them.

        Args:
            blocks: named blocks of the network.

        Raises:
            SpaceError: they are of no network of the space.
        """
        possible, there = list(self._all), dict(blocks)
        for name, (depends_on, found) in self._slots.items():
            block = there.get(name)
            sets = found.get(None if block is None else _without_precision(normalised(block)))
            if sets is None:
                raise SpaceError(f"slot {name!r} of space {self._space_name!r} has no block {block and block.key!r}")
            for choice, some in zip(depends_on, sets, strict=True):
                possible[choice] &= some
        if not all(possible):
            raise SpaceError(f"these blocks are of no network of space {self._space_name!r}, but of several")
        return tuple(
            None if some == all_ else (some & -some).bit_length() - 1
            for some, all_ in zip(possible, self._all, strict=True)
        )

    def features(self, blocks: Sequence[tuple[str, Block]]) -> list[float]:
        """The choices of `told` as numbers: (i + 1) / n of the i-th of n options, 0 where it could be any.

        Args:
            blocks: named blocks of the network.

        Raises:
            SpaceError: they are of no network of the space.
        """
        found = self.options(blocks)
        return [0.0 if (i := found[c]) is None else (i + 1) / self._n_options[c] for c in self.told]


def _without_precision(block: Block | None) -> Block | None:
    return None if block is None else replace(block, precision="")
