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
    QuantizedConv2d,
    QuantizedHardswish,
    QuantizedLinear,
    QuantizedSiLU,
    QuantizedWeights,
    Quantizer,
    UnitQuantizer,
)

WEIGHTED: Mapping[str, Callable[..., QuantizedWeights]] = {"conv2d": QuantizedConv2d, "linear": QuantizedLinear}

ACTIVATIONS: Mapping[str, Callable[[], nn.Module]] = {  # they take a result before it is rounded, where they can
    "relu": lambda: Quantizer(lower=0.0),
    "relu6": lambda: Quantizer(lower=0.0, upper=6.0),
    "hardswish": QuantizedHardswish,
    "silu": QuantizedSiLU,
    "quantize": Quantizer,
}

_NEW_SCALE = frozenset({"add", "sub", "mul", "concat", "mean", "adaptive_avg_pool2d"})
_SAME_SCALE = frozenset({"avg_pool2d"})
_UNIT_SCALE = frozenset({"sigmoid", "softmax"})
_KEEPS = frozenset(
    {"reshape", "permute", "identity", "dropout", "max_pool2d", "adaptive_max_pool2d", "max", "select", "slice"}
    | {"split", "unbind", "expand", "dequantize"}
)


def keeps_scale(kind: str, call: Call) -> bool:
    """Whether the results are among the numbers that are read, so that they need no scale of their own."""
    if kind == "pad":
        return bool(call["mode"] != "constant" or call["value"] == 0.0)
    if kind == "resize":
        return bool(call["mode"] == "nearest")
    return kind in _KEEPS


def result_quantizer(kind: str, call: Call) -> Quantizer:
    """A new quantizer for the result of an operator that is no activation and moves more than numbers.

    The mean of a whole image has a scale of its own; means of windows have the input's, as integer kernels want it.
    """
    if kind in _UNIT_SCALE:
        return UnitQuantizer()
    of_windows = kind == "adaptive_avg_pool2d" and call["output_size"] != (1, 1)
    return InputQuantizer() if kind in _SAME_SCALE or of_windows else Quantizer()


def has_integer_form(kind: str, call: Call) -> bool:
    """Whether an operator is computed on integers; otherwise it is float between dequantize and quantize."""
    known = kind in WEIGHTED or kind in ACTIVATIONS or kind in _NEW_SCALE | _SAME_SCALE | _UNIT_SCALE
    return known or keeps_scale(kind, call)
