"""One window on a meter: energy, time and runs between two moments at which its count moved.

Knows a meter's readings; not what runs, nor what is made of the energy.
"""

from __future__ import annotations

import math
from collections.abc import Callable, Sequence
from dataclasses import dataclass

import numpy as np

from hwnas.measure._energy_meter import Meter, Reading

_PATIENCE = 2  # windows of a meter that does not move
_PARTS = 8  # of a window, whose powers tell how sure its mean is


@dataclass(frozen=True, slots=True, kw_only=True)
class Window:
    """What a meter showed.

    Attributes:
        energy_mj: used in it.
        seconds: its length, above 0.
        middle_s: its middle, by the meter's clock.
        runs: in it.
        slack_s: how far its two ends may be off the meter's updates, together.
        whole: whether it has such ends at all; if not, the meter hardly moved.
        error_w: standard error of its mean power, from how the powers of its parts differ; 0 if it has too few.
    """

    energy_mj: float
    seconds: float
    middle_s: float
    runs: int
    slack_s: float
    whole: bool
    error_w: float

    @property
    def power_w(self) -> float:
        """Mean power."""
        return 1e-3 * self.energy_mj / self.seconds


def observe(meter: Meter, work: Callable[[], int], *, seconds: float, settle_s: float) -> Window:
    """Work again and again, looking at the meter between.

    A count that moves ten times a second and is read at any moment may be a tenth of a second old. So the window
    begins where a look saw the count move and ends where one did, and the uncertainty is that of the looks.

    Args:
        meter: entered.
        work: done once between two looks; returns how many runs it was. Short against `seconds`, if it can be.
        seconds: of the window, at least.
        settle_s: of working before it begins.
    """
    begin_s = meter.read().time_s
    while meter.read().time_s - begin_s < settle_s:
        work()
    looks = [meter.read()]
    runs = [0]
    moved: list[int] = []  # looks that saw another count than the one before
    while True:
        runs.append(runs[-1] + work())
        looks.append(meter.read())
        if looks[-1].energy_mj != looks[-2].energy_mj:
            moved.append(len(looks) - 1)
        lasted_s = looks[-1].time_s - looks[0].time_s
        if len(moved) >= 2 and looks[moved[-1]].time_s - looks[moved[0]].time_s >= seconds:
            break
        if lasted_s >= _PATIENCE * seconds and len(looks) > _PATIENCE:
            break
    whole = len(moved) >= 2
    first, last = (moved[0], moved[-1]) if whole else (0, len(looks) - 1)
    span_s = looks[last].time_s - looks[first].time_s
    between_looks_s = span_s / (last - first)
    always_moved = len(moved) == len(looks) - 1
    return Window(
        energy_mj=looks[last].energy_mj - looks[first].energy_mj,
        seconds=span_s,
        middle_s=(looks[last].time_s + looks[first].time_s) / 2,
        runs=runs[last] - runs[first],
        slack_s=0.0 if always_moved else between_looks_s,
        whole=whole,
        error_w=_error_w([looks[i] for i in moved]),
    )


def _error_w(looks: Sequence[Reading]) -> float:
    cuts = np.unique(np.linspace(0, len(looks) - 1, _PARTS + 1).astype(int)) if looks else np.array([], int)
    if len(cuts) < 3:
        return 0.0
    energies_mj = np.diff([looks[i].energy_mj for i in cuts])
    seconds = np.diff([looks[i].time_s for i in cuts])
    powers_w = 1e-3 * energies_mj / seconds
    return float(np.std(powers_w, ddof=1)) / math.sqrt(len(powers_w))
