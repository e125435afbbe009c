"""The linear program of cutting planes (Kelley, 1960): the next weights to try, from the points met so far."""

from __future__ import annotations

import numpy as np

from hwnas.types import FloatArray


def next_shares(points: FloatArray) -> tuple[FloatArray, float]:
    """The weights under which the smallest weighted sum of the known points is largest, and that sum.

    Args:
        points: (K, L) cost over limit of K networks.

    Returns:
        (L,) non-negative weights that add up to 1; the least over the space is at most the sum.
    """
    from scipy.optimize import linprog  # takes half a second to import, which few need

    known, n = points.shape
    # keeps the tolerances of the solver meaningful for limits far below the costs; all may cost nothing
    scale = float(np.abs(points).max()) or 1.0
    solution = linprog(
        c=[*np.zeros(n), -1.0],  # maximise t
        A_ub=np.hstack([-points / scale, np.ones((known, 1))]),  # t <= weights @ points, for each point
        b_ub=np.zeros(known),
        A_eq=[[*np.ones(n), 0.0]],
        b_eq=[1.0],
        bounds=[*[(0.0, 1.0)] * n, (None, None)],
    )
    assert solution.x is not None, "the set of weights is never empty, and t is bounded"
    shares = np.clip(solution.x[:n], 0.0, 1.0)
    return shares / shares.sum(), float(solution.x[n] * scale)
