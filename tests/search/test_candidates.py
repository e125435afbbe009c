import numpy as np
import pytest
from hypothesis import given, settings
from hypothesis import strategies as st

from hwnas.allowed import Between
from hwnas.cost import SlotBlocks, SlotCost, closed_form_costs
from hwnas.errors import InfeasibleError
from hwnas.search import Problem
from hwnas.search.candidates import Candidates, ExhaustedError, key_of
from hwnas.spaces.presets import mobilenet_tiny
from hwnas.types import FloatArray, IntArray, SearchSpace

from .problems import SPACE, WIDE, Bounded, cost, problem

ENCODINGS = st.tuples(*[st.integers(0, 3)] * 3).map(lambda t: np.array(t, dtype=np.int64))


def rng() -> np.random.Generator:
    return np.random.default_rng(0)


@settings(deadline=None)
@given(ENCODINGS, st.sets(ENCODINGS.map(lambda e: key_of(SPACE.canonical(e))), max_size=8))
def test_result_is_canonical_new_and_within_limits(encoding: IntArray, taken: set[bytes]) -> None:
    found = Candidates(problem()).nearest_new(encoding, taken, rng())
    assert (SPACE.canonical(found) == found).all()
    assert key_of(found) not in taken
    assert cost(found[None])[0] <= 4


@settings(deadline=None)
@given(ENCODINGS)
def test_a_proposal_that_fits_is_not_changed(encoding: IntArray) -> None:
    found = Candidates(problem(limit=None)).nearest_new(encoding, set(), rng())
    assert (found == SPACE.canonical(encoding)).all()


@settings(deadline=None)
@given(ENCODINGS)
def test_a_listed_space_gives_the_nearest_network_of_all(encoding: IntArray) -> None:
    found = Candidates(problem()).nearest_new(encoding, set(), rng())
    proposal = SPACE.canonical(encoding)
    rows = SPACE.canonical(np.indices((4, 4, 4)).reshape(3, -1).T)
    rows = rows[cost(rows) <= 4]
    assert (found != proposal).sum() == (rows != proposal).sum(axis=1).min()


def test_a_listed_space_is_exhausted_when_all_that_fit_are_taken() -> None:
    rows = np.unique(SPACE.canonical(np.indices((4, 4, 4)).reshape(3, -1).T), axis=0)
    taken = {key_of(r) for r in rows if r.sum() <= 4}
    with pytest.raises(ExhaustedError, match=rf"all {len(taken)} networks"):
        Candidates(problem()).nearest_new(rows[0], taken, rng())


@pytest.mark.parametrize("limit", [30.0, 12.0, 3.0])
def test_a_wide_space_is_repaired_to_a_tight_limit(limit: float) -> None:
    candidates = Candidates(problem(WIDE, limit=limit))
    found = candidates.nearest_new(np.full(20, 3, dtype=np.int64), set(), rng())
    assert cost(found[None])[0] <= limit


def test_a_taken_network_of_a_wide_space_gives_way_to_a_neighbour() -> None:
    proposal = np.ones(20, dtype=np.int64)
    found = Candidates(problem(WIDE, limit=30.0)).nearest_new(proposal, {key_of(proposal)}, rng())
    assert (found != proposal).sum() == 1


def test_limits_are_kept_by_the_upper_bound() -> None:
    candidates = Candidates(problem(closed_form=Bounded(SPACE)))
    found = candidates.nearest_new(np.array([2, 1, 1]), set(), rng())
    assert cost(found[None])[0] + 1 <= 4


def test_a_network_whose_closed_form_is_nan_is_never_given() -> None:
    def only_small_runs(encodings: IntArray) -> FloatArray:
        return np.where(cost(encodings) > 2, np.nan, cost(encodings))

    candidates = Candidates(problem(limit=None, closed_form=only_small_runs))
    assert cost(candidates.nearest_new(np.array([3, 3, 3]), set(), rng())[None])[0] <= 2


@pytest.mark.parametrize("space", [SPACE, WIDE])
def test_a_limit_below_the_exact_minimum_is_refused_with_the_smallest(space: object) -> None:
    candidates = Candidates(problem(space, limit=-2.0, closed_form=Bounded(space)))  # type: ignore[arg-type]
    with pytest.raises(InfeasibleError, match="smallest reachable is 1") as e:
        candidates.require_feasible(rng())
    assert (e.value.metric, e.value.limit, e.value.reachable) == ("cost", -2.0, 1.0)
    assert e.value.architecture is not None


def test_a_wide_space_without_a_fit_names_the_nearest_miss() -> None:
    def never_small(encodings: IntArray) -> FloatArray:
        return 5 + cost(encodings)

    with pytest.raises(InfeasibleError, match=r"98,304 candidates tried.*smallest found is 5") as e:
        Candidates(problem(WIDE, limit=4.0, closed_form=never_small)).require_feasible(rng())
    assert e.value.reachable == pytest.approx(5.0)  # the bounded search does reach the true minimum here


def test_the_bounded_search_finds_a_rare_network() -> None:
    def one_in_a_million(encodings: IntArray) -> FloatArray:  # only c0..c9 all 3 keep the limit
        return 10.0 - (np.asarray(encodings)[:, :10] == 3).sum(axis=1)

    found = Candidates(problem(WIDE, limit=0.5, closed_form=one_in_a_million)).nearest_new(
        np.zeros(20, dtype=np.int64), set(), rng()
    )
    assert (found[:10] == 3).all()


def test_the_only_network_within_a_limit_is_found_through_its_closed_form() -> None:
    candidates = Candidates(problem(WIDE, limit=1.0, closed_form=Bounded(WIDE)))  # upper is 1 for the smallest alone
    assert (candidates.nearest_new(np.full(20, 3, dtype=np.int64), set(), rng()) == 0).all()


def test_neighbours_differ_in_one_choice_that_matters_and_keep_the_limits() -> None:
    near = Candidates(problem(limit=None)).neighbours(np.array([1, 0, 2]))
    assert sorted(near.tolist()) == sorted(
        [[0, 0, 0], [2, 0, 2], [3, 0, 2], [1, 1, 2], [1, 2, 2], [1, 3, 2], [1, 0, 0], [1, 0, 1], [1, 0, 3]]
    )
    within = Candidates(problem(limit=2.0)).neighbours(np.array([1, 0, 1]))
    assert sorted(within.tolist()) == [[0, 0, 0], [1, 0, 0]]


def test_neighbours_fill_what_they_switch_on() -> None:
    near = Candidates(problem(limit=None)).neighbours(np.array([0, 1, 0]), fill=np.array([3, 3, 2]))
    assert sorted(near.tolist()) == [[0, 0, 0], [0, 2, 0], [0, 3, 0], [1, 1, 2], [2, 1, 2], [3, 1, 2]]


def tables_of_a_large_space() -> tuple[SearchSpace, dict[str, SlotCost]]:
    space = mobilenet_tiny()
    models = closed_form_costs(SlotBlocks.of(space))
    return space, {m: models[m] for m in ("macs", "parameters")}


def test_a_narrow_window_that_chance_does_not_meet_is_entered_at_once_by_whoever_decides() -> None:
    space, models = tables_of_a_large_space()
    network = np.array([len(c.options) // 2 for c in space.choices], dtype=np.int64)
    values = {m: float(model.estimate(space.canonical(network[None])).value[0]) for m, model in models.items()}
    limits = {m: Between(at_least=v * (1 - 1e-3), at_most=v * (1 + 1e-3)) for m, v in values.items()}
    asked = Problem(space, {"accuracy": "maximize"}, n_trials=5, limits=limits, closed_form=models)
    candidates = Candidates(asked)
    calls = 0
    evaluated = candidates._excess

    def counted(encodings: IntArray) -> FloatArray:
        nonlocal calls
        calls += 1
        return evaluated(encodings)

    candidates._excess = counted  # type: ignore[method-assign]
    found = candidates.nearest_new(np.zeros(len(space.choices), dtype=np.int64), set(), rng())
    assert calls < 6
    for m, model in models.items():
        assert limits[m].at_least <= model.estimate(found[None]).value[0] <= limits[m].at_most  # type: ignore[operator]
    # and further networks are found from it, new and within
    other = candidates.nearest_new(found, {key_of(found)}, rng())
    assert candidates.within(other[None])[0]
    assert key_of(other) != key_of(found)


def test_limits_of_a_large_space_that_conflict_are_named_without_a_long_search() -> None:
    space, models = tables_of_a_large_space()
    least = models["parameters"].bounds()[0]
    limits = {"macs": Between(at_least=models["macs"].bounds()[1] * 0.99), "parameters": 1.01 * least}
    asked = Problem(space, {"accuracy": "maximize"}, n_trials=5, limits=limits, closed_form=models)
    with pytest.raises(InfeasibleError, match="with parameters <= ") as caught:
        Candidates(asked).require_feasible(rng())
    assert {x.metric: x.floor for x in caught.value.conflict} == {"macs": True, "parameters": False}
    assert all(x.reachable is not None for x in caught.value.conflict)
