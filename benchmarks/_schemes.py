"""Schemes of what a network and a search are: boxes and arrows for the documentation, nothing that was measured."""

from __future__ import annotations

from collections.abc import Sequence
from typing import TYPE_CHECKING

from hwnas.report.palette import LIGHT

if TYPE_CHECKING:
    from matplotlib.axes import Axes
    from matplotlib.figure import Figure

SMALL, MIDDLE, GREY, INK = LIGHT["int8"], LIGHT["device3"], LIGHT["band"], LIGHT["ink"]
_MUTED = LIGHT["muted"]


def blank(*, width: float, height: float, span: tuple[float, float]) -> tuple[Figure, Axes]:
    """A figure without axes.

    Args:
        width: inches.
        height: inches.
        span: of both coordinates.
    """
    from matplotlib.figure import Figure

    figure = Figure(figsize=(width, height), layout="constrained")
    axes = figure.add_subplot()
    axes.set(xlim=(0, span[0]), ylim=(0, span[1]))
    axes.set_axis_off()
    return figure, axes


def box(axes: Axes, x: float, y: float, w: float, h: float, *, colour: str = GREY, text: str = "") -> None:
    """A filled rectangle, its text in the middle."""
    from matplotlib.patches import Rectangle

    axes.add_patch(Rectangle((x, y), w, h, facecolor=colour, edgecolor="white", linewidth=1.0))
    if text:
        ink = "white" if colour in (SMALL, MIDDLE) else INK
        axes.text(x + w / 2, y + h / 2, text, ha="center", va="center", fontsize=9, color=ink)


def arrow(axes: Axes, start: tuple[float, float], end: tuple[float, float], *, colour: str = _MUTED) -> None:
    """From one point to another."""
    axes.annotate("", xy=end, xytext=start, arrowprops={"arrowstyle": "->", "color": colour, "linewidth": 1.2})


def supernet() -> Figure:
    """Layers as bars, two sub-networks of their first channels, and the devices that these suit."""
    figure, axes = blank(width=7.2, height=3.4, span=(15.4, 8.4))
    layers = [3, 3, 4, 4, 5, 6, 6]
    chosen: Sequence[tuple[str, str, Sequence[int], str]] = [
        ("sub-network for a server", MIDDLE, [2, 2, 3, 3, 4, 5, 4], "top"),
        ("sub-network for a microcontroller", SMALL, [1, 0, 2, 0, 2, 2, 0], "bottom"),
    ]
    axes.text(0.1, 7.9, "supernet: all sizes of every layer", fontsize=10, color=INK)
    for i, size in enumerate(layers):
        box(axes, 0.1 + i, 1.2, 0.8, size)
        for _, colour, sizes, _ in chosen:
            if sizes[i]:
                box(axes, 0.1 + i, 1.2, 0.8, sizes[i], colour=colour)
    axes.annotate("", xy=(7.1, 0.8), xytext=(0.1, 0.8), arrowprops={"arrowstyle": "->", "color": _MUTED})
    axes.text(3.6, 0.15, "layers, from image to classes", ha="center", fontsize=9, color=_MUTED)
    for (label, colour, sizes, _), base in zip(chosen, (4.6, 1.2), strict=True):
        arrow(axes, (7.2, base + 1.2), (8.1, base + 1.2))
        for i, size in enumerate(sizes):
            if size:
                box(axes, 8.3 + 0.55 * i, base, 0.45, 0.5 * size, colour=colour)
        axes.text(8.3, base - 0.55, label, fontsize=9)
        axes.text(12.5, base + 1.0, "same weights,\nits own latency", fontsize=9, color=_MUTED, va="center")
    return figure


def elastic() -> Figure:
    """Width, kernel size, depth and resolution, large and small beside each other."""
    figure, axes = blank(width=7.2, height=2.9, span=(20.4, 7.6))
    titles = ("width", "kernel size", "depth", "resolution")
    for k, title in enumerate(titles):
        axes.text(5.2 * k + 2.2, 7.1, title, ha="center", fontsize=11, fontweight="bold")
    for i in range(6):  # channels of a layer; the first ones stay
        box(axes, 0.4 + 0.6 * i, 2.2, 0.5, 3.6, colour=SMALL if i < 3 else GREY)
    axes.text(2.2, 1.2, "the first channels", ha="center", fontsize=9, color=_MUTED)
    for row in range(7):
        for column in range(7):
            inside = 1 <= row <= 5 and 1 <= column <= 5
            inner = 2 <= row <= 4 and 2 <= column <= 4
            colour = SMALL if inner else MIDDLE if inside else GREY
            box(axes, 5.6 + 0.52 * column, 2.2 + 0.52 * row, 0.48, 0.48, colour=colour)
    axes.text(7.4, 1.2, "the centre, times\na learned matrix", ha="center", va="center", fontsize=9, color=_MUTED)
    for i in range(4):
        box(axes, 11.2, 5.2 - 1.0 * i, 2.6, 0.75, colour=SMALL if i < 2 else GREY, text=f"block {i + 1}")
    axes.text(12.5, 1.2, "the first blocks", ha="center", fontsize=9, color=_MUTED)
    box(axes, 16.0, 2.2, 3.6, 3.6)
    box(axes, 16.0, 2.2, 2.2, 2.2, colour=SMALL)
    axes.text(17.8, 1.2, "a smaller image", ha="center", fontsize=9, color=_MUTED)
    return figure


def quantization() -> Figure:
    """A float and its level; and the way of numbers through an int8 layer."""
    import numpy as np
    from matplotlib.figure import Figure

    figure = Figure(figsize=(7.2, 2.8), layout="constrained")
    left, right = figure.subplots(1, 2, width_ratios=(1, 1.5))
    x = np.linspace(-1.0, 7.0, 1601)
    levels = np.clip(np.round(x / 0.5), 0, 12) * 0.5
    left.plot(x, np.maximum(x, 0), color=_MUTED, linewidth=1, label="float")
    left.plot(x, levels, color=SMALL, linewidth=1.4, label="int8 (13 levels drawn)")
    left.axvspan(6.25, 7.0, color=GREY, linewidth=0)
    left.text(6.62, 0.4, "clipped", rotation=90, ha="center", fontsize=8, color=_MUTED)
    left.set(xlabel="activation after ReLU", ylabel="what is computed", xlim=(-1, 7))
    left.legend(loc="upper left", fontsize=8)
    right.set(xlim=(0, 10.2), ylim=(0, 6))
    right.set_axis_off()
    box(right, 0.1, 3.9, 2.3, 1.0, text="int8 input")
    box(right, 0.1, 1.3, 2.3, 1.0, text="int8 weights")
    box(right, 3.4, 2.6, 2.4, 1.0, text="32-bit sum,\nexact")
    box(right, 6.8, 2.6, 3.3, 1.0, text="× scale, round,\n+ zero point, clip", colour="#cfe0f5")
    box(right, 7.3, 0.4, 2.3, 1.0, text="int8 output")
    arrow(right, (2.4, 4.4), (3.4, 3.4))
    arrow(right, (2.4, 1.8), (3.4, 2.8))
    arrow(right, (5.8, 3.1), (6.8, 3.1))
    arrow(right, (8.45, 2.6), (8.45, 1.4))
    right.text(8.45, 4.0, "here information\nis lost", ha="center", fontsize=9, color=_MUTED)
    return figure
