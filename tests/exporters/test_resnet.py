"""Residual networks in files: what the runtimes compute is what torch computes, and integers stay integers."""

from __future__ import annotations

from collections import Counter
from dataclasses import replace

import onnx
import onnxruntime as ort
import pytest

from hwnas import registry
from hwnas.devices import load_device
from hwnas.devices.ethosu import EthosURuntime
from hwnas.spaces import StageSpec
from hwnas.spaces.resnet import BottleneckSpace, BottleneckSpec, ResNetSpace, ResNetSpec
from hwnas.supernet.quantization import quantize
from hwnas.supernet.untrained import untrained_network
from hwnas.testing.exporter_suite import sample_network
from tests.devices.ethosu_tools import require_tools
from tests.here import INTEGERS

from .families import DEVICES, float_difference, images_for, integer_differences, networks, require

BASIC = ResNetSpace(
    "basic",
    ResNetSpec(
        in_channels=2,
        n_classes=5,
        resolutions=(9, 12),  # a side that strides do not divide, too
        stem_channels=8,
        stages=[
            StageSpec(channels=8, stride=1, depths=(1,), kernel_sizes=(3,), expand_ratios=(1,), activations=("relu",)),
            StageSpec(
                channels=16,
                stride=2,
                depths=(1, 2),
                kernel_sizes=(3, 5),
                expand_ratios=(0.5, 1),
                activations=("relu", "hswish"),
            ),
        ],
    ),
)
BOTTLENECKS = BottleneckSpace(
    "bottlenecks",
    BottleneckSpec(
        in_channels=2,
        n_classes=5,
        resolutions=(16, 32),  # of which every stride divides the sides: TFLite's pools end where the image does
        stem_channels=16,
        stages=[
            StageSpec(
                channels=channels,
                stride=stride,
                depths=(1, 2),
                kernel_sizes=(3,),
                expand_ratios=(0.25, 0.5),
                activations=activations,
            )
            for channels, stride, activations in ((32, 1, ("relu",)), (48, 2, ("relu", "hswish")))
        ],
    ),
)
STRIDED = BottleneckSpace("strided bottlenecks", replace(BOTTLENECKS.spec, pooled_shortcuts=False))
STEPS = 4  # of the outputs' scale, as for all networks


@pytest.mark.parametrize("space", [BASIC, BOTTLENECKS], ids=lambda space: space.name)
@pytest.mark.parametrize("device", DEVICES)
def test_floats_are_those_of_torch(device, space, tmp_path):
    require(device)
    assert float_difference(device, space, tmp_path) <= 1e-4


@pytest.mark.parametrize("precisions", [("int8",), ("int8", "fp32")], ids=["integers", "mixed"])
@pytest.mark.parametrize("space", [BASIC, STRIDED], ids=lambda space: space.name)
@pytest.mark.parametrize("device", DEVICES)
def test_integers_are_those_of_torch(device, space, precisions, tmp_path):
    require(device)
    worst, same = integer_differences(device, space, *precisions, folder=tmp_path)
    assert worst <= STEPS + 0.5
    assert same >= 0.95


@pytest.mark.parametrize("device", DEVICES)
def test_integers_of_pooled_shortcuts_are_those_of_torch_or_next_to_them(device, tmp_path):
    """One mean of four integers in four lies halfway between two: ONNX Runtime alone takes the same as torch."""
    require(device)
    worst, same = integer_differences(device, BOTTLENECKS, "int8", folder=tmp_path)
    if device == "cpu":
        assert worst <= STEPS + 0.5
        assert same >= 0.95
    assert worst <= 2 * STEPS


def test_an_integer_network_has_integer_operators_only(tmp_path):
    space = BASIC.restrict(precisions=["int8"])
    architecture = space.decode(space.largest()) | {"stages.1.activation": "relu"}
    network = sample_network(
        [replace(b, precision=INTEGERS) for _, b in space.named_blocks(space.encode(architecture))]
    )
    model = quantize(network, [images_for(network, 16)])
    path, optimised = tmp_path / "network.onnx", tmp_path / "optimised.onnx"
    registry.load("exporters", "onnx")().export(model, images_for(network, 1), path, precision=INTEGERS)
    options = ort.SessionOptions()
    options.log_severity_level = 3  # it warns that the file is for this machine only
    options.optimized_model_filepath = str(optimised)
    ort.InferenceSession(str(path), options, providers=["CPUExecutionProvider"])
    found = Counter(node.op_type for node in onnx.load(optimised).graph.node)
    assert found["QLinearConv"] == 1 + 3 * 2 + 1  # stem, three blocks, one projection
    assert found["QLinearAdd"] == 3
    assert {"Conv", "Add", "Relu", "Clip", "Gemm", "MatMul"}.isdisjoint(found)
    assert (found["QuantizeLinear"], found["DequantizeLinear"]) == (1, 1)


@pytest.mark.parametrize("precision", ["fp32", "int8"])
def test_all_of_a_network_of_bottlenecks_runs_on_xnnpack(precision, tmp_path):
    """Means and maxima of windows too, which are no operators of XNNPACK's in every form."""
    require("cpu-litert")
    (_, largest, *_) = networks(BOTTLENECKS, precision)
    file = untrained_network(largest, precision=precision).write(registry.load("exporters", "tflite")(), tmp_path / "m")
    with registry.load("runtimes", "litert")().load(file, load_device("cpu-litert")) as session:
        assert session.operators()[1] == {}


def test_an_npu_computes_all_of_a_network_of_bottlenecks(tmp_path):
    require("cpu-litert")
    runtime = EthosURuntime(require_tools())
    relu = registry.load("spaces", "resnet29")(2, 5).restrict(precisions=["int8"], resolutions=[16])
    (_, largest, *_) = networks(relu)
    file = untrained_network(largest, precision="int8").write(registry.load("exporters", "tflite")(), tmp_path / "m")
    with runtime.load(file, load_device("ethos-u55-128")) as session:
        assert session.info()["cpu_operators"] == "none"
