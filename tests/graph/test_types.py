import pytest

from hwnas.errors import GraphError
from hwnas.graph import GraphBuilder, Op, OpGraph, Value


def residual(prefix: str = "", *, kernel_size: int = 3, swapped: bool = False) -> OpGraph:
    g = GraphBuilder()
    x = g.input((8, 6, 6), name=f"{prefix}x")
    paths = [("a", kernel_size), ("b", 1)]
    made = {n: g.conv2d(x, 8, kernel_size=k, name=f"{prefix}{n}") for n, k in (paths[::-1] if swapped else paths)}
    return g.build(g.op("add", made["a"], made["b"], name=f"{prefix}sum"))


def test_the_digest_tells_networks_apart_and_names_do_not_matter() -> None:
    assert residual().digest() == residual("other.").digest()
    assert residual().digest() != residual(kernel_size=5).digest()


def test_the_order_of_independent_operators_does_not_change_the_digest() -> None:
    assert residual().digest() == residual(swapped=True).digest()


def test_what_no_output_needs_does_not_count() -> None:
    g = GraphBuilder()
    x = g.input((8, 6, 6))
    y = g.conv2d(x, 4, name="kept")
    plain = g.build(y)
    g.conv2d(x, 4, name="dead")
    assert g.build(y).digest() == plain.digest()


def test_a_shared_weight_is_another_network_than_two_equal_ones() -> None:
    def chain(shared: bool) -> OpGraph:
        g = GraphBuilder()
        y = g.conv2d(g.input((4, 5, 5)), 4, name="first")
        (op,) = g.build(y).ops
        if shared:
            return g.build(g.op("conv2d", y, name="second", weights=dict(op.weights)))
        return g.build(g.conv2d(y, 4, name="second"))

    assert chain(shared=True).digest() != chain(shared=False).digest()
    assert [len(chain(shared=s).weights()) for s in (True, False)] == [1, 2]


def test_a_deep_chain_has_a_digest() -> None:
    g = GraphBuilder()
    x = g.input((1,))
    for i in range(5_000):
        x = g.op("relu", x, name=f"r{i}")
    assert len(g.build(x).digest()) == 64


def test_json_gives_the_same_graph() -> None:
    g = GraphBuilder()
    x = g.batch_norm(g.conv2d(g.input((3, 9, 9)), 8, kernel_size=3, stride=2, name="c"), name="b")
    parts = g.ops("split", x, name="s", axis=0, sizes=(4, 4))
    graph = g.build(g.op("max_pool2d", parts[0], name="p", kernel_size=(3, 3), stride=(2, 2)), parts[1])
    again = OpGraph.from_json(graph.to_json())
    assert again == graph
    assert again.digest() == graph.digest()


@pytest.mark.parametrize(
    ("document", "message"), [({"schema": 7}, "schema 7"), ({"schema": 1, "values": 3}, "not an operator graph")]
)
def test_what_is_no_graph_is_refused(document: dict[str, object], message: str) -> None:
    with pytest.raises(GraphError, match=message):
        OpGraph.from_json(document)


def op(name: str, reads: str, makes: str) -> Op:
    return Op(name=name, kind="relu", inputs=(reads,), outputs=(makes,))


@pytest.mark.parametrize(
    ("ops", "message"),
    [
        ((op("a", "later", "y"), op("b", "x", "later")), "reads 'later' before anything makes it"),
        ((op("a", "x", "y"), op("b", "x", "y")), "makes 'y', which is there already"),
        ((op("a", "x", "later"), op("a", "x", "y")), "two operators are called 'a'"),
        ((op("a", "x", "later"),), "the output 'y' is made by no operator"),
        ((op("a", "x", "y"), op("b", "x", "nowhere")), "nothing is said about the value 'nowhere'"),
    ],
)
def test_a_graph_that_cannot_run_is_refused(ops: tuple[Op, ...], message: str) -> None:
    values = tuple(Value(name=n, shape=(3,)) for n in ("x", "y", "later"))
    with pytest.raises(GraphError, match=message):
        OpGraph(values=values, ops=ops, inputs=("x",), outputs=("y",))


def test_two_values_of_one_name_are_refused() -> None:
    with pytest.raises(GraphError, match="two values are called 'x'"):
        OpGraph(values=(Value(name="x", shape=(1,)), Value(name="x", shape=(2,))), ops=(), inputs=("x",), outputs=())
