"""From stored images to a network's input, with numpy alone: a board that runs a network has no torch.

A deployment's manifest records a `Preprocess`. `tensors.py` holds the same steps for training; a test
compares the two. This module must never know torch or where images come from.
"""

from __future__ import annotations

from collections.abc import Mapping
from dataclasses import asdict, dataclass, fields
from typing import Any

import numpy as np
import numpy.typing as npt

from hwnas.errors import DataError

INTERPOLATIONS = ("bilinear",)


@dataclass(frozen=True, slots=True, kw_only=True)
class Preprocess:
    """Scale to [0, 1], resize to a square, subtract the mean, divide by the standard deviation.

    Attributes:
        resolution: side of the network's input, in pixels.
        mean: per channel, on the [0, 1] scale.
        std: likewise, above zero.
        interpolation: of INTERPOLATIONS; bilinear between pixel centres, without low-pass filter.
    """

    resolution: int
    mean: tuple[float, ...]
    std: tuple[float, ...]
    interpolation: str = "bilinear"

    def __post_init__(self) -> None:
        if self.resolution < 1:
            raise DataError(f"preprocessing: resolution is {self.resolution}, but must be at least 1 pixel")
        if not self.mean or len(self.mean) != len(self.std):
            raise DataError(
                f"preprocessing: {len(self.mean)} means and {len(self.std)} deviations; give one of each a channel"
            )
        if not min(self.std) > 0:
            raise DataError(f"preprocessing: std is {self.std}, but every entry must be above zero")
        if self.interpolation not in INTERPOLATIONS:
            raise DataError(
                f"preprocessing: unknown interpolation {self.interpolation!r}; known: {', '.join(INTERPOLATIONS)}"
            )

    def to_dict(self) -> dict[str, Any]:
        """For JSON; the inverse of `from_dict`."""
        return asdict(self) | {"mean": list(self.mean), "std": list(self.std)}

    @classmethod
    def from_dict(cls, values: Mapping[str, Any]) -> Preprocess:
        """What `to_dict` gave.

        Raises:
            DataError: a field is missing, unknown, or of another type.
        """
        known = {f.name for f in fields(cls)}
        if set(values) != known:
            raise DataError(
                f"preprocessing has the fields {', '.join(sorted(values)) or 'none'}; needed are exactly "
                f"{', '.join(sorted(known))}"
            )
        try:
            return cls(
                resolution=int(values["resolution"]),
                mean=tuple(float(m) for m in values["mean"]),
                std=tuple(float(s) for s in values["std"]),
                interpolation=str(values["interpolation"]),
            )
        except (TypeError, ValueError) as e:
            if isinstance(e, DataError):
                raise
            raise DataError(f"preprocessing cannot be read: {e}") from e

    def apply(self, images: npt.NDArray[np.uint8]) -> npt.NDArray[np.float32]:
        """The network's input for these images.

        Args:
            images: (N, H, W, C) in 0..255.

        Returns:
            (N, C, resolution, resolution), contiguous.

        Raises:
            DataError: another type or shape, or not as many channels as the mean has.
        """
        if images.dtype != np.uint8 or images.ndim != 4 or images.shape[3] != len(self.mean):
            raise DataError(f"images must be (N, H, W, {len(self.mean)}) uint8, got {images.shape} {images.dtype}")
        x = resize_bilinear(images.astype(np.float32) / np.float32(255), self.resolution)
        normal = (x - np.asarray(self.mean, np.float32)) / np.asarray(self.std, np.float32)
        return np.ascontiguousarray(normal.transpose(0, 3, 1, 2))  # (N, R, R, C) -> (N, C, R, R)


def resize_bilinear(images: npt.NDArray[np.float32], side: int) -> npt.NDArray[np.float32]:
    """Resize as torch's `interpolate(mode="bilinear", align_corners=False, antialias=False)` does.

    Args:
        images: (N, H, W, C).
        side: height and width of the result, in pixels.

    Returns:
        (N, side, side, C).
    """
    if images.shape[1] != side:
        low, high, weight = _taps(images.shape[1], side)
        w = weight[:, None, None]
        images = images[:, low] * (1 - w) + images[:, high] * w  # (N, H, W, C) -> (N, side, W, C)
    if images.shape[2] != side:
        low, high, weight = _taps(images.shape[2], side)
        w = weight[:, None]
        images = images[:, :, low] * (1 - w) + images[:, :, high] * w  # -> (N, side, side, C)
    return images


def _taps(size: int, side: int) -> tuple[npt.NDArray[np.int64], npt.NDArray[np.int64], npt.NDArray[np.float32]]:
    """The two source positions of each target position, and the weight of the second."""
    scale = np.float32(size) / np.float32(side)  # float32 throughout, as torch computes it
    source = (np.arange(side, dtype=np.float32) + np.float32(0.5)) * scale - np.float32(0.5)
    source = np.maximum(source, np.float32(0))
    low = np.minimum(source.astype(np.int64), size - 1)
    return low, np.minimum(low + 1, size - 1), source - low.astype(np.float32)
