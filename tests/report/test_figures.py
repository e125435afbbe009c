import numpy as np
import pytest
from matplotlib.axes import Axes
from matplotlib.figure import Figure
from matplotlib.patches import Rectangle

from hwnas.errors import StudyError
from hwnas.report import front_figure, history_figure, prediction_figure, share_figure
from hwnas.report.figures import front_rows
from hwnas.types import Direction

from . import made_up

STUDY = made_up.study(300)


def axes(figure: Figure) -> Axes:
    return figure.axes[0]


def labels(figure: Figure) -> set[str]:
    return {text.get_text() for legend in figure.legends for text in legend.get_texts()}


def dots(figure: Figure, label: str) -> list[tuple[float, float]]:
    line = next(line for line in axes(figure).lines if line.get_label() == label)
    return [(x, y) for x, y in np.asarray(line.get_xydata(), dtype=float).tolist()]


def test_the_front_is_what_the_study_calls_front_under_the_same_limits() -> None:
    rows = front_rows(STUDY, metric="accuracy", cost="latency_ms", limits=STUDY.limits)
    assert {int(STUDY.numbers[r]) for r in rows} == {t.number for t in STUDY.front()}


def test_no_network_of_the_front_is_cheaper_and_better_than_another() -> None:
    rows = front_rows(STUDY, metric="accuracy", cost="latency_ms", limits={})
    assert len(rows) > 3
    assert np.all(np.diff(STUDY.values["latency_ms"][rows]) > 0)
    assert np.all(np.diff(STUDY.values["accuracy"][rows]) > 0)


def test_equal_networks_are_one_point_of_the_front() -> None:
    values = {"accuracy": np.array([0.9, 0.9, 0.8]), "latency_ms": np.array([1.0, 1.0, 2.0])}
    study = made_up.study(3, values=values, upper={}, feasible=np.ones(3, dtype=bool))
    assert front_rows(study, metric="accuracy", cost="latency_ms", limits={}) == [0]


def test_every_trial_is_drawn_once_as_within_or_over_the_limits() -> None:
    figure = front_figure(STUDY, limits={"latency_ms": 0.6})
    kept = int(STUDY.keeps({"latency_ms": 0.6}).sum())
    assert len(dots(figure, "evaluated")) == kept
    assert len(dots(figure, "over a limit")) == len(STUDY) - kept


def test_accuracy_is_drawn_in_percent_and_the_limit_at_its_place() -> None:
    figure = front_figure(STUDY, limits={"latency_ms": 0.6, "accuracy": 0.96})
    lines = [
        np.asarray(line.get_xydata(), dtype=float)[0] for line in axes(figure).lines if line.get_linestyle() == "--"
    ]
    assert {round(x, 6) for x, _ in lines} >= {0.6}
    assert {round(y, 6) for _, y in lines} >= {96.0}
    assert axes(figure).get_ylabel() == "measured accuracy (%)"


def test_the_chosen_network_reaches_to_its_upper_bound() -> None:
    figure = front_figure(STUDY, trial=7)
    value, upper = STUDY.values["latency_ms"][7], STUDY.upper["latency_ms"][7]
    accuracy = 100 * STUDY.values["accuracy"][7]
    assert dots(figure, "chosen") == [pytest.approx((value, accuracy))]
    assert any(np.array_equal(line.get_xdata(), [value, upper]) for line in axes(figure).lines)


def test_only_what_is_there_is_in_the_legend() -> None:
    assert labels(front_figure(STUDY)) == {"evaluated", "front"}
    assert "limit" in labels(front_figure(STUDY, limits={"latency_ms": 0.6}))


def test_networks_far_below_the_rest_are_counted_and_not_hidden_silently() -> None:
    accuracy = STUDY.values["accuracy"].copy()
    accuracy[:5] = 0.1
    figure = front_figure(made_up.study(300, values={**STUDY.values, "accuracy": accuracy}))
    low, _ = axes(figure).get_ylim()
    hidden = int((100 * accuracy < low).sum())
    assert hidden >= 5
    assert [t.get_text() for t in axes(figure).texts] == [f"{hidden} more outside"]


def test_the_title_and_other_metrics_are_taken() -> None:
    figure = front_figure(STUDY, cost="size_bytes", title="A $title$")
    assert figure.legends[0].get_title().get_text() == "A $title$"
    assert axes(figure).get_xlabel() == "size (kB)"


@pytest.mark.parametrize("wrong", [{"metric": "top1"}, {"cost": "energy_mj"}, {"limits": {"energy_mj": 1.0}}])
def test_an_unknown_metric_is_refused_with_the_known_ones(wrong: dict[str, object]) -> None:
    with pytest.raises(StudyError, match="known: accuracy, latency_ms, size_bytes"):
        front_figure(STUDY, **wrong)  # type: ignore[arg-type]


def test_a_study_without_values_is_refused() -> None:
    values = {"accuracy": np.full(2, np.nan), "latency_ms": np.ones(2)}
    with pytest.raises(StudyError, match="run more trials"):
        front_figure(made_up.study(2, values=values, upper={}))


def test_a_minimised_metric_has_its_front_below() -> None:
    loss = 1 - STUDY.values["accuracy"]
    directions = {"loss": Direction.MINIMIZE, "latency_ms": Direction.MINIMIZE}
    study = made_up.study(300, values={"loss": loss, "latency_ms": STUDY.values["latency_ms"]}, directions=directions)
    rows = front_rows(study, metric="loss", cost="latency_ms", limits={})
    assert rows == front_rows(STUDY, metric="accuracy", cost="latency_ms", limits={})
    front_figure(study, metric="loss")


def test_held_out_networks_are_filled_and_fitted_ones_hollow() -> None:
    figure = prediction_figure(made_up.points())
    faces = {str(line.get_label()): line.get_markerfacecolor() for line in axes(figure).lines}
    assert faces["int8, used in the fit"] == "none"
    assert faces["int8, held out"] != "none"
    assert len(dots(figure, "int8, held out")) == sum(p.held_out and p.precision == "int8" for p in made_up.points())


def test_both_axes_of_predictions_show_the_same_range() -> None:
    drawn = axes(prediction_figure(made_up.points()))
    assert drawn.get_xlim() == drawn.get_ylim()


def test_blocks_are_bars_in_network_order_from_the_top() -> None:
    shares = made_up.shares()
    drawn = axes(share_figure(shares))
    assert [t.get_text() for t in drawn.get_yticklabels()] == [s.slot for s in shares]
    assert [bar.get_width() for bar in drawn.patches if isinstance(bar, Rectangle)] == [s.latency_ms for s in shares]
    assert drawn.yaxis_inverted()


def test_the_smallest_network_is_left_out_of_the_curve_if_it_was_not_trained() -> None:
    assert labels(history_figure([{"step": 1.0, "loss": 2.0}, {"step": 2.0, "loss": 1.0}])) == {"largest network"}


def test_figures_leave_the_users_settings_alone() -> None:
    import matplotlib

    before = dict(matplotlib.rcParams)
    front_figure(STUDY, trial=3)
    assert dict(matplotlib.rcParams) == before
