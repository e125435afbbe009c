"""Operators that belong together, and what they share of their names."""

from __future__ import annotations

import pytest

from hwnas.graph.patterns import common_name, common_path


@pytest.mark.parametrize(
    ("names", "path"),
    [
        (["stem.conv", "stem.bn"], "stem"),
        (["a.b.c", "a.b.d", "a.bc"], "a"),  # steps, not letters
        (["a.b", "a.b.c"], "a.b"),
        (["a.b"], "a.b"),
        (["a", "b"], ""),
        ([], ""),
    ],
)
def test_a_common_path_is_made_of_whole_steps(names: list[str], path: str) -> None:
    assert common_path(names) == path


def test_two_operators_that_share_nothing_keep_the_first_name() -> None:
    assert common_name("conv1", "bn1") == "conv1"
