"""Which precisions there are: their names, and what numbers weights and activations are.

Data alone, so that everybody may read it; what a device makes of a precision is in `hwnas.precisions`. Must never know
torch, arrays, a runtime or a file.
"""

from __future__ import annotations

from collections.abc import Mapping
from dataclasses import dataclass
from types import MappingProxyType

EXACT = "fp32"  # what torch computes in
INTEGERS = "int8"  # where no others are named
WITHOUT_VNNI = "int8-w7"  # what takes their place where sums in 16 bits would saturate on weights of 8
_STORED_BITS = {"float32": 32, "float16": 16, "bfloat16": 16, "int8": 8, "8-bit": 8, "int4": 4}


@dataclass(frozen=True, slots=True, kw_only=True)
class NumberFormat:
    """How numbers are kept.

    Attributes:
        dtype: numpy's name of what holds one: `float32`, `int8`; `8-bit` where the runtime decides the sign.
        bits: of it that are used.
        per: what shares one scale: `tensor`, `channel` or `group`; "" for floats, which have none.
        group: neighbours along the inputs of a channel that share one scale, where it is shared by groups.
        symmetric: the zero point is always 0. None where the runtime decides (`Runtime.quantization`), and for floats.
    """

    dtype: str
    bits: int
    per: str = ""
    group: int | None = None
    symmetric: bool | None = None

    @property
    def quant_max(self) -> int:
        """The largest quantized value of integers around 0: 127 of 8 bits, 63 of 7."""
        return (1 << (self.bits - 1)) - 1

    def bytes_of(self, count: int) -> int:
        """That so many take in memory, packed."""
        return -(-count * _STORED_BITS[self.dtype] // 8)

    def scales_of(self, count: int, *, channels: int, tensors: int) -> int:
        """How many scales so many numbers have.

        Args:
            count: of the numbers.
            channels: of their tensors, all together.
            tensors: of which they are.
        """
        match self.per:
            case "tensor":
                return tensors
            case "channel":
                return channels
            case "group":
                assert self.group is not None
                return -(-count // self.group)
        return 0


@dataclass(frozen=True, slots=True, kw_only=True)
class Precision:
    """What a block computes in.

    Attributes:
        name: in blocks, tables, manifests and reports.
        offered_as: which of `hwnas.types.PRECISIONS` allows it too: its numbers between blocks are of that kind.
        weights: their format.
        activations: their format, as they pass from one block to the next.
        note: why a device computes in it though something else was asked for; "" where it is only if asked for.
    """

    name: str
    offered_as: str
    weights: NumberFormat
    activations: NumberFormat
    note: str = ""

    @property
    def quantized(self) -> bool:
        """Whether its numbers are integers with a scale, activations too."""
        return bool(self.activations.per)

    @property
    def rounds(self) -> bool:
        """Whether weights are integers with a scale, whatever the activations are."""
        return bool(self.weights.per)


def _float(name: str, dtype: str, bits: int, note: str = "") -> Precision:
    kept = NumberFormat(dtype=dtype, bits=bits)
    return Precision(name=name, offered_as=EXACT, weights=kept, activations=kept, note=note)


def _integer(name: str, *, weight_bits: int = 8, per: str = "channel", note: str = "") -> Precision:
    return Precision(
        name=name,
        offered_as=INTEGERS,
        weights=NumberFormat(dtype="int8", bits=weight_bits, per=per, symmetric=True),
        activations=NumberFormat(dtype="8-bit", bits=8, per="tensor"),
        note=note,
    )


_IN_ORDER = (  # the most exact first
    _float(EXACT, "float32", 32),
    # sign, 8 bits of exponent, 10 of mantissa: in the multiplier; in memory they stay float32
    _float("tf32", "float32", 19, "floats, with the factors of products rounded to 11 significant bits"),
    _float("fp16", "float16", 16, "floats of half precision: 11 significant bits"),
    _float("bf16", "bfloat16", 16, "floats of 8 significant bits"),
    _integer(INTEGERS),
    _integer("int8-pt", per="tensor"),
    _integer(
        WITHOUT_VNNI,
        weight_bits=7,
        note="int8 with weights of 7 bits: this processor has neither AVX512-VNNI nor AVX-VNNI, and without them the "
        "runtime's 16-bit sums saturate on weights of 8",
    ),
    Precision(
        name="int4w",
        offered_as=EXACT,
        weights=NumberFormat(dtype="int4", bits=4, per="group", group=32, symmetric=True),
        activations=NumberFormat(dtype="float32", bits=32),
    ),
)
KNOWN: Mapping[str, Precision] = MappingProxyType({p.name: p for p in _IN_ORDER})
