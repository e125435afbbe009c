from __future__ import annotations

import dataclasses

import numpy as np
import pytest
import torch

from hwnas.errors import ConfigError
from hwnas.spaces import MobileNetSpace, StageSpec
from hwnas.supernet.elastic import Supernet
from hwnas.supernet.parts import Parts

from .conftest import make_space

KERNEL = "stages.1.blocks.0.kernel_size"


def index(space: MobileNetSpace, name: str) -> int:
    return next(i for i, c in enumerate(space.choices) if c.name == name)


def parted(space: MobileNetSpace, name: str, second: tuple[int, ...]) -> Parts:
    parts = Parts(space)
    parts.divide_(index(space, name), second)
    return parts


def test_all_networks_are_of_one_part_at_first(space, rng) -> None:
    parts = Parts(space)
    assert {parts.of(space.named_blocks(e)) for e in space.sample(20, rng, over="encodings")} == {0}


@pytest.mark.parametrize(("name", "second"), [(KERNEL, (1, 2)), ("stages.1.depth", (2,)), ("resolution", (1,))])
def test_a_network_is_of_the_part_of_its_option(space, rng, name, second) -> None:
    parts, at = parted(space, name, second), index(space, name)
    for encoding in space.sample(30, rng, over="encodings"):
        assert parts.of(space.named_blocks(encoding)) == (encoding[at] in second)


def test_candidates_are_choices_of_all_networks_that_are_no_precisions(space) -> None:
    names = [space.choices[c].name for c in Parts(space).candidates]
    assert KERNEL in names
    assert not any(name.endswith("precision") or "blocks.1" in name for name in names)


def test_a_network_is_moved_to_the_nearest_of_a_part(space, rng) -> None:
    parts, at = parted(space, KERNEL, (1, 2)), index(space, KERNEL)
    assert np.array_equal(parts.moved(space.largest(), 1), space.largest())
    for encoding in [space.largest(), space.smallest(), *space.sample(30, rng, over="encodings")]:
        for part in (0, 1):
            moved = parts.moved(encoding, part)
            assert parts.of(space.named_blocks(moved)) == part
            assert np.array_equal(np.delete(moved, at), np.delete(encoding, at))
    assert parts.moved(space.smallest(), 1)[at] == 1
    assert parts.moved(space.largest(), 0)[at] == 0


def test_a_network_that_is_moved_to_fewer_blocks_has_no_choices_of_the_others(space) -> None:
    moved = parted(space, "stages.1.depth", (2,)).moved(space.largest(), 0)
    assert np.array_equal(moved, space.canonical(moved))
    assert not np.array_equal(moved, space.largest())


def test_it_tells_the_options_of_both_parts(space) -> None:
    assert parted(space, KERNEL, (1, 2)).told == f"the networks are parted by {KERNEL}: {{3}} and {{5, 7}}"


def test_a_space_without_a_choice_for_all_networks_is_refused() -> None:
    stage = StageSpec(channels=16, stride=1, depths=(1,), kernel_sizes=(3,), expand_ratios=(1,))
    spec = dataclasses.replace(make_space().spec, resolutions=(8,), width_mults=(1.0,), stages=(stage,))
    fixed = MobileNetSpace("fixed", spec)
    with pytest.raises(ConfigError, match=r"cannot be parted \(train.split_fraction\)"):
        Parts(fixed)


def test_each_part_has_weights_of_its_own_that_begin_alike(space) -> None:
    torch.manual_seed(0)
    supernet = Supernet(space, parted=True)
    assert supernet.parts is not None
    blocks = {part: space.named_blocks(largest_of(space, part)) for part in (0, 1)}
    x = torch.randn(4, 2, 12, 12)
    before = {part: supernet.train()(x, blocks[part]).detach() for part in (0, 1)}
    supernet.parts.divide_(index(space, KERNEL), (1, 2))
    for part in (0, 1):
        assert torch.equal(supernet(x, blocks[part]), before[part])
    with torch.no_grad():
        for slot in supernet.slots.values():
            for p in slot.copies.parameters():
                p.add_(0.1)
    assert torch.equal(supernet(x, blocks[0]), before[0])
    assert not torch.allclose(supernet(x, blocks[1]), before[1])
    with torch.no_grad():
        for part in (0, 1):
            found = supernet.extract(blocks[part]).train()(x)
            torch.testing.assert_close(found, supernet(x, blocks[part]), rtol=0, atol=1e-6)


def largest_of(space: MobileNetSpace, part: int) -> np.ndarray:
    """The largest network with the smallest kernel of the choice, or with the largest."""
    encoding = space.largest()
    encoding[index(space, KERNEL)] = 2 * part
    return encoding
