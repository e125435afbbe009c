"""The page, the tables and the pictures of a comparison, from made-up searches."""

from __future__ import annotations

import dataclasses
import xml.etree.ElementTree as ET
from typing import Any

import numpy as np
import pytest

from hwnas.report.comparison import (
    Cell,
    ComparedGroup,
    ComparisonInputs,
    Spread,
    measures_table,
    render_comparison,
    studies_table,
)
from hwnas.report.comparison_figures import curves_figure, fronts_figure
from hwnas.search.measures import quartiles
from hwnas.types import Direction

from .made_up import study
from .test_page import HOSTILE, _Page

CURVES = [np.linspace(0.5, end, 40) for end in (0.9, 0.92, 0.97)]
FRONT = (np.array([0.3, 0.5, 0.9]), np.array([0.5, 0.93, 0.97]))
SPREAD = Spread(lower=0.91, median=0.92, upper=0.945)


def group(name: str = "nsga2", **changes: Any) -> ComparedGroup:
    fields: dict[str, Any] = {
        "name": name,
        "studies": ("a", "b", "c"),
        "share": quartiles(CURVES),
        "share_at": SPREAD,
        "front": FRONT,
        "distance": SPREAD,
        "epsilon": Spread(lower=0.1, median=0.1, upper=0.1),
        "evaluations_to": {0.9: 37.5, 0.99: None},
        "improvement": None,
        "distances": None,
        "improvements": None,
    }
    return ComparedGroup(**(fields | changes))


def inputs(**changes: Any) -> ComparisonInputs:
    told = study(provenance={"device": "cpu", "sampler": "nsga2", "seed": 3, "seconds": 1234.5})
    fields: dict[str, Any] = {
        "studies": {"a": told, "b": study()},
        "groups": (group(), group("random", share=quartiles(CURVES[:1]), share_at=Spread(lower=0, median=0, upper=0))),
        "reference": {"accuracy": 0.9, "latency_ms": 0.8},
        "n_common": 40,
        "metric": "accuracy",
        "cost": "latency_ms",
    }
    return ComparisonInputs(**(fields | changes))


def test_the_page_says_who_is_ahead_by_what_reference() -> None:
    words = " ".join(_Page(render_comparison(inputs())).words)
    assert "nsga2 is ahead" in words.replace("  ", " ")
    assert "92.0\u00a0%" in words
    assert "accuracy 90.0\u00a0%, latency 0.800\u00a0ms" in words


def test_the_same_inputs_give_the_same_page() -> None:
    assert render_comparison(inputs()) == render_comparison(inputs())


def test_the_page_loads_nothing_and_runs_no_script() -> None:
    page = _Page(render_comparison(inputs()))
    assert not {"script", "link", "img", "iframe"} & set(page.tags)
    assert len(page.ids) == len(set(page.ids))


def test_whatever_searches_are_called_the_page_is_sound() -> None:
    hostile = study(name=HOSTILE, space_name=HOSTILE, note=HOSTILE, provenance={"device": HOSTILE, "sampler": HOSTILE})
    page = render_comparison(inputs(studies={HOSTILE: hostile}, groups=(group(HOSTILE),), notes=(HOSTILE,)))
    assert "script" not in _Page(page).tags
    assert "\x07" not in page


def test_pictures_are_well_formed_and_say_what_they_show() -> None:
    html = render_comparison(inputs())
    pictures = [part[: part.index("</svg>") + 6] for part in html.split("<svg")[1:]]
    labels = [ET.fromstring("<svg" + picture).attrib["aria-label"] for picture in pictures]
    assert "nsga2 ends at 92.0" in labels[0]
    assert "nsga2 of 3\u00a0networks" in labels[1]


def test_without_a_second_metric_there_is_no_picture_of_fronts() -> None:
    html = render_comparison(inputs(cost="", groups=(group(front=(np.zeros(0), np.zeros(0))),)))
    assert html.count("<svg") == 1


def test_a_measure_tells_median_and_quartiles_and_what_was_not_reached() -> None:
    headers, rows = measures_table(inputs())
    row = dict(zip(headers, rows[0], strict=True))
    assert row["Hypervolume after 40"] == Cell("92.0\u00a0%", "91.0\u00a0% to 94.5\u00a0%")
    assert row["Networks to 90\u00a0%"] == Cell("37.5")
    assert row["Networks to 99\u00a0%"] == Cell("not reached")
    assert str(row["Additive ε"]) == "0.100"
    # nobody searched at random
    assert "Over random" not in headers


def test_a_search_tells_how_it_came_about_as_far_as_it_does() -> None:
    table = studies_table(inputs().studies)
    assert table.rows[0][:4] == ("a", "cpu", "nsga2", "3")
    assert table.rows[0][-1] == "1,234 s"
    assert table.rows[1][1:4] == ("not told", "not told", "not told")
    assert table.rows[0][4] == "latency at most 0.600\u00a0ms"


def test_several_searches_have_a_band_and_one_has_none() -> None:
    figure = curves_figure({"three": quartiles(CURVES), "one": quartiles(CURVES[:1])}, axis="share (%)", factor=100)
    (axes,) = figure.axes
    assert len(axes.collections) == 1
    assert [line.get_ydata()[-1] for line in axes.lines] == pytest.approx([92.0, 90.0])
    assert [text.get_text() for text in figure.legends[0].get_texts()] == ["three", "one"]


def test_the_first_evaluations_do_not_press_the_others_together() -> None:
    # of the first tenth, four evaluations, nothing counts
    late = np.concatenate([[0.0, 0.0, 0.5], np.linspace(0.9, 0.97, 37)])
    assert curves_figure({"one": quartiles([late])}, axis="share").axes[0].get_ylim()[0] > 0.85
    assert curves_figure({"one": quartiles([1 - late])}, axis="share", falling=True).axes[0].get_ylim()[1] < 0.15


def test_distances_and_improvements_over_evaluations_are_drawn_where_they_are_known() -> None:
    known = group(distances=quartiles([1 - c for c in CURVES]), improvements=quartiles(CURVES))
    html = render_comparison(inputs(groups=(known, group("random", distances=quartiles(CURVES)))))
    labels = [
        ET.fromstring("<svg" + part[: part.index("</svg>") + 6]).attrib["aria-label"] for part in html.split("<svg")[1:]
    ]
    assert labels[1].endswith("nsga2 ends at 0.0800; random ends at 0.920")
    assert labels[2].endswith("evaluations: nsga2 ends at +92.0\u00a0%")


def test_what_is_worse_than_the_reference_is_not_drawn() -> None:
    figure = fronts_figure(
        {"a": FRONT},
        cost=("latency_ms", Direction.MINIMIZE),
        metric=("accuracy", Direction.MAXIMIZE),
        reference={"accuracy": 0.9, "latency_ms": 1.0},
    )
    (axes,) = figure.axes
    assert axes.lines[0].get_ydata() == pytest.approx([93.0, 97.0])
    assert axes.get_xlabel() == "latency (ms)"


def test_lines_of_many_searches_differ_in_colour_dash_or_marker() -> None:
    names = [f"s{i}" for i in range(8)]
    figure = curves_figure({name: quartiles(CURVES) for name in names}, axis="share")
    looks = {(line.get_color(), str(line.get_linestyle())) for line in figure.axes[0].lines}
    assert len(looks) == 8


def test_a_page_of_one_group_names_no_rival() -> None:
    words = " ".join(_Page(render_comparison(dataclasses.replace(inputs(), groups=(group(),)))).words)
    assert "is ahead" not in words
