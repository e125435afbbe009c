"""Operators in words, and what one graph has that another has not."""

from __future__ import annotations

import pytest

from hwnas.graph import GraphBuilder, OpGraph
from hwnas.graph.words import graph_words, operators_beside


def made(*, kernel_size: int = 3, groups: int = 1, stride: int = 1, out_channels: int = 8) -> OpGraph:
    g = GraphBuilder()
    x = g.conv2d(g.input((8, 12, 12)), out_channels, kernel_size=kernel_size, groups=groups, stride=stride, name="conv")
    return g.build(g.op("relu", x, name="act"))


@pytest.mark.parametrize(
    ("changes", "words"),
    [
        ({}, "conv2d 3x3"),
        ({"kernel_size": 7, "groups": 8}, "conv2d 7x7 depthwise"),
        ({"groups": 2}, "conv2d 3x3 of 2 groups"),
        ({"stride": 2}, "conv2d 3x3 stride 2"),
    ],
)
def test_an_operator_is_told_by_its_window_and_groups(changes: dict[str, int], words: str) -> None:
    assert graph_words(made(**changes)) == (words, "relu")


def test_what_another_graph_has_not_is_told_and_numbers_of_channels_are_not() -> None:
    assert operators_beside(made(kernel_size=5), made()) == ("conv2d 5x5",)
    assert operators_beside(made(out_channels=16), made()) == ()
