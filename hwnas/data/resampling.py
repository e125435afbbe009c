"""Bring images to another size with a low-pass filter, in numpy alone: a board that runs a network has no torch.

Each pixel of the result is a weighted mean of the pixels around its centre; the weights are a triangle, as wide as
the reduction (two pixels at least), cut off at the border and scaled to the sum 1. Centres lie at half pixels. That is
what torch calls bilinear with `antialias=True`, and Pillow BILINEAR; where an image is enlarged it is plain bilinear.

The result is defined to the last bit, so that a program in another language can give the same
(`examples/cpp/` does): double precision, the width before the height, sums from the first pixel to the
last, and no product and sum fused into one rounding. `tensors.py` has the same for training, but for its last bits;
tests hold both, and Pillow, against each other. Knows arrays, not what is in them.
"""

from __future__ import annotations

from collections.abc import Iterator
from functools import lru_cache
from typing import Any

import numpy as np
import numpy.typing as npt

UInt8Array = npt.NDArray[np.uint8]
Float32Array = npt.NDArray[np.float32]
Float64Array = npt.NDArray[np.float64]
_Taps = tuple[tuple[int, Float64Array], ...]  # of each pixel: the first that it is made of, and the weights
_Turns = tuple[tuple[npt.NDArray[np.intp], Float64Array], ...]  # of the n-th of these, in turn: which, and its weight

_FIXED_POINT = 1 << 22  # Pillow's unit for the weights of eight-bit images: sums are exact integers


def resize_float(image: Float32Array, size: tuple[int, int]) -> Float32Array:
    """Resize and round nothing.

    Args:
        image: (H, W, C).
        size: height and width of the result, in pixels.

    Returns:
        (height, width, C).
    """
    if image.shape[:2] == size:
        return image
    # the width first, as Pillow does; where it rounds in between, the order decides bits
    wide = _along_width(image, _turns(image.shape[1], size[1]))
    return _along_height(wide, _turns(image.shape[0], size[0])).astype(np.float32)


def resize_uint8(image: UInt8Array, size: tuple[int, int]) -> UInt8Array:
    """Resize first the width, then the height, each rounded to whole values: for squares bit for bit what Pillow does.

    Args:
        image: (H, W, C).
        size: height and width of the result, in pixels.

    Returns:
        (height, width, C).
    """
    height, width = image.shape[:2]
    if width != size[1]:
        image = _rounded(_along_width(image, _fixed_turns(width, size[1])))
    if height != size[0]:
        image = _rounded(_along_height(image, _fixed_turns(height, size[0])))
    return image


@lru_cache(maxsize=64)
def taps(size: int, side: int) -> _Taps:
    """Which of `size` pixels each of `side` new ones is made of, and with which weights."""
    return tuple(_taps(size, side))


def _taps(size: int, side: int) -> Iterator[tuple[int, Float64Array]]:
    # old pixels for a new one
    scale = size / side
    reach = max(scale, 1.0)  # of the triangle to either side
    for i in range(side):
        centre = (i + 0.5) * scale
        # Pillow's own rounding of the support (`precompute_coeffs`): bits agree only if the taps do
        first, end = max(int(centre - reach + 0.5), 0), min(int(centre + reach + 0.5), size)
        distance = np.abs((np.arange(first, end) - centre + 0.5) * (1.0 / reach))
        weights = np.maximum(1.0 - distance, 0.0)
        # renormalised at the border: padding with zeros would darken edges; `cumsum` adds from the first to the last
        yield first, weights / weights.cumsum()[-1]


@lru_cache(maxsize=64)
def _turns(size: int, side: int) -> _Turns:
    """The same taps the other way: the first of every new pixel, the second of every one, ...

    Those of fewer taps than others have weights of zero instead, which change no sum.
    """
    found = taps(size, side)
    most = max(len(weights) for _, weights in found)
    weights = np.array([np.pad(w, (0, most - len(w))) for _, w in found])  # (side, most)
    firsts = np.array([first for first, _ in found])
    return tuple((np.minimum(firsts + n, size - 1), weights[:, n]) for n in range(most))


@lru_cache(maxsize=64)
def _fixed_turns(size: int, side: int) -> _Turns:
    """The weights as whole multiples of 1 / _FIXED_POINT; float64 holds the sums of their products exactly."""
    return tuple((which, np.floor(w * _FIXED_POINT + 0.5)) for which, w in _turns(size, side))


def _rounded(sums: Float64Array) -> UInt8Array:
    return np.clip(np.floor(sums / _FIXED_POINT + 0.5), 0, 255).astype(np.uint8)


def _along_height(image: npt.NDArray[Any], turns: _Turns) -> Float64Array:
    """(H, W, C) -> (side, W, C)."""
    out = np.zeros((len(turns[0][0]), *image.shape[1:]))
    for which, weights in turns:
        # not a product of matrices: its libraries add in an order of their own
        out += image[which] * weights[:, None, None]
    return out


def _along_width(image: npt.NDArray[Any], turns: _Turns) -> Float64Array:
    """(H, W, C) -> (H, side, C)."""
    out = np.zeros((image.shape[0], len(turns[0][0]), image.shape[2]))
    for which, weights in turns:
        out += image[:, which] * weights[:, None]
    return out
