"""The steps from pixels to a network's input on torch tensors: what training and evaluation do to every batch.

`preprocess.py` has the same in numpy, for where there is no torch; a test holds the two together. Knows torch inside
functions only.
"""

from __future__ import annotations

import math
from collections.abc import Sequence
from typing import TYPE_CHECKING

if TYPE_CHECKING:
    from torch import Tensor

_AT_ONCE = 1 << 18  # pixels resized at a time: in double precision they still fit a processor's cache


def to_unit_range(images: Tensor) -> Tensor:
    """Pixels in 0..255 -> float32 in [0, 1]."""
    return images.float() / 255


def normalise(images: Tensor, *, mean: Sequence[float], std: Sequence[float]) -> Tensor:
    """Subtract the mean and divide by the standard deviation, channel by channel.

    Args:
        images: (N, C, H, W) in [0, 1], or (N, C, ...) of another kind.
        mean: of each channel, on the same scale.
        std: likewise.

    Returns:
        A tensor of the same shape; images with channels last in memory.
    """
    import torch

    # (C,) -> (C, 1, 1), to broadcast over (N, C, H, W)
    around = (-1, *(1,) * (images.dim() - 2))
    shift, scale = (torch.tensor(v, dtype=images.dtype, device=images.device).view(around) for v in (mean, std))
    found = (images - shift) / scale
    return found.contiguous(memory_format=torch.channels_last) if images.dim() == 4 else found


def fit(x: Tensor, shape: Sequence[int]) -> Tensor:
    """A batch as a network takes it: images in its size, anything else as it is.

    Args:
        x: (N, C, H, W) images, or (N, ...) of another kind.
        shape: of one of the network's own inputs.
    """
    return resize(x, shape[1:]) if x.dim() == 4 and len(shape) == 3 and x.is_floating_point() else x


def resize(images: Tensor, size: Sequence[int]) -> Tensor:
    """Bilinear, with a low-pass filter as wide as the reduction; half-pixel centres.

    In double precision, because in single torch's weights are off by up to 1e-4 of the range.

    Args:
        images: (N, C, H, W) float.
        size: height and width of the result, in pixels.

    Returns:
        (N, C, height, width).
    """
    import torch
    from torch.nn.functional import interpolate

    height, width = size
    if tuple(images.shape[-2:]) == (height, width):
        return images
    if width == 1 < height:  # which torch 2.13 gives other values where it filters (right is what one row gives)
        return resize(images.transpose(2, 3), (width, height)).transpose(2, 3)
    # antialiasing where it enlarges is plain bilinear, only slower
    smaller = height < images.shape[-2] or width < images.shape[-1]
    parts = [
        interpolate(part.double(), (height, width), mode="bilinear", align_corners=False, antialias=smaller)
        for part in torch.split(images, max(1, _AT_ONCE // math.prod(images.shape[1:])))
    ]
    return torch.cat([part.to(images.dtype) for part in parts])
