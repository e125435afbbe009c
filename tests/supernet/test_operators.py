"""Every operator of graphs through torch: it computes, and gives the shapes that graphs say."""

from __future__ import annotations

import base64
from collections.abc import Callable

import numpy as np
import pytest
import torch
from torch.nn import functional as F

from hwnas.graph import OPERATORS, GraphBuilder, OpGraph, Weight
from hwnas.supernet.graph_module import OpGraphModule
from hwnas.supernet.operators import FUNCTIONS, MODULES

IMAGE = (4, 6, 6)
Compute = Callable[..., object]


def _one(
    kind: str,
    *shapes: tuple[int, ...],
    weights: dict[str, tuple[int, ...]] | None = None,
    dtype: str = "float32",
    **attributes,
) -> OpGraph:
    g = GraphBuilder()
    inputs = [g.input(shape, name=f"x{i}", dtype=dtype) for i, shape in enumerate(shapes)]
    held = {
        role: Weight(name=f"op.{role}", shape=shape, trained=not role.startswith("running"))
        for role, shape in (weights or {}).items()
    }
    return g.build(*g.ops(kind, *inputs, name="op", weights=held, **attributes))


def _on_image(kind: str, **attributes) -> OpGraph:
    return _one(kind, IMAGE, **attributes)


def _taken() -> OpGraph:
    """Positions of the second axis, by numbers that the network holds."""
    g = GraphBuilder()
    rows = g.op("weight", name="r", weights={"weight": Weight(name="rows", shape=(2, 3), dtype="int64", trained=False)})
    return g.build(g.op("take", g.input(IMAGE), rows, name="op", axis=1))


def _added() -> OpGraph:
    """A constant, added to an image."""
    g = GraphBuilder()
    numbers = base64.b64encode(np.array([[1.0], [-np.inf], [0.25], [3.0]], "<f4").tobytes()).decode()
    table = g.op("constant", name="table", shape=(4, 1), dtype="float32", numbers=numbers)
    return g.build(g.op("add", g.input(IMAGE), g.op("reshape", table, name="r", shape=(4, 1, 1)), name="op"))


NORM = dict.fromkeys(("weight", "bias", "running_mean", "running_var"), (4,))
CASES: dict[str, tuple[OpGraph, Compute]] = {
    "conv2d": (
        _on_image("conv2d", weights={"weight": (8, 2, 3, 5), "bias": (8,)}, stride=(2, 1), padding=(1, 2), groups=2),
        lambda m, x: F.conv2d(x, m.op.weight, m.op.bias, (2, 1), (1, 2), 1, 2),
    ),
    "conv1d": (
        _one("conv1d", (4, 9), weights={"weight": (3, 4, 3)}, dilation=(2,)),
        lambda m, x: F.conv1d(x, m.op.weight, dilation=2),
    ),
    "conv_transpose2d": (
        _one(
            "conv_transpose2d",
            IMAGE,
            weights={"weight": (4, 3, 3, 2), "bias": (6,)},
            stride=(2, 1),
            output_padding=(1, 0),
            groups=2,
        ),
        lambda m, x: F.conv_transpose2d(x, m.op.weight, m.op.bias, (2, 1), 0, (1, 0), 2),
    ),
    "embedding": (
        _one("embedding", (5, 2), weights={"weight": (7, 3)}, dtype="int64"),
        lambda m, x: F.embedding(x, m.op.weight),
    ),
    "linear": (
        _one("linear", (5, 4), weights={"weight": (3, 4), "bias": (3,)}),
        lambda m, x: F.linear(x, m.op.weight, m.op.bias),
    ),
    "batch_norm": (
        _on_image("batch_norm", weights=NORM, eps=1e-3),
        lambda m, x: F.batch_norm(x, m.op.running_mean, m.op.running_var, m.op.weight, m.op.bias, eps=1e-3),
    ),
    "layer_norm": (
        _one("layer_norm", (5, 4), weights={"weight": (4,), "bias": (4,)}, normalized_shape=(4,)),
        lambda m, x: F.layer_norm(x, (4,), m.op.weight, m.op.bias),
    ),
    "group_norm": (
        _on_image("group_norm", weights={"weight": (4,), "bias": (4,)}, groups=2),
        lambda m, x: F.group_norm(x, 2, m.op.weight, m.op.bias),
    ),
    "prelu": (_on_image("prelu", weights={"weight": (4,)}), lambda m, x: F.prelu(x, m.op.weight)),
    "relu": (_on_image("relu"), lambda m, x: F.relu(x)),
    "relu6": (_on_image("relu6"), lambda m, x: F.relu6(x)),
    "hardswish": (_on_image("hardswish"), lambda m, x: F.hardswish(x)),
    "hardsigmoid": (_on_image("hardsigmoid"), lambda m, x: F.hardsigmoid(x)),
    "silu": (_on_image("silu"), lambda m, x: F.silu(x)),
    "sigmoid": (_on_image("sigmoid"), lambda m, x: torch.sigmoid(x)),
    "tanh": (_on_image("tanh"), lambda m, x: torch.tanh(x)),
    "identity": (_on_image("identity"), lambda m, x: x),
    "mish": (_on_image("mish"), lambda m, x: F.mish(x)),
    "gelu": (_on_image("gelu", approximate="tanh"), lambda m, x: F.gelu(x, approximate="tanh")),
    "leaky_relu": (_on_image("leaky_relu", negative_slope=0.2), lambda m, x: F.leaky_relu(x, 0.2)),
    "elu": (_on_image("elu", alpha=0.5), lambda m, x: F.elu(x, 0.5)),
    "clamp": (_on_image("clamp", min=-0.5), lambda m, x: x.clamp(min=-0.5)),
    "softmax": (_on_image("softmax", axis=0), lambda m, x: x.softmax(1)),
    "dropout": (_on_image("dropout"), lambda m, x: x),
    "power": (_on_image("power", exponent=2.0), lambda m, x: x**2),
    "sqrt": (_on_image("sqrt"), lambda m, x: x.sqrt()),
    "exp": (_on_image("exp"), lambda m, x: x.exp()),
    "affine": (_on_image("affine", scale=2.0, shift=-1.0), lambda m, x: 2 * x - 1),
    "add": (_one("add", IMAGE, (4, 1, 1)), lambda m, x, y: x + y),
    "sub": (_one("sub", IMAGE, (4, 1, 1)), lambda m, x, y: x - y),
    "mul": (_one("mul", IMAGE, (4, 1, 1)), lambda m, x, y: x * y),
    "div": (_one("div", IMAGE, (4, 1, 1)), lambda m, x, y: x / y),
    "matmul": (_one("matmul", (2, 5, 3), (2, 3, 4)), lambda m, x, y: x @ y),
    "attention": (
        _one("attention", (2, 5, 4), (2, 5, 4), (2, 5, 3), causal=True, scale=0.3),
        lambda m, q, k, v: F.scaled_dot_product_attention(q, k, v, is_causal=True, scale=0.3),
    ),
    "max_pool2d": (
        _on_image("max_pool2d", kernel_size=(3, 3), stride=(2, 2), padding=(1, 1), ceil_mode=True),
        lambda m, x: F.max_pool2d(x, 3, 2, 1, ceil_mode=True),
    ),
    "avg_pool2d": (
        _on_image("avg_pool2d", kernel_size=(3, 3), stride=(1, 1), padding=(1, 1), count_include_pad=False),
        lambda m, x: F.avg_pool2d(x, 3, 1, 1, count_include_pad=False),
    ),
    "adaptive_avg_pool2d": (
        _on_image("adaptive_avg_pool2d", output_size=(2, 3)),
        lambda m, x: F.adaptive_avg_pool2d(x, (2, 3)),
    ),
    "adaptive_max_pool2d": (
        _on_image("adaptive_max_pool2d", output_size=(2, 3)),
        lambda m, x: F.adaptive_max_pool2d(x, (2, 3)),
    ),
    "mean": (_on_image("mean", axes=(1, 2)), lambda m, x: x.mean((2, 3))),
    "sum": (_on_image("sum", axes=(0,), keepdim=True), lambda m, x: x.sum(1, keepdim=True)),
    "max": (_on_image("max", axes=(1, 2)), lambda m, x: x.amax((2, 3))),
    "concat": (_one("concat", IMAGE, (3, 6, 6), axis=0), lambda m, x, y: torch.cat([x, y], 1)),
    "join_outputs": (
        _one("join_outputs", IMAGE, (3,), names="image,row"),
        lambda m, x, y: torch.cat([x.flatten(1), y], 1),
    ),
    "split": (_on_image("split", axis=0, sizes=(1, 3)), lambda m, x: x.split([1, 3], 1)),
    "unbind": (_one("unbind", (3, 4), axis=0), lambda m, x: x.unbind(1)),
    "select": (_on_image("select", axis=2, index=-1), lambda m, x: x[..., -1]),
    "slice": (_on_image("slice", axis=1, start=1, stop=6, step=2), lambda m, x: x[:, :, 1:6:2]),
    "constant": (_added(), lambda m, x: x + torch.tensor([1.0, -torch.inf, 0.25, 3.0])[:, None, None]),
    "take": (_taken(), lambda m, x: x[:, :, m.rows]),
    "reshape": (_on_image("reshape", shape=(2, 2, 36)), lambda m, x: x.reshape(-1, 2, 2, 36)),
    "permute": (_on_image("permute", order=(1, 2, 0)), lambda m, x: x.permute(0, 2, 3, 1)),
    "expand": (_one("expand", (4, 1), shape=(2, 4, 3)), lambda m, x: x[:, None].expand(-1, 2, 4, 3)),
    "pad": (
        _on_image("pad", amounts=(0, 0, 1, 2, 3, 0), mode="reflect"),
        lambda m, x: F.pad(x, (3, 0, 1, 2), mode="reflect"),
    ),
    "resize": (
        _on_image("resize", size=(9, 5), mode="bilinear"),
        lambda m, x: F.interpolate(x, (9, 5), mode="bilinear"),
    ),
    "quantize": (_on_image("quantize", precision="int8"), lambda m, x: x),
    "dequantize": (_on_image("dequantize", precision="int8"), lambda m, x: x),
}


def _images(graph: OpGraph) -> list[torch.Tensor]:
    generator = torch.Generator().manual_seed(0)
    values = [graph.by_name[name] for name in graph.inputs]
    images = [torch.rand(2, *v.shape, generator=generator) for v in values]
    return [x.mul(7).long() if v.dtype == "int64" else x for x, v in zip(images, values, strict=True)]


@pytest.mark.parametrize("kind", sorted(OPERATORS.keys() - {"weight"}))
def test_every_operator_computes_what_torch_calls_by_its_name(kind: str) -> None:
    graph, compute = CASES[kind]
    module = OpGraphModule(graph).eval()
    inputs = _images(graph)
    found, expected = module(*inputs), compute(module, *inputs)
    for y, z in zip(
        [found] if isinstance(found, torch.Tensor) else found,
        [expected] if isinstance(expected, torch.Tensor) else expected,
        strict=True,
    ):
        assert torch.equal(y, z)
    given = [found] if isinstance(found, torch.Tensor) else found
    assert [tuple(y.shape[1:]) for y in given] == [graph.by_name[name].shape for name in graph.outputs]


@pytest.mark.parametrize("kind", sorted(MODULES.keys() & FUNCTIONS.keys()))
def test_an_operator_on_shared_weights_computes_what_its_module_does(kind: str) -> None:
    alone, _ = CASES[kind]
    (op,) = alone.ops
    g = GraphBuilder()
    values = [alone.by_name[name] for name in alone.inputs]
    inputs = [g.input(v.shape, name=v.name, dtype=v.dtype) for v in values]
    first, second = (g.op(kind, *inputs, name=n, weights=dict(op.weights), **dict(op.attributes)) for n in "ab")
    module, shared = OpGraphModule(alone).eval(), OpGraphModule(g.build(first, second)).eval()
    assert shared.state_dict().keys() == {w.name for _, w in op.weights}
    shared.load_state_dict({k: v for k, v in module.state_dict().items() if "batches" not in k})
    (x,) = _images(alone)
    assert all(torch.equal(y, module(x)) for y in shared(x))


def test_a_weight_as_a_value_is_repeated_for_each_sample() -> None:
    g = GraphBuilder()
    x = g.input((5, 4))
    held = {"weight": Weight(name="token", shape=(1, 4))}
    token = g.op("weight", name="token", weights=held)
    graph = g.build(g.op("concat", token, x, name="joined", axis=0))
    module = OpGraphModule(graph)
    images = torch.randn(3, 5, 4)
    expected = torch.cat([module.token[None].expand(3, -1, -1), images], 1)
    assert torch.equal(module(images), expected)


@pytest.mark.parametrize(("whole", "sizes"), [("sample", (64, 1, 1)), ("channel", (64, 32, 1))])
def test_what_is_dropped_at_once_is_dropped_while_training_alone(whole: str, sizes: tuple[int, ...]) -> None:
    module = OpGraphModule(_one("dropout", (32, 5), p=0.25, whole=whole))
    x = torch.rand(64, 32, 5) + 1
    torch.manual_seed(0)
    kept = module(x) / x
    assert kept.round(decimals=3).unique().tolist() == pytest.approx([0.0, 1.333])
    assert torch.allclose(kept, kept[:, : sizes[1], : sizes[2]].expand_as(kept))
    assert torch.equal(module.eval()(x), x)


def test_attention_drops_scores_while_training_alone() -> None:
    module = OpGraphModule(_one("attention", (5, 4), (5, 4), (5, 3), p=0.5))
    inputs = [torch.rand(2, 5, n) for n in (4, 4, 3)]
    assert not torch.equal(module(*inputs), F.scaled_dot_product_attention(*inputs))
    assert torch.equal(module.eval()(*inputs), F.scaled_dot_product_attention(*inputs))


def test_only_known_operators_have_rules() -> None:
    assert MODULES.keys() | FUNCTIONS.keys() == OPERATORS.keys()
