"""The precisions networks compute in, as data: their names, and what numbers weights and activations are.

A space offers and a description allows any of them by name. Where none is named they are `fp32` and `int8`
(`hwnas.types.PRECISIONS`), which stand for floats and 8-bit integers of any kind: what a device makes of the two may
be another precision (`hwnas.types.SubstitutesPrecisions`), which then has its own name everywhere, in blocks, tables,
manifests and reports. A name that a runtime does not compute in is refused. Must never know torch, a runtime or a file.
"""

from __future__ import annotations

from collections.abc import Iterable, Mapping
from types import MappingProxyType

from hwnas.errors import ConfigError, UnknownNameError
from hwnas.precision_data import EXACT, INTEGERS, KNOWN, WITHOUT_VNNI, Precision
from hwnas.types import PRECISIONS, Block, Device, Runtime, SubstitutesPrecisions

__all__ = [
    "CONVERSIONS",
    "DEQUANTIZE",
    "EXACT",
    "INTEGERS",
    "KNOWN",
    "QUANTIZE",
    "WITHOUT_VNNI",
    "Precision",
    "asked_as",
    "by_exactness",
    "check_supported",
    "computed_in",
    "gives_integers",
    "is_allowed",
    "is_conversion",
    "is_quantized",
    "offered_as",
    "precision",
    "simulated_as",
    "stands_for",
    "supported",
    "takes_integers",
]

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
    """Which of the two that are offered where none is named stands for a precision: `fp32` or `int8`.

    Raises:
        UnknownNameError: there is none of that name.
    """
    return precision(name).offered_as


def asked_as(name: str) -> str:
    """What to ask for to get a precision: what it takes the place of on some devices, else itself.

    Raises:
        UnknownNameError: there is none of that name.
    """
    found = precision(name)
    return found.offered_as if found.note else name


def stands_for(name: str, among: Iterable[str]) -> str:
    """Which of a space's precisions a block is trained in that is to compute in another: weights do not depend on it.

    Raises:
        UnknownNameError: a name is not known.
        ConfigError: the space has none of that kind.
    """
    offered = tuple(among)
    found = [other for other in offered if is_quantized(other) == is_quantized(name)]
    if not found:
        kind = "integers" if is_quantized(name) else "floats"
        raise ConfigError(f"the space has {', '.join(offered)}, and no {kind} that could be {name!r}")
    return name if name in found else found[0]


def is_allowed(name: str, device: Device) -> bool:
    """Whether a description allows a precision: by its name, or by the one that stands for all of its kind.

    Raises:
        UnknownNameError: there is none of that name.
    """
    return name in device.precisions or offered_as(name) in device.precisions


def simulated_as(name: str) -> str:
    """What torch computes a precision in when accuracy is measured: floats in single precision, integers as they are.

    Raises:
        UnknownNameError: there is none of that name.
    """
    return name if precision(name).rounds else EXACT


def by_exactness(names: Iterable[str]) -> tuple[str, ...]:
    """The most exact first.

    Raises:
        UnknownNameError: one is not known.
    """
    order = list(KNOWN)
    return tuple(sorted(names, key=lambda name: order.index(precision(name).name)))


def computed_in(runtime: Runtime, device: Device, context: Mapping[str, str]) -> dict[str, str]:
    """Each precision that may be asked for -> what the device computes it in.

    Those are `fp32` and `int8`, which a device may substitute, and what else its description allows, as it is.

    Args:
        runtime: the device's adapter.
        device: the description.
        context: what the runtime says of the machine it runs on, as far as it is known.
    """
    found = runtime.substitutes(device, context) if isinstance(runtime, SubstitutesPrecisions) else {}
    return {name: found.get(name, name) for name in (*PRECISIONS, *device.precisions)}


def supported(runtime: Runtime, device: Device, context: Mapping[str, str]) -> tuple[str, ...]:
    """What the runtime computes in on this device, the most exact first.

    Of plain floats that is the one it computes `fp32` in. Where it substitutes `int8` by weights of fewer bits,
    because its sums saturate, nothing with weights of more bits is computed as it should be.

    Args:
        runtime: the device's adapter.
        device: the description.
        context: what the runtime says of the machine it runs on, as far as it is known.
    """
    computed = computed_in(runtime, device, context)

    def is_computed(name: str) -> bool:
        asked, instead = KNOWN[name], KNOWN[computed[KNOWN[name].offered_as]]
        if asked.rounds:  # weights alone (`int4w`) are rounded for products of floats, in which no sum saturates
            return not asked.quantized or asked.weights.bits <= instead.weights.bits
        return asked is instead

    return by_exactness(name for name in runtime.precisions if name in KNOWN and is_computed(name))


def check_supported(
    names: Iterable[str], *, runtime: Runtime, device: Device, context: Mapping[str, str] = MappingProxyType({})
) -> None:
    """Refuse what a runtime does not compute on a device, rather than let it compute something else.

    Args:
        names: of precisions that are asked for.
        runtime: the device's adapter.
        device: the description.
        context: what the runtime says of the machine it runs on, as far as it is known.

    Raises:
        ConfigError: one of them is not computed there; says which are.
        UnknownNameError: one is not known.
    """
    computed, known = computed_in(runtime, device, context), supported(runtime, device, context)
    for name in names:
        if computed.get(name, precision(name).name) in known:
            continue
        raise ConfigError(
            f"runtime {device.runtime!r} does not compute in {name!r} on device {device.name!r}; it supports there: "
            f"{', '.join(known) or 'nothing'}{_elsewhere(name, runtime)}"
        )


def _elsewhere(name: str, runtime: Runtime) -> str:
    return f" ({name!r} with other options or on another processor)" if name in runtime.precisions else ""
