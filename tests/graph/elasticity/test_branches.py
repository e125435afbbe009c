"""Residual branches: which there are, and the graph without them."""

from __future__ import annotations

import pytest

from hwnas.errors import GraphError
from hwnas.graph import GraphBuilder, OpGraph, Ref, Weight
from hwnas.graph.elasticity.branches import branches, leave_out, without


def layer(g: GraphBuilder, x: Ref, path: str) -> Ref:
    return g.op(
        "relu", g.batch_norm(g.conv2d(x, x.shape[0], name=f"{path}.conv"), name=f"{path}.bn"), name=f"{path}.act"
    )


def chain() -> OpGraph:
    """A stem, three residual blocks of which the last is inside out, and a head."""
    g = GraphBuilder()
    x = g.conv2d(g.input((3, 8, 8)), 4, name="stem")
    for i in range(2):
        y = g.op("dropout", layer(g, x, f"blocks.{i}.a"), name=f"blocks.{i}.drop", whole="sample")
        x = g.op("add", *((x, y) if i else (y, x)), name=f"blocks.{i}.add")
    y = layer(g, x, "long.first")
    y = g.op("add", y, layer(g, y, "long.inner"), name="long.inner.add")
    x = g.op("add", layer(g, y, "long.last"), x, name="long.add")
    return g.build(g.linear(g.flatten(x, name="flat"), 3, name="head"))


def test_a_branch_is_what_is_added_to_a_value_whichever_operand_it_is() -> None:
    first, second, *_ = branches(chain())
    assert (first.name, first.source, first.result) == ("blocks.0", "stem", "blocks.0.add")
    assert first.ops == tuple(f"blocks.0.{n}" for n in ("a.conv", "a.bn", "a.act", "drop", "add"))
    assert (second.name, second.source, second.result) == ("blocks.1", "blocks.0.add", "blocks.1.add")
    assert (first.inside, second.inside) == (None, None)


def test_a_branch_in_another_says_which_is_around_it() -> None:
    found = branches(chain())
    assert [b.name for b in found] == ["blocks.0", "blocks.1", "long.inner", "long"]
    assert [b.inside for b in found] == [None, None, 3, None]
    assert set(found[2].ops) < set(found[3].ops)


def test_of_several_around_it_the_smallest_counts() -> None:
    g = GraphBuilder()
    x = g.input((4, 8, 8))
    y = x
    for i in range(3):  # each sum reads the one before, and the input again
        y = g.op("add", x, g.conv2d(y, 4, name=f"conv{i}"), name=f"add{i}")
    found = branches(g.build(y))
    assert [(b.name, b.inside, len(b.ops)) for b in found] == [("conv0", 1, 2), ("conv0_1", 2, 4), ("conv0_2", None, 6)]


def test_without_a_branch_its_readers_read_the_source() -> None:
    graph = chain()
    less = without(graph, ["blocks.1", "long"])
    assert [op.name for op in less.ops] == [op.name for op in graph.ops if not op.name.startswith(("blocks.1", "long"))]
    (flat,) = (op for op in less.ops if op.name == "flat")
    assert flat.inputs == ("blocks.0.add",)  # through two results that are gone
    assert {v.name for v in less.values} == {"input", *(op.name for op in less.ops)}
    assert less.by_name["flat"] == graph.by_name["flat"]


def test_without_all_of_a_graph_it_gives_what_it_takes() -> None:
    g = GraphBuilder()
    x = g.input((4, 8, 8))
    less = without(g.build(g.op("add", x, layer(g, x, "only"), name="add")), ["only"])
    assert (less.ops, less.outputs) == ((), ("input",))


def test_an_inner_branch_goes_alone_or_with_what_is_around_it() -> None:
    graph = chain()
    inner = without(graph, ["long.inner"])
    assert [b.name for b in branches(inner)] == ["blocks.0", "blocks.1", "long"]
    assert without(graph, ["long.inner", "long"]) == without(graph, ["long"])


def test_leaving_out_changes_a_part_of_the_graph_alike() -> None:
    graph = chain()
    _, second, *_ = branches(graph)
    g = GraphBuilder()
    x = g.input((4, 8, 8), name="blocks.0.add")
    y = g.op("dropout", layer(g, x, "blocks.1.a"), name="blocks.1.drop", whole="sample")
    part = g.build(g.op("relu", g.op("add", x, y, name="blocks.1.add"), name="behind"))
    assert [(op.name, op.inputs) for op in leave_out(part, [second]).ops] == [("behind", ("blocks.0.add",))]


def test_an_unknown_branch_is_refused_with_those_there_are() -> None:
    with pytest.raises(GraphError, match=r"'blocks.7'.*blocks.0, blocks.1, long.inner, long"):
        without(chain(), ["blocks.0", "blocks.7"])
    g = GraphBuilder()
    with pytest.raises(GraphError, match="nothing in this graph"):
        without(g.build(g.op("relu", g.input((3,)), name="act")), ["a"])


def test_weights_of_the_branch_alone_go_with_it_and_shared_ones_stay() -> None:
    g = GraphBuilder()
    x = g.input((4, 8))
    own, shared = (
        g.op("weight", name=n, weights={"weight": Weight(name=f"{n}.w", shape=(8,))}) for n in ("own", "shared")
    )
    scaled = g.op("tanh", shared, name="bounded")
    y = g.op("mul", g.op("mul", g.linear(x, 8, name="mix"), own, name="a"), scaled, name="b")
    z = g.op("mul", g.op("add", x, y, name="sum"), scaled, name="c")
    graph = g.build(z)
    (branch,) = branches(graph)
    assert branch.ops == ("own", "mix", "a", "b", "sum")
    assert [op.name for op in without(graph, ["mix"]).ops] == ["shared", "bounded", "c"]


def test_weights_that_only_branches_read_go_with_the_last_of_them() -> None:
    g = GraphBuilder()
    x = g.input((4, 8))
    scale = g.op("weight", name="scale", weights={"weight": Weight(name="scale.w", shape=(8,))})
    for i in range(2):
        x = g.op("add", x, g.op("mul", g.linear(x, 8, name=f"l{i}"), scale, name=f"m{i}"), name=f"add{i}")
    graph = g.build(g.linear(x, 3, name="head"))
    assert "scale" in {op.name for op in without(graph, ["l0"]).ops}
    assert [op.name for op in without(graph, ["l0", "l1"]).ops] == ["head"]


class TestNoBranch:
    """What looks like one."""

    def test_two_layers_beside_each_other(self) -> None:
        g = GraphBuilder()
        x = g.input((4, 8, 8))
        assert not branches(g.build(g.op("add", g.conv2d(x, 4, name="a"), g.conv2d(x, 4, name="b"), name="sum")))

    def test_a_gate(self) -> None:
        g = GraphBuilder()
        x = g.input((4, 8, 8))
        assert not branches(g.build(g.op("mul", x, layer(g, x, "gate"), name="gated")))

    def test_what_holds_no_weight(self) -> None:
        g = GraphBuilder()
        x = g.input((4, 8, 8))
        assert not branches(g.build(g.op("add", x, g.op("relu", x, name="act"), name="sum")))
        assert not branches(g.build(g.op("add", x, x, name="twice")))

    def test_a_result_that_is_broadcast(self) -> None:
        g = GraphBuilder()
        x = g.input((4, 8, 8))
        y = g.conv2d(g.op("mean", x, name="pool", axes=(1, 2), keepdim=True), 4, name="squeezed")
        assert not branches(g.build(g.op("add", x, y, name="sum")))

    @pytest.mark.parametrize("where", ["read", "output"])
    def test_a_value_inside_that_is_wanted_elsewhere(self, where: str) -> None:
        g = GraphBuilder()
        x = g.input((4, 8, 8))
        inner = g.conv2d(x, 4, name="inner")
        y = g.op("add", x, g.conv2d(inner, 4, name="outer"), name="sum")
        assert len(branches(g.build(y))) == 1
        if where == "output":
            assert not branches(g.build(y, inner))
        else:
            assert not branches(g.build(g.op("concat", y, inner, name="both", axis=0)))

    def test_what_reads_from_before_the_source(self) -> None:
        g = GraphBuilder()
        before = g.conv2d(g.input((4, 8, 8)), 4, name="before")
        x = g.conv2d(before, 4, name="x")
        y = g.op("mul", g.conv2d(x, 4, name="f"), before, name="mixed")
        assert not branches(g.build(g.op("add", x, y, name="sum")))

    def test_what_reads_another_input_of_the_graph(self) -> None:
        g = GraphBuilder()
        x, mask = g.input((4, 8), name="x"), g.input((4, 8), name="mask")
        y = g.op("mul", g.linear(x, 8, name="f"), mask, name="masked")
        assert not branches(g.build(g.op("add", x, y, name="sum")))

    def test_a_part_beside_the_source_of_what_was_split(self) -> None:
        g = GraphBuilder()
        a, b = g.ops("split", g.input((8, 4, 4)), name="halves", axis=0, sizes=(4, 4))
        y = g.op("mul", g.conv2d(a, 4, name="f"), b, name="mixed")
        assert not branches(g.build(g.op("add", a, y, name="sum")))

    @pytest.mark.parametrize("batched", [False, True])
    def test_an_embedding_of_positions(self, batched: bool) -> None:
        g = GraphBuilder()
        x = g.linear(g.input((4, 8)), 8, name="patch")
        held = {"weight": Weight(name="pos.w", shape=(4, 8))}
        values = [((4, 8), "float32", batched)]
        (positions,) = g.append("weight", name="pos", weights=held, attributes={}, values=values)
        assert not branches(g.build(g.op("add", x, positions, name="placed")))


def test_a_source_that_others_read_too_and_a_result_that_is_an_output_are_allowed() -> None:
    g = GraphBuilder()
    x = g.conv2d(g.input((4, 8, 8)), 4, name="x")
    y = g.op("add", x, layer(g, x, "f"), name="sum")
    graph = g.build(y, g.op("concat", x, y, name="both", axis=0))
    assert [b.name for b in branches(graph)] == ["f"]
    less = without(graph, ["f"])
    assert less.outputs == ("x", "both")
    assert less.producers["both"].inputs == ("x", "x")
