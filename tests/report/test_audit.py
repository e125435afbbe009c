"""The picture of an audit."""

from __future__ import annotations

import io

import numpy as np
import pytest
from matplotlib.figure import Figure

from hwnas.report.audit import AuditRow, audit_figure

ROWS = [
    AuditRow(label="base", group="base block", excess={"fp32": [1.0], "int8": [1.0]}, speedup=2.0),
    AuditRow(
        label="hswish",
        group="activation",
        excess={"fp32": [1.1, 1.2], "int8": [2.0, 8.0]},
        speedup=0.5,
        verdict="leave out",
        note="int8",
    ),
    AuditRow(label="si$lu\x00", group="activation", excess={"fp32": [1.4]}, verdict="costly"),
]


def words(figure: Figure) -> set[str]:
    return {text.get_text() for axes in figure.axes for text in axes.texts}


def test_a_mean_is_drawn_at_the_geometric_mean_of_its_shapes() -> None:
    lines = [np.asarray(line.get_xdata(), dtype=float) for line in audit_figure(ROWS, title="board").axes[0].lines]
    assert [4.0] in [x.round(6).tolist() for x in lines]
    assert [2.0, 8.0] in [x.tolist() for x in lines]


def test_verdicts_stand_beside_their_rows_in_words() -> None:
    assert {"leave out in int8", "costly", "fine", "0.50", "2.00"} <= words(audit_figure(ROWS, title="board"))


def test_everything_measured_is_inside_the_axes() -> None:
    cost, gain = audit_figure(ROWS, title="board").axes
    assert cost.get_xlim()[0] < 1.0
    assert cost.get_xlim()[1] > 8.0
    assert gain.get_xlim()[0] < 0.5
    assert gain.get_xlim()[1] > 2.0


@pytest.mark.parametrize("precision", ["fp32", "int8"])
def test_a_device_of_one_precision_is_drawn_without_speed_up(precision: str) -> None:
    figure = audit_figure([AuditRow(label="a", group="b", excess={precision: [1.0, 1.3]})], title="board")
    (cost,) = figure.axes
    assert "fine" in words(figure)
    assert cost.get_xlim()[1] > 1.3
    figure.savefig(io.BytesIO(), format="png")


def test_a_name_with_a_dollar_or_an_unprintable_character_is_drawn() -> None:
    audit_figure(ROWS, title="a$b\x00$", subtitle="long " * 60).savefig(io.BytesIO(), format="svg")
