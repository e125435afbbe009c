"""Arrays as people name them: `x_train`, `X_test`, `train_images`, `val_labels`, `images`, ... Knows names only."""

from __future__ import annotations

import re
from collections.abc import Iterable

from hwnas.data.part_names import PARTS, part_of
from hwnas.errors import DataError
from hwnas.foreign import shown

CANONICAL = tuple(f"{x}_{part}" for part in PARTS for x in "xy")
OTHERS = ("class_names", "augment")
_IMAGES = frozenset({"x", "image", "images"})
_LABELS = frozenset({"y", "label", "labels", "target", "targets"})


def understood(names: Iterable[object], *, where: str) -> dict[str, str]:
    """Canonical name -> the name an array has; both the same where it was named canonically.

    Args:
        names: of all the arrays.
        where: they are, for messages.

    Raises:
        DataError: a name is not understood, two mean the same, or an array has no partner.
    """
    found: dict[str, str] = {}
    for name in names:
        meant = _meant(name) if isinstance(name, str) else None
        if meant is None or not isinstance(name, str):
            raise DataError(
                f"{where} has {shown(str(name))}; known are {', '.join(CANONICAL)}, class_names, and names that say "
                "the same, such as train_images and train_labels"
            )
        if meant in found:
            raise DataError(f"{where} has both {found[meant]} and {name}, which mean the same; keep one")
        found[meant] = name
    for part in PARTS:
        held = [x for x in (f"x_{part}", f"y_{part}") if x in found]
        if len(held) == 1 or (part == "train" and not held):
            raise DataError(
                f"{where} has {', '.join(sorted(found.values())) or 'no array'}; both x_{part} and y_{part} are needed"
            )
    return found


def _meant(name: str) -> str | None:
    if name in OTHERS:
        return name
    tokens = re.findall(r"[^\W_]+", name.casefold())
    kinds = {"x" if token in _IMAGES else "y" for token in tokens if token in _IMAGES | _LABELS}
    rest = [token for token in tokens if token not in _IMAGES | _LABELS]
    if len(kinds) != 1 or len(tokens) - len(rest) != 1 or len(rest) > 1:
        return None
    part = part_of(rest[0]) if rest else None
    if rest and (part is None or not part.alone or part.role not in PARTS):
        return None
    return f"{kinds.pop()}_{part.role if part else 'train'}"
