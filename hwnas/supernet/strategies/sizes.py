"""Networks of all sizes, and of a given one. Knows spaces and numbers."""

from __future__ import annotations

from collections.abc import Callable
from typing import TYPE_CHECKING

import numpy as np

from hwnas.types import FloatArray, IntArray

if TYPE_CHECKING:
    from hwnas.spaces.base import Space

Sizes = Callable[[IntArray], FloatArray]  # (N, D) encodings -> (N,) how large each network is


def of_all_sizes(space: Space, n: int, rng: np.random.Generator) -> IntArray:
    """(n, D) networks from small to large alike; drawn uniformly, nearly all are of a middle size.

    Each draws how large it is, and its choices by that: the larger, the later their options, which ascend.
    """
    options = np.array([len(c.options) for c in space.choices])
    largeness = rng.random((n, 1))
    return space.canonical(rng.binomial(options - 1, largeness, size=(n, len(options))))


def nearest_to(size: float, drawn: IntArray, sizes: FloatArray, n: int) -> IntArray:
    """(n, D) of some networks those whose size is nearest to one.

    Args:
        size: as `Sizes` gives it.
        drawn: (N, D) N at least n.
        sizes: (N,) of them.
        n: how many.
    """
    nearest: IntArray = drawn[np.argsort(np.abs(sizes - size), kind="stable")[:n]]
    return nearest
