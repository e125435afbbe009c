"""Vision transformers in files: what the runtimes compute is what torch computes, on the operators that are fast."""

from __future__ import annotations

import pytest

from hwnas.spaces.vision_transformer import TransformerStage, VisionTransformerSpace, VisionTransformerSpec

from .families import DEVICES, float_difference, integer_differences, require

STAGE = TransformerStage(embed_dims=(24, 32), depths=(1, 2), heads=(1, 2), mlp_ratios=(1, 2))
SPACES = {
    name: VisionTransformerSpace(
        name,
        VisionTransformerSpec(
            in_channels=2,
            n_classes=5,
            resolutions=(8, 12),  # the smaller with a map of positions that is resized
            patch_size=2,
            head_width=8,
            activation=activation,
            stages=stages,
        ),
    )
    for name, activation, stages in (("gelu", "gelu", [STAGE]), ("relu in stages", "relu", [STAGE, STAGE]))
}
STEPS = 4  # of the outputs' scale, as for all networks


@pytest.mark.parametrize("space", SPACES)
@pytest.mark.parametrize("device", DEVICES)
def test_floats_are_those_of_torch(device, space, tmp_path):
    require(device)
    assert float_difference(device, SPACES[space], tmp_path) <= 1e-4


@pytest.mark.parametrize("precisions", [("int8",), ("int8", "fp32")], ids=["integers", "mixed"])
@pytest.mark.parametrize("space", SPACES)
@pytest.mark.parametrize("device", DEVICES)
def test_integers_are_those_of_torch(device, space, precisions, tmp_path):
    require(device)
    worst, same = integer_differences(device, SPACES[space], *precisions, folder=tmp_path)
    assert worst <= STEPS + 0.5
    assert same >= 0.85  # normalisation and softmax are sums of floats, which no two runtimes add up in one order
