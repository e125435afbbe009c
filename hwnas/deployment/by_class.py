"""What a share of right predictions hides: how each class fares. Knows labels and names; never networks."""

from __future__ import annotations

from collections.abc import Sequence
from typing import Annotated

import numpy as np
from pydantic import Field

from hwnas.deployment._section import Count, Section, Share, missed_note
from hwnas.types import IntArray

_MOST_CONFUSIONS = 400  # kept of them: all of 20 classes


class ClassRecall(Section):
    """One class in the test images.

    Attributes:
        name: of the class.
        n: its images.
        found: those that were predicted to be of it.
        recall: the share of them; None where it has no image.
    """

    name: str
    n: Count
    found: Count
    recall: Share | None


class Confusion(Section):
    """How many images of one class were taken for another.

    Attributes:
        true: name of the class that they are of.
        predicted: name of the other.
        count: of the images.
    """

    true: str
    predicted: str
    count: Annotated[int, Field(ge=1)]


class ByClass(Section):
    """The test images by class, predicted through the runtime.

    Attributes:
        majority: the class with the most images.
        majority_share: theirs of all: the accuracy of naming that class for every image.
        balanced_accuracy: mean recall of the classes that have images.
        classes: in their order.
        confusions: the most frequent first; of many classes not all are kept.
    """

    majority: str
    majority_share: Share
    balanced_accuracy: Share
    classes: tuple[ClassRecall, ...]
    confusions: tuple[Confusion, ...]

    @classmethod
    def of(cls, labels: IntArray, predicted: IntArray, *, class_names: Sequence[str]) -> ByClass:
        """Count.

        Args:
            labels: (N,) of the images.
            predicted: (N,).
            class_names: in the order of the labels.
        """
        # minlength: the last classes may have no test image
        sizes = np.bincount(labels, minlength=len(class_names))
        found = np.bincount(labels[labels == predicted], minlength=len(class_names))
        classes = tuple(
            ClassRecall(name=name, n=int(n), found=int(k), recall=float(k / n) if n else None)
            for name, n, k in zip(class_names, sizes, found, strict=True)
        )
        recalls = [c.recall for c in classes if c.recall is not None]
        wrong = labels != predicted
        pairs, counts = np.unique(np.stack([labels[wrong], predicted[wrong]], axis=1), axis=0, return_counts=True)
        # ties by class, so that the same predictions give the same manifest
        order = np.lexsort((pairs[:, 1], pairs[:, 0], -counts))[:_MOST_CONFUSIONS]
        return cls(
            majority=class_names[int(sizes.argmax())],
            majority_share=float(sizes.max() / sizes.sum()),
            balanced_accuracy=float(np.mean(recalls)),
            classes=classes,
            confusions=tuple(
                Confusion(true=class_names[pairs[i, 0]], predicted=class_names[pairs[i, 1]], count=int(counts[i]))
                for i in order
            ),
        )

    def warnings(self) -> list[str]:
        """What a reader of the accuracy alone would not expect."""
        n = sum(c.n for c in self.classes)
        accuracy = sum(c.found for c in self.classes) / n
        told = []
        note = guessing_note(accuracy, majority=self.majority, share=self.majority_share, n=n)
        if note:
            told.append(note)
        if missed := missed_note([(c.name, c.n) for c in self.classes if c.n and not c.found], what="test image"):
            told.append(missed)
        return told


def guessing_note(accuracy: float, *, majority: str, share: float, n: int) -> str:
    """That an accuracy is what naming the largest class gives, but for two standard errors; empty if it is more.

    Args:
        accuracy: in [0, 1].
        majority: the class with the most images.
        share: theirs of all.
        n: number of images.
    """
    # binomial standard error of guessing
    if accuracy > share + 2 * (share * (1 - share) / n) ** 0.5:
        return ""
    return (
        f"an accuracy of {100 * accuracy:.2f} % on {n} images is not above what naming the largest class for every "
        f"image gives (two standard errors aside): {100 * share:.2f} % are of {majority!r}"
    )
