"""How each operator computes in integers, as data: what happens to the scale of what it reads.

An operator that is named nowhere here has no integer form: it computes in float between dequantize and quantize.
This module knows operators, not graphs, blocks, files or runtimes.
"""

from __future__ import annotations

from collections.abc import Callable, Mapping

from torch import nn

from hwnas.graph.operators import Call
from hwnas.supernet.quantization.modules import (
    InputQuantizer,
    QuantizedConv1d,
    QuantizedConv2d,
    QuantizedConvTranspose2d,
    QuantizedHardswish,
    QuantizedLinear,
    QuantizedSiLU,
    Quantizer,
    UnitQuantizer,
)

WEIGHTED: Mapping[str, Callable[..., nn.Module]] = {
    "conv2d": QuantizedConv2d,
    "conv1d": QuantizedConv1d,
    # in groups its output channels lie on two axes of the weight: left in float
    "conv_transpose2d": lambda conv: QuantizedConvTranspose2d(conv) if conv.groups == 1 else conv,
    "linear": QuantizedLinear,
}

ACTIVATIONS: Mapping[str, Callable[[], nn.Module]] = {  # they take a result before it is rounded, where they can
    "relu": lambda: Quantizer(lower=0.0),
    "relu6": lambda: Quantizer(lower=0.0, upper=6.0),
    "hardswish": QuantizedHardswish,
    "silu": QuantizedSiLU,
    "quantize": Quantizer,
}

_NEW_SCALE = frozenset({"add", "sub", "mul", "concat", "mean", "adaptive_avg_pool2d"})
# results are among the numbers that are read, or between them: rounded to the same scale, which costs nothing and tells
# every runtime that an operator's both sides are integers
_SAME_SCALE = frozenset({"avg_pool2d", "max_pool2d", "adaptive_max_pool2d", "max", "permute", "slice", "select"})
_UNIT_SCALE = frozenset({"sigmoid", "hardsigmoid", "softmax"})
_KEEPS = frozenset({"reshape", "identity", "dropout", "split", "unbind", "expand", "dequantize", "join_outputs"})
_MOVES = _KEEPS - {"dequantize", "join_outputs"} | {"permute", "slice", "select"}


def keeps_scale(kind: str) -> bool:
    """Whether the results are the numbers that are read, so that nothing needs to round them."""
    return kind in _KEEPS


def moves_numbers(kind: str) -> bool:
    """Whether the results are numbers that are read, at other places, in floats and in integers alike."""
    return kind in _MOVES


def _moves_on_scale(kind: str, call: Call) -> bool:
    """Whether results have the scale of what is read.

    The mean of a whole image has a scale of its own; means of windows have the input's, as integer kernels want it.
    """
    match kind:
        case "pad":
            return bool(call["mode"] != "constant" or call["value"] == 0.0)
        case "resize":
            return bool(call["mode"] == "nearest")
        case "adaptive_avg_pool2d":
            return bool(call["output_size"] != (1, 1))
    return kind in _SAME_SCALE


def result_quantizer(kind: str, call: Call) -> Quantizer:
    """A new quantizer for the result of an operator that is no activation and does not keep the scale by itself."""
    if kind in _UNIT_SCALE:
        return UnitQuantizer()
    return InputQuantizer() if _moves_on_scale(kind, call) else Quantizer()


def has_integer_form(kind: str, call: Call) -> bool:
    """Whether an operator is computed on integers; otherwise it is float between dequantize and quantize."""
    known = kind in WEIGHTED or kind in ACTIVATIONS or kind in _NEW_SCALE | _UNIT_SCALE
    return known or keeps_scale(kind) or _moves_on_scale(kind, call)
