"""What a data set is once it is loaded: arrays of samples and their targets, checked and split.

Knows numpy only: never where the samples came from, torch, or what they will be used for.
"""

from __future__ import annotations

import hashlib
import math
from collections.abc import Iterator, Mapping, Sequence
from dataclasses import dataclass, field
from itertools import chain
from pathlib import Path
from typing import Any, Literal

import numpy as np
import numpy.typing as npt

from hwnas.data.augment import Augment
from hwnas.data.decoding import DecodingRule
from hwnas.data.streamed import StreamedImages, image_digest
from hwnas.errors import DataError
from hwnas.row_parts import RowPart, columns
from hwnas.types import IntArray

UInt8Array = npt.NDArray[np.uint8]
Int64Array = npt.NDArray[np.int64]
Inputs = npt.NDArray[Any] | StreamedImages  # uint8 images, or float32 of another kind
Targets = npt.NDArray[Any]  # see `targets.py`
InputKind = Literal["images", "arrays"]
UNLABELLED = -1  # the label of an image whose class is not known, as in scikit-learn
_PIECE = 1 << 20  # values looked at in one go


@dataclass(frozen=True, slots=True, kw_only=True, eq=False)
class ArrayDataset:
    """Samples with targets; serves as a torch map-style data set without torch.

    Attributes:
        inputs: images, (N, H, W, C) uint8 in 0..255, in memory or decoded when they are read; or samples of another
            kind, (N, C, ...) float32 as they were given: series (N, C, L), vectors (N, C).
        targets: (N, ...) of one of the kinds of `targets.py`: (N,) int64 class indices, `UNLABELLED` throughout where
            none are known; (N, K) uint8 label sets; (N, K) float32 values; (N, H, W) uint8 masks.
        files: what the inputs were read from, one each; None: they were given as arrays.
    """

    inputs: Inputs
    targets: Targets
    files: tuple[Path, ...] | None = None

    def __post_init__(self) -> None:
        are_images = self.inputs.dtype == np.uint8 and self.inputs.ndim == 4
        if not are_images and (self.inputs.dtype != np.float32 or self.inputs.ndim < 2):
            raise DataError(
                f"inputs must be (N, H, W, C) uint8 or (N, C, ...) float32, got {self.inputs.shape} {self.inputs.dtype}"
            )
        kinds = {(1, "int64"), (2, "uint8"), (2, "float32"), (3, "uint8")}
        if (self.targets.ndim, self.targets.dtype.name) not in kinds or len(self.targets) != len(self.inputs):
            raise DataError(
                f"targets must be one an input, {len(self.inputs)} in all, of a kind that hwnas/data/targets.py has, "
                f"got {self.targets.shape} {self.targets.dtype}"
            )

    def __len__(self) -> int:
        return len(self.targets)

    def __getitem__(self, index: int) -> tuple[npt.NDArray[Any], Any]:
        """One sample's input and its target."""
        target = self.targets[index]
        return self.inputs[index], int(target) if self.targets.ndim == 1 else target

    @property
    def are_images(self) -> bool:
        """Whether inputs are pixels, rather than numbers as they were given."""
        return bool(self.inputs.dtype == np.uint8)

    @property
    def is_labelled(self) -> bool:
        """Whether the targets are known."""
        return self.targets.ndim > 1 or bool((self.targets != UNLABELLED).all())

    def subset(self, indices: IntArray) -> ArrayDataset:
        """The samples at these positions, in this order."""
        held = self.inputs
        inputs = held.view(indices) if isinstance(held, StreamedImages) else held[indices]
        return ArrayDataset(inputs=inputs, targets=self.targets[indices], files=self.files_at(indices))

    def files_at(self, indices: IntArray) -> tuple[Path, ...] | None:
        """The files of the samples at these positions."""
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
        train: inputs and targets; `checks.py` and `targets.py` say which arrays are understood. Targets are None where
            there are none; then they are so in every part.
        validation: None: a share of `train` is set aside.
        test: None: a share of `train` is set aside.
        class_names: in the order of the labels, or of the values of a sample; None: their numbers.
        inputs: what the inputs are: images, or arrays of another kind, channels first.
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
    inputs: InputKind = "images"
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
        class_names: what a network's outputs are called: classes in the order of the labels, or values; empty where
            none are known.
        mean: per channel, of the training inputs; of images scaled to [0, 1].
        std: likewise, above 0; of images at least 1/255.
        augment: what may be done to training images without changing their class.
        fingerprint: sha256 over every input, target and class name, and the split.
        decoding: how files became pixels, which a deployment has to repeat; None where there were no image files.
        left_out: what was found and not used.
        notes: what was chosen, where it is not obvious.
        warnings: what may be a mistake.
        inputs: several inputs of a sample, which are side by side in one row; none where there is one.
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
    inputs: tuple[RowPart, ...] = ()

    @property
    def n_classes(self) -> int:
        """Number of classes, or of the values of a sample: what a network gives."""
        return len(self.class_names)

    @property
    def are_images(self) -> bool:
        """Whether inputs are pixels, rather than numbers as they were given."""
        return self.train.are_images

    @property
    def what(self) -> str:
        """What its samples are called."""
        return "images" if self.are_images else "samples"

    @property
    def in_channels(self) -> int:
        """Channels of a sample: of an image 1 for grey, 3 for colour."""
        return self.input_shape[0]

    @property
    def input_shape(self) -> tuple[int, ...]:
        """Of one sample as a network takes it, channels first: (C, H, W) of an image as it was loaded."""
        shape = self.train.inputs.shape[1:]
        return (shape[2], *shape[:2]) if self.are_images else shape

    @property
    def native_size(self) -> tuple[int, ...]:
        """Height and width of the images as loaded, in pixels; of other samples all axes but the channels."""
        return self.input_shape[1:]


def channel_statistics(images: Inputs) -> tuple[tuple[float, ...], tuple[float, ...]]:
    """Mean and standard deviation per channel on the [0, 1] scale, exact whatever the number of images.

    Args:
        images: (N, H, W, C).

    Raises:
        DataError: every pixel has the same value, so there is nothing to learn.
    """
    # pixels have 256 values: counting them is exact, and a sum of floats over millions is not
    values = np.arange(256) / 255.0
    mean, std = [], []
    for counts in _counts(images):
        share = counts / counts.sum()  # (256,)
        mean.append(float(share @ values))
        std.append(float(np.sqrt(share @ (values - mean[-1]) ** 2)))
    if max(std) == 0.0:
        raise DataError("every pixel of every training image has the same value; are these the right images?")
    # a constant channel must not divide by zero; one grey level is the least that differs
    return tuple(mean), tuple(max(s, 1 / 255) for s in std)


def _counts(images: Inputs) -> Iterator[Int64Array]:
    """(256,) of each channel: how often each value occurs."""
    if isinstance(images, StreamedImages):
        yield from images.facts.counts
        return
    step = max(1, _PIECE // images[0].size)
    for c in range(images.shape[3]):
        counts = np.zeros(256, np.int64)
        for at in range(0, len(images), step):  # bincount makes eight bytes of each
            counts += np.bincount(images[at : at + step, ..., c].ravel(), minlength=256)
        yield counts


def brightest(images: Inputs) -> int:
    """The largest value of any pixel."""
    return images.facts.brightest if isinstance(images, StreamedImages) else int(images.max())


def digests(inputs: Inputs) -> npt.NDArray[np.uint64]:
    """(N,) a number for the content of each sample."""
    if isinstance(inputs, StreamedImages):
        return inputs.facts.digests
    return np.fromiter(map(image_digest, inputs), np.uint64, count=len(inputs))


def row_statistics(rows: npt.NDArray[Any], parts: Sequence[RowPart]) -> tuple[tuple[float, ...], tuple[float, ...]]:
    """The same of several inputs in one row: the numbers of a channel of an input have one mean and one deviation.

    Args:
        rows: (N, sum of sizes) float32.
        parts: the inputs.

    Raises:
        DataError: an input is constant.
    """
    means: list[float] = []
    deviations: list[float] = []
    for part, place in columns(parts):
        channels, *around = part.shape or (1,)
        try:
            found = array_statistics(rows[:, place].reshape(len(rows), channels, *around))
        except DataError as e:
            raise DataError(f"input {part}: {e}") from e
        for values, of_part in zip((means, deviations), found, strict=True):
            values.extend(value for value in of_part for _ in range(math.prod(around)))
    return tuple(means), tuple(deviations)


def array_statistics(arrays: npt.NDArray[Any]) -> tuple[tuple[float, ...], tuple[float, ...]]:
    """Mean and standard deviation of each channel of samples that are no images; 1 for a channel that is constant.

    Args:
        arrays: (N, C, ...) float32.

    Raises:
        DataError: every channel is constant, so there is nothing to learn.
    """
    channels = arrays.shape[1]
    step = max(1, _PIECE // arrays[0].size)
    axes = (0, *range(2, arrays.ndim))
    total = np.zeros(channels)
    for at in range(0, len(arrays), step):
        total += arrays[at : at + step].sum(axes, dtype=np.float64)
    n = arrays.size // channels
    mean = total / n
    squares = np.zeros(channels)
    around = mean.reshape(1, -1, *(1,) * (arrays.ndim - 2))
    for at in range(0, len(arrays), step):  # a second time: a difference of large sums would lose the digits
        squares += ((arrays[at : at + step].astype(np.float64) - around) ** 2).sum(axes)
    std = np.sqrt(squares / n)
    # what rounding leaves of a constant
    constant = std <= 1e-7 * np.abs(mean)
    if constant.all():
        raise DataError(
            "every channel of the training samples has the same value everywhere; are these the right ones?"
        )
    return tuple(mean.tolist()), tuple(np.where(constant, 1.0, std).tolist())


def _in_memory(inputs: Inputs) -> Iterator[npt.NDArray[Any]]:
    """Arrays that hold all inputs, one after the other."""
    if isinstance(inputs, StreamedImages):
        yield from inputs.pieces()
    else:
        yield inputs


def fingerprint(parts: Sequence[ArrayDataset], class_names: Sequence[str]) -> str:
    """sha256 over the parts of a data set, in order."""
    digest = hashlib.sha256()
    for part in parts:
        # without the shape, two parts' bytes could be cut elsewhere and give the same sum
        digest.update(repr(part.inputs.shape).encode())
        if not part.are_images or part.targets.ndim > 1:  # what was not known before this told them apart
            digest.update(f"{part.inputs.dtype} {part.targets.dtype} {part.targets.shape}".encode())
        for array in chain(_in_memory(part.inputs), [part.targets]):  # one piece of streamed images at a time
            # one byte order: a checkpoint may travel to another machine
            digest.update(np.ascontiguousarray(array, dtype=array.dtype.newbyteorder("<")).data)
    digest.update(repr(tuple(class_names)).encode())
    return digest.hexdigest()
