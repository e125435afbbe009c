"""What a mean IoU hides: how the pixels of each class fare. Knows counts and names; never masks or networks."""

from __future__ import annotations

from collections.abc import Sequence

from hwnas.deployment._section import Count, Section, Share, missed_note
from hwnas.types import FloatArray


class ClassPixels(Section):
    """One class in the pixels of the test masks that somebody knows.

    Attributes:
        name: of the class.
        n: its pixels.
        said: pixels that were predicted to be of it.
        found: pixels of it that were predicted to be so.
        iou: found over those of it, said to be, or both; None where there is neither.
    """

    name: str
    n: Count
    said: Count
    found: Count
    iou: Share | None


class ByPixel(Section):
    """The test masks by class, predicted through the runtime.

    Attributes:
        majority: the class with the most pixels.
        majority_share: theirs of all: the pixel accuracy of naming that class everywhere.
        majority_iou: mean IoU of naming that class everywhere.
        classes: in their order.
    """

    majority: str
    majority_share: Share
    majority_iou: Share
    classes: tuple[ClassPixels, ...]

    @classmethod
    def of(cls, counts: FloatArray, *, class_names: Sequence[str]) -> ByPixel:
        """From counts.

        Args:
            counts: (3, classes) pixels of each class that were found, said to be of it, and are of it, in all images;
                some class has a pixel.
            class_names: of the first ones; the others are told by their number.
        """
        names = [*class_names, *(f"class {i}" for i in range(len(class_names), counts.shape[1]))]
        found, said, so = counts.round().astype(int)
        union = said + so - found
        classes = tuple(
            ClassPixels(name=name, n=int(n), said=int(s), found=int(f), iou=float(f / u) if u else None)
            for name, n, s, f, u in zip(names, so, said, found, union, strict=False)
        )
        largest, share = int(so.argmax()), float(so.max() / so.sum())
        return cls(
            majority=names[largest],
            majority_share=share,
            majority_iou=share / int((so > 0).sum()),
            classes=classes,
        )

    @property
    def mean_iou(self) -> float:
        """Over the classes that are there or are said to be."""
        known = [c.iou for c in self.classes if c.iou is not None]
        return sum(known) / len(known)

    @property
    def pixel_accuracy(self) -> float:
        """Share of the pixels that are predicted rightly."""
        return sum(c.found for c in self.classes) / sum(c.n for c in self.classes)

    def warnings(self) -> list[str]:
        """What a reader of the mean alone would not expect."""
        told = []
        if self.mean_iou <= self.majority_iou and len([c for c in self.classes if c.n]) > 1:
            told.append(
                f"a mean IoU of {100 * self.mean_iou:.2f} % is not above what naming the largest class for every pixel "
                f"gives: {100 * self.majority_iou:.2f} %, {100 * self.majority_share:.2f} % of the pixels are of "
                f"{self.majority!r}"
            )
        if missed := missed_note([(c.name, c.n) for c in self.classes if c.n and not c.found], what="test pixel"):
            told.append(missed)
        return told
