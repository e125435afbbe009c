"""Which classes are taken for which: a matrix, and the images of the worst mistakes.

Knows a manifest's counts and a few small images; never networks.
"""

from __future__ import annotations

import base64
import io
from collections.abc import Sequence
from dataclasses import dataclass

from hwnas.deployment import ByClass, Mistake
from hwnas.quantities import percent, printable
from hwnas.types import Array

_MOST_CLASSES = 12  # of a whole matrix; of more the worst part is shown


@dataclass(frozen=True, slots=True, kw_only=True)
class Cell:
    """Images of one class predicted to be of one.

    Attributes:
        count: of them.
        right: the two classes are the same.
        share: of the true class's images, in percent, 0 to 100: how strongly the cell is coloured.
    """

    count: int
    right: bool
    share: int


@dataclass(frozen=True, slots=True, kw_only=True)
class MatrixRow:
    """The images of one class: its name, how many, the share found, and what they were predicted to be."""

    name: str
    n: int
    recall: str
    cells: tuple[Cell, ...]
    elsewhere: int


@dataclass(frozen=True, slots=True, kw_only=True)
class Matrix:
    """A confusion matrix, or the worst part of one.

    Attributes:
        names: of the columns.
        rows: of the same classes.
        part: of how many classes it shows the worst; 0 if it is whole.
    """

    names: tuple[str, ...]
    rows: tuple[MatrixRow, ...]
    part: int


@dataclass(frozen=True, slots=True, kw_only=True)
class WorstConfusion:
    """Images of a class that were taken for another; `pictures` are data URIs."""

    title: str
    pictures: tuple[str, ...]


def matrix(by_class: ByClass) -> Matrix:
    """All classes, or of many those that are in the most frequent confusions."""
    names = [c.name for c in by_class.classes]
    if len(names) > _MOST_CLASSES:
        worst: dict[str, None] = {}
        for confusion in by_class.confusions:
            # both: a row without its column would not show the confusion
            pair = dict.fromkeys((confusion.true, confusion.predicted))
            if len({**worst, **pair}) > _MOST_CLASSES:
                break
            worst |= pair
        # back in the classes' own order
        names = [name for name in names if name in worst]
    counts = {(c.true, c.predicted): c.count for c in by_class.confusions}
    rows = []
    for c in by_class.classes:
        if c.name not in names:
            continue
        found = [c.found if name == c.name else counts.get((c.name, name), 0) for name in names]
        cells = tuple(
            Cell(count=k, right=name == c.name, share=round(100 * k / c.n) if c.n else 0)
            for name, k in zip(names, found, strict=True)
        )
        recall = "" if c.recall is None else percent(c.recall)
        rows.append(MatrixRow(name=printable(c.name), n=c.n, recall=recall, cells=cells, elsewhere=c.n - sum(found)))
    whole = len(names) == len(by_class.classes)
    return Matrix(names=tuple(map(printable, names)), rows=tuple(rows), part=0 if whole else len(by_class.classes))


def worst_confusions(by_class: ByClass, mistakes: Sequence[Mistake]) -> tuple[WorstConfusion, ...]:
    """The most frequent confusions with images of them, as far as the deployment has any."""
    found = []
    for c in by_class.confusions:
        pictures = tuple(_data_uri(m.image) for m in mistakes if (m.true, m.predicted) == (c.true, c.predicted))
        if pictures:
            n = next(k.n for k in by_class.classes if k.name == c.true)
            title = f"{printable(c.true)} taken for {printable(c.predicted)}: {c.count} of {n}"
            found.append(WorstConfusion(title=title, pictures=pictures))
    return tuple(found)


def _data_uri(image: Array) -> str:
    """A PNG within the page."""
    from PIL import Image

    # (H, W, 1) -> (H, W): Pillow has no grey of three dimensions
    shown = image if image.shape[2] == 3 else image[..., 0]
    file = io.BytesIO()
    Image.fromarray(shown).save(file, "PNG")
    return f"data:image/png;base64,{base64.b64encode(file.getvalue()).decode()}"
