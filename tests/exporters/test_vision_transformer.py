"""Vision transformers in files: what the runtimes compute is what torch computes, on the operators that are fast."""

from __future__ import annotations

import pytest

from hwnas import registry
from hwnas.devices import load_device
from hwnas.devices.ethosu import EthosURuntime
from hwnas.errors import MeasurementError
from hwnas.spaces.vision_transformer import TransformerStage, VisionTransformerSpace, VisionTransformerSpec
from hwnas.supernet.untrained import untrained_block, untrained_network
from tests.devices.ethosu_tools import require_tools

from .families import DEVICES, float_difference, integer_differences, networks, require

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


@pytest.mark.parametrize("precision", ["fp32", "int8"])
def test_all_of_it_runs_on_xnnpack(precision, tmp_path):
    require("cpu-litert")
    (blocks, *_) = networks(SPACES["gelu"].restrict(precisions=[precision]))
    file = untrained_network(blocks, precision=precision).write(registry.load("exporters", "tflite")(), tmp_path / "m")
    with registry.load("runtimes", "litert")().load(file, load_device("cpu-litert")) as session:
        assert session.operators()[1] == {}


def test_an_npu_of_integers_alone_says_what_it_has_not(tmp_path):
    require("cpu-litert")
    runtime = EthosURuntime(require_tools())
    (block, *_) = [b for b in SPACES["gelu"].distinct_blocks() if (b.kind, b.precision) == ("mlp", "int8")]
    file = untrained_block(block).write(registry.load("exporters", "tflite")(), tmp_path / "m")
    with pytest.raises(MeasurementError, match=r"Vela leaves .*Gelu 1.*Rsqrt 1.* to the CPU"):
        runtime.load(file, load_device("ethos-u55-128"))
