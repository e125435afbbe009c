"""The figures: the front, predicted against measured, latency by block, the training curve.

Drawn with matplotlib's objects, never pyplot, whose state is global; the same for the same data. A figure is 5 inches
wide, so that its text is readable on a phone; saved as PNG it can stand in a README.
This module must never know files, pages or how a number was obtained.
"""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from types import MappingProxyType
from typing import TYPE_CHECKING, Any

import numpy as np

from hwnas.allowed import Limits
from hwnas.errors import StudyError
from hwnas.limits import as_limits
from hwnas.quantities import Scale, printable, scale_of
from hwnas.report._drawing import dots, drawing_style, log_axes, new_figure
from hwnas.report.inputs import BlockShare, PredictionPoint
from hwnas.report.palette import LIGHT, block_role
from hwnas.types import Direction, FloatArray

if TYPE_CHECKING:
    from matplotlib.axes import Axes
    from matplotlib.figure import Figure

    from hwnas.search.study import Study

NO_LIMITS: Mapping[str, float] = MappingProxyType({})
_BAND = 0.10  # of predictions, drawn around equality


def front_figure(
    study: Study,
    *,
    trial: int | None = None,
    limits: Limits = NO_LIMITS,
    metric: str = "",
    cost: str = "latency_ms",
    title: str = "",
) -> Figure:
    """All networks of a study, those that no other dominates, the limits, and a chosen network.

    Args:
        study: has values of both metrics.
        trial: number of the chosen trial; its line reaches to its upper bound.
        limits: metric -> limit. A network that breaks one, by its upper bound if it has one, is drawn hollow.
        metric: on the vertical axis; empty: what the study's networks were evaluated for.
        cost: on the horizontal axis.
        title: above the figure; none if empty.

    Raises:
        StudyError: the study lacks a metric or the trial, or has no network with both values.
    """
    metric = metric or study.ranked_by
    for name in (metric, cost, *limits):
        if name not in study.values:
            raise StudyError(f"the study has no metric {name!r}; known: {', '.join(sorted(study.values)) or 'none'}")
    x_all, y_all = study.values[cost], study.values[metric]
    known = np.isfinite(x_all) & np.isfinite(y_all)
    if not known.any():
        raise StudyError(f"study {study.name!r} has no network with {metric!r} and {cost!r}; run more trials")
    # one unit for the whole axis, chosen by its largest value
    x_scale = scale_of(cost, float(x_all[known].max()))
    y_scale = scale_of(metric, float(y_all[known].max()))
    x, y = x_all * x_scale.factor, y_all * y_scale.factor
    # without limits all that can be drawn count
    kept = study.keeps(limits) & known if limits else known
    front = front_rows(study, metric=metric, cost=cost, limits=limits)
    with drawing_style():
        figure, axes = new_figure(height=3.9)
        size = 3.8 if known.sum() <= 800 else 2.8  # many dots, small dots
        hollow = {"mfc": "none", "mec": LIGHT["trial"], "mew": 0.7, "ms": size - 0.4}
        dots(axes, x, y, known & ~kept, label="over a limit", style=hollow)
        dots(axes, x, y, kept, label="evaluated", style={"mfc": LIGHT["trial"], "mew": 0, "ms": size})
        _line(axes, x[front], y[front], direction=study.directions.get(cost, Direction.MINIMIZE))
        _limit_lines(axes, limits, x=(cost, x_scale), y=(metric, y_scale))
        if trial is not None:
            _chosen(axes, study, _row(study, trial), x=(cost, x_scale), y=y)
        hidden = _focus(axes, y[known], y[front] if len(front) else y[known], study.directions.get(metric))
        axes.set(xlabel=_label(x_scale, cost, study), ylabel=_label(y_scale, metric, study))
        if hidden:
            axes.text(0.99, 0.015, f"{hidden} more outside", transform=axes.transAxes, ha="right", color=LIGHT["muted"])
        figure.legend(
            title=printable(title) or None, title_fontsize=12, alignment="left", loc="outside upper left", ncols=5
        )
    return figure


def front_rows(study: Study, *, metric: str, cost: str, limits: Limits) -> list[int]:
    """Rows of the study's networks that keep the limits and that no other such dominates in the two metrics.

    In order of rising cost; of equal networks the one that costs least otherwise.
    """
    known = np.isfinite(study.values[cost]) & np.isfinite(study.values[metric])
    rows = np.flatnonzero(study.keeps(limits) & known if limits else known)
    return study.front_rows(metric, cost, rows=rows)


def prediction_figure(points: Sequence[PredictionPoint]) -> Figure:
    """Predicted against measured latency, with a band of 10 %; networks that were not fitted are filled.

    Args:
        points: at least one.
    """
    predicted = np.array([p.predicted_ms for p in points])
    measured = np.array([p.measured_ms for p in points])
    # the same on both axes, so that the diagonal is one
    low, high = min(predicted.min(), measured.min()) * 0.93, max(predicted.max(), measured.max()) * 1.07
    with drawing_style():
        figure, axes = new_figure(height=4.6)
        line = np.geomspace(low, high, 50)
        axes.fill_between(line, line * (1 - _BAND), line * (1 + _BAND), color=LIGHT["band"], lw=0, label="± 10 %")
        axes.plot(line, line, color=LIGHT["muted"], lw=0.8)
        for precision in sorted({p.precision for p in points}):
            colour = LIGHT[block_role("", precision)]
            # held-out ones last, on top: they are what the figure is about
            for held_out in (False, True):
                of = np.array([p.precision == precision and p.held_out is held_out for p in points])
                note = "held out" if held_out else "used in the fit"
                style = {"mfc": colour if held_out else "none", "mec": colour, "mew": 0.8, "ms": 4.4}
                dots(axes, predicted, measured, of, label=f"{precision}, {note}", style=style, thin=False)
        # on a linear axis the small networks would be one dot
        if high / low > 8:
            log_axes(axes)
        axes.set(xlim=(low, high), ylim=(low, high), aspect="equal")
        axes.set(xlabel="predicted latency (ms)", ylabel="measured latency (ms)")
        figure.legend(loc="outside upper left", ncols=2)
    return figure


def share_figure(shares: Sequence[BlockShare]) -> Figure:
    """Estimated latency of each block as bars from the input down to the output, coloured by precision.

    Args:
        shares: at least one, in network order.
    """
    from matplotlib.patches import Patch

    latency = np.array([s.latency_ms for s in shares])
    roles = [block_role(s.block.kind, s.block.precision) for s in shares]
    with drawing_style():
        figure, axes = new_figure(height=0.9 + 0.235 * len(shares))
        axes.barh(range(len(shares)), latency, height=0.72, color=[LIGHT[role] for role in roles])
        for i, ms in enumerate(latency):
            axes.annotate(f"{ms:.3f}", (max(ms, 0), i), (3, 0), textcoords="offset points", va="center", fontsize=9)
        axes.set_yticks(range(len(shares)), [printable(s.slot) for s in shares], fontsize=9, color=LIGHT["ink"])
        # downwards, as a network is read
        axes.set(ylim=(len(shares) - 0.4, -0.6), xlabel="estimated latency (ms)")
        axes.set_xlim(0, max(float(latency.max()) * 1.14, 1e-9))
        axes.tick_params(axis="y", length=0)
        axes.grid(visible=False, axis="y")
        axes.spines["left"].set_visible(False)
        seen = list(dict.fromkeys(roles))
        figure.legend(handles=[Patch(color=LIGHT[r], label=r) for r in seen], loc="outside upper left", ncols=4)
    return figure


def history_figure(history: Sequence[Mapping[str, float]]) -> Figure:
    """The training loss of the largest and the smallest network over the steps.

    Args:
        history: at least one row with `step` and `loss`; `loss_smallest` where there is one.
    """
    steps = np.array([row["step"] for row in history])
    losses = {
        "largest network": (np.array([row["loss"] for row in history]), "ink", "-"),
        "smallest network": (np.array([row.get("loss_smallest", np.nan) for row in history]), "muted", (0, (3, 1.5))),
    }
    with drawing_style():
        figure, axes = new_figure(height=2.9)
        for label, (loss, role, dash) in losses.items():
            if np.isfinite(loss).any():
                marker = "o" if len(loss) == 1 else ""
                axes.plot(steps, loss, ls=dash, marker=marker, color=LIGHT[role], lw=1.1, label=label)
        axes.set(xlabel="step", ylabel="training loss")
        axes.margins(x=0.01)
        figure.legend(loc="outside upper left", ncols=2)
    return figure


def _line(axes: Axes, x: FloatArray, y: FloatArray, *, direction: Direction) -> None:
    """The front as steps: until the next better network there is nothing better than the last one."""
    if len(x):
        # `x` rises: where cost is maximised, a network is as good as the next one to its right
        axes.step(x, y, where="post" if direction is Direction.MINIMIZE else "pre", color=LIGHT["ink"], lw=1.0)
        axes.plot(x, y, "o", mfc=LIGHT["ink"], mew=0, ms=4.2, label="front")


def _limit_lines(axes: Axes, limits: Limits, *, x: tuple[str, Scale], y: tuple[str, Scale]) -> None:
    style: dict[str, Any] = {"color": LIGHT["ink"], "lw": 1.0, "ls": (0, (4, 3)), "label": "limit"}
    for limit in as_limits(limits):
        for (metric, scale), draw in ((x, axes.axvline), (y, axes.axhline)):
            if limit.metric == metric:
                draw(limit.value * scale.factor, **style)
                # one entry in the legend for all limits
                style["label"] = "_"


def _row(study: Study, trial: int) -> int:
    rows = np.flatnonzero(study.numbers == trial)
    if not len(rows):
        raise StudyError(f"study {study.name!r} has no finished trial {trial}; it has {len(study)} of them")
    return int(rows[0])


def _chosen(axes: Axes, study: Study, row: int, *, x: tuple[str, Scale], y: FloatArray) -> None:
    metric, scale = x
    value = float(study.values[metric][row]) * scale.factor
    upper = float(study.upper[metric][row]) * scale.factor if metric in study.upper else value
    if np.isfinite(upper) and upper > value:
        axes.plot([value, upper], [y[row], y[row]], "-|", color=LIGHT["chosen"], lw=1.6, ms=8, mew=1.6, zorder=4)
    axes.plot(
        value, y[row], "D", mfc=LIGHT["chosen"], mec=LIGHT["background"], mew=0.8, ms=8, ls="", label="chosen", zorder=5
    )


def _focus(axes: Axes, values: FloatArray, front: FloatArray, direction: Direction | None) -> int:
    """Leave the worst few networks out of the picture if they would squeeze the rest; returns how many."""
    sign = -1.0 if direction is Direction.MINIMIZE else 1.0
    rising = sign * values
    # the lowest tenth and the whole front always stay in view
    best, typical = rising.max(), min(np.quantile(rising, 0.1), (sign * front).min())
    span = max(best - typical, 1e-9)
    lowest = typical - 0.35 * span
    outside = int((rising < lowest).sum())
    if not outside:
        return 0
    # sorted: a minimised metric was turned round
    ends = sorted((sign * (typical - 0.2 * span), sign * (best + 0.06 * span)))
    axes.set_ylim(ends[0], ends[1])
    return int((rising < typical - 0.2 * span).sum())


def _label(scale: Scale, metric: str, study: Study) -> str:
    source = study.sources.get(metric, "")
    return f"{source} {scale.label}" if source in ("measured", "estimated") else scale.label
