"""What became of every device and budget of one supernet: the rows of its table, the picture of all fronts, the page.

This module must never know how a number was obtained, or where the run's folder is: links are relative to it.
"""

from __future__ import annotations

import shlex
from collections.abc import Mapping, Sequence
from dataclasses import dataclass, field
from typing import TYPE_CHECKING, Any

import numpy as np

from hwnas.allowed import ACCURACY, AGREEMENT, PLURALS, Limits
from hwnas.limits import USUAL, as_limits, ceiling, round_up
from hwnas.quantities import (
    capitalised,
    count,
    exact_quantity,
    metric_name,
    percent,
    printable,
    quantity,
    wilson_interval,
)
from hwnas.report._drawing import drawing_style, new_figure
from hwnas.report._template import render
from hwnas.report.palette import DARK, DEVICE_ROLES, LIGHT
from hwnas.report.svg import inline_svg
from hwnas.types import FloatArray

if TYPE_CHECKING:
    from matplotlib.axes import Axes
    from matplotlib.figure import Figure

LATENCY, SIZE = "latency_ms", "size_bytes"
# shape and colour both tell a device: one of them must be enough
_MARKERS = "os^vPX<>"
_ACCURACY_LABEL = "accuracy on validation images (%)"
_NARROWEST = 1.85  # of a latency axis: its end over its start, so that two numbers stand on it
_TICKS = {False: (1.0, 2.0, 5.0), True: (1.0, 1.2, 1.5, 2.0, 2.5, 3.0, 4.0, 5.0, 6.0, 8.0)}  # within half a decade


@dataclass(frozen=True, slots=True, kw_only=True)
class FleetRow:
    """One device and one budget: a deployment, or why there is none.

    Attributes:
        device: name.
        budget: limit -> value as the configuration has them, with `latency_fraction`.
        limits: metric -> limit in absolute numbers; empty where the device was not measured.
        deployment: its folder, relative to the run's; empty if there is none.
        precision: of the deployed file.
        trial: of the deployed network in the device's study.
        metric: `accuracy`; `agreement` where the given network's answers are the labels.
        accuracy: that, on the test images through the runtime, in [0, 1].
        n_test: how many these are.
        validation_accuracy: of the deployed network in torch, in [0, 1]: what the fronts are drawn by.
        latency_ms: of the deployed file.
        source: of this latency: `measured`, or who estimated it.
        size_bytes: of the deployed file.
        speedup: of the file against the same network in fp32, where that was timed.
        problem: why there is no deployment, or why the one there is from before could not be renewed.
        reachable: metric -> the value nearest to its limit that any network reaches, if that is the problem.
        exit_status: 0, or that of the problem.
        fingerprint: of everything that decided the deployment.
    """

    device: str
    budget: Limits
    limits: Limits = field(default_factory=dict)
    deployment: str = ""
    precision: str = ""
    trial: int | None = None
    metric: str = ACCURACY
    accuracy: float | None = None
    n_test: int = 0
    validation_accuracy: float | None = None
    latency_ms: float | None = None
    source: str = ""
    size_bytes: int | None = None
    speedup: float | None = None
    problem: str = ""
    reachable: Mapping[str, float] = field(default_factory=dict)
    exit_status: int = 0
    fingerprint: str = ""


@dataclass(frozen=True, slots=True, kw_only=True)
class FleetDevice:
    """One device of the fleet and what its search cost.

    Attributes:
        name: of its description.
        runtime: registered name.
        hardware: what it was measured on; empty if it was not.
        precisions: searched.
        error_percent: mean error of predicted latencies on networks that were not fitted.
        n_networks: in its study.
        measured: accuracies that its search had to measure.
        reused: accuracies that were known from other searches.
        problem: why it was given up.
    """

    name: str
    runtime: str
    hardware: str = ""
    precisions: tuple[str, ...] = ()
    error_percent: float | None = None
    n_networks: int = 0
    measured: int = 0
    reused: int = 0
    problem: str = ""


@dataclass(frozen=True, slots=True, kw_only=True, eq=False)
class DeviceFront:
    """The networks of one device's study that no other beats, by estimated latency and validation accuracy.

    Attributes:
        device: name.
        latency_ms: (N,) rising.
        accuracy: (N,) in [0, 1], rising.
    """

    device: str
    latency_ms: FloatArray
    accuracy: FloatArray


@dataclass(frozen=True, slots=True, kw_only=True, eq=False)
class FleetInputs:
    """Everything the page shows; `folder` is what the reader calls the run's folder, `metric` as in its rows."""

    space: str
    folder: str
    metric: str = ACCURACY
    devices: Sequence[FleetDevice]
    rows: Sequence[FleetRow]
    fronts: Sequence[DeviceFront]


def budget_text(budget: Limits) -> str:
    """A budget for people, exactly as it was given: `latency at most 2 ms, size at most 300 kB`."""
    parts = [
        f"latency at most {share_text(x.value)} of the largest"
        if x.metric == "latency_fraction"
        else f"{metric_name(x.metric)} at {'least' if x.floor else 'most'} {exact_quantity(x.metric, x.value)}"
        for x in as_limits(budget, USUAL)
    ]
    return ", ".join(parts) or "no limits"


def budget_values(budget: Limits) -> str:
    """The same where there is little room: `80 %, 300 kB`."""
    return ", ".join(
        share_text(x.value)
        if x.metric == "latency_fraction"
        else f"{'from ' if x.floor else ''}{exact_quantity(x.metric, x.value)}"
        for x in as_limits(budget, USUAL)
    )


def share_text(share: float) -> str:
    """A share of the largest network's latency, exactly as it was given."""
    return exact_quantity("accuracy", share)


# ---------------------------------------------------------------- the picture


def fleet_figure(fronts: Sequence[DeviceFront], rows: Sequence[FleetRow], *, metric: str = ACCURACY) -> Figure:
    """The fronts of all devices over a logarithmic latency, one colour each, and what was deployed.

    Args:
        fronts: at least one with a network.
        rows: those with a deployment are marked, at their measured latency.
        metric: what networks were evaluated for.
    """
    from matplotlib.lines import Line2D

    with drawing_style():
        figure, axes = new_figure(height=4.2)
        for i, front in enumerate(fronts):
            colour, marker = LIGHT[DEVICE_ROLES[i % len(DEVICE_ROLES)]], _MARKERS[i % len(_MARKERS)]
            style: dict[str, Any] = {"color": colour, "lw": 1.2, "marker": marker, "ms": 4.0, "mew": 0}
            # steps: between two networks of a front there is none
            axes.plot(front.latency_ms, 100 * front.accuracy, ds="steps-post", label=printable(front.device), **style)
            marks = [(r.latency_ms, r.validation_accuracy) for r in rows if r.device == front.device and r.deployment]
            for x, y in marks:
                if x is not None and y is not None:
                    axes.plot(x, 100 * y, "D", mfc=colour, mec=LIGHT["ink"], mew=1.0, ms=7.5, zorder=5)
        handles = axes.get_legend_handles_labels()[0]
        if any(r.deployment for r in rows):
            hollow: dict[str, Any] = {"mfc": "none", "mec": LIGHT["ink"], "mew": 1.0, "ms": 7.0}
            handles.append(Line2D([], [], ls="", marker="D", label="deployed", **hollow))
        _log_latency(axes)
        axes.set(
            xlabel="latency (ms)",
            ylabel=f"{metric_name(metric)}, validation images (%)" if metric != ACCURACY else _ACCURACY_LABEL,
        )
        figure.legend(handles=handles, loc="outside upper left", ncols=3)
    return figure


def _log_latency(axes: Axes) -> None:
    from matplotlib.ticker import FuncFormatter, LogLocator, NullFormatter

    axes.set_xscale("log")
    low, high = axes.get_xlim()
    # widened about its middle: an axis with one number on it tells no scale
    if high < _NARROWEST * low:
        low, high = np.sqrt(low * high / _NARROWEST), np.sqrt(low * high * _NARROWEST)
        axes.set_xlim(low, high)
    axes.xaxis.set_major_locator(LogLocator(subs=_TICKS[high < 10**0.5 * low]))
    axes.xaxis.set_major_formatter(FuncFormatter(lambda value, _: f"{value:g}"))
    axes.xaxis.set_minor_formatter(NullFormatter())


# ---------------------------------------------------------------- the page


def render_fleet(inputs: FleetInputs) -> str:
    """The fleet as one HTML document that loads nothing; links lead to the deployments' own pages."""
    return render("fleet.html", _context(inputs))


def _context(inputs: FleetInputs) -> dict[str, Any]:
    deployed = sum(bool(r.deployment) for r in inputs.rows)
    return {
        "space": printable(inputs.space),
        "question": printable(_question(inputs)),
        "plural": PLURALS.get(inputs.metric, "scores"),
        "singular": {ACCURACY: "an accuracy", AGREEMENT: "an agreement"}.get(inputs.metric, "a score"),
        "score": capitalised(metric_name(inputs.metric)),
        "light": dict(LIGHT),
        "dark": dict(DARK),
        "n_devices": count(len(inputs.devices), "device"),
        "deployed": deployed,
        "n_deployed": count(deployed, "deployment"),
        "n_served": count(len({r.device for r in inputs.rows if r.deployment}), "device"),
        "n_rows": len(inputs.rows),
        "picture": _picture(inputs),
        "groups": [
            {"device": d, "rows": [_cells(r) for r in inputs.rows if r.device == d.name]} for d in inputs.devices
        ],
        "measured": sum(d.measured for d in inputs.devices),
        "reused": sum(d.reused for d in inputs.devices),
        "percent": percent,
    }


def _cells(row: FleetRow) -> dict[str, str]:
    """One row of the table as text; empty where there is nothing."""
    cells = {
        "budget": budget_text(row.budget),
        "limits": "" if (most := ceiling(row.limits, LATENCY)) is None else quantity(LATENCY, most),
        "problem": printable(row.problem),
        "reachable": ", ".join(f"{metric_name(m)} {quantity(m, v)}" for m, v in row.reachable.items()),
        "link": f"{row.deployment}/report.html" if row.deployment else "",
        "precision": row.precision,
        "source": row.source,
        "accuracy": "" if row.accuracy is None else percent(row.accuracy),
        "interval": "",
        "latency": "" if row.latency_ms is None else quantity(LATENCY, row.latency_ms),
        "size": "" if row.size_bytes is None else quantity(SIZE, row.size_bytes),
        "speedup": "" if row.speedup is None else f"{row.speedup:.2f} ×",
    }
    if row.accuracy is not None and row.n_test and row.metric in (ACCURACY, AGREEMENT) and 0 <= row.accuracy <= 1:
        low, high = wilson_interval(row.accuracy, row.n_test)
        cells["interval"] = f"{100 * low:.1f} to {percent(high)}"
    return cells


def _question(inputs: FleetInputs) -> str:
    """A command that asks a study, with a limit that its most accurate network keeps by its estimate."""
    asked = f"hwnas query {shlex.quote(inputs.folder)}"
    if not inputs.fronts:
        return asked
    front = inputs.fronts[0]
    # rounded up: the command must find something when it is copied
    limit = round_up(1.1 * float(front.latency_ms[-1]))  # bounds lie a little above estimates
    return f"{asked} --device {shlex.quote(front.device)} --limit latency_ms={limit}"


def _picture(inputs: FleetInputs) -> dict[str, str] | None:
    if not inputs.fronts:
        return None
    best = max(inputs.fronts, key=lambda f: float(np.max(f.accuracy)))
    name, best_in = metric_name(inputs.metric), "The most accurate network found"
    if inputs.metric != ACCURACY:
        best_in = f"The network found with the {'most' if inputs.metric == AGREEMENT else 'highest'} {name}"
    label = f"{capitalised(name)} over latency: " + "; ".join(
        f"{f.device} from {quantity(LATENCY, float(f.latency_ms[0]))} to {quantity(LATENCY, float(f.latency_ms[-1]))}"
        for f in inputs.fronts
    )
    caption = (
        f"Networks that no other beats, by latency on each device (estimated) and {name} on the validation images "
        f"(measured). Diamonds are what was deployed, at the latency of the file. {best_in}, "
        f"with {percent(float(np.max(best.accuracy)))}, is of {printable(best.device)}."
    )
    # inline: the page loads nothing
    svg = inline_svg(
        fleet_figure(inputs.fronts, inputs.rows, metric=inputs.metric), name="fronts", label=printable(label)
    )
    return {"svg": svg, "caption": caption}
