"""Encodings of choices without their space: what a study knows of the networks it lists."""

from __future__ import annotations

import numpy as np
import pytest

from hwnas.errors import SpaceError
from hwnas.spaces.encoding import ChoiceTree
from hwnas.spaces.presets import mobilenet_tiny
from hwnas.types import Choice

CHOICES = (
    Choice(name="se", options=(False, True)),
    Choice(name="ratio", options=(0.25, 0.5), parent=0, active_when=frozenset({1})),
)


def test_choices_alone_decode_and_encode_as_their_space_does() -> None:
    space = mobilenet_tiny()
    tree = ChoiceTree(space.choices)
    for encoding in space.sample(20, np.random.default_rng(0)):
        architecture = tree.decode(encoding)
        assert architecture == space.decode(encoding)
        assert np.array_equal(tree.encode(architecture), encoding)


def test_what_is_switched_off_is_not_decoded_and_need_not_be_named() -> None:
    tree = ChoiceTree(CHOICES)
    assert tree.decode(np.array([0, 1])) == {"se": False}
    assert tree.encode({"se": False}).tolist() == [0, 0]
    assert tree.encode({"se": False, "ratio": 0.5}).tolist() == [0, 0]


@pytest.mark.parametrize(
    ("architecture", "message"),
    [
        ({"se": 1, "ratio": 0.5}, "1 is no option of choice 'se'; allowed: False, True"),
        ({"se": True}, "says nothing about 'ratio'; give it one of 0.25, 0.5"),
        ({"se": False, "width": 2}, "no choice 'width'; the choices: se, ratio"),
    ],
)
def test_an_architecture_that_is_none_is_refused(architecture: dict[str, int], message: str) -> None:
    with pytest.raises(SpaceError, match=message):
        ChoiceTree(CHOICES).encode(architecture)
