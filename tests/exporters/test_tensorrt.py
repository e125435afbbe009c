"""ONNX files for TensorRT: which tensors are quantized, and that torch promised what the file computes."""

from collections import Counter

import numpy as np
import onnx
import onnxruntime as ort
import pytest
import torch
import torch.nn.functional as F

from hwnas.errors import ExportError
from hwnas.exporters.tensorrt import TensorRtExporter
from hwnas.supernet.quantization import quantize
from hwnas.supernet.untrained import drift_anchor, untrained_block, untrained_network
from hwnas.testing.exporter_suite import sample_blocks, sample_images, sample_network
from tests.agreement import top1_agreement
from tests.exporters.digits import shuffled_digits

ACTIVATIONS = ("relu", "relu6", "hswish", "silu")


def _symmetric(act="relu6", se=0, features=0, pattern="iiii"):
    network = sample_network(sample_blocks(pattern, act=act, se_channels=se, features=features))
    return quantize(network, [sample_images(32)], symmetric=True)


def _run(path, images, *, as_written=False):
    """What ONNX Runtime computes; the file takes one image.

    Its fusions quantize biases and pools with scales of their own. As written, they are float, as TensorRT has them.
    """
    options = ort.SessionOptions()
    if as_written:
        options.graph_optimization_level = ort.GraphOptimizationLevel.ORT_DISABLE_ALL
    session = ort.InferenceSession(str(path), options, providers=["CPUExecutionProvider"])
    return torch.cat([torch.from_numpy(session.run(None, {"input": x[None].numpy()})[0]) for x in images])


@pytest.fixture
def path(tmp_path):
    return tmp_path / "network.onnx"


class _Graph:
    """An exported graph to be asked about."""

    def __init__(self, path):
        graph = onnx.load(path).graph
        self.nodes = list(graph.node)
        self.values = {t.name: onnx.numpy_helper.to_array(t) for t in graph.initializer}
        self.made_by = {name: n for n in graph.node for name in n.output}
        self.ends = [*graph.input, *graph.output]

    def of(self, *kinds):
        return [n for n in self.nodes if n.op_type in kinds]

    def readers(self, name):
        return [n for n in self.nodes if name in n.input]


# ---------------------------------------------------------------- explicit quantization


@pytest.mark.parametrize("act", ACTIVATIONS)
def test_activations_and_weights_of_every_convolution_and_linear_layer_are_int8(path, act):
    TensorRtExporter().export(_symmetric(act, se=8, features=16), sample_images(1), path, precision="int8")
    graph = _Graph(path)
    weighted = graph.of("Conv", "Gemm")
    assert len(weighted) == 1 + 2 + 3 + 1 + 2 * 2 + 2
    for node in weighted:
        activations, weights = (graph.made_by[name] for name in node.input[:2])
        assert (activations.op_type, weights.op_type) == ("DequantizeLinear", "DequantizeLinear")
        assert graph.values[weights.input[0]].dtype == np.int8
        assert graph.values[weights.input[1]].shape == graph.values[weights.input[0]].shape[:1]  # one a channel
        assert graph.values[activations.input[1]].shape == ()


def test_every_zero_point_is_int8_zero_and_every_bias_float(path):
    TensorRtExporter().export(_symmetric(se=8, features=16), sample_images(1), path, precision="int8")
    graph = _Graph(path)
    for node in graph.of("QuantizeLinear", "DequantizeLinear"):
        zero = graph.values[node.input[2]]
        assert zero.dtype == np.int8
        assert not zero.any()
    assert {graph.values[n.input[2]].dtype for n in graph.of("Conv", "Gemm")} == {np.dtype(np.float32)}


def test_a_residual_sum_adds_an_int8_tensor_to_a_float_one_and_is_quantized(path):
    """The form in which TensorRT adds within the convolution's kernel."""
    TensorRtExporter().export(_symmetric(), sample_images(1), path, precision="int8")
    graph = _Graph(path)
    (add,) = graph.of("Add")
    assert sorted(graph.made_by[name].op_type for name in add.input) == ["Conv", "DequantizeLinear"]
    assert [n.op_type for n in graph.readers(add.output[0])] == ["QuantizeLinear"]


def test_relu6_before_a_grid_is_a_relu(path):
    """The range clips at six by itself, and every kernel of TensorRT's knows ReLU."""
    TensorRtExporter().export(_symmetric("relu6"), sample_images(1), path, precision="int8")
    graph = _Graph(path)
    kinds = Counter(n.op_type for n in graph.nodes)
    assert (kinds["Relu"], kinds["Clip"]) == (4, 1)  # the last is before the head's pool, where nothing is quantized


def test_relu_is_a_relu_where_there_is_no_grid_too(path):
    TensorRtExporter().export(_symmetric("relu", se=4, features=16), sample_images(1), path, precision="int8")
    kinds = Counter(n.op_type for n in _Graph(path).nodes)
    assert (kinds["Relu"], kinds["Clip"]) == (1 + 1 + 2 + 2 + 2, 0)


@pytest.mark.parametrize(("act", "operator"), [("hswish", "HardSwish"), ("silu", "Sigmoid")])
def test_smooth_activations_are_float_between_convolution_and_quantizer(path, act, operator):
    TensorRtExporter().export(_symmetric(act), sample_images(1), path, precision="int8")
    graph = _Graph(path)
    for node in graph.of(operator):
        assert graph.made_by[node.input[0]].op_type == "Conv"


def test_float_blocks_of_a_mixed_network_stay_float(path):
    TensorRtExporter().export(_symmetric(pattern="iffi"), sample_images(1), path, precision="int8")
    graph = _Graph(path)
    inputs = Counter(graph.made_by[n.input[1]].op_type if n.input[1] in graph.made_by else "" for n in graph.of("Conv"))
    assert inputs == {"DequantizeLinear": 1 + 1, "": 2 + 3}


def test_a_network_quantized_for_other_runtimes_is_refused(path):
    model = quantize(sample_network(sample_blocks("iiii")), [sample_images(8)])
    with pytest.raises(ExportError, match="symmetric=True"):
        TensorRtExporter().export(model, sample_images(1), path, precision="int8")
    assert not path.exists()


# ---------------------------------------------------------------- what it computes


@pytest.fixture(scope="module")
def digits():
    """A network trained on digits for a moment, and images it has not seen."""
    images, labels = shuffled_digits()
    network = sample_network(sample_blocks("iiii", in_shape=(1, 16, 16))).train()
    optimizer = torch.optim.SGD(network.parameters(), 0.1, momentum=0.9)
    generator = torch.Generator().manual_seed(0)
    for _ in range(5):
        for chosen in torch.randperm(1200, generator=generator).split(50):
            optimizer.zero_grad()
            F.cross_entropy(network(images[chosen]), labels[chosen]).backward()
            optimizer.step()
    return network.eval(), images[:256], images[1200:], labels[1200:]


@pytest.mark.parametrize("as_written", [True, False])
def test_a_trained_network_predicts_what_torch_promised(digits, path, as_written):
    network, calibration, images, labels = digits
    model = quantize(network, [calibration], symmetric=True)
    TensorRtExporter().export(model, images[:1], path, precision="int8")
    found, expected = _run(path, images, as_written=as_written), model(images).detach()
    assert top1_agreement(found, expected) >= 0.99
    accuracy = {
        name: (y.argmax(1) == labels).float().mean() for name, y in (("float", network(images)), ("file", found))
    }
    assert accuracy["file"] >= accuracy["float"] - 0.01
    assert accuracy["float"] > 0.9  # otherwise the rest would prove nothing


def test_logits_are_nearly_bit_exact(digits, path):
    network, calibration, images, _ = digits
    model = quantize(network, [calibration], symmetric=True)
    TensorRtExporter().export(model, images[:1], path, precision="int8")
    steps = (_run(path, images, as_written=True) - model(images)).abs() / model.output_quantizer.scale
    assert (steps < 0.01).float().mean() >= 0.98
    assert steps.max() < 2.01


# ---------------------------------------------------------------- blocks


@pytest.mark.parametrize("block", sample_blocks("iiii", act="hswish", se_channels=8, features=16), ids=lambda b: b.kind)
def test_between_int8_blocks_tensors_are_int8_and_no_layout_is_forced(block, path):
    artefact = untrained_block(block, symmetric=True).write(TensorRtExporter(), path)
    graph = _Graph(path)
    types = [end.type.tensor_type.elem_type for end in graph.ends]
    float32, int8 = onnx.TensorProto.FLOAT, onnx.TensorProto.INT8
    assert types == [
        float32 if block.kind == "quantize" else int8,
        float32 if block.kind == "dequantize" else int8,
    ]
    assert not graph.of("Transpose")
    assert (artefact.input.layout, artefact.output.layout) == ("NCHW", "NCHW")


def test_a_boundary_is_one_conversion(path):
    for kind, operator in (("quantize", "QuantizeLinear"), ("dequantize", "DequantizeLinear")):
        (block,) = [b for b in sample_blocks("iiii") if b.kind == kind]
        untrained_block(block, symmetric=True).write(TensorRtExporter(), path)
        assert [n.op_type for n in _Graph(path).nodes] == [operator]


def test_timed_networks_and_the_reference_are_symmetric_with_batch_one(tmp_path):
    exporter = TensorRtExporter()
    sample = untrained_network(sample_blocks("fiif"), precision="int8", symmetric=True).write(
        exporter, tmp_path / "sample"
    )
    reference = drift_anchor("int8", symmetric=True).write(exporter, tmp_path / "reference")
    for artefact in (sample, reference):
        graph = _Graph(artefact.path)
        assert graph.of("QuantizeLinear")
        assert all(graph.values[n.input[2]].dtype == np.int8 for n in graph.of("QuantizeLinear"))
        assert graph.ends[0].type.tensor_type.shape.dim[0].dim_value == 1
        assert artefact.format == "tensorrt-onnx"
