"""A run's trained supernet as a folder that others can take networks from: an entry of the zoo.

Knows runs and entries; never devices or search.
"""

from __future__ import annotations

import tempfile
from collections.abc import Mapping
from dataclasses import dataclass
from pathlib import Path

import numpy as np

from hwnas._console import Console
from hwnas._places import quoted, user_path
from hwnas.appending import append_sealed, read_sealed
from hwnas.config import Config
from hwnas.data import ArrayDataset, Data
from hwnas.errors import ConfigError, IntegrityError
from hwnas.files import write_whole
from hwnas.pipeline._packed_weights import packed_weights
from hwnas.quantities import count
from hwnas.results import Result, Shown
from hwnas.workspace import Workspace
from hwnas.zoo import Card, Entry
from hwnas.zoo.card import FILE, LABELS, read_card
from hwnas.zoo.entry import MOST_PIXELS, WEIGHTS, write_images
from hwnas.zoo.writing import new_folder, new_place, seal

_CHANNELS = (1, 3)
_NOT_SAID = "not stated"


@dataclass(frozen=True, slots=True, kw_only=True)
class Packing:
    """What a run does not know of itself, and how many images go along.

    Attributes:
        title: of the entry, in a line; made up of space and data where it is left out.
        about_data: what the supernet was trained on and who made it; the data's name where it is left out.
        licence: of weights and images.
        hardware: it was trained on.
        seconds: the training took.
        command: that trained it; that of the run's stage where it is left out.
        class_names: where those of the run's data say nothing, as numbers do; none: those of the data.
        n_images: of each part, at most: to recalibrate statistics with, to rank networks by, and to check deployments.
    """

    title: str = ""
    about_data: str = ""
    licence: str = _NOT_SAID
    hardware: str = _NOT_SAID
    seconds: float = 0.0
    command: str = ""
    class_names: tuple[str, ...] = ()
    n_images: tuple[int, int, int] = (600, 1000, 1000)


@dataclass(frozen=True, slots=True, kw_only=True)
class PackResult(Result):
    """A packed supernet.

    Attributes:
        folder: of the entry.
        size_bytes: of all of its files.
        images: part -> how many are in it; none of a supernet that came without.
        known: networks whose accuracies are in it.
    """

    folder: Path
    size_bytes: int
    images: Mapping[str, int]
    known: int

    @property
    def shown(self) -> Shown:
        """What is in it, and how it is used."""
        return Shown(
            title="Packed supernet",
            rows=[
                ("folder", str(self.folder)),
                ("size", f"{self.size_bytes / 1e6:.1f} MB"),
                ("images", ", ".join(f"{n:,} {part}" for part, n in self.images.items()) or "none"),
                ("known accuracies", self.known),
            ],
            notes=[
                f"Networks of it: hwnas run --supernet {quoted(self.folder)}",
                "What such a run evaluates goes into it with: hwnas zoo pack RUN_OF_IT FOLDER",
            ],
        )


def pack(config: Config, folder: Path | str, *, packing: Packing | None = None, console: Console) -> PackResult:
    """Write the supernet of a finished training as an entry; of a run of that entry, what it has evaluated.

    Args:
        config: of the run.
        folder: of the entry; its last part is the entry's name.
        packing: what the run does not know of itself.
        console: to speak on.

    Raises:
        ConfigError: the run is of no classes of images; the folder holds something else.
        CheckpointError: its training is not finished.
        OSError: the entry cannot be written.
    """
    work = Workspace(config)
    if work.zoo_entry is not None:
        folder = user_path(folder)
        if work.zoo_entry.folder.resolve() != folder.resolve():
            raise ConfigError(
                f"the run in {work.folder} is of the supernet in {work.zoo_entry.folder}, which is packed already; "
                "name that folder to add what the run has evaluated"
            )
        return _result(_with_known(work.zoo_entry, work), console=console)
    packing = packing or Packing()
    _refuse_kind(work)
    folder = new_place(folder)
    _refuse(work, packing)
    content = packed_weights(work.supernet)  # before anything is written: it may be missing
    parts = _some(work.images, packing.n_images, seed=work.config.data.seed)
    data, space = work.images, work.training_space
    learned = "trained on" if work.is_trained else "as it was given, with images of"
    card = Card(
        name=folder.resolve().name,
        title=packing.title or f"{space.name}, {learned} {data.name}",
        space=space,
        class_names=packing.class_names or data.class_names,
        mean=data.mean,
        std=data.std,
        augment=data.augment,
        decoding=data.decoding,
        data=packing.about_data or data.name,
        licence=packing.licence,
        recipe=work.config.whole.to_toml(),
        command=packing.command or ("hwnas train" if work.is_trained else "hwnas adapt --no-training"),
        hardware=packing.hardware,
        seconds=packing.seconds,
        batch_norm=work.batch_norm,
        is_given=not work.is_trained,
    )
    if card.is_of_given and not card.is_given:
        console.note(
            "the largest network of the entry is what training made of the given one; the given one itself stays with "
            f"the run in {work.folder}"
        )
    with new_folder(folder) as made:
        write_whole(made / WEIGHTS, content)
        write_images(made, parts)
        seal(Entry(folder=made, card=card), [WEIGHTS, LABELS, *(f"{part}.png" for part in parts)])
    return _result(Entry(folder=folder, card=read_card(folder)), console=console)


def _refuse_kind(work: Workspace) -> None:
    if work.config.data.labels == "network":
        raise ConfigError(
            "the labels of this run are what its given network answers, and those of a packed supernet are classes; "
            'pack a run whose images have labels of their own ([data] labels = "source")'
        )
    if work.config.task.name != "classification" or not work.images.are_images:
        raise ConfigError(
            f"only supernets that classify images can be packed, and this one is for {work.config.task.name} of "
            f"{work.images.what}"
        )


def _refuse(work: Workspace, packing: Packing) -> None:
    names, n_classes = packing.class_names, work.images.n_classes
    if names and (len(names) != n_classes or len(set(names)) != n_classes):
        raise ConfigError(
            f"{len(names)} names of classes are given ({', '.join(names)}), and the run has {n_classes}; give each "
            "a name of its own, in the order of the labels"
        )
    if names and work.images.class_names not in (names, tuple(map(str, range(n_classes)))):
        raise ConfigError(
            f"names of classes are given ({', '.join(names)}), and the run's data has other ones "
            f"({', '.join(work.images.class_names)}); leave out --class"
        )
    if work.images.in_channels not in _CHANNELS:
        raise ConfigError(f"images of {work.images.in_channels} channels cannot be packed; grey ones and colours can")
    height, width = work.images.native_size
    parts = {"training": work.images.train, "validation": work.images.validation, "test": work.images.test}
    for (part, there), asked in zip(parts.items(), packing.n_images, strict=True):
        n = min(asked, len(there))
        if n * height * width > MOST_PIXELS:
            raise ConfigError(
                f"{n:,} {part} images of {height} x {width} pixels are too many for one file; give at most "
                f"{MOST_PIXELS // (height * width):,} (--images)"
            )


def _some(data: Data, n: tuple[int, int, int], *, seed: int) -> dict[str, ArrayDataset]:
    """So many images of each part, drawn at random, in memory."""
    rng = np.random.default_rng(seed)
    parts = {"train": data.train, "val": data.validation, "test": data.test}
    found = {}
    for (name, part), most in zip(parts.items(), n, strict=True):
        rows = rng.permutation(len(part))[:most]  # in this order: the first ones are taken by who wants fewer
        some = part.subset(rows)
        found[name] = ArrayDataset(inputs=np.asarray(some.inputs[np.arange(len(rows))]), targets=some.targets)
    return found


def _with_known(entry: Entry, work: Workspace) -> Entry:
    """The entry with the accuracies that a run of it knows."""
    found = sorted((work.folder / "search").glob("accuracies-*.jsonl"))
    if not found:
        raise ConfigError(f"the run in {work.folder} has evaluated no networks yet: start it with `hwnas run`")
    for name in entry.card.files:  # before they are sealed anew: what is damaged stays so
        if name not in entry.known:
            entry.read(name)
    for file in found:
        _add_known(entry.folder / file.name, file)
    return seal(entry, [*entry.card.files, *(file.name for file in found)])


def _add_known(known: Path, found: Path) -> None:
    """Put the networks of one file of accuracies behind those of another of the same conditions.

    Raises:
        ConfigError: one of them is damaged.
    """
    try:
        first, *more = read_sealed(found)
        networks = read_sealed(known)[1:] if known.exists() else []
    except IntegrityError as e:
        raise ConfigError(
            f"the accuracies in {known if known.exists() else found} or {found} are damaged ({e}); search in that run "
            "again, which puts aside what is damaged"
        ) from e
    keys = {network["key"] for network in networks}
    networks += [network for network in more if network["key"] not in keys]
    with tempfile.TemporaryDirectory(prefix=".known-", dir=known.parent) as scratch:
        written = Path(scratch, known.name)
        append_sealed(written, networks, first=first)
        written.replace(known)


def with_measured(entry: Entry, card: Card) -> Entry:
    """The entry with another card for the same files."""
    for name in entry.card.files:
        entry.read(name)
    return seal(Entry(folder=entry.folder, card=card), list(entry.card.files))


def _result(entry: Entry, *, console: Console) -> PackResult:
    known = sum(max(0, len(entry.read(name).splitlines()) - 1) for name in entry.known)
    console.note(f"{count(len(entry.card.files), 'file')} in {entry.folder}")
    images: dict[str, int] = {}
    if entry.card.has_images:
        data = entry.data()
        images = {"training": len(data.train), "validation": len(data.validation), "test": len(data.test)}
    return PackResult(
        folder=entry.folder,
        size_bytes=sum((entry.folder / name).stat().st_size for name in [*entry.card.files, FILE]),
        images=images,
        known=known,
    )
