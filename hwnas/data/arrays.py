"""What a data set is once it is loaded: arrays of images and labels, checked and split.

Knows numpy only: never where the images came from, torch, or what they will be used for.
"""

from __future__ import annotations

import hashlib
from collections.abc import Sequence
from dataclasses import dataclass

import numpy as np
import numpy.typing as npt

from hwnas.data.augment import Augment
from hwnas.errors import DataError
from hwnas.types import IntArray

UInt8Array = npt.NDArray[np.uint8]
Int64Array = npt.NDArray[np.int64]


@dataclass(frozen=True, slots=True, kw_only=True, eq=False)
class ArrayDataset:
    """Images with labels in memory; serves as a torch map-style data set without torch.

    Attributes:
        images: (N, H, W, C) in 0..255.
        labels: (N,) class indices.
    """

    images: UInt8Array
    labels: Int64Array

    def __post_init__(self) -> None:
        if self.images.dtype != np.uint8 or self.images.ndim != 4:
            raise DataError(f"images must be (N, H, W, C) uint8, got {self.images.shape} {self.images.dtype}")
        if self.labels.dtype != np.int64 or self.labels.shape != self.images.shape[:1]:
            raise DataError(
                f"labels must be ({len(self.images)},) int64, one an image, got {self.labels.shape} {self.labels.dtype}"
            )

    def __len__(self) -> int:
        return len(self.labels)

    def __getitem__(self, index: int) -> tuple[UInt8Array, int]:
        """One image, (H, W, C), and its label."""
        return self.images[index], int(self.labels[index])

    def subset(self, indices: IntArray) -> ArrayDataset:
        """The images at these positions, in this order."""
        return ArrayDataset(images=self.images[indices], labels=self.labels[indices])


@dataclass(frozen=True, slots=True, kw_only=True, eq=False)
class RawData:
    """What a data source gives: arrays as they were found, not yet checked or split.

    Attributes:
        name: short, for tables and manifests.
        train: images and labels; `checks.check_images` says which arrays are understood.
        validation: None: a share of `train` is set aside.
        test: None: a share of `train` is set aside.
        class_names: in the order of the labels; None: the labels' numbers.
        augment: what may be done to training images without changing their class.
    """

    name: str
    train: tuple[npt.ArrayLike, npt.ArrayLike]
    validation: tuple[npt.ArrayLike, npt.ArrayLike] | None = None
    test: tuple[npt.ArrayLike, npt.ArrayLike] | None = None
    class_names: tuple[str, ...] | None = None
    augment: Augment = Augment()  # noqa: RUF009 - frozen


@dataclass(frozen=True, slots=True, kw_only=True, eq=False)
class Data:
    """A data set ready for training: checked, split, with the statistics its preprocessing needs.

    Attributes:
        name: short, for tables and manifests.
        train: what weights learn from.
        validation: what the search ranks networks by.
        test: read once, for the report.
        class_names: in the order of the labels.
        mean: per channel, of the training images scaled to [0, 1].
        std: likewise, at least 1/255.
        augment: what may be done to training images without changing their class.
        fingerprint: sha256 over every image, label and class name, and the split.
    """

    name: str
    train: ArrayDataset
    validation: ArrayDataset
    test: ArrayDataset
    class_names: tuple[str, ...]
    mean: tuple[float, ...]
    std: tuple[float, ...]
    augment: Augment
    fingerprint: str

    @property
    def n_classes(self) -> int:
        """Number of classes."""
        return len(self.class_names)

    @property
    def in_channels(self) -> int:
        """Channels of an image: 1 for grey, 3 for colour."""
        return int(self.train.images.shape[3])

    @property
    def native_size(self) -> tuple[int, int]:
        """Height and width of the images as loaded, in pixels."""
        return int(self.train.images.shape[1]), int(self.train.images.shape[2])


def channel_statistics(images: UInt8Array) -> tuple[tuple[float, ...], tuple[float, ...]]:
    """Mean and standard deviation per channel on the [0, 1] scale, exact whatever the number of images.

    Args:
        images: (N, H, W, C).

    Raises:
        DataError: every pixel has the same value, so there is nothing to learn.
    """
    values = np.arange(256) / 255.0
    mean, std = [], []
    for c in range(images.shape[3]):
        share = np.bincount(images[..., c].ravel(), minlength=256) / images[..., c].size  # (256,)
        mean.append(float(share @ values))
        std.append(float(np.sqrt(share @ (values - mean[-1]) ** 2)))
    if max(std) == 0.0:
        raise DataError("every pixel of every training image has the same value; are these the right images?")
    return tuple(mean), tuple(max(s, 1 / 255) for s in std)


def fingerprint(parts: Sequence[ArrayDataset], class_names: Sequence[str]) -> str:
    """sha256 over the parts of a data set, in order."""
    digest = hashlib.sha256()
    for part in parts:
        digest.update(repr(part.images.shape).encode())
        digest.update(np.ascontiguousarray(part.images).data)
        digest.update(np.ascontiguousarray(part.labels.astype("<i8")).data)
    digest.update(repr(tuple(class_names)).encode())
    return digest.hexdigest()
