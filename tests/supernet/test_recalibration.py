from __future__ import annotations

import pytest
import torch
from torch import nn

from hwnas.graph import GraphBuilder
from hwnas.supernet.recalibration import recalibrate
from hwnas.supernet.subnetwork import BlockModule, BlockSequence, SubNetwork
from hwnas.types import Block


def test_a_recalibrated_network_normalises_like_the_batch_it_saw(space, supernet) -> None:
    torch.manual_seed(0)
    x = torch.randn(256, 2, 12, 12)
    blocks = space.named_blocks(space.largest())
    by_batch = supernet.train()(x, blocks)
    network = recalibrate(supernet.extract(blocks), [x])
    # running variance is unbiased, the batch's is not: equal up to n / (n - 1)
    torch.testing.assert_close(network(x), by_batch, rtol=0.02, atol=0.02)


def test_statistics_are_the_average_over_batches(space, supernet) -> None:
    torch.manual_seed(0)
    batches = [torch.randn(8, 2, 8, 8) + i for i in range(3)]
    network = recalibrate(supernet.extract(space.named_blocks(space.smallest())), batches)
    stem = network.blocks[1].conv if network.blocks[0].slot_block.kind == "quantize" else network.blocks[0].conv
    means = torch.stack([stem.conv(x).mean(dim=(0, 2, 3)) for x in batches])
    torch.testing.assert_close(stem.bn.running_mean, means.mean(0))


def test_norms_behind_linear_layers_are_recalibrated_too() -> None:
    g = GraphBuilder()
    x = g.linear(g.flatten(g.input((1, 4, 4)), name="flatten"), 3, name="mix")
    block = Block(kind="own", in_shape=(1, 4, 4), out_shape=(3,), precision="fp32")
    network = BlockSequence([BlockModule(block, graph=g.build(g.batch_norm(x, name="bn")))])
    images = torch.randn(64, 1, 4, 4) + 2
    found = recalibrate(network, [images])(images)
    torch.testing.assert_close(found.mean(0), torch.zeros(3), atol=1e-5, rtol=0)


def test_recalibration_leaves_evaluation_mode_and_momentum(space, supernet) -> None:
    network = recalibrate(supernet.extract(space.named_blocks(space.smallest())), [torch.randn(4, 2, 8, 8)])
    norms = [m for m in network.modules() if isinstance(m, nn.BatchNorm2d)]
    assert not any(m.training for m in network.modules())
    assert {m.momentum for m in norms} == {0.1}


def test_no_batch_is_an_error(space, supernet) -> None:
    with pytest.raises(ValueError, match="at least one batch"):
        recalibrate(supernet.extract(space.named_blocks(space.smallest())), [])


def test_what_is_no_image_is_not_resized() -> None:
    g = GraphBuilder()
    sound = g.input((3, 20))
    block = Block(kind="own", in_shape=(3, 20), out_shape=(3, 20), precision="fp32")
    network = SubNetwork.of([BlockModule(block, graph=g.build(g.batch_norm(sound, name="bn")))])
    x = torch.randn(16, 3, 20) + 2
    found = recalibrate(network, [x])(x)
    torch.testing.assert_close(found.mean((0, 2)), torch.zeros(3), atol=1e-5, rtol=0)
