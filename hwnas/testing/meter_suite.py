"""Conformance suite for energy meters: what every meter must do, as tests to inherit.

    class TestMyMeter(MeterSuite):
        name = "my-meter"
        def meter(self, folder: Path) -> Meter: ...
        def spend(self, meter: Meter, seconds: float) -> None: ...

Knows the Meter protocol; never one particular meter. It needs pytest.
"""

from __future__ import annotations

import itertools
from abc import ABC, abstractmethod
from pathlib import Path

import pytest

from hwnas import registry
from hwnas.errors import ConfigError
from hwnas.measure.energy import Meter

_A_WHILE = 3  # updates


class MeterSuite(ABC):
    """Tests of one registered meter.

    Attributes:
        name: under which it is registered.
    """

    name: str

    @abstractmethod
    def meter(self, folder: Path) -> Meter:
        """One that works, on the machine that runs the tests or on something made up in an empty folder."""

    @abstractmethod
    def spend(self, meter: Meter, seconds: float) -> None:
        """Let what is metered use energy for so long by the meter's clock."""

    def test_is_registered_under_its_name(self) -> None:
        assert self.name in registry.names("meters")

    def test_tells_what_it_covers_and_how_finely(self, tmp_path: Path) -> None:
        info = self.meter(tmp_path).info
        assert info.name
        assert info.covers
        assert info.resolution_mj > 0
        assert info.update_interval_s > 0
        assert info.settle_s >= 0

    def test_counts_energy_and_time_and_neither_ever_falls(self, tmp_path: Path) -> None:
        meter = self.meter(tmp_path)
        with meter:
            readings = [meter.read()]
            for _ in range(5):
                self.spend(meter, _A_WHILE * meter.info.update_interval_s)
                readings.append(meter.read())
        for before, after in itertools.pairwise(readings):
            assert after.energy_mj >= before.energy_mj
            assert after.time_s >= before.time_s
        assert readings[-1].energy_mj > readings[0].energy_mj
        assert readings[-1].time_s > readings[0].time_s

    def test_waiting_passes_time_on_its_clock(self, tmp_path: Path) -> None:
        meter = self.meter(tmp_path)
        with meter:
            before = meter.read().time_s
            meter.wait(_A_WHILE * meter.info.update_interval_s)
            assert meter.read().time_s > before

    def test_can_be_entered_again(self, tmp_path: Path) -> None:
        meter = self.meter(tmp_path)
        for _ in range(2):
            with meter:
                before = meter.read()
                self.spend(meter, _A_WHILE * meter.info.update_interval_s)
                assert meter.read().energy_mj > before.energy_mj

    def test_an_option_it_does_not_know_is_refused(self) -> None:
        with pytest.raises(ConfigError, match="no_such_option"):
            registry.load("meters", self.name)({"no_such_option": 1})
