"""Energy from a power sensor: sampled by a thread, integrated by the trapezoidal rule.

Knows a function that gives watts; not where they come from.
"""

from __future__ import annotations

import os
import threading
from collections.abc import Callable
from contextlib import suppress
from typing import Self

from hwnas.errors import MeasurementError
from hwnas.measure.energy import Reading

_JOIN_S = 5.0


class PowerSampler:
    """Integrates between `start` and `stop`.

    A thread samples, not whoever reads the energy: one who reads between two batches of runs would see the power of
    the moments in which nothing runs. Between the samples it sleeps.
    """

    def __init__(self, read_w: Callable[[], float], *, interval_s: float, clock: Callable[[], float]) -> None:
        """Describe the sampling; it begins later.

        Args:
            read_w: the sensor.
            interval_s: between two samples.
            clock: seconds, monotonic.
        """
        self._read_w = read_w
        self._interval_s = interval_s
        self._clock = clock
        self._lock = threading.Lock()
        self._stop = threading.Event()
        self._thread: threading.Thread | None = None
        self._error: MeasurementError | None = None
        self._energy_mj = 0.0
        self._last: tuple[float, float] | None = None  # seconds, watts

    def start(self) -> None:
        """Take the first sample and go on in a thread.

        Raises:
            MeasurementError: the sensor cannot be read.
        """
        self._last = None
        self._error = None
        self._stop.clear()
        self.sample()
        self._thread = threading.Thread(target=self._run, name="power sampler", daemon=True)
        self._thread.start()

    def stop(self) -> None:
        """End the thread; nothing to do if there is none."""
        self._stop.set()
        if self._thread is not None:
            self._thread.join(_JOIN_S)
        self._thread = None

    def sample(self) -> None:
        """Read the sensor once and add the energy since the last sample.

        Raises:
            MeasurementError: the sensor cannot be read.
        """
        watts, now_s = self._read_w(), self._clock()
        with self._lock:
            if self._last is not None:
                before_s, before_w = self._last
                self._energy_mj += 1e3 * (watts + before_w) / 2 * (now_s - before_s)
            self._last = (now_s, watts)

    def reading(self) -> Reading:
        """The energy up to the last sample, and when that was.

        Raises:
            MeasurementError: the sensor could not be read since.
        """
        with self._lock:
            if self._error is not None:
                raise self._error
            if self._last is None:
                raise MeasurementError("the meter is read before it was entered: use it as a context manager")
            return Reading(energy_mj=self._energy_mj, time_s=self._last[0])

    def _run(self) -> None:
        _leave_pinned_cores()
        while not self._stop.wait(self._interval_s):
            try:
                self.sample()
            except MeasurementError as e:  # raised by whoever reads next, in their thread
                with self._lock:
                    self._error = e
                return


def _leave_pinned_cores() -> None:
    """Where the process is pinned, let the calling thread run on the other processors."""
    if hasattr(os, "sched_setaffinity"):
        others = set(range(os.cpu_count() or 1)) - os.sched_getaffinity(0)
        with suppress(OSError):  # a container may grant no others
            if others:
                os.sched_setaffinity(0, others)  # of this thread alone


class SampledMeter:
    """What meters share that count themselves or have a sampler do it: entered, the sampler runs.

    Attributes:
        _sampler: None where the hardware counts.
        _sleep: waits for so many seconds.
    """

    _sampler: PowerSampler | None
    _sleep: Callable[[float], None]

    def wait(self, seconds: float) -> None:
        """Sleep."""
        self._sleep(seconds)

    def __enter__(self) -> Self:
        if self._sampler is not None:
            self._sampler.start()
        return self

    def __exit__(self, *exc: object) -> None:
        if self._sampler is not None:
            self._sampler.stop()
