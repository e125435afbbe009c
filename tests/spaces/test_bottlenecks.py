"""BottleneckSpace: its networks are those of the papers, elastic, and what it refuses."""

from __future__ import annotations

from collections import Counter
from itertools import pairwise

import numpy as np
import pytest

from hwnas.errors import SpaceError
from hwnas.graph import macs, parameters
from hwnas.spaces import StageSpec
from hwnas.spaces._geometry import make_divisible
from hwnas.spaces.kinds import attributes_of, block_graph
from hwnas.spaces.resnet import BottleneckSpace, BottleneckSpec, ResNetSpace, resnet29, resnet50
from hwnas.testing import space_suite
from hwnas.types import Block
from tests.spaces.supernets import (
    check_every_shared_weight_learns,
    check_extracted_networks_equal_the_active_supernet,
)

STAGE = {"channels": 32, "stride": 1, "depths": (1, 2), "kernel_sizes": (3, 5), "expand_ratios": (0.25, 0.5)}
SPACE = {
    "in_channels": 1,
    "n_classes": 4,
    "resolutions": (16, 24),
    "width_mults": (1.0, 1.5),
    "stem_channels": 16,
    "stages": [StageSpec(**STAGE, activations=("relu",)), StageSpec(**{**STAGE, "channels": 48, "stride": 2})],
}


def small(**changes) -> BottleneckSpace:
    """Every elastic dimension at once."""
    return BottleneckSpace("small-bottlenecks", BottleneckSpec(**{**SPACE, **changes}))


SMALL, RESNET50 = small(), resnet50()


# ---------------------------------------------------------------- a space like any other


@pytest.mark.parametrize("check", space_suite.CHECKS, ids=lambda check: check.__name__)
@pytest.mark.parametrize("space", [SMALL, resnet29(), RESNET50], ids=lambda space: space.name)
def test_it_conforms(check, space):
    check(space, np.random.default_rng(3))


def test_its_networks_are_those_that_enumeration_finds():
    tiny = small(stages=[StageSpec(**STAGE)], width_mults=(1.0,))
    space_suite.check_count_by_enumeration(tiny, np.random.default_rng(0))


def test_shapes_connect_from_the_image_to_the_classes():
    for encoding in SMALL.sample(20, np.random.default_rng(0)):
        blocks = [b for _, b in SMALL.named_blocks(encoding)]
        assert all(a.out_shape == b.in_shape for a, b in pairwise(blocks))
        assert blocks[-1].out_shape == (4,)


# ---------------------------------------------------------------- the networks of the papers


def blocks_of(space: BottleneckSpace, encoding) -> list[Block]:
    return [b for _, b in space.named_blocks(encoding)]


def architecture_of_resnet50() -> np.ndarray:
    options = {c.name: c.options[-1] for c in RESNET50.choices}
    depths = {f"stages.{s}.depth": depth for s, depth in enumerate((3, 4, 6, 3))}
    return RESNET50.encode({name: 0.25 if "ratio" in name else o for name, o in options.items()} | depths)


def test_resnet_50_is_one_of_its_networks():
    blocks = blocks_of(RESNET50, architecture_of_resnet50())
    assert Counter(b.kind for b in blocks) == {"deep_stem": 1, "bottleneck": 16, "classifier": 1}
    assert [b.out_shape for b in blocks[:4]] == [(64, 56, 56), *[(256, 56, 56)] * 3]
    assert blocks[-2].out_shape == (2048, 7, 7)
    # ResNet-50 has 25,557,032 parameters; three convolutions with their norms stand for its first one and its norm
    stem = (3 * 32 + 32 * 32 + 32 * 64) * 9 + 2 * (32 + 32 + 64)
    assert sum(parameters(block_graph(b)) for b in blocks) == 25_557_032 - (3 * 64 * 49 + 2 * 64) + stem


def test_what_resnet_50_multiplies_is_what_is_published_of_it_with_a_deep_stem():
    """4.3 billion with all of ResNet-D (He et al., 2019, table 5); a projection behind a pool costs no less."""
    assert 4.25e9 < sum(macs(block_graph(b)) for b in blocks_of(RESNET50, architecture_of_resnet50())) < 4.4e9


def test_the_largest_network_for_small_images_has_29_layers():
    space = resnet29()
    graphs = [block_graph(b) for b in blocks_of(space, space.largest())]
    weighted = [op for g in graphs for op in g.ops if op.kind in ("conv2d", "linear") and "shortcut" not in op.name]
    assert len(weighted) == 29


def test_expand_ratios_multiply_what_leaves_a_block():
    for encoding in SMALL.sample(20, np.random.default_rng(1)):
        architecture = SMALL.decode(encoding)
        for name, block in SMALL.named_blocks(encoding):
            if block.kind == "bottleneck":
                wanted = block.out_shape[0] * architecture[f"{name}.expand_ratio"]
                assert attributes_of(block)["hidden_channels"] == make_divisible(wanted, 8)


def bottleneck(in_shape, out_shape, *, stride: int = 1, pooled: bool = False) -> Block:
    attributes = {"activation": "relu", "hidden_channels": 8, "kernel_size": 3}
    attributes |= {"pooled_shortcut": pooled, "stride": stride}
    return Block(
        kind="bottleneck",
        in_shape=in_shape,
        out_shape=out_shape,
        precision="fp32",
        attributes=tuple(sorted(attributes.items())),
    )


def randomised(module):
    for name, tensor in module.state_dict().items():
        if tensor.is_floating_point():
            tensor.uniform_(0.5, 1.5) if "running_var" in name else tensor.normal_(0, 0.3)
    return module.eval()


@pytest.mark.parametrize(
    ("channels", "side", "stride", "pooled"),
    [(16, 8, 1, False), (24, 8, 1, True), (16, 8, 2, False), (24, 8, 2, True), (16, 7, 2, True)],
)
def test_a_block_computes_what_the_papers_write(channels, side, stride, pooled):
    torch = pytest.importorskip("torch")
    from torch.nn import functional as F

    from hwnas.supernet.subnetwork import BlockModule

    torch.manual_seed(0)
    out = -(-side // stride)
    module = randomised(BlockModule(bottleneck((16, side, side), (channels, out, out), stride=stride, pooled=pooled)))
    w = module.state_dict()

    def norm(x, name):
        return F.batch_norm(x, *(w[f"{name}.bn.{role}"] for role in ("running_mean", "running_var", "weight", "bias")))

    x = torch.randn(2, 16, side, side)
    y = F.relu(norm(F.conv2d(x, w["reduce.conv.weight"]), "reduce"))
    y = F.relu(norm(F.conv2d(y, w["spatial.conv.weight"], stride=stride, padding=1), "spatial"))
    y = norm(F.conv2d(y, w["expand.conv.weight"]), "expand")
    shortcut = x
    if stride == 2 and pooled:
        shortcut = F.avg_pool2d(x, 2, ceil_mode=True)
        shortcut = norm(F.conv2d(shortcut, w["shortcut.conv.weight"]), "shortcut")
    elif stride == 2 or channels != 16:
        shortcut = norm(F.conv2d(x, w["shortcut.conv.weight"], stride=stride), "shortcut")
    assert any("shortcut" in name for name in w) == (shortcut is not x)
    torch.testing.assert_close(module(x), F.relu(y + shortcut), rtol=0, atol=1e-5)


def test_the_deep_stem_is_three_convolutions_and_a_maximum():
    torch = pytest.importorskip("torch")
    from torch.nn import functional as F

    from hwnas.supernet.subnetwork import BlockModule

    torch.manual_seed(0)
    attributes = (("activation", "relu"),)
    stem = Block(kind="deep_stem", in_shape=(3, 16, 16), out_shape=(32, 4, 4), precision="fp32", attributes=attributes)
    module = randomised(BlockModule(stem))
    w = module.state_dict()

    def layer(x, name, stride=1):
        x = F.conv2d(x, w[f"{name}.conv.weight"], stride=stride, padding=1)
        norm = (w[f"{name}.bn.{role}"] for role in ("running_mean", "running_var", "weight", "bias"))
        return F.relu(F.batch_norm(x, *norm))

    x = torch.randn(2, 3, 16, 16)
    y = layer(x, "first", stride=2)
    y = layer(y + layer(y, "second"), "third")
    torch.testing.assert_close(module(x), F.max_pool2d(y, 3, 2, 1), rtol=0, atol=1e-5)


# ---------------------------------------------------------------- the supernet


def test_extracted_networks_equal_the_active_supernet():
    check_extracted_networks_equal_the_active_supernet(SMALL)


def test_every_shared_weight_learns():
    check_every_shared_weight_learns(SMALL)


# ---------------------------------------------------------------- people, refusals


def test_the_blocks_of_a_network_are_told_in_words():
    text = RESNET50.describe(architecture_of_resnet50())
    assert "deep_stem 3x3 /4 hidden 32 32 relu" in text
    assert "bottleneck 3x3 /2 hidden 128 128 relu" in text


@pytest.mark.parametrize(
    ("changes", "message"),
    [
        ({"stages": [StageSpec(**STAGE, se=(True,))]}, "squeeze-and-excitation, which bottleneck blocks have not"),
        ({"stem_stride": 2}, "stem_stride is 2; a deep stem has 4: set deep_stem to false"),
        ({"deep_stem": "yes"}, "deep_stem must be true or false"),
        ({"resolutions": (7,)}, "resolution 7 is too small"),
    ],
)
def test_what_makes_no_space_is_refused(changes, message):
    with pytest.raises(SpaceError, match=message):
        small(**changes)


def test_neither_family_takes_the_definition_of_the_other():
    with pytest.raises(SpaceError, match="ResNet space 'other' is defined by a ResNetSpec, not BottleneckSpec"):
        ResNetSpace("other", SMALL.spec)
