"""Set images aside for validation and test, class by class. Knows labels and rows of arrays only."""

from __future__ import annotations

from collections.abc import Sequence
from typing import Any

import numpy as np
import numpy.typing as npt

from hwnas.data.arrays import ArrayDataset, Int64Array
from hwnas.data.streamed import StreamedImages
from hwnas.errors import DataError


def stratified_split(
    labels: Int64Array, fraction: float, *, rng: np.random.Generator, class_names: Sequence[str], purpose: str
) -> tuple[Int64Array, Int64Array]:
    """Positions that stay and positions that are set aside, both ascending.

    Every class gives its share, rounded so that the total is the nearest to `fraction`, and at least
    one image; every class keeps at least one.

    Args:
        labels: (N,) class indices, every class present.
        fraction: share to set aside, above 0 and below 1.
        rng: decides which images.
        class_names: named in errors.
        purpose: "validation" or "test": named in errors.

    Raises:
        DataError: the fraction is out of range, or a class has a single image.
    """
    if not 0 < fraction < 1:
        raise DataError(f"{purpose}_fraction is {fraction:g}, but must lie between 0 and 1, both excluded")
    sizes = np.bincount(labels, minlength=len(class_names))  # (K,)
    if sizes.min() < 2:
        c = int(sizes.argmin())
        raise DataError(
            f"class {c} ({class_names[c]}) has {sizes[c]} image left when images are set aside for {purpose}; "
            f"give at least 3 images a class, or a {purpose} set of your own"
        )
    exact = sizes * fraction
    taken = np.floor(exact).astype(np.int64)
    # Hare quota with largest remainders: the total is right though every class is a whole number
    short = round(float(exact.sum())) - int(taken.sum())
    taken[np.argsort(taken - exact, kind="stable")[:short]] += 1  # largest remainders first
    # a class with no image here could not be measured, one with none there not learned
    taken = np.clip(taken, 1, sizes - 1)
    # class by class: one generator, so the seed alone decides
    aside = [rng.permutation(np.flatnonzero(labels == c))[:n] for c, n in enumerate(taken)]
    chosen = np.zeros(len(labels), dtype=bool)
    chosen[np.concatenate(aside)] = True
    return np.flatnonzero(~chosen), np.flatnonzero(chosen)


def partition(whole: ArrayDataset, rows: Sequence[Int64Array], *, in_place: bool) -> list[ArrayDataset]:
    """The images at some rows, one data set for each.

    Args:
        whole: given up if `in_place`.
        rows: positions in `whole`, each position once in all.
        in_place: put the images in order within their own array, if it can be written to, of which the results are
            slices: no second copy of them is made. Else the results are copies, of images that are streamed views.
    """
    if not in_place or isinstance(whole.inputs, StreamedImages) or not whole.inputs.flags.writeable:
        return [whole.subset(r) for r in rows]
    _permute_(whole.inputs, np.concatenate(rows))
    ends = np.cumsum([len(r) for r in rows])
    return [
        ArrayDataset(inputs=whole.inputs[end - len(r) : end], targets=whole.targets[r], files=whole.files_at(r))
        for r, end in zip(rows, ends.tolist(), strict=True)
    ]


def _permute_(array: npt.NDArray[Any], order: Int64Array) -> None:
    """array[i] becomes what array[order[i]] was, cycle by cycle, with one row to spare."""
    done = order == np.arange(len(order))
    for start in np.flatnonzero(~done).tolist():
        if done[start]:
            continue
        spare, i = array[start].copy(), start
        while (source := int(order[i])) != start:
            array[i] = array[source]
            done[i] = True
            i = source
        array[i] = spare
        done[i] = True
