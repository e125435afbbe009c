"""What a slot can become, enumerated for any space."""

from __future__ import annotations

import dataclasses

import pytest

from hwnas.errors import SpaceError
from hwnas.spaces.slots import slot_blocks, slot_sizes
from hwnas.types import Slot
from tests.cost.toy import ToySpace

TOY = ToySpace()


def test_blocks_are_listed_with_the_last_choice_fastest_and_absent_ones_as_none() -> None:
    for i in range(len(TOY.slots)):
        found = list(slot_blocks(TOY, i))
        sizes = slot_sizes(TOY, i)
        assert found[1 % len(found)] == TOY.block_at(i, [0] * (len(sizes) - 1) + [1]) if sizes else len(found) == 1
    assert any(b is None for i in range(len(TOY.slots)) for b in slot_blocks(TOY, i))


def test_a_slot_on_choices_that_do_not_exist_is_refused() -> None:
    space = ToySpace()
    space.slots = (dataclasses.replace(space.slots[0], depends_on=(99,)),)
    assert isinstance(space.slots[0], Slot)
    with pytest.raises(SpaceError, match=r"depends on choices \(99,\), but the space has 6 choices"):
        slot_sizes(space, 0)
