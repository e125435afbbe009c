"""Networks from ONNX files: they compute what ONNX Runtime does, for any number of samples, and can be traced."""

from __future__ import annotations

from collections.abc import Callable
from pathlib import Path
from typing import Any

import numpy as np
import onnx
import onnxruntime as ort
import pytest
import torch
from onnx import TensorProto, helper
from torch import nn

from hwnas.errors import ConfigError, ModelError
from hwnas.given_inputs import parse_inputs
from hwnas.graph import OpGraph, unknown_operators
from hwnas.graph.elasticity.dependencies import Dependencies
from hwnas.supernet.given import example_inputs, load_given
from hwnas.supernet.importing import OnnxNetwork, load_onnx, onnx_files
from hwnas.supernet.tracing import trace
from tests.supernet.onnx_models import IMAGE, normal, written

FIXED = "float[1, 4, 6, 6] x"
TOKENS = "float[1, 5, 8] x"


def nothing(_: str) -> None:
    pass


def same_as_onnxruntime(path: Path, *, samples: int = 3) -> OnnxNetwork:
    """The network of a file, after it was held against ONNX Runtime, sample by sample."""
    network = load_onnx(path, tell=nothing)
    given = example_inputs(network.inputs, samples, seed=1)
    session = ort.InferenceSession(str(path), providers=["CPUExecutionProvider"])
    with torch.no_grad():
        ours = network(*given)
    for i in range(samples):
        feeds = {m.name: x[i : i + 1].numpy() for m, x in zip(session.get_inputs(), given, strict=True)}
        (theirs,) = session.run(None, feeds)
        np.testing.assert_allclose(ours[i : i + 1].numpy(), theirs, rtol=1e-4, atol=1e-5)
    return network


def traced(network: OnnxNetwork) -> OpGraph:
    return trace(network, example_inputs(network.inputs))


CONV = {"w": normal(6, 4, 3, 3), "b": normal(6, seed=1)}
CASES: dict[str, tuple[str, str, int, dict[str, Any], tuple[str, ...]]] = {
    "a convolution": (IMAGE, "y = Conv<pads=[1,1,1,1], strides=[2,2]>(x, w, b)", 18, CONV, ("conv2d",)),
    "one that is padded unevenly": (
        IMAGE,
        "y = Conv<auto_pad='SAME_UPPER', strides=[2,2]>(x, w)",
        18,
        CONV,
        ("pad", "conv2d"),
    ),
    "one padded at the other end": (
        IMAGE,
        "y = Conv<auto_pad='SAME_LOWER', strides=[2,2]>(x, w)",
        18,
        CONV,
        ("pad", "conv2d"),
    ),
    "groups": (IMAGE, "y = Conv<group=2>(x, w)", 18, {"w": normal(6, 2, 3, 3)}, ("conv2d",)),
    "one axis": ("float[N, 4, 9] x", "y = Conv<pads=[1,1]>(x, w)", 18, {"w": normal(6, 4, 3)}, ("conv1d",)),
    "a bias that is added": (
        IMAGE,
        "c = Conv(x, w)\n y = Add(c, b)",
        18,
        {"w": normal(6, 4, 3, 3), "b": normal(1, 6, 1, 1)},
        ("conv2d",),
    ),
    "a transposed convolution": (
        IMAGE,
        "y = ConvTranspose<strides=[2,2], pads=[1,1,1,1], output_padding=[1,1]>(x, w, b)",
        18,
        {"w": normal(4, 3, 3, 3), "b": normal(3)},
        ("conv_transpose2d",),
    ),
    "a Gemm": ("float[N, 8] x", "y = Gemm<transB=1>(x, w, b)", 18, {"w": normal(3, 8), "b": normal(3)}, ("linear",)),
    "a Gemm the other way round": (
        "float[N, 8] x",
        "y = Gemm(x, w, b)",
        18,
        {"w": normal(8, 3), "b": normal(1)},
        ("linear",),
    ),
    "a product and a bias": (
        TOKENS,
        "c = MatMul(x, w)\n y = Add(b, c)",
        18,
        {"w": normal(8, 3), "b": normal(3)},
        ("linear",),
    ),
    "a normalisation of batches": (
        IMAGE,
        "y = BatchNormalization<epsilon=0.001>(x, w, b, m, v)",
        18,
        {"w": normal(4), "b": normal(4), "m": normal(4), "v": abs(normal(4)) + 0.5},
        ("batch_norm",),
    ),
    "of layers": (TOKENS, "y = LayerNormalization(x, w, b)", 18, {"w": normal(8), "b": normal(8)}, ("layer_norm",)),
    "of layers, step by step": (
        TOKENS,
        "m = ReduceMean<axes=[-1]>(x)\n c = Sub(x, m)\n s = Pow(c, two)\n v = ReduceMean<axes=[-1]>(s)\n"
        "e = Add(v, eps)\n d = Sqrt(e)\n n = Div(c, d)\n g = Mul(n, w)\n y = Add(g, b)",
        17,
        {"two": 2.0, "eps": 1e-5, "w": normal(8), "b": normal(8)},
        ("layer_norm",),
    ),
    "of instances": (
        IMAGE,
        "y = InstanceNormalization(x, w, b)",
        18,
        {"w": normal(4), "b": normal(4)},
        ("group_norm",),
    ),
    "of groups": (
        IMAGE,
        "y = GroupNormalization<num_groups=2>(x, w, b)",
        21,
        {"w": normal(4), "b": normal(4)},
        ("group_norm",),
    ),
    "relu6 by its bounds": (IMAGE, "y = Clip(x, low, high)", 18, {"low": 0.0, "high": 6.0}, ("relu6",)),
    "old bounds": (IMAGE, "y = Clip<min=-1.0, max=1.5>(x)", 9, {}, ("clamp",)),
    "relu by its bound": (IMAGE, "y = Clip(x, low)", 18, {"low": 0.0}, ("relu",)),
    "silu": (IMAGE, "s = Sigmoid(x)\n y = Mul(x, s)", 18, {}, ("silu",)),
    "gelu by erf": (
        TOKENS,
        "d = Div(x, r)\n e = Erf(d)\n o = Add(e, one)\n m = Mul(x, o)\n y = Mul(m, half)",
        18,
        {"r": 2**0.5, "one": 1.0, "half": 0.5},
        ("gelu",),
    ),
    "gelu by tanh": (
        TOKENS,
        "c = Pow(x, three)\n k = Mul(c, f)\n s = Add(x, k)\n t = Mul(s, r)\n h = Tanh(t)\n o = Add(h, one)\n"
        "g = Mul(half, x)\n y = Mul(g, o)",
        18,
        {"three": 3.0, "f": 0.044715, "r": (2 / np.pi) ** 0.5, "one": 1.0, "half": 0.5},
        ("gelu",),
    ),
    "gelu by its name": (TOKENS, "y = Gelu<approximate='tanh'>(x)", 20, {}, ("gelu",)),
    "hard swish": (IMAGE, "y = HardSwish(x)", 18, {}, ("hardswish",)),
    "hard swish of a gate": (IMAGE, "g = HardSigmoid<alpha=0.16666667>(x)\n y = Mul(x, g)", 18, {}, ("hardswish",)),
    "hard swish of bounds": (
        IMAGE,
        "s = Add(x, three)\n c = Clip(s, zero, six)\n m = Mul(x, c)\n y = Div(m, six)",
        18,
        {"three": 3.0, "zero": 0.0, "six": 6.0},
        ("hardswish",),
    ),
    "a hard sigmoid that is torch's": (IMAGE, "y = HardSigmoid<alpha=0.16666667>(x)", 18, {}, ("hardsigmoid",)),
    "ONNX's own": (IMAGE, "y = HardSigmoid(x)", 18, {}, ("affine", "affine", "clamp")),
    "slopes": (IMAGE, "y = PRelu(x, w)", 18, {"w": normal(4, 1, 1)}, ("prelu",)),
    "what ONNX defines by others": (IMAGE, "y = Celu<alpha=1.0>(x)", 18, {}, ("elu",)),
    "numbers": (
        IMAGE,
        "a = Mul(x, k)\n b = Sub(k, a)\n c = Div(b, k)\n y = Add(k, c)",
        18,
        {"k": 2.0},
        ("affine",) * 4,
    ),
    "a scale of channels": (IMAGE, "y = Mul(x, w)", 18, {"w": normal(4, 1, 1)}, ("weight", "mul")),
    "pools": (
        IMAGE,
        "a = MaxPool<kernel_shape=[3,3], strides=[2,2], pads=[1,1,1,1]>(x)\n"
        "y = AveragePool<kernel_shape=[2,2], ceil_mode=1>(a)",
        18,
        {},
        ("max_pool2d", "avg_pool2d"),
    ),
    "a pool that is padded at its end": (
        IMAGE,
        "y = MaxPool<kernel_shape=[3,3], strides=[2,2], auto_pad='SAME_UPPER'>(x)",
        18,
        {},
        ("pad", "max_pool2d"),
    ),
    "all positions": (IMAGE, "g = GlobalAveragePool(x)\n y = Flatten(g)", 18, {}, ("adaptive_avg_pool2d", "reshape")),
    "a mean": (IMAGE, "y = ReduceMean<keepdims=0>(x, axes)", 18, {"axes": np.array([2, 3])}, ("mean",)),
    "parts and joins": (
        IMAGE,
        "a, b = Split<axis=1>(x, sizes)\n r = Relu(a)\n y = Concat<axis=1>(b, r)",
        18,
        {"sizes": np.array([1, 3])},
        ("split", "relu", "concat"),
    ),
    "equal parts of an older file": (
        IMAGE,
        "a, b = Split<axis=1>(x)\n r = Relu(a)\n y = Concat<axis=1>(b, r)",
        13,
        {},
        ("split", "relu", "concat"),
    ),
    "a range": (
        IMAGE,
        "y = Slice(x, s, e, a, t)",
        18,
        {k: np.array([n]) for k, n in zip("seat", (1, 6, 3, 2), strict=True)},
        ("slice",),
    ),
    "a dropout with its mask": (IMAGE, "d, m = Dropout(x)\n y = Relu(d)", 12, {}, ("relu",)),
    "of groups, by instances": (
        FIXED,
        "g = Reshape(x, s)\n n = InstanceNormalization(g, o, z)\n r = Reshape(n, back)\n m = Mul(r, w)\n y = Add(m, b)",
        17,
        {
            **{"s": np.array([0, 2, -1]), "back": np.array([1, 4, 6, 6]), "o": np.ones(2), "z": np.zeros(2)},
            **{"w": normal(4, 1, 1), "b": normal(1, 1, 1)},
        },
        ("group_norm",),
    ),
    "sizes that are kept": (
        FIXED,
        "f = Reshape(x, s)\n y = Relu(f)",
        17,
        {"s": np.array([0, 0, -1])},
        ("reshape", "relu"),
    ),
    "a view with strides": (
        FIXED,
        "m = ReduceMean<axes=[-1,-2]>(x)\n f = Reshape(m, flat)\n y = Gather(f, rows)",
        17,
        {"flat": np.array([-1]), "rows": np.arange(4).reshape(1, 4, 1, 1)},
        ("mean",),
    ),
    "a position": (TOKENS, "y = Gather<axis=1>(x, i)", 18, {"i": np.array(0)}, ("select",)),
    "padding": (IMAGE, "y = Pad<mode='reflect'>(x, p)", 18, {"p": np.array([0, 0, 1, 0, 0, 0, 2, 0])}, ("pad",)),
    "an image twice as large": (
        IMAGE,
        "y = Resize<mode='linear', coordinate_transformation_mode='half_pixel'>(x, , s)",
        18,
        {"s": np.array([1, 1, 2, 2], np.float32)},
        ("resize",),
    ),
    "to a size": (
        FIXED,
        "y = Resize<mode='nearest', coordinate_transformation_mode='asymmetric', nearest_mode='floor'>(x, , , s)",
        18,
        {"s": np.array([1, 4, 12, 12])},
        ("resize",),
    ),
    "an order": ("float[N, 6, 6, 8] x", "y = Transpose<perm=[0,3,1,2]>(x)", 18, {}, ("permute",)),
    "channels to positions": (IMAGE, "y = DepthToSpace<blocksize=2>(x)", 18, {}, ("reshape", "permute", "reshape")),
    "a shape for one sample": (FIXED, "y = Reshape(x, s)", 18, {"s": np.array([1, -1])}, ("reshape",)),
    "windows of one sample": (
        FIXED,
        "a = Reshape(x, s)\n t = Transpose<perm=[0,2,4,1,3,5]>(a)\n w = Reshape(t, r)\n y = Relu(w)",
        18,
        {"s": np.array([1, 4, 2, 3, 2, 3]), "r": np.array([1, 4, 4, 9])},
        ("reshape", "permute", "reshape", "relu"),
    ),
    "a token before those of one sample": (
        TOKENS,
        "y = Concat<axis=1>(w, x)",
        18,
        {"w": normal(1, 1, 8)},
        ("weight", "reshape", "expand", "concat"),
    ),
    "a shape that is computed": (
        IMAGE,
        "s = Shape(x)\n n = Gather(s, zero)\n u = Unsqueeze(n, first)\n t = Concat<axis=0>(u, rest)\ny = Reshape(x, t)",
        18,
        {"zero": np.array(0), "first": np.array([0]), "rest": np.array([-1])},
        ("reshape",),
    ),
    "attention": (
        TOKENS,
        "q = MatMul(x, a)\n k = MatMul(x, b)\n t = Transpose<perm=[0,2,1]>(k)\n s = MatMul(q, t)\n"
        "p = Softmax<axis=-1>(s)\n y = MatMul(p, x)",
        18,
        {"a": normal(8, 8), "b": normal(8, 8, seed=1)},
        ("linear", "linear", "attention"),
    ),
}


@pytest.mark.parametrize("case", CASES)
def test_a_file_computes_what_onnxruntime_does_for_several_samples_and_is_traced(case: str, tmp_path: Path) -> None:
    given, body, opset, constants, kinds = CASES[case]
    network = same_as_onnxruntime(written(tmp_path / "net.onnx", body, given=given, opset=opset, **constants))
    graph = traced(network)
    assert not unknown_operators(graph)
    assert tuple(op.kind for op in graph.ops) == kinds


# ---------------------------------------------------------------- torch's own exports


class Net(nn.Module):
    def __init__(self) -> None:
        super().__init__()
        self.stem = nn.Sequential(nn.Conv2d(3, 8, 3, 2, 1, bias=False), nn.BatchNorm2d(8), nn.SiLU())
        self.layer1 = nn.ModuleDict({"conv": nn.Conv2d(8, 8, 3, 1, 1), "act": nn.ReLU6()})
        self.scale = nn.Parameter(torch.rand(8, 1, 1))
        self.head = nn.Linear(8, 5)

    def forward(self, x: torch.Tensor) -> torch.Tensor:
        x = self.stem(x)
        x = x + self.scale * self.layer1["act"](self.layer1["conv"](x))
        made: torch.Tensor = self.head(x.mean((2, 3)))
        return made


@pytest.fixture(scope="module")
def exported(tmp_path_factory: pytest.TempPathFactory) -> Callable[..., Path]:
    def export(**options: Any) -> Path:
        torch.manual_seed(0)
        path = tmp_path_factory.mktemp("exported") / "net.onnx"
        x = torch.randn(1, 3, 16, 16)
        torch.onnx.export(Net().eval(), (x,), str(path), dynamo=False, opset_version=17, **options)
        return path

    return export


@pytest.mark.parametrize("options", [{}, {"input_names": ["x"], "dynamic_axes": {"x": {0: "n"}}}])
def test_modules_have_the_names_that_they_had_in_torch(exported: Callable[..., Path], options: dict[str, Any]) -> None:
    network = same_as_onnxruntime(exported(**options))
    assert network.inputs == parse_inputs("3x16x16")
    graph = traced(network)
    named = {op.name: op.kind for op in graph.ops}
    assert named["stem.0"] == "conv2d"
    assert named["layer1.conv"] == "conv2d"
    assert named["head"] == "linear"
    assert {"head.weight", "stem.0.bias", "layer1.conv.weight"} <= {w.name for w in graph.weights()}


class Attention(nn.Module):
    def __init__(self) -> None:
        super().__init__()
        self.embed, self.qkv, self.proj, self.head = (nn.Linear(*n) for n in ((10, 24), (24, 72), (24, 24), (24, 4)))

    def forward(self, x: torch.Tensor) -> torch.Tensor:
        x = self.embed(x)
        q, k, v = self.qkv(x).reshape(-1, 5, 3, 3, 8).permute(2, 0, 3, 1, 4).unbind(0)
        mixed = nn.functional.scaled_dot_product_attention(q, k, v).transpose(1, 2).reshape(-1, 5, 24)
        made: torch.Tensor = self.head((x + self.proj(mixed)).mean(1))
        return made


def test_heads_of_attention_are_found_again(tmp_path: Path) -> None:
    torch.manual_seed(0)
    path = tmp_path / "net.onnx"
    torch.onnx.export(Attention().eval(), (torch.randn(1, 5, 10),), str(path), dynamo=False, opset_version=17)
    graph = traced(same_as_onnxruntime(path))
    (attention,) = [op for op in graph.ops if op.kind == "attention"]
    assert dict(attention.attributes) == {}  # torch's own scale
    assert "qkv" in [dim.name for dim in Dependencies.of(graph).dims]


def test_attention_as_the_newer_exporter_writes_it_is_found_again(tmp_path: Path) -> None:
    body = (
        "q = Mul(x, s)\n f = Reshape(x, flat)\n t = Transpose<perm=[0,2,1]>(f)\n r = Reshape(t, back)\n k = Mul(r, s)\n"
        "p = MatMul(q, k)\n a = Softmax<axis=-1>(p)\n y = MatMul(a, x)"
    )
    numbers = {"s": 8**-0.25, "flat": np.array([-1, 5, 8]), "back": np.array([1, 2, 8, 5])}
    path = written(tmp_path / "net.onnx", body, given="float[1, 2, 5, 8] x", **numbers)
    assert [op.kind for op in traced(same_as_onnxruntime(path)).ops] == ["attention"]


def test_a_normalisation_that_is_still_one_is_trained_and_recalibrated(exported: Callable[..., Path]) -> None:
    path = exported(training=torch.onnx.TrainingMode.PRESERVE, do_constant_folding=False)
    network = load_onnx(path, tell=nothing)
    graph = traced(network)
    (norm,) = [op for op in graph.ops if op.kind == "batch_norm"]
    assert norm.name == "stem.1"
    assert {w.name: w.trained for _, w in norm.weights} == {
        "stem.1.weight": True, "stem.1.bias": True, "stem.1.running_mean": False, "stem.1.running_var": False,
    }  # fmt: skip


def test_scopes_of_the_newer_exporter_are_names(tmp_path: Path) -> None:
    path = written(tmp_path / "net.onnx", "y = Conv(x, w)", w=normal(6, 4, 3, 3))
    model = onnx.load(path)
    entry = model.graph.node[0].metadata_props.add()
    entry.key, entry.value = "pkg.torch.onnx.name_scopes", "['', 'layer1', 'layer1.0', 'layer1.0.conv', 'conv2d']"
    onnx.save_model(model, path)
    assert [op.name for op in traced(load_onnx(path, tell=nothing)).ops] == ["layer1.0.conv"]


def test_nodes_without_names_are_called_after_their_operators(tmp_path: Path) -> None:
    path = written(
        tmp_path / "net.onnx", "c = Conv(x, w)\n r = Relu(c)\n y = Relu(r)", names=False, w=normal(6, 4, 3, 3)
    )
    assert [op.name for op in traced(load_onnx(path, tell=nothing)).ops] == ["conv", "relu", "relu_1"]


def test_parts_and_weights_called_as_what_modules_have_already_are_called_otherwise(tmp_path: Path) -> None:
    path = written(
        tmp_path / "net.onnx",
        "c = Conv(x, w)\n d = Mul(c, tok_first)\n y = Relu(d)",
        w=normal(6, 4, 3, 3),
        tok_first=normal(6, 1, 1),
    )
    model = onnx.load(path)
    for node, name in zip(model.graph.node, ("/inputs/Conv", "/cpu/sources/Mul", "/outputs/Relu"), strict=True):
        node.name = name
    onnx.save_model(model, path)
    graph = traced(same_as_onnxruntime(path))
    assert {"inputs_", "outputs_"} <= {op.name for op in graph.ops}
    assert {w.name for w in graph.weights()} == {"inputs_.weight", "cpu_.sources_.value"}


def test_matrices_that_are_shared_are_tied_and_vectors_are_not(tmp_path: Path) -> None:
    body = "c = Conv<pads=[1,1,1,1]>(x, w, b)\n y = Conv<pads=[1,1,1,1]>(c, w, b)"
    network = same_as_onnxruntime(written(tmp_path / "net.onnx", body, w=normal(4, 4, 3, 3), b=np.zeros(4)))
    assert len(list(network.parameters())) == 3


# ---------------------------------------------------------------- what is other than in the file


def test_an_image_with_its_channels_last_is_taken_with_them_first(tmp_path: Path) -> None:
    body = "t = Transpose<perm=[0,3,1,2]>(x)\n c = Conv(t, w)\n y = Relu(c)"
    path = written(tmp_path / "net.onnx", body, given="float[N, 6, 8, 3] x", w=normal(4, 3, 3, 3))
    told: list[str] = []
    network = load_onnx(path, tell=told.append)
    assert network.inputs == parse_inputs("3x6x8")
    assert network.channels_last
    assert "channels last" in told[0]
    x = torch.randn(1, 3, 6, 8)
    (expected,) = ort.InferenceSession(str(path)).run(None, {"x": x.permute(0, 2, 3, 1).numpy()})
    np.testing.assert_allclose(network(x).detach().numpy(), expected, rtol=1e-4, atol=1e-5)


def test_the_softmax_that_a_classifier_ends_with_is_left_out(tmp_path: Path) -> None:
    body = "l = Gemm(x, w)\n y = Softmax<axis=-1>(l)"
    path = written(tmp_path / "net.onnx", body, given="float[N, 8] x", w=normal(8, 3))
    told: list[str] = []
    network = load_onnx(path, tell=told.append)
    assert network.softmax_axis == -1
    assert "softmax" in told[0]
    assert [op.kind for op in traced(network).ops] == ["linear"]


def test_a_size_that_is_open_is_asked_for_or_said(tmp_path: Path) -> None:
    path = written(tmp_path / "net.onnx", "y = Conv(x, w)", given="float[N, 4, H, W] x", w=normal(6, 4, 3, 3))
    with pytest.raises(ConfigError, match="leaves sizes of its input 'x' open; say them: --input"):
        load_given(f"onnx:{path}")
    graph = traced(load_onnx(path, inputs=parse_inputs("4x6x6"), tell=nothing))
    assert [graph.by_name[name].shape for name in graph.inputs] == [(4, 6, 6)]


def test_another_number_of_inputs_is_refused(tmp_path: Path) -> None:
    path = written(tmp_path / "net.onnx", "y = Relu(x)")
    with pytest.raises(ConfigError, match=r"takes 1 inputs \(x\), and \[model\] input says 2"):
        load_onnx(path, inputs=parse_inputs("4x6x6,3"), tell=nothing)


def test_weights_do_not_go_with_an_onnx_file(tmp_path: Path) -> None:
    with pytest.raises(ConfigError, match="those of an ONNX file are in it"):
        load_given("onnx:net.onnx", weights="weights.pth")


# ---------------------------------------------------------------- what is refused


@pytest.mark.parametrize(
    ("body", "message"),
    [
        ("a = Relu(x)\n b = Det(a)\n y = Identity(b)", r"1 operators .* not read: Det \(1, first /part/Det_1\); known"),
        ("a = Abs(x)\n b = Abs(a)\n y = Ceil(b)", r"3 operators .*: Abs \(2, first /part/Abs_0\), Ceil \(1"),
        ("q = QuantizeLinear(x, s, z)\n y = DequantizeLinear(q, s, z)", "is quantized .*QuantizeLinear.*float network"),
        ("y = ReduceMean(x)", "of a form that is not read: it is over all axes"),
        ("y = Flatten<axis=0>(x)", r"Flatten \(/part/Flatten_0\) is of a form"),
    ],
)
def test_operators_that_are_not_read_are_named(body: str, message: str, tmp_path: Path) -> None:
    path = written(tmp_path / "net.onnx", body, s=0.1, z=np.array(0, np.uint8))
    with pytest.raises(ModelError, match=message):
        load_onnx(path, tell=nothing)


@pytest.mark.parametrize(
    ("given", "message"),
    [
        ("float[8, 4, 6, 6] x", "is of 8 samples at once; export it for one sample, or for any number"),
        ("double[N, 4, 6, 6] x", "is of float64; allowed: float32"),
    ],
)
def test_an_input_that_cannot_be_sampled_is_refused(given: str, message: str, tmp_path: Path) -> None:
    path = written(tmp_path / "net.onnx", "y = Relu(x)", given=given)
    with pytest.raises(ModelError, match=message):
        load_onnx(path, tell=nothing)


def test_operators_of_others_are_refused(tmp_path: Path) -> None:
    path = written(tmp_path / "net.onnx", "y = Relu(x)")
    model = onnx.load(path)
    model.graph.node[0].domain = "com.microsoft"
    onnx.save_model(model, path)
    with pytest.raises(ModelError, match=r"operators of 'com.microsoft' \(1 Relu, first '/part/Relu_0'\)"):
        load_onnx(path, tell=nothing)


def test_control_flow_is_refused(tmp_path: Path) -> None:
    path = written(tmp_path / "net.onnx", "y = Relu(x)")
    model = onnx.load(path)
    branch = helper.make_graph([], "b", [], [helper.make_tensor_value_info("x", TensorProto.FLOAT, None)])
    model.graph.node.append(helper.make_node("If", ["c"], ["z"], name="/if", then_branch=branch, else_branch=branch))
    onnx.save_model(model, path)
    with pytest.raises(ModelError, match="holds control flow"):
        load_onnx(path, tell=nothing)


@pytest.mark.parametrize("content", [b"", b"\x00\x01 not a model", b"\x08\x08"])
def test_what_is_no_model_is_refused(content: bytes, tmp_path: Path) -> None:
    path = tmp_path / "net.onnx"
    path.write_bytes(content)
    with pytest.raises(ModelError, match="is no ONNX model"):
        load_onnx(path, tell=nothing)


def test_a_file_that_is_not_there_is_told(tmp_path: Path) -> None:
    with pytest.raises(ModelError, match="cannot be read: No such file"):
        load_onnx(tmp_path / "net.onnx", tell=nothing)


def test_half_precision_is_refused(tmp_path: Path) -> None:
    path = written(tmp_path / "net.onnx", "h = Cast<to=1>(w)\n y = Mul(x, h)", w=normal(1, 4, 1, 1).astype(np.float16))
    with pytest.raises(ModelError, match="holds weights in float16; give the network in float32"):
        load_onnx(path, tell=nothing)


# ---------------------------------------------------------------- tensors beside the file


def test_tensors_that_lie_beside_the_file_are_read_and_named(tmp_path: Path) -> None:
    path = written(tmp_path / "net.onnx", "y = Conv(x, w)", w=normal(6, 4, 3, 3))
    onnx.save_model(onnx.load(path), path, save_as_external_data=True, location="net.data", size_threshold=0)
    assert onnx_files(path) == (path, tmp_path / "net.data")
    same_as_onnxruntime(path)


def test_tensors_outside_of_the_folder_are_refused(tmp_path: Path) -> None:
    path = written(tmp_path / "net.onnx", "y = Conv(x, w)", w=normal(6, 4, 3, 3))
    onnx.save_model(onnx.load(path), path, save_as_external_data=True, location="net.data", size_threshold=0)
    model = onnx.load(path, load_external_data=False)
    next(e for e in model.graph.initializer[0].external_data if e.key == "location").value = "../secret"
    path.write_bytes(model.SerializeToString())
    with pytest.raises(ModelError, match="leads out of the folder"):
        load_onnx(path, tell=nothing)
