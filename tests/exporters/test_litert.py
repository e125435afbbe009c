"""TFLite files: what is in them, what LiteRT makes of them, and that it computes what torch does."""

import subprocess
import sys
from collections import Counter
from dataclasses import replace

import numpy as np
import pytest
import torch
from torch import nn

pytest.importorskip("ai_edge_litert", reason="the extra 'litert' is not installed")

from ai_edge_litert import schema_py_generated as schema
from ai_edge_litert.interpreter import Interpreter

from hwnas.devices import load_device
from hwnas.devices.litert import LiteRtRuntime
from hwnas.errors import ExportError, MissingPackageError
from hwnas.exporters import _tflite_int8
from hwnas.exporters._tflite_graph import Graph, QuantizationParameters
from hwnas.exporters.litert import LiteRtExporter
from hwnas.files import sha256_file
from hwnas.graph import GraphBuilder
from hwnas.measure.interface import from_artefact, to_artefact
from hwnas.spaces.parts import activation, conv_norm
from hwnas.supernet.graph_module import OpGraphModule
from hwnas.supernet.quantization import quantize
from hwnas.supernet.quantization.modules import QuantizedHardswish, QuantizedWeights, Quantizer
from hwnas.supernet.untrained import drift_anchor, untrained_block, untrained_network
from hwnas.testing.exporter_suite import sample_blocks, sample_images, sample_network
from hwnas.testing.spaces import tiny_space
from hwnas.types import Block, Ends
from tests.agreement import sqnr_db, top1_agreement

CPU = load_device("cpu-litert")
BUILT_IN = replace(CPU, options={"xnnpack": False})
NAMES = {code: name for name, code in vars(schema.BuiltinOperator).items() if isinstance(code, int)}


def _int8(act="relu6", se=0, features=0, pattern="iiii", integers="int8"):
    network = sample_network(sample_blocks(pattern, act=act, se_channels=se, features=features, integers=integers))
    return quantize(network, [sample_images(32)])


def _export(model, path, precision="int8", **ends):
    return LiteRtExporter().export(model, sample_images(1), path, precision=precision, ends=Ends(**ends))


def _run(artefact, images, device=CPU):
    with LiteRtRuntime().load(artefact, device) as session:
        (found,) = session.run([to_artefact(images.numpy(), artefact.input)])
    return torch.from_numpy(from_artefact(found, artefact.output))


def _model(path):
    return schema.ModelT.InitFromPackedBuf(path.read_bytes())


def _operators(path):
    model = _model(path)
    codes = [NAMES[c.builtinCode] for c in model.operatorCodes]
    return Counter(codes[o.opcodeIndex] for o in model.subgraphs[0].operators)


def _versions(path):
    return {NAMES[c.builtinCode]: c.version for c in _model(path).operatorCodes}


def _layer(size, **options):
    """Convolution, batch normalisation, ReLU6 on images of that size and 4 channels."""
    g = GraphBuilder()
    x = conv_norm(g, g.input((4, size, size)), 4, name="layer", **options)
    return OpGraphModule(g.build(activation(g, x, "relu6", name="layer.act")))


@pytest.fixture
def path(tmp_path):
    return tmp_path / "network.tflite"


# ---------------------------------------------------------------- what it computes


@pytest.mark.parametrize("size", [7, 8])
@pytest.mark.parametrize("stride", [1, 2])
@pytest.mark.parametrize("kernel", [1, 3, 5, 7])
@pytest.mark.parametrize("groups", [1, 4])
def test_padding_is_that_of_torch(size, stride, kernel, groups, path):
    torch.manual_seed(0)
    module = _layer(size, kernel_size=kernel, stride=stride, groups=groups).eval()
    x = torch.randn(1, 4, size, size)
    artefact = LiteRtExporter().export(module, x, path, precision="fp32")
    torch.testing.assert_close(_run(artefact, x), module(x).detach(), atol=1e-5, rtol=0)


def test_only_strides_whose_padding_is_not_symmetric_need_a_pad(path):
    for size, pads in ((7, 0), (8, 1)):
        module = _layer(size, kernel_size=3, stride=2)
        LiteRtExporter().export(module, torch.zeros(1, 4, size, size), path, precision="fp32")
        assert _operators(path)["PAD"] == pads


@pytest.mark.parametrize("zero_point", [1, 2, 60, 101, 127, 128, 200, 254])
def test_hard_swish_of_every_quantized_value_is_exact(zero_point, path):
    """All 256 quantized values of its input, at scales from the largest to the smallest."""
    module = QuantizedHardswish()
    module.before.set_qparams(3 / zero_point, zero_point)
    module.after.set_range(-0.375, min(40.0, 3 / zero_point * 255))
    graph = Graph()
    x = graph.input("x", (1, 16, 16, 1), quantization=_tflite_int8.parameters(module.before))
    y = _tflite_int8.hard_swish(graph, module, x, name="act")
    path.write_bytes(graph.to_bytes({"y": y}))
    interpreter = Interpreter(str(path))
    interpreter.allocate_tensors()
    interpreter.set_tensor(x.index, np.arange(-128, 128, dtype=np.int8).reshape(1, 16, 16, 1))
    interpreter.invoke()
    found = interpreter.get_tensor(y.index).ravel().astype(int)
    expected = module((torch.arange(256) - zero_point) * module.before.scale)
    quantized = (expected / module.after.scale).round().int() + module.after.zero_point - 128
    # what lies on a tie between two integers may fall to either side
    assert np.abs(found - quantized.numpy()).max() <= 1
    assert (found == quantized.numpy()).mean() > 0.98


@pytest.mark.parametrize("act", ["relu6", "hswish", "silu"])
def test_int8_logits_are_bit_exact_but_for_ties(act, path):
    model = _int8(act, se=8, features=16)
    images = sample_images(128, seed=3)
    steps = (_run(_export(model, path), images) - model(images)).abs() / model.output_quantizer.scale
    assert (steps < 0.01).float().mean() >= 0.99


@pytest.mark.parametrize("act", ["relu6", "hswish", "silu"])
def test_other_kernels_than_xnnpacks_agree_to_their_rounding(act, path):
    """They round multipliers to fixed point, as microcontrollers and neural processing units do."""
    model = _int8(act, se=8, features=16)
    images = sample_images(64)
    expected = model(images).detach()
    assert sqnr_db(expected, _run(_export(model, path), images, BUILT_IN)) > 28


@pytest.mark.parametrize("precision", ["fp32", "int8"])
@pytest.mark.parametrize("seed", range(3))
def test_any_network_of_a_space_predicts_what_torch_predicts(seed, precision, path):
    space = tiny_space()
    (encoding,) = space.sample(1, np.random.default_rng(seed))
    network = sample_network([block for _, block in space.named_blocks(encoding)], seed=seed)
    images = torch.randn(64, *network.in_shape, generator=torch.Generator().manual_seed(seed))
    model = network if precision == "fp32" else quantize(network, [images])
    artefact = LiteRtExporter().export(model, images[:1], path, precision=precision)
    found, expected = _run(artefact, images), model(images).detach()
    assert top1_agreement(found, expected) >= 0.98
    if precision == "fp32":
        torch.testing.assert_close(found, expected, atol=1e-4, rtol=0)


@pytest.mark.parametrize("pattern", ["iiii", "fiif", "iffi"])
def test_channels_first_gives_the_same(pattern, tmp_path):
    model, images = _int8(pattern=pattern), sample_images(8)
    last = _export(model, tmp_path / "last")
    first = _export(model, tmp_path / "first", input_layout="NCHW")
    assert (last.input.layout, first.input.layout) == ("NHWC", "NCHW")
    assert torch.equal(_run(last, images), _run(first, images))
    assert _operators(first.path) - _operators(last.path) == {"TRANSPOSE": 1}


def test_trained_scales_are_written(path):
    """After training, the file has the weights' new scales although nobody refreshed them."""
    model = _int8()
    for p in model.parameters():
        p.data.mul_(3.0)
    x = sample_images(16)
    steps = (_run(_export(model, path), x) - model(x)).abs() / model.output_quantizer.scale
    assert (steps < 0.01).float().mean() > 0.95


def test_a_network_that_is_being_trained_is_written_as_it_is_in_eval_mode(path):
    network, x = sample_network(sample_blocks("ffff")), sample_images(4)
    expected = network(x).detach()
    torch.testing.assert_close(_run(_export(network.train(), path, "fp32"), x), expected, atol=1e-5, rtol=0)


# ---------------------------------------------------------------- which operators


def test_all_of_a_network_runs_on_xnnpack(path):
    for act in ("relu", "relu6", "hswish", "silu"):
        for pattern in ("ffff", "iiii", "fiif", "iffi"):
            blocks = sample_blocks(pattern, act=act, se_channels=8, features=16)
            model = (
                sample_network(blocks) if pattern == "ffff" else quantize(sample_network(blocks), [sample_images(8)])
            )
            with LiteRtRuntime().load(_export(model, path), CPU) as session:
                assert session.info()["operators_left"] == "none", (act, pattern)


def test_int8_network_takes_and_gives_int8(path):
    model = _int8()
    artefact = _export(model, path)
    entry, result = model.blocks[0].quantize, model.output_quantizer
    assert (artefact.input.dtype, artefact.output.dtype) == ("int8", "int8")
    assert artefact.input.scale == float(entry.scale)
    assert artefact.input.zero_point == int(entry.zero_point) - 128
    assert (artefact.output.scale, artefact.output.zero_point) == (float(result.scale), int(result.zero_point) - 128)
    assert not {"QUANTIZE", "DEQUANTIZE"}.intersection(_operators(path))


@pytest.mark.parametrize(
    ("pattern", "ends", "conversions"),
    [
        ("fiif", ("float32", "float32"), (1, 1)),
        ("iffi", ("int8", "int8"), (1, 1)),
        ("ifif", ("int8", "float32"), (1, 2)),
    ],
)
def test_mixed_network_converts_only_between_its_blocks(pattern, ends, conversions, path):
    artefact = _export(_int8(pattern=pattern), path)
    found = _operators(path)
    assert (artefact.input.dtype, artefact.output.dtype) == ends
    assert (found["QUANTIZE"], found["DEQUANTIZE"]) == conversions


def test_relu6_costs_no_operator_and_hard_swish_three(path):
    _export(_int8(), path)
    plain = _operators(path)
    assert plain == {"CONV_2D": 6, "DEPTHWISE_CONV_2D": 2, "PAD": 2, "ADD": 1, "MEAN": 1, "RESHAPE": 1}
    _export(_int8("hswish"), path)
    assert _operators(path) - plain == {"MUL": 2 * 5, "ADD": 5}


def test_versions_are_the_lowest_that_have_what_is_needed(path):
    """Runtimes of boards refuse files with newer operators than theirs."""
    _export(sample_network(sample_blocks("ffff", act="hswish", se_channels=8, features=16)), path, "fp32")
    assert set(_versions(path).values()) == {1}
    _export(_int8("silu", se=8, features=16, pattern="fiif"), path)
    int8 = {"CONV_2D": 3, "DEPTHWISE_CONV_2D": 3}
    _export(_int8("silu", se=8, features=16), path, input_layout="NCHW")
    others = ("ADD", "LOGISTIC", "MEAN", "MUL", "PAD", "TRANSPOSE")
    assert _versions(path) == {**int8, **dict.fromkeys(others, 2), "RESHAPE": 1}


# ---------------------------------------------------------------- what is in the file


def _written_as(name):
    """A convolution with its activation is one tensor, under the name of both."""
    return (
        name.removesuffix(".conv")
        if name.endswith((".conv.conv", ".depthwise.conv", ".expand.conv", ".project.conv"))
        else name
    )


@pytest.mark.parametrize("integers", ["int8", "int8-pt"])
def test_weights_and_scales_are_torchs_own(path, integers):
    model = _int8(se=8, features=16, integers=integers)
    _export(model, path)
    file = _model(path)
    tensors = {t.name.decode(): t for t in file.subgraphs[0].tensors}
    layers = {_written_as(name): m for name, m in model.named_modules() if isinstance(m, QuantizedWeights)}
    assert {f"{name}.weight" for name in layers} == {name for name in tensors if name.endswith(".weight")}
    for name, layer in layers.items():
        stored = tensors[f"{name}.weight"]
        quantized = file.buffers[stored.buffer].data.view(np.int8).reshape(stored.shape)
        quantized = quantized.transpose((3, 0, 1, 2) if stored.quantization.quantizedDimension == 3 else (0, 3, 1, 2))
        scales = layer.weight_scale.numpy().reshape(-1, *[1] * (layer.weight.dim() - 1))
        np.testing.assert_array_equal(stored.quantization.scale, scales.ravel())
        weight = layer.fake_quantized_parameters()[0].detach().numpy()
        np.testing.assert_allclose(quantized.reshape(weight.shape) * scales, weight, rtol=1e-6)
    scales = {float(t.quantization.scale[0]) for t in tensors.values() if t.quantization and t.quantization.scale.size}
    assert {float(q.scale) for q in model.modules() if isinstance(q, Quantizer)} <= scales


def test_buffers_begin_at_multiples_of_sixteen_bytes(path):
    _export(_int8(), path)
    content = path.read_bytes()
    large = [b.data.tobytes() for b in _model(path).buffers if b.data is not None and len(b.data) > 32]
    assert large
    assert all(content.find(data) % 16 == 0 for data in large)


def test_signature_has_the_names(path):
    artefact = _export(_int8(), path)
    interpreter = Interpreter(str(path))
    assert interpreter.get_signature_list() == {"serving_default": {"inputs": ["input"], "outputs": ["logits"]}}
    interpreter.allocate_tensors()
    given = to_artefact(sample_images(1).numpy(), artefact.input)
    assert interpreter.get_signature_runner()(input=given)["logits"].shape == (1, 10)


def test_int8_file_is_much_smaller_than_the_float_one_for_large_layers(path):
    block = Block.from_key(
        "mbconv|in=64x4x4|out=64x4x4|activation=relu6,hidden_channels=384,kernel_size=3,se_channels=0,stride=1|fp32"
    )
    large = untrained_block(block).write(LiteRtExporter(), path).size_bytes
    small = untrained_block(Block.from_key(block.key.replace("fp32", "int8"))).write(LiteRtExporter(), path).size_bytes
    assert small < large / 2.5


def test_another_process_writes_the_same_bytes(tmp_path):
    program = """
import sys
from pathlib import Path
from hwnas.exporters.litert import LiteRtExporter
from hwnas.supernet.untrained import drift_anchor, untrained_block
from hwnas.testing.exporter_suite import sample_blocks
e, folder = LiteRtExporter(), Path(sys.argv[1])
untrained_block(sample_blocks("ffff")[2]).write(e, folder / "warm-up")
print(untrained_block(sample_blocks("iiii", se_channels=8)[2], seed=5).write(e, folder / "block").sha256)
print(drift_anchor("int8").write(e, folder / "reference").sha256)
"""
    done = subprocess.run(
        [sys.executable, "-c", program, str(tmp_path)], capture_output=True, text=True, check=True, timeout=120
    )
    exporter = LiteRtExporter()
    block = untrained_block(sample_blocks("iiii", se_channels=8)[2], seed=5).write(exporter, tmp_path / "b")
    reference = drift_anchor("int8").write(exporter, tmp_path / "r")
    assert done.stdout.split() == [block.sha256, reference.sha256]
    assert block.sha256 == sha256_file(tmp_path / "b")


def test_equal_constants_are_stored_once():
    graph = Graph()
    first, second = (graph.constant(name, np.array([1, 2], np.int32)) for name in ("first", "second"))
    other = graph.constant("third", np.array([1, 2], np.int8), quantization=QuantizationParameters(scales=(1.0,)))
    assert first.index == second.index != other.index


# ---------------------------------------------------------------- blocks and samples


@pytest.mark.parametrize(
    ("kind", "shape", "operator"),
    [
        ("quantize", (2, 12, 12), "QUANTIZE"),
        ("dequantize", (8, 6, 6), "DEQUANTIZE"),
        ("dequantize", (10,), "DEQUANTIZE"),
    ],
)
def test_boundary_alone_is_a_single_conversion(kind, shape, operator, path):
    block = Block(kind=kind, in_shape=shape, out_shape=shape, precision="int8")
    artefact = untrained_block(block).write(LiteRtExporter(), path)
    assert _operators(path) == {operator: 1}
    assert (artefact.input.dtype == "int8") == (kind == "dequantize")
    assert artefact.input.layout == ("NHWC" if len(shape) == 3 else "NCHW")


@pytest.mark.parametrize(
    "block", sample_blocks("iiii", act="hswish", se_channels=8, features=16)[1:-1], ids=lambda b: b.kind
)
def test_block_alone_has_no_operator_that_its_network_has_not(block, path):
    untrained_block(block).write(LiteRtExporter(), path)
    alone = _operators(path)
    _export(_int8("hswish", se=8, features=16), path)
    assert alone <= _operators(path)
    assert not {"QUANTIZE", "DEQUANTIZE", "TRANSPOSE"}.intersection(alone)


def test_sample_of_a_network_has_its_operators(tmp_path):
    blocks = sample_blocks("iffi", se_channels=8)
    untrained_network(blocks, precision="int8").write(LiteRtExporter(), tmp_path / "sample")
    _export(_int8(se=8, pattern="iffi"), tmp_path / "network")
    assert _operators(tmp_path / "sample") == _operators(tmp_path / "network")


# ---------------------------------------------------------------- what is refused


class _Unknown(nn.Module):
    def forward(self, x):
        return x


def test_an_unknown_module_is_named_with_its_place(path):
    model = nn.Sequential(sample_network(sample_blocks("ffff")), nn.Sequential(nn.Identity(), _Unknown()))
    with pytest.raises(ExportError, match=r"module '1\.1' \(_Unknown\) of Sequential cannot .*OpGraphModule"):
        _export(model, path, "fp32")
    assert not path.exists()


def test_an_operator_tflite_has_not_is_named(path):
    g = GraphBuilder()
    module = OpGraphModule(g.build(g.op("mish", g.input((4, 8, 8)), name="layer.act")))
    with pytest.raises(ExportError, match=r"operator layer\.act \(mish\) cannot .* there is no rule for it"):
        LiteRtExporter().export(module, torch.zeros(1, 4, 8, 8), path, precision="fp32")


def test_a_symmetrically_quantized_network_is_refused(path):
    model = quantize(sample_network(sample_blocks("iiii")), [sample_images(8)], symmetric=True)
    with pytest.raises(ExportError, match="symmetric=False"):
        _export(model, path)


def test_an_example_of_another_shape_is_refused(path):
    with pytest.raises(
        ExportError, match=r"'blocks\.0\.conv' takes images of 2 channels, but gets a tensor \(1, 9, 9, 3\)"
    ):
        LiteRtExporter().export(sample_network(sample_blocks("ffff")), torch.zeros(1, 3, 9, 9), path, precision="fp32")


def test_a_fixed_batch_of_several_is_refused(path):
    with pytest.raises(ExportError, match="'tflite' has one sample at a time, not 2"):
        LiteRtExporter().export(_int8(), sample_images(2), path, precision="int8", ends=Ends(fixed_batch=True))


def test_integers_that_a_module_has_not_are_refused_with_the_end(path):
    for end in ("input", "output"):
        with pytest.raises(ExportError, match=f"the {end} of SubNetwork is to have integers"):
            _export(sample_network(sample_blocks("ffff")), path, "fp32", **{f"integer_{end}": True})


def test_a_missing_boundary_is_named(path):
    model = _int8()
    with pytest.raises(ExportError, match="is int8, but its input is float; put a 'quantize' block before it"):
        _export(nn.Sequential(model.blocks[1]), path)
    with pytest.raises(ExportError, match="is float, but its input is int8; put a 'dequantize' block before it"):
        _export(nn.Sequential(model.blocks[0], sample_network(sample_blocks("ffff")).blocks[0]), path)


def test_a_module_that_computes_nothing_is_refused(path):
    with pytest.raises(ExportError, match="computes nothing"):
        _export(nn.Identity(), path, "fp32")


def test_without_flatbuffers_the_extra_is_named(path, monkeypatch):
    for module in [name for name in sys.modules if name.startswith("hwnas.exporters._tflite")]:
        monkeypatch.delitem(sys.modules, module)
    monkeypatch.setitem(sys.modules, "flatbuffers", None)
    with pytest.raises(MissingPackageError, match=r"exporter 'tflite' needs .*flatbuffers.*hwnas\[litert\]"):
        _export(sample_network(sample_blocks("ffff")), path, "fp32")


def test_an_artefact_tells_its_fixed_batch(tmp_path):
    artefact = _export(_int8(), tmp_path / "model.tflite")
    interpreter = Interpreter(model_content=artefact.path.read_bytes())
    assert artefact.batch == interpreter.get_input_details()[0]["shape"][0] == 1
