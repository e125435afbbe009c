"""Energy of one run: meters behind one Protocol, and what they show while a session runs less what they show idle.

Knows meters (something that counts millijoules and has a clock) and sessions; never models, files, tables or where a
meter's numbers come from.

A meter counts slowly and coarsely against one run, so a session runs over a window of many updates and the runs in
it are counted. The window's ends are moments at which the meter's count just moved (`_energy_window.py`), which keeps
the error of a meter of few updates small. The level with nothing running, seen before, between and after the
sessions and interpolated, is subtracted; both are reported. What does not stand out from the noise is never negative
and never guessed: it is given as the smallest energy that would have stood out, and marked.

The drift anchor is seen as often as the idle level. A warmer chip leaks more and another clock needs another
voltage, for all models alike: whoever adds energies of different hours divides each by the anchor's energy beside
it, as a latency is divided by the anchor's time. The statistic carries that energy, so that nothing is lost.
"""

from __future__ import annotations

import math
from collections.abc import Callable, Mapping
from dataclasses import dataclass

import numpy as np

from hwnas.errors import ConfigError
from hwnas.measure._energy_meter import Meter, MeterInfo, Reading, check_meter_options, open_meter
from hwnas.measure._energy_window import MeterWindow, observe
from hwnas.types import Session

__all__ = [
    "EnergySettings",
    "Meter",
    "MeterInfo",
    "Reading",
    "RunEnergy",
    "check_meter_options",
    "energy_limit_s",
    "measure_energies",
    "open_meter",
]

_BATCH_S = (0.004, 0.02)  # between two looks at the meter: long against a look, short against a window
_BATCHES_AN_UPDATE = 5
# a sensor that says it needs longer would multiply the time of a table
_MOST_SETTLE_S = 2.0
_MOST_ITERATIONS = 100_000  # in a batch
_SAFETY = 1.5  # of the parent's patience
_ROUNDING = 1 / math.sqrt(6)  # standard deviation, in steps, of a difference of two rounded powers


@dataclass(frozen=True, slots=True, kw_only=True)
class EnergySettings:
    """How long to look.

    With the defaults a candidate costs 0.7 s on a meter of a millisecond (RAPL) and 3 s on one of a tenth of a
    second (NVML), idle and anchor included: hundreds of blocks take minutes.

    Attributes:
        updates: of the meter in one window, at least, as far as the next two allow.
        min_window_s: shortest window.
        max_window_s: longest window, twice this where the meter does not move.
        anchor_every: idle level and anchor are seen at the start, after so many candidates, and at the end.
        clear: a net energy counts from so many times the noise of its window.
    """

    updates: int = 20
    min_window_s: float = 0.5
    max_window_s: float = 2.0
    anchor_every: int = 8
    clear: float = 3.0

    def __post_init__(self) -> None:
        if self.updates < 1 or self.anchor_every < 1:
            raise ConfigError(f"updates ({self.updates}) and anchor_every must be at least 1")
        if not 0 < self.min_window_s <= self.max_window_s:
            raise ConfigError(f"min_window_s ({self.min_window_s}) must be above 0 and at most max_window_s")
        if not self.clear > 0:
            raise ConfigError(f"clear must be above 0, not {self.clear}")

    def window_s(self, info: MeterInfo) -> float:
        """How long a window on that meter is."""
        # the last word is the longest window's: a slow meter gets fewer updates, not more time
        return min(max(self.updates * info.update_interval_s, self.min_window_s), self.max_window_s)


@dataclass(frozen=True, slots=True, kw_only=True)
class RunEnergy:
    """The energy of one run.

    Attributes:
        net_mj: above the idle level, above 0; where it is within the noise, the smallest that would not have been.
        gross_mj: with the idle level.
        idle_w: the level subtracted.
        within_noise: whether `net_mj` is such a bound.
        anchor_mj: net energy of the drift anchor around that moment; None without an anchor, and where that
            was within the noise: it would add more than it takes away.
        runs: counted.
        seconds: they took.
    """

    net_mj: float
    gross_mj: float
    idle_w: float
    within_noise: bool
    anchor_mj: float | None
    runs: int
    seconds: float

    def costs(self) -> dict[str, float]:
        """As entries of `Statistic.costs`: `energy_mj` (net) and, beside it, how it came about."""
        costs = {"energy_mj": self.net_mj, "energy_gross_mj": self.gross_mj, "energy_idle_w": self.idle_w}
        if self.anchor_mj is not None:
            costs["energy_reference_mj"] = self.anchor_mj
        if self.within_noise:
            costs["energy_within_noise"] = 1.0
        return costs


def measure_energies(
    sessions: Mapping[str, Session],
    meter: Meter,
    *,
    run_ms: Mapping[str, float],
    anchor: str | None,
    idle_w: float | None,
    rng: np.random.Generator,
    settings: EnergySettings | None = None,
) -> dict[str, RunEnergy]:
    """The energy of one run of each session but the anchor, in a shuffled order.

    Args:
        sessions: key -> loaded session; the anchor is one of them.
        meter: not entered yet.
        run_ms: key -> about how long one run takes.
        anchor: key of the model that tells the drift; None: there is none.
        idle_w: stated level to subtract; None: it is measured.
        rng: draws the order.
        settings: how long to look.

    Raises:
        MeasurementError: the meter cannot be read, or a session failed.
    """
    settings = settings or EnergySettings()
    series = _Series(meter, settings)
    candidates = [key for key in sessions if key != anchor]
    # entered once for all: some sensors need a while before their first value
    with meter:
        for i, index in enumerate(rng.permutation(len(candidates))):
            if i % settings.anchor_every == 0:
                _see_yardsticks(series, sessions, run_ms, anchor, idle_w)
            key = candidates[int(index)]
            series.see_run(key, sessions[key], run_ms[key])
        # at the end too: every candidate then has a yardstick before and after it to interpolate between
        _see_yardsticks(series, sessions, run_ms, anchor, idle_w)
    return {key: series.energy(key, anchor=anchor, idle_w=idle_w) for key in candidates}


def energy_limit_s(n: int, settings: EnergySettings | None = None) -> float:
    """The longest `measure_energies` takes for n sessions of short runs, whatever the meter: for whoever waits."""
    settings = settings or EnergySettings()
    # candidates, and as often as `_see_yardsticks` is called, the idle level and the anchor
    windows = n + 2 * (n // settings.anchor_every + 2)
    return _SAFETY * windows * (2 * settings.max_window_s + _MOST_SETTLE_S)


def _see_yardsticks(
    series: _Series,
    sessions: Mapping[str, Session],
    run_ms: Mapping[str, float],
    anchor: str | None,
    idle_w: float | None,
) -> None:
    if idle_w is None:
        series.see_idle()
    if anchor is not None:
        series.see_run(anchor, sessions[anchor], run_ms[anchor])


class _Series:
    """All windows on one meter so far, by what ran in them."""

    def __init__(self, meter: Meter, settings: EnergySettings) -> None:
        info = meter.info
        self._meter = meter
        self._resolution_mj = info.resolution_mj
        self._rounding_w = _ROUNDING * info.step_w
        self._clear = settings.clear
        self._window_s = settings.window_s(info)
        self._settle_s = min(info.settle_s, _MOST_SETTLE_S)
        self._batch_s = float(np.clip(info.update_interval_s / _BATCHES_AN_UPDATE, *_BATCH_S))
        self._idle: list[MeterWindow] = []
        self._runs: dict[str, list[MeterWindow]] = {}

    def see_idle(self) -> None:
        self._idle.append(self._observe(self._rest))

    def see_run(self, key: str, session: Session, run_ms: float) -> None:
        # s -> ms; so many runs that looking at the meter costs little beside them
        iterations = int(np.clip(round(1e3 * self._batch_s / run_ms), 1, _MOST_ITERATIONS))

        def run() -> int:
            session.time_ns(iterations=iterations)
            return iterations

        self._runs.setdefault(key, []).append(self._observe(run))

    def energy(self, key: str, *, anchor: str | None, idle_w: float | None) -> RunEnergy:
        # one window a candidate; only the anchor has several
        (window,) = self._runs[key]
        level_w = self._level_w(window, idle_w)
        smallest_mj = self._clear * self._noise_mj(window, level_w)
        net_mj = self._net_mj(window, idle_w)
        return RunEnergy(
            # never below what would have stood out: tables need positive entries, and this bound is safe for a limit
            net_mj=max(net_mj, smallest_mj) / window.runs,
            gross_mj=window.energy_mj / window.runs,
            idle_w=level_w,
            within_noise=net_mj < smallest_mj,
            anchor_mj=self._anchor_mj(anchor, window, idle_w) if anchor is not None else None,
            runs=window.runs,
            seconds=window.seconds,
        )

    def _anchor_mj(self, key: str, window: MeterWindow, idle_w: float | None) -> float | None:
        """The anchor's net energy around a window; None if the meter does not tell it clearly."""
        seen = self._runs[key]
        net_mj = [self._net_mj(w, idle_w) for w in seen]
        # all of them or none: an interpolation between a clear and an unclear value is unclear
        if any(
            n < self._clear * self._noise_mj(w, self._level_w(w, idle_w)) for n, w in zip(net_mj, seen, strict=True)
        ):
            return None
        each_mj = [n / w.runs for n, w in zip(net_mj, seen, strict=True)]
        # in time, as the chip warms: both ends of the series hold their own value
        return float(np.interp(window.middle_s, [w.middle_s for w in seen], each_mj))

    def _observe(self, work: Callable[[], int]) -> MeterWindow:
        return observe(self._meter, work, seconds=self._window_s, settle_s=self._settle_s)

    def _rest(self) -> int:
        self._meter.wait(self._batch_s)
        return 0

    def _net_mj(self, window: MeterWindow, idle_w: float | None) -> float:
        # W * s = J; 1e3 of them are mJ
        return window.energy_mj - 1e3 * self._level_w(window, idle_w) * window.seconds

    def _level_w(self, window: MeterWindow, idle_w: float | None) -> float:
        if idle_w is not None:
            return idle_w
        return float(np.interp(window.middle_s, [w.middle_s for w in self._idle], [w.power_w for w in self._idle]))

    def _noise_mj(self, window: MeterWindow, level_w: float) -> float:
        """Standard error of a window's net energy: the meter's steps and updates, and how unsteady all was."""
        levels = [w.power_w for w in self._idle]
        # the level may have been anywhere between the extremes seen
        drift_w = (max(levels) - min(levels)) / 2 if levels else 0.0
        idle_error_w = (
            np.mean([1e-3 * w.error_mj(level_w=w.power_w) / w.seconds for w in self._idle]) if levels else 0.0
        )
        # independent errors add as squares
        level_error_mj = 1e3 * math.hypot(idle_error_w, drift_w, self._rounding_w) * window.seconds
        unsteady_mj = math.hypot(window.error_mj(level_w=level_w), level_error_mj)
        # a step at either end of the window; steps and slack are bounds, so they add up plainly
        noise_mj = 2 * self._resolution_mj + 1e3 * level_w * window.slack_s + unsteady_mj
        # without two movements of the count all of its energy may belong to another time
        return noise_mj if window.whole else noise_mj + window.energy_mj
