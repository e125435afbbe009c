"""Values as a predictor shall learn them. Numpy only."""

from __future__ import annotations

import numpy as np

from hwnas.types import FloatArray


def compressed(values: FloatArray, *, below: float) -> FloatArray:
    """Values of which more is better, with what lies below a level drawn towards it; their order stays.

    Spaces hold networks that do not learn at all beside those that differ by tenths of a point. A process fitted to
    both takes all good ones for equal. What is at the level or above stays as it is.

    Args:
        values: (N,) finite.
        below: the level: what is worse is no part of a front worth having.
    """
    above = values[values >= below] - below
    spread = float(np.sqrt((above**2).mean())) if len(above) else 0.0
    if spread == 0:
        return values
    missing = np.maximum(below - values, 0.0)
    found: FloatArray = np.where(values < below, below - spread * np.log1p(missing / spread), values)
    return found
