"""Rules for operators that move numbers about: shapes, orders of axes, parts, joins, repetitions."""

from __future__ import annotations

from collections.abc import Sequence

from hwnas.graph import Ref
from hwnas.supernet.tracing.layouts import NoRule, Placed, SamplesMixed, TensorLayout, Traced, reshaped, sample_shape
from hwnas.supernet.tracing.rules import Result, TracedCall, rule

# ---------------------------------------------------------------- shapes and orders


@rule(
    "view", "reshape", "_unsafe_view", "view_as", "reshape_as", "flatten", "unflatten", "squeeze", "unsqueeze", "ravel"
)
def reshape(c: TracedCall) -> Result:
    """Whatever is asked for, torch's result says what it means."""
    layout = reshaped(c.x, c.shapes[0], samples=c.samples)
    return Placed(c.reshape(c.x.ref, sample_shape(c.shapes[0], layout)), layout)


def permuted(c: TracedCall, order: Sequence[int]) -> Placed:
    """Traced axes in another order; what is folded into the batch axis moves with it."""
    x = c.x
    if x.layout is None:
        return Placed(c.permute(x.ref, order), None)
    axes = [axis for i in order for axis in x.layout.axes(i)]
    layout = TensorLayout(list(order).index(x.layout.axis), x.layout.before, x.layout.after)
    return Placed(c.permute(x.ref, axes), layout)


@rule("permute")
def permute(c: TracedCall) -> Result:
    """All axes named."""
    return permuted(c, [c.x.positive(d) for d in c["dims"]])


@rule("transpose", "swapaxes", "swapdims")
def transpose(c: TracedCall) -> Result:
    """Two axes for each other."""
    first, second = (c.x.positive(d) for d in list(c.arguments.values())[1:3])
    order = list(range(len(c.x.shape)))
    order[first], order[second] = second, first
    return permuted(c, order)


@rule("t", "numpy_T", "mT")
def transposed(c: TracedCall) -> Result:
    """All axes from behind, or the last two."""
    order = list(range(len(c.x.shape)))
    return permuted(c, [*order[:-2], *order[:-3:-1]] if c.name == "mT" else order[::-1])


@rule("movedim", "moveaxis")
def movedim(c: TracedCall) -> Result:
    """Some axes to other places."""
    source, target = ([d] if isinstance(d, int) else list(d) for d in list(c.arguments.values())[1:3])
    moved = dict(zip((c.x.positive(d) for d in target), (c.x.positive(d) for d in source), strict=True))
    rest = iter(i for i in range(len(c.x.shape)) if i not in moved.values())
    return permuted(c, [moved[i] if i in moved else next(rest) for i in range(len(c.x.shape))])


@rule("pixel_shuffle")
def pixel_shuffle(c: TracedCall) -> Result:
    """Channels to positions (Shi et al., 2016): (C r r, H, W) -> (C, H r, W r)."""
    x, r = c.plain().ref, c["upscale_factor"]
    channels, height, width = x.shape
    parts = c.reshape(x, (channels // r**2, r, r, height, width))
    return c.same(c.reshape(c.permute(parts, (0, 3, 1, 4, 2)), (channels // r**2, height * r, width * r)))


@rule("pixel_unshuffle")
def pixel_unshuffle(c: TracedCall) -> Result:
    """Positions to channels: (C, H r, W r) -> (C r r, H, W)."""
    x, r = c.plain().ref, c["downscale_factor"]
    channels, height, width = x.shape
    parts = c.reshape(x, (channels, height // r, r, width // r, r))
    return c.same(c.reshape(c.permute(parts, (0, 2, 4, 1, 3)), (channels * r**2, height // r, width // r)))


@rule("channel_shuffle")
def channel_shuffle(c: TracedCall) -> Result:
    """Channels of groups in turns (Zhang et al., 2018)."""
    x, groups = c.plain().ref, c["groups"]
    parts = c.reshape(x, (groups, x.shape[0] // groups, *x.shape[1:]))
    order = (1, 0, *range(2, len(parts.shape)))
    return c.same(c.reshape(c.permute(parts, order), x.shape))


# ---------------------------------------------------------------- repetitions


@rule("expand", "expand_as")
def expand(c: TracedCall) -> Result:
    """Axes of size 1 repeated; of what follows from weights alone, one for each sample."""
    return _expanded(c, c.x)


@rule("repeat")
def repeat(c: TracedCall) -> Result:
    """The same, where it is axes of size 1 that are repeated."""
    shape = (1,) * (len(c["repeats"]) - len(c.x.shape)) + c.x.shape
    if any(n != 1 and times != 1 for n, times in zip(shape, c["repeats"], strict=True)):
        raise NoRule
    return _expanded(c, c.x)


def _expanded(c: TracedCall, x: Traced) -> Placed:
    shape, samples = c.shapes[0], c.samples
    if x.layout is not None:
        layout: TensorLayout | None = TensorLayout(
            x.layout.axis + len(shape) - len(x.shape), x.layout.before, x.layout.after
        )
    else:
        full = (1,) * (len(shape) - len(x.shape)) + x.shape
        held = [i for i, n in enumerate(shape) if n % samples == 0 and full[i] != n]
        if len(held) > 1 or (held and full[held[0]] != 1):
            raise SamplesMixed
        layout = TensorLayout(held[0], 1, shape[held[0]] // samples) if held else None
    target = sample_shape(shape, layout)
    if x.layout is None and layout is not None:
        rest = (*full[: layout.axis], *(1,) * len(layout.folded), *full[layout.axis + 1 :])
        ref = c.reshape(x.ref, rest)
        # past the rules: by them what reads weights alone would not be one for each sample
        made = c.recorder.append(
            "expand", ref, weights={}, attributes={"shape": target}, values=[(target, ref.dtype, True)]
        )
        return Placed(made[0], layout)
    return Placed(x.ref if x.ref.shape == target else c.emit("expand", x.ref, shape=target), layout)


# ---------------------------------------------------------------- parts


@rule("slice")
def slice_(c: TracedCall) -> Result:
    """A range of an axis; all of it is nothing."""
    x, dim = c.x, c.x.positive(c["dim"])
    start, stop, step = slice(c["start"], c["end"], c["step"]).indices(x.shape[dim])
    if (start, stop, step) == (0, x.shape[dim], 1):
        return c.same(x.ref)
    return c.same(c.emit("slice", x.ref, axis=x.axis(dim), start=start, stop=stop, step=step))


@rule("narrow")
def narrow(c: TracedCall) -> Result:
    """A range by its length."""
    axis = c.x.axis(c["dim"])
    start = c["start"] % c.x.ref.shape[axis]
    return c.same(c.emit("slice", c.x.ref, axis=axis, start=start, stop=start + c["length"]))


@rule("select")
def select(c: TracedCall) -> Result:
    """One position of an axis, which goes."""
    x, dim = c.x, c.x.positive(c["dim"])
    axis = x.axis(dim)
    return Placed(c.emit("select", x.ref, axis=axis, index=c["index"] % x.shape[dim]), x.without([dim]))


@rule("unbind")
def unbind(c: TracedCall) -> Result:
    """All positions of an axis."""
    x, dim = c.x, c.x.positive(c["dim"])
    refs = c.recorder.emit("unbind", x.ref, axis=x.axis(dim))
    return [Placed(ref, x.without([dim])) for ref in refs]


@rule("split", "split_with_sizes", "chunk", "tensor_split", "unsafe_split", "unsafe_chunk")
def split(c: TracedCall) -> Result:
    """Parts of an axis, as large as torch makes them."""
    x, dim = c.x, c.x.positive(c["dim"])
    if len(c.shapes) == 1:
        return [c.same(x.ref)]
    refs = c.recorder.emit("split", x.ref, axis=x.axis(dim), sizes=tuple(shape[dim] for shape in c.shapes))
    return [c.same(ref) for ref in refs]


# ---------------------------------------------------------------- joins


@rule("cat", "concat", "concatenate")
def concat(c: TracedCall) -> Result:
    """Along an axis."""
    tensors = [c.as_tensor(t) for t in c["tensors"]]
    (layout, *others) = {t.layout for t in tensors}
    if others:
        raise NoRule
    return Placed(_joined(c, [t.ref for t in tensors], tensors[0].axis(c["dim"])), layout)


def _joined(c: TracedCall, refs: Sequence[Ref], axis: int) -> Ref:
    return refs[0] if len(refs) == 1 else c.emit("concat", *refs, axis=axis)


@rule("stack")
def stack(c: TracedCall) -> Result:
    """Along a new axis."""
    tensors = [c.as_tensor(t) for t in c["tensors"]]
    (layout, *others) = {t.layout for t in tensors}
    if others:
        raise NoRule
    dim = c["dim"] % len(c.shapes[0])
    if layout is not None:
        layout = TensorLayout(
            layout.axis + (dim <= layout.axis), layout.before, layout.after
        )  # the new axis may be before it
        axis = dim if dim < layout.axis else dim - 1 + len(layout.folded)
    else:
        axis = dim
    refs = [c.reshape(t.ref, (*t.ref.shape[:axis], 1, *t.ref.shape[axis:])) for t in tensors]
    return Placed(_joined(c, refs, axis), layout)


@rule("pad", "constant_pad_nd")
def pad(c: TracedCall) -> Result:
    """Torch counts pairs from the last axis."""
    x = c.x
    mode, value = c.arguments.get("mode", "constant"), c.arguments.get("value") or 0.0
    amounts = [0] * (2 * len(x.ref.shape))
    pairs = [(c["pad"][i], c["pad"][i + 1]) for i in range(0, len(c["pad"]), 2)]
    for i, pair in enumerate(pairs):
        if min(pair) < 0:
            raise NoRule
        if any(pair):
            axis = x.axis(-1 - i)
            amounts[2 * axis : 2 * axis + 2] = pair
    if not any(amounts):
        return c.same(x.ref)
    return c.same(c.emit("pad", x.ref, amounts=tuple(amounts), mode=mode, value=float(value)))


@rule("roll")
def roll(c: TracedCall) -> Result:
    """What leaves at one end comes in at the other: two parts, joined the other way round, for each axis."""
    if not c["dims"]:
        raise NoRule
    ref = c.x.ref
    for shift, dim in zip(c["shifts"], c["dims"], strict=True):
        axis = c.x.axis(dim)
        size = ref.shape[axis]
        if shift % size:
            first, second = c.recorder.emit("split", ref, axis=axis, sizes=(size - shift % size, shift % size))
            ref = c.emit("concat", second, first, axis=axis)
    return c.same(ref)
