"""Images of one's own for a trained supernet, as it has seen its own, of the same classes. Knows entries and data."""

from __future__ import annotations

import dataclasses
from collections.abc import Callable, Sequence

from hwnas.data import Data
from hwnas.errors import DataError
from hwnas.integrity import digest
from hwnas.quantities import count
from hwnas.zoo.entry import Entry

_MOST_SHOWN = 5


def as_trained_on(data: Data, entry: Entry, *, tell: Callable[[str], None]) -> Data:
    """The same images as the networks of a trained supernet see them: with the statistics of those it learned from.

    Args:
        data: of any source.
        entry: of the supernet.
        tell: is told what cannot be checked.

    Raises:
        DataError: they are of other channels or classes than the supernet's.
    """
    card = entry.card
    if not data.are_images or data.in_channels != len(card.mean):
        what = f"images of {count(data.in_channels, 'channel')}" if data.are_images else "samples that are no images"
        raise DataError(f"{data.name} has {what}, and the supernet {card.name} takes images of {len(card.mean)}")
    _check_classes(data, entry, tell=tell)
    if card.decoding is not None and data.decoding is not None and data.decoding != card.decoding:
        tell(
            f"image files of {data.name} become pixels in another way than those of the supernet {card.name} did: "
            f"{data.decoding.to_dict()}, and {card.decoding.to_dict()}"
        )
    if (data.mean, data.std) == (card.mean, card.std):
        return data
    # to the networks they are other images than with statistics of their own, of other accuracies
    seen = digest([data.fingerprint, list(card.mean), list(card.std)])
    return dataclasses.replace(data, mean=card.mean, std=card.std, fingerprint=seen)


def _check_classes(data: Data, entry: Entry, *, tell: Callable[[str], None]) -> None:
    wanted, found = entry.card.class_names, data.class_names
    if found == wanted:
        return
    name = entry.card.name
    if found == tuple(map(str, range(len(wanted)))):
        tell(
            f"the classes of {data.name} have no names; they are taken for those of the supernet {name}, in "
            f"its order: {', '.join(wanted)}"
        )
        return
    some = _some(found)
    if sorted(found) == sorted(wanted):
        raise DataError(
            f"the classes of {data.name} are those of the supernet {name} in another order ({some}); give "
            f"them in its order: {_named(wanted, entry)}"
        )
    if len(found) == len(wanted) and not entry.card.has_class_names:
        tell(
            f"the classes of the supernet {name} have no names; those of {data.name} are taken for them, in this "
            f"order: {some}"
        )
        return
    raise DataError(
        f"{data.name} has {len(found)} classes ({some}), and the supernet {name} tells {len(wanted)} apart: "
        f"{_named(wanted, entry)}. Give images of these, or train a supernet for yours: leave out train.supernet"
    )


def _some(names: Sequence[str]) -> str:
    return ", ".join(names[:_MOST_SHOWN]) + (", ..." if len(names) > _MOST_SHOWN else "")


def _named(wanted: Sequence[str], entry: Entry) -> str:
    """All of its classes, unless they are mere numbers."""
    return ", ".join(wanted) if entry.card.has_class_names else _some(wanted)
