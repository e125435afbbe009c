"""Shapes as torch computes them."""

from typing import Any

import pytest
from hypothesis import assume, given, settings
from hypothesis import strategies as st

from hwnas.errors import GraphError
from hwnas.graph import OPERATORS, GraphBuilder, OpGraph, Weight, unknown_operators
from hwnas.graph.operators import Call, operator

torch = pytest.importorskip("torch")
F = torch.nn.functional


def inferred(
    kind: str, *shapes: tuple[int, ...], weights: Any = None, **attributes: Any
) -> tuple[tuple[int, ...], ...]:
    rule = operator(kind)
    return rule.infer(Call(inputs=shapes, weights=weights or {}, attributes=rule.complete(attributes)))


SIDES, KERNELS, STEPS = st.integers(1, 12), st.integers(1, 5), st.integers(1, 3)


@given(
    sides=st.tuples(SIDES, SIDES), kernel=st.tuples(KERNELS, KERNELS), stride=st.tuples(STEPS, STEPS), data=st.data()
)
@settings(deadline=None, max_examples=60)
def test_windows_have_the_positions_torch_gives_them(
    sides: tuple[int, int], kernel: tuple[int, int], stride: tuple[int, int], data: st.DataObject
) -> None:
    padding = data.draw(st.tuples(*(st.integers(0, k // 2) for k in kernel)))
    dilation = data.draw(st.tuples(STEPS, STEPS))
    groups = data.draw(st.sampled_from([1, 2]))
    assume(all(n + 2 * p >= d * (k - 1) + 1 for n, p, d, k in zip(sides, padding, dilation, kernel, strict=True)))
    x, weight = torch.zeros(1, 4, *sides), torch.zeros(6, 4 // groups, *kernel)
    window = {"stride": stride, "padding": padding, "dilation": dilation}
    convolved = F.conv2d(x, weight, None, stride, padding, dilation, groups)
    assert inferred("conv2d", x.shape[1:], weights={"weight": weight.shape}, groups=groups, **window) == (
        convolved.shape[1:],
    )
    for ceil_mode in (False, True):
        pooled = F.max_pool2d(x, kernel, stride, padding, dilation, ceil_mode)
        assert inferred("max_pool2d", x.shape[1:], kernel_size=kernel, ceil_mode=ceil_mode, **window) == (
            pooled.shape[1:],
        )


@given(
    sides=st.tuples(SIDES, SIDES), kernel=st.tuples(KERNELS, KERNELS), stride=st.tuples(STEPS, STEPS), data=st.data()
)
@settings(deadline=None, max_examples=60)
def test_transposed_convolutions_are_as_wide_as_torch_makes_them(
    sides: tuple[int, int], kernel: tuple[int, int], stride: tuple[int, int], data: st.DataObject
) -> None:
    padding = data.draw(st.tuples(*(st.integers(0, k // 2) for k in kernel)))
    extra = data.draw(st.tuples(*(st.integers(0, s - 1) for s in stride)))
    assume(
        all(
            (n - 1) * s - 2 * p + k + e > 0 for n, s, p, k, e in zip(sides, stride, padding, kernel, extra, strict=True)
        )
    )
    weight = torch.zeros(4, 3, *kernel)
    made = F.conv_transpose2d(torch.zeros(1, 4, *sides), weight, None, stride, padding, extra, 2)
    assert inferred(
        "conv_transpose2d",
        (4, *sides),
        weights={"weight": weight.shape},
        stride=stride,
        padding=padding,
        output_padding=extra,
        groups=2,
    ) == (made.shape[1:],)


@pytest.mark.parametrize(
    ("kind", "shapes", "attributes", "compute"),
    [
        ("add", [(4, 3, 3), (4, 1, 1)], {}, torch.add),
        ("mul", [(3,), (2, 3)], {}, torch.mul),
        ("matmul", [(2, 3, 4), (2, 4, 5)], {}, torch.matmul),
        ("attention", [(2, 7, 8), (2, 5, 8), (2, 5, 6)], {}, F.scaled_dot_product_attention),
        ("concat", [(2, 4, 4), (3, 4, 4)], {"axis": 0}, lambda a, b: torch.cat([a, b], 1)),
        ("split", [(6, 4)], {"axis": 0, "sizes": (1, 2, 3)}, lambda x: x.split([1, 2, 3], 1)),
        ("unbind", [(3, 4)], {"axis": 0}, lambda x: x.unbind(1)),
        ("select", [(3, 4)], {"axis": 1, "index": 2}, lambda x: x.select(2, 2)),
        ("slice", [(9, 4)], {"axis": 0, "start": 1, "stop": 8, "step": 3}, lambda x: x[:, 1:8:3]),
        ("mean", [(4, 5, 6)], {"axes": (1, 2)}, lambda x: x.mean((2, 3))),
        ("mean", [(4, 5, 6)], {"axes": (1, 2), "keepdim": True}, lambda x: x.mean((2, 3), keepdim=True)),
        ("reshape", [(4, 5, 6)], {"shape": (20, 6)}, lambda x: x.reshape(1, 20, 6)),
        ("permute", [(4, 5, 6)], {"order": (2, 0, 1)}, lambda x: x.permute(0, 3, 1, 2)),
        ("pad", [(2, 3, 4)], {"amounts": (0, 0, 1, 2, 3, 0)}, lambda x: F.pad(x, (3, 0, 1, 2))),
        ("resize", [(2, 3, 4)], {"size": (6, 8)}, lambda x: F.interpolate(x, (6, 8))),
        ("adaptive_avg_pool2d", [(2, 5, 5)], {"output_size": (2, 3)}, lambda x: F.adaptive_avg_pool2d(x, (2, 3))),
        ("avg_pool2d", [(2, 5, 5)], {"kernel_size": (2, 2)}, lambda x: F.avg_pool2d(x, 2)),
    ],
)
def test_shapes_are_those_torch_gives(kind: str, shapes: Any, attributes: Any, compute: Any) -> None:
    computed = compute(*(torch.zeros(1, *s) for s in shapes))
    computed = [computed] if isinstance(computed, torch.Tensor) else computed
    assert inferred(kind, *shapes, **attributes) == tuple(tuple(y.shape[1:]) for y in computed)


@pytest.mark.parametrize(
    ("call", "message"),
    [
        (
            lambda: inferred("conv2d", (4, 5, 5), weights={"weight": (8, 3, 3, 3)}),
            "takes 2 spatial axes and 3 channels",
        ),
        (lambda: inferred("max_pool2d", (4, 2, 2), kernel_size=(3, 3)), "a window of 3 .* does not fit into 2"),
        (lambda: inferred("add", (4, 5), (4, 6)), "cannot be broadcast"),
        (lambda: inferred("matmul", (4, 5), (6, 4)), "cannot be multiplied as matrices"),
        (lambda: inferred("linear", (5,), weights={"weight": (3, 4)}), "of 4 features gets"),
        (lambda: inferred("reshape", (5,), shape=(2, 3)), "not as many numbers"),
        (lambda: inferred("split", (5,), axis=0, sizes=(2, 2)), "do not add up"),
        (lambda: inferred("concat", (5, 2), (5, 3), axis=0), "cannot be concatenated"),
        (lambda: inferred("relu", (5,), slope=2), "no attribute 'slope'; it has: none"),
        (lambda: inferred("mean", (5,)), "needs the attribute 'axes'"),
        (lambda: operator("convolution"), "unknown operator 'convolution'; known: .*conv2d"),
    ],
)
def test_what_makes_no_sense_is_refused_by_name(call: Any, message: str) -> None:
    with pytest.raises(GraphError, match=message):
        call()


@pytest.mark.parametrize(
    ("kind", "shapes", "attributes"),
    [
        ("adaptive_avg_pool2d", [(4, 6, 6)], {"output_size": 1}),
        ("max_pool2d", [(4, 6, 6)], {"kernel_size": (2, 2), "stride": (2,)}),
        ("conv2d", [(4, 6, 6)], {}),
        ("relu", [], {}),
        ("add", [(4, 6, 6)], {}),
        ("softmax", [(4, 6)], {"axis": -1}),
        ("concat", [(4, 6), (4, 6)], {"axis": 2}),
        ("mean", [(4, 6, 6)], {"axes": (-2, -1)}),
        ("permute", [(4, 6)], {"order": (0, -1)}),
    ],
)
def test_what_is_missing_or_of_another_form_is_told_by_the_operators_name(
    kind: str, shapes: Any, attributes: Any
) -> None:
    g = GraphBuilder()
    given = [g.input(shape, name=f"x{i}") for i, shape in enumerate(shapes)]
    with pytest.raises(GraphError, match="operator 'it': "):
        g.op(kind, *given, name="it", **attributes)


def test_attributes_at_their_defaults_are_left_out() -> None:
    g = GraphBuilder()
    graph = g.build(g.conv2d(g.input((3, 8, 8)), 4, kernel_size=3, name="c"))
    assert dict(graph.ops[0].attributes) == {"padding": (1, 1)}


def test_a_weight_an_operator_does_not_have_is_refused() -> None:
    g = GraphBuilder()
    x = g.input((3, 8, 8))
    held = g.build(g.conv2d(x, 3, name="c")).ops[0].weights
    with pytest.raises(GraphError, match="relu 'r' has no weight 'weight'; it has: none"):
        g.op("relu", x, name="r", weights=dict(held))


def test_rows_of_a_table_take_its_width() -> None:
    g = GraphBuilder()
    table = {"weight": Weight(name="e.weight", shape=(100, 16))}
    rows = g.op("embedding", g.input((7, 2), dtype="int64"), name="e", weights=table)
    assert (rows.shape, rows.dtype) == ((7, 2, 16), "float32")


def test_what_follows_from_weights_alone_is_no_sample() -> None:
    g = GraphBuilder()
    table = g.op("weight", name="w", weights={"weight": Weight(name="w", shape=(3, 4), dtype="float16")})
    half = g.op("affine", table, name="half", scale=0.5)
    graph = g.build(g.op("add", g.input((3, 4)), half, name="sum"))
    assert [(v.name, v.dtype, v.batched) for v in graph.values if v.name != "input"] == [
        ("w", "float16", False),
        ("half", "float16", False),
        ("sum", "float32", True),
    ]


def test_an_operator_nobody_knows_is_kept_as_it_is() -> None:
    g = GraphBuilder()
    x = g.input((3, 4))
    (y,) = g.append("cumsum", x, name="c", weights={}, attributes={"axis": 1}, values=[((3, 4), "float32", True)])
    graph = g.build(g.op("relu", y, name="r"))
    assert unknown_operators(graph) == ("cumsum",)
    assert OpGraph.from_json(graph.to_json()) == graph


def test_every_operator_is_filed_under_its_own_name() -> None:
    assert all(kind == rule.kind for kind, rule in OPERATORS.items())
