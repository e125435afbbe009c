"""One window on a meter: energy, time and runs between two moments at which its count moved.

Knows a meter's readings; not what runs, nor what is made of the energy.
"""

from __future__ import annotations

import math
from collections.abc import Callable, Sequence
from dataclasses import dataclass

import numpy as np

from hwnas.measure._energy_meter import Meter
from hwnas.types import FloatArray

_PATIENCE = 2  # windows of a meter that does not move
_PARTS = 8  # of a window: how they differ tells how sure it is


@dataclass(frozen=True, slots=True, kw_only=True, eq=False)
class MeterWindow:
    """What a meter showed.

    Attributes:
        energy_mj: used in it.
        seconds: its length, above 0.
        middle_s: its middle, by the meter's clock.
        runs: in it.
        slack_s: how far its two ends may be off the meter's updates, together.
        whole: whether it has such ends at all; if not, the meter hardly moved.
        parts: (P, 3) energy in mJ, seconds and runs of consecutive parts of it; P is 0 if the meter hardly moved.
    """

    energy_mj: float
    seconds: float
    middle_s: float
    runs: int
    slack_s: float
    whole: bool
    parts: FloatArray

    @property
    def power_w(self) -> float:
        """Mean power."""
        return 1e-3 * self.energy_mj / self.seconds

    def error_mj(self, *, level_w: float) -> float:
        """Standard error of the energy above a level, from how that of the parts departs from their shares of runs.

        Shares of runs, not of time: a slower moment has less power and fewer runs, and is no noise. With no runs, and
        the mean power as the level, it is the error of the level.
        """
        if len(self.parts) < 2:
            return 0.0
        net_mj = self.parts[:, 0] - 1e3 * level_w * self.parts[:, 1]
        runs = self.parts[:, 2]
        rest_mj = net_mj - (net_mj.sum() / runs.sum() * runs if runs.sum() else 0.0)
        return float(np.std(rest_mj, ddof=1)) * math.sqrt(len(rest_mj))


def observe(meter: Meter, work: Callable[[], int], *, seconds: float, settle_s: float) -> MeterWindow:
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
    # working, not waiting: the sensor's filter must fill with this load's values
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
        # both: one batch of a very slow model may last longer than the window
        if lasted_s >= _PATIENCE * seconds and len(looks) > _PATIENCE:
            break
    whole = len(moved) >= 2
    first, last = (moved[0], moved[-1]) if whole else (0, len(looks) - 1)
    span_s = looks[last].time_s - looks[first].time_s
    between_looks_s = span_s / (last - first)
    # then every look fell on a new value, and the ends are off by nothing
    always_moved = len(moved) == len(looks) - 1
    return MeterWindow(
        energy_mj=looks[last].energy_mj - looks[first].energy_mj,
        seconds=span_s,
        middle_s=(looks[last].time_s + looks[first].time_s) / 2,
        runs=runs[last] - runs[first],
        slack_s=0.0 if always_moved else between_looks_s,
        whole=whole,
        parts=_parts([(looks[i].energy_mj, looks[i].time_s, runs[i]) for i in moved]),
    )


def _parts(moved: Sequence[tuple[float, float, int]]) -> FloatArray:
    """Energy, seconds and runs between some of the looks that saw the meter move."""
    if len(moved) < 2:
        return np.empty((0, 3))
    # unique: fewer movements than parts give fewer parts
    cuts = np.unique(np.linspace(0, len(moved) - 1, _PARTS + 1).astype(int))
    # (P + 1, 3) -> (P, 3)
    return np.diff(np.array(moved, dtype=np.float64)[cuts], axis=0)
