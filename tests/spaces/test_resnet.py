"""ResNetSpace: its networks are those of the paper, elastic, and what it refuses."""

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
from hwnas.spaces import MobileNetSpace, StageSpec, space_from_json
from hwnas.spaces.kinds import attributes_of, block_graph
from hwnas.spaces.resnet import ResNetSpace, ResNetSpec, resnet20
from hwnas.testing import space_suite
from hwnas.types import Block
from tests.spaces.strategies import seeds, subsets
from tests.spaces.supernets import (
    check_every_shared_weight_learns,
    check_extracted_networks_equal_the_active_supernet,
)

STAGE = {"channels": 16, "stride": 1, "depths": (1, 2), "kernel_sizes": (3, 5), "expand_ratios": (0.5, 1)}
SPACE = {
    "in_channels": 1,
    "n_classes": 4,
    "resolutions": (8, 12),
    "width_mults": (1.0, 1.5),
    "stem_channels": 16,
    "stages": [StageSpec(**STAGE, activations=("relu",)), StageSpec(**{**STAGE, "channels": 24, "stride": 2})],
}


def small(**changes) -> ResNetSpace:
    """Every elastic dimension at once."""
    return ResNetSpace("small", ResNetSpec(**{**SPACE, **changes}))


SMALL, RESNET20 = small(), resnet20()


# ---------------------------------------------------------------- a space like any other


@pytest.mark.parametrize("check", space_suite.CHECKS, ids=lambda check: check.__name__)
@pytest.mark.parametrize("space", [SMALL, RESNET20], ids=lambda space: space.name)
def test_it_conforms(check, space):
    check(space, np.random.default_rng(3))


@st.composite
def resnet_spaces(draw) -> ResNetSpace:
    stages = [
        StageSpec(
            channels=draw(st.sampled_from((8, 16, 24, 40))),
            stride=draw(st.sampled_from((1, 2))),
            depths=draw(subsets((1, 2, 3))),
            kernel_sizes=draw(subsets((1, 3, 5))),
            expand_ratios=draw(subsets((1, 2, 3))),
            activations=draw(subsets(("relu", "silu"))),
        )
        for _ in range(draw(st.integers(1, 3)))
    ]
    return small(stages=stages, width_mults=(1.0, 2.0), resolutions=(8, 16), precisions=draw(subsets(("fp32", "int8"))))


@pytest.mark.parametrize("check", space_suite.CHECKS, ids=lambda check: check.__name__)
def test_any_space_of_basic_blocks_conforms(check):
    @settings(deadline=None, max_examples=5, suppress_health_check=[HealthCheck.too_slow])
    @given(space=resnet_spaces(), seed=seeds)
    def holds(space, seed):
        check(space, np.random.default_rng(seed))

    holds()


def test_its_networks_are_those_that_enumeration_finds():
    tiny = small(stages=[StageSpec(**STAGE)])
    space_suite.check_count_by_enumeration(tiny, np.random.default_rng(0))


def test_shapes_connect_from_the_image_to_the_classes():
    for encoding in SMALL.sample(20, np.random.default_rng(0)):
        blocks = [b for _, b in SMALL.named_blocks(encoding)]
        assert all(a.out_shape == b.in_shape for a, b in pairwise(blocks))
        assert blocks[-1].out_shape == (4,)


# ---------------------------------------------------------------- the networks of the paper


def blocks_of(space: ResNetSpace, encoding) -> list[Block]:
    return [b for _, b in space.named_blocks(encoding)]


def test_the_largest_network_is_resnet_20():
    blocks = blocks_of(RESNET20, RESNET20.largest())
    assert Counter(b.kind for b in blocks) == {"conv": 1, "basic": 9, "classifier": 1}
    convolutions = [
        op for b in blocks for op in block_graph(b).ops if op.kind == "conv2d" and "shortcut" not in op.name
    ]
    assert len(convolutions) + 1 == 20  # and a linear layer
    # He et al., table 6: 0.27 million parameters; here with two projections of 16 * 32 and 32 * 64 weights
    projections = 16 * 32 + 2 * 32 + 32 * 64 + 2 * 64
    assert sum(parameters(block_graph(b)) for b in blocks) == 269_722 + projections


def test_what_is_multiplied_is_what_the_shapes_say():
    pixels = {16: 32 * 32, 32: 16 * 16, 64: 8 * 8}
    stem = 3 * 16 * 9 * pixels[16]
    first = 6 * 16 * 16 * 9 * pixels[16]
    later = sum((n * n // 2 + 5 * n * n) * 9 * pixels[n] + n * n // 2 * pixels[n] for n in (32, 64))
    blocks = blocks_of(RESNET20, RESNET20.largest())
    assert sum(macs(block_graph(b)) for b in blocks) == stem + first + later + 64 * 10


@pytest.mark.parametrize(
    ("in_shape", "stride", "projected"), [((16, 8, 8), 1, False), ((8, 8, 8), 1, True), ((16, 8, 8), 2, True)]
)
def test_the_shortcut_has_weights_only_where_the_shape_changes(in_shape, stride, projected):
    graph = block_graph(basic(in_shape, (16, 8 // stride, 8 // stride), stride=stride))
    assert any(w.name == "shortcut.conv.weight" for w in graph.weights()) is projected


def test_expand_ratios_multiply_what_leaves_a_block():
    for encoding in SMALL.sample(20, np.random.default_rng(1)):
        architecture = SMALL.decode(encoding)
        for name, block in SMALL.named_blocks(encoding):
            if block.kind == "basic":
                wanted = block.out_shape[0] * architecture[f"{name}.expand_ratio"]
                assert attributes_of(block)["hidden_channels"] == (wanted + 4) // 8 * 8


def basic(in_shape, out_shape, *, stride: int = 1) -> Block:
    attributes = {"activation": "relu", "hidden_channels": 24, "kernel_size": 3, "stride": stride}
    return Block(
        kind="basic",
        in_shape=in_shape,
        out_shape=out_shape,
        precision="fp32",
        attributes=tuple(sorted(attributes.items())),
    )


@pytest.mark.parametrize("stride", [1, 2])
def test_a_block_computes_what_the_paper_writes(stride):
    torch = pytest.importorskip("torch")
    from torch.nn import functional as F

    from hwnas.supernet.subnetwork import BlockModule

    torch.manual_seed(0)
    module = BlockModule(basic((16, 8, 8), (16, 8 // stride, 8 // stride), stride=stride)).eval()
    for name, tensor in module.state_dict().items():
        if tensor.is_floating_point():
            tensor.uniform_(0.5, 1.5) if "running_var" in name else tensor.normal_(0, 0.3)
    w = module.state_dict()

    def norm(x, name):
        return F.batch_norm(x, *(w[f"{name}.bn.{role}"] for role in ("running_mean", "running_var", "weight", "bias")))

    x = torch.randn(2, 16, 8, 8)
    y = F.relu(norm(F.conv2d(x, w["first.conv.weight"], stride=stride, padding=1), "first"))
    y = norm(F.conv2d(y, w["second.conv.weight"], padding=1), "second")
    shortcut = x if stride == 1 else norm(F.conv2d(x, w["shortcut.conv.weight"], stride=stride), "shortcut")
    torch.testing.assert_close(module(x), F.relu(y + shortcut), rtol=0, atol=1e-5)


# ---------------------------------------------------------------- the supernet


def test_extracted_networks_equal_the_active_supernet():
    check_extracted_networks_equal_the_active_supernet(SMALL)


def test_every_shared_weight_learns():
    check_every_shared_weight_learns(SMALL)


# ---------------------------------------------------------------- files, people, refusals


def test_the_blocks_of_a_network_are_told_in_words():
    text = RESNET20.describe(RESNET20.largest())
    assert text.splitlines()[0] == "resnet20: 32 px, width 1"
    assert "basic 3x3 /2 hidden 32 relu" in text
    assert text.splitlines()[-1].split() == ["head", "classifier", "64x8x8", "->", "10", "fp32"]


def test_a_file_without_one_of_its_arguments_is_refused_by_its_name():
    value = json.loads(json.dumps(SMALL.to_json()))
    del value["stem_channels"]
    with pytest.raises(SpaceError, match="ResNet space: missing key 'stem_channels'"):
        space_from_json(value)


def test_the_definition_of_another_family_is_refused():
    with pytest.raises(SpaceError, match="MobileNet space 'other' is defined by a MobileNetSpec, not ResNetSpec"):
        MobileNetSpace("other", SMALL.spec)


@pytest.mark.parametrize(
    ("changes", "message"),
    [
        ({"stages": [StageSpec(**STAGE, se=(False, True))]}, "stage 0 of a ResNet space has squeeze-and-excitation"),
        ({"width_mults": (0.5,)}, "0.5 and 1 of stage 0 both give 8 hidden channels from 8"),
        ({"stem_activation": "tanh"}, "stem_activation is 'tanh'"),
        ({"resolutions": (1,)}, "resolution 1 is too small"),
    ],
)
def test_what_makes_no_space_is_refused(changes, message):
    with pytest.raises(SpaceError, match=message):
        small(**changes)
