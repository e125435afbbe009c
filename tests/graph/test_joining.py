"""Several outputs of a graph as one, and apart again."""

from __future__ import annotations

import pytest

from hwnas.errors import GraphError
from hwnas.graph import GraphBuilder, OpGraph, Ref, macs, peak_memory_bytes
from hwnas.graph.elasticity.axes import OUTPUT
from hwnas.graph.elasticity.dependencies import Dependencies
from hwnas.graph.joining import in_one_row, input_parts, joined, output_parts, parted
from hwnas.row_parts import RowPart


def heads(*, more: tuple[str, ...] = ()) -> OpGraph:
    """A trunk and two heads; `more` are further outputs: the input, a constant, whole numbers, the first head again."""
    g = GraphBuilder()
    x = g.input((3, 8, 8))
    y = g.op("relu", g.conv2d(x, 6, kernel_size=3, name="trunk"), name="act")
    maps = g.conv2d(y, 4, kernel_size=1, name="maps")
    row = g.linear(g.op("mean", y, name="pool", axes=(1, 2)), 5, name="row")

    def further(kind: str) -> Ref:
        match kind:
            case "constant":
                return g.op("constant", name="c", shape=(1,), dtype="float32", numbers="AACAPw==")
            case "number" | "single":
                value = ((1,), "int64", True) if kind == "number" else ((), "float32", True)
                return g.append("found", row, name="f", weights={}, attributes={}, values=[value])[0]
        return {"input": x, "again": maps}[kind]

    return g.build(maps, row, *map(further, more))


def test_outputs_are_joined_to_a_row_and_told_by_their_names() -> None:
    graph = joined(heads(), ["maps", "row of 5"])
    assert len(graph.outputs) == 1
    assert graph.by_name[graph.outputs[0]].shape == (4 * 8 * 8 + 5,)
    assert output_parts(graph) == (RowPart(name="maps", shape=(4, 8, 8)), RowPart(name="row_of_5", shape=(5,)))
    assert OpGraph.from_json(graph.to_json()) == graph


def test_names_are_unique_and_never_that_of_the_input() -> None:
    assert [p.name for p in output_parts(joined(heads(), ["input", "input_1"]))] == ["input_1", "input_1_1"]
    assert [p.name for p in output_parts(joined(heads(), ["a,b", "a b"]))] == ["a_b", "a_b_1"]


def test_apart_again_the_graph_is_what_it_was_and_one_output_is_left_alone() -> None:
    graph = heads()
    assert parted(joined(graph, ["a", "b"])) == graph
    g = GraphBuilder()
    one = g.build(g.op("relu", g.input((3,)), name="r"))
    assert joined(one, ["a"]) is one
    assert parted(one) is one
    assert output_parts(one) == ()


def test_joining_costs_nothing() -> None:
    graph = heads()
    both = joined(graph, ["a", "b"])
    assert macs(both) == macs(graph)
    assert peak_memory_bytes(both) == peak_memory_bytes(graph)


def test_outputs_keep_their_channels_and_the_trunk_does_not() -> None:
    found = Dependencies.of(joined(heads(), ["a", "b"]))
    assert found.pinned["maps.weight"][0] == OUTPUT
    assert found.pinned["row.weight"][0] == OUTPUT
    assert [dim.size for dim in found.dims] == [6]


@pytest.mark.parametrize(
    ("more", "told"),
    [
        ("input", "'c' is what the network is given"),
        ("constant", "'c' is the same for every input, as anchors are"),
        ("number", "'c' is of int64; several outputs must be tensors of float32"),
        ("single", r"'c' is one number a sample without an axis; let the network return it as \(N, 1\)"),
        ("again", "outputs 'a' and 'c' are one tensor; let the network return it once"),
    ],
)
def test_what_cannot_be_joined_is_refused_by_name_with_what_to_do(more: str, told: str) -> None:
    with pytest.raises(GraphError, match=told):
        joined(heads(more=(more,)), ["a", "b", "c"])


# ---------------------------------------------------------------- several inputs


def two_inputs(dtype: str = "float32", shape: tuple[int, ...] = (5,)) -> OpGraph:
    g = GraphBuilder()
    image = g.input((3, 4, 4), name="image")
    numbers = g.input(shape, name="numbers", dtype=dtype)
    return g.build(g.op("mean", image, name="pool", axes=(1, 2)), g.op("relu", numbers, name="act"))


def test_inputs_are_cut_from_a_row_and_told_by_their_names() -> None:
    graph = in_one_row(two_inputs())
    assert [graph.by_name[name].shape for name in graph.inputs] == [(3 * 4 * 4 + 5,)]
    assert input_parts(graph) == (RowPart(name="image", shape=(3, 4, 4)), RowPart(name="numbers", shape=(5,)))
    assert [op.kind for op in graph.ops] == ["split", "reshape", "mean", "relu"]
    assert OpGraph.from_json(graph.to_json()) == graph
    assert macs(graph) == macs(two_inputs())


def test_one_input_is_left_alone() -> None:
    g = GraphBuilder()
    one = g.build(g.op("relu", g.input((3,)), name="r"))
    assert in_one_row(one) is one
    assert input_parts(one) == ()


@pytest.mark.parametrize(
    ("dtype", "shape", "told"),
    [("int64", (5,), "input 'numbers' is 5 of int64; several inputs must be tensors of float32"),
     ("float32", (), "input 'numbers' is one number of float32")],
)  # fmt: skip
def test_other_inputs_are_refused(dtype: str, shape: tuple[int, ...], told: str) -> None:
    with pytest.raises(GraphError, match=told):
        in_one_row(two_inputs(dtype, shape))


def test_what_the_network_makes_of_a_flat_input_is_not_taken_for_it() -> None:
    g = GraphBuilder()
    image, numbers = g.input((2, 2, 2), name="image"), g.input((16,), name="numbers")
    square = g.op("reshape", numbers, name="square", shape=(4, 4))
    row = in_one_row(g.build(g.op("relu", image, name="act"), square))
    assert [str(p) for p in input_parts(row)] == ["image 2x2x2", "numbers 16"]
