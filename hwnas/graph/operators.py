"""The operators: what each takes, the shape of what it gives, and the multiplications it needs.

One entry an operator: its attributes with their defaults, a function for shapes, one for multiply-accumulates (MACs),
and whether its output may take the place of its input in memory. Axes and shapes are of one sample: axis 0 is the
first behind the batch axis. Spatial attributes (`kernel_size`, `stride`, ...) hold one number for each spatial axis.
The meaning of every operator is that of the function of the same name in `torch.nn.functional` or `torch`.
"""

from __future__ import annotations

import math
from collections.abc import Callable, Mapping, Sequence
from dataclasses import dataclass
from typing import Any

from hwnas.errors import GraphError
from hwnas.graph.types import Attribute

Shape = tuple[int, ...]
Shapes = Sequence[Shape]
WeightShapes = Mapping[str, Shape]
Chosen = Mapping[str, Any]


@dataclass(frozen=True, slots=True, kw_only=True)
class Call:
    """An operator with what it is given, as the rules see it.

    Attributes:
        inputs: shapes of what it reads.
        weights: role -> shape.
        attributes: all of them, defaults included.
    """

    inputs: Shapes
    weights: WeightShapes
    attributes: Chosen

    @property
    def x(self) -> Shape:
        """Shape of the first input."""
        return self.inputs[0]

    def __getitem__(self, name: str) -> Any:
        return self.attributes[name]


def _nothing(call: Call, outputs: Shapes) -> int:
    return 0


@dataclass(frozen=True, slots=True, kw_only=True)
class Operator:
    """What is known of a kind of operator.

    Attributes:
        kind: its name.
        infer: call -> shapes of the outputs.
        defaults: attribute -> default; those in `required` have none.
        required: attributes that must be given.
        roles: weights it may have, required ones first.
        macs: (call, shapes of the outputs) -> multiply-accumulates.
        in_place: the output may stand where the first input stood, if nothing else reads that.
        shape_only: it moves no number: the output is the input under another shape.
    """

    kind: str
    infer: Callable[[Call], tuple[Shape, ...]]
    defaults: Mapping[str, Attribute]
    required: tuple[str, ...] = ()
    roles: tuple[str, ...] = ()
    macs: Callable[[Call, Shapes], int] = _nothing
    in_place: bool = False
    shape_only: bool = False

    @property
    def multiplies(self) -> bool:
        """Whether it has multiply-accumulates to count."""
        return self.macs is not _nothing

    def complete(self, attributes: Mapping[str, Attribute]) -> dict[str, Attribute]:
        """The attributes with the defaults of those that are not given.

        Raises:
            GraphError: one is unknown or missing.
        """
        allowed = (*self.required, *self.defaults)
        unknown = [name for name in attributes if name not in allowed]
        if unknown:
            raise GraphError(f"{self.kind} has no attribute {unknown[0]!r}; it has: {', '.join(allowed) or 'none'}")
        missing = [name for name in self.required if name not in attributes]
        if missing:
            raise GraphError(f"{self.kind} needs the attribute {missing[0]!r}")
        return {**self.defaults, **attributes}

    def given(self, complete: Mapping[str, Attribute]) -> dict[str, Attribute]:
        """Complete attributes without those at their defaults: the form in which a graph holds them."""
        return {k: v for k, v in complete.items() if k in self.required or v != self.defaults[k]}


# ---------------------------------------------------------------- shapes


def _same(call: Call) -> tuple[Shape, ...]:
    return (call.x,)


def _broadcast(call: Call) -> tuple[Shape, ...]:
    """Shapes aligned at their ends, as numpy does."""
    if len(call.inputs) != 2:
        raise GraphError(f"two tensors are taken, not {len(call.inputs)}")
    out: list[int] = []
    for sizes in zip(*(_padded(s, max(map(len, call.inputs))) for s in call.inputs), strict=True):
        distinct = set(sizes) - {1}
        if len(distinct) > 1:
            raise GraphError(f"shapes {', '.join(map(str, call.inputs))} cannot be broadcast to one")
        out.append(distinct.pop() if distinct else 1)
    return (tuple(out),)


def _padded(shape: Shape, rank: int) -> Shape:
    return (1,) * (rank - len(shape)) + shape


def _window(size: int, *, kernel: int, stride: int, padding: int, dilation: int = 1, ceil_mode: bool = False) -> int:
    """Positions of a window along one axis; in ceil mode the last must begin inside the input or its left padding."""
    room = size + 2 * padding - dilation * (kernel - 1) - 1  # steps of 1 from the first position to the last
    if room < 0:
        raise GraphError(f"a window of {kernel} (dilation {dilation}) does not fit into {size} with padding {padding}")
    if not ceil_mode:
        return room // stride + 1
    out = -(-room // stride) + 1
    return out - 1 if (out - 1) * stride >= size + padding else out


def _convolution(call: Call) -> tuple[Shape, ...]:
    out_channels, per_group, *kernel = call.weights["weight"]
    channels, *sides = call.x
    if len(sides) != len(kernel) or channels != per_group * call["groups"]:
        raise GraphError(
            f"a convolution with weights {call.weights['weight']} and {call['groups']} groups takes {len(kernel)} "
            f"spatial axes and {per_group * call['groups']} channels, not a tensor {call.x}"
        )
    spatial = zip(sides, kernel, call["stride"], call["padding"], call["dilation"], strict=True)
    # (C, H, W) -> (out, H', W'), or (C, L) -> (out, L')
    return ((out_channels, *(_window(n, kernel=k, stride=s, padding=p, dilation=d) for n, k, s, p, d in spatial)),)


def _transposed_convolution(call: Call) -> tuple[Shape, ...]:
    channels, per_group, *kernel = call.weights["weight"]
    if len(call.x) != len(kernel) + 1 or call.x[0] != channels:
        raise GraphError(f"a transposed convolution with weights {call.weights['weight']} gets a tensor {call.x}")
    steps = (call[name] for name in ("stride", "padding", "output_padding", "dilation"))
    # the input's size of a convolution that gives n positions; `output_padding` tells which of the sizes that give n
    sides = (
        (n - 1) * s - 2 * p + d * (k - 1) + extra + 1
        for n, k, s, p, extra, d in zip(call.x[1:], kernel, *steps, strict=True)
    )
    return ((per_group * call["groups"], *sides),)  # (C, H, W) -> (out, H', W')


def _pool(call: Call) -> tuple[Shape, ...]:
    dilation = call.attributes.get("dilation", (1,) * len(call["kernel_size"]))
    stride = call["stride"] or call["kernel_size"]  # (): as torch, windows beside each other
    lead = len(call.x) - len(call["kernel_size"])  # axes in front of the spatial ones, which stay: (C, H, W) -> 1
    spatial = zip(call.x[lead:], call["kernel_size"], stride, call["padding"], dilation, strict=True)
    sides = (
        _window(n, kernel=k, stride=s, padding=p, dilation=d, ceil_mode=call["ceil_mode"]) for n, k, s, p, d in spatial
    )
    return ((*call.x[:lead], *sides),)  # (..., H, W) -> (..., H', W')


def _adaptive(call: Call) -> tuple[Shape, ...]:
    return ((*call.x[: len(call.x) - len(call["output_size"])], *call["output_size"]),)


def _linear(call: Call) -> tuple[Shape, ...]:
    out_features, in_features = call.weights["weight"]
    if call.x[-1] != in_features:
        raise GraphError(f"a linear layer of {in_features} features gets a tensor {call.x}")
    return ((*call.x[:-1], out_features),)  # (..., in) -> (..., out)


def _matmul(call: Call) -> tuple[Shape, ...]:
    a, b = call.inputs
    if len(a) < 2 or len(b) < 2 or a[-1] != b[-2]:
        raise GraphError(f"tensors {a} and {b} cannot be multiplied as matrices")
    (lead,) = _broadcast(Call(inputs=(a[:-2], b[:-2]), weights={}, attributes={}))
    return ((*lead, a[-2], b[-1]),)  # (..., n, m) x (..., m, p) -> (..., n, p)


def _attention(call: Call) -> tuple[Shape, ...]:
    query, _, value, *_ = call.inputs
    return ((*query[:-1], value[-1]),)  # (..., L, E), (..., S, E), (..., S, V) -> (..., L, V)


def _reduce(call: Call) -> tuple[Shape, ...]:
    axes = call["axes"]
    if call["keepdim"]:
        return (tuple(1 if i in axes else n for i, n in enumerate(call.x)),)
    return (tuple(n for i, n in enumerate(call.x) if i not in axes),)


def _concat(call: Call) -> tuple[Shape, ...]:
    axis = call["axis"]
    rest = {(*s[:axis], *s[axis + 1 :]) for s in call.inputs}
    if len(rest) > 1:
        raise GraphError(f"shapes {', '.join(map(str, call.inputs))} cannot be concatenated along axis {axis}")
    return ((*call.x[:axis], sum(s[axis] for s in call.inputs), *call.x[axis + 1 :]),)


def _join(call: Call) -> tuple[Shape, ...]:
    return ((sum(map(math.prod, call.inputs)),),)  # tensors of any shapes, one after the other


def _split(call: Call) -> tuple[Shape, ...]:
    axis = call["axis"]
    parts: Shape = call["sizes"]
    if sum(parts) != call.x[axis]:
        raise GraphError(f"parts {parts} do not add up to the {call.x[axis]} of axis {axis}")
    return tuple((*call.x[:axis], n, *call.x[axis + 1 :]) for n in parts)


def _unbind(call: Call) -> tuple[Shape, ...]:
    axis: int = call["axis"]
    return ((*call.x[:axis], *call.x[axis + 1 :]),) * call.x[axis]


def _select(call: Call) -> tuple[Shape, ...]:
    axis = call["axis"]
    return ((*call.x[:axis], *call.x[axis + 1 :]),)


def _slice(call: Call) -> tuple[Shape, ...]:
    axis = call["axis"]
    n = len(range(*slice(call["start"], call["stop"], call["step"]).indices(call.x[axis])))
    return ((*call.x[:axis], n, *call.x[axis + 1 :]),)


def _reshape(call: Call) -> tuple[Shape, ...]:
    if math.prod(call["shape"]) != math.prod(call.x):  # no -1, which would be the batch's in torch
        raise GraphError(f"a tensor {call.x} has not as many numbers as {call['shape']}")
    return (tuple(call["shape"]),)


def _permute(call: Call) -> tuple[Shape, ...]:
    return (tuple(call.x[i] for i in call["order"]),)


def _pad(call: Call) -> tuple[Shape, ...]:
    amounts = call["amounts"]  # (before, after) of each axis, one after the other
    return (tuple(n + amounts[2 * i] + amounts[2 * i + 1] for i, n in enumerate(call.x)),)


def _resize(call: Call) -> tuple[Shape, ...]:
    return ((*call.x[: len(call.x) - len(call["size"])], *call["size"]),)


def _embedding(call: Call) -> tuple[Shape, ...]:
    return ((*call.x, call.weights["weight"][-1]),)  # (...) numbers of rows -> (..., features)


def _take(call: Call) -> tuple[Shape, ...]:
    x, rows = call.inputs
    axis = call["axis"]
    return ((*x[:axis], *rows, *x[axis + 1 :]),)  # the axis gives way to those of the numbers


def _expand(call: Call) -> tuple[Shape, ...]:
    return (tuple(call["shape"]),)


def _constant(call: Call) -> tuple[Shape, ...]:
    return (tuple(call["shape"]),)


def _held(call: Call) -> tuple[Shape, ...]:
    return (call.weights["weight"],)


# ---------------------------------------------------------------- multiply-accumulates


def _weight_macs(call: Call, outputs: Shapes) -> int:
    """Each output number is a sum over the weights of its channel."""
    return math.prod(outputs[0]) * math.prod(call.weights["weight"][1:])


def _transposed_macs(call: Call, outputs: Shapes) -> int:
    """Each input number is multiplied with the weights of its channel."""
    return math.prod(call.x) * math.prod(call.weights["weight"][1:])  # weight: (channels, out of a group, K, K)


def _matmul_macs(call: Call, outputs: Shapes) -> int:
    return math.prod(outputs[0]) * call.inputs[0][-1]


def _attention_macs(call: Call, outputs: Shapes) -> int:
    """Scores of all pairs, and sums over them: (..., L, E) x (..., S, E), (..., L, S) x (..., S, V)."""
    (*lead, length, embedding), keys, value = call.inputs[:3]
    return math.prod(lead) * length * keys[-2] * (embedding + value[-1])


# ---------------------------------------------------------------- the operators

_WINDOW_2D: Mapping[str, Attribute] = {"stride": (1, 1), "padding": (0, 0), "dilation": (1, 1), "groups": 1}
_WINDOW_1D: Mapping[str, Attribute] = {"stride": (1,), "padding": (0,), "dilation": (1,), "groups": 1}


def _elementwise(kind: str, defaults: Mapping[str, Attribute] | None = None, **more: Any) -> Operator:
    return Operator(kind=kind, infer=_same, defaults=defaults or {}, in_place=True, **more)


def _binary(kind: str) -> Operator:
    return Operator(kind=kind, infer=_broadcast, defaults={})


def _moves(
    kind: str, infer: Callable[[Call], tuple[Shape, ...]], required: Sequence[str], *, shape_only: bool = False
) -> Operator:
    return Operator(
        kind=kind, infer=infer, defaults={}, required=tuple(required), in_place=shape_only, shape_only=shape_only
    )


_WEIGHTED = {"roles": ("weight", "bias"), "macs": _weight_macs}
_OPERATORS = (
    Operator(kind="conv2d", infer=_convolution, defaults=_WINDOW_2D, **_WEIGHTED),  # type: ignore[arg-type]
    Operator(kind="conv1d", infer=_convolution, defaults=_WINDOW_1D, **_WEIGHTED),  # type: ignore[arg-type]
    Operator(  # weight: (channels, out channels of a group, ...)
        kind="conv_transpose2d",
        infer=_transposed_convolution,
        defaults={**_WINDOW_2D, "output_padding": (0, 0)},
        roles=("weight", "bias"),
        macs=_transposed_macs,
    ),
    Operator(kind="linear", infer=_linear, defaults={}, **_WEIGHTED),  # type: ignore[arg-type]
    Operator(kind="matmul", infer=_matmul, defaults={}, macs=_matmul_macs),
    Operator(  # inputs: query, key, value, and a mask if there is one; scale 0: 1 / sqrt(embedding)
        kind="attention", infer=_attention, defaults={"scale": 0.0, "causal": False, "p": 0.0}, macs=_attention_macs
    ),  # p: of the scores that are dropped while training
    Operator(kind="embedding", infer=_embedding, defaults={}, roles=("weight",)),  # rows of a table, by their numbers
    _elementwise("batch_norm", {"eps": 1e-5, "momentum": 0.1}, roles=("weight", "bias", "running_mean", "running_var")),
    _elementwise("layer_norm", {"eps": 1e-5}, required=("normalized_shape",), roles=("weight", "bias")),
    _elementwise("group_norm", {"eps": 1e-5}, required=("groups",), roles=("weight", "bias")),
    *map(_elementwise, ("relu", "relu6", "hardswish", "hardsigmoid", "silu", "sigmoid", "tanh", "identity", "mish")),
    _elementwise("gelu", {"approximate": "none"}),
    _elementwise("leaky_relu", {"negative_slope": 0.01}),
    _elementwise("elu", {"alpha": 1.0}),
    _elementwise("prelu", roles=("weight",)),
    _elementwise("clamp", {"min": -math.inf, "max": math.inf}),
    _elementwise("softmax", required=("axis",)),
    # whole: what is dropped at once: a "number", a "channel", a "sample" (stochastic depth, Huang et al., 2016)
    _elementwise("dropout", {"p": 0.5, "whole": "number"}),
    _elementwise("power", required=("exponent",)),
    _elementwise("sqrt"),
    _elementwise("exp"),
    _elementwise("affine", {"scale": 1.0, "shift": 0.0}),  # scale * x + shift, by numbers that are no weights
    *map(_binary, ("add", "sub", "mul", "div")),
    Operator(
        kind="max_pool2d",
        infer=_pool,
        required=("kernel_size",),
        defaults={"stride": (), "padding": (0, 0), "dilation": (1, 1), "ceil_mode": False},
    ),
    Operator(
        kind="avg_pool2d",
        infer=_pool,
        required=("kernel_size",),
        defaults={"stride": (), "padding": (0, 0), "ceil_mode": False, "count_include_pad": True},
    ),
    _moves("adaptive_avg_pool2d", _adaptive, ["output_size"]),
    _moves("adaptive_max_pool2d", _adaptive, ["output_size"]),
    Operator(kind="mean", infer=_reduce, required=("axes",), defaults={"keepdim": False}),
    Operator(kind="sum", infer=_reduce, required=("axes",), defaults={"keepdim": False}),
    Operator(kind="max", infer=_reduce, required=("axes",), defaults={"keepdim": False}),
    _moves("concat", _concat, ["axis"]),
    _moves("split", _split, ["axis", "sizes"]),
    _moves("unbind", _unbind, ["axis"]),
    _moves("select", _select, ["axis", "index"]),
    Operator(kind="slice", infer=_slice, required=("axis", "start", "stop"), defaults={"step": 1}),
    Operator(kind="take", infer=_take, defaults={"axis": 0}),  # positions of an axis, by numbers that are no sample's
    _moves("reshape", _reshape, ["shape"], shape_only=True),
    _moves("permute", _permute, ["order"]),
    _moves("expand", _expand, ["shape"]),
    Operator(kind="pad", infer=_pad, required=("amounts",), defaults={"mode": "constant", "value": 0.0}),
    Operator(kind="resize", infer=_resize, required=("size",), defaults={"mode": "nearest", "align_corners": False}),
    Operator(kind="weight", infer=_held, defaults={}, roles=("weight",)),  # a weight as a value of its own
    # a tensor of no input and no weight: `numbers` are its bytes, little-endian, as base64
    Operator(kind="constant", infer=_constant, defaults={}, required=("shape", "dtype", "numbers")),
    # the end of a network of several outputs (joining.py); `names` are theirs, with commas between them
    Operator(kind="join_outputs", infer=_join, defaults={}, required=("names",)),
    Operator(kind="quantize", infer=_same, defaults={}, required=("precision",)),
    Operator(kind="dequantize", infer=_same, defaults={}, required=("precision",)),
)
OPERATORS: Mapping[str, Operator] = {o.kind: o for o in _OPERATORS}


def check_axes(call: Call) -> None:
    """Hold the axes that a call names to those of its first input, counted from the front.

    By the rules, -1 would be another axis than torch's last one: behind a batch axis they add 1, and so meet that.

    Raises:
        GraphError: one is not among them.
    """
    for name in ("axis", "axes", "order"):
        given = call.attributes.get(name, ())
        wrong = [n for n in (given if isinstance(given, tuple) else (given,)) if not 0 <= n < len(call.x)]
        if wrong:
            raise GraphError(
                f"{name} is {given}, of a tensor {call.x}; axes are counted from 0, the first behind the batch's, to "
                f"{len(call.x) - 1}"
            )


def operator(kind: str) -> Operator:
    """What is known of an operator.

    Raises:
        GraphError: nothing; lists the known ones.
    """
    if kind not in OPERATORS:
        raise GraphError(f"unknown operator {kind!r}; known: {', '.join(sorted(OPERATORS))}")
    return OPERATORS[kind]
