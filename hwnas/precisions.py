"""The precisions networks compute in, as data: their names, and what numbers weights and activations are.

A space offers `fp32` and `int8`, and a description allows them (`hwnas.types.PRECISIONS`). What a device makes of
the two may be another precision, which then has its own name everywhere: in blocks, tables, manifests and reports.
The runtime's adapter says so (`hwnas.types.SubstitutesPrecisions`). Must never know torch, a runtime or a file.
"""

from __future__ import annotations

from collections.abc import Iterable, Mapping
from dataclasses import dataclass
from types import MappingProxyType

from hwnas.errors import UnknownNameError
from hwnas.types import PRECISIONS, Block, Device, Runtime, SubstitutesPrecisions

_BYTES = {"float32": 4, "float16": 2, "bfloat16": 2, "int8": 1, "8-bit": 1}


@dataclass(frozen=True, slots=True, kw_only=True)
class NumberFormat:
    """How numbers are kept.

    Attributes:
        dtype: numpy's name of what holds one: `float32`, `int8`; `8-bit` where the runtime decides the sign.
        bits: of it that are used.
        per: what shares one scale: `tensor` or `channel`; "" for floats, which have none.
        symmetric: the zero point is always 0. None where the runtime decides (`Runtime.quantization`), and for floats.
    """

    dtype: str
    bits: int
    per: str = ""
    symmetric: bool | None = None

    @property
    def bytes(self) -> int:
        """That one takes in memory."""
        return _BYTES[self.dtype]


@dataclass(frozen=True, slots=True, kw_only=True)
class Precision:
    """What a block computes in.

    Attributes:
        name: in blocks, tables, manifests and reports.
        offered_as: what spaces and descriptions call it: one of `hwnas.types.PRECISIONS`.
        weights: their format.
        activations: their format, as they pass from one block to the next.
        note: why a device computes in it though something else was offered; "" for what is offered itself.
    """

    name: str
    offered_as: str
    weights: NumberFormat
    activations: NumberFormat
    note: str = ""

    @property
    def quantized(self) -> bool:
        """Whether its numbers are integers with a scale."""
        return bool(self.activations.per)

    @property
    def largest_weight(self) -> int:
        """The largest level of a quantized weight: 127 of 8 bits, 63 of 7."""
        return (1 << (self.weights.bits - 1)) - 1


def _float(name: str, dtype: str, bits: int, note: str = "") -> Precision:
    kept = NumberFormat(dtype=dtype, bits=bits)
    return Precision(name=name, offered_as="fp32", weights=kept, activations=kept, note=note)


def _integer(name: str, *, weight_bits: int, note: str = "") -> Precision:
    return Precision(
        name=name,
        offered_as="int8",
        weights=NumberFormat(dtype="int8", bits=weight_bits, per="channel", symmetric=True),
        activations=NumberFormat(dtype="8-bit", bits=8, per="tensor"),
        note=note,
    )


_IN_ORDER = (  # the most exact first
    _float("fp32", "float32", 32),
    _float("tf32", "float32", 19, "floats, with the factors of products rounded to 11 significant bits"),
    _float("fp16", "float16", 16, "floats of half precision: 11 significant bits"),
    _float("bf16", "bfloat16", 16, "floats of 8 significant bits"),
    _integer("int8", weight_bits=8),
    _integer(
        "int8-w7",
        weight_bits=7,
        note="int8 with weights of 7 bits: this processor has neither AVX512-VNNI nor AVX-VNNI, and without them the "
        "runtime's 16-bit sums saturate on weights of 8",
    ),
)
KNOWN: Mapping[str, Precision] = MappingProxyType({p.name: p for p in _IN_ORDER})
EXACT = "fp32"  # what torch computes in
QUANTIZE, DEQUANTIZE = "quantize", "dequantize"  # kinds of blocks, and of operators, between two precisions
CONVERSIONS = frozenset({QUANTIZE, DEQUANTIZE})


def precision(name: str) -> Precision:
    """The precision of that name.

    Raises:
        UnknownNameError: there is none; lists those there are.
    """
    if name not in KNOWN:
        raise UnknownNameError("precision", name, tuple(KNOWN))
    return KNOWN[name]


def is_quantized(name: str) -> bool:
    """Whether a precision's numbers are integers with a scale.

    Raises:
        UnknownNameError: there is none of that name.
    """
    return precision(name).quantized


def is_conversion(kind: str) -> bool:
    """Whether a block or an operator of this kind only changes the precision of what passes through it."""
    return kind in CONVERSIONS


def takes_integers(block: Block) -> bool:
    """Whether integers enter a block: one that is quantized, but for the one that makes them.

    Raises:
        UnknownNameError: its precision is not known.
    """
    return is_quantized(block.precision) and block.kind != QUANTIZE


def gives_integers(block: Block) -> bool:
    """Whether integers leave a block: one that is quantized, but for the one that makes values of them.

    Raises:
        UnknownNameError: its precision is not known.
    """
    return is_quantized(block.precision) and block.kind != DEQUANTIZE


def offered_as(name: str) -> str:
    """What spaces and descriptions call a precision: `fp32` for every float, `int8` for every 8-bit integer.

    Raises:
        UnknownNameError: there is none of that name.
    """
    return precision(name).offered_as


def simulated_as(name: str) -> str:
    """What torch computes a precision in when accuracy is measured: floats in single precision, integers as they are.

    Raises:
        UnknownNameError: there is none of that name.
    """
    return name if is_quantized(name) else EXACT


def by_exactness(names: Iterable[str]) -> tuple[str, ...]:
    """The most exact first.

    Raises:
        UnknownNameError: one is not known.
    """
    order = list(KNOWN)
    return tuple(sorted(names, key=lambda name: order.index(precision(name).name)))


def computed_in(runtime: Runtime, device: Device, context: Mapping[str, str]) -> dict[str, str]:
    """Each precision a space may offer -> what the device computes it in.

    Args:
        runtime: the device's adapter.
        device: the description.
        context: what the runtime says of the machine it runs on, as far as it is known.
    """
    found = runtime.substitutes(device, context) if isinstance(runtime, SubstitutesPrecisions) else {}
    return {name: found.get(name, name) for name in PRECISIONS}
