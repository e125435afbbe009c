"""ONNX files: what is in them, what ONNX Runtime makes of them, and that it computes what torch does."""

import subprocess
import sys
from collections import Counter

import numpy as np
import onnx
import onnx.reference
import onnxruntime as ort
import pytest
import torch
import torch.nn.functional as F
from torch import nn

from hwnas.errors import ExportError
from hwnas.exporters.onnx import OnnxExporter
from hwnas.files import sha256_file
from hwnas.graph import GraphBuilder
from hwnas.measure.interface import from_artefact, to_artefact
from hwnas.spaces.adapted.kind import block_of
from hwnas.supernet.quantization import quantize
from hwnas.supernet.quantization.modules import QuantizedWeights
from hwnas.supernet.subnetwork import SubNetwork
from hwnas.supernet.untrained import drift_anchor, untrained_block
from hwnas.testing.exporter_suite import sample_blocks, sample_images, sample_network
from hwnas.testing.fake import FakeRuntime, fake_device
from hwnas.testing.spaces import tiny_space
from hwnas.types import Block, Ends
from tests.agreement import top1_agreement
from tests.exporters.digits import shuffled_digits
from tests.here import INTEGERS

FLOAT_OPERATORS = {"Conv", "FusedConv", "Gemm", "MatMul", "Add", "Mul", "Relu", "Clip", "Sigmoid", "HardSigmoid"}


def _optimised(path, folder):
    """Operators left after all of ONNX Runtime's rewrites."""
    options = ort.SessionOptions()
    options.log_severity_level = 3  # it warns that the file is for this machine only
    options.optimized_model_filepath = str(folder / "optimised.onnx")
    ort.InferenceSession(str(path), options, providers=["CPUExecutionProvider"])
    return Counter(n.op_type for n in onnx.load(options.optimized_model_filepath).graph.node)


def _run(path, x):
    session = ort.InferenceSession(str(path), providers=["CPUExecutionProvider"])
    return torch.from_numpy(session.run(None, {session.get_inputs()[0].name: x.numpy()})[0])


def _int8(act="relu6", se=0, features=0, pattern="iiii"):
    network = sample_network(sample_blocks(pattern, act=act, se_channels=se, features=features, integers=INTEGERS))
    return quantize(network, [sample_images(32)])


@pytest.fixture
def path(tmp_path):
    return tmp_path / "network.onnx"


# ---------------------------------------------------------------- what ONNX Runtime makes of it


@pytest.mark.parametrize("dynamic_batch", [True, False])
def test_relu6_network_becomes_integer_operators_only(path, tmp_path, dynamic_batch):
    ends = Ends(fixed_batch=not dynamic_batch)
    OnnxExporter().export(_int8(), sample_images(1), path, precision="int8", ends=ends)
    found = _optimised(path, tmp_path)
    assert not FLOAT_OPERATORS.intersection(found)
    assert found["QLinearConv"] == 1 + 2 + 3 + 1
    assert (found["QLinearAdd"], found["QGemm"], found["QLinearGlobalAveragePool"]) == (1, 1, 1)
    assert (found["QuantizeLinear"], found["DequantizeLinear"]) == (1, 1)


@pytest.mark.parametrize(("act", "gate"), [("hswish", "Clip"), ("silu", "QLinearSigmoid")])
def test_smooth_activations_stay_in_the_integers(path, tmp_path, act, gate):
    OnnxExporter().export(_int8(act, features=16), sample_images(1), path, precision="int8")
    found = _optimised(path, tmp_path)
    assert not (FLOAT_OPERATORS - {"Clip"}).intersection(found)  # hard-swish clips quantized values
    assert found[gate] == found["QLinearMul"] == 1 + 1 + 2 + 2
    assert (found["QuantizeLinear"], found["DequantizeLinear"]) == (1, 1)


def test_squeeze_and_excitation_stays_in_the_integers(path, tmp_path):
    OnnxExporter().export(_int8(se=8), sample_images(1), path, precision="int8")
    found = _optimised(path, tmp_path)
    assert not FLOAT_OPERATORS.intersection(found)
    assert found["QLinearSigmoid"] == found["QLinearMul"] == 2


def test_float_blocks_of_a_mixed_network_stay_float(path, tmp_path):
    OnnxExporter().export(_int8(pattern="iffi"), sample_images(1), path, precision="int8")
    found = _optimised(path, tmp_path)
    assert found["Conv"] == 2 + 3
    assert found["QLinearConv"] == 1 + 1


def test_dynamic_batch_changes_no_operator(path, tmp_path):
    """So what is measured at batch 1 is what a file of fixed batch would have cost."""
    found = []
    for dynamic_batch in (True, False):
        for model in (_int8(se=8), sample_network(sample_blocks("ffff", se_channels=8))):
            ends = Ends(fixed_batch=not dynamic_batch)
            OnnxExporter().export(model, sample_images(1), path, precision="int8", ends=ends)
            found.append(_optimised(path, tmp_path))
    assert found[:2] == found[2:]


# ---------------------------------------------------------------- what it computes


@pytest.fixture(scope="module")
def digits():
    """A network trained on digits for a moment, and images it has not seen."""
    images, labels = shuffled_digits()
    network = sample_network(sample_blocks("iiii", in_shape=(1, 16, 16), integers=INTEGERS)).train()
    optimizer = torch.optim.SGD(network.parameters(), 0.1, momentum=0.9)
    generator = torch.Generator().manual_seed(0)
    for _ in range(5):
        for chosen in torch.randperm(1200, generator=generator).split(50):
            optimizer.zero_grad()
            F.cross_entropy(network(images[chosen]), labels[chosen]).backward()
            optimizer.step()
    return network.eval(), images[:256], images[1200:], labels[1200:]


@pytest.mark.parametrize("precision", ["fp32", "int8"])
def test_a_trained_network_predicts_what_torch_predicts(digits, path, precision):
    network, calibration, images, labels = digits
    model = network if precision == "fp32" else quantize(network, [calibration])
    OnnxExporter().export(model, images[:1], path, precision=precision)
    found, expected = _run(path, images), model(images).detach()
    assert top1_agreement(found, expected) >= 0.995
    accuracy = {
        name: (y.argmax(1) == labels).float().mean() for name, y in (("float", network(images)), ("file", found))
    }
    assert accuracy["file"] >= accuracy["float"] - 0.01
    assert accuracy["float"] > 0.9  # otherwise the rest would prove nothing


@pytest.mark.parametrize("seed", range(4))
def test_any_network_of_a_space_keeps_its_outputs(seed, path):
    space = tiny_space().computed_in({"int8": INTEGERS})
    (encoding,) = space.sample(1, np.random.default_rng(seed))
    network = sample_network([block for _, block in space.named_blocks(encoding)], seed=seed)
    images = torch.randn(32, *network.in_shape, generator=torch.Generator().manual_seed(seed))
    model = quantize(network, [images])
    OnnxExporter().export(model, images[:1], path, precision="int8")
    expected = model(images).detach()
    step = (expected.max() - expected.min()) / 255
    assert (_run(path, images) - expected).abs().mean() < 0.1 * step


def test_int8_logits_are_nearly_bit_exact(digits, path):
    network, calibration, images, _ = digits
    model = quantize(network, [calibration])
    OnnxExporter().export(model, images[:1], path, precision="int8")
    steps = (_run(path, images) - model(images)).abs() / model.output_quantizer.scale
    assert (steps < 0.01).float().mean() >= 0.98
    assert steps.max() < 2.01


def test_trained_scales_are_written(path):
    """After training, the file has the weights' new scales although nobody refreshed them."""
    model = _int8()
    for p in model.parameters():
        p.data.mul_(3.0)
    OnnxExporter().export(model, sample_images(1), path, precision="int8")
    x = sample_images(16)
    steps = (_run(path, x) - model(x)).abs() / model.output_quantizer.scale
    assert (steps < 0.01).float().mean() > 0.95


def test_one_file_takes_any_batch(path):
    model = sample_network(sample_blocks("ffff"))
    assert OnnxExporter().export(model, sample_images(1), path, precision="fp32").batch == "any"
    for count in (1, 7):
        assert _run(path, sample_images(count)).shape == (count, 10)


@pytest.mark.parametrize("batch", [1, 3])
def test_a_file_of_a_fixed_batch_says_which(path, batch):
    model, ends = sample_network(sample_blocks("ffff")), Ends(fixed_batch=True)
    assert OnnxExporter().export(model, sample_images(batch), path, precision="fp32", ends=ends).batch == batch


def test_a_network_of_any_batch_may_have_integer_ends(path):
    model, ends = _int8(), Ends(integer_input=True, integer_output=True)
    artefact = OnnxExporter().export(model, sample_images(1), path, precision="int8", ends=ends)
    assert artefact.batch == "any"
    given = to_artefact(sample_images(3).numpy(), artefact.input)
    (found,) = ort.InferenceSession(str(path), providers=["CPUExecutionProvider"]).run(None, {"input": given})
    steps = np.abs(from_artefact(found, artefact.output) - model(sample_images(3)).detach().numpy())
    assert steps.max() <= 4.01 * float(model.output_quantizer.scale)


def test_images_of_floats_are_never_channels_last(path):
    with pytest.raises(ExportError, match="takes images of floats as NCHW alone, not NHWC"):
        OnnxExporter().export(_int8(), sample_images(1), path, precision="int8", ends=Ends(input_layout="NHWC"))
    assert not path.exists()


# ---------------------------------------------------------------- what is in the file


def test_weights_and_biases_are_stored_as_integers(path):
    OnnxExporter().export(_int8(se=8), sample_images(1), path, precision="int8")
    graph = onnx.load(path).graph
    values = {t.name: onnx.numpy_helper.to_array(t) for t in graph.initializer}
    large = {name: v.dtype for name, v in values.items() if v.ndim > 1}
    assert large
    assert set(large.values()) == {np.dtype(np.int8)}
    made_by = {n.output[0]: n for n in graph.node}
    for node in graph.node:
        if node.op_type in ("Conv", "Gemm"):
            bias = made_by[node.input[2]]
            assert bias.op_type == "DequantizeLinear"
            assert values[bias.input[0]].dtype == np.int32
            of_input, of_weight = (values[made_by[name].input[1]] for name in node.input[:2])
            np.testing.assert_allclose(values[bias.input[1]], of_input * of_weight, rtol=1e-6)


def test_int8_file_is_a_third_of_the_float_one_for_large_layers(path):
    block = Block.from_key(
        "mbconv|in=64x4x4|out=64x4x4|activation=relu6,hidden_channels=384,kernel_size=3,se_channels=0,stride=1|fp32"
    )
    large = untrained_block(block).write(OnnxExporter(), path).size_bytes
    small = untrained_block(Block.from_key(block.key.replace("fp32", "int8"))).write(OnnxExporter(), path).size_bytes
    assert small < large / 3


def test_every_int8_model_is_valid_for_other_readers(path):
    """ONNX's own reference implementation, which knows nothing but the standard, agrees."""
    model = _int8("hswish", se=8, features=16)
    OnnxExporter().export(model, sample_images(1), path, precision="int8")
    (found,) = onnx.reference.ReferenceEvaluator(str(path)).run(None, {"input": sample_images(2).numpy()})
    step = float(model.output_quantizer.scale)
    assert np.abs(found - model(sample_images(2)).detach().numpy()).max() <= 4.01 * step


def test_file_names_its_maker_and_no_path(path):
    OnnxExporter().export(sample_network(sample_blocks("ffff")), sample_images(1), path, precision="fp32")
    model = onnx.load(path)
    assert model.producer_name == "hwnas"
    assert b"/home" not in path.read_bytes()
    assert str(path.parent).encode() not in path.read_bytes()
    assert ([i.name for i in model.graph.input], [o.name for o in model.graph.output]) == (["input"], ["logits"])


def test_another_process_writes_the_same_bytes(tmp_path):
    program = """
import sys
from pathlib import Path
from hwnas.exporters.onnx import OnnxExporter
from hwnas.supernet.untrained import drift_anchor, untrained_block
from hwnas.testing.exporter_suite import sample_blocks
e, folder = OnnxExporter(), Path(sys.argv[1])
untrained_block(sample_blocks("ffff")[2]).write(e, folder / "warm-up")
print(untrained_block(sample_blocks("iiii", se_channels=8)[2], seed=5).write(e, folder / "block").sha256)
print(drift_anchor("int8").write(e, folder / "reference").sha256)
"""
    done = subprocess.run(
        [sys.executable, "-c", program, str(tmp_path)], capture_output=True, text=True, check=True, timeout=120
    )
    exporter = OnnxExporter()
    block = untrained_block(sample_blocks("iiii", se_channels=8)[2], seed=5).write(exporter, tmp_path / "b")
    reference = drift_anchor("int8").write(exporter, tmp_path / "r")
    assert done.stdout.split() == [block.sha256, reference.sha256]
    assert block.sha256 == sha256_file(tmp_path / "b")


# ---------------------------------------------------------------- blocks


@pytest.mark.parametrize("block", sample_blocks("iiii", act="hswish", se_channels=8, features=16), ids=lambda b: b.kind)
def test_int8_block_alone_has_no_transposition_that_its_network_has_not(block, path, tmp_path):
    untrained_block(block).write(OnnxExporter(), path)
    found = _optimised(path, tmp_path)
    assert not (FLOAT_OPERATORS - {"Clip"}).intersection(found)
    if block.kind in ("conv", "mbconv"):
        assert not {"Transpose", "QuantizeLinear", "DequantizeLinear"}.intersection(found)


@pytest.mark.parametrize(
    ("kind", "shape", "operators"),
    [
        ("quantize", (2, 12, 12), {"QuantizeLinear": 1, "Transpose": 1}),
        ("dequantize", (8, 6, 6), {"DequantizeLinear": 1, "Transpose": 1}),
        ("dequantize", (10,), {"DequantizeLinear": 1}),
    ],
)
def test_boundary_is_a_single_conversion(kind, shape, operators, path):
    untrained_block(Block(kind=kind, in_shape=shape, out_shape=shape, precision="int8")).write(OnnxExporter(), path)
    assert Counter(n.op_type for n in onnx.load(path).graph.node) == operators


# ---------------------------------------------------------------- the drift reference


@pytest.mark.parametrize("precision", ["fp32", "int8"])
def test_reference_is_the_same_every_time(precision, tmp_path):
    files = [drift_anchor(precision).write(OnnxExporter(), tmp_path / name) for name in "ab"]
    assert files[0].sha256 == files[1].sha256
    assert files[0].precision == precision


# ---------------------------------------------------------------- what goes wrong


class _Eigenvalues(nn.Module):
    def forward(self, x):
        return torch.linalg.eigvals(x).real


def test_operator_that_onnx_lacks_is_named_with_its_module(path):
    with pytest.raises(ExportError, match=r"module '1' \(_Eigenvalues\).*linalg_eigvals"):
        OnnxExporter().export(nn.Sequential(nn.ReLU(), _Eigenvalues()), sample_images(1), path, precision="fp32")
    assert not path.exists()


def test_wrong_example_is_an_export_error_with_its_shape(path):
    model = SubNetwork(sample_blocks("ffff"))
    with pytest.raises(ExportError, match=r"input of shape \(1, 3, 12, 12\)"):
        OnnxExporter().export(model, torch.zeros(1, 3, 12, 12), path, precision="fp32")


def test_full_disk_leaves_the_old_file(path, monkeypatch):
    model = sample_network(sample_blocks("ffff"))
    OnnxExporter().export(model, sample_images(1), path, precision="fp32")
    before = path.read_bytes()

    def full(fd):
        raise OSError(28, "No space left on device")

    monkeypatch.setattr("os.fsync", full)
    with pytest.raises(OSError, match="No space left"):
        OnnxExporter().export(_int8(), sample_images(1), path, precision="int8")
    assert path.read_bytes() == before
    assert [p.name for p in path.parent.iterdir()] == [path.name]


def test_importing_the_exporter_is_light():
    program = "import sys, hwnas.exporters.onnx; sys.exit(bool({'torch', 'onnx'} & set(sys.modules)))"
    assert subprocess.run([sys.executable, "-c", program], check=False, timeout=60).returncode == 0


def test_a_file_of_a_precision_by_tensor_has_one_scale_a_weight(path):
    model = quantize(sample_network(sample_blocks("iiii", integers="int8-pt")), [sample_images(8)])
    OnnxExporter().export(model, sample_images(1), path, precision="int8-pt")
    graph = onnx.load(path).graph
    constants = {t.name: tuple(t.dims) for t in graph.initializer}
    weights = [n for n in graph.node if n.op_type == "DequantizeLinear" and len(constants.get(n.input[0], ())) > 1]
    assert len(weights) == sum(isinstance(m, QuantizedWeights) for m in model.modules())
    assert {constants[n.input[1]] for n in weights} == {()}


def test_a_file_of_a_precision_by_tensor_means_what_torch_computes(path):
    model = quantize(sample_network(sample_blocks("iiii", integers="int8-pt", se_channels=4)), [sample_images(32)])
    artefact = OnnxExporter().export(model, sample_images(1), path, precision="int8-pt")
    with FakeRuntime().load(artefact, fake_device()) as session:  # as the file says: no sums in 16 bits
        (found,) = session.run([sample_images(16, seed=2).numpy()])
    steps = np.abs(found - model(sample_images(16, seed=2)).detach().numpy()) / float(model.output_quantizer.scale)
    assert steps.max() <= 4.01
    assert (steps < 0.01).mean() >= 0.95


def test_amounts_of_padding_are_constants_and_the_output_behind_them_has_a_shape(path):
    g = GraphBuilder()
    padded = g.op("pad", g.input((3, 8, 8)), name="pad", amounts=(0, 0, 0, 1, 0, 1))  # as TensorFlow pads a stride of 2
    block = block_of(
        g.build(g.op("relu", g.conv2d(padded, 4, kernel_size=3, stride=2, name="conv"), name="act")), precision="int8"
    )
    untrained_block(block).write(OnnxExporter(), path)
    graph = onnx.load(path).graph
    assert not {n.op_type for n in graph.node} & {"ConstantOfShape", "Concat", "Reshape", "Slice", "Cast"}
    (pad,) = (n for n in graph.node if n.op_type == "Pad")
    held = {t.name: onnx.numpy_helper.to_array(t) for t in graph.initializer}
    assert held[pad.input[1]].tolist() == [0, 0, 0, 0, 0, 0, 1, 1]
    dims = [d.dim_value for d in graph.output[0].type.tensor_type.shape.dim]
    assert dims == [1, *block.out_shape[1:], block.out_shape[0]]  # integers leave as NHWC
