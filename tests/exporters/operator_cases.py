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
SERIES = (4, 18)
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


def _times(g: GraphBuilder, x: Ref, factor: float) -> Ref:
    return g.op("affine", x, name="scaled", scale=factor)


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


def _transposed(*, groups: int = 1, bias: bool = True, kernel=(2, 2), stride=(2, 2), **attributes) -> Build:
    def build(g: GraphBuilder, x: Ref) -> Ref:
        weight = Weight(name="op.weight", shape=(x.shape[0], 6 // groups, *kernel))
        held = {"weight": weight} | ({"bias": Weight(name="op.bias", shape=(6,))} if bias else {})
        return g.op("conv_transpose2d", x, name="op", weights=held, groups=groups, stride=stride, **attributes)

    return build


def _conv1d(*, channels: int = 8, groups: int = 1, kernel: int = 5, **attributes) -> Build:
    def build(g: GraphBuilder, x: Ref) -> Ref:
        weight = Weight(name="op.weight", shape=(channels, x.shape[0] // groups, kernel))
        held = {"weight": weight, "bias": Weight(name="op.bias", shape=(channels,))}
        return g.op("conv1d", x, name="op", weights=held, groups=groups, **attributes)

    return build


def _along(g: GraphBuilder, x: Ref) -> Ref:
    """Positions beside each other, as every convolution along them has them."""
    return g.conv1d(x, x.shape[0], kernel_size=3, name="along", bias=True)


def _behind_a_convolution(kind: str, **attributes) -> Build:
    return lambda g, x: g.op(kind, _along(g, x), name="op", **attributes)


def _pooled(kind: str, **attributes) -> Build:
    """As a pool along a series is traced: one of an image of one row."""

    def build(g: GraphBuilder, x: Ref) -> Ref:
        y = _along(g, x)
        y = g.op(kind, g.op("reshape", y, name="row", shape=(4, 1, 18)), name="op", **attributes)
        return g.op("reshape", y, name="series", shape=(y.shape[0], y.shape[2]))

    return build


def _gated(g: GraphBuilder, x: Ref) -> Ref:
    """A gate for each channel (Hu et al., 2018), in series."""
    y = _along(g, x)
    gate = g.conv1d(g.op("mean", y, name="pool", axes=(1,), keepdim=True), 4, name="squeeze", bias=True)
    return g.op("mul", y, g.op("sigmoid", gate, name="gate"), name="op")


def _to_rows_and_back(g: GraphBuilder, x: Ref) -> Ref:
    """Convolutions with a linear layer of every position between them."""
    rows = g.linear(g.op("permute", _along(g, x), name="rows", order=(1, 0)), 6, name="mix")
    return g.conv1d(g.op("permute", rows, name="series", order=(1, 0)), 3, kernel_size=3, name="op", bias=True)


def _parts_joined(g: GraphBuilder, x: Ref) -> Ref:
    first, second = g.ops("split", _along(g, x), name="op", axis=0, sizes=(1, 3))
    return g.op("concat", second, first, name="joined", axis=0)


def _one_after_the_other(g: GraphBuilder, x: Ref) -> Ref:
    return g.op("concat", _along(g, x), x, name="op", axis=1)


def _separable(g: GraphBuilder, x: Ref) -> Ref:
    """A block of a keyword spotter, and a classifier behind it."""
    y = g.batch_norm(g.conv1d(x, 4, kernel_size=5, stride=2, groups=4, name="depth"), name="depth_bn")
    y = g.batch_norm(g.conv1d(y, 8, name="point"), name="point_bn")
    y = g.op("add", y, g.batch_norm(g.conv1d(x, 8, stride=2, name="down"), name="down_bn"), name="sum")
    y = g.op("reshape", g.op("relu", y, name="act"), name="row", shape=(8, 1, 9))
    y = g.op("adaptive_avg_pool2d", y, name="pool", output_size=(1, 1))
    return g.linear(g.flatten(y, name="flat"), 3, name="op")


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


def _attention(*, heads: int = 4, mask: bool = False, causal: bool = False) -> Build:
    """Of queries, keys and values that differ: channels are heads, rows are positions."""

    def build(g: GraphBuilder, x: Ref) -> Ref:
        parts = [g.conv2d(x, heads, name=name, kernel_size=3) for name in ("query", "key", "value")]
        if mask:
            parts.append(g.op("weight", name="mask", weights={"weight": Weight(name="mask.weight", shape=(1, 6, 6))}))
        return g.op("attention", *parts, name="op", scale=0.5, causal=causal)

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


def _gains(channels: int) -> dict[str, Weight]:
    return {role: Weight(name=f"op.{role}", shape=(channels,)) for role in ("weight", "bias")}


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
    "hardsigmoid of all it tells apart": lambda g, x: g.op("hardsigmoid", _times(g, x, 4.0), name="op"),
    "mul by a hard gate": lambda g, x: g.op(
        "mul", x, g.op("hardsigmoid", g.conv2d(x, 4, kernel_size=3, name="conv"), name="gate"), name="op"
    ),
    "leaky_relu": operator("leaky_relu", negative_slope=0.2),
    "elu": operator("elu"),
    "softmax": operator("softmax", axis=0),
    "softmax of matrices": operator("softmax", axis=2),
    "clamp": operator("clamp", min=-0.5, max=0.7),
    "affine": operator("affine", scale=2.0, shift=-1.0),
    "max_pool2d": operator("max_pool2d", kernel_size=(3, 3), stride=(2, 2), padding=(1, 1)),
    "max_pool2d behind a relu": lambda g, x: g.op(
        "max_pool2d",
        g.op("relu", g.conv2d(x, 4, kernel_size=3, name="conv"), name="act"),
        name="op",
        kernel_size=(3, 3),
        stride=(2, 2),
        padding=(1, 1),
    ),
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
    "expand": lambda g, x: g.op("expand", g.conv2d(x, 1, name="one"), name="op", shape=(3, 6, 6)),
    "expand of all": operator("expand", shape=(2, 4, 6, 6)),
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
    "attention to earlier positions": _attention(causal=True),
    "constant": _constant,
    "weight": _places,
    "permute and reshape": _rows_to_heads,
    "a block of a ResNet": _resnet,
    "a linear layer behind parts": _embedded,
    "conv1d": _over_time,
    "conv_transpose2d": _transposed(),
    "conv_transpose2d without a bias": _transposed(bias=False),
    "conv_transpose2d as wide as its stride": _transposed(kernel=(4, 4), padding=(1, 1)),
    "conv_transpose2d of an odd kernel": _transposed(kernel=(3, 3), padding=(1, 1), output_padding=(1, 1)),
    "conv_transpose2d cut off": _transposed(kernel=(3, 5), stride=(1, 2), padding=(1, 2)),
    "conv_transpose2d that ends behind its windows": _transposed(kernel=(2, 3), stride=(3, 3), output_padding=(2, 1)),
}
# the same, of a series
ALONG: dict[str, Build] = {
    "conv1d strided": _conv1d(stride=(2,), padding=(2,)),
    "conv1d of groups": _conv1d(groups=2, padding=(2,)),
    "conv1d dilated": _conv1d(dilation=(3,), padding=(6,)),
    "conv1d of an even kernel": _conv1d(kernel=4),
    "conv1d of several filters a channel": _conv1d(groups=4, padding=(2,)),
    "conv1d of every position": _conv1d(kernel=1),
    "add": lambda g, x: g.op("relu", g.op("add", x, _along(g, x), name="op"), name="act"),
    "hardswish": _behind_a_convolution("hardswish"),
    "softmax": _behind_a_convolution("softmax", axis=0),
    "softmax of positions": _behind_a_convolution("softmax", axis=1),
    "mean": _behind_a_convolution("mean", axes=(1,)),
    "mean of channels": _behind_a_convolution("mean", axes=(0,)),
    "reshape to a row": _behind_a_convolution("reshape", shape=(72,)),
    "reshape to an image": _behind_a_convolution("reshape", shape=(4, 3, 6)),
    "permute": _behind_a_convolution("permute", order=(1, 0)),
    "slice": _behind_a_convolution("slice", axis=1, start=2, stop=11),
    "select": _behind_a_convolution("select", axis=1, index=-1),
    "select of a channel": _behind_a_convolution("select", axis=0, index=1),
    "pad": _behind_a_convolution("pad", amounts=(0, 0, 3, 1)),
    "resize": _behind_a_convolution("resize", size=(36,)),
    "resize linear": _behind_a_convolution("resize", size=(27,), mode="linear"),
    "max_pool2d": _pooled("max_pool2d", kernel_size=(1, 3), stride=(1, 2), padding=(0, 1)),
    "avg_pool2d": _pooled("avg_pool2d", kernel_size=(1, 3)),
    "adaptive_avg_pool2d": _pooled("adaptive_avg_pool2d", output_size=(1, 1)),
    "mul by a gate": _gated,
    "linear between convolutions": _to_rows_and_back,
    "split": _parts_joined,
    "concat of positions": _one_after_the_other,
    "a separable block": _separable,
}
FLOAT_ALONG: dict[str, Build] = {
    "batch_norm": lambda g, x: g.batch_norm(x, name="op"),
    "prelu": lambda g, x: g.op("prelu", x, name="op", weights={"weight": Weight(name="op.weight", shape=(4,))}),
    "group_norm": lambda g, x: g.op("group_norm", x, name="op", weights=_gains(4), groups=2),
    "matmul": lambda g, x: g.op("matmul", _along(g, x), g.op("permute", x, name="t", order=(1, 0)), name="op"),
    "sum": _behind_a_convolution("sum", axes=(0, 1)),
    "max": _behind_a_convolution("max", axes=(1,), keepdim=True),
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
    "group_norm": lambda g, x: g.op("group_norm", x, name="op", weights=_gains(4), groups=2),
}

ONNX: dict[str, Build] = {
    "take": _taken,
    "linear attention": _attended,
    "adaptive_avg_pool2d of unequal parts": operator("adaptive_avg_pool2d", output_size=(4, 3)),
    "adaptive_avg_pool2d of more parts than pixels": operator("adaptive_avg_pool2d", output_size=(7, 7)),
    "conv_transpose2d of groups": _transposed(groups=2),
}  # in both, but not in every format


def graph_of(build: Build, shape: tuple[int, ...] = IMAGE) -> OpGraph:
    g = GraphBuilder()
    return g.build(build(g, g.input(shape)))


def images(count: int = 8, shape: tuple[int, ...] = IMAGE) -> torch.Tensor:
    return torch.randn(count, *shape, generator=torch.Generator().manual_seed(1))


def module_of(build: Build, shape: tuple[int, ...] = IMAGE) -> OpGraphModule:
    torch.manual_seed(0)
    module = OpGraphModule(graph_of(build, shape)).eval()
    for name, buffer in module.named_buffers():
        if "running" in name:  # constants are the graph's own
            buffer.uniform_(0.5, 1.5)
    return module


def quantized(build: Build, shape: tuple[int, ...] = IMAGE, *, precision: str = "int8") -> QuantizedNetwork:
    """One region of integers, between the conversions that lead there and back."""
    module = module_of(build, shape)
    graph = module.op_graph
    out_shape = graph.by_name[graph.outputs[0]].shape
    region = BlockModule(Block(kind="any", in_shape=shape, out_shape=out_shape, precision=precision), graph=graph)
    region.load_state_dict(module.state_dict())
    ends = [("quantize", shape), ("dequantize", out_shape)]
    first, last = (BlockModule(Block(kind=k, in_shape=s, out_shape=s, precision=precision)) for k, s in ends)
    network = SubNetwork([])
    network.blocks = nn.ModuleList([first, region, last])
    return quantize(network.eval(), [images(32, shape)])
