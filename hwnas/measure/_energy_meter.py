"""What an energy meter is, and how the one of a device is found.

Knows the vocabulary of meters; neither sessions nor where a meter's numbers come from. `hwnas.measure.energy` gives
these names to others.
"""

from __future__ import annotations

from collections.abc import Callable, Mapping
from dataclasses import dataclass
from typing import Protocol

from hwnas import registry
from hwnas.errors import ConfigError
from hwnas.foreign import as_written
from hwnas.types import Device, Option

_TYPE_NAMES: Mapping[type, str] = {str: "text", bool: "boolean", int: "whole number", float: "number"}


@dataclass(frozen=True, slots=True, kw_only=True)
class MeterInfo:
    """What a meter is.

    Attributes:
        name: for people: `rapl package-0`.
        covers: what its energy includes: `processor package`, `GPU board`, `rail VDD_IN`.
        resolution_mj: smallest step of its count, above 0.
        update_interval_s: between two values of it, above 0.
        settle_s: after a change of load its values still hold some of the time before for so long.
        step_w: smallest step of a power sensor: an error of the level that no length of a window averages out.
    """

    name: str
    covers: str
    resolution_mj: float
    update_interval_s: float
    settle_s: float = 0.0
    step_w: float = 0.0


@dataclass(frozen=True, slots=True, kw_only=True)
class Reading:
    """Energy since some fixed moment, never less than before, and when it was read by the meter's clock."""

    energy_mj: float
    time_s: float


class Meter(Protocol):
    """Counts energy. Entered before it is read (sensors begin to sample) and left afterwards.

    A meter is registered as a factory that takes `Device.meter_options`; `factory.check_options(options)`, if it has
    that, checks them where the meter is not. It raises ConfigError for an option it does
    not know, and MeasurementError, with what to do, where this machine or user cannot read it.
    """

    @property
    def info(self) -> MeterInfo:
        """What it covers, and how finely."""
        ...

    def read(self) -> Reading:
        """The count now.

        Raises:
            MeasurementError: it can no longer be read.
        """
        ...

    def wait(self, seconds: float) -> None:
        """Let time pass, by the meter's clock, with nothing running."""
        ...

    def __enter__(self) -> Meter: ...

    def __exit__(self, *exc: object) -> None: ...


def open_meter(device: Device) -> Meter | None:
    """The device's meter; None if it has none.

    Raises:
        UnknownNameError: no meter of that name.
        MissingPackageError: it needs a package that is not installed.
        ConfigError: an option of it is wrong.
        MeasurementError: it cannot be read here; says what to do.
    """
    if not device.meter:
        return None
    factory: Callable[[Mapping[str, Option]], Meter] = registry.load("meters", device.meter)
    return factory(device.meter_options)


def check_meter_options(name: str, options: Mapping[str, Option], defaults: Mapping[str, Option]) -> dict[str, Option]:
    """The options of a meter, completed.

    Args:
        name: of the meter, for the error.
        options: given.
        defaults: of everything that may be given; the types must agree (whole numbers pass for fractions).

    Raises:
        ConfigError: an option is not known, or of another type.
    """
    for key, value in options.items():
        if key not in defaults:
            raise ConfigError(f"meter {name!r} has no option {as_written(key)}; known: {', '.join(defaults) or 'none'}")
        wanted = type(defaults[key])
        fits = isinstance(value, int | float) if wanted is float else isinstance(value, wanted)
        # `bool` is an `int` in Python, so it must be asked for apart
        if not fits or isinstance(value, bool) != (wanted is bool):
            raise ConfigError(
                f"option {key!r} of meter {name!r} is {as_written(value)}; allowed: a {_TYPE_NAMES[wanted]}"
            )
    return {**defaults, **options}
