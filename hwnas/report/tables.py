"""What was promised and what was found, as rows of text for the page.

Every number says whether it is measured or estimated. Knows manifests and studies, not pages.
"""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from dataclasses import dataclass
from typing import Any

from hwnas.allowed import ACCURACY, AGREEMENT, EVALUATED
from hwnas.cost.quality import PredictionQuality
from hwnas.deployment import Manifest, Measured, Parity, TensorInfo
from hwnas.limits import as_limits
from hwnas.precisions import EXACT, is_quantized
from hwnas.quantities import UPPER, digits, limit_text, metric_name, percent, quantity, wilson_interval
from hwnas.report.inputs import BlockShare, PredictionPoint, ReportInputs
from hwnas.spaces.kinds import block_summary, is_region
from hwnas.types import Block

_ESTIMATED = "estimated"


@dataclass(frozen=True, slots=True, kw_only=True)
class Promise:
    """One metric of the deployed network.

    Attributes:
        name: for people.
        limit: `at most 0.600 ms`, empty if there is none.
        predicted: with its unit, empty if it was not predicted.
        upper: upper bound of the prediction, empty if it has none.
        source: where the prediction comes from.
        found: measured value with its unit, empty if it was not measured.
        how: how it was measured.
        error: of the prediction against what was found: `2.1 % too low`; empty if there is no such pair.
        kept: whether the limit is kept, by what was found or else by the upper bound; None without a limit.
    """

    name: str
    limit: str
    predicted: str
    upper: str
    source: str
    found: str
    how: str
    error: str
    kept: bool | None


@dataclass(frozen=True, slots=True, kw_only=True)
class AccuracyRow:
    """Top-1 accuracy of one form of the network. `interval` is the 95 % confidence interval of `test`."""

    name: str
    validation: str
    test: str
    interval: str
    ships: bool


@dataclass(frozen=True, slots=True, kw_only=True)
class TextTable:
    """A table of text: as many cells a row as there are headers."""

    headers: tuple[str, ...]
    rows: tuple[tuple[str, ...], ...]


def promises(inputs: ReportInputs) -> tuple[Promise, ...]:
    """A row for each metric with a limit, a prediction or a measurement; limited ones first."""
    manifest = inputs.manifest
    # upper bounds stand beside their metric, not in rows of their own
    predicted = [m for m in manifest.predicted if not m.endswith(UPPER)]
    # first what was promised: a reader asks for that
    metrics = dict.fromkeys([*manifest.limits, "latency_ms", "size_bytes", *predicted, *manifest.measured.costs])
    return tuple(_promise(inputs, metric) for metric in metrics)


def _promise(inputs: ReportInputs, metric: str) -> Promise:
    manifest = inputs.manifest
    predicted, upper = manifest.predicted.get(metric), manifest.predicted.get(metric + UPPER)
    asked = {metric: manifest.limits[metric]} if metric in manifest.limits else {}
    limits, (found, how) = as_limits(asked, inputs.study.directions), _found(manifest, metric)
    # a limit from below is not kept by an upper bound
    promised = [predicted if upper is None or limit.floor else upper for limit in limits]
    decisive = [bound if found is None else found for bound in promised]
    kept = [limit.is_kept_by(v) for limit, v in zip(limits, decisive, strict=True) if v is not None]
    return Promise(
        name=metric_name(metric),
        limit=" and ".join(map(limit_text, limits)),
        predicted="" if predicted is None else quantity(metric, predicted),
        upper="" if upper is None else quantity(metric, upper),
        source=inputs.sources.get(metric, inputs.study.sources.get(metric, _ESTIMATED)),
        found="" if found is None else quantity(metric, found),
        how=how,
        # accuracy is predicted on validation images and found on test images: their difference is no error
        error=_error(predicted, found) if metric not in EVALUATED else "",
        kept=all(kept) if kept else None,
    )


def _found(manifest: Manifest, metric: str) -> tuple[float | None, str]:
    """What was measured on the artefact, and how; None if nothing was."""
    measured = manifest.measured
    if metric in measured.costs:
        return measured.costs[metric], measured.source
    if metric == "latency_ms" and measured.source != "measured":
        return measured.latency_ms.minimum, measured.source
    if metric == "latency_ms":
        return manifest.measured.latency_ms.minimum, f"measured, minimum, {manifest.measured.latency_ms.n} rounds"
    if metric == "size_bytes":
        return float(manifest.artefact.size_bytes), "measured, the file"
    if metric == manifest.accuracy.metric:
        return (
            manifest.accuracy.test_runtime,
            f"measured, {manifest.runtime} on {manifest.accuracy.n_test} test {manifest.input.what}",
        )
    return None, ""


def _error(predicted: float | None, found: float | None) -> str:
    if predicted is None or not found:
        return ""
    error = predicted / found - 1
    # below half of the last digit that is shown: 0.0 % would read as a rounded error
    return f"{percent(abs(error))} too {'high' if error > 0 else 'low'}" if abs(error) >= 0.0005 else "exact"


def drift_text(drift: float) -> str:
    """What the drift anchor said about the machine."""
    change = drift - 1
    if abs(change) < 0.0005:
        return "as fast as when its table was measured"
    return f"{percent(abs(change))} {'slower' if change > 0 else 'faster'} than when its table was measured; corrected"


def phase_facts(measured: Measured) -> tuple[tuple[str, str], ...]:
    """How far to believe the minimum; nothing in a manifest that does not tell."""
    share, drift = measured.latency_ms.phase_share, measured.latency_ms.phase_drift
    if share is None or drift is None:
        return ()
    seen = f"in {percent(share, decimals=0)} of the rounds" if share else "never steady; the median of all rounds"
    looks = "" if measured.looks == 1 else f"; of {measured.looks} looks"
    return (("Minimum was seen", f"{seen}{looks}"), ("The machine then was", drift_text(drift)))


def accuracies(manifest: Manifest) -> tuple[AccuracyRow, ...]:
    """How good the network is in fp32 and as it ships, computed by torch and by the runtime."""
    a, precision = manifest.accuracy, manifest.precision
    rows: list[tuple[str, float | None, float]] = [("torch, fp32", a.validation_fp32, a.test_fp32)]
    if is_quantized(precision):
        rows.append((f"torch, {precision}", a.validation_torch, a.test_torch))
    rows.append((f"{manifest.runtime}, {precision}", None, a.test_runtime))
    last = len(rows) - 1
    return tuple(
        AccuracyRow(
            name=name,
            validation="" if validation is None else percent(validation),
            test=percent(test),
            interval=" to ".join(percent(end) for end in _interval(manifest, test)),
            ships=i == last,
        )
        for i, (name, validation, test) in enumerate(rows)
    )


def _interval(manifest: Manifest, value: float) -> tuple[float, ...]:
    """Where the value would lie on other samples, in 95 of 100 cases; nothing where nobody measured it."""
    a = manifest.accuracy
    if manifest.output.task == "classification" and a.metric in (ACCURACY, AGREEMENT):
        return wilson_interval(value, max(1, a.n_test))
    return (
        () if a.standard_error is None else (value - 1.96 * a.standard_error, min(1.0, value + 1.96 * a.standard_error))
    )


def class_facts(manifest: Manifest) -> tuple[tuple[str, str], ...]:
    """How the classes fare together; empty where nothing is known by class."""
    by_class, by_pixel = manifest.accuracy.by_class, manifest.accuracy.by_pixel
    if by_pixel is not None:
        share = f"{percent(by_pixel.majority_share)} of the pixels ({by_pixel.majority})"
        return (("Naming the largest class for every pixel", f"{percent(by_pixel.majority_iou)} mean IoU; {share}"),)
    if by_class is None:
        return ()
    return (
        ("Mean recall of the classes (balanced accuracy)", percent(by_class.balanced_accuracy)),
        ("Naming the largest class for every image", f"{percent(by_class.majority_share)} ({by_class.majority})"),
    )


def pixels(manifest: Manifest) -> TextTable:
    """How the pixels of each class fare, the worst class first; no rows where there are no masks."""
    by_pixel = manifest.accuracy.by_pixel
    classes = [] if by_pixel is None else [c for c in by_pixel.classes if c.iou is not None]
    rows = [
        (
            c.name,
            percent(c.iou or 0.0),
            f"{c.n:,}",
            percent(c.found / c.n) if c.n else "none there",
            percent(c.found / c.said) if c.said else "never said",
        )
        for c in sorted(classes, key=lambda c: c.iou or 0.0)
    ]
    return TextTable(
        headers=("Class", "IoU", "Pixels", "Found (recall)", "Right where said (precision)"), rows=tuple(rows)
    )


def qualities(points: Sequence[PredictionPoint]) -> TextTable:
    """The prediction's error on held-out networks, one column a precision; no columns if none was held out.

    Raises:
        ValueError: a prediction is not finite, or a measurement not positive and finite.
    """
    names = ("Mean error", "Largest error", "Bias", "Within 5 %", "Within 10 %", "Rank correlation, Kendall’s τ")
    headers, columns = ["Held-out networks"], [names]
    # held-out networks alone: those the fit has seen would flatter it
    for precision in sorted({p.precision for p in points if p.held_out}):
        of = [p for p in points if p.held_out and p.precision == precision]
        q = PredictionQuality.of([p.predicted_ms for p in of], [p.measured_ms for p in of])
        headers.append(f"{q.n} in {precision}")
        columns.append(
            (
                percent(q.mean_abs_error_percent / 100),
                percent(q.max_abs_error_percent / 100),
                percent(q.bias_percent / 100, signed=True),
                percent(q.within_5, decimals=0),
                percent(q.within_10, decimals=0),
                "not defined" if q.kendall_tau is None else f"{q.kendall_tau:.3f}",
            )
        )
    return TextTable(headers=tuple(headers), rows=tuple(zip(*columns, strict=True)) if len(columns) > 1 else ())


def rejected(manifest: Manifest) -> TextTable:
    """Candidates that were exported, measured and not returned, and why; architectures left out."""
    flat = [dict(_flat(candidate)) for candidate in manifest.rejected]
    # in the order met: candidates of one export have nearly the same
    keys = list(dict.fromkeys(key for row in flat for key in row))
    if "reason" in keys:  # beside what names the candidate: on a phone the rest is out of sight
        keys.remove("reason")
        keys.insert(1, "reason")
    return TextTable(
        headers=tuple(_header(key) for key in keys),
        rows=tuple(tuple(_cell(key, row.get(key, "")) for key in keys) for row in flat),
    )


def outputs(manifest: Manifest) -> list[str]:
    """Several outputs, each with its name, its shape and how the file has it; none of a network of one."""
    pairs = zip(manifest.output.parts, manifest.artefact.outputs, strict=True)
    return [f"{info.part}{stored_as(tensor, info.shape)}" for info, tensor in pairs]


def stored_as(tensor: TensorInfo, shape: Sequence[int] = ()) -> str:
    """How canonical float32 values become an artefact's own tensor; empty if they are it already.

    Args:
        tensor: of the artefact.
        shape: of one sample: a series has two axes, (C, L).
    """
    parts = [f"laid out {'(L, C)' if len(shape) == 2 else '(H, W, C)'}"] if tensor.layout == "NHWC" else []
    if not tensor.dtype.startswith("float"):
        # a minus sign, not a hyphen, as a formula has it
        zero_point = f"{tensor.zero_point:+d}".replace("-", "−")
        parts.append(f"as {tensor.dtype}: round(x / {tensor.scale:.7g}) {zero_point}")
    return "".join(f", {part}" for part in parts)


def steps(manifest: Manifest) -> tuple[str, ...]:
    """From an image to the input, step by step, in words; empty where the manifest does not hold them."""
    return tuple(step.describe() for step in manifest.preprocessing.steps) if manifest.preprocessing is not None else ()


def speedup(manifest: Manifest) -> tuple[tuple[str, str], ...]:
    """The network against its own float form."""
    comparison = manifest.precision_speedup
    if comparison is None:
        return ()
    speed = f"{quantity('latency_ms', comparison.latency_ms)}, {comparison.speedup:.2f} times as fast"
    return (
        (f"The same network in {comparison.against}", quantity("latency_ms", comparison.float_latency_ms)),
        (f"In {manifest.precision}", speed),
    )


def slow_blocks(manifest: Manifest, shares: Sequence[BlockShare]) -> TextTable:
    """The quantized blocks of a small speed-up, the most expensive first; no rows where the network's is enough.

    Args:
        manifest: of the deployment.
        shares: of its blocks, by which regions of a given network are called.
    """
    comparison = manifest.precision_speedup
    slots: dict[str, list[str]] = {}
    for share in shares:
        slots.setdefault(share.block.key, []).append(share.slot)
    rows = []
    for slow in comparison.slow_blocks if comparison is not None else ():
        block = Block.from_key(slow.block)
        of = block_summary(block)
        kernel = str(of.kernel_size) if of is not None and of.kernel_size else ""
        rows.append(
            (
                ", ".join(slots[slow.block]) if is_region(block) and slow.block in slots else block.kind,
                f"{kernel} × {kernel}" if kernel else "",
                " × ".join(map(str, block.in_shape)),
                " × ".join(map(str, block.out_shape)),
                f"{slow.count} ×",
                quantity("latency_ms", slow.latency_ms),
                "no such form" if slow.float_latency_ms is None else quantity("latency_ms", slow.float_latency_ms),
                "" if slow.float_latency_ms is None else f"{slow.float_latency_ms / slow.latency_ms:.2f} ×",
            )
        )
    against = comparison.against if comparison is not None else EXACT
    headers = ("Block", "Kernel", "Input", "Output", "In it", manifest.precision, against, "Speed-up")
    return TextTable(headers=headers, rows=tuple(rows))


def facts(values: Mapping[str, Any]) -> tuple[tuple[str, str], ...]:
    """Nested values as (name, text) pairs, in order."""
    return tuple((_header(key), _cell(key, value)) for key, value in _flat(values, skip=()))


def _flat(
    values: Mapping[str, Any], *, skip: Sequence[str] = ("architecture", "encoding"), prefix: str = ""
) -> list[tuple[str, Any]]:
    pairs: list[tuple[str, Any]] = []
    for key, value in values.items():
        if key in skip:
            continue
        if isinstance(value, Mapping):
            pairs += _flat(value, skip=skip, prefix=f"{prefix}{key}.")
        elif value is not None:
            pairs.append((prefix + str(key), value))
    return pairs


def _header(key: str) -> str:
    """`measured.latency_ms` -> `measured latency`."""
    *path, last = key.split(".")
    return " ".join([*(p.replace("_", " ") for p in path), metric_name(last)])


def _cell(key: str, value: object) -> str:
    if isinstance(value, bool):
        return "yes" if value else "no"
    if isinstance(value, float):
        return quantity(key.rpartition(".")[2], value)
    if isinstance(value, int):
        last = key.rpartition(".")[2]
        return quantity(last, value) if last.endswith("_bytes") else str(value)
    if isinstance(value, (list, tuple)):
        return ", ".join(_cell(key, v) for v in value)
    return str(value)


def parity(manifest: Manifest) -> tuple[tuple[str, str], ...]:
    """How the runtime's outputs agree with torch's."""
    p = manifest.parity
    return (
        (
            {"prediction": "Same class as torch"}.get(p.decides, f"Same {p.decides}s as torch"),
            _agreement(p, what=manifest.input.what),
        ),
        (f"Largest difference of {'an output' if p.decides == 'value' else 'a logit'}", digits(p.max_abs_diff)),
        *([] if p.error_ratio is None else [("Distance from floats, over that of torch", digits(p.error_ratio))]),
    )


def _agreement(p: Parity, *, what: str) -> str:
    ties = f"; {p.near_ties} more are near-ties" if p.near_ties else ""
    decided = f"test {what}" if p.decides == "prediction" else f"{p.decides}s"
    return f"{percent(p.top1_agreement, decimals=2)} of {p.n} {decided}{ties}"
