"""Rules for operators with weights, products of matrices, pools and other sums over positions."""

from __future__ import annotations

from collections.abc import Mapping

import torch

from hwnas.graph import Ref, Weight
from hwnas.supernet.tracing.layouts import NoRule, Placed, SamplesMixed, Shape, TensorLayout, Traced
from hwnas.supernet.tracing.rules import Result, TracedCall, rule

_SMALLEST_SQUARE = 1e-30  # nothing beside any number whose square a float32 holds

# ---------------------------------------------------------------- convolutions and linear layers


@rule("conv1d", "conv2d")
def convolution(c: TracedCall) -> Result:
    """One axis of positions, or two; padding as numbers, `same` or `valid`; also of what all samples share."""
    weight = c.weight("weight")
    assert weight is not None
    count = len(weight.shape) - 2
    shared = c.x.layout is None and c.x.shape[:1] == (1,)
    x = c.x if shared else c.plain()
    if len(x.shape) != count + 2:
        raise NoRule
    bias, added = _bias(c)
    dilation = c.numbers("dilation", count)
    ref, padding = _padded(c, c.reshape(x.ref, x.shape[1:]), weight.shape[2:], dilation)
    ref = c.emit(
        c.name,
        ref,
        weights={"weight": weight, "bias": bias},
        stride=c.numbers("stride", count),
        padding=padding,
        dilation=dilation,
        groups=c["groups"],
    )
    ref = _add_bias(c, ref, added, (-1, *(1,) * count))
    return c.same(c.reshape(ref, (1, *ref.shape)) if shared else ref)


def _padded(c: TracedCall, x: Ref, kernel: Shape, dilation: Shape) -> tuple[Ref, Shape]:
    """Padding as numbers; what `same` pads on one side only becomes an operator of its own."""
    if not isinstance(c["padding"], str):
        return x, c.numbers("padding", len(kernel))
    if c["padding"] == "valid":
        return x, (0,) * len(kernel)
    totals = [d * (k - 1) for d, k in zip(dilation, kernel, strict=True)]
    if not any(n % 2 for n in totals):
        return x, tuple(n // 2 for n in totals)
    amounts = (0, 0, *(side for n in totals for side in (n // 2, n - n // 2)))  # channels none; torch pads the end more
    return c.emit("pad", x, amounts=amounts), (0,) * len(kernel)


@rule("conv_transpose2d")
def transposed_convolution(c: TracedCall) -> Result:
    """With bias or without."""
    if len(c.plain().shape) != 4:
        raise NoRule
    return c.same(
        c.emit(
            "conv_transpose2d",
            c.x.ref,
            weights={"weight": c.weight("weight"), "bias": c.weight("bias")},
            stride=c.numbers("stride", 2),
            padding=c.numbers("padding", 2),
            output_padding=c.numbers("output_padding", 2),
            dilation=c.numbers("dilation", 2),
            groups=c["groups"],
        )
    )


@rule("linear")
def linear(c: TracedCall) -> Result:
    """A layer where it has a weight of the network's; else a product of matrices."""
    x = c.spatial(1)
    bias, added = _bias(c)
    if isinstance(c["weight"], Weight):
        ref = c.emit("linear", x.ref, weights={"weight": c.weight("weight"), "bias": bias})
        return c.same(_add_bias(c, ref, added, (-1,)))
    weight = c.tensor("weight")
    if weight.layout is not None or len(x.ref.shape) < 2:
        raise NoRule
    ref = c.emit("matmul", x.ref, c.emit("permute", weight.ref, order=(1, 0)))  # torch keeps it as (out, in)
    held = c.recorder.held(bias).ref if bias is not None else added
    return c.same(_add_bias(c, ref, held, (-1,)))


def _bias(c: TracedCall) -> tuple[Weight | None, Ref | None]:
    """A bias that is a weight, or one that is computed from weights."""
    bias = c["bias"]
    if bias is None or isinstance(bias, Weight):
        return bias, None
    traced = c.tensor("bias")
    if traced.layout is not None:
        raise NoRule
    return None, traced.ref


def _add_bias(c: TracedCall, ref: Ref, bias: Ref | None, shape: Shape) -> Ref:
    if bias is None:
        return ref
    return c.emit("add", ref, c.reshape(bias, tuple(bias.shape[0] if n == -1 else n for n in shape)))


@rule("embedding")
def embedding(c: TracedCall) -> Result:
    """Rows of a table by their numbers."""
    indices = c.tensor("indices")
    return Placed(c.emit("embedding", indices.ref, weights={"weight": c.weight("weight")}), indices.layout)


@rule("index")
def index(c: TracedCall) -> Result:
    """Positions of one axis, by numbers that are no sample's: relative positions, as attention reads them."""
    given = [i for i, n in enumerate(c["indices"]) if n is not None]
    if len(given) != 1:
        raise NoRule
    rows = c.as_tensor(c["indices"][given[0]])
    if rows.layout is not None or rows.ref.dtype != "int64":  # a mask: as many positions as it has ones
        raise NoRule
    table = c["self"]
    if given == [0] and isinstance(table, Weight) and len(table.shape) == 2:
        return Placed(c.emit("embedding", rows.ref, weights={"weight": table}), None)
    x = c.x
    layout = x.layout
    if layout is not None and layout.axis > given[0]:
        layout = TensorLayout(layout.axis + len(rows.shape) - 1, layout.before, layout.after)
    return Placed(c.emit("take", x.ref, rows.ref, axis=x.axis(given[0])), layout)


# ---------------------------------------------------------------- normalisations


@rule("batch_norm")
def batch_norm(c: TracedCall) -> Result:
    """Channels are brought to the front where samples share their axis with positions: they are counted alike."""
    x = c.x
    if x.layout is None or x.layout.axis != 0:
        raise NoRule
    channels = x.axis(1)
    order = (channels, *(i for i in range(len(x.ref.shape)) if i != channels))
    ref = c.emit(
        "batch_norm",
        c.permute(x.ref, order),
        weights={role: c.weight(role) for role in ("weight", "bias", "running_mean", "running_var")},
        eps=c["eps"],
        momentum=c["momentum"],
    )
    return c.same(c.permute(ref, tuple(order.index(i) for i in range(len(order)))))


@rule("layer_norm")
def layer_norm(c: TracedCall) -> Result:
    """Over the last axes."""
    shape = tuple(c["normalized_shape"])
    x = c.spatial(len(shape))
    weights = {role: c.weight(role) for role in ("weight", "bias")}
    return c.same(c.emit("layer_norm", x.ref, weights=weights, normalized_shape=shape, eps=c["eps"]))


@rule("rms_norm")
def rms_norm(c: TracedCall) -> Result:
    """Divided by the root of the mean square over the last axes (Zhang & Sennrich, 2019), step by step."""
    shape = tuple(c["normalized_shape"])
    x = c.spatial(len(shape)).ref
    axes = tuple(range(len(x.shape) - len(shape), len(x.shape)))
    mean = c.emit("mean", c.emit("power", x, exponent=2.0), axes=axes, keepdim=True)
    eps = torch.finfo(torch.float32).eps if c["eps"] is None else c.number("eps")
    ref = c.emit("mul", x, c.emit("power", c.emit("affine", mean, shift=eps), exponent=-0.5))
    weight = c.weight("weight")
    return c.same(ref if weight is None else c.emit("mul", ref, c.recorder.held(weight).ref))


@rule("group_norm")
def group_norm(c: TracedCall) -> Result:
    """Over groups of channels."""
    weights = {role: c.weight(role) for role in ("weight", "bias")}
    return c.same(c.emit("group_norm", c.plain().ref, weights=weights, groups=c["num_groups"], eps=c["eps"]))


@rule("instance_norm")
def instance_norm(c: TracedCall) -> Result:
    """Without running statistics, a group for each channel."""
    if c["running_mean"] is not None or not c["use_input_stats"]:
        raise NoRule
    weights = {role: c.weight(role) for role in ("weight", "bias")}
    return c.same(c.emit("group_norm", c.plain().ref, weights=weights, groups=c.x.ref.shape[0], eps=c["eps"]))


# ---------------------------------------------------------------- products of matrices


@rule("matmul", "bmm", "mm")
def matmul(c: TracedCall) -> Result:
    """Of the last two axes; rows may lie among the samples where the second matrix is a weight's."""
    a, b = c.x, c.tensor("mat2" if "mat2" in c.arguments else "other")
    if len(a.shape) < 2 or len(b.shape) < 2:
        raise NoRule
    # how far from the end samples lie: 1 in the last axis, 2 in the one before, which of the first matrix are its rows
    ends = [len(t.shape) - t.layout.axis for t in (a, b) if t.layout is not None]
    if any(end == 1 for end in ends) or (b.layout is not None and ends[-1] == 2):
        raise SamplesMixed
    if a.layout is not None and ends[0] == 2:
        return _rows(c, a, b)
    (x, y), layout = c.recorder.aligned(a, b)
    return Placed(c.emit("matmul", x, y), layout)


def _rows(c: TracedCall, a: Traced, b: Traced) -> Placed:
    """(..., samples, features) x (features, out)."""
    if b.layout is not None or len(b.shape) != 2:
        raise NoRule
    rows = a.ref if len(a.ref.shape) > 1 else c.reshape(a.ref, (1, *a.ref.shape))
    made = c.emit("matmul", rows, b.ref)
    return Placed(c.reshape(made, (*a.ref.shape[:-1], b.shape[1])), a.layout)


@rule("scaled_dot_product_attention")
def attention(c: TracedCall) -> Result:
    """Queries, keys, values, and a mask that is a tensor; where queries share keys and values, these are repeated."""
    given = [c.tensor(name) for name in ("query", "key", "value")]
    if c["enable_gqa"]:
        given[1:] = [_repeated_heads(c, t, heads=given[0].shape[-3]) for t in given[1:]]
    given += [] if c["attn_mask"] is None else [c.tensor("attn_mask")]
    if any(t.layout is not None and t.layout.axis >= len(t.shape) - 2 for t in given):
        raise SamplesMixed
    refs, layout = c.recorder.aligned(*given)
    # modules that compute 1 / sqrt(embedding) themselves get it as torch does, but for the last bits
    usual = c["scale"] is None or abs(c["scale"] - given[0].shape[-1] ** -0.5) < 1e-9
    scale = 0.0 if usual else float(c["scale"])  # 0 stands for it: attributes have no None
    return Placed(c.emit("attention", *refs, scale=scale, causal=c["is_causal"], p=float(c["dropout_p"])), layout)


def _repeated_heads(c: TracedCall, t: Traced, *, heads: int) -> Traced:
    """Each head of keys or values for several queries beside each other (Ainslie et al., 2023)."""
    if t.shape[-3] == heads:
        return t
    if t.layout is None or t.layout.axis >= len(t.shape) - 3:
        raise NoRule
    *lead, groups, length, size = t.ref.shape
    ref = c.reshape(t.ref, (*lead, groups, 1, length, size))
    ref = c.emit("expand", ref, shape=(*lead, groups, heads // groups, length, size))
    ref = c.reshape(ref, (*lead, heads, length, size))
    return Traced(ref, t.layout, (*t.shape[:-3], heads, length, size))


# ---------------------------------------------------------------- pools, sizes, sums


def _of_positions(c: TracedCall, kind: str, count: int, attributes: Mapping[str, Shape | bool]) -> Placed:
    """A pool of two axes of positions; one of a single axis is that with an axis of size 1 in front."""
    x = c.spatial(count).ref
    if count == 2:
        return c.same(c.recorder.emit(kind, x, weights=None, **attributes)[0])
    fill = {"kernel_size": 1, "stride": 1, "dilation": 1, "padding": 0, "output_size": 1}
    wide = {k: (fill[k], *v) if isinstance(v, tuple) and v else v for k, v in attributes.items()}
    (made,) = c.recorder.emit(kind, c.reshape(x, (*x.shape[:-1], 1, x.shape[-1])), weights=None, **wide)
    return c.same(c.reshape(made, (*made.shape[:-2], made.shape[-1])))


@rule("max_pool1d", "max_pool2d", "avg_pool1d", "avg_pool2d")
def pool(c: TracedCall) -> Result:
    """The stride is the kernel's size if it is not given."""
    if c.arguments.get("divisor_override") is not None:
        raise NoRule
    count = int(c.name[-2])  # axes of positions: the digit of `max_pool2d`
    kernel_size, stride = c.numbers("kernel_size", count), c.numbers("stride", count)
    attributes: dict[str, Shape | bool] = {
        "kernel_size": kernel_size,
        "stride": () if stride == kernel_size else stride,
        "padding": c.numbers("padding", count),
        "ceil_mode": c["ceil_mode"],
    }
    if "dilation" in c.arguments:
        attributes["dilation"] = c.numbers("dilation", count)
    else:
        attributes["count_include_pad"] = c["count_include_pad"]
    return _of_positions(c, f"{c.name[:-2]}2d", count, attributes)


@rule("adaptive_avg_pool1d", "adaptive_avg_pool2d")
def adaptive_pool(c: TracedCall) -> Result:
    """To a number of positions; torch's results say what `None` stands for."""
    count = int(c.name[-2])
    return _of_positions(c, "adaptive_avg_pool2d", count, {"output_size": c.shapes[0][-count:]})


@rule("adaptive_max_pool1d", "adaptive_max_pool2d")
def adaptive_max_pool(c: TracedCall) -> Result:
    """The same; where the maxima stand is not told."""
    count = int(c.name[-2])
    return [_of_positions(c, "adaptive_max_pool2d", count, {"output_size": c.shapes[0][-count:]}), None]


@rule("upsample_nearest1d", "upsample_nearest2d", "upsample_linear1d", "upsample_bilinear2d", "upsample_bicubic2d")
def resize(c: TracedCall) -> Result:
    """To a size that is a whole multiple of what a scale says: else torch counts positions by the scale, not by it."""
    mode, count = c.name.removeprefix("upsample_")[:-2], int(c.name[-2])
    x, size = c.spatial(count), c.shapes[0][-count:]
    scales = c.arguments.get("scale_factors") or ()
    if any(n * scale != to for n, scale, to in zip(x.shape[-count:], scales, size, strict=False)):
        raise NoRule
    return c.same(c.emit("resize", x.ref, size=size, mode=mode, align_corners=bool(c.arguments.get("align_corners"))))


@rule("mean", "sum", "amax", "max")
def reduction(c: TracedCall) -> Result:
    """Over axes; over all where none is named."""
    if "other" in c.arguments:
        raise NoRule
    placed = _reduced(c, "max" if c.name == "amax" else c.name, c.x.ref)
    return [placed, None] if len(c.shapes) == 2 else placed  # `max` along an axis also says where the maxima stand


@rule("linalg_vector_norm")
def norm(c: TracedCall) -> Result:
    """Euclidean; of zeros its gradient is 0, as torch has it, not that of a square root, which is no number."""
    if c["ord"] != 2:
        raise NoRule
    total = _reduced(c, "sum", c.emit("power", c.x.ref, exponent=2.0))
    return Placed(c.emit("sqrt", c.emit("clamp", total.ref, min=_SMALLEST_SQUARE)), total.layout)


def _reduced(c: TracedCall, kind: str, ref: Ref) -> Placed:
    """Of a value that has the axes of the first argument."""
    x, dims = c.x, c.arguments.get("dim")
    given = [dims] if isinstance(dims, int) else list(dims or range(len(x.shape)))
    traced = sorted(x.positive(d) for d in given)
    keepdim = bool(c.arguments.get("keepdim"))
    made = c.emit(kind, ref, axes=tuple(x.axis(d) for d in traced), keepdim=keepdim)
    return Placed(made, x.layout if keepdim else x.without(traced))
