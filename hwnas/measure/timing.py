"""The timing loop: several sessions in interleaved rounds, with the reference model visited among them.

Knows sessions (something that runs and has a clock); never models, files, tables or processes. All
randomness is the order of the visits, from a generator passed in.
"""

from __future__ import annotations

import gc
from collections.abc import Iterator, Mapping, Sequence
from contextlib import contextmanager
from dataclasses import dataclass, field

import numpy as np

from hwnas.errors import ConfigError
from hwnas.measure.statistics import median_error
from hwnas.types import FloatArray, Session

_MAX_ITERATIONS = 10_000
_CALIBRATIONS = 12  # doublings at most: 2**12 runs of anything take longer than a visit
_MIN_BUDGET_ROUNDS = 3  # a median needs these, however slow the candidates are


@dataclass(frozen=True, slots=True, kw_only=True)
class TimingSettings:
    """How long and how often to time.

    The defaults are for hundreds of blocks of 0.02 to 0.5 ms at about 60 ms each at most. A visit of 1.5 ms is
    long against the clock and the call (microseconds) and short against a scheduler's time slice and the drift
    (tens of milliseconds and more): a visit is either undisturbed or an outlier that the median drops. 9 rounds
    settle a quiet machine (about 25 ms a block with warm-up and reference); 25 rounds bound a noisy one
    (about 60 ms). Many short visits beat few long ones because each has its own reference time.

    Attributes:
        rounds: at most so many.
        min_rounds: at least so many, unless the time limit is reached.
        target_round_ms: how long one visit to one candidate takes; a slower model runs once.
        target_error: stop when the relative standard error of every median is below it.
        warmup_ms: untimed running before the first round, for each candidate.
        reference_every: the reference is visited at the start of each round and after so many candidates.
        candidate_limit_s: rounds end early (after three) when they took so long for each candidate on average.
        group_size: candidates in memory and in the same rounds.
        timeout_s: a candidate that takes longer to load and run once, or on average to be timed, has hung.
        seed: of the visits' order.
    """

    rounds: int = 25
    min_rounds: int = 9
    target_round_ms: float = 1.5
    target_error: float = 0.005
    warmup_ms: float = 5.0
    reference_every: int = 8
    candidate_limit_s: float = 2.0
    group_size: int = 16
    timeout_s: float = 30.0
    seed: int = 0

    def __post_init__(self) -> None:
        for name in ("rounds", "min_rounds", "reference_every", "group_size"):
            if getattr(self, name) < 1:
                raise ConfigError(f"{name} must be at least 1, not {getattr(self, name)}")
        for name in ("target_round_ms", "candidate_limit_s", "timeout_s"):
            if not getattr(self, name) > 0:
                raise ConfigError(f"{name} must be above 0, not {getattr(self, name)}")
        for name in ("target_error", "warmup_ms", "seed"):
            if not getattr(self, name) >= 0:
                raise ConfigError(f"{name} must not be negative, not {getattr(self, name)}")
        if self.min_rounds > self.rounds:
            raise ConfigError(f"min_rounds ({self.min_rounds}) must not exceed rounds ({self.rounds})")


@dataclass(frozen=True, slots=True, kw_only=True)
class RoundTimes:
    """Raw times, R rounds.

    Attributes:
        samples_ms: candidate -> (R,) time of one run.
        reference_ms: candidate -> (R,) the reference's time at those moments; empty without a reference.
        iterations: candidate -> runs in one visit.
    """

    samples_ms: Mapping[str, FloatArray]
    reference_ms: Mapping[str, FloatArray] = field(default_factory=dict)
    iterations: Mapping[str, int] = field(default_factory=dict)


def time_rounds(
    sessions: Mapping[str, Session], *, reference: str | None, settings: TimingSettings, rng: np.random.Generator
) -> RoundTimes:
    """Time sessions in interleaved rounds, each round in a new order.

    Every visit begins with one untimed run, which brings the model back into the caches its predecessor
    took. Rounds end when all medians are certain enough, at `settings.rounds`, or at the time limit. The time
    that counts is the sessions' own clock, so that a simulated device gives the same result every time.

    Args:
        sessions: key -> loaded session; the reference is one of them.
        reference: key of the reference; it has no samples of its own. None: no drift is recorded.
        settings: how long and how often.
        rng: draws the order.

    Raises:
        ValueError: no candidates, or the reference is not among the sessions.
        MeasurementError: the runtime failed in one of the runs.
    """
    if reference is not None and reference not in sessions:
        raise ValueError(f"the reference {reference!r} is not among the sessions: {', '.join(sessions)}")
    candidates = [key for key in sessions if key != reference]
    if not candidates:
        raise ValueError("nothing to time: give at least one candidate beside the reference")
    with _no_garbage_collection():
        iterations = {key: _calibrate(session, settings) for key, session in sessions.items()}
        log = _VisitLog(sessions, iterations)
        for done in range(1, settings.rounds + 1):
            for key in _round_order(candidates, reference, settings.reference_every, rng):
                log.visit(key)
            if done >= min(settings.min_rounds, _MIN_BUDGET_ROUNDS) and _enough(
                log, candidates, reference, settings, done
            ):
                break
        if reference is not None:
            log.visit(reference)  # closes the last round: every candidate has a reference before and after it
    return log.result(candidates, reference)


class _VisitLog:
    """All visits so far: for each key its positions in the sequence of visits and its times."""

    def __init__(self, sessions: Mapping[str, Session], iterations: Mapping[str, int]) -> None:
        self._sessions = sessions
        self._iterations = iterations
        self._visits: dict[str, list[tuple[int, float]]] = {key: [] for key in sessions}  # (position, ms)
        self._count = 0
        self.spent_ms = 0.0

    def visit(self, key: str) -> None:
        session, n = self._sessions[key], self._iterations[key]
        cold_ns = session.time_ns(iterations=1)
        warm_ns = session.time_ns(iterations=n)
        self._visits[key].append((self._count, max(warm_ns, 1) / n * 1e-6))
        self._count += 1
        self.spent_ms += (cold_ns + warm_ns) * 1e-6

    def samples(self, key: str, reference: str | None) -> tuple[FloatArray, FloatArray]:
        """(R,) times and (R,) reference times at the same positions (all ones without a reference)."""
        positions, times = np.array(self._visits[key]).T  # (R, 2) -> (R,), (R,)
        if reference is None:
            return times, np.ones_like(times)
        reference_positions, reference_times = np.array(self._visits[reference]).T
        return times, np.interp(positions, reference_positions, reference_times)

    def result(self, candidates: Sequence[str], reference: str | None) -> RoundTimes:
        pairs = {key: self.samples(key, reference) for key in candidates}
        return RoundTimes(
            samples_ms={key: times for key, (times, _) in pairs.items()},
            reference_ms={key: local for key, (_, local) in pairs.items()} if reference is not None else {},
            iterations={key: self._iterations[key] for key in candidates},
        )


def _enough(
    log: _VisitLog, candidates: Sequence[str], reference: str | None, settings: TimingSettings, done: int
) -> bool:
    if log.spent_ms > settings.candidate_limit_s * 1e3 * len(candidates):
        return True
    if done < settings.min_rounds:
        return False
    ratios = (np.divide(*log.samples(key, reference)) for key in candidates)
    return all(median_error(r) <= settings.target_error for r in ratios)


def _round_order(
    candidates: Sequence[str], reference: str | None, reference_every: int, rng: np.random.Generator
) -> Iterator[str]:
    for i, index in enumerate(rng.permutation(len(candidates))):
        if reference is not None and i % reference_every == 0:
            yield reference
        yield candidates[int(index)]


def _calibrate(session: Session, settings: TimingSettings) -> int:
    """Warm a session up, untimed, and find how many runs fill one visit."""
    target_ns, warmup_ns = settings.target_round_ms * 1e6, settings.warmup_ms * 1e6
    session.time_ns(iterations=1)  # the first run allocates
    spent, iterations = 0, 1
    fastest = float("inf")
    for _ in range(_CALIBRATIONS):
        elapsed = max(session.time_ns(iterations=iterations), 1)
        spent += elapsed
        fastest = min(fastest, elapsed / iterations)
        if elapsed >= target_ns / 2 and spent >= warmup_ns:
            break
        if elapsed < target_ns / 2:
            iterations = min(2 * iterations, _MAX_ITERATIONS)
    return int(np.clip(round(target_ns / fastest), 1, _MAX_ITERATIONS))


@contextmanager
def _no_garbage_collection() -> Iterator[None]:
    """A collection in the middle of a visit would be timed with it."""
    was_enabled = gc.isenabled()
    gc.collect()
    gc.disable()
    try:
        yield
    finally:
        if was_enabled:
            gc.enable()
