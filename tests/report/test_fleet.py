"""The table, the picture and the page of a fleet, from made-up rows."""

from __future__ import annotations

import dataclasses
import xml.etree.ElementTree as ET
from typing import Any

import numpy as np
import pytest

from hwnas.allowed import Between, Limits
from hwnas.report.fleet import (
    DeviceFront,
    FleetDevice,
    FleetInputs,
    FleetRow,
    budget_text,
    fleet_figure,
    render_fleet,
)
from hwnas.report.palette import DEVICE_ROLES, LIGHT

from .test_page import HOSTILE, _Page

DEVICES = (
    FleetDevice(name="cpu", runtime="onnxruntime", hardware="a processor", precisions=("int8",), measured=30),
    FleetDevice(name="board", runtime="litert", hardware="a board", precisions=("int8",), measured=10, reused=20),
    FleetDevice(name="phone", runtime="litert", problem="the board cannot be reached"),
)
KEPT = FleetRow(
    device="cpu",
    budget={"latency_fraction": 0.5},
    limits={"latency_ms": 0.8},
    deployment="deployments/cpu_latency-0.8",
    precision="int8",
    trial=7,
    accuracy=0.95,
    n_test=400,
    validation_accuracy=0.96,
    latency_ms=0.75,
    source="measured",
    size_bytes=61_300,
    speedup=1.42,
)
UNREACHABLE = FleetRow(
    device="board",
    budget={"latency_ms": 1.0, "size_bytes": 300e3},
    limits={"latency_ms": 1.0, "size_bytes": 300e3},
    problem="no network keeps it",
    reachable={"latency_ms": 1.8},
    exit_status=3,
)
AWAY = FleetRow(device="phone", budget={}, problem="the board cannot be reached", exit_status=1)


def front(device: str, slowdown: float = 1.0, n: int = 5) -> DeviceFront:
    return DeviceFront(
        device=device, latency_ms=slowdown * np.geomspace(0.4, 1.6, n), accuracy=np.linspace(0.9, 0.97, n)
    )


FRONTS = (front("cpu"), front("board", 4.0))


def inputs(**changes: Any) -> FleetInputs:
    fields: dict[str, Any] = {"space": "mobilenet-tiny", "folder": "runs/a", "devices": DEVICES, "fronts": FRONTS}
    return FleetInputs(**(fields | {"rows": (KEPT, UNREACHABLE, AWAY)} | changes))


# ---------------------------------------------------------------- words


@pytest.mark.parametrize(
    ("budget", "expected"),
    [
        ({}, "no limits"),
        ({"latency_fraction": 0.5}, "latency at most 50 % of the largest"),
        ({"latency_ms": 2.0, "size_bytes": 300e3}, "latency at most 2 ms, size at most 300 kB"),
        ({"latency_fraction": 0.8}, "latency at most 80 % of the largest"),
        ({"latency_fraction": 0.8001}, "latency at most 80.01 % of the largest"),
        ({"latency_ms": 0.0123456}, "latency at most 12.3456 µs"),
        ({"latency_ms": 0.0123457}, "latency at most 12.3457 µs"),
        ({"latency_ms": 1e-5}, "latency at most 0.01 µs"),
        ({"latency_ms": Between(at_least=1.0, at_most=2.0)}, "latency at least 1 ms, latency at most 2 ms"),
        ({"accuracy": 0.9}, "accuracy at least 90 %"),
        ({"macs": 1_234_567.0, "size_bytes": 0.0}, "MACs at most 1.234567 million, size at most 0 B"),
    ],
)
def test_a_budget_is_said_with_its_units(budget: Limits, expected: str) -> None:
    assert budget_text(budget).replace("\u00a0", " ") == expected


# ---------------------------------------------------------------- the picture


def test_every_device_has_a_colour_and_its_name_in_the_legend() -> None:
    figure = fleet_figure(FRONTS, [KEPT])
    lines = {line.get_label(): line.get_color() for line in figure.axes[0].lines if line.get_drawstyle() != "default"}
    assert lines == {"cpu": LIGHT["device1"], "board": LIGHT["device2"]}
    assert [t.get_text() for t in figure.legends[0].get_texts()] == ["cpu", "board", "deployed"]


def test_a_front_is_drawn_in_steps_over_a_logarithmic_latency() -> None:
    axes = fleet_figure(FRONTS, []).axes[0]
    assert axes.get_xscale() == "log"
    x, y = np.asarray(axes.lines[1].get_xydata()).T
    assert x == pytest.approx(FRONTS[1].latency_ms)
    assert y == pytest.approx(100 * FRONTS[1].accuracy)


def test_what_was_deployed_is_marked_at_its_measured_latency() -> None:
    axes = fleet_figure(FRONTS, [KEPT, UNREACHABLE]).axes[0]
    (mark,) = [line for line in axes.lines if line.get_marker() == "D"]
    assert np.asarray(mark.get_xydata()).tolist() == [[0.75, 96.0]]
    assert mark.get_markerfacecolor() == LIGHT["device1"]


def test_without_deployments_the_legend_has_only_devices() -> None:
    assert len(fleet_figure(FRONTS, [AWAY]).legends[0].get_texts()) == 2


@pytest.mark.parametrize("span", [1.05, 1.5, 4.0, 300.0])
def test_the_latency_axis_has_numbers_on_it_however_wide_it_is(span: float) -> None:
    narrow = DeviceFront(device="a", latency_ms=np.array([1.0, span]), accuracy=np.array([0.5, 0.6]))
    figure = fleet_figure([narrow], [])
    figure.draw_without_rendering()
    low, high = figure.axes[0].get_xlim()
    shown = [t for t in figure.axes[0].get_xticklabels() if low <= t.get_position()[0] <= high and t.get_text()]
    assert len(shown) >= 2


def test_more_devices_than_colours_are_told_apart_by_their_marks() -> None:
    n = len(DEVICE_ROLES) + 2
    figure = fleet_figure([front(f"device {i}", 1 + i) for i in range(n)], [])
    assert len(figure.legends[0].get_texts()) == n


# ---------------------------------------------------------------- the page


def test_the_page_shows_every_row_with_its_figures() -> None:
    text = _Page(render_fleet(inputs())).text
    for said in ("95.0 %", "0.750 ms", "limit 0.800 ms", "61.3 kB", "1.42 ×", "92.4 to 96.7 %"):
        assert said in text


def test_a_deployment_links_to_its_own_page() -> None:
    page = _Page(render_fleet(inputs()))
    assert [v for tag, k, v in page.attributes if (tag, k) == ("a", "href")] == [f"{KEPT.deployment}/report.html"]


def test_a_budget_without_a_deployment_says_what_is_nearest_and_why() -> None:
    text = _Page(render_fleet(inputs())).text
    assert "2 of 3 budgets have no deployment" in text
    assert "the nearest is latency 1.80 ms, the limit 1 ms" in text
    assert "the board cannot be reached" in text


def test_all_kept_is_said_first() -> None:
    text = _Page(render_fleet(inputs(rows=(KEPT,), devices=DEVICES[:1]))).text
    assert "Every budget is kept" in text
    assert "1 deployment for 1 device" in text


def test_a_deployment_from_before_says_what_is_wrong_now() -> None:
    row = dataclasses.replace(KEPT, problem="the board cannot be reached", exit_status=1)
    assert "from before; now: the board cannot be reached" in _Page(render_fleet(inputs(rows=(row,)))).text


def test_it_says_how_much_was_shared() -> None:
    text = _Page(render_fleet(inputs())).text
    assert "40 accuracies were measured" in text
    assert "20 were known" in text


def test_a_fleet_without_any_front_has_a_page_without_a_picture() -> None:
    page = _Page(render_fleet(inputs(rows=(AWAY,), devices=DEVICES[2:], fronts=())))
    assert "svg" not in page.tags


def test_the_page_loads_nothing_and_runs_no_script() -> None:
    html = render_fleet(inputs())
    page = _Page(html)
    assert "script" not in page.tags
    assert not [v for _, k, v in page.attributes if k == "src" or v.startswith(("http", "//"))]
    assert html == render_fleet(inputs())


def test_whatever_a_device_is_called_the_page_is_sound() -> None:
    devices = (dataclasses.replace(DEVICES[0], name=HOSTILE), DEVICES[1])
    rows = (dataclasses.replace(KEPT, device=HOSTILE, problem=HOSTILE),)
    page = _Page(render_fleet(inputs(devices=devices, rows=rows, fronts=(front(HOSTILE),))))
    assert "script" not in page.tags


def test_the_picture_on_the_page_is_well_formed() -> None:
    html = render_fleet(inputs())
    svg = html[html.index("<svg") : html.index("</svg>") + len("</svg>")]
    assert "cpu" in ET.fromstring(svg).attrib["aria-label"]


def test_a_fleet_by_a_given_networks_answers_speaks_of_agreement_alone() -> None:
    row = dataclasses.replace(KEPT, metric="agreement")
    html = render_fleet(inputs(rows=(row, UNREACHABLE), metric="agreement"))
    assert "accura" not in html.lower()
    assert "Agreement with the given network is measured on the test images" in html
    assert "agreement with the given network on the validation images" in html
