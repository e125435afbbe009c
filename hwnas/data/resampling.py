"""Bring images to another size with a low-pass filter, in numpy alone: a board that runs a network has no torch.

Each pixel of the result is a weighted mean of the pixels around its centre; the weights are a triangle, as wide as
the reduction (two pixels at least), cut off at the border and scaled to the sum 1. Centres lie at half pixels. That is
what torch calls bilinear with `antialias=True`, and Pillow BILINEAR; where an image is enlarged it is plain bilinear.
`tensors.py` has the same for training; tests hold both, and Pillow, against each other. Knows arrays, not what is in
them.
"""

from __future__ import annotations

from collections.abc import Iterator
from functools import lru_cache
from typing import Any

import numpy as np
import numpy.typing as npt

UInt8Array = npt.NDArray[np.uint8]
Float32Array = npt.NDArray[np.float32]
_Taps = tuple[tuple[int, npt.NDArray[np.float64]], ...]  # of each pixel: the first that it is made of, and the weights

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
    wide = _along_width(image, taps(image.shape[1], size[1]))
    return _along_height(wide, taps(image.shape[0], size[0])).astype(np.float32)


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
        image = _rounded(_along_width(image, _fixed(width, size[1])))
    if height != size[0]:
        image = _rounded(_along_height(image, _fixed(height, size[0])))
    return image


@lru_cache(maxsize=64)
def taps(size: int, side: int) -> _Taps:
    """Which of `size` pixels each of `side` new ones is made of, and with which weights."""
    return tuple(_taps(size, side))


def _taps(size: int, side: int) -> Iterator[tuple[int, npt.NDArray[np.float64]]]:
    # old pixels for a new one
    scale = size / side
    reach = max(scale, 1.0)  # of the triangle to either side
    for i in range(side):
        centre = (i + 0.5) * scale
        # Pillow's own rounding of the support (`precompute_coeffs`): bits agree only if the taps do
        first, end = max(int(centre - reach + 0.5), 0), min(int(centre + reach + 0.5), size)
        distance = np.abs((np.arange(first, end) - centre + 0.5) * (1.0 / reach))
        weights = np.maximum(1.0 - distance, 0.0)
        # renormalised at the border: padding with zeros would darken edges
        yield first, weights / weights.sum()


@lru_cache(maxsize=64)
def _fixed(size: int, side: int) -> _Taps:
    """The weights as whole multiples of 1 / _FIXED_POINT; float64 holds the sums of their products exactly."""
    return tuple((first, np.floor(w * _FIXED_POINT + 0.5)) for first, w in taps(size, side))


def _rounded(sums: npt.NDArray[np.float64]) -> UInt8Array:
    return np.clip(np.floor(sums / _FIXED_POINT + 0.5), 0, 255).astype(np.uint8)


def _along_height(image: npt.NDArray[Any], weights: _Taps) -> npt.NDArray[np.float64]:
    """(H, W, C) -> (side, W, C)."""
    out = np.empty((len(weights), *image.shape[1:]))
    for i, (first, w) in enumerate(weights):
        rows = image[first : first + len(w)].reshape(len(w), -1).astype(np.float64)
        out[i] = (w @ rows).reshape(image.shape[1:])
    return out


def _along_width(image: npt.NDArray[Any], weights: _Taps) -> npt.NDArray[np.float64]:
    """(H, W, C) -> (H, side, C)."""
    out = np.empty((image.shape[0], len(weights), image.shape[2]))
    for i, (first, w) in enumerate(weights):
        out[:, i] = np.einsum("hwc,w->hc", image[:, first : first + len(w)], w)
    return out
