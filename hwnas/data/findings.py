"""What may be wrong with a data set though it can be read: duplicates across parts, contradictions, dark images.

Knows arrays only. Nothing here is an error: it is told before training.
"""

from __future__ import annotations

from collections.abc import Iterator, Mapping, Sequence

import numpy as np

from hwnas.data.arrays import ArrayDataset, brightest, digests

_DARK = 32  # of 255
_USUAL_CHANNELS = (1, 3, 4)


def doubts(parts: Mapping[str, ArrayDataset], *, class_names: Sequence[str]) -> Iterator[str]:
    """What may be a mistake, a sentence each.

    Args:
        parts: "training", "validation" and "test", in this order.
        class_names: in the order of the labels; empty where the images have none.
    """
    if parts["training"].are_images:
        yield from _brightness(parts)
    yield from _duplicates(parts, class_names)
    channels = parts["training"].inputs.shape[3] if parts["training"].are_images else 1
    if channels not in _USUAL_CHANNELS:
        yield f"the images have {channels} channels; if those come first, give images.transpose(0, 2, 3, 1)"


def _brightness(parts: Mapping[str, ArrayDataset]) -> Iterator[str]:
    tops = {which: brightest(part.inputs) for which, part in parts.items()}
    top = tops["training"]
    if top < _DARK:
        yield f"the brightest pixel of the training images is {top} of 255; are they scaled to another range?"
    for which, here in tops.items():
        if here * 8 < top or top * 8 < here:
            yield (
                f"the brightest pixel of the {which} images is {here} of 255, that of the training images {top}; are "
                "both scaled alike?"
            )


def _duplicates(parts: Mapping[str, ArrayDataset], class_names: Sequence[str]) -> Iterator[str]:
    found = {which: digests(part.inputs) for which, part in parts.items()}
    what = "images" if parts["training"].are_images else "samples"
    seen: list[str] = []
    for which, here in found.items():
        # an image that is in both earlier parts is told of once
        new = np.ones(len(here), bool)
        for before in seen:
            same = np.isin(here, found[before]) & new
            new &= ~same
            if n := int(same.sum()):
                labels, first = parts[which].targets, ""
                if class_names and labels.ndim == 1:
                    first = f" (the first is of class {class_names[int(labels[int(np.argmax(same))])]})"
                yield (
                    f"{n:,} of the {len(here):,} {which} {what} are exactly the same as {before} {what}{first}; what "
                    "is measured on them is too good"
                )
        seen.append(which)
    if parts["training"].targets.ndim > 1:  # no classes that could contradict each other
        return
    images = np.concatenate(list(found.values()))
    labels = np.concatenate([part.targets for part in parts.values()])
    # equal images stand side by side, their labels rising: a contradiction is a neighbour
    order = np.lexsort((labels, images))
    images, labels = images[order], labels[order]
    contradicting = (images[1:] == images[:-1]) & (labels[1:] != labels[:-1])
    if n := len(np.unique(images[1:][contradicting])):
        at = int(np.argmax(contradicting))
        first, second = class_names[int(labels[at])], class_names[int(labels[at + 1])]
        yield f"{n:,} {what} stand under more than one class, exactly the same (the first under {first} and {second})"
