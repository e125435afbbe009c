"""Rules for operators that compute number by number, and for what is random while training."""

from __future__ import annotations

import math

import numpy as np

from hwnas.graph import Ref
from hwnas.supernet.tracing.layouts import NoRule, Placed, Traced
from hwnas.supernet.tracing.rules import Mask, Result, TracedCall, rule

# ---------------------------------------------------------------- activations


@rule("relu", "relu6", "hardswish", "hardsigmoid", "silu", "sigmoid", "tanh", "mish", "sqrt", "exp")
def unary(c: TracedCall) -> Result:
    """Those that are called the same here."""
    return c.same(c.emit(c.name, c.x.ref))


@rule("gelu")
def gelu(c: TracedCall) -> Result:
    """Exact, or by tanh."""
    return c.same(c.emit("gelu", c.x.ref, approximate=c["approximate"]))


@rule("leaky_relu")
def leaky_relu(c: TracedCall) -> Result:
    """A number for the slope below 0."""
    return c.same(c.emit("leaky_relu", c.x.ref, negative_slope=c.number("negative_slope")))


@rule("prelu")
def prelu(c: TracedCall) -> Result:
    """A weight for the slope below 0, one for each channel."""
    return c.same(c.emit("prelu", c.plain().ref, weights={"weight": c.weight("weight")}))


@rule("elu")
def elu(c: TracedCall) -> Result:
    """With the scales that only other functions set."""
    if c["input_scale"] != 1 or c["scale"] != 1:
        raise NoRule
    return c.same(c.emit("elu", c.x.ref, alpha=c.number("alpha")))


@rule("selu")
def selu(c: TracedCall) -> Result:
    """Klambauer et al., 2017: an elu, scaled."""
    # alpha and lambda of the paper, as torch has them
    return c.same(c.emit("affine", c.emit("elu", c.x.ref, alpha=1.6732632423543772), scale=1.0507009873554805))


@rule("glu")
def glu(c: TracedCall) -> Result:
    """Dauphin et al., 2017: one half gates the other."""
    axis = c.x.axis(c["dim"])
    half = c.x.ref.shape[axis] // 2
    value, gate = c.recorder.emit("split", c.x.ref, axis=axis, sizes=(half, half))
    return c.same(c.emit("mul", value, c.emit("sigmoid", gate)))


@rule("hardtanh")
def hardtanh(c: TracedCall) -> Result:
    """Between two numbers; 0 and 6 are relu6."""
    return _clamped(c, c.number("min_val"), c.number("max_val"))


@rule("clamp", "clip")
def clamp(c: TracedCall) -> Result:
    """Between two numbers, either of which may be missing."""
    low = -math.inf if c["min"] is None else c.number("min")
    return _clamped(c, low, math.inf if c["max"] is None else c.number("max"))


@rule("clamp_min")
def clamp_min(c: TracedCall) -> Result:
    """Not below a number."""
    return _clamped(c, c.number("min"), math.inf)


@rule("clamp_max")
def clamp_max(c: TracedCall) -> Result:
    """Not above a number."""
    return _clamped(c, -math.inf, c.number("max"))


def _clamped(c: TracedCall, low: float, high: float) -> Result:
    named = {(0.0, math.inf): "relu", (0.0, 6.0): "relu6"}.get((low, high))
    return c.same(c.emit(named, c.x.ref) if named else c.emit("clamp", c.x.ref, min=low, max=high))


@rule("softmax", "_softmax")
def softmax(c: TracedCall) -> Result:
    """Along one axis."""
    return c.same(c.emit("softmax", c.x.ref, axis=c.x.axis(c["dim"])))


# ---------------------------------------------------------------- arithmetic


def _affine(c: TracedCall, scale: float, shift: float) -> Placed:
    """Scale * x + shift; nothing where that is x."""
    x = c.x.ref
    return c.same(x if (scale, shift) == (1.0, 0.0) else c.emit("affine", x, scale=scale, shift=shift))


def _is_number(value: object) -> bool:
    return isinstance(value, int | float) and not isinstance(value, bool)


def _scaled(c: TracedCall, ref: Ref, scale: float) -> Ref:
    return ref if scale == 1 else c.emit("affine", ref, scale=scale)


@rule("add", "sub")
def add(c: TracedCall) -> Result:
    """Of two tensors, the second scaled if torch is told so; or of a tensor and a number."""
    sign = 1.0 if c.name == "add" else -1.0
    alpha = float(c.arguments.get("alpha", 1))
    if _is_number(c["other"]):
        return _affine(c, 1.0, sign * alpha * c.number("other"))
    (a, b), layout = c.recorder.aligned(c.x, c.tensor("other"))
    return Placed(c.emit(c.name, a, _scaled(c, b, alpha)), layout)


@rule("rsub")
def rsub(c: TracedCall) -> Result:
    """The second minus the first."""
    if not _is_number(c["other"]) or c["alpha"] != 1:
        raise NoRule
    return _affine(c, -1.0, c.number("other"))


@rule("mul")
def mul(c: TracedCall) -> Result:
    """Of two tensors, of a tensor and a number, or with random numbers that leave samples out."""
    if isinstance(c["other"], Mask):
        return _stochastic_depth(c, c["other"])
    if _is_number(c["other"]):
        return _affine(c, c.number("other"), 0.0)
    (a, b), layout = c.recorder.aligned(c.x, c.tensor("other"))
    return Placed(c.emit("mul", a, b), layout)


@rule("div")
def div(c: TracedCall) -> Result:
    """By a tensor, or by a number; what is rounded afterwards has no rule."""
    x, other = next(iter(c.arguments.values())), c["other"]
    if c.arguments.get("rounding_mode") is not None:
        raise NoRule
    if isinstance(x, Mask):
        if other != x.keep:  # divided by another number, what is kept is not as large on average as the whole was
            raise NoRule
        return Mask(x.shape, x.keep, scaled=True)
    if _is_number(other):
        return _affine(c, 1 / c.number("other"), 0.0)
    (a, b), layout = c.recorder.aligned(c.x, c.tensor("other"))
    return Placed(c.emit("div", a, b), layout)


@rule("addcmul")
def addcmul(c: TracedCall) -> Result:
    """The product of two tensors, scaled if torch is told so, added to a third."""
    (a, b), layout = c.recorder.aligned(c.tensor("tensor1"), c.tensor("tensor2"))
    first, second = (c.tensor(name).shape for name in ("tensor1", "tensor2"))
    product = Traced(_scaled(c, c.emit("mul", a, b), c.number("value")), layout, np.broadcast_shapes(first, second))
    (x, y), layout = c.recorder.aligned(c.x, product)
    return Placed(c.emit("add", x, y), layout)


@rule("neg")
def neg(c: TracedCall) -> Result:
    """The opposite."""
    return _affine(c, -1.0, 0.0)


@rule("pow")
def power(c: TracedCall) -> Result:
    """To a number."""
    return c.same(c.emit("power", c.x.ref, exponent=c.number("exponent")))


@rule("square", "reciprocal", "rsqrt")
def named_power(c: TracedCall) -> Result:
    """Powers with names of their own."""
    exponent = {"square": 2.0, "reciprocal": -1.0, "rsqrt": -0.5}[c.name]
    return c.same(c.emit("power", c.x.ref, exponent=exponent))


# ---------------------------------------------------------------- nothing, and chance


@rule("contiguous", "clone", "detach", "alias", "lift_fresh_copy", "identity", "positive", "to", "_to_copy", "type_as")
def unchanged(c: TracedCall) -> Result:
    """Numbers stay what they are; where their type changes, the result is refused later."""
    return c.same(c.x.ref)


@rule("copy")
def copy(c: TracedCall) -> Result:
    """All of a tensor written over."""
    if c.tensor("src").shape != c.shapes[0]:
        raise NoRule
    return Placed(c.tensor("src").ref, c.tensor("src").layout)


@rule("dropout", "feature_dropout")
def dropout(c: TracedCall) -> Result:
    """Of numbers, or of whole channels; of nothing, it is nothing."""
    if not c["p"]:
        return c.same(c.x.ref)
    if c.name == "dropout":
        return c.same(c.emit("dropout", c.x.ref, p=c.number("p")))
    return c.same(c.emit("dropout", c.plain().ref, p=c.number("p"), whole="channel"))


@rule("new_empty", "empty")
def blank(c: TracedCall) -> Result:
    """Room for random numbers."""
    return Mask(c.shapes[0])


@rule("bernoulli")
def bernoulli(c: TracedCall) -> Result:
    """1 with a probability, else 0."""
    blank = next(iter(c.arguments.values()))
    if not isinstance(blank, Mask) or blank.keep != 1.0:
        raise NoRule
    return Mask(blank.shape, c.number("p"))


def _stochastic_depth(c: TracedCall, mask: Mask) -> Placed:
    """A branch left out for some samples (Huang et al., 2016), as timm and torchvision write it."""
    x = c.plain()
    one_a_sample = (x.shape[0], *(1,) * (len(x.shape) - 1))  # (N, 1, ...): a number for each sample
    if mask.shape != one_a_sample or not (mask.scaled or mask.keep == 1.0):
        raise NoRule
    return c.same(x.ref if mask.keep == 1.0 else c.emit("dropout", x.ref, p=1 - mask.keep, whole="sample"))
