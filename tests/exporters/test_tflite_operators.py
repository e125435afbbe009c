"""Operators as TFLite files: what LiteRT computes is what torch does, in float32 and in int8, or a refusal by name."""

from __future__ import annotations

from collections.abc import Callable
from dataclasses import replace

import pytest
import torch
from torch import nn

pytest.importorskip("ai_edge_litert", reason="the extra 'litert' is not installed")

from hwnas.devices import load_device
from hwnas.devices.litert import LiteRtRuntime
from hwnas.errors import ExportError, MeasurementError
from hwnas.exporters.litert import LiteRtExporter
from hwnas.graph import OPERATORS, GraphBuilder, OpGraph, Ref, Weight
from hwnas.measure.interface import from_artefact, to_artefact
from hwnas.supernet.graph_module import OpGraphModule
from hwnas.supernet.quantization import QuantizedNetwork, quantize
from hwnas.supernet.subnetwork import BlockModule, SubNetwork
from hwnas.types import Block

CPU = load_device("cpu-litert")
IMAGE = (4, 6, 6)
Build = Callable[[GraphBuilder, Ref], Ref]


def _op(kind: str, **attributes) -> Build:
    return lambda g, x: g.op(kind, x, name="op", **attributes)


def _conv(*, channels: int = 8, groups: int = 1, kernel=(3, 3), **attributes) -> Build:
    def build(g: GraphBuilder, x: Ref) -> Ref:
        shape = (channels, x.shape[0] // groups, *kernel)
        held = {"weight": Weight(name="op.weight", shape=shape), "bias": Weight(name="op.bias", shape=(channels,))}
        return g.op("conv2d", x, name="op", weights=held, groups=groups, **attributes)

    return build


def _two(kind: str, act: str = "", **attributes) -> Build:
    """Of the image and its convolution, and an activation behind."""

    def build(g: GraphBuilder, x: Ref) -> Ref:
        y = g.op(kind, x, g.conv2d(x, x.shape[0], name="conv", kernel_size=3), name="op", **attributes)
        return g.op(act, y, name="act") if act else y

    return build


def _rows(g: GraphBuilder, x: Ref) -> Ref:
    """Attention's shape of things: pixels as rows, a linear layer on each, products of rows."""
    rows = g.op("permute", g.op("reshape", x, name="flat", shape=(4, 36)), name="rows", order=(1, 0))
    y = g.linear(rows, 4, name="mix")
    scores = g.op("matmul", y, g.op("permute", rows, name="turned", order=(1, 0)), name="scores")
    return g.op("matmul", g.op("softmax", scores, name="shares", axis=1), y, name="op")


def _split(g: GraphBuilder, x: Ref) -> Ref:
    first, second = g.ops("split", x, name="op", axis=0, sizes=(1, 3))
    return g.op("concat", second, first, name="joined", axis=0)


def _resnet(g: GraphBuilder, x: Ref) -> Ref:
    y = g.op("relu", g.batch_norm(g.conv2d(x, 8, kernel_size=3, stride=2, name="a"), name="a_bn"), name="a_act")
    y = g.batch_norm(g.conv2d(y, 8, kernel_size=3, name="b"), name="b_bn")
    down = g.batch_norm(g.conv2d(x, 8, stride=2, name="down"), name="down_bn")
    return g.op("relu", g.op("add", y, down, name="sum"), name="act")


def _embedded(g: GraphBuilder, x: Ref) -> Ref:
    return g.linear(
        g.flatten(g.op("adaptive_avg_pool2d", x, name="pool", output_size=(2, 2)), name="flat"), 3, name="op"
    )


def _unbound(g: GraphBuilder, x: Ref) -> Ref:
    rows = g.op("reshape", x, name="flat", shape=(2, 72))
    return g.op("add", *g.ops("unbind", rows, name="op", axis=0), name="sum")


# in float32 and in int8
BOTH: dict[str, Build] = {
    "conv2d": _conv(stride=(2, 1), padding=(0, 1)),
    "conv2d of groups": _conv(groups=2, padding=(1, 1)),
    "conv2d dilated": _conv(dilation=(2, 2), padding=(2, 2)),
    "conv2d without padding": _conv(kernel=(5, 3)),
    "conv2d of several filters a channel": _conv(groups=4, padding=(1, 1)),
    "add": _two("add"),
    "add and relu": _two("add", "relu"),
    "add and hardswish": _two("add", "hardswish"),
    "sub": _two("sub"),
    "mul": _two("mul"),
    "mul and silu": _two("mul", "silu"),
    "concat": _two("concat", axis=0),
    "relu": _op("relu"),
    "relu6": _op("relu6"),
    "hardswish": _op("hardswish"),
    "silu": _op("silu"),
    "sigmoid": _op("sigmoid"),
    "tanh": _op("tanh"),
    "gelu": _op("gelu"),
    "hardsigmoid": _op("hardsigmoid"),
    "leaky_relu": _op("leaky_relu", negative_slope=0.2),
    "elu": _op("elu"),
    "softmax": _op("softmax", axis=0),
    "clamp": _op("clamp", min=-0.5, max=0.7),
    "affine": _op("affine", scale=2.0, shift=-1.0),
    "max_pool2d": _op("max_pool2d", kernel_size=(3, 3), stride=(2, 2), padding=(1, 1)),
    "max_pool2d of even sides": _op("max_pool2d", kernel_size=(2, 2)),
    "avg_pool2d": _op("avg_pool2d", kernel_size=(3, 3), stride=(1, 1), padding=(1, 1), count_include_pad=False),
    "avg_pool2d of what is around": _op("avg_pool2d", kernel_size=(3, 3), stride=(1, 1), padding=(1, 1)),
    "adaptive_avg_pool2d": _op("adaptive_avg_pool2d", output_size=(1, 1)),
    "adaptive_avg_pool2d of parts": _op("adaptive_avg_pool2d", output_size=(2, 3)),
    "adaptive_max_pool2d": _op("adaptive_max_pool2d", output_size=(2, 3)),
    "mean": _op("mean", axes=(1, 2)),
    "max": _op("max", axes=(1, 2)),
    "reshape": _op("reshape", shape=(2, 12, 6)),
    "reshape to a row": _op("reshape", shape=(144,)),
    "permute": _op("permute", order=(1, 2, 0)),
    "slice": _op("slice", axis=1, start=1, stop=5),
    "select": _op("select", axis=0, index=-1),
    "pad": _op("pad", amounts=(0, 0, 1, 2, 3, 0)),
    "resize": _op("resize", size=(12, 12)),
    "resize bilinear": _op("resize", size=(9, 5), mode="bilinear"),
    "split": _split,
    "a block of a ResNet": _resnet,
    "a linear layer behind parts": _embedded,
}
FLOAT: dict[str, Build] = {
    "div": lambda g, x: g.op("div", x, g.op("exp", x, name="exp"), name="op"),
    "power": _op("power", exponent=2.0),
    "sqrt": lambda g, x: g.op("sqrt", g.op("sigmoid", x, name="gate"), name="op"),
    "sum": _op("sum", axes=(0,), keepdim=True),
    "batch_norm": lambda g, x: g.batch_norm(x, name="op"),
    "prelu": lambda g, x: g.op("prelu", x, name="op", weights={"weight": Weight(name="op.weight", shape=(4,))}),
    "matmul": _rows,
    "unbind": _unbound,
}
UNWRITTEN: dict[str, tuple[Build, str]] = {
    "mish": (_op("mish"), r"operator op \(mish\) cannot be written as TFLite: there is no rule"),
    "max_pool2d": (_op("max_pool2d", kernel_size=(2, 2), dilation=(2, 2)), "dilation"),
    "max_pool2d in ceil mode": (_op("max_pool2d", kernel_size=(4, 4), stride=(4, 4), ceil_mode=True), "in torch"),
    "slice": (_op("slice", axis=1, start=0, stop=6, step=2), "every 2th"),
    "adaptive_avg_pool2d": (_op("adaptive_avg_pool2d", output_size=(4, 4)), "equal windows"),
    "softmax": (_op("softmax", axis=1), "along channels"),
    "pad": (_op("pad", amounts=(0, 0, 1, 1, 1, 1), mode="reflect"), "zeros"),
    "resize": (_op("resize", size=(9, 9), mode="bicubic"), "bilinearly"),
}


def _graph(build: Build) -> OpGraph:
    g = GraphBuilder()
    return g.build(build(g, g.input(IMAGE)))


def _images(count: int = 8) -> torch.Tensor:
    return torch.randn(count, *IMAGE, generator=torch.Generator().manual_seed(1))


def _module(build: Build) -> OpGraphModule:
    torch.manual_seed(0)
    module = OpGraphModule(_graph(build)).eval()
    for buffer in module.buffers():
        if buffer.is_floating_point():
            buffer.uniform_(0.5, 1.5)
    return module


def _run(model: nn.Module, path, precision: str, images: torch.Tensor) -> torch.Tensor:
    artefact = LiteRtExporter().export(model, images[:1], path, precision=precision)
    try:
        session = LiteRtRuntime().load(artefact, CPU)
    except MeasurementError:  # an operator alone that XNNPACK has not
        session = LiteRtRuntime().load(artefact, replace(CPU, options={"xnnpack": False}))
    with session:
        found = [session.run([to_artefact(x[None].numpy(), artefact.input)])[0] for x in images]
    return torch.cat([torch.from_numpy(from_artefact(y, artefact.output)) for y in found])


def _quantized(build: Build) -> QuantizedNetwork:
    """One region of integers, between the conversions that lead there and back."""
    module = _module(build)
    graph = module.op_graph
    out_shape = graph.by_name[graph.outputs[0]].shape
    region = BlockModule(Block(kind="any", in_shape=IMAGE, out_shape=out_shape, precision="int8"), graph=graph)
    region.load_state_dict(module.state_dict())
    ends = [("quantize", IMAGE), ("dequantize", out_shape)]
    first, last = (BlockModule(Block(kind=k, in_shape=s, out_shape=s, precision="int8")) for k, s in ends)
    network = SubNetwork([])
    network.blocks = nn.ModuleList([first, region, last])
    return quantize(network.eval(), [_images(32)])


@pytest.mark.parametrize("name", [*BOTH, *FLOAT])
def test_float_operators_compute_what_torch_does(name, tmp_path):
    module, images = _module({**BOTH, **FLOAT}[name]), _images(2)
    found = _run(module, tmp_path / "file", "fp32", images)
    torch.testing.assert_close(found, module(images).detach(), atol=1e-5, rtol=1e-4)


@pytest.mark.parametrize("name", BOTH)
def test_int8_operators_compute_what_torch_does(name, tmp_path):
    """To two steps of the result; what is left in float is told, and computes between dequantize and quantize."""
    model, images = _quantized(BOTH[name]), _images(4)
    expected = model(images).detach()
    quantizer = model.output_quantizer or model.blocks[0].quantize
    steps = (_run(model, tmp_path / "file", "int8", images) - expected).abs() / quantizer.scale
    assert steps.max() < 2.01
    assert (steps < 0.01).float().mean() > 0.9  # means of windows often lie between two integers


@pytest.mark.parametrize("name", UNWRITTEN)
def test_what_tflite_cannot_say_is_refused_by_name(name, tmp_path):
    build, message = UNWRITTEN[name]
    with pytest.raises(ExportError, match=message):
        LiteRtExporter().export(_module(build), _images(1), tmp_path / "file", precision="fp32")


def test_operators_without_an_integer_form_are_told_with_their_places():
    assert _quantized(_op("tanh")).left_in_float == ("tanh ('op') of 1",)
    assert _quantized(BOTH["a block of a ResNet"]).left_in_float == ()


def test_every_case_is_of_an_operator():
    assert {name.split(" ")[0] for name in [*BOTH, *FLOAT, *UNWRITTEN]} - {"a"} <= OPERATORS.keys()
