"""Turn the arrays a source found into images and labels, or say what is wrong with them.

Every problem is found here, before any training. Knows numpy only, never where arrays came from.
"""

from __future__ import annotations

from collections.abc import Sequence

import numpy as np
import numpy.typing as npt

from hwnas.data.arrays import ArrayDataset, Int64Array, UInt8Array
from hwnas.errors import DataError

_SMALLEST_SIDE = 4  # pixels; less is a channel axis in the wrong place, not an image
_MOST_CHANNELS = 16
_LAYOUTS = "(N, H, W) or (N, H, W, C)"


def check_images(images: npt.ArrayLike, *, what: str) -> UInt8Array:
    """Images as (N, H, W, C) uint8.

    Args:
        images: (N, H, W) or (N, H, W, C); integers in 0..255 or floats in [0, 1].
        what: named in errors: "training images".

    Raises:
        DataError: another shape, type or range; NaN; no image.
    """
    array = np.asarray(images)
    if array.ndim not in (3, 4):
        raise DataError(f"{what}: shape {array.shape} is not allowed; give {_LAYOUTS}")
    if array.ndim == 3:
        array = array[..., None]  # (N, H, W) -> (N, H, W, 1)
    if not len(array):
        raise DataError(f"{what}: there is not one image")
    _, height, width, channels = array.shape
    if min(height, width) < _SMALLEST_SIDE or not 1 <= channels <= _MOST_CHANNELS:
        hint = ""
        if height <= _SMALLEST_SIDE < min(width, channels):
            hint = "; if the channels come first, give images.transpose(0, 2, 3, 1)"
        raise DataError(
            f"{what}: shape {np.shape(images)} is not allowed; give {_LAYOUTS} with H and W at least "
            f"{_SMALLEST_SIDE} and C from 1 to {_MOST_CHANNELS}{hint}"
        )
    return _to_uint8(array, what=what)


def _to_uint8(array: npt.NDArray[np.generic], *, what: str) -> UInt8Array:
    if array.dtype == np.uint8:
        return np.ascontiguousarray(array, dtype=np.uint8)
    if array.dtype.kind in "iu":
        low, high, top, scale = int(array.min()), int(array.max()), 255, 1
        mend = "scale them to 0..255"
    elif array.dtype.kind == "f":
        finite = np.isfinite(array)
        if not finite.all():
            bad = int(np.flatnonzero(~finite.reshape(len(array), -1).all(axis=1))[0])
            raise DataError(f"{what}: image {bad} holds NaN or infinite values; remove or repair it")
        low, high, top, scale = float(array.min()), float(array.max()), 1, 255  # type: ignore[assignment]
        mend = "divide them by 255, or give uint8"
    else:
        raise DataError(f"{what}: type {array.dtype} is not allowed; give uint8 in 0..255 or floats in [0, 1]")
    if low < 0 or high > top:
        raise DataError(
            f"{what}: values from {low:g} to {high:g}, but {array.dtype} images must lie within 0..{top}; {mend}"
        )
    if scale == 1:
        return array.astype(np.uint8)
    return np.rint(array.astype(np.float64) * scale).astype(np.uint8)


def check_labels(labels: npt.ArrayLike, *, n_images: int, what: str) -> Int64Array:
    """Labels as (N,) int64, none negative.

    Args:
        labels: (N,) or (N, 1) integers.
        n_images: how many there must be.
        what: named in errors: "training labels".

    Raises:
        DataError: another shape or type; a negative label; not one label an image.
    """
    array = np.asarray(labels)
    if array.ndim == 2 and array.shape[1] == 1:
        array = array[:, 0]  # (N, 1) -> (N,)
    if array.ndim != 1:
        raise DataError(f"{what}: shape {array.shape} is not allowed; give (N,), one class index an image")
    if array.dtype.kind not in "iu":
        raise DataError(f"{what}: type {array.dtype} is not allowed; give integers, 0 for the first class")
    if len(array) != n_images:
        raise DataError(f"{what}: {len(array)} labels for {n_images} images; give one label an image")
    if len(array) and array.min() < 0:
        at = int(np.argmax(array < 0))
        raise DataError(f"{what}: label {int(array[at])} at position {at} is negative; classes count from 0")
    if len(array) and array.max() > np.iinfo(np.int64).max:  # uint64 only
        raise DataError(f"{what}: label {int(array.max())} is out of range; classes count from 0")
    return array.astype(np.int64)


def check_part(part: tuple[npt.ArrayLike, npt.ArrayLike], *, which: str) -> ArrayDataset:
    """One part of a data set, its images and labels checked each on its own.

    Args:
        part: images and labels.
        which: "training", "validation" or "test": named in errors.

    Raises:
        DataError: see `check_images` and `check_labels`.
    """
    images = check_images(part[0], what=f"{which} images")
    return ArrayDataset(images=images, labels=check_labels(part[1], n_images=len(images), what=f"{which} labels"))


def check_classes(train: ArrayDataset, *, class_names: Sequence[str] | None) -> tuple[str, ...]:
    """The classes' names, when the training labels use every one of them.

    Args:
        train: the training part, before anything is set aside.
        class_names: in the order of the labels; None: the labels' numbers.

    Raises:
        DataError: an empty class, a single class, a label without a name, names that repeat.
    """
    found = np.unique(train.labels)
    n_classes = int(found[-1]) + 1 if class_names is None else len(class_names)
    if found[-1] >= n_classes:
        raise DataError(
            f"training labels: label {int(found[-1])} is out of range; there are {n_classes} class names, "
            f"so labels go from 0 to {n_classes - 1}"
        )
    if class_names is not None and len(set(class_names)) < n_classes:
        raise DataError(f"class names repeat: {', '.join(sorted(class_names))}; give each class its own")
    if n_classes < 2:
        raise DataError("training labels: there is one class only; a classifier needs at least two")
    if len(found) < n_classes:
        # the first gap; never an array of n_classes entries, for a stray label may be 10**12
        gap = int(np.argmax(np.append(found, n_classes) != np.arange(len(found) + 1)))
        name = f" ({class_names[gap]})" if class_names is not None else ""
        raise DataError(
            f"training labels: class {gap}{name} has no image, though labels go up to {int(found[-1])} and "
            f"{n_classes} classes are expected; number the classes from 0 without gaps"
        )
    return tuple(class_names) if class_names is not None else tuple(str(c) for c in range(n_classes))


def check_against(part: ArrayDataset, train: ArrayDataset, *, n_classes: int, which: str) -> None:
    """Hold that another part has the images' shape and the classes of the training part.

    Raises:
        DataError: it has not.
    """
    if part.images.shape[1:] != train.images.shape[1:]:
        raise DataError(
            f"{which} images are {_size(part)}, but training images are {_size(train)}; give both the same size"
        )
    if part.labels.max() >= n_classes:
        at = int(np.argmax(part.labels >= n_classes))
        raise DataError(
            f"{which} labels: label {int(part.labels[at])} at position {at} does not occur in training; "
            f"labels go from 0 to {n_classes - 1}"
        )


def _size(part: ArrayDataset) -> str:
    _, height, width, channels = part.images.shape
    return f"{height}x{width} with {channels} channel{'s' * (channels > 1)}"
