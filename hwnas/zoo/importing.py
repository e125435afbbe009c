"""Trained supernets of others as entries: from their files to a folder.

Knows files, cards and layouts of checkpoints.
"""

from __future__ import annotations

from dataclasses import dataclass
from pathlib import Path

from hwnas._places import quoted, user_path
from hwnas.data.augment import POLICIES
from hwnas.errors import ModelError
from hwnas.files import write_whole
from hwnas.foreign import shown
from hwnas.results import Result, Shown
from hwnas.zoo.card import FILE, Card
from hwnas.zoo.entry import WEIGHTS, Entry
from hwnas.zoo.once_for_all import space_of, take_learned, weights_of
from hwnas.zoo.writing import new_folder, new_place, seal

OFA_LICENCE = "MIT (the code of its repository); ask the owner about the weights"
_IMAGENET_CLASSES = 1000
# of its training images, by channel, as torchvision's and Once-for-All's networks see them
_MEAN, _STD = (0.485, 0.456, 0.406), (0.229, 0.224, 0.225)
_RECIPE = "# trained elsewhere, by progressive shrinking (Cai et al., 2020, section 3.3)\n"


@dataclass(frozen=True, slots=True, kw_only=True)
class ImportResult(Result):
    """A supernet that was imported.

    Attributes:
        folder: of the entry.
        size_bytes: of all of its files.
        space: its name.
        networks: distinct ones.
        classes: that they tell apart.
    """

    folder: Path
    size_bytes: int
    space: str
    networks: int
    classes: int

    @property
    def shown(self) -> Shown:
        """What it is, and how it is used."""
        return Shown(
            title="Imported supernet",
            rows=[
                ("folder", str(self.folder)),
                ("size", f"{self.size_bytes / 1e6:.1f} MB"),
                ("space", f"{self.space}, {self.networks:,} distinct networks"),
                ("classes", self.classes),
            ],
            notes=[
                f"Networks of it, with images of its classes: hwnas run --supernet {quoted(self.folder)} --data SOURCE",
                f'For classes of your own: [space] preset = "{self.space}", and hwnas train NEW.toml --from '
                f"{quoted(self.folder)}",
            ],
        )


def import_ofa(file: Path | str, folder: Path | str, *, licence: str = OFA_LICENCE) -> ImportResult:
    """Write a checkpoint of Once-for-All's MobileNetV3 as an entry, without images.

    Weights stay in single precision, so that its networks are those of the checkpoint.

    Args:
        file: of `torch.save`, as its owner gives it; pickled code is never run.
        folder: of the entry; its last part is the entry's name.
        licence: of the weights.

    Raises:
        ConfigError: the folder holds something else, or cannot have this name.
        ModelError: the file is missing, damaged or of another network; nothing was written.
        OSError: the entry cannot be written.
    """
    import safetensors.torch

    from hwnas.supernet.given_weights import read_weights

    folder, file = new_place(folder), user_path(file)
    saved = read_weights(file, any_name=True)
    if len(saved.found) > 1:
        raise ModelError(
            f"the weights {shown(file)} hold several networks ({shown(', '.join(saved.found))}); save the one you mean "
            "alone"
        )
    (tensors,) = map(take_learned, saved.found.values())
    try:
        space = space_of(tensors)
        weights = weights_of(tensors, space)
    except ModelError as e:
        raise ModelError(f"{shown(file)} cannot be imported: {e}") from e
    data = "ImageNet, 1,000 classes" if space.n_classes == _IMAGENET_CLASSES else f"{space.n_classes:,} classes"
    card = Card(
        name=folder.resolve().name,
        title=f"Once-for-All's MobileNetV3 of {data}, imported from {shown(file.name)}",
        space=space,
        class_names=tuple(map(str, range(space.n_classes))),
        mean=_MEAN,
        std=_STD,
        augment=POLICIES["natural"],
        decoding=None,
        data=f"{data}, by whoever trained it; no images come along",
        licence=licence,
        recipe=_RECIPE,
        command="progressive shrinking",
        hardware="not stated",
        seconds=0.0,
    )
    with new_folder(folder) as made:
        write_whole(made / WEIGHTS, safetensors.torch.save(weights))
        seal(Entry(folder=made, card=card), [WEIGHTS])
    return ImportResult(
        folder=folder,
        size_bytes=sum((folder / name).stat().st_size for name in (WEIGHTS, FILE)),
        space=space.name,
        networks=space.count(),
        classes=space.n_classes,
    )
