"""Least squares with coefficients that are not negative.

Not `scipy.optimize.nnls`: costs are fitted wherever a run's tables are read, so where budgets are answered too, and
SciPy would be a third of all that is installed there. It must know numbers only.
"""

from __future__ import annotations

import numpy as np
from numpy.typing import NDArray

from hwnas.types import FloatArray

_TURNS = 3  # times as many as coefficients: beyond, it is rounding that decides which of them are 0
_SMALLEST = 1e-12  # share of the largest gradient below which rounding decides its sign


def non_negative_least_squares(a: FloatArray, b: FloatArray) -> FloatArray:
    """The x >= 0 with the least |a @ x - b|.

    The active set method of Lawson and Hanson (Solving Least Squares Problems, 1974, chapter 23), on the normal
    equations as by Bro and de Jong (A fast non-negativity-constrained least squares algorithm, Journal of Chemometrics
    11, 1997), and begun with the solution that may be negative.

    Args:
        a: (M, N), N >= 1 independent columns of about one size: their condition counts twice.
        b: (M,).

    Returns:
        (N,)
    """
    gram, target = a.T @ a, a.T @ b  # (N, N), (N,)
    x = np.linalg.solve(gram, target)
    if x.min() >= 0:
        return x
    x, free = _among(gram, target, np.maximum(x, 0.0), x > 0)
    smallest = _SMALLEST * float(np.abs(target).max())
    for _ in range(_TURNS * len(target)):
        # downhill for those that are 0; for those that are free it is 0 but for rounding
        gradient = np.where(free, -np.inf, target - gram @ x)
        entering = int(gradient.argmax())
        if gradient[entering] <= smallest:
            break
        free[entering] = True
        x, free = _among(gram, target, x, free)
    return x


def _among(
    gram: FloatArray, target: FloatArray, x: FloatArray, free: NDArray[np.bool_]
) -> tuple[FloatArray, NDArray[np.bool_]]:
    """The solution in which all but the free coefficients are 0; those that the way there makes negative become 0 too.

    Args:
        gram: (N, N) products of the columns.
        target: (N,) their products with what is to be met.
        x: (N,) to begin with, not negative, and 0 where a coefficient is not free.
        free: (N,) what may differ from 0.

    Returns:
        The solution, and which of its coefficients are free still.
    """
    while True:
        at = free.nonzero()[0]
        solved = np.zeros_like(x)
        solved[at] = np.linalg.solve(gram[at[:, None], at], target[at])
        negative = at[solved[at] <= 0]
        if not len(negative):
            return solved, free
        # as far on the way as none is negative: at least one is 0 there and leaves, so this ends
        shares = x[negative] / (x[negative] - solved[negative])
        x = x + shares.min() * (solved - x)
        free = free & (x > 0)
        free[negative[shares.argmin()]] = False
        x = np.where(free, x, 0.0)
