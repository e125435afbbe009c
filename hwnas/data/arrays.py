"""What a data set is once it is loaded: arrays of images and labels, checked and split.

Knows numpy only: never where the images came from, torch, or what they will be used for.
"""

from __future__ import annotations

import hashlib
from collections.abc import Mapping, Sequence
from dataclasses import dataclass, field
from pathlib import Path

import numpy as np
import numpy.typing as npt

from hwnas.data.augment import Augment
from hwnas.data.decoding import DecodingRule
from hwnas.errors import DataError
from hwnas.types import IntArray

UInt8Array = npt.NDArray[np.uint8]
Int64Array = npt.NDArray[np.int64]
UNLABELLED = -1  # the label of an image whose class is not known, as in scikit-learn
_PIECE = 1 << 20  # values looked at in one go


@dataclass(frozen=True, slots=True, kw_only=True, eq=False)
class ArrayDataset:
    """Images with labels in memory; serves as a torch map-style data set without torch.

    Attributes:
        images: (N, H, W, C) in 0..255.
        labels: (N,) class indices; `UNLABELLED` throughout where none are known.
        files: what the images were read from, one each; None: they were given as arrays.
    """

    images: UInt8Array
    labels: Int64Array
    files: tuple[Path, ...] | None = None

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
        return ArrayDataset(images=self.images[indices], labels=self.labels[indices], files=self.files_at(indices))

    def files_at(self, indices: IntArray) -> tuple[Path, ...] | None:
        """The files of the images at these positions."""
        return None if self.files is None else tuple(self.files[i] for i in indices.tolist())


@dataclass(frozen=True, slots=True, kw_only=True)
class LeftOut:
    """Files of a data set that are not used, for one reason.

    Attributes:
        part: "train", "val" or "test"; "" where they belong to none.
        class_name: "" where they belong to none.
        reason: in a few words.
        count: of files.
        example: the first of them.
        image: they are images, so that something is lost.
    """

    part: str
    class_name: str
    reason: str
    count: int
    example: str
    image: bool = False


@dataclass(frozen=True, slots=True, kw_only=True, eq=False)
class RawData:
    """What a data source gives: arrays as they were found, not yet checked or split.

    Attributes:
        name: short, for tables and manifests.
        train: images and labels; `checks.check_images` says which arrays are understood. Labels are None where there
            are none; then they are so in every part.
        validation: None: a share of `train` is set aside.
        test: None: a share of `train` is set aside.
        class_names: in the order of the labels; None: the labels' numbers.
        augment: what may be done to training images without changing their class.
        decoding: how files became pixels; None where there were no image files.
        files: "train", "val", "test" -> what the images of that part were read from, one each; empty likewise.
        left_out: what was found and not used.
        notes: what was chosen, where it is not obvious.
        warnings: what may be a mistake.
        handed_over: the arrays are nobody else's, so that their images may be put in another order in place.
    """

    name: str
    train: tuple[npt.ArrayLike, npt.ArrayLike | None]
    validation: tuple[npt.ArrayLike, npt.ArrayLike | None] | None = None
    test: tuple[npt.ArrayLike, npt.ArrayLike | None] | None = None
    class_names: tuple[str, ...] | None = None
    augment: Augment = Augment()  # noqa: RUF009 - frozen
    decoding: DecodingRule | None = None
    files: Mapping[str, tuple[Path, ...]] = field(default_factory=dict)
    left_out: tuple[LeftOut, ...] = ()
    notes: tuple[str, ...] = ()
    warnings: tuple[str, ...] = ()
    handed_over: bool = False


@dataclass(frozen=True, slots=True, kw_only=True, eq=False)
class Data:
    """A data set ready for training: checked, split, with the statistics its preprocessing needs.

    Attributes:
        name: short, for tables and manifests.
        train: what weights learn from.
        validation: what the search ranks networks by.
        test: read once, for the report.
        class_names: in the order of the labels; empty where none are known.
        mean: per channel, of the training images scaled to [0, 1].
        std: likewise, at least 1/255.
        augment: what may be done to training images without changing their class.
        fingerprint: sha256 over every image, label and class name, and the split.
        decoding: how files became pixels, which a deployment has to repeat; None where there were no image files.
        left_out: what was found and not used.
        notes: what was chosen, where it is not obvious.
        warnings: what may be a mistake.
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
    decoding: DecodingRule | None = None
    left_out: tuple[LeftOut, ...] = ()
    notes: tuple[str, ...] = ()
    warnings: tuple[str, ...] = ()

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
    # pixels have 256 values: counting them is exact, and a sum of floats over millions is not
    values = np.arange(256) / 255.0
    mean, std = [], []
    step = max(1, _PIECE // images[0].size)
    for c in range(images.shape[3]):
        counts = np.zeros(256, np.int64)
        for at in range(0, len(images), step):  # bincount makes eight bytes of each
            counts += np.bincount(images[at : at + step, ..., c].ravel(), minlength=256)
        share = counts / counts.sum()  # (256,)
        mean.append(float(share @ values))
        std.append(float(np.sqrt(share @ (values - mean[-1]) ** 2)))
    if max(std) == 0.0:
        raise DataError("every pixel of every training image has the same value; are these the right images?")
    # a constant channel must not divide by zero; one grey level is the least that differs
    return tuple(mean), tuple(max(s, 1 / 255) for s in std)


def fingerprint(parts: Sequence[ArrayDataset], class_names: Sequence[str]) -> str:
    """sha256 over the parts of a data set, in order."""
    digest = hashlib.sha256()
    for part in parts:
        # without the shape, two parts' bytes could be cut elsewhere and give the same sum
        digest.update(repr(part.images.shape).encode())
        digest.update(np.ascontiguousarray(part.images).data)
        # one byte order: a checkpoint may travel to another machine
        digest.update(np.ascontiguousarray(part.labels.astype("<i8")).data)
    digest.update(repr(tuple(class_names)).encode())
    return digest.hexdigest()
