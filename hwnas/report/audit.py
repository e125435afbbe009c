"""The picture of an audit: what each choice costs on a device, and what int8 gains with it.

Knows numbers and their labels; not how they were measured or judged.
"""

from __future__ import annotations

import textwrap
from collections.abc import Mapping, Sequence
from dataclasses import dataclass, field
from typing import TYPE_CHECKING, Any

from hwnas.precisions import EXACT, INTEGERS, by_exactness, offered_as
from hwnas.quantities import printable
from hwnas.report._drawing import drawing_style
from hwnas.report.palette import LIGHT, block_role

if TYPE_CHECKING:
    from matplotlib.axes import Axes
    from matplotlib.figure import Figure

_WIDTH = 7.8  # inches: two panels and a column of words
_GAIN_WIDTH = 2.0  # of them, of the panel that is absent where nothing is compared
_WRAP = 12.5  # characters an inch
_OFFSET = 0.17  # of a precision's dots from the middle of their row
_MARKERS = {EXACT: "s", INTEGERS: "o"}  # shape and colour tell the precision: one of them is enough
_ROLES = {"fine": "muted", "costly": "ink", "leave out": "bad"}


@dataclass(frozen=True, slots=True, kw_only=True)
class AuditRow:
    """One choice.

    Attributes:
        label: what is chosen: `hswish`, `kernel size 5`.
        group: rows of one group stand together, under its name.
        excess: precision -> for each shape measured, time per multiply-accumulate over the base's.
        speedup: of integers over floats; None if not known.
        verdict: `fine`, `costly` or `leave out`.
        note: beside the verdict: in which precision.
    """

    label: str
    group: str
    excess: Mapping[str, Sequence[float]] = field(default_factory=dict)
    speedup: float | None = None
    verdict: str = "fine"
    note: str = ""


def audit_figure(
    rows: Sequence[AuditRow], *, title: str, subtitle: str = "", costly: float = 1.2, leave_out: float = 1.5
) -> Figure:
    """Each choice's cost against the base block (small: shapes, large: their mean), and int8's gain.

    Args:
        rows: at least one, from top to bottom; the groups in order.
        title: of the device.
        subtitle: where the numbers come from.
        costly: from this cost on a band is drawn.
        leave_out: from this cost on a darker one.
    """
    from matplotlib.figure import Figure

    places = _places(rows)
    compared = any(row.speedup is not None for row in rows)
    with drawing_style():
        width = _WIDTH if compared else _WIDTH - _GAIN_WIDTH
        figure = Figure(figsize=(width, 1.55 + 0.27 * (max(places) + 1)), layout="constrained")
        if compared:
            panels = list(figure.subplots(1, 2, sharey=True, width_ratios=(1.75, 1.0)))
            _draw_gain(panels[1], rows, places)
        else:
            panels = [figure.subplots()]
        _draw_cost(panels[0], rows, places, bands=(costly, leave_out))
        _name_rows(panels[0], rows, places)
        _write_verdicts(panels[-1], rows, places)
        for axes in panels:
            # downwards, with room for the first group's name
            axes.set_ylim(max(places) + 0.6, -1.5)
            axes.grid(visible=False, axis="y")
            axes.spines["left"].set_visible(False)
            axes.tick_params(axis="y", length=0)
        figure.suptitle(printable(title), x=0.01, ha="left", fontsize=12, weight="bold")
        handles, labels = panels[0].get_legend_handles_labels()
        figure.legend(
            handles,
            labels,
            title="\n".join(textwrap.wrap(printable(subtitle), round(_WRAP * width))) or None,
            title_fontsize=9,
            alignment="left",
            loc="outside lower left",
            ncols=4,
            fontsize=9,
        )
    return figure


def _places(rows: Sequence[AuditRow]) -> list[float]:
    """Vertical place of each row: one below the other, with a line's space for the name of each group."""
    places: list[float] = []
    y, group = -1.0, None
    for row in rows:
        y += 1.0 if row.group == group else (1.9 if group is not None else 1.0)
        group = row.group
        places.append(y)
    return places


def _draw_cost(axes: Axes, rows: Sequence[AuditRow], places: Sequence[float], *, bands: tuple[float, float]) -> None:
    import numpy as np

    precisions = by_exactness({p for row in rows for p, values in row.excess.items() if values})
    everything = [v for row in rows for values in row.excess.values() for v in values]
    low, high = min([*everything, 0.7]) * 0.92, max([*everything, bands[1] * 1.3]) * 1.1
    axes.axvspan(bands[0], bands[1], color=LIGHT["band"], lw=0, label="costly")
    axes.axvspan(bands[1], high, color=LIGHT["rule"], lw=0, label="leave out")
    axes.axvline(1.0, color=LIGHT["ink"], lw=0.9)
    for i, precision in enumerate(precisions):
        # two precisions of one row beside each other, not on top
        shift = _OFFSET * (2 * i - 1) if len(precisions) > 1 else 0.0
        style: dict[str, Any] = {
            "marker": _MARKERS[offered_as(precision)],
            "ls": "",
            "color": LIGHT[block_role("", precision)],
        }
        label = precision
        for row, y in zip(rows, places, strict=True):
            values = np.array(row.excess.get(precision, ()), dtype=float)
            if not len(values):
                continue
            # geometric, as the rules judge by: ratios of 2 and 1/2 cancel
            mean = float(np.exp(np.log(values).mean()))
            axes.plot([values.min(), values.max()], [y + shift] * 2, color=style["color"], lw=1.0, alpha=0.6)
            axes.plot(values, [y + shift] * len(values), **style, ms=2.6, mew=0, alpha=0.6)
            axes.plot(mean, y + shift, **style, ms=6.2, mec=LIGHT["background"], mew=0.6, label=label, zorder=4)
            label = "_"
    # ratios: twice and half are equally far from 1
    _log(axes, low, high)
    axes.set_xlabel("time for the same work, base block = 1", fontsize=9)


def _draw_gain(axes: Axes, rows: Sequence[AuditRow], places: Sequence[float]) -> None:
    known = [row.speedup for row in rows if row.speedup is not None]
    axes.axvline(1.0, color=LIGHT["ink"], lw=0.9)
    for row, y in zip(rows, places, strict=True):
        if row.speedup is None:
            continue
        slower = row.speedup < 1
        colour = LIGHT["bad" if slower else INTEGERS]
        axes.barh(y, row.speedup - 1, left=1.0, height=0.5, color=colour, hatch="////" if slower else None, ec="w")
        axes.annotate(
            f"{row.speedup:.2f}",
            (row.speedup, y),
            (-3 if slower else 3, 0),
            textcoords="offset points",
            ha="right" if slower else "left",
            va="center",
            fontsize=8.5,
            color=LIGHT["ink"],
        )
    _log(axes, min([*known, 0.7]) * 0.85, max([*known, 2.0]) * 1.5)  # with space for the numbers
    axes.set_xlabel("speed-up of int8 over fp32", fontsize=9)


def _write_verdicts(axes: Axes, rows: Sequence[AuditRow], places: Sequence[float]) -> None:
    for row, y in zip(rows, places, strict=True):
        axes.annotate(
            f"{row.verdict} in {row.note}" if row.note and row.verdict != "fine" else row.verdict,
            (1.03, y),
            xycoords=("axes fraction", "data"),
            va="center",
            fontsize=9,
            color=LIGHT[_ROLES.get(row.verdict, "ink")],
            weight="bold" if row.verdict == "leave out" else "normal",
            annotation_clip=False,
        )


def _name_rows(axes: Axes, rows: Sequence[AuditRow], places: Sequence[float]) -> None:
    axes.set_yticks(places, [printable(row.label) for row in rows], fontsize=9, color=LIGHT["ink"])
    seen = None
    for row, y in zip(rows, places, strict=True):
        if row.group != seen and row.group:
            axes.annotate(
                printable(row.group),
                (0, y - 0.75),
                (-6, 0),
                xycoords=("axes fraction", "data"),
                textcoords="offset points",
                ha="right",
                va="center",
                fontsize=9,
                weight="bold",
                color=LIGHT["muted"],
                annotation_clip=False,
            )
        seen = row.group


def _log(axes: Axes, low: float, high: float) -> None:
    from matplotlib.ticker import FixedLocator, FuncFormatter, NullFormatter, NullLocator

    axes.set_xscale("log")
    axes.set_xlim(low, high)
    steps = (0.1, 0.2, 0.5, 0.7, 1.0, 1.5, 2.0, 3.0, 5.0, 10.0, 20.0, 50.0)
    axes.xaxis.set_major_locator(FixedLocator([s for s in steps if low <= s <= high]))
    axes.xaxis.set_major_formatter(FuncFormatter(lambda value, _: f"{value:g}"))
    axes.xaxis.set_minor_locator(NullLocator())
    axes.xaxis.set_minor_formatter(NullFormatter())
