"""What a slot of any space can become: its blocks under all options of the choices it depends on.

Knows the protocol of spaces; no kind of block.
"""

from __future__ import annotations

import itertools
from collections.abc import Iterator

from hwnas.errors import SpaceError
from hwnas.spaces.kinds import normalised
from hwnas.types import Block, SearchSpace


def slot_sizes(space: SearchSpace, slot: int) -> tuple[int, ...]:
    """The number of options of each choice that a slot depends on.

    Raises:
        SpaceError: the slot depends on choices that do not exist.
    """
    at, choices = space.slots[slot], space.choices
    if not all(0 <= i < len(choices) for i in at.depends_on):
        raise SpaceError(
            f"slot {at.name!r} depends on choices {at.depends_on}, but the space has {len(choices)} choices"
        )
    return tuple(len(choices[i].options) for i in at.depends_on)


def slot_blocks(space: SearchSpace, slot: int) -> Iterator[Block | None]:
    """The block of a slot under every option of its choices, the last choice fastest (C order); None: absent.

    Attributes at their defaults are left out, whatever the space does.

    Raises:
        SpaceError: see `slot_sizes`.
    """
    for options in itertools.product(*map(range, slot_sizes(space, slot))):
        block = space.block_at(slot, options)
        yield None if block is None else normalised(block)
