"""What regions lose in each precision: which networks tell it, and what is told."""

from __future__ import annotations

from collections.abc import Mapping
from functools import cache

import numpy as np
import pytest

from hwnas import pipeline
from hwnas.config import Config
from hwnas.cost import SlotBlocks, SlotCost, closed_form_costs, feasible_encodings, macs
from hwnas.limits import Limit
from hwnas.pipeline.seeding import seed_architectures
from hwnas.pipeline.sensitivities import SensitivityPlan, plan_sensitivities
from hwnas.precisions import is_conversion
from hwnas.search import Problem, Sampling, Study, search
from hwnas.spaces import Space
from hwnas.testing.spaces import tiny_space
from hwnas.types import Block, Option
from tests.runs import ReadConsole

SPACE: Space = tiny_space()
REGIONS = [c.name for c in SPACE.choices if c.name.endswith(".precision")]
ENOUGH = 3 * (len(REGIONS) + 1)
LOST = {name: 0.01 * (i + 1) for i, name in enumerate(REGIONS)}  # the later in the network, the more


@cache
def models(int8: float = 0.5) -> dict[str, SlotCost]:
    """Of a device where int8 takes so many times as long as floats."""

    def milliseconds(block: Block) -> float:
        return 0.001 if is_conversion(block.kind) else 1e-6 * macs(block) * (int8 if block.precision == "int8" else 1.0)

    blocks = SlotBlocks.of(SPACE)
    latency = SlotCost(metric="latency_ms", table=blocks.table(milliseconds), upper_ratio=1.01)
    return {"latency_ms": latency, **closed_form_costs(blocks)}


def within(share: float, int8: float = 0.5) -> Limit:
    """A limit so far up from the fastest network to the slowest, by their upper bounds."""
    latency = models(int8)["latency_ms"]
    low, high = latency.bounds()
    return Limit(metric="latency_ms", value=latency.upper_ratio * (low + share * (high - low)))


def plan(
    limit: Limit, *, int8: float = 0.5, n_trials: int = ENOUGH, known: SensitivityPlan | None = None
) -> SensitivityPlan:
    before = np.stack(known.encodings) if known else None
    return plan_sensitivities(SPACE, models(int8), [limit], n_trials=n_trials, known=before)


def accuracy(architecture: Mapping[str, Option]) -> dict[str, float]:
    """Grows with kernels, expansions and depth, and falls by what regions lose in int8."""
    size = sum(float(v) for v in architecture.values() if not isinstance(v, str))
    return {"accuracy": 0.5 + 0.005 * size - sum(LOST[k] for k, v in architecture.items() if v == "int8")}


def searched(found: SensitivityPlan, n_trials: int, *, int8: float = 0.5, sampler: str = "random") -> Study:
    problem = Problem(
        SPACE,
        {"accuracy": "maximize", "latency_ms": "minimize"},
        n_trials=n_trials,
        closed_form=models(int8),
    )
    initial = tuple(map(SPACE.decode, found.encodings))
    return search(problem, accuracy, sampling=Sampling(sampler=sampler, initial=initial))


def test_the_first_is_the_largest_of_the_exact_networks_within_nine_tenths_of_the_limits() -> None:
    limit = within(0.6)
    found = plan(limit)
    assert found.exact is not None
    every = np.unique(SPACE.sample(100_000, np.random.default_rng(0)), axis=0)
    of_regions = [i for i, c in enumerate(SPACE.choices) if c.name in REGIONS]
    exact = ((every[:, of_regions] == 1) | ~SPACE.active(every)[:, of_regions]).all(axis=1)
    room = Limit(metric="latency_ms", value=0.9 * limit.value)
    candidates = every[exact & feasible_encodings(every, models(), [room])]
    arithmetic = models()["macs"]
    assert arithmetic.estimate(found.exact[None]).value[0] >= 0.99 * arithmetic.estimate(candidates).value.max()
    assert set(SPACE.decode(found.exact).values()) & {"fp32", "int8"} == {"fp32"}


def test_the_others_differ_in_the_precision_of_one_region_each_and_keep_the_limits() -> None:
    limit = within(0.6)
    found = plan(limit)
    assert found.exact is not None
    exact = SPACE.decode(found.exact)
    assert {choice for choice, _ in found.changed} == {name for name in exact if name in REGIONS}
    for (choice, precision), encoding in found.changed.items():
        assert SPACE.decode(encoding) == {**exact, choice: precision}
    assert feasible_encodings(np.stack(found.encodings), models(), [limit]).all()


def test_a_precision_that_would_break_a_limit_is_left_out() -> None:
    slowest = float(models(3.0)["latency_ms"].estimate(SPACE.largest()[None]).upper[0])
    limit = Limit(metric="latency_ms", value=1.05 * slowest)
    found = plan(limit, int8=3.0)
    assert 0 < len(found.changed) < len(REGIONS)
    assert feasible_encodings(np.stack(found.encodings), models(3.0), [limit]).all()


def test_where_trials_are_few_nothing_is_measured_and_that_is_told() -> None:
    found = plan(within(1.0), n_trials=ENOUGH - 1)
    assert found.encodings == []
    assert found.why_not == "it may take 7 networks, more than a third of the 20 that search.n_trials allows"


def test_where_no_exact_network_keeps_the_limits_that_is_told() -> None:
    found = plan(within(0.0))
    assert found.encodings == []
    assert found.why_not == "no network that is in the most exact precision throughout keeps the limits"


def test_a_space_of_one_precision_has_nothing_to_tell() -> None:
    space = SPACE.restrict(precisions=["fp32"])
    found = plan_sensitivities(space, closed_form_costs(SlotBlocks.of(space)), [], n_trials=100)
    assert (found.encodings, found.why_not) == ([], "")


def test_networks_that_told_it_before_tell_it_again_if_they_keep_the_limits() -> None:
    before = plan(within(0.6))
    looser, tighter = plan(within(0.9), known=before), plan(within(0.4), known=before)
    assert np.array_equal(looser.encodings, before.encodings)
    assert not np.array_equal(tighter.exact, before.exact)  # type: ignore[arg-type]


def test_a_study_that_begins_with_them_tells_what_each_region_loses_the_most_first() -> None:
    found = plan(within(1.0))
    study = searched(found, 10)
    assert [list(e) for e in study.encodings[:7]] == [list(e) for e in found.encodings]
    told = found.read(study)
    assert [s.choice for s in told] == REGIONS[::-1]
    assert [s.loss for s in told] == pytest.approx([LOST[s.choice] for s in told])


def test_a_study_without_the_exact_network_tells_nothing() -> None:
    found = plan(within(1.0))
    assert found.read(searched(SensitivityPlan(exact=None), 3)) == ()


def test_where_int8_is_slower_the_front_is_fp32() -> None:
    study = searched(SensitivityPlan(), 40, int8=2.0, sampler="predictor")
    precisions = {v for t in study.front() for k, v in t.architecture.items() if k in REGIONS}
    assert precisions == {"fp32"}
    assert any("int8" in t.architecture.values() for t in study.trials)  # it was tried


@pytest.mark.parametrize("int8", [1.2, 3.0])
def test_where_int8_is_slower_a_search_begins_with_fp32(int8: float) -> None:
    seeds = seed_architectures(SPACE, models(int8), [])
    assert {v for a in seeds for k, v in a.items() if k in REGIONS} == {"fp32"}
    assert any("int8" in a.values() for a in seed_architectures(SPACE, models(0.2), []))


def test_where_int8_is_faster_the_front_has_it() -> None:
    study = searched(SensitivityPlan(), 40, int8=0.2, sampler="predictor")
    assert any("int8" in t.architecture.values() for t in study.front())


def test_a_search_measures_and_tells_them_once(config: Config, evaluated: list[object]) -> None:
    asked = config.replaced({"search.n_trials": ENOUGH, "search.sensitivities": True})
    result = pipeline.search(asked, console=ReadConsole())
    assert len(result.sensitivities) >= 2
    losses = [s.loss for s in result.sensitivities]
    assert losses == sorted(losses, reverse=True)
    (note,) = [n for n in result.notes if n.startswith("Accuracy lost by single regions")]
    worst = result.sensitivities[0]
    assert f"{worst.choice.removesuffix('.precision')} in int8 {100 * worst.loss:.1f}" in note
    evaluated.clear()
    again = pipeline.search(asked, console=ReadConsole())
    assert not evaluated
    assert again.sensitivities == result.sensitivities


def test_a_short_search_says_why_it_measured_none(config: Config) -> None:
    result = pipeline.search(config.replaced({"search.sensitivities": True}), console=ReadConsole())
    assert any(
        n.startswith("What each region loses in each precision was not measured: it may take") for n in result.notes
    )


def test_a_search_that_is_not_asked_measures_none(config: Config) -> None:
    result = pipeline.search(config, console=ReadConsole())
    assert result.sensitivities == ()
    assert not any("each precision" in note for note in result.notes)
