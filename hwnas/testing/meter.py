"""A simulated energy meter, on the virtual clock of the fake device in the same process.

It shows what a real one would: an idle level, steps, updates, noise, and a chip that becomes warm. Its numbers are
computed and the same each time; it never reads a real clock.
"""

from __future__ import annotations

import math
from collections.abc import Mapping

import numpy as np

from hwnas.errors import MeasurementError
from hwnas.measure.energy import MeterInfo, Reading, check_meter_options
from hwnas.testing.fake import SimulatedMachine
from hwnas.types import Option

# Everything `device.meter_options` may hold, with its default.
METER_OPTIONS: Mapping[str, Option] = {
    "idle_w": 2.0,  # always drawn
    "resolution_mj": 0.06,  # a step of the count
    "update_interval_s": 0.001,  # of virtual time
    "settle_s": 0.0,
    "noise_w": 0.0,  # the idle level wanders by this standard deviation from one look to the next
    "heat": 0.0,  # a warm chip takes more: up to this share
    "heat_period_s": 60.0,  # of virtual time
    "seed": 0,
    "fail": False,  # cannot be read any more
}


class FakeMeter:
    """The simulated machine's power supply."""

    @staticmethod
    def check_options(options: Mapping[str, Option]) -> None:
        """Check the options without looking for the meter.

        Raises:
            ConfigError: one is not known, or has a wrong value.
        """
        check_meter_options("fake", options, METER_OPTIONS)

    def __init__(self, options: Mapping[str, Option]) -> None:
        """Find the machine.

        Raises:
            ConfigError: an option that is not known.
        """
        self._options = check_meter_options("fake", options, METER_OPTIONS)
        self._machine = SimulatedMachine.current or SimulatedMachine.new()
        self._rng = np.random.default_rng(self._int("seed"))
        self._last_s = self._machine.now_ns * 1e-9
        self._last_machine_mj = self._machine.energy_mj
        self._total_mj = 0.0
        self._updated_s = self._last_s
        self._shown_mj = 0.0

    @property
    def info(self) -> MeterInfo:
        """A simulated supply."""
        return MeterInfo(
            name="fake",
            covers="simulated device",
            resolution_mj=self._float("resolution_mj"),
            update_interval_s=self._float("update_interval_s"),
            settle_s=self._float("settle_s"),
        )

    def read(self) -> Reading:
        """The count at the last update, in whole steps."""
        if self._options["fail"]:
            raise MeasurementError("the simulated meter cannot be read; take fail out of the meter's options")
        now_s = self._machine.now_ns * 1e-9
        before_mj, before_s = self._total_mj, self._last_s
        if now_s > before_s:
            idle_w = max(0.0, self._float("idle_w") + self._float("noise_w") * self._rng.standard_normal())
            used_mj = (self._machine.energy_mj - self._last_machine_mj) * self._warmth(now_s)
            self._total_mj += used_mj + 1e3 * idle_w * (now_s - before_s)
            self._last_s, self._last_machine_mj = now_s, self._machine.energy_mj
        interval_s = self._float("update_interval_s")
        # a real counter moves at whole intervals only: what it shows is the sum at the last of them, between two looks
        edge_s = math.floor(now_s / interval_s) * interval_s
        if edge_s > self._updated_s and now_s > before_s:
            exact_mj = float(np.interp(edge_s, [before_s, now_s], [before_mj, self._total_mj]))
            step_mj = self._float("resolution_mj")
            self._updated_s, self._shown_mj = edge_s, math.floor(exact_mj / step_mj) * step_mj
        return Reading(energy_mj=self._shown_mj, time_s=now_s)

    def wait(self, seconds: float) -> None:
        """Virtual time passes."""
        self._machine.now_ns += 1e9 * seconds

    def __enter__(self) -> FakeMeter:
        return self

    def __exit__(self, *exc: object) -> None: ...

    def _warmth(self, now_s: float) -> float:
        phase = 2 * math.pi * now_s / self._float("heat_period_s")
        return 1 + self._float("heat") * (1 - math.cos(phase)) / 2

    def _float(self, name: str) -> float:
        return float(self._options[name])

    def _int(self, name: str) -> int:
        return int(self._options[name])
