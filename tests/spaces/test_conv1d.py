"""Conv1dSpace: its networks are those of the papers, elastic, and what it refuses."""

from __future__ import annotations

import json
from collections import Counter
from itertools import pairwise

import numpy as np
import pytest
from hypothesis import HealthCheck, given, settings
from hypothesis import strategies as st

from hwnas.errors import SpaceError
from hwnas.graph import macs, parameters
from hwnas.spaces import StageSpec, space_from_json
from hwnas.spaces.conv1d import Conv1dSpace, Conv1dSpec, conv1d_keyword, conv1d_sensor
from hwnas.spaces.kinds import block_graph
from hwnas.testing import space_suite
from hwnas.types import Block
from tests.spaces.strategies import seeds, subsets
from tests.spaces.supernets import (
    check_every_shared_weight_learns,
    check_extracted_networks_equal_the_active_supernet,
    randomised,
)

STAGE = {"channels": 16, "stride": 1, "depths": (1, 2), "kernel_sizes": (3, 5, 9), "expand_ratios": (0.5, 1)}
SPACE = {
    "in_channels": 3,
    "n_classes": 4,
    "resolutions": (21,),
    "width_mults": (1.0, 1.5),
    "stem_channels": 16,
    "stem_kernel_size": 5,
    "head_channels": 24,
    "stages": [StageSpec(**STAGE, activations=("relu",)), StageSpec(**{**STAGE, "channels": 24, "stride": 2})],
}


def small(**changes) -> Conv1dSpace:
    """Every elastic dimension at once."""
    return Conv1dSpace("small", Conv1dSpec(**{**SPACE, **changes}))


SMALL, KEYWORD, SENSOR = small(), conv1d_keyword(), conv1d_sensor()


# ---------------------------------------------------------------- a space like any other


@pytest.mark.parametrize("check", space_suite.CHECKS, ids=lambda check: check.__name__)
@pytest.mark.parametrize("space", [SMALL, KEYWORD, SENSOR], ids=lambda space: space.name)
def test_it_conforms(check, space):
    check(space, np.random.default_rng(3))


@st.composite
def conv1d_spaces(draw) -> Conv1dSpace:
    stages = [
        StageSpec(
            channels=draw(st.sampled_from((8, 16, 24, 40))),
            stride=draw(st.sampled_from((1, 2, 3))),
            depths=draw(subsets((1, 2, 3))),
            kernel_sizes=draw(subsets((1, 3, 9))),
            expand_ratios=draw(subsets((1, 2, 3))),
            activations=draw(subsets(("relu", "silu"))),
        )
        for _ in range(draw(st.integers(1, 3)))
    ]
    return small(
        stages=stages,
        width_mults=(1.0, 2.0),
        resolutions=(draw(st.integers(27, 40)),),
        head_channels=draw(st.sampled_from((0, 16))),
        precisions=draw(subsets(("fp32", "int8"))),
    )


@pytest.mark.parametrize("check", space_suite.CHECKS, ids=lambda check: check.__name__)
def test_any_space_of_separable_blocks_conforms(check):
    @settings(deadline=None, max_examples=5, suppress_health_check=[HealthCheck.too_slow])
    @given(space=conv1d_spaces(), seed=seeds)
    def holds(space, seed):
        check(space, np.random.default_rng(seed))

    holds()


def test_its_networks_are_those_that_enumeration_finds():
    tiny = small(stages=[StageSpec(**STAGE)])
    space_suite.check_count_by_enumeration(tiny, np.random.default_rng(0))


def test_shapes_connect_from_the_series_to_the_classes():
    for encoding in SMALL.sample(20, np.random.default_rng(0)):
        blocks = [b for _, b in SMALL.named_blocks(encoding)]
        assert blocks[0].in_shape == (3, 21)
        assert all(a.out_shape == b.in_shape for a, b in pairwise(blocks))
        assert blocks[-1].out_shape == (4,)


# ---------------------------------------------------------------- the networks of the paper


def blocks_of(space: Conv1dSpace, **choices) -> list[Block]:
    """Of the largest network, which is of floats, but for these choices."""
    architecture = space.decode(space.largest()) | choices
    return [b for _, b in space.named_blocks(space.encode(architecture))]


def test_one_block_a_stage_is_matchboxnet():
    blocks = blocks_of(KEYWORD, **{f"stages.{s}.depth": 1 for s in range(3)})
    assert [b.kind for b in blocks] == ["conv", *["separable1d"] * 3, "head1d"]
    assert [b.out_shape for b in blocks] == [(128, 51), *[(64, 51)] * 3, (12,)]
    kernels = [w.shape for b in blocks for op in block_graph(b).ops if op.kind == "conv1d" for w in [op.weights[0][1]]]
    # Majumdar & Ginsburg, table 1: of its prologue and its three blocks of two sub-blocks
    assert [k[-1] for k in kernels if k[-1] > 1] == [11, 13, 13, 15, 15, 17, 17]
    # depthwise, pointwise and normalisation of each; a projection where channels change
    stem = 40 * 128 * 11 + 2 * 128
    first = (128 * 13 + 2 * 128) + (128 * 64 + 2 * 64) + (128 * 64 + 2 * 64) + (64 * 13 + 2 * 64) + (64 * 64 + 2 * 64)
    later = sum(2 * (64 * k + 2 * 64 + 64 * 64 + 2 * 64) for k in (15, 17))
    head = 64 * 128 + 2 * 128 + 128 * 12 + 12
    assert sum(parameters(block_graph(b)) for b in blocks) == stem + first + later + head


def test_what_is_multiplied_is_what_the_shapes_say():
    blocks = blocks_of(KEYWORD, **{f"stages.{s}.depth": 1 for s in range(3)})
    stem = 40 * 128 * 11
    first = 128 * 13 + 128 * 64 + 64 * 13 + 64 * 64 + 128 * 64
    later = sum(2 * (64 * k + 64 * 64) for k in (15, 17))
    assert sum(macs(block_graph(b)) for b in blocks) == 51 * (stem + first + later + 64 * 128) + 128 * 12


def test_expand_ratios_multiply_what_leaves_a_block():
    for ratio, hidden in ((0.5, 32), (1, 64)):
        architecture = KEYWORD.decode(KEYWORD.largest()) | {"stages.0.blocks.0.expand_ratio": ratio}
        block = dict(KEYWORD.named_blocks(KEYWORD.encode(architecture)))["stages.0.blocks.0"]  # 128 channels enter it
        assert dict(block.attributes)["hidden_channels"] == hidden


def test_the_presets_take_series_of_any_length():
    for space in (conv1d_sensor(length=256), conv1d_keyword(16, 5, length=62)):
        blocks = [b for _, b in space.named_blocks(space.largest())]
        assert (blocks[0].in_shape[1], blocks[0].out_shape[1]) == (space.resolutions[0], space.resolutions[0] // 2)
    with pytest.raises(
        SpaceError, match="length 7 is too small for strides that shrink it 8 times; use lengths from 8"
    ):
        conv1d_sensor(length=7)


@pytest.mark.parametrize(("in_channels", "stride"), [(16, 1), (8, 1), (16, 2)])
def test_a_block_computes_what_the_paper_writes(in_channels, stride):
    torch = pytest.importorskip("torch")
    from torch.nn import functional as F

    from hwnas.supernet.subnetwork import BlockModule

    torch.manual_seed(0)
    attributes = (("activation", "relu"), ("hidden_channels", 24), ("kernel_size", 5), ("stride", stride))
    length = -(-9 // stride)
    block = Block(
        kind="separable1d", in_shape=(in_channels, 9), out_shape=(16, length), precision="fp32", attributes=attributes
    )
    module = BlockModule(block).eval()
    for name, tensor in module.state_dict().items():
        if tensor.is_floating_point():
            tensor.uniform_(0.5, 1.5) if "running_var" in name else tensor.normal_(0, 0.3)
    w = module.state_dict()

    def layer(x, name, **how):
        norm = [w[f"{name}.bn.{role}"] for role in ("running_mean", "running_var", "weight", "bias")]
        return F.batch_norm(F.conv1d(x, w[f"{name}.conv.weight"], **how), *norm)

    def separable(x, name, stride=1):
        y = layer(x, f"{name}.depthwise", stride=stride, padding=2, groups=x.shape[1])
        return layer(y, f"{name}.pointwise")

    x = torch.randn(2, in_channels, 9)
    y = separable(F.relu(separable(x, "first", stride)), "second")
    shortcut = x if stride == 1 and in_channels == 16 else layer(x, "shortcut", stride=stride)
    torch.testing.assert_close(module(x), F.relu(y + shortcut), rtol=0, atol=1e-5)


# ---------------------------------------------------------------- the supernet


def test_extracted_networks_equal_the_active_supernet():
    check_extracted_networks_equal_the_active_supernet(SMALL)


def test_smaller_kernels_are_the_transformed_centre_of_larger_ones():
    torch = pytest.importorskip("torch")
    from hwnas.supernet.elastic import ElasticBlock

    net = randomised(SMALL)
    slot = net.slots["stages/0/blocks/0"]
    assert isinstance(slot, ElasticBlock)
    assert {name: tuple(m.shape) for name, m in slot.transforms.items()} == {"3": (3, 3), "5": (5, 5)}
    blocks = dict(
        SMALL.named_blocks(SMALL.encode(SMALL.decode(SMALL.largest()) | {"stages.0.blocks.0.kernel_size": 3}))
    )
    found = slot.subnetwork_weights(blocks["stages.0.blocks.0"])["first.depthwise.conv.weight"]
    whole = slot.weights["first/depthwise/conv/weight"]
    five = whole[:, :, 2:7] @ slot.transforms["5"].T
    torch.testing.assert_close(found, five[:, :, 1:4] @ slot.transforms["3"].T)


def test_every_shared_weight_learns():
    check_every_shared_weight_learns(SMALL)


def test_statistics_are_those_of_the_series_that_were_shown():
    torch = pytest.importorskip("torch")
    from hwnas.supernet.recalibration import recalibrate

    series = 3 + 2 * torch.randn(64, 3, 21, generator=torch.Generator().manual_seed(0))
    network = randomised(SMALL).extract(SMALL.named_blocks(SMALL.largest()))
    recalibrate(network, series.split(16))
    means = network.blocks[0].get_submodule("conv.bn").running_mean
    wanted = network.blocks[0].get_submodule("conv.conv")(series).mean((0, 2))
    torch.testing.assert_close(means, wanted.detach(), rtol=1e-4, atol=1e-4)


# ---------------------------------------------------------------- files, people, refusals


def test_the_blocks_of_a_network_are_told_in_words():
    lines = KEYWORD.describe(KEYWORD.largest()).splitlines()
    assert lines[0] == "conv1d-keyword: 101 positions, width 1"
    assert Counter(line.split()[1] for line in lines[1:]) == {"conv": 1, "separable1d": 6, "head1d": 1}
    assert "conv 11 /2 relu" in lines[1]
    assert "separable1d 13 hidden 128 64 relu" in lines[2]


def test_a_definition_comes_back_from_its_file():
    value = json.loads(json.dumps(SMALL.to_json()))
    assert value["type"] == "conv1d"
    assert space_from_json(value) == SMALL
    del value["stem_kernel_size"]
    with pytest.raises(SpaceError, match="1-D convolutional space: missing key 'stem_kernel_size'"):
        space_from_json(value)


@pytest.mark.parametrize(
    ("changes", "message"),
    [
        ({"stages": [StageSpec(**STAGE, se=(False, True))]}, "stage 0 of a space of 1-D networks has squeeze-and-"),
        ({"resolutions": (64, 128)}, "of series of one length, not of 64, 128"),
        ({"stem_kernel_size": 4}, "kernel sizes must be odd"),
        ({"head_channels": -1}, "head_channels is -1"),
        ({"head_activation": "tanh"}, "head_activation is 'tanh'"),
    ],
)
def test_what_makes_no_space_is_refused(changes, message):
    with pytest.raises(SpaceError, match=message):
        small(**changes)
