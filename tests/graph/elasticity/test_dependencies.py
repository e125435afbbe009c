import numpy as np
import pytest
from hypothesis import given
from hypothesis import strategies as st

from hwnas.errors import GraphError
from hwnas.graph import GraphBuilder, OpGraph, Ref, Weight
from hwnas.graph.costs import call_of
from hwnas.graph.elasticity.axes import RULES
from hwnas.graph.elasticity.dependencies import Dependencies
from hwnas.graph.elasticity.reshapes import segments
from hwnas.graph.elasticity.specialise import specialise
from hwnas.graph.operators import OPERATORS, operator


def dims(graph: OpGraph) -> dict[str, tuple[int, int]]:
    """Name -> units, and channels of one unit."""
    return {d.name: (d.size, d.of_one) for d in Dependencies.of(graph).dims}


def smaller(graph: OpGraph, **units: int) -> dict[str, tuple[int, ...]]:
    """Shapes of weights and values of a network that keeps so many; every operator agrees with them."""
    found = Dependencies.of(graph)
    made = specialise(graph, found, found.kept(units))
    for op in made.ops:
        assert operator(op.kind).infer(call_of(made, op)) == tuple(v.shape for v in made.output_values(op)), op
    return {w.name: w.shape for w in made.weights()} | {v.name: v.shape for v in made.values}


def test_channels_between_two_layers_stand_and_fall_together() -> None:
    g = GraphBuilder()
    x = g.batch_norm(g.conv2d(g.input((3, 8, 8)), 6, kernel_size=3, name="first"), name="norm")
    graph = g.build(g.conv2d(g.op("relu", x, name="act"), 4, name="second"))
    (dim,) = Dependencies.of(graph).dims
    assert (dim.name, dim.size, dim.made_by, dim.read_by, dim.joined) == (
        "first", 6, ("first.weight",), ("second.weight",), False,
    )  # fmt: skip
    shapes = smaller(graph, first=2)
    assert shapes["first.weight"] == (2, 3, 3, 3)
    assert shapes["norm.running_var"] == (2,)
    assert shapes["second.weight"] == (4, 2, 1, 1)


def test_inputs_and_outputs_keep_their_shapes_and_the_reason_is_told() -> None:
    g = GraphBuilder()
    graph = g.build(g.conv2d(g.input((3, 8, 8)), 6, kernel_size=3, name="only"))
    found = Dependencies.of(graph)
    assert found.dims == ()
    assert found.pinned["only.weight"][0] == "it is the network's output"
    assert found.pinned["only.weight"][1] == "it is the network's input"
    assert "kernel" in found.pinned["only.weight"][2]


def test_layers_of_a_residual_stream_are_one_dimension() -> None:
    g = GraphBuilder()
    x = g.conv2d(g.input((3, 8, 8)), 8, name="stem")
    inner = g.conv2d(x, 16, name="expand")
    x = g.op("add", x, g.conv2d(inner, 8, name="project"), name="sum")
    found = Dependencies.of(g.build(g.conv2d(x, 4, name="head"))).dims
    assert [(d.name, d.size, d.joined) for d in found] == [("stem", 8, True), ("expand", 16, False)]
    assert found[0].made_by == ("stem.weight", "project.weight")


def test_a_gate_is_of_the_channels_it_multiplies_and_no_residual_stream() -> None:
    g = GraphBuilder()
    x = g.conv2d(g.input((3, 8, 8)), 8, name="expand")
    gate = g.op("relu", g.conv2d(g.op("mean", x, name="pool", axes=(1, 2), keepdim=True), 2, name="fc1"), name="act")
    gate = g.op("hardsigmoid", g.conv2d(gate, 8, name="fc2"), name="gate")
    graph = g.build(g.conv2d(g.op("mul", x, gate, name="scale"), 4, name="project"))
    found = Dependencies.of(graph).dims
    assert [(d.name, d.size, d.joined) for d in found] == [("expand", 8, False), ("fc1", 2, False)]
    assert smaller(graph, expand=3)["fc2.weight"] == (3, 2, 1, 1)


def test_concatenated_tensors_shrink_each_by_itself() -> None:
    g = GraphBuilder()
    x = g.input((3, 8, 8))
    both = g.op("concat", g.conv2d(x, 4, name="a"), g.conv2d(x, 6, name="b"), name="both", axis=0)
    graph = g.build(g.conv2d(both, 5, name="next"))
    assert dims(graph) == {"a": (4, 1), "b": (6, 1)}
    assert smaller(graph, a=1, b=2)["next.weight"] == (5, 3, 1, 1)
    found = Dependencies.of(graph)
    kept = found.kept_positions("next.weight", 1, [np.array([2]), np.array([0, 5])])
    assert kept is not None
    assert kept.tolist() == [2, 4, 9]


def test_flattened_channels_go_with_all_their_positions() -> None:
    g = GraphBuilder()
    x = g.conv2d(g.input((3, 2, 2)), 4, name="conv")
    graph = g.build(g.linear(g.flatten(x, name="flat"), 5, name="fc"))
    assert dims(graph) == {"conv": (4, 1)}
    assert smaller(graph, conv=3)["fc.weight"] == (5, 12)
    kept = Dependencies.of(graph).kept_positions("fc.weight", 1, [np.array([0, 3])])
    assert kept is not None
    assert kept.tolist() == [0, 1, 2, 3, 12, 13, 14, 15]


def test_of_a_depthwise_convolution_channels_go_and_of_a_grouped_one_groups() -> None:
    g = GraphBuilder()
    x = g.conv2d(g.input((3, 8, 8)), 8, name="expand")
    x = g.conv2d(x, 8, kernel_size=3, groups=8, name="depthwise")
    x = g.conv2d(g.conv2d(x, 12, name="middle"), 6, kernel_size=3, groups=3, name="grouped")
    graph = g.build(g.conv2d(x, 4, name="last"))
    assert dims(graph) == {"expand": (8, 1), "middle": (3, 4)}
    shapes = smaller(graph, expand=5, middle=2)
    assert shapes["depthwise.weight"] == (5, 1, 3, 3)
    assert (shapes["grouped.weight"], shapes["last.weight"]) == ((4, 4, 3, 3), (4, 4, 1, 1))


def attention(g: GraphBuilder, x: Ref, *, heads: int, features: int) -> Ref:
    """Of queries, keys and values by layers of their own."""
    tokens = x.shape[0]
    parts = []
    for name in ("q", "k", "v"):
        made = g.linear(x, heads * features, name=name)
        parts.append(
            g.op(
                "permute",
                g.op("reshape", made, name=f"{name}.heads", shape=(tokens, heads, features)),
                name=f"{name}.turned",
                order=(1, 0, 2),
            )
        )
    y = g.op("permute", g.op("attention", *parts, name="attention"), name="turned", order=(1, 0, 2))
    return g.linear(g.op("reshape", y, name="joined", shape=(tokens, heads * features)), x.shape[1], name="proj")


def test_of_attention_heads_go() -> None:
    g = GraphBuilder()
    graph = g.build(attention(g, g.input((5, 6)), heads=3, features=4))
    assert dims(graph) == {"q": (3, 4)}
    shapes = smaller(graph, q=2)
    assert (shapes["q.weight"], shapes["v.bias"], shapes["proj.weight"]) == ((8, 6), (8,), (6, 8))


def test_queries_keys_and_values_of_one_layer_lose_the_same_heads() -> None:
    g = GraphBuilder()
    qkv = g.op("reshape", g.linear(g.input((5, 6)), 24, name="qkv"), name="heads", shape=(5, 3, 2, 4))
    parts = g.ops("unbind", g.op("permute", qkv, name="turned", order=(1, 2, 0, 3)), name="parts", axis=0)
    y = g.op("permute", g.op("attention", *parts, name="attention"), name="back", order=(1, 0, 2))
    graph = g.build(g.linear(g.op("reshape", y, name="joined", shape=(5, 8)), 6, name="proj"))
    assert dims(graph) == {"qkv": (2, 12)}
    kept = Dependencies.of(graph).kept_positions("qkv.weight", 0, [np.array([1])])
    assert kept is not None
    assert kept.tolist() == [4, 5, 6, 7, 12, 13, 14, 15, 20, 21, 22, 23]


def test_of_a_channel_shuffle_channels_within_the_groups_go() -> None:
    g = GraphBuilder()
    x = g.op("reshape", g.conv2d(g.input((3, 4, 4)), 8, name="conv"), name="groups", shape=(2, 4, 4, 4))
    x = g.op("reshape", g.op("permute", x, name="mix", order=(1, 0, 2, 3)), name="flat", shape=(8, 4, 4))
    graph = g.build(g.conv2d(x, 4, name="next"))
    assert dims(graph) == {"conv": (4, 2)}
    kept = Dependencies.of(graph).kept_positions("next.weight", 1, [np.array([1, 3])])
    assert kept is not None
    assert kept.tolist() == [2, 3, 6, 7]


def test_halves_of_a_gated_layer_go_together_and_those_of_a_split_do_not() -> None:
    g = GraphBuilder()
    a, b = g.ops("split", g.linear(g.input((6,)), 8, name="both"), name="halves", axis=0, sizes=(4, 4))
    gated = g.build(g.linear(g.op("mul", a, g.op("silu", b, name="act"), name="gate"), 3, name="out"))
    assert dims(gated) == {"both": (4, 2)}
    assert smaller(gated, both=3)["both.weight"] == (6, 6)
    g = GraphBuilder()
    a, b = g.ops("split", g.linear(g.input((6,)), 8, name="both"), name="halves", axis=0, sizes=(5, 3))
    apart = g.build(g.op("add", g.linear(a, 3, name="left"), g.linear(b, 3, name="right"), name="sum"))
    assert dims(apart) == {"both": (5, 1), "both.2": (3, 1)}


def test_a_slice_begins_where_what_is_kept_begins() -> None:
    g = GraphBuilder()
    x = g.linear(g.input((6,)), 10, name="all")
    middle = g.op("slice", x, name="middle", axis=0, start=2, stop=6)
    graph = g.build(
        g.op("add", g.linear(middle, 3, name="some"), g.linear(g.op("relu", x, name="act"), 3, name="rest"), name="sum")
    )
    found = Dependencies.of(graph)
    assert {d.name: d.size for d in found.dims} == {"all": 2, "all.2": 4, "all.3": 4}  # before, in it, behind
    made = specialise(graph, found, found.kept({"all": 1, "all.2": 3}))
    op = next(op for op in made.ops if op.kind == "slice")
    assert (dict(op.attributes)["start"], dict(op.attributes)["stop"]) == (1, 4)


def test_normalisations_follow_their_channels() -> None:
    g = GraphBuilder()
    x = g.linear(g.input((5, 6)), 8, name="fc")
    held = {role: Weight(name=f"ln.{role}", shape=(8,)) for role in ("weight", "bias")}
    x = g.op("layer_norm", x, name="ln", weights=held, normalized_shape=(8,))
    graph = g.build(g.linear(x, 3, name="out"))
    assert smaller(graph, fc=5)["ln.bias"] == (5,)
    g = GraphBuilder()
    held = {role: Weight(name=f"gn.{role}", shape=(8,)) for role in ("weight", "bias")}
    x = g.op("group_norm", g.conv2d(g.input((3, 4, 4)), 8, name="conv"), name="gn", weights=held, groups=4)
    graph = g.build(g.conv2d(x, 3, name="out"))
    assert dims(graph) == {"conv": (4, 2)}
    assert smaller(graph, conv=3)["gn.weight"] == (6,)


def test_a_shared_weight_ties_what_it_touches() -> None:
    g = GraphBuilder()
    x = g.linear(g.input((6,)), 6, name="first")
    twice = g.op("linear", x, name="again", weights=dict(g.build(x).ops[0].weights))
    graph = g.build(g.linear(twice, 3, name="out"))
    assert dims(graph) == {}  # its inputs are the network's, and so are its outputs
    assert Dependencies.of(graph).pinned["first.weight"][0] == "it is the network's input"


def test_what_has_no_rule_is_kept_whole_and_named() -> None:
    g = GraphBuilder()
    x = g.conv2d(g.input((3, 8, 8)), 6, name="first")
    (y,) = g.append("aten.cumsum", x, name="running", weights={}, attributes={}, values=[((6, 8, 8), "float32", True)])
    found = Dependencies.of(g.build(g.conv2d(y, 4, name="second")))
    assert found.dims == ()
    assert found.pinned["first.weight"][0] == "nothing is known of the operator aten.cumsum ('running')"


def test_every_operator_has_a_rule() -> None:
    assert set(RULES) | {"reshape"} == set(OPERATORS)


@pytest.mark.parametrize(
    ("before", "after", "expected"),
    [
        ((6, 4), (6, 2, 2), [((0,), (0,)), ((1,), (1, 2))]),
        ((8, 3, 3), (72,), [((0, 1, 2), (0,))]),
        ((1, 4), (4, 1), [((1,), (0,))]),
        ((4, 6), (6, 4), [((0, 1), (0, 1))]),
        ((1,), (1, 1), []),
    ],
)
def test_a_reshape_is_taken_apart(
    before: tuple[int, ...], after: tuple[int, ...], expected: list[tuple[tuple[int, ...], tuple[int, ...]]]
) -> None:
    assert segments(before, after) == expected


def test_units_that_are_not_there_are_refused() -> None:
    g = GraphBuilder()
    found = Dependencies.of(g.build(g.conv2d(g.conv2d(g.input((3, 8, 8)), 6, name="first"), 4, name="second")))
    with pytest.raises(GraphError, match=r"no dimension 'fist'; there are: first"):
        found.kept({"fist": 2})
    with pytest.raises(GraphError, match=r"7 units of 'first' were asked for; it has 6, and 1 must stay"):
        found.kept({"first": 7})


@given(st.data())
def test_nothing_is_smaller_where_all_is_kept_and_sizes_are_as_asked_for_where_not(data: st.DataObject) -> None:
    g = GraphBuilder()
    x, n = g.input((4, 6, 6)), data.draw(st.integers(1, 5))
    for i in range(n):
        y = g.conv2d(x, data.draw(st.integers(2, 6)), name=f"c{i}")
        x = g.op("concat", x, y, name=f"cat{i}", axis=0) if data.draw(st.booleans()) else y
    graph = g.build(g.conv2d(x, 3, name="out"))
    found = Dependencies.of(graph)
    assert specialise(graph, found, found.full()) is graph
    units = {d.name: data.draw(st.integers(1, d.size)) for d in found.dims}
    made = specialise(graph, found, found.kept(units))
    for dim in found.dims:
        (weight,) = dim.made_by
        assert next(w for w in made.weights() if w.name == weight).shape[0] == units[dim.name]
    for op in made.ops:
        assert operator(op.kind).infer(call_of(made, op)) == tuple(v.shape for v in made.output_values(op))


def test_a_graph_of_anybodys_takes_no_memory_without_end() -> None:
    g = GraphBuilder()
    graph = g.build(g.op("relu", g.input((1 << 40,)), name="act"))
    with pytest.raises(GraphError, match="positions along their axes"):
        Dependencies.of(graph)
