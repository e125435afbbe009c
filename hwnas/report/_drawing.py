"""What all figures share: their look, their size, dots and axes. Knows matplotlib's objects, not what is drawn."""

from __future__ import annotations

from collections.abc import Iterator, Mapping
from contextlib import contextmanager
from typing import TYPE_CHECKING, Any

import numpy as np

from hwnas.report.palette import LIGHT
from hwnas.types import FloatArray

if TYPE_CHECKING:
    from matplotlib.axes import Axes
    from matplotlib.figure import Figure

_WIDTH = 5.0  # inches
_MAX_DOTS = 1200  # drawn one by one; of more, one for each that can be told from its neighbours
_STYLE: dict[str, Any] = {
    "figure.facecolor": LIGHT["background"],
    "savefig.facecolor": LIGHT["background"],
    "axes.facecolor": LIGHT["background"],
    "axes.edgecolor": LIGHT["muted"],
    "axes.labelcolor": LIGHT["ink"],
    "axes.spines.top": False,
    "axes.spines.right": False,
    "axes.grid": True,
    "axes.axisbelow": True,
    "axes.formatter.useoffset": False,
    "grid.color": LIGHT["rule"],
    "grid.linewidth": 0.6,
    "text.color": LIGHT["ink"],
    "text.parse_math": False,  # a dollar in a name is a dollar
    "xtick.color": LIGHT["muted"],
    "ytick.color": LIGHT["muted"],
    "font.size": 10.0,
    "legend.frameon": False,
    "legend.handletextpad": 0.3,
    "legend.columnspacing": 1.2,
    "legend.fontsize": 10.0,
}


@contextmanager
def drawing_style() -> Iterator[None]:
    """Ours on matplotlib's defaults, whatever the user's own settings are."""
    import matplotlib.style

    # reset first: a user's matplotlibrc must not change a figure of ours
    with matplotlib.style.context(_STYLE, after_reset=True):
        yield


def new_figure(*, height: float) -> tuple[Figure, Axes]:
    from matplotlib.figure import Figure

    figure = Figure(figsize=(_WIDTH, height), layout="constrained")
    return figure, figure.add_subplot()


def dots(
    axes: Axes,
    x: FloatArray,
    y: FloatArray,
    rows: np.ndarray[Any, Any],
    *,
    label: str,
    style: Mapping[str, Any],
    thin: bool = True,
) -> None:
    """Points without a line; nothing, also in the legend, if there are none."""
    rows = np.flatnonzero(rows)
    if thin and len(rows) > _MAX_DOTS:
        # a grid about as fine as a dot: whoever shares a cell covers the other anyway
        cells = [np.round(160 * (v[rows] - v[rows].min()) / (np.ptp(v[rows]) or 1.0)) for v in (x, y)]
        _, first = np.unique(np.stack(cells, axis=1), axis=0, return_index=True)
        # in their own order, so that the same dots lie on top
        rows = rows[np.sort(first)]
    if len(rows):
        axes.plot(x[rows], y[rows], "o", label=label, **style)


def log_axes(axes: Axes) -> None:
    from matplotlib.ticker import FuncFormatter, LogLocator, NullFormatter

    axes.set(xscale="log", yscale="log")
    for axis in (axes.xaxis, axes.yaxis):
        axis.set_major_locator(LogLocator(subs=(1.0, 2.0, 5.0)))
        axis.set_major_formatter(FuncFormatter(lambda value, _: f"{value:g}"))
        axis.set_minor_formatter(NullFormatter())
