"""CategoricalSpace: what it refuses, and what it does without blocks."""

import numpy as np
import pytest

from hwnas.errors import SpaceError
from hwnas.spaces import CategoricalSpace

OPERATIONS = ("none", "skip", "conv1x1", "conv3x3", "pool")


def test_nas_bench_201_has_15625_cells():
    assert CategoricalSpace({f"edge{i}": OPERATIONS for i in range(6)}).count() == 15_625


def test_largest_and_smallest_follow_the_given_order():
    space = CategoricalSpace({"a": ("z", "y", "x")})
    assert space.decode(space.smallest()) == {"a": "z"}
    assert space.decode(space.largest()) == {"a": "x"}


def test_it_has_no_blocks():
    space = CategoricalSpace({"a": (1, 2)})
    assert space.named_blocks(space.largest()) == ()
    assert space.distinct_blocks() == ()
    with pytest.raises(SpaceError, match="no slot 0"):
        space.block_at(0, [])


def test_description_lists_active_choices():
    space = CategoricalSpace({"depth": (1, 2), "k": (3, 5)}, conditions={"k": ("depth", (2,))}, name="cells")
    assert space.describe(space.largest()) == "cells\n  depth  2\n  k      5"
    assert space.describe(space.smallest()) == "cells\n  depth  1"


@pytest.mark.parametrize(
    ("choices", "conditions", "message"),
    [
        ({}, None, "at least one choice"),
        ([("a", (1,))], None, "at least one choice"),
        ({"a": ()}, None, "no options"),
        ({"a": "xyz"}, None, "sequence of options"),
        ({"a": (1, 1)}, None, "twice"),
        ({"a": (1, 2)}, {"b": ("a", (1,))}, "unknown choice 'b'; choices: a"),
        ({"a": (1, 2), "b": (1,)}, {"a": ("b", (1,))}, "does not stand before it; choices before it: none"),
        ({"a": (1, 2), "b": (1,)}, {"b": ("a", (3,))}, r"one of \[3\]; give at least one of 1, 2"),
        ({"a": (1, 2), "b": (1,)}, {"b": ("a", ())}, "at least one of 1, 2"),
    ],
)
def test_a_wrong_definition_says_what_is_wrong(choices, conditions, message):
    with pytest.raises(SpaceError, match=message):
        CategoricalSpace(choices, conditions=conditions)


def test_single_options_are_choices_with_one_answer():
    space = CategoricalSpace({"a": (1,), "b": (1, 2)})
    mutants = space.mutate(np.zeros((5, 2), int), np.random.default_rng(0), probability=1.0)
    assert mutants.tolist() == [[0, 1]] * 5
