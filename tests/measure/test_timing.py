"""The timing loop, on sessions whose clock is a counter."""

import gc
import math
from collections.abc import Callable, Mapping, Sequence

import numpy as np
import pytest

from hwnas.errors import ConfigError
from hwnas.measure.statistics import summarize
from hwnas.measure.timing import RoundTimes, TimingSettings, time_rounds
from hwnas.types import Array


class Machine:
    """A clock in nanoseconds, how fast it is at each moment, and a log of (key, iterations)."""

    def __init__(self, slowness: Callable[[float], float] = lambda now: 1.0) -> None:
        self.now = 0.0
        self.slowness = slowness
        self.log: list[tuple[str, int]] = []
        self.collected = False


class ClockSession:
    def __init__(self, key: str, cost_ns: float, machine: Machine) -> None:
        self.key, self.cost_ns, self.machine = key, cost_ns, machine

    def time_ns(self, *, iterations: int) -> int:
        self.machine.log.append((self.key, iterations))
        self.machine.collected |= gc.isenabled()
        elapsed = self.cost_ns * iterations * self.machine.slowness(self.machine.now)
        self.machine.now += elapsed
        return round(elapsed)

    def run(self, inputs: Sequence[Array]) -> tuple[Array, ...]:
        raise NotImplementedError

    def info(self) -> Mapping[str, str]:
        return {}

    def __enter__(self) -> "ClockSession":
        return self

    def __exit__(self, *exc: object) -> None: ...


def timed(
    costs_ms: Mapping[str, float], machine: Machine, *, anchor: str | None = None, seed: int = 0, **changes: float
) -> RoundTimes:
    sessions = {key: ClockSession(key, ms * 1e6, machine) for key, ms in costs_ms.items()}
    settings = TimingSettings(**changes)  # type: ignore[arg-type]
    return time_rounds(sessions, anchor=anchor, settings=settings, rng=np.random.default_rng(seed))


def samples_of(machine: Machine) -> list[list[tuple[str, int]]]:
    """The log cut where another candidate's turn begins: each sample as its batches, the untimed run left out."""
    found: list[list[tuple[str, int]]] = []
    before = ""
    for key, n in machine.log:
        if key != before:
            found.append([])
        else:
            found[-1].append((key, n))
        before = key
    return found


def test_a_quiet_machine_needs_the_fewest_rounds() -> None:
    times = timed({"a": 0.1, "b": 0.2}, Machine())
    assert len(times.samples_ms["a"]) == TimingSettings().min_rounds
    np.testing.assert_allclose(times.samples_ms["a"], 0.1)
    np.testing.assert_allclose(times.samples_ms["b"], 0.2)
    assert not times.anchor_ms


def test_a_noisy_machine_gets_all_rounds() -> None:
    rng = np.random.default_rng(1)
    machine = Machine(lambda now: math.exp(0.2 * rng.standard_normal()))
    times = timed({"a": 0.1, "b": 0.2}, machine)
    assert len(times.samples_ms["a"]) == TimingSettings().rounds


@pytest.mark.parametrize("cost_ms", [0.0005, 0.02, 0.5, 1.4])
def test_a_sample_lasts_about_the_target_and_has_an_odd_number_of_batches(cost_ms: float) -> None:
    machine = Machine()
    times = timed({"a": cost_ms, "b": cost_ms}, machine, target_round_ms=2.0)
    sample = [n for key, n in samples_of(machine)[-1]]
    assert len(sample) % 2 == 1
    assert set(sample) == {times.iterations["a"]}
    assert 1.0 <= sum(sample) * cost_ms <= max(3.0, 3 * cost_ms)


def test_a_model_slower_than_a_sample_runs_three_times() -> None:
    machine = Machine()
    assert timed({"a": 50.0, "b": 50.0}, machine, candidate_limit_s=10.0).iterations["a"] == 1
    assert len(samples_of(machine)[-1]) == 3


def test_one_disturbed_batch_does_not_move_a_sample() -> None:
    batches = iter(range(10**9))
    machine = Machine(lambda now: 30.0 if next(batches) % 7 == 0 else 1.0)  # somebody takes the core now and then
    times = timed({"a": 0.3, "b": 0.3}, machine)
    np.testing.assert_allclose(times.samples_ms["a"], 0.3)


def test_the_time_limit_ends_rounds_early_but_after_three() -> None:
    times = timed({"a": 500.0, "b": 900.0}, Machine(), candidate_limit_s=0.1)
    assert len(times.samples_ms["a"]) == 3


def test_candidates_are_interleaved_and_each_round_has_its_own_order() -> None:
    machine = Machine()
    keys = {f"k{i}": 0.1 for i in range(10)}
    timed(keys, machine, rounds=6, min_rounds=6)
    order = [sample[0][0] for sample in samples_of(machine)[-60:]]
    rounds = [order[i : i + 10] for i in range(0, 60, 10)]
    assert all(sorted(r) == sorted(keys) for r in rounds)
    assert len({tuple(r) for r in rounds}) == 6


def test_the_same_seed_gives_the_same_order_and_another_seed_another() -> None:
    logs = []
    for seed in (0, 0, 1):
        machine = Machine()
        timed({f"k{i}": 0.1 for i in range(8)}, machine, seed=seed)
        logs.append(machine.log)
    assert logs[0] == logs[1] != logs[2]


def test_every_sample_begins_with_one_untimed_run() -> None:
    class Cold(ClockSession):
        """Slow in the first run after somebody else had the machine."""

        def time_ns(self, *, iterations: int) -> int:
            cold = not self.machine.log or self.machine.log[-1][0] != self.key
            return super().time_ns(iterations=iterations) + (10_000_000 if cold else 0)

    machine = Machine()
    sessions = {key: Cold(key, 100_000, machine) for key in ("a", "b")}
    times = time_rounds(sessions, anchor=None, settings=TimingSettings(), rng=np.random.default_rng(0))
    np.testing.assert_allclose(times.samples_ms["a"], 0.1)


def test_the_anchor_is_sampled_before_between_and_after_the_candidates() -> None:
    machine = Machine()
    costs = {"ref": 0.3, **{f"k{i}": 0.1 for i in range(16)}}
    times = timed(costs, machine, anchor="ref", rounds=3, min_rounds=3)
    order = [sample[0][0] for sample in samples_of(machine)[-(3 * 18 + 1) :]]
    assert [i for i, key in enumerate(order) if key == "ref"] == [0, 9, 18, 27, 36, 45, 54]
    assert "ref" not in times.samples_ms
    assert times.anchor_ms.keys() == times.samples_ms.keys()


def test_interpolated_anchors_remove_a_drift_within_a_round() -> None:
    machine = Machine(lambda now: 1 + now * 1e-9 * 2)  # three times as slow after a second
    costs = {"ref": 1.0, **{f"k{i}": 0.05 * (i + 1) for i in range(16)}}
    times = timed(costs, machine, anchor="ref")
    raw_spread = max(s.max() / s.min() for s in times.samples_ms.values())
    assert raw_spread > 1.3
    for key, cost in costs.items():
        if key != "ref":
            s = summarize(times.samples_ms[key], times.anchor_ms[key], anchor_ms=1.0)
            assert s.median == pytest.approx(cost, rel=0.01), key


def test_garbage_is_not_collected_while_timing_and_is_afterwards() -> None:
    machine = Machine()
    assert gc.isenabled()
    timed({"a": 0.1}, machine)
    assert gc.isenabled()
    assert not machine.collected


def test_an_anchor_that_is_not_there_and_an_empty_group_are_refused() -> None:
    with pytest.raises(ValueError, match="not among the sessions"):
        timed({"a": 0.1}, Machine(), anchor="ref")
    with pytest.raises(ValueError, match="nothing to time"):
        timed({"ref": 0.1}, Machine(), anchor="ref")


@pytest.mark.parametrize(
    "changes",
    [
        {"rounds": 0},
        {"min_rounds": 300},
        {"target_round_ms": 0.0},
        {"timeout_s": -1.0},
        {"target_error": -0.1},
        {"group_size": 0},
        {"candidate_limit_s": float("nan")},
    ],
)
def test_settings_that_make_no_sense_are_refused_with_their_name(changes: dict[str, float]) -> None:
    with pytest.raises(ConfigError, match=next(iter(changes))):
        TimingSettings(**changes)  # type: ignore[arg-type]
