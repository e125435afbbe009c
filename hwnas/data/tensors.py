"""`Preprocess` on torch tensors, for training and evaluation. Knows torch inside functions only."""

from __future__ import annotations

from typing import TYPE_CHECKING

from hwnas.data.preprocess import Preprocess
from hwnas.errors import DataError

if TYPE_CHECKING:
    from torch import Tensor

    from hwnas.data.arrays import UInt8Array


def to_tensor(images: UInt8Array) -> Tensor:
    """(N, H, W, C) array -> (N, C, H, W) uint8 tensor, channels last in memory, sharing it."""
    import torch

    return torch.from_numpy(images).permute(0, 3, 1, 2)


def preprocess_tensor(images: Tensor, preprocess: Preprocess) -> Tensor:
    """What `preprocess.apply` computes, on the tensor's device and differentiable for float input.

    Args:
        images: (N, C, H, W), uint8 in 0..255 or float in [0, 1].
        preprocess: what to do.

    Returns:
        (N, C, resolution, resolution) float32.

    Raises:
        DataError: not as many channels as the mean has.
    """
    import torch
    from torch.nn.functional import interpolate

    if images.ndim != 4 or images.shape[1] != len(preprocess.mean):
        raise DataError(f"images must be (N, {len(preprocess.mean)}, H, W), got {tuple(images.shape)}")
    x = images if images.is_floating_point() else images.float() / 255
    side = (preprocess.resolution, preprocess.resolution)
    if tuple(x.shape[2:]) != side:
        x = interpolate(x, side, mode=preprocess.interpolation, align_corners=False, antialias=False)
    mean, std = (
        torch.tensor(v, dtype=x.dtype, device=x.device)[:, None, None] for v in (preprocess.mean, preprocess.std)
    )
    return (x - mean) / std
