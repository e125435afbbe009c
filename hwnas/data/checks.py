"""Turn the arrays a source found into samples and targets, or say what is wrong with them.

Every problem is found here, before any training. Knows numpy only, never where arrays came from.
"""

from __future__ import annotations

from collections.abc import Iterator, Mapping
from dataclasses import replace
from pathlib import Path
from typing import Any

import numpy as np
import numpy.typing as npt

from hwnas.data.arrays import UNLABELLED, ArrayDataset, Data, InputKind, Inputs, RawData, UInt8Array
from hwnas.data.augment import Augment
from hwnas.data.rows import one_row
from hwnas.data.streamed import StreamedImages
from hwnas.data.targets import CLASS_INDICES, TargetKind
from hwnas.errors import DataError
from hwnas.foreign import shown

_SMALLEST_SIDE = 4  # pixels; less is a channel axis in the wrong place, not an image
_MOST_CHANNELS = 16
_PIECE = 1 << 20  # values
_LAYOUTS = "(N, H, W) or (N, H, W, C)"


def check_images(images: npt.ArrayLike | StreamedImages, *, what: str) -> UInt8Array | StreamedImages:
    """Images as (N, H, W, C) uint8.

    Args:
        images: (N, H, W) or (N, H, W, C); integers in 0..255 or floats in [0, 1]; or decoded when they are read.
        what: named in errors: "training images".

    Raises:
        DataError: another shape, type or range; NaN; no image.
    """
    array = images if isinstance(images, StreamedImages) else as_array(images, what=what)
    given = array.shape
    if len(given) not in (3, 4):
        raise DataError(f"{what}: shape {given} is not allowed; give {_LAYOUTS}")
    if not isinstance(array, StreamedImages) and array.ndim == 3:
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
    return array if isinstance(array, StreamedImages) else _to_uint8(array, what=what)


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
            f"{what}: values from {low:g} to {high:g}, but {array.dtype} images must lie within 0..{top}; {mend}; if "
            "they are no images, say so: inputs=arrays"
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


def check_arrays(arrays: npt.ArrayLike | Mapping[str, npt.ArrayLike], *, what: str) -> npt.NDArray[Any]:
    """Samples that are no images as (N, C, ...) float32.

    Args:
        arrays: (N, C, ...) numbers, channels first: series (N, C, L), vectors (N, C); or several inputs by name, which
            become one row a sample.
        what: named in errors: "training samples".

    Raises:
        DataError: another shape or type; NaN; no sample.
    """
    try:
        given = one_row(arrays) if isinstance(arrays, Mapping) else arrays
    except DataError as e:
        raise DataError(f"{what}: {e}") from e
    array = as_array(given, what=what)
    if array.ndim < 2 or array.dtype.kind not in "biuf" or not all(array.shape[1:]):
        raise DataError(
            f"{what}: {array.dtype} of shape {array.shape} is not allowed; give numbers of shape (N, C, ...), channels "
            "first: series (N, C, L), vectors (N, C)"
        )
    if not len(array):
        raise DataError(f"{what}: there is not one sample")
    for at, piece in _pieces(array):
        finite = np.isfinite(piece).reshape(len(piece), -1).all(axis=1)
        if not finite.all():
            raise DataError(f"{what}: sample {at + int(np.argmin(finite))} holds NaN or infinite values; leave it out")
    return np.ascontiguousarray(array, dtype=np.float32)


def check_part(
    part: tuple[npt.ArrayLike, npt.ArrayLike | None],
    *,
    which: str,
    files: tuple[Path, ...] | None = None,
    inputs: InputKind = "images",
    targets: TargetKind = CLASS_INDICES,
) -> ArrayDataset:
    """One part of a data set, its inputs and targets checked each on its own.

    Args:
        part: inputs and targets; None: they have none.
        which: "training", "validation" or "test": named in errors.
        files: what the inputs were read from, if from any.
        inputs: what they are.
        targets: of which kind they are.

    Raises:
        DataError: see `check_images`, `check_arrays` and `TargetKind.check`.
    """
    found: Inputs
    if inputs == "images" and not isinstance(part[0], Mapping):
        found = check_images(part[0], what=f"{which} images")
    else:
        found = check_arrays(part[0], what=f"{which} samples")
    if part[1] is None:
        return unlabelled(ArrayDataset(inputs=found, targets=np.zeros(len(found), np.int64), files=files))
    what = f"{which} {'labels' if targets is CLASS_INDICES else targets.title}"
    known = targets.check(as_array(part[1], what=what), n=len(found), what=what)
    return ArrayDataset(inputs=found, targets=known, files=files)


def unlabelled(part: ArrayDataset) -> ArrayDataset:
    """The inputs of a part without what is known of them."""
    return replace(part, targets=np.full(len(part), UNLABELLED, np.int64))


def check_shape(part: ArrayDataset, train: ArrayDataset, *, which: str) -> None:
    """Hold that the samples of another part have the shape of training samples.

    Raises:
        DataError: they have not.
    """
    if part.inputs.shape[1:] != train.inputs.shape[1:] or part.are_images != train.are_images:
        what, same = ("images", "the same size") if train.are_images else ("samples", "the same shape")
        raise DataError(f"{which} {what} are {_size(part)}, but training {what} are {_size(train)}; give both {same}")


def check_words(given: RawData | Data) -> None:
    """Hold that a name is text and an augmentation one.

    Raises:
        DataError: it is not.
    """
    if not isinstance(given.name, str) or not given.name or shown(given.name) != given.name:
        raise DataError(f"the data set's name is {given.name!a}, but must be text that can be printed")
    if isinstance(given, RawData) and given.inputs not in ("images", "arrays"):
        raise DataError(f"inputs is {given.inputs!r}, but must be 'images' or 'arrays'")
    if not isinstance(given.augment, Augment):
        raise DataError(f"augment is a {type(given.augment).__name__}, but must be a hwnas.data.Augment")


def check_ready(data: Data, *, targets: TargetKind = CLASS_INDICES) -> Data:
    """A data set that somebody made ready, when its parts agree with each other.

    Args:
        data: by a source.
        targets: of which kind its targets must be.

    Raises:
        DataError: they do not.
    """
    check_words(data)
    for which, part in (("training", data.train), ("validation", data.validation), ("test", data.test)):
        if not isinstance(part, ArrayDataset) or not len(part):
            raise DataError(f"{which}: give an ArrayDataset with at least one sample")
        check_shape(part, data.train, which=which)
        # also of ready-made data: a third party's source is trusted no more than a file
        known = targets.check(part.targets, n=len(part), what=f"{which} {targets.title}")
        if known.dtype != part.targets.dtype or known.shape != part.targets.shape:
            raise DataError(f"{which}: the targets are {part.targets.dtype}, and no {targets.title}")
        targets.check_against(part, n_outputs=len(data.class_names), which=which)
    names = targets.names(data.train, given=data.class_names)
    for what, values in (("mean", data.mean), ("std", data.std)):
        numbers = np.asarray(values, dtype=np.float64)
        if numbers.shape != (data.in_channels,) or not np.isfinite(numbers).all():
            raise DataError(f"{what} is {values!r}, but must be {data.in_channels} numbers, one a channel")
    if min(data.std) <= 0:
        raise DataError(f"std is {data.std!r}, but every entry must be above zero")
    return replace(data, class_names=names)


def _size(part: ArrayDataset) -> str:
    if not part.are_images:
        return "x".join(map(str, part.inputs.shape[1:]))
    _, height, width, channels = part.inputs.shape
    return f"{height}x{width} with {channels} channel{'s' * (channels > 1)}"
