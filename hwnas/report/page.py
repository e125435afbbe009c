"""The report: one page that explains itself, loads nothing and runs no script.

The same inputs give the same bytes. This module must never know how a number was obtained.
"""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import dataclass
from pathlib import Path
from typing import Any

import numpy as np

from hwnas.allowed import ACCURACY, AGREEMENT, Limits
from hwnas.files import write_whole
from hwnas.limits import ceiling
from hwnas.precisions import is_conversion
from hwnas.quantities import capitalised, count, digits, metric_name, percent, printable, quantity
from hwnas.report import architecture, confusions, figures, tables
from hwnas.report._template import render
from hwnas.report.inputs import ReportInputs
from hwnas.report.palette import DARK, LIGHT
from hwnas.report.svg import inline_svg
from hwnas.types import Block

COST = "latency_ms"
_FRONT_ROWS = 20  # in the table under the figure


@dataclass(frozen=True, slots=True, kw_only=True)
class Picture:
    """A figure with its words. `svg` is markup of ours; everything else is text."""

    title: str
    svg: str
    caption: str


def write_report(inputs: ReportInputs, path: Path) -> None:
    """Write the report as one file, whole.

    Raises:
        StudyError: the study has no trial of that number.
        OSError: the file cannot be written; an older one is untouched.
    """
    write_whole(Path(path), render_report(inputs).encode())


def render_report(inputs: ReportInputs) -> str:
    """The report as one HTML document.

    Raises:
        StudyError: the study has no trial of that number.
        ValueError: a prediction point or a block is not what it should be.
    """
    return render("report.html", _context(inputs))


def _context(inputs: ReportInputs) -> dict[str, Any]:
    m = inputs.manifest
    # without shares the slots' names are not known
    blocks = [(s.slot, s.block) for s in inputs.shares] or [("", Block.from_key(key)) for key in m.blocks]
    rows = tables.promises(inputs)
    return {
        "manifest": m,
        "light": dict(LIGHT),
        "dark": dict(DARK),
        "promises": rows,
        "missed": [row.name for row in rows if row.kept is False],
        "limited": any(row.kept is not None for row in rows),
        "latency": quantity(COST, m.measured.latency_ms.minimum),
        "latency_limit": "" if (most := ceiling(m.limits, COST)) is None else quantity(COST, most),
        "size": quantity("size_bytes", m.artefact.size_bytes),
        "test": percent(m.accuracy.test_runtime),
        "score": metric_name(m.accuracy.metric),
        "score_title": capitalised(metric_name(m.accuracy.metric))
        + (", top-1" if m.output.task == "classification" else ""),
        "also_measured": tuple((capitalised(metric_name(k)), quantity(k, v)) for k, v in m.accuracy.others.items()),
        "is_agreement": m.accuracy.metric == AGREEMENT,
        "is_accuracy": m.accuracy.metric == ACCURACY,
        "measurement": _measurement(inputs),
        "latency_warnings": m.latency_warnings(),
        "accuracies": tables.accuracies(m),
        "loss_points": _points(m.accuracy.test_fp32 - m.accuracy.test_runtime, metric=m.accuracy.metric),
        "parity": tables.parity(m),
        "by_class": m.accuracy.by_class,
        "class_warnings": m.accuracy.warnings(),
        "class_facts": tables.class_facts(m),
        "pixels": tables.pixels(m),
        "matrix": confusions.matrix(m.accuracy.by_class) if m.accuracy.by_class is not None else None,
        "worst": confusions.worst_confusions(m.accuracy.by_class, inputs.mistakes) if m.accuracy.by_class else (),
        "front": _front(inputs),
        "prediction": _prediction(inputs),
        "front_table": _front_table(inputs),
        "qualities": tables.qualities(inputs.points),
        "levels": architecture.levels(blocks),
        "activation": architecture.common_activation([b for _, b in blocks]),
        "n_blocks": sum(1 for _, b in blocks if not is_conversion(b.kind)),
        "shares": _shares(inputs),
        "history": _history(inputs),
        "choices": tables.facts(m.architecture),
        "rejected": tables.rejected(m),
        "speedup": tables.speedup(m),
        "slow_blocks": tables.slow_blocks(m, inputs.shares),
        "latency_source": m.measured.source,
        "steps": tables.steps(m),
        "batch": "N" if m.artefact.batch == "any" else m.artefact.batch or 1,
        "given": tables.stored_as(m.artefact.input, m.input.shape),
        "taken": tables.stored_as(m.artefact.output),
        "outputs": tables.outputs(m),
        "runs": tables.facts(m.runs),
        "context": tables.facts({**m.device.options, **m.device.context}),
        "provenance": tables.facts(m.provenance),
    }


def _measurement(inputs: ReportInputs) -> list[tuple[str, str]]:
    latency = inputs.manifest.measured.latency_ms
    return [
        ("Minimum", quantity(COST, latency.minimum)),
        ("Median", quantity(COST, latency.median)),
        ("90th percentile", quantity(COST, latency.p90)),
        ("Rounds", str(latency.n)),
        ("Spread of the rounds", percent(latency.cv)),
        ("The machine was", tables.drift_text(latency.drift)),
        *tables.phase_facts(inputs.manifest.measured),
        ("Median on the clock", quantity(COST, latency.raw_median)),
        ("Drift anchor", quantity(COST, inputs.manifest.reference_ms)),
    ]


def _points(loss: float, *, metric: str) -> str:
    """A loss in percentage points, before the name of what it is compared with."""
    if abs(loss) < 0.0005:  # shown as 0.0 points
        return {AGREEMENT: "agrees with it as much as", ACCURACY: "is as accurate as"}.get(metric, "is as good as")
    points = f"{abs(100 * loss):.1f}\u00a0points"
    if metric not in (ACCURACY, AGREEMENT):
        return f"is {points} {'worse' if loss > 0 else 'better'} than"
    points += " less" if loss > 0 else " more"
    return f"agrees with it {points} than" if metric == AGREEMENT else f"is {points} accurate than"


def _limits(inputs: ReportInputs) -> Limits:
    """The deployment's limits on what the study has values of."""
    return {m: v for m, v in inputs.manifest.limits.items() if m in inputs.study.values}


def _drawable(inputs: ReportInputs) -> bool:
    values, metric = inputs.study.values, inputs.study.ranked_by
    return metric in values and COST in values and bool(np.isfinite(values[metric] + values[COST]).any())


def _front(inputs: ReportInputs) -> Picture | None:
    if not _drawable(inputs):
        return None
    study, limits = inputs.study, _limits(inputs)
    metric = study.ranked_by
    figure = figures.front_figure(study, trial=inputs.trial, limits=limits, cost=COST)
    front = figures.front_rows(study, metric=metric, cost=COST, limits=limits)
    kept = f", {int(study.keeps(limits).sum())} within the limits" if limits else ""
    failed = f" {len(study.failed)} more could not be evaluated." if study.failed else ""
    sources = [f"{capitalised(metric_name(m))}: {_source(inputs, m)}." for m in (metric, COST)]
    caption = (
        f"{count(len(study), 'network')} evaluated on validation data{kept}; {len(front)} that no other beats in both. "
        f"{_chosen(inputs, front)}; its line ends at its upper bound.{failed} {' '.join(sources)}"
    )
    n = count(len(study), "network")
    label = f"Scatter of {metric_name(metric)} against latency of {n}; {len(front)} of them form the front."
    title = "What else there was"
    return Picture(title=title, svg=inline_svg(figure, name="front", label=label), caption=caption)


def _chosen(inputs: ReportInputs, front: Sequence[int]) -> str:
    """Which network was chosen and why, and why one that others beat, if it is one."""
    reason = printable(str(inputs.manifest.provenance.get("chosen", "")))
    chosen = f"Chosen: {reason}" if reason else f"The chosen one is trial {inputs.trial}"
    if inputs.trial in inputs.study.numbers[list(front)]:
        return chosen
    if inputs.manifest.rejected:
        return f"{chosen}; networks of the front missed a limit when they were measured"
    return f"{chosen}; it is on the front of all costs together, not of these two alone"


def _source(inputs: ReportInputs, metric: str) -> str:
    return inputs.sources.get(metric, inputs.study.sources.get(metric, "estimated"))


def _front_table(inputs: ReportInputs) -> tables.TextTable:
    """The front in numbers, thinned if it is long; the chosen network is always in."""
    if not _drawable(inputs):
        return tables.TextTable(headers=(), rows=())
    study = inputs.study
    metric = study.ranked_by
    rows = figures.front_rows(study, metric=metric, cost=COST, limits=_limits(inputs))
    if len(rows) > _FRONT_ROWS:
        # evenly along the front, both ends in: the fastest and the most accurate are asked for most
        places = np.unique(np.linspace(0, len(rows) - 1, _FRONT_ROWS).round().astype(int))
        rows = [r for i, r in enumerate(rows) if i in places or study.numbers[r] == inputs.trial]
    # it may be off this front, being on that of all costs together
    if inputs.trial not in study.numbers[rows]:
        chosen = np.flatnonzero(study.numbers == inputs.trial).tolist()
        # back in order of cost
        rows = sorted([*rows, *chosen], key=lambda r: float(study.values[COST][r]))
    upper = study.upper.get(COST)
    headers = ("Trial", capitalised(metric_name(metric)), "Latency", *(("Upper bound",) if upper is not None else ()))
    cells = []
    for r in rows:
        number = f"{study.numbers[r]}{' (chosen)' if study.numbers[r] == inputs.trial else ''}"
        values = [quantity(metric, study.values[metric][r]), quantity(COST, study.values[COST][r])]
        cells.append((number, *values, *((quantity(COST, upper[r]),) if upper is not None else ())))
    return tables.TextTable(headers=headers, rows=tuple(cells))


def _prediction(inputs: ReportInputs) -> Picture | None:
    if not inputs.points:
        return None
    held_out = sum(p.held_out for p in inputs.points)
    caption = (
        f"{count(len(inputs.points), 'whole network')} measured on this device; {held_out} held out of the fit, which "
        "alone tell the error."
    )
    label = f"Measured against predicted latency of {len(inputs.points)} networks, with a band of 10 percent."
    svg = inline_svg(figures.prediction_figure(inputs.points), name="prediction", label=label)
    return Picture(title="How far predictions can be trusted", svg=svg, caption=caption)


def _shares(inputs: ReportInputs) -> Picture | None:
    if not inputs.shares:
        return None
    total = sum(s.latency_ms for s in inputs.shares)
    slowest = max(inputs.shares, key=lambda s: s.latency_ms)
    caption = (
        f"Milliseconds, {_source(inputs, COST)}; {digits(total)}\u00a0ms together. "
        f"The most expensive is {printable(slowest.slot)}"
        + (f" with {percent(slowest.latency_ms / total, decimals=0)}." if total > 0 else ".")
    )
    label = "Bars: " + ", ".join(f"{s.slot} {s.latency_ms:.3f} ms" for s in inputs.shares)
    svg = inline_svg(figures.share_figure(inputs.shares), name="shares", label=printable(label))
    return Picture(title="Where the time goes", svg=svg, caption=caption)


def _history(inputs: ReportInputs) -> Picture | None:
    if not inputs.history:
        return None
    last = inputs.history[-1]
    caption = f"Measured on training batches; {last['loss']:.3f} for the largest network at step {last['step']:.0f}."
    label = f"Training loss over {last['step']:.0f} steps, ending at {last['loss']:.3f}."
    svg = inline_svg(figures.history_figure(inputs.history), name="history", label=label)
    return Picture(title="How the supernet learned", svg=svg, caption=caption)
