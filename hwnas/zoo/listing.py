"""Trained supernets as results of a command: all that ship, or one in full. Knows entries; never torch."""

from __future__ import annotations

from dataclasses import dataclass
from pathlib import Path

from hwnas._console import format_seconds
from hwnas._places import quoted
from hwnas.results import Result, Shown
from hwnas.zoo.card import Card
from hwnas.zoo.entry import ENTRIES, PREFIX, entry_names, find_entry

_GIVEN = "the network that was given; nothing was trained"
_TRAINED = "what training made of the network that was given, which itself is not in it"


@dataclass(frozen=True, slots=True, kw_only=True)
class ZooList(Result):
    """The trained supernets that ship.

    Attributes:
        cards: in the order of their names.
    """

    cards: tuple[Card, ...]

    def values(self) -> dict[str, object]:
        """Name -> title."""
        return {"supernets": {c.name: c.title for c in self.cards}}

    @property
    def shown(self) -> Shown:
        """A row for each."""
        return Shown(
            title="Trained supernets",
            columns=["name", "space", "classes", "distinct networks", "what it is"],
            rows=[(c.name, c.space.name, len(c.class_names), c.space.count(), c.title) for c in self.cards],
            notes=[
                "All that is known of one: hwnas zoo show NAME",
                f"Networks of one for this machine: hwnas run --supernet {PREFIX}NAME",
                "Your own, from a run: hwnas zoo pack RUN FOLDER; then hwnas run --supernet FOLDER.",
            ],
        )


@dataclass(frozen=True, slots=True, kw_only=True)
class ZooCard(Result):
    """One trained supernet.

    Attributes:
        folder: of its files.
        card: what it is.
        asked: what it was asked for by.
    """

    folder: Path
    card: Card
    asked: str

    def values(self) -> dict[str, object]:
        """The card, without the space's definition."""
        keys = ("name", "title", "data", "licence", "recipe", "command", "hardware", "seconds", "class_names")
        measured = [{"network": m.network, "macs": m.macs, **m.accuracies} for m in self.card.measured]
        return {
            "folder": str(self.folder),
            **{k: getattr(self.card, k) for k in keys},
            **{k: getattr(self.card, k) for k in ("has_images", "is_of_given", "is_given", "batch_norm")},
            "measured": measured,
        }

    @property
    def shown(self) -> Shown:
        """A row for everything that is said."""
        c = self.card
        rows: list[tuple[str, object]] = [
            ("space", f"{c.space.name}, {c.space.count():,} distinct networks"),
            ("classes", list(c.class_names) if c.has_class_names else f"{len(c.class_names):,}, without names"),
            *([("largest network", _GIVEN if c.is_given else _TRAINED)] if c.is_of_given else []),
            ("data", c.data),
            ("licence", c.licence),
            ("trained with", c.command),
            ("on", f"{c.hardware}{f', in {format_seconds(c.seconds)}' if c.seconds else ''}"),
        ]
        for m in c.measured:
            told = ", ".join(f"{how} {100 * share:.1f} %" for how, share in m.accuracies.items())
            rows.append((m.network, f"{m.macs / 1e6:.1f} million MACs; {told}"))
        rows += [("folder", str(self.folder))]
        command = f"hwnas run --supernet {quoted(self.asked)}{'' if c.has_images else ' --data SOURCE'}"
        return Shown(
            title=f"{c.name}: {c.title}",
            rows=rows,
            notes=[
                *(["Accuracies are of networks as they are taken out, on all test images."] if c.measured else []),
                *([] if c.has_images else ["It came without images: SOURCE has some of its classes."]),
                f"Networks of it for this machine: {command}",
            ],
        )


def all_entries() -> ZooList:
    """The trained supernets that ship, in the order of their names."""
    return ZooList(cards=tuple(find_entry(f"{PREFIX}{name}").card for name in entry_names()))


def one_entry(named: str) -> ZooCard:
    """Everything that is known of a trained supernet.

    Args:
        named: the name of one that ships, with `zoo:` before it or without, or the folder of one.

    Raises:
        ConfigError: none of this name ships, and there is none in such a folder; or its card is damaged.
    """
    found = find_entry(named)
    ships = found.folder.parent == ENTRIES
    asked = f"{PREFIX}{found.folder.name}" if ships else named
    return ZooCard(folder=found.folder, card=found.card, asked=asked)
