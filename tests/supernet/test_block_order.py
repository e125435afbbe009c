"""The order in which blocks are left out: those that a network misses least first."""

from __future__ import annotations

import math
from collections.abc import Iterable
from dataclasses import replace

import pytest
import torch
from torch import Tensor, nn

from hwnas.spaces.adapted import AdaptedSpace
from hwnas.supernet.block_order import rank_blocks
from hwnas.supernet.subnetwork import SubNetwork
from hwnas.tasks.classification import Classification

from .test_adapted import adapted, given, of


def weak(blocks: int, strengths: Iterable[float]) -> nn.Module:
    """Blocks whose branches add this much of what they would."""
    module = given(blocks)
    with torch.no_grad():
        for block, strength in zip(module.blocks, strengths, strict=True):  # type: ignore[call-overload]
            block[-1].weight *= strength
            block[-1].bias *= strength
            block[-1].running_mean *= 0
    return module


class Judge:
    """How far a network's answers are from the given one's, and how often it was asked."""

    def __init__(self, module: nn.Module, x: Tensor) -> None:
        self.x, self.seen = x, 0
        with torch.no_grad():
            self.right = module(x)

    def __call__(self, network: SubNetwork) -> float:
        self.seen += 1
        with torch.no_grad():
            return Classification().divergence(network(self.x), self.right)


def test_the_block_that_adds_least_goes_first() -> None:
    module, x = weak(4, (1.0, 0.0, 0.3, 0.01)), torch.randn(8, 3, 16, 16)
    space, supernet = adapted(module, x)
    judge = Judge(module, x)
    spec = rank_blocks(supernet, judge)
    (before,), (after,) = space.spec.depths, spec.depths
    assert [before.blocks.index(b) for b in after.blocks] == [0, 2, 3, 1]
    assert replace(after, blocks=before.blocks) == before
    assert judge.seen == 4 + 3 + 2
    ranked = AdaptedSpace("ranked", space.network, spec)
    smaller = supernet.with_space(ranked).extract(ranked.named_blocks(of(ranked, blocks__depth=3)))
    torch.testing.assert_close(smaller(x), module(x))


def test_what_is_left_is_judged_anew_after_each_block_that_goes() -> None:
    """Two blocks that undo each other: the first that goes makes the other as bad as can be."""
    module, x = given(3), torch.randn(4, 3, 16, 16)
    space, supernet = adapted(module, x)
    names = ["blocks.0", "blocks.1", "blocks.2"]
    badness = {(): 0.0, (0,): 3.0, (1,): 1.0, (2,): 2.0, (0, 1): 4.0, (1, 2): 9.0, (0, 1, 2): 9.0}

    def judge(network: SubNetwork) -> float:
        present = {p.split(".", 2)[2][:8] for p, _ in network.named_parameters()}
        return badness[tuple(i for i, name in enumerate(names) if name not in present)]

    (before,), (after,) = space.spec.depths, rank_blocks(supernet, judge).depths
    assert [before.blocks.index(b) for b in after.blocks] == [2, 0, 1]


def test_of_long_runs_each_block_is_left_out_once_and_some_always_stay() -> None:
    module, x = weak(8, (0.05, 0.0, 1.0, 1.0, 0.01, 0.0, 1.0, 1.0)), torch.randn(4, 3, 16, 16)
    space, supernet = adapted(module, x)
    judge = Judge(module, x)
    (before,), (after,) = space.spec.depths, rank_blocks(supernet, judge).depths
    order = [before.blocks.index(b) for b in after.blocks]
    assert judge.seen == 8
    assert order[-4:] == [0, 4, 1, 5]  # the later of two that add nothing goes first
    assert before.options[0] == 2
    assert order[:2] == sorted(order[:2])


def test_blocks_that_always_stay_are_not_ordered() -> None:
    module, x = weak(3, (0.0, 1.0, 1.0)), torch.randn(4, 3, 16, 16)
    space, supernet = adapted(module, x)
    depth = replace(space.spec.depths[0], options=(2, 3))
    one_goes = AdaptedSpace("one", space.network, replace(space.spec, depths=(depth,)))
    judge = Judge(module, x)
    (after,) = rank_blocks(supernet.with_space(one_goes), judge).depths
    assert after.blocks == (depth.blocks[1], depth.blocks[2], depth.blocks[0])
    assert after.options == (2, 3)
    assert judge.seen == 3


def test_a_network_that_cannot_be_judged_is_named() -> None:
    x = torch.randn(2, 3, 16, 16)
    _, supernet = adapted(given(), x)
    with pytest.raises(ValueError, match=r"without blocks\.0 is not a number"):
        rank_blocks(supernet, lambda _: math.nan)
