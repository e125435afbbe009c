"""One-dimensional networks in files: what the runtimes compute is what torch computes, and integers stay integers."""

from __future__ import annotations

from collections import Counter
from dataclasses import replace

import numpy as np
import onnx
import onnxruntime as ort
import pytest
import torch

from hwnas import registry
from hwnas.devices import load_device
from hwnas.measure.interface import from_artefact, to_artefact
from hwnas.spaces import StageSpec
from hwnas.spaces.conv1d import Conv1dSpace, Conv1dSpec, conv1d_keyword
from hwnas.supernet.quantization import quantize
from hwnas.supernet.untrained import untrained_block
from hwnas.testing.exporter_suite import sample_network
from hwnas.types import Block
from tests.devices.ethosu_tools import require_tools
from tests.here import INTEGERS

from .families import DEVICES, FORMATS, float_difference, images_for, integer_differences, require

SPACE = Conv1dSpace(
    "series",
    Conv1dSpec(
        in_channels=3,
        n_classes=5,
        resolutions=(21,),  # which strides do not divide
        stem_channels=8,
        stem_kernel_size=5,
        head_channels=16,
        stages=[
            StageSpec(channels=8, stride=1, depths=(1,), kernel_sizes=(9,), expand_ratios=(1,), activations=("relu",)),
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
    assert worst <= STEPS + 0.5
    assert same >= 0.95


def integer_network(space: Conv1dSpace = SPACE, precision: str = "int8", **choices):
    """The largest network of a space with these choices, in integers, and some series."""
    space = space.restrict(precisions=["int8"])
    architecture = space.decode(space.largest()) | choices
    blocks = [replace(b, precision=precision) for _, b in space.named_blocks(space.encode(architecture))]
    network = sample_network(blocks)
    series = images_for(network, 16)
    return quantize(network, [series]), series


def test_an_integer_network_has_integer_operators_only(tmp_path):
    model, series = integer_network(precision=INTEGERS, **{"stages.1.activation": "relu"})
    path, optimised = tmp_path / "network.onnx", tmp_path / "optimised.onnx"
    registry.load("exporters", "onnx")().export(model, series[:1], path, precision=INTEGERS)
    options = ort.SessionOptions()
    options.log_severity_level = 3  # it warns that the file is for this machine only
    options.optimized_model_filepath = str(optimised)
    ort.InferenceSession(str(path), options, providers=["CPUExecutionProvider"])
    found = Counter(node.op_type for node in onnx.load(optimised).graph.node)
    assert found["QLinearConv"] == 1 + 3 * 4 + 1 + 1  # stem, three blocks, one projection, head
    assert found["QLinearAdd"] == 3
    assert {"Conv", "Add", "Relu", "Clip", "Gemm", "MatMul"}.isdisjoint(found)
    assert (found["QuantizeLinear"], found["DequantizeLinear"]) == (1, 1)


@pytest.mark.parametrize("precision", ["fp32", "int8"])
def test_series_are_never_turned_in_tflite_files(precision, tmp_path):
    pytest.importorskip("ai_edge_litert", reason="the extra 'litert' is not installed")
    from hwnas.exporters.tflite_file import read_tflite

    if precision == "int8":
        model, series = integer_network()
    else:
        space = SPACE.restrict(precisions=["fp32"])
        model = sample_network([b for _, b in space.named_blocks(space.largest())])
        series = images_for(model, 1)
    path = tmp_path / "network.tflite"
    artefact = registry.load("exporters", "tflite")().export(model, series[:1], path, precision=precision)
    assert artefact.input.layout == "NHWC"  # (N, L, C), as the format computes
    found = Counter(op.kind for op in read_tflite(path).operators)
    assert found["TRANSPOSE"] == 0
    assert found["RESHAPE"] <= 2  # at the ends
    assert found["DEPTHWISE_CONV_2D"] == 3 * 2


@pytest.mark.parametrize("precision", ["fp32", "int8"])
def test_a_block_alone_has_the_operators_it_has_between_its_neighbours(precision, tmp_path):
    pytest.importorskip("ai_edge_litert", reason="the extra 'litert' is not installed")
    from hwnas.exporters.tflite_file import read_tflite

    attributes = (("activation", "relu"), ("hidden_channels", 16), ("kernel_size", 5), ("stride", 2))
    block = Block(kind="separable1d", in_shape=(8, 21), out_shape=(16, 11), precision=precision, attributes=attributes)
    artefact = untrained_block(block).write(registry.load("exporters", "tflite")(), tmp_path / "block")
    assert (artefact.input.layout, artefact.output.layout) == ("NHWC", "NHWC")
    found = Counter(op.kind for op in read_tflite(tmp_path / "block").operators)
    assert found == {"RESHAPE": 2, "DEPTHWISE_CONV_2D": 2, "CONV_2D": 3, "ADD": 1}


@pytest.mark.parametrize("device_name", DEVICES)
def test_a_block_of_integers_alone_is_that_of_torch(device_name, tmp_path):
    """It takes and gives integers channels-last, as it does between its neighbours."""
    require(device_name)
    device = load_device(device_name)
    precision = "int8" if device_name == "cpu-litert" else INTEGERS
    attributes = (("activation", "relu"), ("hidden_channels", 16), ("kernel_size", 5), ("stride", 2))
    block = Block(kind="separable1d", in_shape=(8, 21), out_shape=(16, 11), precision=precision, attributes=attributes)
    made = untrained_block(block)
    artefact = made.write(registry.load("exporters", FORMATS[device.runtime])(), tmp_path / "block")
    assert {artefact.input.layout, artefact.output.layout} == {"NHWC"}
    series = torch.randn(1, 8, 21, generator=torch.Generator().manual_seed(0))
    with registry.load("runtimes", device.runtime)().load(artefact, device) as session:
        (found,) = session.run([to_artefact(series.numpy(), artefact.input)])
        info = session.info()
    assert found.shape == (1, 11, 16)
    assert info.get("float_convolutions", "none") == "none"  # which OpenVINO tells
    with torch.inference_mode():
        expected = made.model(series).numpy()
    assert np.abs(from_artefact(found, artefact.output) - expected).max() <= 1.01 * artefact.output.scale


@pytest.mark.parametrize("name", ["ethos-u55-128", "ethos-u85-256"])
@pytest.mark.parametrize("space", [SPACE, conv1d_keyword()], ids=lambda space: space.name)
def test_an_npu_takes_all_operators(space, name, tmp_path):
    """As Vela compiles them; tflite-micro's kernels round otherwise than torch does, and that adds up over layers."""
    pytest.importorskip("ai_edge_litert", reason="the extra 'litert' is not installed")
    require_tools()
    model, series = integer_network(space, **({"stages.1.activation": "relu"} if space is SPACE else {}))
    artefact = registry.load("exporters", "tflite")().export(model, series[:1], tmp_path / "network", precision="int8")
    device = load_device(name)
    with registry.load("runtimes", device.runtime)().load(artefact, device) as session:
        assert session.info()["cpu_operators"] == "none"
        found = from_artefact(session.run([to_artefact(series[:4].numpy(), artefact.input)])[0], artefact.output)
    with torch.inference_mode():
        expected = model(series[:4]).numpy()
    assert np.abs(found - expected).mean() <= 2 * artefact.output.scale
    assert np.abs(found - expected).max() <= 2 * STEPS * artefact.output.scale
