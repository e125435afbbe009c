"""What is particular to files for OpenVINO: they compute what torch does, and in integers."""

from dataclasses import replace
from importlib.util import find_spec
from pathlib import Path

import numpy as np
import onnx
import pytest
import torch
from onnx import TensorProto, helper, numpy_helper

from hwnas import registry
from hwnas.devices import load_device
from hwnas.devices.onnxruntime import OnnxRuntime
from hwnas.devices.openvino import OpenVinoRuntime
from hwnas.exporters.onnx import OnnxExporter
from hwnas.exporters.openvino import OpenVinoExporter, dequantize_first, keep_roundings
from hwnas.measure.artefacts import artefact_from_file
from hwnas.supernet.quantization import fold_batchnorm, quantize
from hwnas.supernet.untrained import untrained_block
from hwnas.testing.exporter_suite import sample_blocks, sample_images, sample_network
from hwnas.types import Block
from tests.here import INTEGERS

# Looked for, not imported: OpenVINO would report that over the network.
pytestmark = pytest.mark.skipif(
    find_spec("openvino") is None, reason="the files are judged by OpenVINO; extra `openvino`"
)
DEVICE = load_device("cpu-openvino")


@pytest.fixture
def runtime():
    return OpenVinoRuntime()


def _quantized(act, se_channels=0):
    images = sample_images(256)
    model = quantize(
        sample_network(sample_blocks("iiii", act=act, se_channels=se_channels, integers=INTEGERS)), [images[:64]]
    )
    return model, images


def _predictions(runtime, artefact, images):
    with runtime.load(artefact, DEVICE) as session:
        return session.run([images.numpy()])[0].argmax(1)


@pytest.mark.parametrize("act", ["relu6", "hswish"])
def test_predictions_agree_with_torch(runtime, tmp_path, act):
    model, images = _quantized(act, se_channels=4)
    artefact = OpenVinoExporter().export(model, images[:1], tmp_path / "m", precision="int8")
    agreement = (_predictions(runtime, artefact, images) == model(images).detach().numpy().argmax(1)).mean()
    assert agreement >= 0.99


def test_a_sub_network_of_a_preset_agrees_with_torch_in_both_precisions(runtime, tmp_path):
    space = registry.load("spaces", "mobilenet-tiny")()
    rng = np.random.default_rng(0)
    encoding = space.canonical(np.array([[rng.integers(len(choice.options)) for choice in space.choices]]))[0]
    blocks = [b for _, b in space.named_blocks(encoding) if b.kind not in ("quantize", "dequantize")]
    for precision in ("fp32", INTEGERS):
        network = sample_network(_in_precision(blocks, precision))
        images = torch.randn(256, *network.in_shape, generator=torch.Generator().manual_seed(0))
        model = fold_batchnorm(network) if precision == "fp32" else quantize(network, [images])
        with torch.no_grad():
            expected = model(images).numpy()
        artefact = OpenVinoExporter().export(model, images[:1], tmp_path / precision, precision=precision)
        with runtime.load(artefact, DEVICE) as session:
            found = session.run([images.numpy()])[0]
        if precision == "fp32":
            assert np.abs(found - expected).max() <= 1e-4
        assert (found.argmax(1) == expected.argmax(1)).mean() >= 0.99


def _in_precision(blocks, precision):
    """The same network in one precision, with the boundaries it needs."""
    changed = [replace(block, precision=precision) for block in blocks]
    if precision == "fp32":
        return changed
    first, last = blocks[0].in_shape, blocks[-1].out_shape
    return [
        Block(kind="quantize", in_shape=first, out_shape=first, precision=precision),
        *changed,
        Block(kind="dequantize", in_shape=last, out_shape=last, precision=precision),
    ]


def test_plain_onnx_files_do_not_agree_so_the_rewrite_is_needed(runtime, tmp_path):
    model, images = _quantized("hswish")
    plain = OnnxExporter().export(model, images[:1], tmp_path / "m", precision="int8")
    artefact = artefact_from_file(plain.path, format="openvino-onnx", precision="int8")
    agreement = (_predictions(runtime, artefact, images) == model(images).detach().numpy().argmax(1)).mean()
    assert agreement < 0.99, "OpenVINO keeps the rounding now: keep_roundings is no longer needed"


@pytest.mark.parametrize("act", ["relu", "relu6", "hswish", "silu"])
@pytest.mark.parametrize("se_channels", [0, 4])
def test_convolutions_of_int8_blocks_compute_in_integers(runtime, tmp_path, act, se_channels):
    blocks = [b for b in sample_blocks("iiii", act=act, se_channels=se_channels) if b.kind in ("conv", "mbconv")]
    for block in blocks:
        with runtime.load(untrained_block(block).write(OpenVinoExporter(), tmp_path / "block"), DEVICE) as session:
            info = session.info()
        assert "Convolution_i8" in info["layers"], block.key
        assert info["float_convolutions"] == "none", block.key


def test_a_plain_onnx_block_computes_in_float_so_the_swap_is_needed(runtime, tmp_path):
    block = sample_blocks("iiii")[1]
    plain = untrained_block(block).write(OnnxExporter(), tmp_path / "block")
    artefact = artefact_from_file(plain.path, format="openvino-onnx", precision="int8")
    with runtime.load(artefact, DEVICE) as session:
        assert session.info()["float_convolutions"] != "none", "the swap in dequantize_first is no longer needed"


def test_networks_compute_in_integers_from_end_to_end(runtime, tmp_path):
    model, images = _quantized("relu6", se_channels=4)
    artefact = OpenVinoExporter().export(model, images[:1], tmp_path / "m", precision="int8")
    with runtime.load(artefact, DEVICE) as session:
        assert session.info()["float_convolutions"] == "none"


def test_gates_of_either_kind_leave_convolutions_in_integers(runtime, tmp_path):
    for gate in ("sigmoid", "hard_sigmoid"):
        block = next(b for b in sample_blocks("iiii", se_channels=4, se_gate=gate) if b.kind == "mbconv")
        with runtime.load(untrained_block(block).write(OpenVinoExporter(), tmp_path / gate), DEVICE) as session:
            assert session.info()["float_convolutions"] == "none", gate


@pytest.mark.parametrize("pattern", ["iiii", "fiif"])
def test_any_reader_of_onnx_computes_the_same_as_from_a_plain_file(tmp_path, pattern):
    images = sample_images(16)
    model = quantize(sample_network(sample_blocks(pattern, integers=INTEGERS)), [images])
    outputs = []
    for exporter in (OnnxExporter(), OpenVinoExporter()):
        path = exporter.export(model, images[:1], tmp_path / exporter.format, precision="int8").path
        with OnnxRuntime().load(artefact_from_file(path, format="onnx", precision="int8"), load_device("cpu")) as s:
            outputs.append(s.run([images.numpy()])[0])
    np.testing.assert_array_equal(*outputs)


def _count(path: Path, op_type: str) -> int:
    return sum(node.op_type == op_type for node in onnx.load(str(path)).graph.node)


def test_only_sums_are_touched(tmp_path):
    images = sample_images(1)
    model = quantize(sample_network(sample_blocks("iiii")), [images])
    assert _count(OpenVinoExporter().export(model, images, tmp_path / "int8", precision="int8").path, "LeakyRelu") == 1
    plain = sample_network(sample_blocks("ffff"))
    float_files = [
        e.export(plain, images, tmp_path / e.format, precision="fp32") for e in (OnnxExporter(), OpenVinoExporter())
    ]
    assert float_files[0].sha256 == float_files[1].sha256


def _graph(nodes, *, output="y"):
    constants = {"s": np.float32(0.1), "z": np.uint8(7), "w": np.zeros((2, 2, 1, 1), np.float32)}
    return helper.make_graph(
        nodes,
        "g",
        [helper.make_tensor_value_info("x", TensorProto.UINT8, [1, 3, 3, 2])],
        [helper.make_tensor_value_info(output, TensorProto.FLOAT, None)],
        [numpy_helper.from_array(np.asarray(v), k) for k, v in constants.items()],
    )


def test_a_convolution_that_is_read_elsewhere_too_is_left_alone():
    graph = _graph(
        [
            helper.make_node("Conv", ["a", "w"], ["c"]),
            helper.make_node("QuantizeLinear", ["c", "s", "z"], ["q"]),
            helper.make_node("DequantizeLinear", ["q", "s", "z"], ["d"]),
            helper.make_node("Relu", ["d"], ["r"]),
            helper.make_node("Add", ["d", "r"], ["y"]),
        ]
    )
    before = graph.SerializeToString()
    keep_roundings(graph)
    assert graph.SerializeToString() == before


def test_a_transpose_that_two_operators_read_is_left_alone():
    graph = _graph(
        [
            helper.make_node("Transpose", ["x"], ["t"], perm=[0, 3, 1, 2]),
            helper.make_node("DequantizeLinear", ["t", "s", "z"], ["d"]),
            helper.make_node("Cast", ["t"], ["f"], to=TensorProto.FLOAT),
            helper.make_node("Add", ["d", "f"], ["y"]),
        ]
    )
    before = graph.SerializeToString()
    dequantize_first(graph)
    assert graph.SerializeToString() == before
