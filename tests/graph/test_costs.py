import pytest

from hwnas.errors import GraphError
from hwnas.graph import (
    GraphBuilder,
    Op,
    OpGraph,
    Value,
    Weight,
    liveness,
    macs,
    parameters,
    peak_memory_bytes,
    unknown_operators,
)
from hwnas.graph.costs import trained_activations


def test_macs_and_parameters_of_a_small_network_counted_by_hand() -> None:
    g = GraphBuilder()
    x = g.batch_norm(g.conv2d(g.input((3, 8, 8)), 4, kernel_size=3, stride=2, name="c"), name="b")  # (4, 4, 4)
    x = g.conv2d(x, 4, kernel_size=3, groups=4, bias=True, name="d")
    x = g.linear(g.flatten(g.op("mean", x, name="m", axes=(1, 2), keepdim=True), name="f"), 10, name="l")
    graph = g.build(x)
    assert macs(graph) == 4 * 4 * 4 * 27 + 4 * 4 * 4 * 9 + 40
    assert parameters(graph) == 108 + 8 + 36 + 4 + 40 + 10


def test_attention_counts_scores_and_sums() -> None:
    g = GraphBuilder()
    q, k, v = (g.input(s, name=n) for n, s in (("q", (2, 7, 8)), ("k", (2, 5, 8)), ("v", (2, 5, 6))))
    assert macs(g.build(g.op("attention", q, k, v, name="a"))) == 2 * (7 * 5 * 8 + 7 * 5 * 6)


def test_a_transposed_convolution_multiplies_each_input_by_the_weights_of_its_channel() -> None:
    g = GraphBuilder()
    weights = {"weight": Weight(name="up.weight", shape=(6, 2, 3, 3))}
    y = g.op("conv_transpose2d", g.input((6, 5, 5)), name="up", weights=weights, stride=(2, 2), groups=2)
    assert y.shape == (4, 11, 11)
    assert macs(g.build(y)) == 6 * 5 * 5 * 2 * 9


def test_a_shared_weight_is_counted_once() -> None:
    g = GraphBuilder()
    y = g.conv2d(g.input((4, 5, 5)), 4, name="first")
    weights = dict(g.build(y).ops[0].weights)
    graph = g.build(g.op("conv2d", y, name="second", weights=weights))
    assert parameters(graph) == 16
    assert macs(graph) == 2 * 16 * 25


def test_a_branch_that_waits_stays_alive() -> None:
    g = GraphBuilder()
    x = g.input((10,))
    a = g.linear(x, 20, name="a")
    b = g.linear(a, 30, name="b")
    c = g.linear(b, 10, name="c")
    straight, residual = g.build(c), g.build(g.op("add", x, c, name="sum"))
    assert peak_memory_bytes(straight) == 4 * (20 + 30)
    assert peak_memory_bytes(residual) == 4 * (10 + 20 + 30)


def test_an_activation_works_in_place_unless_another_reads_its_input() -> None:
    g = GraphBuilder()
    x = g.linear(g.input((10,)), 40, name="a")
    y = g.op("relu", x, name="r")
    alone = g.build(g.linear(y, 10, name="b"))
    assert peak_memory_bytes(alone) == 4 * (10 + 40)
    assert liveness(alone) == ({"input", "a"}, {"a"}, {"a", "b"})
    both = g.build(g.op("add", x, y, name="sum"))
    assert peak_memory_bytes(both) == 4 * 3 * 40


def test_an_input_that_is_also_an_output_is_never_overwritten() -> None:
    g = GraphBuilder()
    x = g.input((10,))
    assert peak_memory_bytes(g.build(x, g.op("relu", x, name="r"))) == 4 * 20


def test_concatenated_branches_are_alive_together() -> None:
    g = GraphBuilder()
    x = g.input((4, 2, 2))
    branches = [g.conv2d(x, n, name=f"b{n}") for n in (2, 3, 5)]
    graph = g.build(g.op("concat", *branches, name="cat", axis=0))
    assert peak_memory_bytes(graph, element_bytes=1) == 4 * (10 + 10)


def test_numbers_take_the_bytes_they_are_said_to() -> None:
    g = GraphBuilder()
    graph = g.build(g.op("quantize", g.input((10,)), name="q", precision="int8"))
    assert peak_memory_bytes(graph, element_bytes=lambda v: 1 if v.name == "q" else 4) == 50


def test_what_follows_from_weights_alone_is_no_activation() -> None:
    values = (
        Value(name="x", shape=(10,)),
        Value(name="p", shape=(1000,), batched=False),
        Value(name="y", shape=(10,)),
    )
    ops = (
        Op(name="p", kind="weight", inputs=(), outputs=("p",)),
        Op(name="y", kind="add", inputs=("x", "p"), outputs=("y",)),
    )
    assert peak_memory_bytes(OpGraph(values=values, ops=ops, inputs=("x",), outputs=("y",))) == 4 * 20


def test_an_unknown_operator_is_told_by_name() -> None:
    values = (Value(name="x", shape=(1,)), Value(name="y", shape=(1,)))
    graph = OpGraph(
        values=values, ops=(Op(name="o", kind="odd", inputs=("x",), outputs=("y",)),), inputs=("x",), outputs=("y",)
    )
    assert unknown_operators(graph) == ("odd",)
    with pytest.raises(GraphError, match="unknown operator 'odd'"):
        macs(graph)


def test_what_training_keeps_is_what_normalisations_read_and_give() -> None:
    g = GraphBuilder()
    x = g.batch_norm(g.conv2d(g.input((3, 4, 4)), 8, name="c"), name="b")
    assert trained_activations(g.build(g.op("relu", x, name="r"))) == 3 * 16 + 2 * 8 * 16
