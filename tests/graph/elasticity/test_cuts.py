"""Where a graph is a chain, held against removing each value and looking for another way."""

from __future__ import annotations

from dataclasses import replace

from hypothesis import given, settings
from hypothesis import strategies as st

from hwnas.graph import GraphBuilder, Op, OpGraph, Ref, Value, Weight
from hwnas.graph.elasticity.cuts import cuts, segments, varying, way


@st.composite
def graphs(draw: st.DrawFn) -> OpGraph:
    """Operators that read some of what is there and make one or two values; some read nothing, some are never read."""
    inputs = tuple(f"in{i}" for i in range(draw(st.integers(1, 2))))
    there, ops = list(inputs), []
    for i in range(draw(st.integers(1, 9))):
        # mostly of late values, so that there are chains and not only tangles
        reads = draw(st.lists(st.sampled_from(there[-3:]) | st.sampled_from(there), max_size=3))
        makes = tuple(f"v{i}.{j}" for j in range(draw(st.sampled_from([1, 1, 1, 2]))))
        ops.append(Op(name=f"op{i}", kind="any", inputs=tuple(reads), outputs=makes))
        there += makes
    outputs = tuple(draw(st.lists(st.sampled_from(there[-3:]), min_size=1, max_size=2, unique=True)))
    return OpGraph(
        values=tuple(Value(name=n, shape=(1,)) for n in there), ops=tuple(ops), inputs=inputs, outputs=outputs
    )


def reaches_without(graph: OpGraph, removed: str) -> bool:
    """Whether an output still follows from an input."""
    seen = set(graph.inputs) - {removed}
    for op in graph.ops:
        if seen.intersection(op.inputs):
            seen.update(set(op.outputs) - {removed})
    return bool(seen.intersection(graph.outputs))


@given(graphs())
@settings(max_examples=150, deadline=None)
def test_a_cut_is_what_no_way_from_an_input_to_an_output_goes_around(graph: OpGraph) -> None:
    inner = [name for name in way(graph) if name not in {*graph.inputs, *graph.outputs}]
    assert cuts(graph) == tuple(name for name in inner if not reaches_without(graph, name))


@given(graphs(), st.randoms(use_true_random=False))
@settings(max_examples=60, deadline=None)
def test_the_order_of_independent_operators_does_not_matter(graph: OpGraph, random: object) -> None:
    waiting, made, ops = list(graph.ops), set(graph.inputs), list[Op]()
    while waiting:
        op = random.choice([o for o in waiting if made.issuperset(o.inputs)])  # type: ignore[attr-defined]
        waiting.remove(op)
        made.update(op.outputs)
        ops.append(op)
    other = replace(graph, ops=tuple(ops))
    assert cuts(other) == cuts(graph)
    names = [{op.name for op in segment} for segment in segments(graph)]
    assert [{op.name for op in segment} for segment in segments(other)] == names


@given(graphs())
@settings(max_examples=60, deadline=None)
def test_segments_hold_each_operator_on_the_way_once_and_end_with_what_makes_a_cut(graph: OpGraph) -> None:
    found, on_way = segments(graph), set(way(graph))
    assert [op for segment in found for op in segment] == [op for op in graph.ops if on_way.intersection(op.outputs)]
    assert len(found) == len(cuts(graph)) + 1 or not (found or cuts(graph))
    for cut, segment in zip(cuts(graph), found, strict=False):
        assert cut in segment[-1].outputs


def held(g: GraphBuilder, name: str, *shape: int) -> Ref:
    return g.op("weight", name=name, weights={"weight": Weight(name=f"{name}.w", shape=shape)})


def test_what_follows_from_weights_alone_crosses_nothing_though_it_is_made_first() -> None:
    g = GraphBuilder()
    x = g.input((4, 8))
    positions = g.op("tanh", held(g, "positions", 4, 8), name="bounded")
    y = g.op("add", g.linear(x, 8, name="first"), positions, name="placed")
    z = g.op("add", g.linear(y, 8, name="second"), positions, name="placed again")
    graph = g.build(z)
    assert cuts(graph) == ("first", "placed", "second")
    assert "bounded" not in varying(graph)


def test_a_token_that_is_repeated_for_each_sample_crosses_nothing() -> None:
    g = GraphBuilder()
    x = g.input((4, 8))
    (token,) = g.append(
        "expand",
        held(g, "token", 1, 8),
        name="each",
        weights={},
        attributes={"shape": (1, 8)},
        values=[((1, 8), "float32", True)],
    )
    y = g.op("concat", token, g.linear(x, 8, name="patch"), name="tokens", axis=0)
    assert cuts(g.build(g.linear(y, 3, name="head"))) == ("patch", "tokens")


def test_a_second_input_allows_cuts_only_behind_where_it_is_last_read() -> None:
    g = GraphBuilder()
    x, mask = g.input((4, 8), name="x"), g.input((4, 8), name="mask")
    y = g.op("mul", g.linear(x, 8, name="first"), mask, name="masked")
    y = g.op("relu", g.op("mul", g.linear(y, 8, name="second"), mask, name="masked again"), name="act")
    assert cuts(g.build(g.linear(y, 3, name="head"))) == ("masked again", "act")


def test_behind_a_value_that_is_given_out_nothing_is_cut() -> None:
    g = GraphBuilder()
    features = g.linear(g.linear(g.input((8,)), 8, name="first"), 8, name="features")
    y = g.linear(g.linear(features, 8, name="third"), 3, name="head")
    assert cuts(g.build(features, y)) == ("first",)
