"""Reads from OpenVINO's runtime graph which layers run, and in which type they compute.

Knows the notes OpenVINO leaves on the nodes of that graph; never a session or a file.
"""

from __future__ import annotations

from collections import Counter
from collections.abc import Iterable
from typing import Any

_IDLE = ("Const", "Input", "Output", "Parameter", "Result")  # tensors that are there, not work
_CONVOLUTIONS = ("Convolution", "GroupConvolution", "FullyConnected", "MatMul")  # where int8 must not fall to float
_INTEGERS = ("i8", "u8")
_TYPES = frozenset({*_INTEGERS, "i32", "i64", "f32", "f16", "bf16"})


def layer_counts(layers: Iterable[Any]) -> Counter[str]:
    """`Convolution_i8` -> how many of them run; what OpenVINO does in place is left out."""
    return Counter(f"{kind}_{computes_in}" for _, kind, computes_in in _work(layers))


def float_convolutions(layers: Iterable[Any]) -> tuple[str, ...]:
    """Convolutions and linear layers that compute in float, by the first name they had in the file."""
    return tuple(
        name for name, kind, computes_in in _work(layers) if kind in _CONVOLUTIONS and computes_in not in _INTEGERS
    )


def _work(layers: Iterable[Any]) -> Iterable[tuple[str, str, str]]:
    """(name, kind, type it computes in) of each layer that runs."""
    for layer in layers:
        notes = layer.get_rt_info()
        kind, primitive = _note(notes, "layerType"), _note(notes, "primitiveType")
        if kind in _IDLE or primitive.startswith("unknown"):  # OpenVINO's word for nothing to compute
            continue
        # `brgconv_avx512_dw_I8` ends with what the kernel computes in; where it does not, the tensors' type is known
        ending = primitive.rpartition("_")[2].lower()
        computes_in = ending if ending in _TYPES else _note(notes, "runtimePrecision").lower()
        name = _note(notes, "originalLayersNames").partition(",")[0] or layer.get_friendly_name()
        yield name, kind, computes_in or "unknown"


def _note(notes: Any, key: str) -> str:
    return str(notes[key].astype(str)) if key in notes else ""
