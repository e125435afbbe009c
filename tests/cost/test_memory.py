"""The model of memory: a maximum over blocks, corrected and bounded."""

from __future__ import annotations

import numpy as np
import pytest

from hwnas.cost import SlotBlocks, peak_memory_bytes
from hwnas.cost.memory import memory_cost
from hwnas.testing.spaces import tiny_space
from hwnas.types import IntArray


@pytest.fixture(scope="module")
def blocks() -> SlotBlocks:
    return SlotBlocks.of(tiny_space().restrict(precisions=("int8",)))


@pytest.fixture(scope="module")
def encodings() -> IntArray:
    return tiny_space().restrict(precisions=("int8",)).sample(40, np.random.default_rng(0))


def networks(encodings: IntArray, need) -> list[tuple[tuple[str, ...], float]]:
    space = tiny_space().restrict(precisions=("int8",))
    found = []
    for encoding in encodings:
        named = [b for _, b in space.named_blocks(encoding)]
        found.append((tuple(b.key for b in named), 1.25 * max(need(b) for b in named) + 4096))
    return found


def test_a_scaled_maximum_with_an_offset_is_found_exactly(blocks: SlotBlocks, encodings: IntArray) -> None:
    measured = networks(encodings, peak_memory_bytes)
    model = memory_cost(blocks, entries={}, networks=measured, seed=0, confidence=0.9)
    assert model is not None
    estimate = model.estimate(encodings)
    np.testing.assert_allclose(estimate.value, [value for _, value in measured], rtol=1e-6)
    np.testing.assert_allclose(estimate.upper, estimate.value, rtol=1e-6)


def test_what_blocks_told_alone_is_used_when_all_told(blocks: SlotBlocks, encodings: IntArray) -> None:
    needs = np.random.default_rng(0).uniform(1000, 9000, len(blocks.blocks))
    entries = {b.key: float(n) for b, n in zip(blocks.blocks, needs, strict=True)}
    measured = networks(encodings, lambda b: entries[b.key])
    model = memory_cost(blocks, entries=entries, networks=measured, seed=0, confidence=0.9)
    assert model is not None
    np.testing.assert_allclose(model.estimate(encodings).value, [value for _, value in measured], rtol=1e-6)
    entries.pop(blocks.blocks[0].key)
    closed = memory_cost(blocks, entries=entries, networks=measured, seed=0, confidence=0.9)
    assert closed is not None
    assert not np.allclose(closed.estimate(encodings).value, [value for _, value in measured], rtol=1e-3)


def test_the_bound_covers_networks_the_fit_misses(blocks: SlotBlocks, encodings: IntArray) -> None:
    rng = np.random.default_rng(1)
    noisy = [(keys, value * rng.uniform(0.8, 1.2)) for keys, value in networks(encodings, peak_memory_bytes)]
    model = memory_cost(blocks, entries={}, networks=noisy, seed=0, confidence=0.9)
    assert model is not None
    upper = model.estimate(encodings).upper
    assert np.mean(upper >= [value for _, value in noisy]) >= 0.85
    assert model.upper_ratio > 1.05


def test_blocks_that_need_nothing_give_no_model(blocks: SlotBlocks, encodings: IntArray) -> None:
    nothing = {b.key: 0.0 for b in blocks.blocks}
    measured = networks(encodings, lambda b: nothing[b.key])
    assert memory_cost(blocks, entries=nothing, networks=measured, seed=0, confidence=0.9) is None


def test_too_few_networks_give_no_model(blocks: SlotBlocks, encodings: IntArray) -> None:
    measured = networks(encodings[:3], peak_memory_bytes)
    assert memory_cost(blocks, entries={}, networks=measured, seed=0, confidence=0.9) is None
