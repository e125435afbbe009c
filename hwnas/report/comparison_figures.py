"""The figures of a comparison: the share of the best front over evaluations, and several fronts in one picture.

This module must never know files, pages or how a number was obtained.
"""

from __future__ import annotations

from collections.abc import Mapping
from typing import TYPE_CHECKING, Any

import numpy as np

from hwnas.quantities import printable, scale_of
from hwnas.report._drawing import drawing_style, new_figure
from hwnas.report.palette import DEVICE_ROLES, LIGHT
from hwnas.types import Direction, FloatArray

if TYPE_CHECKING:
    from matplotlib.figure import Figure

    from hwnas.search.measures import Quartiles

# shape, dash and colour all tell a search: one of them must be enough
_MARKERS = "os^vPX<>"
_DASHES: tuple[Any, ...] = ("-", (0, (5, 1.5)), (0, (1.5, 1.2)), (0, (5, 1.5, 1.2, 1.5)))


def curves_figure(curves: Mapping[str, Quartiles], *, axis: str, factor: float = 1.0, falling: bool = False) -> Figure:
    """Medians of a measure over evaluations as lines, with a band between the quartiles of several searches.

    Args:
        curves: name -> values after each evaluation, NaN before the first that counts; at least one, of one evaluation
            at least, its last value known.
        axis: what the vertical axis is called.
        factor: what its values are multiplied with.
        falling: less is better.
    """
    from matplotlib.ticker import MaxNLocator

    with drawing_style():
        figure, axes = new_figure(height=3.9)
        for i, (name, curve) in enumerate(curves.items()):
            colour = _colour(i)
            evaluations = np.arange(1, len(curve.median) + 1)
            if curve.n_searches > 1:
                band: dict[str, Any] = {"step": "post", "color": colour, "alpha": 0.18, "lw": 0}
                axes.fill_between(evaluations, factor * curve.lower, factor * curve.upper, **band)
            # steps: between two evaluations nothing is found
            style: dict[str, Any] = {"ls": _DASHES[i % len(_DASHES)], "color": colour, "lw": 1.5, "ds": "steps-post"}
            axes.plot(evaluations, factor * curve.median, label=printable(name), **style)
        axes.xaxis.set_major_locator(MaxNLocator(integer=True))
        axes.set(xlabel="networks evaluated", ylabel=axis)
        axes.margins(x=0.01)
        # a search that begins with nothing must not press all others together
        skipped = {name: len(curve.median) // 10 for name, curve in curves.items()}
        top = max(float(np.nanmax(c.upper[skipped[name] if falling else 0 :])) for name, c in curves.items())
        low = min(float(np.nanmin(c.lower[0 if falling else skipped[name] :])) for name, c in curves.items())
        room = 0.06 * (top - low or 1.0)
        axes.set_ylim(factor * (low - room), factor * (top + room))
        figure.legend(loc="outside upper left", ncols=3)
    return figure


def fronts_figure(
    fronts: Mapping[str, tuple[FloatArray, FloatArray]],
    *,
    cost: tuple[str, Direction],
    metric: tuple[str, Direction],
    reference: Mapping[str, float],
) -> Figure:
    """The fronts of several searches as steps.

    Args:
        fronts: name -> a front: (K,) costs, rising, and (K,) values.
        cost: metric of the horizontal axis and its direction.
        metric: of the vertical one.
        reference: metric -> the worst value that counts; the vertical axis begins there.
    """
    from matplotlib.ticker import MaxNLocator

    points = [front for front in fronts.values() if len(front[0])]
    x_scale = scale_of(cost[0], max((float(x.max()) for x, _ in points), default=1.0))
    y_scale = scale_of(metric[0], max((float(y.max()) for _, y in points), default=1.0))
    worst = reference[metric[0]]
    with drawing_style():
        figure, axes = new_figure(height=3.9)
        for i, (name, (x, y)) in enumerate(fronts.items()):
            better = y >= worst if metric[1] is Direction.MAXIMIZE else y <= worst
            style: dict[str, Any] = {
                "color": _colour(i),
                "lw": 1.1,
                "ls": _DASHES[i % len(_DASHES)],
                "marker": _MARKERS[i % len(_MARKERS)],
                "ms": 4.2,
                "mew": 0,
                # where cost is maximised, a network is as good as the next one to its right
                "ds": "steps-post" if cost[1] is Direction.MINIMIZE else "steps-pre",
            }
            if better.any():
                axes.plot(x[better] * x_scale.factor, y[better] * y_scale.factor, label=printable(name), **style)
        axes.xaxis.set_major_locator(MaxNLocator(6))  # numbers of four digits must stand side by side
        axes.set(xlabel=x_scale.label, ylabel=y_scale.label)
        figure.legend(loc="outside upper left", ncols=3)
    return figure


def _colour(i: int) -> str:
    return LIGHT[DEVICE_ROLES[i % len(DEVICE_ROLES)]]
