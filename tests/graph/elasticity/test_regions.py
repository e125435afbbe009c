"""The chain of regions: what is never parted, what becomes one block, and what can be dropped."""

from __future__ import annotations

from collections.abc import Sequence

import pytest

from hwnas.graph import GraphBuilder, Op, OpGraph, Ref, Weight
from hwnas.graph.elasticity.branches import branches
from hwnas.graph.elasticity.regions import Region, droppable, regions


def always(ops: Sequence[Op]) -> bool:
    return True


def never(ops: Sequence[Op]) -> bool:
    return False


def held(found: Sequence[Region]) -> list[list[str]]:
    return [[op.name for op in region.graph.ops] for region in found]


def conv(g: GraphBuilder, x: Ref, path: str, **more: int) -> Ref:
    return g.op(
        "relu6", g.batch_norm(g.conv2d(x, 8, name=f"{path}.conv", **more), name=f"{path}.bn"), name=f"{path}.act"
    )


def residual(g: GraphBuilder, x: Ref, path: str) -> Ref:
    y = conv(g, conv(g, x, f"{path}.0"), f"{path}.1")
    return g.op("relu", g.op("add", y, x, name=f"{path}.add"), name=f"{path}.relu")


def network() -> OpGraph:
    """A stem with a pool, a stage of a plain block and a residual one, and a head."""
    g = GraphBuilder()
    x = conv(g, g.input((3, 16, 16)), "stem")
    x = g.op("max_pool2d", x, name="pool", kernel_size=(2, 2))
    for i in range(3):
        x = conv(g, x, f"stage.0.part{i}")
    x = residual(g, x, "stage.1")
    x = g.op("mean", x, name="mean", axes=(1, 2))
    x = g.op("dropout", x, name="drop")
    return g.build(g.linear(x, 5, name="fc"))


def test_a_stem_its_blocks_and_a_head() -> None:
    found = regions(network(), fits=always)
    assert [r.name for r in found] == ["stem", "stage.0", "stage.1", "fc"]
    first, _, block, head = held(found)
    assert first == ["stem.conv", "stem.bn", "stem.act", "pool"]
    assert (block[-2:], head) == (["stage.1.add", "stage.1.relu"], ["mean", "drop", "fc"])


def test_a_block_that_does_not_fit_stays_in_its_pieces_and_a_piece_is_never_asked_about() -> None:
    asked: list[list[str]] = []

    def fits(ops: Sequence[Op]) -> bool:
        asked.append([op.name for op in ops])
        return False

    found = regions(network(), fits=fits)
    assert [r.name for r in found] == ["stem", *(f"stage.0.part{i}" for i in range(3)), "stage.1", "fc"]
    assert asked == [[f"stage.0.part{i}.{n}" for i in range(3) for n in ("conv", "bn", "act")]]


def test_a_chain_hands_one_value_on_and_keeps_all_names() -> None:
    graph = network()
    found = regions(graph, fits=always)
    taken = graph.inputs
    for region in found:
        assert region.graph.inputs == taken
        assert all(graph.by_name[v.name] == v for v in region.graph.values)
        taken = region.graph.outputs
    assert taken == graph.outputs
    assert tuple(op for region in found for op in region.graph.ops) == graph.ops


def test_the_module_that_is_the_whole_network_is_no_block() -> None:
    g = GraphBuilder()
    x = g.input((8, 4, 4))
    for i in range(3):
        x = conv(g, x, f"net.body.{i}")
    assert [r.name for r in regions(g.build(x), fits=always)] == ["net.body.0", "net.body.1", "net.body.2"]


def test_layers_without_modules_stay_apart() -> None:
    g = GraphBuilder()
    x = g.input((8, 4, 4))
    for i in range(3):
        x = g.op("relu", g.conv2d(x, 8, name=f"conv{i}"), name=f"relu{i}")
    assert held(regions(g.build(x), fits=always)) == [[f"conv{i}", f"relu{i}"] for i in range(3)]


def test_a_module_called_in_two_places_is_no_block_but_the_one_around_it_may_be() -> None:
    g = GraphBuilder()
    x = conv(g, g.input((8, 4, 4)), "stem")
    for place in ("around.twice.a", "around.between", "around.twice.b", "apart.a", "between", "apart.b"):
        x = conv(g, x, place)
    assert [r.name for r in regions(g.build(x), fits=always)] == ["stem", "around", "apart.a", "between", "apart.b"]


def test_a_module_that_is_cut_off_in_the_middle_of_a_piece_is_no_block() -> None:
    g = GraphBuilder()
    x = conv(g, conv(g, conv(g, g.input((3, 4, 4)), "stem"), "a.0"), "a.1")
    x = g.op("add", conv(g, x, "a.2"), conv(g, x, "b"), name="add")
    assert [r.name for r in regions(g.build(x), fits=always)] == ["stem", "a.0", "a.1", "a.2"]


def test_a_stage_that_holds_blocks_is_none_and_what_stands_beside_them_stays_apart() -> None:
    g = GraphBuilder()
    x = conv(g, conv(g, g.input((3, 4, 4)), "stem"), "stage.down")
    x = residual(g, residual(g, x, "stage.blocks.0"), "stage.blocks.1")
    found = regions(g.build(x), fits=always)
    assert [r.name for r in found] == ["stem", "stage.down", "stage.blocks.0", "stage.blocks.1"]


@pytest.mark.parametrize("kind", ["batch_norm", "relu", "hardswish", "gelu", "identity", "dropout", "affine", "clamp"])
def test_what_a_runtime_fuses_stays_with_its_layer_wherever_its_name_lies(kind: str) -> None:
    g = GraphBuilder()
    x = g.conv2d(g.input((8, 4, 4)), 8, name="a.conv")
    x = g.batch_norm(x, name="b.what") if kind == "batch_norm" else g.op(kind, x, name="b.what")
    x = g.op("tanh", x, name="b.act")
    assert held(regions(g.build(g.conv2d(x, 8, name="b.conv")), fits=always)) == [
        ["a.conv", "b.what", "b.act"],
        ["b.conv"],
    ]


def test_an_activation_stays_with_the_sum_before_it() -> None:
    g = GraphBuilder()
    x = conv(g, g.input((8, 4, 4)), "stem")
    x = g.op("add", conv(g, x, "a.conv"), x, name="a.add")
    x = g.op("relu", x, name="b.act")
    assert held(regions(g.build(conv(g, x, "b.0")), fits=always))[1][-2:] == ["a.add", "b.act"]


def test_an_activation_that_is_written_out_stays_with_its_layer() -> None:
    g = GraphBuilder()
    x = g.conv2d(g.input((8, 4, 4)), 8, name="a.conv")
    x = g.op("mul", x, g.op("sigmoid", x, name="b.sigmoid"), name="b.mul")
    found = regions(g.build(g.conv2d(x, 8, name="b.conv")), fits=always)
    assert held(found) == [["a.conv", "b.sigmoid", "b.mul"], ["b.conv"]]


def test_the_norm_of_a_block_that_begins_with_one_is_not_fused_into_the_sum_before_it() -> None:
    g = GraphBuilder()
    x = residual(g, conv(g, g.input((8, 4, 4)), "stem"), "blocks.0")
    x = g.op("relu", g.batch_norm(x, name="blocks.1.bn"), name="blocks.1.act")
    found = regions(g.build(g.conv2d(x, 8, name="blocks.1.conv")), fits=always)
    assert held(found)[-1] == ["blocks.1.bn", "blocks.1.act", "blocks.1.conv"]


@pytest.mark.parametrize(
    ("name", "goes_with"), [("first.norm", 0), ("second.norm", 1), ("norm", 1)], ids=["before", "behind", "unsaid"]
)
def test_a_norm_that_nothing_fuses_goes_where_its_module_is(name: str, goes_with: int) -> None:
    g = GraphBuilder()
    x = g.linear(g.input((4, 8)), 8, name="first.fc")
    x = g.op("layer_norm", x, name=name, normalized_shape=(8,))
    found = regions(g.build(g.linear(x, 3, name="second.fc")), fits=always)
    assert [name in ops for ops in held(found)] == [i == goes_with for i in range(2)]


def test_the_layer_just_before_says_where_a_norm_belongs() -> None:
    g = GraphBuilder()
    x = g.input((4, 8))
    x = g.op("mul", g.linear(x, 8, name="a.fc"), g.linear(x, 8, name="b.fc"), name="product")
    x = g.op("layer_norm", x, name="b.norm", normalized_shape=(8,))
    assert held(regions(g.build(g.linear(x, 3, name="c")), fits=always))[0][-1] == "b.norm"


def test_a_token_put_in_front_of_patches_belongs_to_them() -> None:
    g = GraphBuilder()
    x = g.linear(g.input((4, 8)), 8, name="patch")
    token, positions = (
        g.op("weight", name=n, weights={"weight": Weight(name=f"{n}.w", shape=(k, 8))})
        for n, k in (("token", 1), ("positions", 5))
    )
    x = g.op("add", g.op("concat", token, x, name="concat", axis=0), positions, name="placed")
    y = g.op("layer_norm", x, name="block.norm", normalized_shape=(8,))
    y = g.linear(g.op("gelu", g.linear(y, 16, name="block.fc1"), name="block.act"), 8, name="block.fc2")
    x = g.op("add", x, y, name="block.add")
    found = regions(g.build(g.linear(g.op("select", x, name="class", axis=0, index=0), 3, name="head")), fits=always)
    assert held(found)[0] == ["patch", "token", "positions", "concat", "placed"]
    assert held(found)[2] == ["class", "head"]


def test_what_leans_to_neither_side_goes_with_what_is_behind_it() -> None:
    g = GraphBuilder()
    x = g.op("relu", g.conv2d(g.input((3, 4, 4)), 8, name="conv"), name="act")
    x = g.op("max_pool2d", x, name="pool", kernel_size=(2, 2))
    x = g.op("dropout", g.flatten(x, name="flat"), name="drop")
    assert held(regions(g.build(g.linear(x, 5, name="fc")), fits=always)) == [
        ["conv", "act", "pool"],
        ["flat", "drop", "fc"],
    ]


def test_patches_become_a_row_before_a_token_is_put_in_front() -> None:
    g = GraphBuilder()
    x = g.conv2d(g.input((3, 4, 4)), 8, name="patch")
    x = g.op("permute", g.op("reshape", x, name="reshape", shape=(8, 16)), name="permute", order=(1, 0))
    token = g.op("weight", name="token", weights={"weight": Weight(name="token.w", shape=(1, 8))})
    x = g.op("permute", g.op("concat", token, x, name="concat", axis=0), name="turned", order=(1, 0))
    assert held(regions(g.build(g.linear(x, 3, name="mix")), fits=always)) == [
        ["patch", "reshape", "permute", "token", "concat"],
        ["turned", "mix"],
    ]


def test_weights_that_several_regions_read_are_in_each() -> None:
    g = GraphBuilder()
    x = g.input((4, 8))
    table = g.op("weight", name="table", weights={"weight": Weight(name="table.w", shape=(8,))})
    scale = g.op("tanh", table, name="scale")
    for i in range(2):
        x = g.op("mul", g.linear(x, 8, name=f"fc{i}"), scale, name=f"mul{i}")
    found = regions(g.build(x, table), fits=always)
    assert [{"table", "scale"} <= set(ops) for ops in held(found)] == [True, True]
    assert found[-1].graph.outputs == ("mul1", "table")


def test_a_constant_that_is_given_out_is_in_the_last_region() -> None:
    g = GraphBuilder()
    x = g.linear(g.linear(g.input((8,)), 8, name="a"), 8, name="b")
    table = g.op("weight", name="table", weights={"weight": Weight(name="table.w", shape=(8,))})
    assert held(regions(g.build(x, table), fits=always)) == [["a"], ["b", "table"]]


def gated(g: GraphBuilder, x: Ref, path: str) -> Ref:
    """An inverted residual without a sum, squeeze-and-excitation in the middle."""
    x = conv(g, conv(g, x, f"{path}.expand"), f"{path}.depthwise", groups=8)
    s = g.op("mean", x, name=f"{path}.se.mean", axes=(1, 2), keepdim=True)
    s = g.op("relu", g.conv2d(s, 2, name=f"{path}.se.reduce"), name=f"{path}.se.act")
    s = g.op("sigmoid", g.conv2d(s, 8, name=f"{path}.se.expand"), name=f"{path}.se.gate")
    return g.conv2d(g.op("mul", x, s, name=f"{path}.se.mul"), 8, name=f"{path}.project")


def test_a_gate_is_part_of_a_block() -> None:
    g = GraphBuilder()
    x = conv(g, g.input((3, 8, 8)), "stem")
    graph = g.build(gated(g, gated(g, x, "blocks.0"), "blocks.1"))
    assert [r.name for r in regions(graph, fits=always)] == ["stem", "blocks.0", "blocks.1"]
    assert "blocks.0.se" in [r.name for r in regions(graph, fits=never)]


def test_a_layer_that_is_computed_in_parts_is_part_of_a_block() -> None:
    g = GraphBuilder()
    x = conv(g, g.input((3, 8, 8)), "stem")
    for i in range(2):
        x = conv(g, x, f"blocks.{i}.expand")
        a, b = g.ops("split", x, name=f"blocks.{i}.mixed.split", axis=0, sizes=(4, 4))
        sides = [g.conv2d(y, 4, name=f"blocks.{i}.mixed.{n}", kernel_size=k) for n, y, k in (("a", a, 3), ("b", b, 5))]
        x = g.op("concat", *sides, name=f"blocks.{i}.mixed.concat", axis=0)
        x = conv(g, x, f"blocks.{i}.project")
    assert [r.name for r in regions(g.build(x), fits=always)] == ["stem", "blocks.0", "blocks.1"]


def test_a_sum_around_one_layer_is_part_of_a_block() -> None:
    g = GraphBuilder()
    x = conv(g, g.input((3, 8, 8)), "stem")
    for i in range(2):
        x = g.op("add", x, g.conv2d(x, 8, name=f"blocks.{i}.around.conv"), name=f"blocks.{i}.around.add")
        x = conv(g, conv(g, x, f"blocks.{i}.fc1"), f"blocks.{i}.fc2")
    assert [r.name for r in regions(g.build(x), fits=always)] == ["stem", "blocks.0", "blocks.1"]


def test_branches_that_are_concatenated_are_blocks_where_layers_follow_each_other() -> None:
    g = GraphBuilder()
    x = conv(g, g.input((3, 8, 8)), "stem")
    for i in range(2):
        sides = [conv(g, x, f"features.{i}.a"), conv(g, conv(g, x, f"features.{i}.b"), f"features.{i}.c")]
        x = g.op("concat", *sides, name=f"features.{i}.concat", axis=0)
    assert [r.name for r in regions(g.build(x), fits=always)] == ["stem", "features.0", "features.1"]


def test_blocks_of_one_piece_are_not_joined_to_a_stage() -> None:
    g = GraphBuilder()
    x = conv(g, g.input((3, 8, 8)), "stem")
    for i in range(3):  # layers side by side, summed: no residual branch
        sides = [conv(g, x, f"stage.{i}.{n}") for n in "ab"]
        x = g.op("add", *sides, name=f"stage.{i}.add")
    assert [r.name for r in regions(g.build(x), fits=always)] == ["stem", "stage.0", "stage.1", "stage.2"]


def test_operators_that_no_output_needs_are_in_no_region() -> None:
    g = GraphBuilder()
    x = g.linear(g.input((8,)), 8, name="a")
    g.linear(x, 2, name="unread")
    assert held(regions(g.build(g.linear(x, 3, name="b")), fits=always)) == [["a"], ["b"]]


def test_a_network_that_multiplies_nothing_is_one_region_and_one_that_computes_nothing_none() -> None:
    g = GraphBuilder()
    x = g.input((8,))
    y = g.op("tanh", g.op("relu", x, name="body.act"), name="body.tanh")
    assert [r.name for r in regions(g.build(y), fits=always)] == ["body"]
    assert regions(g.build(x), fits=always) == ()


def test_only_what_is_read_crosses_from_an_operator_of_several_results() -> None:
    g = GraphBuilder()
    x = g.conv2d(g.input((3, 4, 4)), 8, name="a.conv")
    _, x = g.ops("split", x, name="a.halves", axis=0, sizes=(2, 6))
    first, last = regions(g.build(g.conv2d(x, 8, name="b")), fits=always)
    assert (first.graph.outputs, last.graph.inputs) == (("a.halves.1",), ("a.halves.1",))


def test_all_inputs_go_into_the_first_region() -> None:
    g = GraphBuilder()
    x, mask = g.input((8,), name="x"), g.input((8,), name="mask")
    g.input((3,), name="unread")
    y = g.op("mul", g.linear(x, 8, name="a"), mask, name="masked")
    first, last = regions(g.build(g.linear(y, 3, name="b")), fits=always)
    assert (first.graph.inputs, last.graph.inputs) == (("x", "mask", "unread"), ("masked",))


# ---------------------------------------------------------------- what can be dropped


def test_a_region_that_is_a_residual_branch_can_be_dropped() -> None:
    graph = network()
    found = branches(graph)
    assert [[b.name for b in droppable(r, found)] for r in regions(graph, fits=always)] == [[], [], ["stage.1"], []]


def test_a_region_of_two_branches_needs_both_and_the_inner_ones_go_along() -> None:
    g = GraphBuilder()
    x = conv(g, g.input((3, 8, 8)), "stem")
    for i in range(2):
        inner = conv(g, x, f"blocks.{i}.attn.a")
        inner = g.op("add", inner, conv(g, inner, f"blocks.{i}.attn.b"), name=f"blocks.{i}.attn.add")
        x = g.op("add", x, inner, name=f"blocks.{i}.add")
        x = g.op("add", x, conv(g, x, f"blocks.{i}.mlp"), name=f"blocks.{i}.add2")
    graph = g.build(x)
    found = branches(graph)
    stem, *blocks = regions(graph, fits=always)
    assert [r.name for r in blocks] == ["blocks.0", "blocks.1"]
    assert [b.name for b in droppable(blocks[0], found)] == ["blocks.0.attn", "blocks.0.mlp"]
    assert droppable(stem, found) == ()


def test_a_region_with_a_layer_beside_its_branch_cannot() -> None:
    g = GraphBuilder()
    x = conv(g, g.input((3, 8, 8)), "stem")
    x = conv(g, x, "block.down")
    graph = g.build(conv(g, residual(g, x, "block"), "last"))
    (_, block, _), found = regions(graph, fits=always), branches(graph)
    assert (block.name, len(found), droppable(block, found)) == ("block", 1, ())
