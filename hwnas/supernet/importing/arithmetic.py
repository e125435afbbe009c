"""Rules for ONNX operators that compute number by number."""

from __future__ import annotations

import math
from collections.abc import Callable

import numpy as np
import torch
from torch import Tensor
from torch.nn import functional as F

from hwnas.supernet.importing.patterns import is_sixth_of
from hwnas.supernet.importing.rules import Call, Result, Unsupported, rule

_UNARY: dict[str, Callable[[Tensor], Tensor]] = {
    "Relu": F.relu,
    "Relu6": F.relu6,
    "HardSwish": F.hardswish,
    "Silu": F.silu,
    "Mish": F.mish,
    "Sigmoid": torch.sigmoid,
    "Tanh": torch.tanh,
    "Sqrt": torch.sqrt,
    "Exp": torch.exp,
    "Neg": torch.neg,
    "Reciprocal": torch.reciprocal,
    "Identity": lambda x: x,
}


@rule(*_UNARY)
def unary(c: Call) -> Result:
    """Those that torch has as they are."""
    return _UNARY[c.kind](c.x)


@rule("Swish")
def swish(c: Call) -> Result:
    """ONNX's own, with a slope within the sigmoid."""
    if c.attribute("alpha", 1.0) != 1.0:
        raise Unsupported("its alpha is not 1")
    return F.silu(c.x)


@rule("Clip")
def clip(c: Call) -> Result:
    """Between two numbers."""
    low, high = c.attribute("min", -math.inf), c.attribute("max", math.inf)
    if c.has(1) or c.has(2):
        raise Unsupported("its bounds are not single constants")
    return torch.clamp(c.x, None if low == -math.inf else low, None if high == math.inf else high)


@rule("HardSigmoid")
def hard_sigmoid(c: Call) -> Result:
    """Torch's where it is that; else what it stands for."""
    alpha, beta = c.attribute("alpha", 0.2), c.attribute("beta", 0.5)
    return F.hardsigmoid(c.x) if is_sixth_of(alpha, beta) else torch.clamp(c.x * alpha + beta, 0.0, 1.0)


@rule("Gelu")
def gelu(c: Call) -> Result:
    """Exact, or by tanh."""
    return F.gelu(c.x, approximate=c.attribute("approximate", "none"))


@rule("LeakyRelu", "Elu", "Selu")
def sloped(c: Call) -> Result:
    """A number for what is below 0."""
    if c.kind == "LeakyRelu":
        return F.leaky_relu(c.x, c.attribute("alpha", 0.01))
    return F.elu(c.x, c.attribute("alpha", 1.0)) if c.kind == "Elu" else F.selu(c.x)


@rule("PRelu", roles=(None, "weight"))
def prelu(c: Call) -> Result:
    """A weight for each channel."""
    if c.tensor(1).ndim != 1:
        raise Unsupported("its slopes are not one for each channel")
    return F.prelu(c.x, c.tensor(1))


_BINARY: dict[str, Callable[[Tensor, Tensor | float], Tensor]] = {
    "Add": torch.add,
    "Sub": torch.sub,
    "Mul": torch.mul,
    "Div": torch.div,
}


@rule("Add", "Sub", "Mul", "Div", tensors=True)
def binary(c: Call) -> Result:
    """Of two tensors, or of a tensor and a number on either side."""
    first, second = c.number(0), c.number(1)
    if isinstance(first, Tensor):
        return _BINARY[c.kind](first, second)
    assert isinstance(second, Tensor)
    if c.kind == "Sub":
        return first - second
    if c.kind == "Div":
        return torch.reciprocal(second) * first
    return _BINARY[c.kind](second, first)


@rule("Pow")
def power(c: Call) -> Result:
    """To a number."""
    exponent = c.number(1)
    if isinstance(exponent, Tensor):
        raise Unsupported("its exponent is no number")
    return torch.pow(c.x, exponent)


@rule("Max", "Min")
def bound(c: Call) -> Result:
    """Of a tensor and a number."""
    numbers = [n for i in range(len(c.operands)) if not isinstance(n := c.number(i), Tensor)]
    tensors = [n for i in range(len(c.operands)) if isinstance(n := c.number(i), Tensor)]
    if len(tensors) != 1 or not numbers:
        raise Unsupported("it is of several tensors")
    if c.kind == "Max":
        return torch.clamp(tensors[0], min=max(numbers))
    return torch.clamp(tensors[0], max=min(numbers))


@rule("Sum")
def total(c: Call) -> Result:
    """Of any number of tensors."""
    made = c.x
    for i in range(1, len(c.operands)):
        made = made + c.tensor(i)
    return made


@rule("Cast")
def cast(c: Call) -> Result:
    """To the numbers it has already, or to whole ones."""
    from onnx import helper

    dtype = np.dtype(helper.tensor_dtype_to_np_dtype(c.attribute("to", 1)))
    return c.x.to(torch.from_numpy(np.zeros(0, dtype)).dtype)
