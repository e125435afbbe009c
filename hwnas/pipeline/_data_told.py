"""What is told of a data set before anything is trained on it, and kept in the run's folder: `data.json`.

Counts by part and class, what is left out and why, what was chosen, what may be a mistake.
"""

from __future__ import annotations

from collections.abc import Iterator
from typing import Any

import numpy as np

from hwnas._console import Console
from hwnas.data import POLICIES, Data, parse_spec
from hwnas.data.arrays import LeftOut
from hwnas.quantities import capitalised
from hwnas.results import Shown

DATA_FILE = "data.json"
_SCHEMA = 1
_ROWS = 20  # of classes, in a table for people
_PART = {"": "", "train": "training ", "val": "validation ", "test": "test "}


def tell_data(data: Data, console: Console) -> None:
    """Show it to who is watching."""
    columns = ("class", "training", "validation", "test", "left out")
    console.table(Shown(title=f"{capitalised(data.what)}: {data.name}", columns=columns, rows=list(_rows(data))))
    for note in data.notes:
        console.note(note)
    for text, lost in _left_out(data):
        (console.warn if lost else console.note)(text)
    for warning in data.warnings:
        console.warn(warning)


def tell_unchanged(data: Data, source: str, console: Console) -> None:
    """Tell that every pass shows images as they are, where nobody asked for that: networks learn those by heart."""
    if not data.train.are_images or data.augment != POLICIES["none"] or "augment" in parse_spec(source)[2]:
        return
    asked = f"{source}{'&' if '?' in source else '?'}augment=natural"
    console.note(
        "training images are shown unchanged, for their source does not say what may be done to them; where shifts and "
        f'mirrors change nothing about their targets, write source = "{asked}" (augment=none: unchanged)'
    )


def data_record(data: Data, *, source: str) -> dict[str, Any]:
    """The same for programs; of images without labels it counts all of a part as `images`.

    Args:
        data: what was loaded.
        source: as the configuration names it.
    """
    counts = _counts(data)
    return {
        "schema": _SCHEMA,
        "name": data.name,
        "source": source,
        "fingerprint": data.fingerprint,
        "class_names": list(data.class_names),
        "counts": {
            part: dict(zip(data.class_names if _by_class(data) else (data.what,), n, strict=True))
            for part, n in counts.items()
        },
        "left_out": [
            {
                "part": item.part,
                "class": item.class_name,
                "reason": item.reason,
                "count": item.count,
                "example": item.example,
            }
            for item in data.left_out
        ],
        "decoding": None if data.decoding is None else data.decoding.to_dict(),
        "notes": list(data.notes),
        "warnings": list(data.warnings),
    }


def _by_class(data: Data) -> bool:
    """Whether each sample is of one class, so that classes can be counted."""
    return bool(data.class_names) and data.train.targets.ndim == 1


def _counts(data: Data) -> dict[str, list[int]]:
    parts = {"train": data.train, "validation": data.validation, "test": data.test}
    if not _by_class(data):
        return {name: [len(part)] for name, part in parts.items()}
    return {name: np.bincount(part.targets, minlength=data.n_classes).tolist() for name, part in parts.items()}


def _rows(data: Data) -> Iterator[tuple[object, ...]]:
    counts = _counts(data)
    lost: dict[str, int] = {}
    for item in data.left_out:
        lost[item.class_name] = lost.get(item.class_name, 0) + item.count
    n_classes = data.n_classes if _by_class(data) else 0
    order = sorted(range(n_classes), key=lambda c: counts["train"][c])  # the smallest are what to look at
    shown = sorted(order[:_ROWS]) if n_classes > _ROWS else range(n_classes)
    for c in shown:
        name = data.class_names[c]
        yield (name, *(n[c] for n in counts.values()), lost.get(name, 0))
    if n_classes > _ROWS:
        rest = order[_ROWS:]
        hidden = sum(lost.get(data.class_names[c], 0) for c in rest)
        yield (f"{len(rest)} larger classes", *(sum(n[c] for c in rest) for n in counts.values()), hidden)
    yield ("all", *(sum(n) for n in counts.values()), sum(lost.values()))


def _left_out(data: Data) -> Iterator[tuple[str, bool]]:
    """A sentence for each reason, and whether images are lost."""
    reasons: dict[str, list[LeftOut]] = {}
    for item in data.left_out:
        reasons.setdefault(item.reason, []).append(item)
    for reason, items in reasons.items():
        count = sum(item.count for item in items)
        places = [f"{_PART[item.part]}{item.class_name}".strip() for item in items]
        named = ", ".join(dict.fromkeys(filter(None, places[:5]))) + (" and others" if len(places) > 5 else "")
        where = f" in {named}" if named else ""
        yield f"not used: {count:,}{where}, {reason}; the first: {items[0].example}", any(i.image for i in items)
