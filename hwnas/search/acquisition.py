"""What evaluating a network promises: the improvement to expect, where a metric is predicted and its costs are known.

Numpy only; every value is to be maximised, every cost minimised. Never knows how a prediction was made.
"""

from __future__ import annotations

import numpy as np

from hwnas.types import FloatArray

_FAR = 10.0  # deviations above which a normal value never lies: 1 in 10^23


def expected_improvement(mean: FloatArray, std: FloatArray, level: FloatArray | float) -> FloatArray:
    """E[max(value - level, 0)] of a normal value (Jones, Schonlau & Welch, 1998, equation 15).

    Args:
        mean: of each network; broadcast against `level`.
        std: likewise, positive.
        level: what is to be exceeded.
    """
    from scipy.special import ndtr

    z = (mean - level) / std
    density = np.exp(-0.5 * z**2) / np.sqrt(2 * np.pi)
    found: FloatArray = std * (z * ndtr(z) + density)
    return np.maximum(found, 0.0)


def expected_hypervolume_improvement(
    mean: FloatArray,
    std: FloatArray,
    cost: FloatArray,
    *,
    front_value: FloatArray,
    front_cost: FloatArray,
    reference: tuple[float, float],
) -> FloatArray:
    """How much the area under a front of one value and one cost is expected to grow by a network.

    The cost is exact, so the expectation is over the value alone: a sum over the steps of the front of what the network
    is expected to exceed each by, times how much of the step is not cheaper than the network.

    Args:
        mean: (N,) of the predicted value.
        std: (N,) its standard deviation.
        cost: (N,) exact.
        front_value: (K,) of the networks no other beats, by rising cost, hence rising; K may be 0.
        front_cost: (K,).
        reference: the least value and the largest cost that count.

    Returns:
        (N,)
    """
    least, most = reference
    # step k: from the cost of network k - 1 to that of network k, at the value of network k - 1
    begins = np.concatenate([[-np.inf], front_cost])
    ends = np.minimum(np.concatenate([front_cost, [most]]), most)
    levels = np.concatenate([[least], np.maximum(front_value, least)])
    # nothing comes of a step that costs less than the network, nor of one that nobody expects it to reach
    network, step = np.nonzero((cost[:, None] < ends) & ((mean + _FAR * std)[:, None] > levels))
    width = np.maximum(ends[step] - np.maximum(begins[step], cost[network]), 0.0)
    gain = width * expected_improvement(mean[network], std[network], levels[step])
    return np.bincount(network, weights=gain, minlength=len(mean)).astype(float)
