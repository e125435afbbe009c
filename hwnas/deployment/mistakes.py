"""Images of the worst mistakes, small, for the page. Knows arrays and names."""

from __future__ import annotations

from collections.abc import Iterator, Sequence
from dataclasses import dataclass

import numpy as np

from hwnas.data.resampling import resize_uint8
from hwnas.deployment.by_class import ByClass
from hwnas.types import Array, IntArray

_CONFUSIONS = 6
_IMAGES = 4  # of each
_SIDE = 64  # pixels at most


@dataclass(frozen=True, slots=True, kw_only=True, eq=False)
class Mistake:
    """A test image that was taken for another class; (H, W, C) uint8, 64 pixels at most."""

    image: Array
    true: str
    predicted: str


def worst_mistakes(
    images: Array, labels: IntArray, logits: Array, *, by_class: ByClass, class_names: Sequence[str]
) -> tuple[Mistake, ...]:
    """Some images of each of the most frequent confusions, those that the network was surest of first.

    Args:
        images: (N, H, W, C) uint8.
        labels: (N,).
        logits: (N, classes) of the runtime.
        by_class: of these images.
        class_names: in the order of the labels.
    """
    return tuple(_worst(images, labels, logits, by_class=by_class, class_names=list(class_names)))


def _worst(
    images: Array, labels: IntArray, logits: Array, *, by_class: ByClass, class_names: list[str]
) -> Iterator[Mistake]:
    predicted = logits.argmax(1)
    if images.shape[3] not in (1, 3):  # nobody would recognise them
        return
    for confusion in by_class.confusions[:_CONFUSIONS]:
        true, taken = class_names.index(confusion.true), class_names.index(confusion.predicted)
        rows = np.flatnonzero((labels == true) & (predicted == taken))
        # by the margin, not by the softmax: it ranks alike and cannot saturate
        sure = logits[rows, taken] - logits[rows, true]
        for row in rows[np.argsort(-sure, kind="stable")][:_IMAGES]:
            yield Mistake(image=_small(images[row]), true=confusion.true, predicted=confusion.predicted)


def _small(image: Array) -> Array:
    height, width = image.shape[:2]
    reduced = max(height, width) / _SIDE
    if reduced <= 1:
        return image.copy()
    return resize_uint8(image, (max(1, round(height / reduced)), max(1, round(width / reduced))))
