"""SegmentationSpace: its networks say of every pixel what it is, are elastic, and what it refuses."""

from __future__ import annotations

import json
from collections import Counter
from itertools import pairwise

import numpy as np
import pytest

from hwnas import registry
from hwnas.errors import SpaceError
from hwnas.graph import macs
from hwnas.spaces import StageSpec, space_from_json
from hwnas.spaces.kinds import block_graph
from hwnas.spaces.segmentation import SegmentationSpace, SegmentationSpec, segment_mobile, segment_tiny
from hwnas.testing import space_suite
from hwnas.types import Block
from tests.spaces.supernets import (
    check_every_shared_weight_learns,
    check_extracted_networks_equal_the_active_supernet,
)

STAGE = {"channels": 8, "stride": 1, "depths": (1, 2), "kernel_sizes": (3, 5), "expand_ratios": (2, 3)}
SPACE = {
    "in_channels": 2,
    "n_classes": 3,
    "resolutions": (13, 16),  # a side that strides do not divide, too
    "width_mults": (1.0, 2.0),
    "stem_channels": 8,
    "stages": [StageSpec(**STAGE), StageSpec(**{**STAGE, "channels": 16})],
    "reductions": (1, 2),
    "head_channels": 16,
}


def small(**changes) -> SegmentationSpace:
    """Every elastic dimension at once."""
    return SegmentationSpace("small", SegmentationSpec(**{**SPACE, **changes}))


SMALL, TINY, MOBILE = small(), segment_tiny(), segment_mobile()


def blocks_of(space: SegmentationSpace, encoding) -> list[Block]:
    return [b for _, b in space.named_blocks(encoding)]


@pytest.mark.parametrize("check", space_suite.CHECKS, ids=lambda check: check.__name__)
@pytest.mark.parametrize("space", [SMALL, TINY, MOBILE], ids=lambda space: space.name)
def test_it_conforms(check, space):
    check(space, np.random.default_rng(3))


def test_its_networks_are_those_that_enumeration_finds():
    tiny = small(stages=[StageSpec(**STAGE)], reductions=(4,))
    space_suite.check_count_by_enumeration(tiny, np.random.default_rng(0))


@pytest.mark.parametrize("space", [SMALL, TINY, MOBILE], ids=lambda space: space.name)
def test_outputs_have_the_size_of_the_images(space):
    for encoding in (space.smallest(), space.largest(), *space.sample(5, np.random.default_rng(0))):
        blocks = blocks_of(space, encoding)
        assert all(a.out_shape == b.in_shape for a, b in pairwise(blocks))
        assert blocks[-1].out_shape == (space.n_classes, *blocks[0].in_shape[1:])


def test_stages_are_of_inverted_residuals_or_of_hourglasses():
    blocks = blocks_of(TINY, TINY.largest())
    assert Counter(b.kind for b in blocks) == {"conv": 1, "mbconv": 3, "hourglass": 6, "mask_head": 1}
    assert {b.out_shape[1:] for b in blocks[1:-1]} == {(16, 16)}
    assert [dict(b.attributes).get("reduction", 2) for b in blocks if b.kind == "hourglass"] == [2, 2, 2, 4, 4, 4]


def test_an_hourglass_computes_at_a_fraction_of_the_resolution():
    """What it multiplies beside the way down is that of an inverted residual of the smaller image."""
    shape, small_shape = (16, 16, 16), (16, 4, 4)
    attributes = (("activation", "relu"), ("hidden_channels", 64), ("kernel_size", 5))
    hourglass = Block(
        kind="hourglass",
        in_shape=shape,
        out_shape=shape,
        precision="fp32",
        attributes=(*attributes, ("reduction", 4)),
    )
    inside = Block(kind="mbconv", in_shape=small_shape, out_shape=small_shape, precision="fp32", attributes=attributes)
    assert macs(block_graph(hourglass)) == macs(block_graph(inside)) + 16 * 4 * 4 * 5 * 5


def test_an_hourglass_adds_what_it_found_to_its_input():
    torch = pytest.importorskip("torch")
    from torch.nn import functional as F

    from hwnas.supernet.subnetwork import BlockModule

    torch.manual_seed(0)
    attributes = (("activation", "relu"), ("hidden_channels", 8), ("kernel_size", 3), ("reduction", 2))
    block = Block(kind="hourglass", in_shape=(4, 6, 6), out_shape=(4, 6, 6), precision="fp32", attributes=attributes)
    module = BlockModule(block).eval()
    w = module.state_dict()
    for name, tensor in w.items():
        if tensor.is_floating_point():
            tensor.uniform_(0.5, 1.5) if "running_var" in name else tensor.normal_(0, 0.3)

    def layer(x, name, **how):
        norm = [w[f"{name}.bn.{role}"] for role in ("running_mean", "running_var", "weight", "bias")]
        return F.batch_norm(F.conv2d(x, w[f"{name}.conv.weight"], **how), *norm)

    x = torch.randn(2, 4, 6, 6)
    y = F.relu(layer(layer(x, "reduce", stride=2, padding=1, groups=4), "expand"))
    y = layer(F.relu(layer(y, "depthwise", padding=1, groups=8)), "project")
    expected = x + y.repeat_interleave(2, 2).repeat_interleave(2, 3)
    torch.testing.assert_close(module(x), expected, rtol=0, atol=1e-5)


def test_extracted_networks_equal_the_active_supernet():
    check_extracted_networks_equal_the_active_supernet(SMALL)


def test_every_shared_weight_learns():
    check_every_shared_weight_learns(SMALL)


def test_presets_take_an_activation_and_squeeze_and_excitation():
    space = registry.load("spaces", "segment-tiny")(1, 5, activation="relu", se=True)
    assert space.activations == {"relu"}
    assert all(dict(b.attributes)["se_channels"] for b in blocks_of(space, space.largest())[1:-1])


def test_a_definition_comes_back_from_its_file():
    value = json.loads(json.dumps(SMALL.to_json()))
    assert value["type"] == "segmentation"
    assert space_from_json(value) == SMALL


@pytest.mark.parametrize(
    ("changes", "message"),
    [
        ({"reductions": (1,)}, "there are 1 reductions for 2 stages"),
        ({"reductions": (1, 0)}, "reduction of a stage is 0"),
        ({"reductions": 2}, "reductions is 2, but must be whole numbers"),
        (
            {"stages": [StageSpec(**{**STAGE, "stride": 2})], "reductions": (2,)},
            "stage 0 has the reduction 2 and the stride 2",
        ),
        ({"head_channels": 0}, "head_channels is 0"),
        ({"head_activation": "tanh"}, "head_activation is 'tanh'"),
    ],
)
def test_what_cannot_be_is_refused(changes, message):
    with pytest.raises(SpaceError, match=message):
        small(**changes)
