"""For each operator, which positions of its tensors stand and fall together: one rule an operator.

A rule joins the axes of inputs, outputs and weights along which single positions can be removed, and pins the others.
What has no rule is pinned altogether, with its name as the reason. Reshapes are left to `reshapes`, which needs to
know what the others say.
"""

from __future__ import annotations

from collections.abc import Callable, Iterable

from hwnas.graph.elasticity.links import Links, Positions, Site, pin_tensors
from hwnas.graph.elasticity.reshapes import link_reshapes
from hwnas.graph.operators import OPERATORS
from hwnas.graph.types import Op, OpGraph

Rule = Callable[[Site], None]

POSITIONS = "it counts positions, not channels"
INPUT, OUTPUT = "it is the network's input", "it is the network's output"
TABLE = "it counts the rows of a table"


def links_of(graph: OpGraph) -> Links:
    """All that the operators of a graph say of its positions.

    Inputs and outputs of the graph keep their shapes.
    """
    links = Links(graph)
    pin_tensors(links, graph, graph.inputs, reason=INPUT)
    pin_tensors(links, graph, graph.outputs, reason=OUTPUT)
    reshapes = []
    for op in graph.ops:
        if op.kind == "reshape":
            reshapes.append(op)
        elif op.kind not in OPERATORS or op.kind not in RULES:
            _pin_all(links, graph, op)
        else:
            RULES[op.kind](Site(links, graph, op))
    link_reshapes(links, graph, reshapes)
    return links


def _pin_all(links: Links, graph: OpGraph, op: Op) -> None:
    reason = f"nothing is known of the operator {op.kind} ({op.name!r})"
    pin_tensors(links, graph, (*op.inputs, *op.outputs), reason=reason)
    for _, weight in op.weights:
        for axis in range(len(weight.shape)):
            links.pin(links.positions(weight.name, axis, is_weight=True), reason)


# ---------------------------------------------------------------- layers


def _biased(s: Site, channels: Positions) -> None:
    if "bias" in s.weights:
        s.join(channels, s.w("bias", 0))


def _spatial(s: Site, first: int) -> None:
    """Positions behind the channels stay: of the tensors and of the kernel."""
    s.pin(POSITIONS, *(s.x(axis) for axis in range(first, len(s.inputs[0]))))
    s.pin(POSITIONS, *(s.y(axis) for axis in range(first, len(s.outputs[0]))))


def _convolution(s: Site) -> None:
    """(C, ...) with (out, C / groups, ...) -> (out, ...); of several groups whole ones can go."""
    weight, out, groups = s.w("weight", 0), s.y(0), s.integer("groups")
    _spatial(s, 1)
    s.pin("it is the size of a kernel", *(s.w("weight", axis) for axis in range(2, len(s.weights["weight"]))))
    _biased(s, out)
    s.join(out, weight)
    if groups == 1:
        s.join(s.x(0), s.w("weight", 1))
    else:
        s.join_groups(groups, s.x(0), out)
        s.pin("it is the channels of one group", s.w("weight", 1))


def _transposed_convolution(s: Site) -> None:
    """(C, ...) with (C, out / groups, ...) -> (out, ...)."""
    out, groups = s.y(0), s.integer("groups")
    _spatial(s, 1)
    s.pin("it is the size of a kernel", *(s.w("weight", axis) for axis in range(2, len(s.weights["weight"]))))
    _biased(s, out)
    s.join(s.x(0), s.w("weight", 0))
    if groups == 1:
        s.join(out, s.w("weight", 1))
    else:
        s.join_groups(groups, s.x(0), out)
        s.pin("it is the channels of one group", s.w("weight", 1))


def _linear(s: Site) -> None:
    for axis in range(len(s.inputs[0]) - 1):
        s.join(s.x(axis), s.y(axis))
    s.join(s.x(-1), s.w("weight", 1))
    s.join(s.y(-1), s.w("weight", 0))
    _biased(s, s.y(-1))


def _embedding(s: Site) -> None:
    for axis in range(len(s.inputs[0])):
        s.join(s.x(axis), s.y(axis))
    s.pin(TABLE, s.w("weight", 0))
    s.join(s.y(-1), s.w("weight", 1))


def _take(s: Site) -> None:
    """(..., n, ...) by (...) numbers: the axis gives way to theirs."""
    axis, rows = s.integer("axis"), len(s.inputs[1])
    s.pin(TABLE, s.x(axis), *(s.x(i, 1) for i in range(rows)), *(s.y(axis + i) for i in range(rows)))
    for i in range(axis):
        s.join(s.x(i), s.y(i))
    for i in range(axis + 1, len(s.inputs[0])):
        s.join(s.x(i), s.y(i + rows - 1))


# ---------------------------------------------------------------- normalisations


def _batch_norm(s: Site) -> None:
    _elementwise(s)
    s.join(s.x(0), *(s.w(role, 0) for role in s.weights))


def _layer_norm(s: Site) -> None:
    _elementwise(s)
    for role, shape in s.weights.items():
        for axis in range(len(shape)):
            s.join(s.x(axis - len(shape)), s.w(role, axis))


def _group_norm(s: Site) -> None:
    """Whole groups can go; of a single one, which takes all channels together, any of them."""
    _batch_norm(s)
    if s.integer("groups") > 1:
        s.join_groups(s.integer("groups"), s.x(0))


def _prelu(s: Site) -> None:
    _elementwise(s)
    if s.weights["weight"][0] > 1:
        s.join(s.x(0), s.w("weight", 0))
    else:
        s.pin("it is one number for all channels", s.w("weight", 0))


# ---------------------------------------------------------------- number by number


def _elementwise(s: Site) -> None:
    for axis in range(len(s.inputs[0])):
        s.join(s.x(axis), s.y(axis))


def _softmax(s: Site) -> None:
    _elementwise(s)
    s.pin("a softmax compares them", s.x(s.integer("axis")))


def _binary(s: Site) -> None:
    """Shapes aligned at their ends; an axis of size 1 is repeated."""
    for which, shape in enumerate(s.inputs):
        _broadcast(s, which, range(len(shape)), behind=0)


def _broadcast(s: Site, which: int, axes: Iterable[int], *, behind: int) -> None:
    """Join axes of an input to those of the output that stand as far from the end, but for repeated ones.

    Args:
        s: the operator.
        which: of its inputs.
        axes: of the input, from the front.
        behind: axes at the end of both that are left to the operator's own rule.
    """
    shape = s.inputs[which]
    for axis in list(axes)[: len(shape) - behind]:
        other = axis - len(shape)  # counted from the end
        if shape[axis] == s.outputs[0][other]:
            s.join(s.x(axis, which), s.y(other))


# ---------------------------------------------------------------- products of matrices


def _matmul(s: Site) -> None:
    """(..., n, m) x (..., m, p) -> (..., n, p); of two activations with heads the heads alone can go."""
    for which, shape in enumerate(s.inputs):
        _broadcast(s, which, range(len(shape)), behind=2)
    sides = (s.x(-2), s.y(-2)), (s.x(-1), s.x(-2, 1)), (s.x(-1, 1), s.y(-1))
    for a, b in sides:
        s.join(a, b)
    if all(s.batched):
        s.pin("products of two activations are summed over it", s.x(-1))
        if any(n > 1 for n in s.outputs[0][:-2]):
            s.pin("it lies inside a head; whole heads can go", s.x(-2), s.x(-1, 1))


def _attention(s: Site) -> None:
    """(..., L, E), (..., S, E), (..., S, V) -> (..., L, V), and a mask (..., L, S)."""
    for which, shape in enumerate(s.inputs):
        _broadcast(s, which, range(len(shape)), behind=2)
    s.join(s.x(-2), s.y(-2))
    s.join(s.x(-2, 1), s.x(-2, 2))
    s.join(s.x(-1), s.x(-1, 1))
    s.join(s.x(-1, 2), s.y(-1))
    s.pin("scores are scaled by its size", s.x(-1))
    if any(n > 1 for n in s.outputs[0][:-2]):
        s.pin("it lies inside a head; whole heads can go", s.x(-1, 2))
    if len(s.inputs) > 3:
        s.pin(POSITIONS, s.x(-1, 3), s.x(-2, 3))


# ---------------------------------------------------------------- sums over positions, moves


def _window(s: Site) -> None:
    """Pools and changes of size: of the last two axes, those of the attribute."""
    size = next(len(s.integers(a)) for a in ("kernel_size", "output_size", "size") if a in s.attributes)
    first = len(s.inputs[0]) - size
    for axis in range(first):
        s.join(s.x(axis), s.y(axis))
    _spatial(s, first)


def _reduce(s: Site) -> None:
    axes = s.integers("axes")
    kept = [i for i in range(len(s.inputs[0])) if i not in axes]
    for j, i in enumerate(kept):
        s.join(s.x(i), s.y(i if s["keepdim"] else j))


def _concat(s: Site) -> None:
    axis, begin = s.integer("axis"), 0
    out = s.y(axis)
    for which, shape in enumerate(s.inputs):
        for i in range(len(shape)):
            if i == axis:
                s.join(s.x(i, which), out[begin : begin + shape[i]])
                begin += shape[i]
            else:
                s.join(s.x(i, which), s.y(i))


def _split(s: Site) -> None:
    axis, begin = s.integer("axis"), 0
    for which, shape in enumerate(s.outputs):
        for i in range(len(shape)):
            if i == axis:
                s.join(s.y(i, which), s.x(axis)[begin : begin + shape[i]])
                begin += shape[i]
            else:
                s.join(s.y(i, which), s.x(i))


def _slice(s: Site) -> None:
    axis, step = s.integer("axis"), s.integer("step")
    begin, end, _ = slice(s.integer("start"), s.integer("stop"), step).indices(s.inputs[0][axis])
    for i in range(len(s.inputs[0])):
        if i != axis:
            s.join(s.x(i), s.y(i))
    taken = s.x(axis)[begin:end]
    if step == 1:
        s.join(taken, s.y(axis))
        s.links.border(taken.axis, begin, max(begin, end))
    else:
        s.pin("single ones of it are picked", s.x(axis), s.y(axis))


def _one_by_one(s: Site) -> None:
    """`unbind` and `select`: tensors without an axis, whose positions are counted."""
    axis = s.integer("axis")
    s.pin("it is taken apart one by one", s.x(axis))
    for which, shape in enumerate(s.outputs):
        for i in range(len(shape)):
            s.join(s.x(i if i < axis else i + 1), s.y(i, which))


def _permute(s: Site) -> None:
    for i, axis in enumerate(s.integers("order")):
        s.join(s.x(axis), s.y(i))


def _pad(s: Site) -> None:
    amounts = s.integers("amounts")
    for axis in range(len(s.inputs[0])):
        if amounts[2 * axis : 2 * axis + 2] == (0, 0):
            s.join(s.x(axis), s.y(axis))
        else:
            s.pin("it is padded", s.x(axis), s.y(axis))


def _held(s: Site) -> None:
    for axis in range(len(s.outputs[0])):
        s.join(s.w("weight", axis), s.y(axis))


def _constant(s: Site) -> None:
    s.pin("it is a table that the network's code makes", *(s.y(axis) for axis in range(len(s.outputs[0]))))


def _outputs(s: Site) -> None:
    """Each input is an output of the network."""
    s.pin(OUTPUT, *s.every_axis())


_ELEMENTWISE = (
    *("relu", "relu6", "hardswish", "hardsigmoid", "silu", "sigmoid", "tanh", "identity", "mish", "gelu", "leaky_relu"),
    *("elu", "clamp", "dropout", "power", "sqrt", "exp", "affine", "quantize", "dequantize"),
)
RULES: dict[str, Rule] = {
    "conv2d": _convolution,
    "conv1d": _convolution,
    "conv_transpose2d": _transposed_convolution,
    "linear": _linear,
    "embedding": _embedding,
    "take": _take,
    "matmul": _matmul,
    "attention": _attention,
    "batch_norm": _batch_norm,
    "layer_norm": _layer_norm,
    "group_norm": _group_norm,
    "prelu": _prelu,
    "softmax": _softmax,
    **dict.fromkeys(_ELEMENTWISE, _elementwise),
    **dict.fromkeys(("add", "sub", "mul", "div"), _binary),
    **dict.fromkeys(("max_pool2d", "avg_pool2d", "adaptive_avg_pool2d", "adaptive_max_pool2d", "resize"), _window),
    **dict.fromkeys(("mean", "sum", "max"), _reduce),
    "concat": _concat,
    "join_outputs": _outputs,
    "split": _split,
    "slice": _slice,
    **dict.fromkeys(("unbind", "select"), _one_by_one),
    "permute": _permute,
    "expand": _binary,
    "pad": _pad,
    "weight": _held,
    "constant": _constant,
}
