"""Evaluations that worker processes make for themselves; light, since each of them imports this."""

from __future__ import annotations

import os
import signal
import time
from functools import partial
from pathlib import Path

from hwnas.errors import DataError, MeasurementError, UnknownNameError
from hwnas.search.workers import Evaluate
from hwnas.types import Option

from .problems import quality


def good() -> Evaluate:
    return quality


def noting(folder: str, seconds: float = 0.0) -> Evaluate:
    """Leaves a file for every evaluation that is begun."""
    return partial(_noting, folder, seconds)


def _noting(folder: str, seconds: float, architecture: dict[str, Option]) -> dict[str, float]:
    name = "-".join(f"{k}{v}" for k, v in sorted(architecture.items()))
    Path(folder, f"{name} {os.getpid()} {time.monotonic_ns()}").touch()
    time.sleep(seconds)
    return quality(architecture)


def dying(folder: str, *, times: int) -> Evaluate:
    """Every evaluation of a network with x = "d" ends its process, for so many times in all."""
    return partial(_dying, folder, times)


def _dying(folder: str, times: int, architecture: dict[str, Option]) -> dict[str, float]:
    if architecture["x"] == "d" and len(os.listdir(folder)) < times:
        Path(folder, str(time.monotonic_ns())).touch()
        os.kill(os.getpid(), signal.SIGKILL)
    return quality(architecture)


def refusing() -> Evaluate:
    raise DataError("there are no images")


def dying_at_once() -> Evaluate:
    os._exit(7)


def failing() -> Evaluate:
    return _failing


def _failing(architecture: dict[str, Option]) -> dict[str, float]:
    if architecture["x"] == "d":
        raise MeasurementError("too hot")
    if architecture["x"] == "c":
        raise UnknownNameError("fan", "left", ["right"])  # its constructor takes more than a text
    return quality(architecture)


def buggy() -> Evaluate:
    return _buggy


def _buggy(architecture: dict[str, Option]) -> dict[str, float]:
    return {"accuracy": 1 / 0}


class Unsendable(float):
    def __reduce__(self) -> str:
        raise TypeError("it cannot be sent")


def unsendable() -> Evaluate:
    return lambda architecture: {"accuracy": Unsendable()}
