"""What is written about a trained supernet: `card.json`. Knows JSON values and a space's definition."""

from __future__ import annotations

from collections.abc import Mapping
from dataclasses import asdict, dataclass, field
from pathlib import Path
from typing import Any

from hwnas.data.augment import Augment
from hwnas.data.decoding import DecodingRule
from hwnas.errors import ConfigError, HwnasError, IntegrityError
from hwnas.files import read_document, write_document
from hwnas.spaces import Space, space_from_json
from hwnas.spaces.adapted import AdaptedSpace

FILE = "card.json"
LABELS = "labels.json"
SCHEMA = 1
_RECALIBRATED = "recalibrated"
_BATCH_NORM = (_RECALIBRATED, "frozen")


@dataclass(frozen=True, slots=True, kw_only=True)
class Measured:
    """How good one of the supernet's networks is, as it is taken out, on all test images of its data set.

    Attributes:
        network: which: smallest, middle, largest, ...
        macs: of one image.
        accuracies: how it was computed -> share of the images that were right.
    """

    network: str
    macs: int
    accuracies: Mapping[str, float]


@dataclass(frozen=True, slots=True, kw_only=True)
class Card:
    """What is known of a trained supernet.

    Attributes:
        name: short; of a shipped one also that of its folder.
        title: in a line.
        space: its networks.
        class_names: in the order of the outputs.
        mean: per channel, of the images it was trained on, scaled to [0, 1].
        std: likewise.
        augment: what may be done to training images without changing their class.
        decoding: how image files became pixels; None where they were none.
        batch_norm: statistics of its networks: recalibrated, with images they are shown; frozen, those of the network
            that was given.
        is_given: whether no weight was trained: they are those of a given network, whose largest network it is.
        data: what it was trained on, and where the images of the entry are from.
        licence: of the weights and of the images.
        recipe: the configuration it was trained with, TOML.
        command: that trained it.
        hardware: it was trained on.
        seconds: the training took.
        measured: how good some of its networks are.
        files: name in the entry's folder -> SHA-256 of its content.
    """

    name: str
    title: str
    space: Space
    class_names: tuple[str, ...]
    mean: tuple[float, ...]
    std: tuple[float, ...]
    augment: Augment
    decoding: DecodingRule | None
    data: str
    licence: str
    recipe: str
    command: str
    hardware: str
    seconds: float
    batch_norm: str = _RECALIBRATED
    is_given: bool = False
    measured: tuple[Measured, ...] = ()
    files: Mapping[str, str] = field(default_factory=dict)

    @property
    def has_images(self) -> bool:
        """Whether the entry has some images of what it was trained on; else whoever uses it gives their own."""
        return LABELS in self.files

    @property
    def is_of_given(self) -> bool:
        """Whether its networks are parts of one that was given, and not of a preset or a definition."""
        return isinstance(self.space, AdaptedSpace)

    @property
    def has_class_names(self) -> bool:
        """Whether its classes are called something, and not by their numbers."""
        return self.class_names != tuple(map(str, range(len(self.class_names))))

    def write(self, folder: Path) -> None:
        """Into a folder, with a checksum.

        Raises:
            OSError: it cannot be written; an older one is untouched.
        """
        values = {f: getattr(self, f) for f in self.__dataclass_fields__}
        values |= {
            "space": self.space.to_json(),
            "augment": asdict(self.augment),
            "decoding": None if self.decoding is None else self.decoding.to_dict(),
            "measured": [asdict(m) for m in self.measured],
            "files": dict(self.files),
        }
        write_document(folder / FILE, {"schema": SCHEMA, **values})


def read_card(folder: Path) -> Card:
    """The card in a folder.

    Raises:
        ConfigError: there is none, or it is damaged.
    """
    path = folder / FILE
    try:
        return _card(read_document(path))
    except FileNotFoundError as e:
        raise ConfigError(
            f"there is no trained supernet in {folder}: its {FILE} is missing; `hwnas zoo` lists those that ship, and "
            "`hwnas zoo pack RUN FOLDER` makes one of a run"
        ) from e
    except (OSError, IntegrityError, AttributeError, KeyError, TypeError, ValueError, HwnasError) as e:
        raise ConfigError(f"the card {path} cannot be used ({e}); take a sound copy of the folder") from e


def _rule(values: Mapping[str, Any]) -> DecodingRule:
    span = values["value_range"]
    size = values["size"]
    return DecodingRule(
        channels=int(values["channels"]),
        ground=str(values["ground"]),
        value_range=None if span is None else (float(span[0]), float(span[1])),
        size=None if size is None else int(size),
    )


def _card(values: Mapping[str, Any]) -> Card:
    if values["schema"] != SCHEMA:
        raise ValueError(f"schema {values['schema']!r}; this version reads {SCHEMA}")
    batch_norm = values.get("batch_norm", _RECALIBRATED)  # of older cards, which are of presets
    if batch_norm not in _BATCH_NORM:
        raise ValueError(f"batch_norm {batch_norm!r}; known: {', '.join(_BATCH_NORM)}")
    is_given = values.get("is_given", False)
    if not isinstance(is_given, bool):
        raise TypeError(f"is_given is {is_given!r}; it must be true or false")
    texts = ("name", "title", "data", "licence", "recipe", "command", "hardware")
    measured = tuple(
        Measured(
            network=str(m["network"]),
            macs=int(m["macs"]),
            accuracies={str(k): float(v) for k, v in m["accuracies"].items()},
        )
        for m in values["measured"]
    )
    return Card(
        **{key: str(values[key]) for key in texts},
        space=space_from_json(values["space"]),
        class_names=tuple(map(str, values["class_names"])),
        mean=tuple(map(float, values["mean"])),
        std=tuple(map(float, values["std"])),
        augment=Augment(**values["augment"]),
        decoding=None if values["decoding"] is None else _rule(values["decoding"]),
        seconds=float(values["seconds"]),
        batch_norm=batch_norm,
        is_given=is_given,
        measured=measured,
        files={str(k): str(v) for k, v in values["files"].items()},
    )
