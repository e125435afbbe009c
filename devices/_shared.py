"""What several adapters need: random inputs to time with, and counts for people to read.

Knows arrays; never a runtime.
"""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from typing import Any

import numpy as np

from hwnas.types import Array


def random_array(rng: np.random.Generator, shape: Sequence[int], dtype: np.dtype[Any]) -> Array:
    """Values for a timed run: normal for floats, the whole range for 8-bit integers, else zeros."""
    if dtype.kind == "f":
        return rng.standard_normal(shape).astype(dtype)
    if dtype.itemsize == 1 and dtype.kind in "ui":
        limits = np.iinfo(dtype)
        return rng.integers(limits.min, limits.max, size=shape, dtype=dtype, endpoint=True)
    return np.zeros(shape, dtype)  # indices and flags: zero is always in range


def listing(counts: Mapping[str, int]) -> str:
    """`QLinearConv 5, QLinearAdd 1`: the most frequent first."""
    return ", ".join(f"{name} {n}" for name, n in sorted(counts.items(), key=lambda item: (-item[1], item[0])))
