"""Minima on machines whose speed changes in phases, in which no two models are slowed alike."""

import itertools
from collections.abc import Callable, Iterator, Mapping
from pathlib import Path

import numpy as np
import pytest

from hwnas.measure.client import Worker
from hwnas.measure.phases import PHASE_WIDTH, is_settled, minimum_in_phase, phase
from hwnas.measure.statistics import summarize
from hwnas.measure.timing import RoundTimes, TimingSettings, time_rounds
from hwnas.testing.fake import fake_device
from hwnas.testing.simulation import simulated_cost_ns
from hwnas.types import FloatArray, Statistic
from tests.measure.onnx_models import write_model
from tests.measure.test_timing import ClockSession, Machine

VERDICT = TimingSettings(rounds=301, min_rounds=21, target_error=0.005, candidate_limit_s=20.0)
ANCHOR_MS, CANDIDATE_MS = 0.9, 0.04


class PhasedSession(ClockSession):
    """A model that the slow phase slows by a factor of its own."""

    def __init__(self, key: str, cost_ns: float, machine: "PhasedMachine", *, slowed: float) -> None:
        super().__init__(key, cost_ns, machine)
        self.phases, self.slowed = machine, slowed

    def time_ns(self, *, iterations: int) -> int:
        factor = self.slowed if self.phases.is_slow() else 1.0
        elapsed = self.cost_ns * iterations * factor * self.phases.disturbance()
        self.machine.now += elapsed
        return round(elapsed)


class PhasedMachine(Machine):
    """Fast and slow phases of given lengths, in turn, with noise, and batches that somebody else falls into.

    Args:
        lengths_ms: of the phases, the first one fast.
        disturbed: share of batches that take longer by up to as long again.
    """

    def __init__(self, lengths_ms: Iterator[float], *, disturbed: float, seed: int) -> None:
        super().__init__()
        self._lengths = lengths_ms
        self._slow, self._until = True, 0.0
        self._disturbed, self._rng = disturbed, np.random.default_rng(seed)

    def is_slow(self) -> bool:
        while self.now >= self._until:
            self._slow = not self._slow
            self._until += 1e6 * next(self._lengths)
        return self._slow

    def disturbance(self) -> float:
        noise = float(np.exp(0.003 * self._rng.standard_normal()))
        return noise * (1 + self._rng.random()) if self._rng.random() < self._disturbed else noise


def exponential(fast_ms: float, slow_ms: float, seed: int) -> Iterator[float]:
    """Phases of random lengths around these."""
    rng = np.random.default_rng(seed)
    for mean in itertools.cycle((fast_ms, slow_ms)):
        yield float(rng.exponential(mean))


def measured(
    machine: PhasedMachine, slowed: Mapping[str, float], *, settings: TimingSettings = VERDICT, seed: int = 0
) -> Statistic:
    """One candidate against the anchor, whose time while nothing disturbs the machine is known."""
    costs = {"r": ANCHOR_MS, "c": CANDIDATE_MS}
    sessions = {key: PhasedSession(key, 1e6 * ms, machine, slowed=slowed[key]) for key, ms in costs.items()}
    times: RoundTimes = time_rounds(
        sessions, anchor="r", settings=settings, rng=np.random.default_rng(seed), anchor_ms=ANCHOR_MS
    )
    return summarize(
        times.samples_ms["c"],
        times.anchor_ms["c"],
        anchor_ms=ANCHOR_MS,
        minima_ms=times.minima_ms["c"],
        around_ms=times.around_ms["c"],
    )


# ---------------------------------------------------------------- sessions


@pytest.mark.parametrize("slowed", [{"r": 1.6, "c": 2.2}, {"r": 1.6, "c": 1.3}, {"r": 1.25, "c": 1.25}])
@pytest.mark.parametrize(("fast_ms", "slow_ms"), [(80.0, 20.0), (50.0, 300.0), (15.0, 15.0)])
@pytest.mark.parametrize("seed", range(3))
def test_the_minimum_is_right_whatever_the_phases(
    slowed: Mapping[str, float], fast_ms: float, slow_ms: float, seed: int
) -> None:
    machine = PhasedMachine(exponential(fast_ms, slow_ms, seed), disturbed=0.2, seed=seed)
    found = measured(machine, slowed, seed=seed)
    assert found.minimum == pytest.approx(CANDIDATE_MS, rel=0.02)
    assert found.phase_drift == pytest.approx(1, abs=0.02)
    assert found.minimum <= found.median <= found.p90


def test_a_measurement_that_begins_in_a_slow_phase_goes_on_into_the_next_fast_one() -> None:
    slow_first = PhasedMachine(iter([0.0, 200.0, 1e9]), disturbed=0.0, seed=0)
    found = measured(slow_first, {"r": 1.6, "c": 2.2})
    assert found.minimum == pytest.approx(CANDIDATE_MS, rel=0.02)
    assert 200 < slow_first.now * 1e-6 < 400


def test_a_machine_that_stays_slow_is_told_and_ends_at_the_bound() -> None:
    slow = PhasedMachine(iter([0.0, 1e9]), disturbed=0.0, seed=0)
    found = measured(slow, {"r": 1.6, "c": 1.6}, settings=TimingSettings(rounds=30))
    assert found.minimum == pytest.approx(CANDIDATE_MS, rel=0.02)  # slowed alike: the ratio holds
    assert found.phase_drift == pytest.approx(1.6, rel=0.02)
    assert found.n == 30


def test_a_machine_faster_than_its_table_needs_the_fewest_rounds() -> None:
    fast = PhasedMachine(iter([1e9]), disturbed=0.0, seed=0)
    found = measured(fast, {"r": 1.0, "c": 1.0})
    assert found.n == VERDICT.min_rounds


def test_all_candidates_of_a_group_come_out_right_and_add_up(tmp_path: Path) -> None:
    phased = fake_device(options={"drift": 0.0, "noise": 0.003, "slow_share": 0.6, "slow_period_s": 0.4})
    artefacts = {f"m{i}": write_model(tmp_path / f"m{i}.onnx", size=i + 1) for i in range(8)}
    anchor = write_model(tmp_path / "reference.onnx", size=6)
    with Worker(phased) as worker:
        results = worker.measure(
            artefacts, anchor=anchor, anchor_ms=1e-6 * simulated_cost_ns(anchor.path), settings=VERDICT
        )
    for key, artefact in artefacts.items():
        result = results[key]
        assert isinstance(result, Statistic)
        assert result.minimum == pytest.approx(1e-6 * simulated_cost_ns(artefact.path), rel=0.02), key
        assert result.phase_drift == pytest.approx(1, abs=0.02)
        assert result.phase_share is not None
        assert 0 < result.phase_share < 1


# ---------------------------------------------------------------- numbers


def anchored(*times_ms: float) -> FloatArray:
    """(R, 2) the same before and after each sample."""
    return np.array([times_ms, times_ms]).T


def test_the_faster_neighbour_tells_the_phase_of_a_sample() -> None:
    around = np.array([[1.0, 1.0], [1.0, 1.6], [1.6, 1.0], [1.5, 1.6], [1.6, 1.6], [1.02, 1.0]])
    assert phase(around).tolist() == [True, True, True, False, False, True]


def test_a_disturbed_sample_of_the_anchor_does_not_count_as_its_time() -> None:
    found = minimum_in_phase(np.full(4, 0.3), np.array([[1.0, 9.0], [9.0, 1.0], [1.0, 9.0], [9.0, 1.0]]))
    assert (found.candidate_ms, found.anchor_ms, found.share) == (0.3, 1.0, 1.0)


def test_a_phase_that_too_few_samples_share_is_a_slip_and_the_next_one_counts() -> None:
    around = anchored(0.5, 0.5, *[1.0] * 4, *[1.6] * 5)
    assert phase(around).tolist() == [False] * 2 + [True] * 4 + [False] * 5


def test_of_many_samples_more_must_share_a_phase() -> None:
    around = anchored(*[0.5] * 9, *[1.0] * 91)
    assert phase(around).sum() == 91


def test_three_samples_are_enough_where_the_machine_is_known_to_be_as_fast() -> None:
    around = anchored(*[0.5] * 9, *[1.0] * 91)
    assert phase(around, anchor_ms=0.52).sum() == 9
    assert phase(around, anchor_ms=0.8).sum() == 91


def test_where_no_phase_has_so_many_the_fastest_that_three_share_must_do() -> None:
    times_ms = np.concatenate([[1.0] * 3, 1.2 ** np.arange(2, 30)])
    assert phase(anchored(*times_ms)).tolist() == [True] * 3 + [False] * 28


def test_where_no_phase_is_shared_each_sample_counts_by_itself() -> None:
    times_ms = 1.2 ** np.arange(8)
    found = minimum_in_phase(0.3 * times_ms, anchored(*times_ms))
    assert found.share == 0
    assert found.candidate_ms / found.anchor_ms == pytest.approx(0.3)


@pytest.mark.parametrize("time_ms", [1.0, 1 + PHASE_WIDTH / 2, 1.6])
def test_a_phase_slower_than_the_machine_can_be_does_not_settle(time_ms: float) -> None:
    settled: Callable[[float | None], bool] = lambda ms: is_settled(  # noqa: E731
        np.full(9, time_ms), anchored(*[time_ms] * 9), tolerance=0.01, anchor_ms=ms
    )
    assert settled(None)
    assert settled(1.0) == (time_ms < 1 + PHASE_WIDTH)


def test_samples_that_do_not_agree_do_not_settle() -> None:
    around = anchored(*[1.0] * 4)
    assert is_settled(np.array([1.0, 1.005, 1.009, 3.0]), around, tolerance=0.01, anchor_ms=None)
    assert not is_settled(np.array([1.0, 1.005, 1.02, 3.0]), around, tolerance=0.01, anchor_ms=None)
    assert not is_settled(np.ones(4), anchored(1.0, 1.02, 1.04, 1.06), tolerance=0.01, anchor_ms=None)


def test_a_median_corrected_too_far_is_not_below_the_minimum() -> None:
    fast, slow = np.ones(4), np.full(12, 1.6)
    local = np.concatenate([fast, slow])  # the slow phase slows the candidate by 1.2 only
    samples = np.concatenate([fast, np.full(12, 1.2)])
    found = summarize(samples, local, anchor_ms=1.0)
    assert (found.minimum, found.median, found.p90) == (1.0, 1.0, 1.0)
    assert found.drift == pytest.approx(1.6)
    assert found.phase_drift == 1.0
    assert found.phase_share == 0.25


def test_without_an_anchor_there_are_no_phases() -> None:
    found = summarize(np.array([1.0, 2.0, 3.0]), minima_ms=np.array([0.9, 1.9, 2.9]))
    assert found.minimum == 0.9
    assert found.phase_drift is None
    assert found.phase_share is None
