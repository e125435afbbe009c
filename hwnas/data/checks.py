"""Turn the arrays a source found into images and labels, or say what is wrong with them.

Every problem is found here, before any training. Knows numpy only, never where arrays came from.
"""

from __future__ import annotations

from collections.abc import Iterator, Sequence
from dataclasses import replace
from pathlib import Path
from typing import Any

import numpy as np
import numpy.typing as npt

from hwnas.data import naming
from hwnas.data.arrays import UNLABELLED, ArrayDataset, Data, Int64Array, RawData, UInt8Array
from hwnas.data.augment import Augment
from hwnas.errors import DataError
from hwnas.foreign import shown

_SMALLEST_SIDE = 4  # pixels; less is a channel axis in the wrong place, not an image
_MOST_CHANNELS = 16
_PIECE = 1 << 20  # values
_LAYOUTS = "(N, H, W) or (N, H, W, C)"


def check_images(images: npt.ArrayLike, *, what: str) -> UInt8Array:
    """Images as (N, H, W, C) uint8.

    Args:
        images: (N, H, W) or (N, H, W, C); integers in 0..255 or floats in [0, 1].
        what: named in errors: "training images".

    Raises:
        DataError: another shape, type or range; NaN; no image.
    """
    array = as_array(images, what=what)
    if array.ndim not in (3, 4):
        raise DataError(f"{what}: shape {array.shape} is not allowed; give {_LAYOUTS}")
    given = array.shape
    if array.ndim == 3:
        array = array[..., None]  # (N, H, W) -> (N, H, W, 1)
    if not len(array):
        raise DataError(f"{what}: there is not one image")
    _, height, width, channels = array.shape
    # such a shape is legal as (N, H, W, C) too, so it must be caught by what it looks like
    channels_first = height <= _MOST_CHANNELS and height < width == channels  # (N, 4, 16, 16)
    if min(height, width) < _SMALLEST_SIDE or not 1 <= channels <= _MOST_CHANNELS or channels_first:
        hint = ""
        if channels_first or height <= _SMALLEST_SIDE < min(width, channels):
            hint = "; if the channels come first, give images.transpose(0, 2, 3, 1)"
        raise DataError(
            f"{what}: shape {given} is not allowed; give {_LAYOUTS} with H and W at least "
            f"{_SMALLEST_SIDE} and C from 1 to {_MOST_CHANNELS}{hint}"
        )
    return _to_uint8(array, what=what)


def as_array(given: npt.ArrayLike, *, what: str) -> npt.NDArray[Any]:
    """What somebody gave as an array; tensors of torch lose their gradient.

    Raises:
        DataError: it is ragged, masked in places, or no array at all.
    """
    if isinstance(given, np.ma.MaskedArray) and np.ma.is_masked(given):
        raise DataError(f"{what}: some values are masked; fill them in, or leave these images out")
    try:
        # by what it can do: this module must not import torch
        detach = getattr(given, "detach", None)
        return np.asarray(given if detach is None else detach().cpu())
    except (ValueError, TypeError, RuntimeError, MemoryError) as e:
        why = " ".join(str(e).split()) or type(e).__name__
        raise DataError(f"{what}: they are not one array ({why}); give all the same shape and type") from e


def _to_uint8(array: npt.NDArray[Any], *, what: str) -> UInt8Array:
    if array.dtype == np.uint8:
        return np.ascontiguousarray(array, dtype=np.uint8)
    if array.dtype.kind in "iu":
        # of the whole array: one image of zeros and ones says nothing about the range of all
        low, high, top, scale = int(array.min()), int(array.max()), 255, 1
        mend = "scale them to 0..255"
    elif array.dtype.kind == "f":
        # before min and max, which NaN would pass through
        for at, piece in _pieces(array):
            finite = np.isfinite(piece)
            if not finite.all():
                bad = at + int(np.flatnonzero(~finite.reshape(len(piece), -1).all(axis=1))[0])
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
    scaled = np.empty(array.shape, np.uint8)
    for at, piece in _pieces(array):
        # rounded, not cut off: 254.999 from a float is 255
        scaled[at : at + len(piece)] = np.rint(piece.astype(np.float64) * scale)
    return scaled


def _pieces(images: npt.NDArray[Any]) -> Iterator[tuple[int, npt.NDArray[Any]]]:
    """Some images at a time with their first position, so that no copy of all of them is made."""
    step = max(1, _PIECE // max(1, images[0].size))
    for at in range(0, len(images), step):
        yield at, images[at : at + step]


def check_labels(labels: npt.ArrayLike, *, n_images: int, what: str) -> Int64Array:
    """Labels as (N,) int64, none negative.

    Args:
        labels: (N,) or (N, 1) integers.
        n_images: how many there must be.
        what: named in errors: "training labels".

    Raises:
        DataError: another shape or type; a negative label; not one label an image.
    """
    array = as_array(labels, what=what)
    # Keras gives CIFAR's labels as a column
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


def check_part(
    part: tuple[npt.ArrayLike, npt.ArrayLike | None], *, which: str, files: tuple[Path, ...] | None = None
) -> ArrayDataset:
    """One part of a data set, its images and labels checked each on its own.

    Args:
        part: images and labels; None: they have none.
        which: "training", "validation" or "test": named in errors.
        files: what the images were read from, if from any.

    Raises:
        DataError: see `check_images` and `check_labels`.
    """
    images = check_images(part[0], what=f"{which} images")
    if part[1] is None:
        return unlabelled(ArrayDataset(images=images, labels=np.zeros(len(images), np.int64), files=files))
    labels = check_labels(part[1], n_images=len(images), what=f"{which} labels")
    return ArrayDataset(images=images, labels=labels, files=files)


def unlabelled(part: ArrayDataset) -> ArrayDataset:
    """The images of a part without what is known of their classes."""
    return replace(part, labels=np.full(len(part), UNLABELLED, np.int64))


def check_classes(train: ArrayDataset, *, class_names: Sequence[str] | None) -> tuple[str, ...]:
    """The classes' names, when the training labels use every one of them.

    Args:
        train: the training part, before anything is set aside.
        class_names: in the order of the labels; None: the labels' numbers.

    Raises:
        DataError: an empty class, a single class, a label without a name, names that repeat.
    """
    class_names = None if class_names is None else naming.class_names(class_names)
    # before anything is set aside: a class must not go missing by the split
    found = np.unique(train.labels)
    n_classes = int(found[-1]) + 1 if class_names is None else len(class_names)
    if found[-1] >= n_classes:
        raise DataError(
            f"training labels: label {int(found[-1])} is out of range; there are {n_classes} class names, "
            f"so labels go from 0 to {n_classes - 1}"
        )
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


def check_words(given: RawData | Data) -> None:
    """Hold that a name is text and an augmentation one.

    Raises:
        DataError: it is not.
    """
    if not isinstance(given.name, str) or not given.name or shown(given.name) != given.name:
        raise DataError(f"the data set's name is {given.name!a}, but must be text that can be printed")
    if not isinstance(given.augment, Augment):
        raise DataError(f"augment is a {type(given.augment).__name__}, but must be a hwnas.data.Augment")


def check_ready(data: Data) -> Data:
    """A data set that somebody made ready, when its parts agree with each other.

    Raises:
        DataError: they do not.
    """
    check_words(data)
    for which, part in (("training", data.train), ("validation", data.validation), ("test", data.test)):
        if not isinstance(part, ArrayDataset) or not len(part):
            raise DataError(f"{which}: give an ArrayDataset with at least one image")
        check_against(part, data.train, n_classes=len(data.class_names), which=which)
    # also of ready-made data: a third party's source is trusted no more than a file
    names = check_classes(data.train, class_names=data.class_names)
    for what, values in (("mean", data.mean), ("std", data.std)):
        numbers = np.asarray(values, dtype=np.float64)
        if numbers.shape != (data.in_channels,) or not np.isfinite(numbers).all():
            raise DataError(f"{what} is {values!r}, but must be {data.in_channels} numbers, one a channel")
    if min(data.std) <= 0:
        raise DataError(f"std is {data.std!r}, but every entry must be above zero")
    return replace(data, class_names=names)


def _size(part: ArrayDataset) -> str:
    _, height, width, channels = part.images.shape
    return f"{height}x{width} with {channels} channel{'s' * (channels > 1)}"
