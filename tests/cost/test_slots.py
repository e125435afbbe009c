import math

import numpy as np
import pytest
from hypothesis import given, settings
from hypothesis import strategies as st

from hwnas.cost import slots
from hwnas.cost.elimination import Combine
from hwnas.cost.slots import SlotBlocks
from hwnas.errors import SpaceError
from hwnas.spaces.presets import mobilenet_tiny, mobilenet_v3_large
from hwnas.types import Block, IntArray, SearchSpace
from tests.cost.toy import ToySpace, everything

TOY = ToySpace()


def hashed(block: Block) -> float:
    """A cost without structure that floats add exactly."""
    return float(sum(ord(c) * i for i, c in enumerate(block.key, 1)) % 1009)


def walked(space: SearchSpace, encodings: IntArray, combine: Combine) -> list[float]:
    """The reference: build every network and go through its blocks."""
    join = sum if combine == "sum" else max
    return [float(join(hashed(b) for _, b in space.named_blocks(e))) for e in encodings]


@pytest.mark.parametrize("combine", ["sum", "max"])
def test_the_table_agrees_with_the_blocks_of_every_network(combine: Combine) -> None:
    encodings = everything(TOY)
    table = SlotBlocks.of(TOY).table(hashed, combine=combine)
    assert table.evaluate(encodings).tolist() == walked(TOY, encodings, combine)


@pytest.mark.parametrize("make", [mobilenet_tiny, mobilenet_v3_large])
@pytest.mark.parametrize("combine", ["sum", "max"])
def test_the_table_agrees_with_the_blocks_of_sampled_networks(make: object, combine: Combine) -> None:
    space = make()  # type: ignore[operator]
    rng = np.random.default_rng(0)
    encodings = np.stack([rng.integers(0, len(c.options), 50) for c in space.choices], axis=1)
    table = SlotBlocks.of(space).table(hashed, combine=combine)
    expected = walked(space, space.canonical(encodings), combine)
    assert table.evaluate(encodings).tolist() == expected


@pytest.mark.parametrize("combine", ["sum", "max"])
def test_the_bounds_are_those_of_all_networks(combine: Combine) -> None:
    table = SlotBlocks.of(TOY).table(hashed, combine=combine)
    values = table.evaluate(everything(TOY))
    assert table.minimum().value == values.min()
    assert table.maximum().value == values.max()


def test_the_optimum_is_reached_by_its_canonical_encoding() -> None:
    table = SlotBlocks.of(TOY).table(hashed)
    for found in (table.minimum(), table.maximum()):
        encoding = found.assignment[None]
        assert table.evaluate(encoding)[0] == found.value
        assert (TOY.canonical(encoding) == encoding).all()


@given(seed=st.integers(0, 2**32))
@settings(deadline=None, max_examples=20)
def test_no_network_of_a_large_space_lies_outside_the_bounds(seed: int) -> None:
    values = LARGE.evaluate(np.stack([np.random.default_rng(seed).integers(0, n, 64) for n in LARGE.sizes], axis=1))
    assert LARGE.minimum().value <= values.min()
    assert values.max() <= LARGE.maximum().value


LARGE = SlotBlocks.of(mobilenet_tiny()).table(hashed)


def test_more_architectures_than_fit_one_chunk_are_evaluated_in_order(monkeypatch: pytest.MonkeyPatch) -> None:
    encodings = everything(TOY)
    table = SlotBlocks.of(TOY).table(hashed)
    whole = table.evaluate(encodings)
    monkeypatch.setattr(slots, "_CHUNK", 7)
    assert (table.evaluate(encodings) == whole).all()


def test_tables_too_large_for_exact_float32_indices_use_float64(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(slots, "_FLOAT32_EXACT", 2)
    table = SlotBlocks.of(TOY).table(hashed)
    assert table.evaluate(everything(TOY)).tolist() == walked(TOY, everything(TOY), "sum")


def test_the_offset_is_added_to_values_and_bounds() -> None:
    plain, shifted = (SlotBlocks.of(TOY).table(hashed, offset=o) for o in (0.0, 5.0))
    assert (shifted.evaluate(everything(TOY)) == plain.evaluate(everything(TOY)) + 5).all()
    assert shifted.minimum().value == plain.minimum().value + 5


def test_a_cost_that_is_zero_everywhere_is_zero() -> None:
    table = SlotBlocks.of(TOY).table(lambda _: 0.0)
    assert not table.evaluate(everything(TOY)).any()
    assert table.minimum().value == table.maximum().value == 0


def test_each_distinct_block_is_asked_for_once() -> None:
    asked: list[Block] = []
    SlotBlocks.of(TOY).table(lambda b: float(asked.append(b) or 1))  # type: ignore[func-returns-value]
    assert len(asked) == len(set(asked)) == 3 * 2 * 2 + 3 * 3 * 2 + 3 * (1 + 2)  # those between precisions last


def test_no_architectures_cost_nothing() -> None:
    assert SlotBlocks.of(TOY).table(hashed).evaluate(np.zeros((0, 6), dtype=np.int64)).shape == (0,)


@pytest.mark.parametrize("wrong", [np.zeros(6, dtype=int), np.zeros((2, 5), dtype=int), np.zeros((2, 6))])
def test_encodings_of_the_wrong_shape_or_type_are_refused(wrong: IntArray) -> None:
    with pytest.raises(SpaceError, match=r"integers of shape \(N, 6\)"):
        SlotBlocks.of(TOY).table(hashed).evaluate(wrong)


@pytest.mark.parametrize("value", [-1, 3])
def test_an_option_that_does_not_exist_is_named(value: int) -> None:
    encodings = np.zeros((9, 6), dtype=np.int64)
    encodings[7, 4] = value
    with pytest.raises(SpaceError, match=f"encoding 7 has {value} for choice 4, which has the options 0 to 2"):
        SlotBlocks.of(TOY).table(hashed).evaluate(encodings)


def test_a_cost_that_is_not_a_number_names_the_block() -> None:
    with pytest.raises(ValueError, match=r"quantize\|in=3x8x8.* is not a number"):
        SlotBlocks.of(TOY).table(lambda _: math.nan)


def test_a_slot_that_depends_on_an_unknown_choice_is_refused() -> None:
    class Broken(ToySpace):
        choices = ToySpace.choices[:4]

    with pytest.raises(SpaceError, match=r"'b' depends on choices \(0, 1, 4, 5\), but the space has 4"):
        SlotBlocks.of(Broken())


def test_a_network_costs_the_same_alone_among_others_and_with_its_blocks_in_any_order() -> None:
    space = mobilenet_v3_large()
    blocks = SlotBlocks.of(space)
    cost = dict(zip(blocks.blocks, np.random.default_rng(0).uniform(1e-3, 9, len(blocks.blocks)), strict=True))
    table = blocks.table(lambda b: float(cost[b]))
    rng = np.random.default_rng(1)
    encodings = space.canonical(np.stack([rng.integers(0, n, 40) for n in table.sizes], axis=1))
    together = table.evaluate(encodings)
    assert [float(table.evaluate(e[None])[0]) for e in encodings] == together.tolist()
    for e, value in zip(encodings, together, strict=True):
        entries = [float(f.values[tuple(e[list(f.scope)])]) for f in table.factors]
        assert {sum(entries), sum(reversed(entries)), sum(sorted(entries)), math.fsum(entries)} == {value}
        assert value == pytest.approx(sum(cost[b] for _, b in space.named_blocks(e)), rel=1e-12)
