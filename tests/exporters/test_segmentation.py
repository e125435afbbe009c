"""Networks for segmentation in files: what the runtimes compute of every pixel is what torch computes."""

from __future__ import annotations

from dataclasses import replace

import pytest

from hwnas import registry
from hwnas.devices import load_device
from hwnas.devices.ethosu import EthosURuntime
from hwnas.spaces import StageSpec
from hwnas.spaces.segmentation import SegmentationSpace, SegmentationSpec
from hwnas.supernet.untrained import untrained_network
from tests.devices.ethosu_tools import require_tools

from .families import DEVICES, float_difference, integer_differences, networks, require

_STAGE = {
    "channels": 8,
    "depths": (1, 2),
    "kernel_sizes": (3, 5),
    "expand_ratios": (2, 3),
    "activations": ("relu6", "hswish"),
}
SPACE = SegmentationSpace(
    "segmentation",
    SegmentationSpec(
        in_channels=2,
        n_classes=3,
        resolutions=(13, 16),  # a side that strides do not divide, too
        stem_channels=8,
        stages=[StageSpec(**_STAGE, stride=2), StageSpec(**_STAGE | {"channels": 16}, stride=1)],
        reductions=(1, 2),
        head_channels=16,
    ),
)
STEPS = 4  # of the outputs' scale, as for all networks


@pytest.mark.parametrize("device", DEVICES)
def test_floats_are_those_of_torch(device, tmp_path):
    require(device)
    assert float_difference(device, SPACE, tmp_path) <= 1e-4


@pytest.mark.parametrize("precisions", [("int8",), ("int8", "fp32")], ids=["integers", "mixed"])
@pytest.mark.parametrize("device", DEVICES)
def test_integers_are_those_of_torch(device, precisions, tmp_path):
    require(device)
    worst, same = integer_differences(device, SPACE, *precisions, folder=tmp_path)
    # OpenVINO rounds a few numbers inside to the step beside torch's; a head of floats rounds no more behind them
    assert worst <= (2 * STEPS if device == "cpu-openvino" and "fp32" in precisions else STEPS + 0.5)
    assert same >= 0.95


@pytest.mark.parametrize("precision", ["fp32", "int8"])
def test_all_of_a_network_runs_on_xnnpack_but_for_repeated_positions(precision, tmp_path):
    require("cpu-litert")
    (_, largest, *_) = networks(SPACE, precision)
    file = untrained_network(largest, precision=precision).write(registry.load("exporters", "tflite")(), tmp_path / "m")
    with registry.load("runtimes", "litert")().load(file, load_device("cpu-litert")) as session:
        assert set(session.operators()[1]) <= {"RESIZE_NEAREST_NEIGHBOR"}


def test_an_npu_computes_all_of_a_network(tmp_path):
    require("cpu-litert")
    runtime = EthosURuntime(require_tools())
    space = SegmentationSpace("one size", replace(SPACE.spec, resolutions=(16,), precisions=("int8",)))
    architecture = space.decode(space.largest()) | {f"stages.{s}.activation": "relu6" for s in range(2)}
    blocks = [b for _, b in space.named_blocks(space.encode(architecture))]
    file = untrained_network(blocks, precision="int8").write(registry.load("exporters", "tflite")(), tmp_path / "m")
    with runtime.load(file, load_device("ethos-u55-128")) as session:
        assert session.info()["cpu_operators"] == "none"
