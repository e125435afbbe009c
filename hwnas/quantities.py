"""Numbers as people read them: the unit beside the number, three digits that count.

The project's names carry their units (`latency_ms`, `size_bytes`), so a metric's name tells how to write it.
Knows names and numbers, nothing of what is reported.
"""

from __future__ import annotations

import math
from dataclasses import dataclass
from decimal import Decimal

from hwnas.allowed import EVALUATED, Allowed
from hwnas.limits import Limit, as_limits

NBSP = "\u00a0"  # keeps a number and its unit on one line
UPPER = "_upper"  # `latency_ms_upper` bounds `latency_ms`
_SUFFIXES = {"_ms": "ms", "_mj": "mJ", "_s": "s", "_bytes": "B"}
_SMALL = {"ms": "µs", "mJ": "µJ"}  # a thousandth of it
_SMALL_BELOW = 0.1
_COUNTS = ("macs", "parameters", "params", "flops")
_NAMES = {
    "macs": "MACs",
    "params": "parameters",
    "flops": "FLOPs",
    "agreement": "agreement with the given network",
    "macro_f1": "macro F1",
    "mean_iou": "mean IoU",
    "r2": "R²",
    "mae": "mean absolute error",
    "rmse": "root mean square error",
    "top5": "top-5 accuracy",
}
_SHARES = ("exact_match", "label_accuracy", "pixel_accuracy")
_PREFIXES = ((1e9, "G"), (1e6, "M"), (1e3, "k"))
_WORDS = ((1e9, "billion"), (1e6, "million"))
_EXACT_UNITS = {  # as they end a quantity -> how much of the metric's own unit each is
    **{unit: Decimal("0.001") for unit in _SMALL.values()},
    **{word: Decimal(int(size)) for size, word in _WORDS},
    **{f"{prefix}B": Decimal(int(size)) for size, prefix in _PREFIXES},
    "%": Decimal("0.01"),
}
_SUPERSCRIPT = str.maketrans("-0123456789", "⁻⁰¹²³⁴⁵⁶⁷⁸⁹")


@dataclass(frozen=True, slots=True, kw_only=True)
class Scale:
    """How a metric is drawn on an axis.

    Attributes:
        label: the metric's name with its unit: `latency (ms)`.
        factor: what its values are multiplied with.
    """

    label: str
    factor: float


def is_metric(name: str) -> bool:
    """Whether a name tells how its numbers are written."""
    return name.removesuffix(UPPER) in _COUNTS or bool(_unit(name.removesuffix(UPPER)))


def metric_name(metric: str) -> str:
    """`peak_memory_bytes` -> `peak memory`, `my-pi.latency_ms` -> `latency on my-pi`: the name without its unit."""
    if metric.endswith(UPPER):
        return f"{metric_name(metric.removesuffix(UPPER))}, upper bound"
    device, dot, own = metric.rpartition(".")
    if dot:
        return f"{metric_name(own)} on {device.removesuffix('.toml').rpartition('/')[2]}"
    if metric in _NAMES:
        return _NAMES[metric]
    for suffix in _SUFFIXES:
        metric = metric.removesuffix(suffix)
    return metric.replace("_", " ")


def capitalised(text: str) -> str:
    """With a capital at its beginning, all else as it is: `Mean IoU`."""
    return text[:1].upper() + text[1:]


def scale_of(metric: str, largest: float) -> Scale:
    """The unit in which values up to `largest` are shown on one axis."""
    name, unit = metric_name(metric), _unit(metric)
    if unit == "%":
        return Scale(label=f"{name} (%)", factor=100.0)
    if unit == "B" or metric in _COUNTS:
        size, prefix = _prefix(largest)
        unit = prefix + unit if unit else {"M": "millions", "k": "thousands", "G": "billions"}.get(prefix, "")
        return Scale(label=f"{name} ({unit})" if unit else name, factor=1 / size)
    return Scale(label=f"{name} ({unit})" if unit else name, factor=1.0)


def quantity(metric: str, value: float) -> str:
    """A value with its unit: `0.482 ms`, `25.4 µs`, `61.3 kB`, `1.2 million`, `98.3 %`; "not known" if not finite."""
    if not math.isfinite(value):
        return "not known"
    metric = metric.removesuffix(UPPER)
    unit = _unit(metric)
    if unit == "%":
        return percent(value)
    if unit == "B":
        size, prefix = _prefix(value)
        return f"{digits(value / size)}{NBSP}{prefix}B"
    if metric in _COUNTS:
        size, word = next(((size, word) for size, word in _WORDS if abs(value) >= size), (1.0, ""))
        return f"{digits(value / size)}{NBSP}{word}" if word else f"{value:,.0f}"
    if unit in _SMALL and 0 < abs(value) < _SMALL_BELOW:
        return f"{digits(1000 * value)}{NBSP}{_SMALL[unit]}"
    return f"{digits(value)}{NBSP}{unit}".rstrip(NBSP)


def limit_text(limit: Limit) -> str:
    """`at most 0.6 ms`, or `at least 98.0 %` where the limit is a floor."""
    return f"at {'least' if limit.floor else 'most'} {quantity(limit.metric, limit.value)}"


def allowed_text(metric: str, allowed: Allowed) -> str:
    """`at least 0.4 ms and at most 0.6 ms`: what a metric is allowed, a number being the most."""
    return " and ".join(map(limit_text, as_limits({metric: allowed})))


def exact_quantity(metric: str, value: float) -> str:
    """A value as it was given, with its unit and all of its digits: `12.345 µs`, `80.01 %`, `300 kB`.

    Two values that differ read differently, as those of limits must.
    """
    rounded, exact = quantity(metric, value), Decimal(repr(float(value)))
    for unit, size in _EXACT_UNITS.items():
        if rounded.endswith(f"{NBSP}{unit}"):
            return f"{_plain(exact / size)}{NBSP}{unit}"
    return f"{_plain(exact)}{NBSP}{_unit(metric)}".rstrip(NBSP)


def _plain(value: Decimal) -> str:
    text = f"{value:f}"
    return (text.rstrip("0").rstrip(".") if "." in text else text) or "0"


def difference(metric: str, value: float) -> str:
    """A difference of two values: `0.9 points` of an accuracy, else as `quantity`."""
    return f"{100 * value:.1f}{NBSP}points" if _unit(metric) == "%" else quantity(metric, value)


def compared(metric: str, value: float | None, limit: float | None) -> str:
    """A value beside its limit, in the unit of the larger: `36.4 / 51.9 µs`; `-` for what is not known."""
    known = [v for v in (value, limit) if v is not None]
    if not known:
        return "-"
    shown = quantity(metric, max(known))
    for factor, unit in ((1.0, _unit(metric)), (1000.0, _SMALL.get(_unit(metric), ""))):
        if unit and shown.endswith(f"{NBSP}{unit}"):
            numbers = ["-" if v is None else digits(factor * v) for v in (value, limit)]
            return f"{numbers[0]}{f' / {numbers[1]}' if limit is not None else ''}{NBSP}{unit}"
    return " / ".join("-" if v is None else quantity(metric, v) for v in ([value] if limit is None else [value, limit]))


def count(n: int, noun: str) -> str:
    """`1 network`, `30 networks`."""
    return f"{n:,}{NBSP}{noun}{'' if n == 1 else 's'}"


def percent(share: float, *, decimals: int = 1, signed: bool = False) -> str:
    """A share as percent: 0.983 -> `98.3 %`."""
    sign = "+" if signed else ""
    return f"{100 * share:{sign}.{decimals}f}{NBSP}%".replace("-", "−")


def digits(value: float) -> str:
    """Three significant digits without an exponent where it can be: 0.482, 61.3, 1 240, 3.1 × 10⁻⁷."""
    if value == 0:
        return "0"
    size = math.floor(math.log10(abs(value)))
    if not -4 <= size < 9:
        mantissa, exponent = f"{value:.1e}".split("e")
        return f"{mantissa}{NBSP}×{NBSP}10{str(int(exponent)).translate(_SUPERSCRIPT)}".replace("-", "−")
    if size >= 3 or float(value).is_integer():
        return f"{value:,.0f}".replace(",", NBSP).replace("-", "−")
    return f"{value:.{max(0, 2 - size)}f}".replace("-", "−")


def wilson_interval(share: float, n: int) -> tuple[float, float]:
    """The 95 % confidence interval of a share seen in n samples (Wilson, 1927).

    Args:
        share: in [0, 1].
        n: at least 1.
    """
    z = 1.959964
    centre = (share + z * z / (2 * n)) / (1 + z * z / n)
    half = z / (1 + z * z / n) * math.sqrt(share * (1 - share) / n + z * z / (4 * n * n))
    return max(0.0, centre - half), min(1.0, centre + half)


def printable(text: str) -> str:
    """The text with a replacement for what no font and no page can hold."""
    return "".join(c if c.isprintable() or c == NBSP else "\ufffd" for c in text)


def _unit(metric: str) -> str:
    if metric.startswith((*EVALUATED, "top1", "top5")) or metric in _SHARES:
        return "%"
    return next((unit for suffix, unit in _SUFFIXES.items() if metric.endswith(suffix)), "")


def _prefix(value: float) -> tuple[float, str]:
    return next(((size, prefix) for size, prefix in _PREFIXES if abs(value) >= size), (1.0, ""))
