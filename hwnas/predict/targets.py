"""Values as a predictor shall learn them. Numpy only."""

from __future__ import annotations

import numpy as np

from hwnas.types import FloatArray

_WORTHLESS = 30  # percent of networks that are spread over a space


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


def least_that_counts(spread: FloatArray, given: FloatArray) -> float:
    """The value below which no network is part of a front worth having, by those with which a search began.

    Of networks spread over the space nearly a third are none. Networks that somebody gave a search to begin with are
    all good for what they cost, so the front begins at the worst of them that is not far below the others (outside the
    fence of Tukey, 1977: one and a half times the middle half's width below it).

    Args:
        spread: (N,) of which more is better.
        given: (M,) likewise; N + M at least 1.
    """
    found = [float(np.percentile(spread, _WORTHLESS))] if len(spread) else []
    if len(given):
        low, high = np.percentile(given, [25, 75])
        found.append(float(given[given >= low - 1.5 * (high - low)].min()))
    return min(found)
