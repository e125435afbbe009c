"""The presets are what is published and what is promised of their size."""

from dataclasses import replace

import numpy as np
import pytest

from hwnas import registry
from hwnas.spaces import MobileNetSpace, Space
from hwnas.spaces.kinds import attributes_of as attrs
from hwnas.spaces.once_for_all import ofa_mobilenet_v3, ofa_mobilenet_v3_wide
from hwnas.spaces.presets import mobilenet_tiny, mobilenet_v3_large
from hwnas.testing.spaces import tiny_space


def _macs(block):
    (_, h, w), c_out = block.out_shape if len(block.out_shape) == 3 else (0, 1, 1), block.out_shape[0]
    c_in, h_in, w_in = block.in_shape if len(block.in_shape) == 3 else (0, 0, 0)
    if block.kind == "conv":
        return c_in * c_out * attrs(block)["kernel_size"] ** 2 * h * w
    if block.kind == "mbconv":
        hidden = attrs(block)["hidden_channels"]
        expand = c_in * hidden * h_in * w_in if hidden != c_in else 0
        return (
            expand
            + hidden * h * w * (attrs(block)["kernel_size"] ** 2 + c_out)
            + 2 * hidden * attrs(block)["se_channels"]
        )
    if block.kind == "head":
        hidden, features = attrs(block)["hidden_channels"], attrs(block)["features"]
        return c_in * hidden * h_in * w_in + hidden * features + (features or hidden) * c_out
    return 0


def test_v3_large_counts_as_published():
    space = mobilenet_v3_large().restrict(precisions=("fp32",), resolutions=(224,))
    assert space.count() == (9**2 + 9**3 + 9**4) ** 5


def test_v3_large_counts_resolutions_and_precisions():
    count = mobilenet_v3_large().count()
    assert count == 25 * 2**3 * (18**2 + 18**3 + 18**4) ** 5  # precision of stem, fixed block and head


def test_v3_large_has_the_published_shapes():
    space = mobilenet_v3_large().restrict(precisions=("fp32",))
    blocks = dict(space.named_blocks(space.largest()))
    assert len(blocks) == 2 + 1 + 5 * 4
    assert blocks["stem"].out_shape == (16, 112, 112)
    assert [blocks[f"stages.{s}.blocks.3"].out_shape for s in range(1, 6)] == [
        (24, 56, 56),
        (40, 28, 28),
        (80, 14, 14),
        (112, 14, 14),
        (160, 7, 7),
    ]
    with_se = [s for s in range(6) if attrs(blocks[f"stages.{s}.blocks.0"])["se_channels"]]
    assert with_se == [2, 4, 5]
    assert (attrs(blocks["head"])["hidden_channels"], attrs(blocks["head"])["features"]) == (960, 1280)


def test_v3_large_without_expansion_keeps_its_first_block_fixed():
    space = mobilenet_v3_large()
    fixed = dict(space.named_blocks(space.largest()))["stages.0.blocks.0"]
    assert (
        attrs(fixed)["hidden_channels"],
        attrs(fixed)["kernel_size"],
        attrs(fixed)["activation"],
    ) == (16, 3, "relu")
    assert not [c for c in space.choices if c.name.startswith("stages.0.") and "precision" not in c.name]


@pytest.mark.parametrize(
    ("make", "width", "name"),
    [(ofa_mobilenet_v3, 1.0, "ofa-mobilenet-v3"), (ofa_mobilenet_v3_wide, 1.2, "ofa-mobilenet-v3-w1.2")],
)
def test_once_for_alls_own_space_is_v3_large_with_another_gate_and_width(make, width, name):
    """Its nine widths are those that the published one rounds to at that width multiplier."""
    space = make()
    assert space.name == name
    spec = replace(mobilenet_v3_large().spec, width_mults=(width,), se_gate="hard_sigmoid")
    wanted = MobileNetSpace("v3", spec)
    assert space.choices == wanted.choices
    assert space.distinct_blocks() == wanted.distinct_blocks()


def test_tiny_is_small_enough_to_train_on_a_cpu():
    space = mobilenet_tiny()
    macs = sum(_macs(b) for _, b in space.named_blocks(space.largest()))
    assert 6e6 < macs < 9e6


def test_tiny_has_few_enough_blocks_to_profile_in_minutes():
    assert 350 <= len(mobilenet_tiny().distinct_blocks()) <= 500


def test_the_test_space_has_few_blocks():
    assert len(tiny_space().distinct_blocks()) < 40


@pytest.mark.parametrize("preset", [mobilenet_tiny, mobilenet_v3_large])
def test_activation_and_se_can_be_replaced(preset):
    blocks = preset(1, 7, activation="silu", se=True).distinct_blocks()
    assert {attrs(b)["activation"] for b in blocks if b.attributes} == {"silu"}
    assert all(attrs(b)["se_channels"] for b in blocks if b.kind == "mbconv" and attrs(b)["hidden_channels"] != 16)


@pytest.mark.parametrize("name", registry.names("spaces"))
def test_registered_spaces_take_channels_and_classes(name):
    space = registry.load("spaces", name)(in_channels=1, n_classes=3)
    assert isinstance(space, Space)
    assert (space.in_channels, space.n_classes) == (1, 3)
    assert space.sample(2, np.random.default_rng(0)).shape == (2, len(space.choices))


@pytest.mark.parametrize("make", [mobilenet_tiny, mobilenet_v3_large])
def test_a_preset_can_round_its_channels_to_other_multiples(make):
    space = make(channel_divisor=16)
    inner = [b for b in space.distinct_blocks() if b.kind == "mbconv"]
    assert all(n % 16 == 0 for b in inner for n in (b.in_shape[0], attrs(b)["hidden_channels"], b.out_shape[0]))
    assert make().channel_divisor == 8
