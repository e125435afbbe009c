"""Graphs in a few numbers: the main path, and what is beside it."""

from __future__ import annotations

from hwnas.graph import GraphBuilder
from hwnas.graph.summary import summary


def test_a_bottleneck_with_a_gate_and_a_short_cut() -> None:
    g = GraphBuilder()
    x = g.input((8, 6, 6))
    y = g.op("relu6", g.conv2d(x, 24, name="expand"), name="act")
    y = g.op("silu", g.conv2d(y, 24, kernel_size=5, groups=24, name="depthwise"), name="act2")
    s = g.op("adaptive_avg_pool2d", y, name="pool", output_size=(1, 1))
    s = g.op("sigmoid", g.conv2d(g.conv2d(s, 4, name="reduce"), 24, name="restore"), name="gate")
    y = g.conv2d(g.op("mul", s, y, name="scaled"), 8, name="project")
    found = summary(g.build(g.op("add", y, x, name="sum")))
    assert (found.between, found.kernel_size, found.stride) == ((24,), 5, 1)
    assert (found.activations, found.gates, found.residual) == (("relu6", "silu"), (4,), True)


def test_a_short_cut_with_a_layer_of_its_own_is_not_the_input() -> None:
    g = GraphBuilder()
    x = g.input((8, 6, 6))
    y = g.op("relu", g.conv2d(x, 16, kernel_size=3, stride=2, name="first"), name="act")
    y = g.conv2d(y, 16, kernel_size=3, name="second")
    found = summary(g.build(g.op("add", g.conv2d(x, 16, stride=2, name="shortcut"), y, name="sum")))
    assert (found.between, found.stride, found.residual) == ((16,), 2, False)


def test_what_computes_nothing_has_nothing_to_tell() -> None:
    g = GraphBuilder()
    found = summary(g.build(g.op("quantize", g.input((3, 4, 4)), name="q", precision="int8")))
    assert (found.between, found.kernel_size, found.stride, found.gates, found.residual) == ((), 0, 1, (), False)


def test_a_pool_without_a_stride_shrinks_by_its_kernel() -> None:
    g = GraphBuilder()
    y = g.op(
        "max_pool2d",
        g.conv2d(g.input((3, 8, 8)), 8, kernel_size=3, stride=2, name="conv"),
        name="p",
        kernel_size=(2, 2),
    )
    assert summary(g.build(y)).stride == 4
