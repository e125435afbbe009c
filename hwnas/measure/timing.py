"""The timing loop: several sessions in interleaved rounds, with the drift anchor sampled among them.

One word for each idea, from the run up to the day: an *iteration* is one run of a model; a *batch* is the iterations
between two readings of the clock; a *sample* is one turn of a model, a few batches, of which the median and the minimum
are kept; a *round* takes a sample of every candidate; a *repetition* is a whole measurement made once more (client.py).

Knows sessions (something that runs and has a clock); never models, files, tables or processes. All
randomness is the order of the samples, from a generator passed in.
"""

from __future__ import annotations

import gc
from collections.abc import Iterator, Mapping, Sequence
from contextlib import contextmanager
from dataclasses import dataclass, field
from statistics import median

import numpy as np

from hwnas.errors import ConfigError
from hwnas.measure.phases import agree, is_settled
from hwnas.measure.statistics import running_median
from hwnas.types import FloatArray, Session

_BATCH_MS = 0.25  # long against the clock and the call (a microsecond), short against a time slice (3 ms)
_BATCHES = (3, 9)  # in a sample, at least and at most
_SMOOTHED_SAMPLES = 5  # to the anchor, on either side: about two rounds of a full group
# a clock that stands still (a simulated device may) must not make this grow for ever
_MAX_ITERATIONS = 10_000
_CALIBRATIONS = 40  # of the warm-up, at most
_MIN_BUDGET_ROUNDS = 3  # a median needs these, however slow the candidates are


@dataclass(frozen=True, slots=True, kw_only=True)
class TimingSettings:
    """How long and how often to time.

    The defaults are for hundreds of blocks of 0.02 to 0.5 ms at about 60 ms each at most. A sample is several
    batches of a quarter of a millisecond. Their median is what the sample took: another process that takes the core, or
    an interrupt, falls into one batch and is dropped. Their minimum counts for that of the measurement; rounds go on
    until the machine was seen as fast as when its table was begun and three samples then agree. A sample of 1.5 ms is
    short against the drift (tens of milliseconds and more), so many short samples, each with its own anchor's time,
    beat few long ones. 9 rounds settle a quiet machine (about 25 ms a block with warm-up and anchor); 40 rounds
    bound a noisy one, or one that stays slow (about 100 ms).

    Attributes:
        rounds: at most so many.
        min_rounds: at least so many, unless the time limit is reached.
        target_round_ms: how long one sample of one candidate takes; a slower model still runs three times.
        target_error: stop when the minima of three samples of each candidate in one phase of the machine agree to
            this share (`hwnas.measure.phases`).
        warmup_ms: untimed running before the first round, for each candidate.
        anchor_every: the anchor is sampled at the start of each round and after so many candidates.
        candidate_limit_s: rounds end early (after three) when they took so long for each candidate on average.
        group_size: candidates in memory and in the same rounds.
        timeout_s: a candidate that takes longer to load and run once, or on average to be timed, has hung.
        seed: of the samples' order.
        energy: measure it too, where the device has a meter.
    """

    rounds: int = 40
    min_rounds: int = 9
    target_round_ms: float = 1.5
    target_error: float = 0.01
    warmup_ms: float = 5.0
    anchor_every: int = 8
    candidate_limit_s: float = 2.0
    group_size: int = 16
    timeout_s: float = 30.0
    seed: int = 0
    energy: bool = True

    def __post_init__(self) -> None:
        for name in ("rounds", "min_rounds", "anchor_every", "group_size"):
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
        samples_ms: candidate -> (R,) time of one run in the median batch of each sample.
        anchor_ms: candidate -> (R,) the anchor's time at those moments; empty without an anchor.
        iterations: candidate -> runs in one batch.
        minima_ms: candidate -> (R,) time of one run in the fastest batch of each sample.
        around_ms: candidate -> (R, 2) the same of the anchor's samples before and after; empty without an anchor.
        costs: candidate -> what else one run costs, where a meter told (`hwnas.measure.energy`).
    """

    samples_ms: Mapping[str, FloatArray]
    anchor_ms: Mapping[str, FloatArray] = field(default_factory=dict)
    iterations: Mapping[str, int] = field(default_factory=dict)
    minima_ms: Mapping[str, FloatArray] = field(default_factory=dict)
    around_ms: Mapping[str, FloatArray] = field(default_factory=dict)
    costs: Mapping[str, Mapping[str, float]] = field(default_factory=dict)


def time_rounds(
    sessions: Mapping[str, Session],
    *,
    anchor: str | None,
    settings: TimingSettings,
    rng: np.random.Generator,
    anchor_ms: float | None = None,
) -> RoundTimes:
    """Time sessions in interleaved rounds, each round in a new order.

    A sample begins with one untimed run, which brings the model back into the caches its predecessor took. Rounds end
    when every candidate's minimum was seen often enough, at `settings.rounds`, or
    at the time limit. The time that counts is the sessions' own clock, so that a simulated device gives the same
    result every time.

    Args:
        sessions: key -> loaded session; the anchor is one of them.
        anchor: key of the anchor; it has no samples of its own. None: no drift is recorded.
        settings: how long and how often.
        rng: draws the order.
        anchor_ms: the anchor's time while nothing disturbs the machine: while it is seen to be slower, rounds go
            on, as far as the settings allow. None: not known.

    Raises:
        ValueError: no candidates, or the anchor is not among the sessions.
        MeasurementError: the runtime failed in one of the runs.
    """
    if anchor is not None and anchor not in sessions:
        raise ValueError(f"the anchor {anchor!r} is not among the sessions: {', '.join(sessions)}")
    # in the given order; `_round_order` shuffles it anew every round
    candidates = [key for key in sessions if key != anchor]
    if not candidates:
        raise ValueError("nothing to time: give at least one candidate beside the drift anchor")
    with _no_garbage_collection():
        # all are warm before the first round: a cold one would slow its neighbours' samples
        log = _SampleLog(sessions, {key: _calibrate(session, settings) for key, session in sessions.items()})
        for done in range(1, settings.rounds + 1):
            for key in _round_order(candidates, anchor, settings.anchor_every, rng):
                log.take(key)
            # whatever the budget says
            if done < min(settings.min_rounds, _MIN_BUDGET_ROUNDS):
                continue
            # by the sessions' clocks, not the wall's: a simulated device ends at the same round every time
            if log.spent_ms > settings.candidate_limit_s * 1e3 * len(candidates):
                break
            if done >= settings.min_rounds and log.settled(candidates, anchor, settings.target_error, anchor_ms):
                break
        if anchor is not None:
            log.take(anchor)  # closes the last round: every candidate has an anchor before and after it
    return log.result(candidates, anchor)


@dataclass(frozen=True, slots=True, kw_only=True)
class _SamplePlan:
    """What one sample of a candidate consists of."""

    batches: int
    iterations: int  # in each batch


class _SampleLog:
    """All samples so far: for each key its positions in the sequence of samples and its times."""

    def __init__(self, sessions: Mapping[str, Session], plans: Mapping[str, _SamplePlan]) -> None:
        self._sessions = sessions
        self._plans = plans
        # (position, ms of the median batch, ms of the fastest)
        self._samples: dict[str, list[tuple[int, float, float]]] = {key: [] for key in sessions}
        self._count = 0
        self.spent_ms = 0.0

    def take(self, key: str) -> None:
        """Take one sample."""
        session, plan = self._sessions[key], self._plans[key]
        # its time counts for the budget alone
        cold_ns = session.time_ns(iterations=1)
        batches_ns = [session.time_ns(iterations=plan.iterations) for _ in range(plan.batches)]
        # ns -> ms; at least 1 ns, for ratios of a zero are none
        middle_ms, minimum_ms = (max(ns, 1) / plan.iterations * 1e-6 for ns in (median(batches_ns), min(batches_ns)))
        self._samples[key].append((self._count, middle_ms, minimum_ms))
        self._count += 1
        self.spent_ms += (cold_ns + sum(batches_ns)) * 1e-6

    def result(self, candidates: Sequence[str], anchor: str | None) -> RoundTimes:
        """All that was seen; the last sample was of the anchor, if there is one."""
        series = {key: self._series(key) for key in candidates}
        local: dict[str, FloatArray] = {}
        if anchor is not None:
            positions, middles, _ = self._series(anchor)
            # one sample of the anchor is as noisy as any other (`hwnas.measure.statistics`)
            smooth = running_median(middles, half_width=_SMOOTHED_SAMPLES)
            # (R,) positions of the candidate's samples -> the smoothed anchor there
            local = {key: np.interp(of[0], positions, smooth) for key, of in series.items()}
        return RoundTimes(
            samples_ms={key: of[1] for key, of in series.items()},
            anchor_ms=local,
            iterations={key: self._plans[key].iterations for key in candidates},
            minima_ms={key: of[2] for key, of in series.items()},
            around_ms={key: self._around(key, anchor) for key in candidates} if anchor is not None else {},
        )

    def settled(self, candidates: Sequence[str], anchor: str | None, tolerance: float, anchor_ms: float | None) -> bool:
        """Whether each candidate's minimum was seen often enough to be certain."""
        if anchor is None:
            return all(agree(self._series(key)[2], tolerance) for key in candidates)
        for key in candidates:
            around = self._around(key, anchor)  # the last sample has none after it yet
            minima = self._series(key)[2][: len(around)]
            if not is_settled(minima, around, tolerance=tolerance, anchor_ms=anchor_ms):
                return False
        return True

    def _series(self, key: str) -> FloatArray:
        return np.array(self._samples[key]).T  # (R, 3) -> (3, R)

    def _around(self, key: str, anchor: str) -> FloatArray:
        """(R, 2) the anchor's minima before and after each sample that has both."""
        positions, _, minima = self._series(anchor)
        # the anchor opens every round, so there is always one before
        after = np.searchsorted(positions, self._series(key)[0])
        after = after[after < len(positions)]
        return np.stack([minima[after - 1], minima[after]], axis=1)


def _round_order(
    candidates: Sequence[str], anchor: str | None, anchor_every: int, rng: np.random.Generator
) -> Iterator[str]:
    for i, index in enumerate(rng.permutation(len(candidates))):
        # i = 0 too: each round begins with the anchor
        if anchor is not None and i % anchor_every == 0:
            yield anchor
        yield candidates[int(index)]


def _calibrate(session: Session, settings: TimingSettings) -> _SamplePlan:
    """Warm a session up, untimed, and find how many runs fill a batch, and batches a sample."""
    batch_ns, warmup_ns = _BATCH_MS * 1e6, settings.warmup_ms * 1e6
    session.time_ns(iterations=1)  # the first run allocates
    spent, iterations = 0, 1
    fastest = float("inf")
    for _ in range(_CALIBRATIONS):
        elapsed = max(session.time_ns(iterations=iterations), 1)
        spent += elapsed
        # the fastest, not the mean: the first calls still fill caches
        fastest = min(fastest, elapsed / iterations)
        # doubling: a batch is filled after few calls, whatever one run takes
        if elapsed < batch_ns / 2:
            iterations = min(2 * iterations, _MAX_ITERATIONS)
        elif spent >= warmup_ns:
            break
    iterations = int(np.clip(round(batch_ns / fastest), 1, _MAX_ITERATIONS))
    # slow models get the fewest batches: a sample of theirs is long enough as it is
    batches = int(np.clip(settings.target_round_ms * 1e6 // (iterations * fastest), *_BATCHES))
    return _SamplePlan(batches=batches | 1, iterations=iterations)  # odd: the median is one of them


@contextmanager
def _no_garbage_collection() -> Iterator[None]:
    """A collection in the middle of a sample would be timed with it."""
    was_enabled = gc.isenabled()
    # once before: what lies around must not be collected soon after
    gc.collect()
    gc.disable()
    try:
        yield
    finally:
        if was_enabled:
            gc.enable()
