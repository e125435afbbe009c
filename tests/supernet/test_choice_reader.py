from __future__ import annotations

from dataclasses import replace

import numpy as np
import pytest

from hwnas.errors import SpaceError
from hwnas.named_spaces import make_space as named_space
from hwnas.supernet.choice_reader import ChoiceReader


@pytest.mark.parametrize("preset", ["mobilenet-tiny", "vit-tiny", "resnet20"])
def test_the_options_of_choices_that_are_on_are_read_and_no_others(preset: str) -> None:
    space = named_space(preset, in_channels=3, n_classes=4, style={})
    reader = ChoiceReader(space)
    encodings = space.sample(40, np.random.default_rng(0), over="encodings")
    for encoding, active in zip(encodings, space.active(encodings), strict=True):
        found = reader.options(space.named_blocks(encoding))
        wanted = [int(encoding[c]) if active[c] else None for c in reader.told]
        assert [found[c] for c in reader.told] == wanted


def test_precisions_are_no_matter(space) -> None:
    blocks = space.named_blocks(space.largest())
    reader = ChoiceReader(space)
    integers = [(name, replace(b, precision="int8")) for name, b in blocks]
    assert reader.options(integers) == reader.options(blocks)
    assert not any(space.choices[c].name.endswith("precision") for c in reader.told)


def test_features_are_places_of_options_and_0_of_what_is_switched_off(space) -> None:
    reader = ChoiceReader(space)
    names = [space.choices[c].name for c in reader.told]
    assert reader.features(space.named_blocks(space.largest())) == [1.0] * len(names)
    of_smallest = dict(zip(names, reader.features(space.named_blocks(space.smallest())), strict=True))
    assert of_smallest["stages.1.depth"] == pytest.approx(1 / 3)
    assert of_smallest["stages.1.blocks.2.kernel_size"] == 0.0


def test_blocks_of_no_network_and_of_several_are_refused(space) -> None:
    reader = ChoiceReader(space)
    largest, smallest = (dict(space.named_blocks(e)) for e in (space.largest(), space.smallest()))
    with pytest.raises(SpaceError, match=r"slot 'stem' .* has no block"):
        reader.options(list({**largest, "stem": replace(largest["stem"], out_shape=(7, 7, 7))}.items()))
    with pytest.raises(SpaceError, match="of no network of space 'everything', but of several"):
        reader.options(list({**largest, "stem": smallest["stem"]}.items()))
