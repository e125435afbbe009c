"""What the targets of samples may be: class indices, sets of labels, values, masks; how each is checked and named.

A task says which kind it learns from (`hwnas/tasks/`). Knows numpy only; never networks or losses.
"""

from __future__ import annotations

from collections.abc import Sequence
from typing import Any, ClassVar, Protocol

import numpy as np
import numpy.typing as npt

from hwnas.data import naming
from hwnas.data.arrays import ArrayDataset, Int64Array, Targets
from hwnas.data.augment import IGNORED
from hwnas.errors import DataError
from hwnas.types import IntArray

_MOST_OUTPUTS = 1 << 16


class TargetKind(Protocol):
    """One kind of targets.

    Attributes:
        title: for errors and tables: "class indices".
    """

    title: ClassVar[str]

    def check(self, targets: npt.NDArray[Any], *, n: int, what: str) -> Targets:
        """Targets of one part in the one form that everything else takes.

        Args:
            targets: as somebody gave them.
            n: how many samples there are.
            what: named in errors: "training labels".

        Raises:
            DataError: they are of another kind.
        """
        ...

    def names(self, train: ArrayDataset, *, given: Sequence[str] | None) -> tuple[str, ...]:
        """What the outputs of a network are called, one name each; their numbers where nobody named them.

        Raises:
            DataError: nothing can be learned from the training targets, or they are more than the names.
        """
        ...

    def check_against(self, part: ArrayDataset, *, n_outputs: int, which: str) -> None:
        """Hold that a part's targets are among the outputs.

        Raises:
            DataError: they are not.
        """
        ...

    def strata(self, part: ArrayDataset, *, names: Sequence[str]) -> tuple[Int64Array, tuple[str, ...]]:
        """(N,) what each sample counts as where samples are set aside, and what that is called."""
        ...


class ClassIndices:
    """(N,) int64: the one class that a sample is of."""

    title: ClassVar[str] = "class indices"

    def check(self, targets: npt.NDArray[Any], *, n: int, what: str) -> Targets:
        # Keras gives CIFAR's labels as a column
        array = targets[:, 0] if targets.ndim == 2 and targets.shape[1] == 1 else targets
        if array.ndim != 1:
            raise DataError(f"{what}: shape {array.shape} is not allowed; give (N,), one class index an image")
        if array.dtype.kind not in "iu":
            raise DataError(f"{what}: type {array.dtype} is not allowed; give integers, 0 for the first class")
        if len(array) != n:
            raise DataError(f"{what}: {len(array)} labels for {n} images; give one label an image")
        if len(array) and array.min() < 0:
            at = int(np.argmax(array < 0))
            raise DataError(f"{what}: label {int(array[at])} at position {at} is negative; classes count from 0")
        if len(array) and array.max() > np.iinfo(np.int64).max:  # uint64 only
            raise DataError(f"{what}: label {int(array.max())} is out of range; classes count from 0")
        return array.astype(np.int64)

    def names(self, train: ArrayDataset, *, given: Sequence[str] | None) -> tuple[str, ...]:
        return _class_names(np.unique(train.targets), given, what="training labels", of="image")

    def check_against(self, part: ArrayDataset, *, n_outputs: int, which: str) -> None:
        if part.targets.max() >= n_outputs:
            at = int(np.argmax(part.targets >= n_outputs))
            raise DataError(
                f"{which} labels: label {int(part.targets[at])} at position {at} does not occur in training; "
                f"labels go from 0 to {n_outputs - 1}"
            )

    def strata(self, part: ArrayDataset, *, names: Sequence[str]) -> tuple[Int64Array, tuple[str, ...]]:
        return part.targets, tuple(names)


class LabelSets:
    """(N, K) uint8: for each label 1 where a sample has it, else 0."""

    title: ClassVar[str] = "label sets"

    def check(self, targets: npt.NDArray[Any], *, n: int, what: str) -> Targets:
        if targets.ndim != 2 or targets.shape[1] > _MOST_OUTPUTS:
            raise DataError(f"{what}: shape {targets.shape} is not allowed; give (N, K), a 0 or 1 for each of K labels")
        _one_each(targets, n=n, what=what)
        if targets.dtype.kind not in "biuf" or not np.isin(targets, (0, 1)).all():
            raise DataError(f"{what}: there are values other than 0 and 1; give 1 for each label that a sample has")
        return targets.astype(np.uint8)

    def names(self, train: ArrayDataset, *, given: Sequence[str] | None) -> tuple[str, ...]:
        n = int(train.targets.shape[1])
        names = _output_names(n, given, what="labels")
        for never, value in (("no", 1), ("every", 0)):
            if (same := (train.targets != value).all(0)).any():
                at = int(np.argmax(same))
                raise DataError(
                    f"training labels: {never} sample has the label {at} ({names[at]}), so nothing can be learned "
                    "about it; leave the label out"
                )
        return names

    def check_against(self, part: ArrayDataset, *, n_outputs: int, which: str) -> None:
        _as_wide(part, n_outputs=n_outputs, which=which, what="labels")

    def strata(self, part: ArrayDataset, *, names: Sequence[str]) -> tuple[Int64Array, tuple[str, ...]]:
        return _all_alike(part)


class Values:
    """(N, K) float32: numbers to be foretold."""

    title: ClassVar[str] = "values"

    def check(self, targets: npt.NDArray[Any], *, n: int, what: str) -> Targets:
        array = targets[:, None] if targets.ndim == 1 else targets  # (N,) -> (N, 1)
        if array.ndim != 2 or array.shape[1] > _MOST_OUTPUTS:
            raise DataError(f"{what}: shape {targets.shape} is not allowed; give (N,) or (N, K), K numbers a sample")
        if array.dtype.kind not in "biuf":
            raise DataError(f"{what}: type {array.dtype} is not allowed; give numbers")
        _one_each(array, n=n, what=what)
        if not (finite := np.isfinite(array).all(1)).all():
            raise DataError(f"{what}: those of sample {int(np.argmin(finite))} are NaN or infinite; leave it out")
        return np.ascontiguousarray(array, dtype=np.float32)

    def names(self, train: ArrayDataset, *, given: Sequence[str] | None) -> tuple[str, ...]:
        names = _output_names(int(train.targets.shape[1]), given, what="values")
        if (same := train.targets.min(0) == train.targets.max(0)).any():
            at = int(np.argmax(same))
            raise DataError(f"training values: value {at} ({names[at]}) is the same for every sample; leave it out")
        return names

    def check_against(self, part: ArrayDataset, *, n_outputs: int, which: str) -> None:
        _as_wide(part, n_outputs=n_outputs, which=which, what="values")

    def strata(self, part: ArrayDataset, *, names: Sequence[str]) -> tuple[Int64Array, tuple[str, ...]]:
        return _all_alike(part)


class Masks:
    """(N, H, W) uint8: the class of every pixel; 255 where nobody knows it."""

    title: ClassVar[str] = "masks"

    def check(self, targets: npt.NDArray[Any], *, n: int, what: str) -> Targets:
        array = targets[..., 0] if targets.ndim == 4 and targets.shape[3] == 1 else targets
        if array.ndim != 3 or array.dtype.kind not in "biu":
            raise DataError(
                f"{what}: {array.dtype} of shape {targets.shape} is not allowed; give (N, H, W) integers, the class of "
                f"every pixel, {IGNORED} where it is not known"
            )
        _one_each(array, n=n, what=what)
        if array.size and (array.min() < 0 or array.max() > IGNORED):
            raise DataError(
                f"{what}: classes from {int(array.min())} to {int(array.max())}; they go from 0 to {IGNORED - 1}, and "
                f"{IGNORED} is a pixel of no known class"
            )
        return np.ascontiguousarray(array, dtype=np.uint8)

    def names(self, train: ArrayDataset, *, given: Sequence[str] | None) -> tuple[str, ...]:
        found = np.flatnonzero(np.bincount(train.targets.ravel(), minlength=IGNORED + 1)[:IGNORED])
        if not len(found):
            raise DataError("training masks: not one pixel is of a known class")
        return _class_names(found, given, what="training masks", of="pixel")

    def check_against(self, part: ArrayDataset, *, n_outputs: int, which: str) -> None:
        size = tuple(part.inputs.shape[1:3] if part.are_images else part.inputs.shape[-2:])
        if part.targets.shape[1:] != size:
            raise DataError(
                f"{which} masks are {part.targets.shape[1]}x{part.targets.shape[2]}, and their images "
                f"{'x'.join(map(str, size))}; give both the same size"
            )
        known = part.targets[part.targets != IGNORED]
        if known.size and int(known.max()) >= n_outputs:
            raise DataError(
                f"{which} masks: class {int(known.max())} does not occur in training; classes go from 0 to "
                f"{n_outputs - 1}"
            )

    def strata(self, part: ArrayDataset, *, names: Sequence[str]) -> tuple[Int64Array, tuple[str, ...]]:
        return _all_alike(part)


CLASS_INDICES: TargetKind = ClassIndices()
LABEL_SETS: TargetKind = LabelSets()
VALUES: TargetKind = Values()
MASKS: TargetKind = Masks()


def _one_each(targets: npt.NDArray[Any], *, n: int, what: str) -> None:
    if len(targets) != n:
        raise DataError(f"{what}: {len(targets)} for {n} samples; give those of each sample")


def _as_wide(part: ArrayDataset, *, n_outputs: int, which: str, what: str) -> None:
    if part.targets.shape[1] != n_outputs:
        raise DataError(f"{which} {what} are {part.targets.shape[1]} a sample, those of training {n_outputs}")


def _all_alike(part: ArrayDataset) -> tuple[Int64Array, tuple[str, ...]]:
    return np.zeros(len(part), np.int64), ("samples",)


def _output_names(n: int, given: Sequence[str] | None, *, what: str) -> tuple[str, ...]:
    if given is None:
        return tuple(map(str, range(n)))
    names = naming.class_names(given)
    if len(names) != n:
        raise DataError(f"there are {len(names)} names for {n} {what} a sample; give one each")
    return names


def _class_names(found: IntArray, given: Sequence[str] | None, *, what: str, of: str) -> tuple[str, ...]:
    """Of classes that must all occur.

    Args:
        found: (n,) those that do, ascending.
        given: names of all; None: their numbers.
        what: they are in, for errors.
        of: what is of a class.
    """
    names = None if given is None else naming.class_names(given)
    n_classes = int(found[-1]) + 1 if names is None else len(names)
    if found[-1] >= n_classes:
        raise DataError(
            f"{what}: label {int(found[-1])} is out of range; there are {n_classes} class names, "
            f"so labels go from 0 to {n_classes - 1}"
        )
    if n_classes < 2:
        raise DataError(f"{what}: there is one class only; a classifier needs at least two")
    if len(found) < n_classes:
        # the first gap; never an array of n_classes entries, for a stray label may be 10**12
        gap = int(np.argmax(np.append(found, n_classes) != np.arange(len(found) + 1)))
        name = f" ({names[gap]})" if names is not None else ""
        raise DataError(
            f"{what}: class {gap}{name} has no {of}, though labels go up to {int(found[-1])} and "
            f"{n_classes} classes are expected; number the classes from 0 without gaps"
        )
    return names if names is not None else tuple(map(str, range(n_classes)))
