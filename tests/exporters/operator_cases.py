"""Small graphs, one an operator or a pattern of them, as modules and as quantized networks."""

from __future__ import annotations

import base64
from collections.abc import Callable

import numpy as np
import torch
from torch import nn

from hwnas.graph import GraphBuilder, OpGraph, Ref, Weight
from hwnas.supernet.graph_module import OpGraphModule
from hwnas.supernet.quantization import QuantizedNetwork, quantize
from hwnas.supernet.subnetwork import BlockModule, SubNetwork
from hwnas.types import Block

IMAGE = (4, 6, 6)
Build = Callable[[GraphBuilder, Ref], Ref]


def operator(kind: str, **attributes) -> Build:
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


def _over_time(g: GraphBuilder, x: Ref) -> Ref:
    """The image's rows as a sequence, through convolutions of every step alone and of neighbours in groups."""
    y = g.op("reshape", x, name="flat", shape=(4, 36))
    for name, shape, groups, padding in (("mix", (8, 4, 1), 1, 0), ("op", (8, 1, 5), 8, 2)):
        held = {"weight": Weight(name=f"{name}.weight", shape=shape), "bias": Weight(name=f"{name}.bias", shape=(8,))}
        y = g.op("conv1d", y, name=name, weights=held, groups=groups, padding=(padding,))
    return y


def _transposed(*, groups: int = 1, bias: bool = True) -> Build:
    def build(g: GraphBuilder, x: Ref) -> Ref:
        weight = Weight(name="op.weight", shape=(x.shape[0], 6 // groups, 2, 2))
        held = {"weight": weight} | ({"bias": Weight(name="op.bias", shape=(6,))} if bias else {})
        return g.op("conv_transpose2d", x, name="op", weights=held, groups=groups, stride=(2, 2))

    return build


def _unbound(g: GraphBuilder, x: Ref) -> Ref:
    rows = g.op("reshape", x, name="flat", shape=(2, 72))
    return g.op("add", *g.ops("unbind", rows, name="op", axis=0), name="sum")


def _constant(g: GraphBuilder, x: Ref) -> Ref:
    numbers = base64.b64encode(np.array([1.0, -0.5, 0.25, 2.0], "<f4").tobytes()).decode()
    table = g.op("constant", name="table", shape=(4, 1, 1), dtype="float32", numbers=numbers)
    return g.op("mul", x, table, name="op")


def _taken(g: GraphBuilder, x: Ref) -> Ref:
    """Channels by numbers that the graph holds, as attention takes its biases from a table."""
    numbers = base64.b64encode(np.array([3, 0, 0, 1, 2], "<i8").tobytes()).decode()
    places = g.op("constant", name="places", shape=(5, 1), dtype="int64", numbers=numbers)
    places = g.op("reshape", places, name="row", shape=(5,))
    return g.op("take", x, places, name="op", axis=0)


def _layer_norm(*, axes: int = 1) -> Build:
    def build(g: GraphBuilder, x: Ref) -> Ref:
        shape = x.shape[-axes:]
        weights = {role: Weight(name=f"op.{role}", shape=shape) for role in ("weight", "bias")}
        return g.op("layer_norm", x, name="op", weights=weights, normalized_shape=shape)

    return build


def _attention(*, heads: int = 4, mask: bool = False) -> Build:
    """Of queries, keys and values that differ: channels are heads, rows are positions."""

    def build(g: GraphBuilder, x: Ref) -> Ref:
        parts = [g.conv2d(x, heads, name=name, kernel_size=3) for name in ("query", "key", "value")]
        if mask:
            parts.append(g.op("weight", name="mask", weights={"weight": Weight(name="mask.weight", shape=(1, 6, 6))}))
        return g.op("attention", *parts, name="op", scale=0.5)

    return build


def _places(g: GraphBuilder, x: Ref) -> Ref:
    """What is learned of each place, for images of another size."""
    held = g.op("weight", name="places", weights={"weight": Weight(name="places.weight", shape=(4, 9, 9))})
    return g.op("add", x, g.op("resize", held, name="resized", size=(6, 6), mode="bilinear"), name="op")


def _rows_to_heads(g: GraphBuilder, x: Ref) -> Ref:
    """Moves in a row, some of which undo each other."""
    rows = g.op("reshape", g.op("permute", x, name="last", order=(1, 2, 0)), name="rows", shape=(36, 4))
    heads = g.op("permute", g.op("reshape", rows, name="split", shape=(36, 2, 2)), name="heads", order=(1, 0, 2))
    back = g.op("reshape", g.op("permute", heads, name="back", order=(1, 0, 2)), name="joined", shape=(36, 4))
    return g.op("relu6", back, name="op")


def _normalised(g: GraphBuilder, x: Ref) -> Ref:
    total = g.op("sum", g.op("power", x, name="squares", exponent=2.0), name="total", axes=(0,), keepdim=True)
    return g.op("div", x, g.op("sqrt", total, name="norm"), name="op")


def _attended(g: GraphBuilder, x: Ref) -> Ref:
    """Attention that is linear in its keys (Katharopoulos et al., 2020)."""
    rows = g.op("permute", g.op("reshape", x, name="flat", shape=(4, 36)), name="rows", order=(1, 0))
    query, key = (g.op("relu", g.linear(rows, 4, name=n), name=f"{n}_act") for n in ("query", "key"))
    value = g.op("pad", g.linear(rows, 4, name="value"), name="ones", amounts=(0, 0, 0, 1), value=1.0)
    sums = g.op("matmul", g.op("permute", key, name="turned", order=(1, 0)), value, name="sums")
    both = g.op("matmul", query, sums, name="both")
    above, below = (
        g.op("slice", both, name=n, axis=1, start=a, stop=a + s) for n, a, s in (("above", 0, 4), ("below", 4, 1))
    )
    quotient = g.op("div", above, g.op("affine", below, name="shifted", shift=1e-5), name="quotient")
    return g.linear(quotient, 4, name="op")


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
    "relu": operator("relu"),
    "relu6": operator("relu6"),
    "hardswish": operator("hardswish"),
    "silu": operator("silu"),
    "sigmoid": operator("sigmoid"),
    "tanh": operator("tanh"),
    "gelu": operator("gelu"),
    "hardsigmoid": operator("hardsigmoid"),
    "leaky_relu": operator("leaky_relu", negative_slope=0.2),
    "elu": operator("elu"),
    "softmax": operator("softmax", axis=0),
    "clamp": operator("clamp", min=-0.5, max=0.7),
    "affine": operator("affine", scale=2.0, shift=-1.0),
    "max_pool2d": operator("max_pool2d", kernel_size=(3, 3), stride=(2, 2), padding=(1, 1)),
    "max_pool2d of even sides": operator("max_pool2d", kernel_size=(2, 2)),
    "avg_pool2d": operator("avg_pool2d", kernel_size=(3, 3), stride=(1, 1), padding=(1, 1), count_include_pad=False),
    "avg_pool2d of what is around": operator("avg_pool2d", kernel_size=(3, 3), stride=(1, 1), padding=(1, 1)),
    "adaptive_avg_pool2d": operator("adaptive_avg_pool2d", output_size=(1, 1)),
    "adaptive_avg_pool2d of parts": operator("adaptive_avg_pool2d", output_size=(2, 3)),
    "adaptive_max_pool2d": operator("adaptive_max_pool2d", output_size=(2, 3)),
    "mean": operator("mean", axes=(1, 2)),
    "max": operator("max", axes=(1, 2)),
    "reshape": operator("reshape", shape=(2, 12, 6)),
    "reshape to a row": operator("reshape", shape=(144,)),
    "permute": operator("permute", order=(1, 2, 0)),
    "slice": operator("slice", axis=1, start=1, stop=5),
    "select": operator("select", axis=0, index=-1),
    "pad": operator("pad", amounts=(0, 0, 1, 2, 3, 0)),
    "resize": operator("resize", size=(12, 12)),
    "resize bilinear": operator("resize", size=(9, 5), mode="bilinear"),
    "split": _split,
    "div by a norm": _normalised,
    "layer_norm": _layer_norm(),
    "layer_norm of everything": _layer_norm(axes=3),
    "attention": _attention(),
    "attention with one head": _attention(heads=1),
    "attention behind a mask": _attention(mask=True),
    "constant": _constant,
    "weight": _places,
    "permute and reshape": _rows_to_heads,
    "a block of a ResNet": _resnet,
    "a linear layer behind parts": _embedded,
}
FLOAT: dict[str, Build] = {
    "div": lambda g, x: g.op("div", x, g.op("exp", x, name="exp"), name="op"),
    "power": operator("power", exponent=2.0),
    "sqrt": lambda g, x: g.op("sqrt", g.op("sigmoid", x, name="gate"), name="op"),
    "sum": operator("sum", axes=(0,), keepdim=True),
    "batch_norm": lambda g, x: g.batch_norm(x, name="op"),
    "prelu": lambda g, x: g.op("prelu", x, name="op", weights={"weight": Weight(name="op.weight", shape=(4,))}),
    "matmul": _rows,
    "unbind": _unbound,
}

ONNX: dict[str, Build] = {
    "take": _taken,
    "linear attention": _attended,
    "adaptive_avg_pool2d of unequal parts": operator("adaptive_avg_pool2d", output_size=(4, 3)),
    "adaptive_avg_pool2d of more parts than pixels": operator("adaptive_avg_pool2d", output_size=(7, 7)),
    "conv1d": _over_time,
    "conv_transpose2d": _transposed(),
    "conv_transpose2d of groups": _transposed(groups=2),
    "conv_transpose2d without a bias": _transposed(bias=False),
}  # in both, but not in every format


def graph_of(build: Build) -> OpGraph:
    g = GraphBuilder()
    return g.build(build(g, g.input(IMAGE)))


def images(count: int = 8) -> torch.Tensor:
    return torch.randn(count, *IMAGE, generator=torch.Generator().manual_seed(1))


def module_of(build: Build) -> OpGraphModule:
    torch.manual_seed(0)
    module = OpGraphModule(graph_of(build)).eval()
    for name, buffer in module.named_buffers():
        if "running" in name:  # constants are the graph's own
            buffer.uniform_(0.5, 1.5)
    return module


def quantized(build: Build, *, precision: str = "int8") -> QuantizedNetwork:
    """One region of integers, between the conversions that lead there and back."""
    module = module_of(build)
    graph = module.op_graph
    out_shape = graph.by_name[graph.outputs[0]].shape
    region = BlockModule(Block(kind="any", in_shape=IMAGE, out_shape=out_shape, precision=precision), graph=graph)
    region.load_state_dict(module.state_dict())
    ends = [("quantize", IMAGE), ("dequantize", out_shape)]
    first, last = (BlockModule(Block(kind=k, in_shape=s, out_shape=s, precision=precision)) for k, s in ends)
    network = SubNetwork([])
    network.blocks = nn.ModuleList([first, region, last])
    return quantize(network.eval(), [images(32)])
