"""A trained supernet as a folder, by its name or path. Knows files and numbers; torch only where tensors are taken.

In an entry's folder:

    card.json               what it is: `hwnas.zoo.card`
    supernet.safetensors    averaged weights, matrices as half-precision floats; of a given network also its buffers and
                            which units smaller networks keep
    train.png, val.png,     images, one below the other, where it has some
    test.png
    labels.json             their classes
    accuracies-*.jsonl      of networks that were evaluated, as in a run's `search/`
"""

from __future__ import annotations

import io
import warnings
from collections.abc import Mapping
from dataclasses import dataclass
from pathlib import Path
from typing import TYPE_CHECKING

import numpy as np

from hwnas._places import user_path
from hwnas.data.arrays import ArrayDataset, Data, fingerprint
from hwnas.errors import CheckpointError, ConfigError, DataError
from hwnas.files import write_whole
from hwnas.foreign import ForeignFileError, inner_path, read_foreign
from hwnas.integrity import parse_json
from hwnas.zoo.card import FILE, LABELS, Card, read_card

if TYPE_CHECKING:
    from torch import Tensor

ENTRIES = Path(__file__).with_name("entries")
PREFIX = "zoo:"
WEIGHTS = "supernet.safetensors"
_IMAGES = {"train": "train.png", "val": "val.png", "test": "test.png"}
_LARGEST_BYTES = 1 << 30  # of a file; it may be anybody's
MOST_PIXELS = 80_000_000  # of the images of a part: of more Pillow warns


@dataclass(frozen=True, slots=True, kw_only=True)
class Entry:
    """A trained supernet.

    Attributes:
        folder: of its files.
        card: what it is.
    """

    folder: Path
    card: Card

    def read(self, name: str) -> bytes:
        """A file of the entry, held to what the card says of it.

        Raises:
            ConfigError: it is missing, or not what was packed.
        """
        import hashlib

        wanted = self.card.files.get(name)
        try:
            if wanted is None:
                raise ForeignFileError("its card does not name it")
            data = read_foreign(inner_path(self.folder, name), limit_bytes=_LARGEST_BYTES)
            if hashlib.sha256(data).hexdigest() != wanted:
                raise ForeignFileError("its content is not what its card says")
        except (OSError, ForeignFileError) as e:
            raise ConfigError(
                f"{name} of the trained supernet in {self.folder} cannot be used: {e}; take a sound copy of the folder"
            ) from e
        return data

    @property
    def weights_digest(self) -> str:
        """Of the weights; what tells this supernet from others."""
        return self.card.files.get(WEIGHTS, "")

    @property
    def known(self) -> tuple[str, ...]:
        """Names of the files with accuracies that were measured of its networks."""
        return tuple(sorted(n for n in self.card.files if n.startswith("accuracies-") and n.endswith(".jsonl")))

    def tensors(self) -> dict[str, Tensor]:
        """Name of a parameter -> its averaged values, single precision; of a given network other numbers as they were.

        Raises:
            ConfigError: the file is missing or not what was packed.
            CheckpointError: it holds no tensors.
        """
        import safetensors.torch
        import torch
        from safetensors import SafetensorError

        data = self.read(WEIGHTS)
        try:
            return {k: v.float() if v.dtype == torch.half else v for k, v in safetensors.torch.load(data).items()}
        except (SafetensorError, ValueError, KeyError) as e:
            raise CheckpointError(f"{self.folder / WEIGHTS} holds no weights ({e})") from e

    def data(self) -> Data:
        """The images of the entry, with the statistics of those that it was trained on.

        Raises:
            ConfigError: a file is missing or not what was packed.
            DataError: it came without images, or they are not as the labels say.
        """
        if not self.card.has_images:
            size = f"?size={self.card.space.resolutions[-1]}" if self.card.space.resolutions else ""
            raise DataError(
                f"the supernet {self.card.name} came without images; give images of its "
                f"{len(self.card.class_names):,} classes: --data 'folder:PHOTOS{size}', or source of [data]"
            )
        labels = parse_json(self.read(LABELS))
        if not isinstance(labels, dict) or set(labels) != set(_IMAGES):
            raise DataError(f"{self.folder / LABELS} names no classes for {', '.join(_IMAGES)}")
        parts = {p: _images(self.read(name), labels[p], where=self.folder / name) for p, name in _IMAGES.items()}
        card = self.card
        return Data(
            name=card.name,
            train=parts["train"],
            validation=parts["val"],
            test=parts["test"],
            class_names=card.class_names,
            mean=card.mean,
            std=card.std,
            augment=card.augment,
            decoding=card.decoding,
            fingerprint=fingerprint(tuple(parts.values()), card.class_names),
            notes=(card.data,),
        )


def find_entry(named: str) -> Entry:
    """The trained supernet that a name stands for.

    Args:
        named: `zoo:NAME`, or the path of a folder, with `zoo:` before it or without. `zoo:` and the name of one that
            ships is that one, though there may be such a folder: `./NAME` is the folder.

    Raises:
        ConfigError: none of this name ships, and there is none in such a folder; or its card is damaged.
    """
    name = named.removeprefix(PREFIX)
    folder = user_path(name)
    # a name that ships comes first where it is called one, else a folder of the same name with a card
    if name in entry_names() and (named.startswith(PREFIX) or not (folder / FILE).is_file()):
        folder = ENTRIES / name
    elif not folder.is_dir():
        raise ConfigError(
            f"{name} is no trained supernet that ships ({', '.join(entry_names()) or 'none does'}), and no folder; "
            "`hwnas zoo` lists them, and `hwnas zoo pack RUN FOLDER` makes one of a run"
        )
    return Entry(folder=folder, card=read_card(folder))


def entry_names() -> tuple[str, ...]:
    """Those that ship."""
    return tuple(sorted(p.parent.name for p in ENTRIES.glob("*/card.json")))


def write_images(folder: Path, parts: Mapping[str, ArrayDataset]) -> None:
    """The images of an entry and their classes.

    Args:
        folder: of the entry.
        parts: train, val and test; (N, H, W, 1 or 3) images with a class each.

    Raises:
        OSError: they cannot be written.
    """
    import json

    from PIL import Image

    for part, name in _IMAGES.items():
        images = np.asarray(parts[part].inputs)
        n, height, width, channels = images.shape
        column = images.reshape(n * height, width, channels)
        content = io.BytesIO()
        Image.fromarray(column[..., 0] if channels == 1 else column).save(content, "PNG", optimize=True)
        write_whole(folder / name, content.getvalue())
    labels = {part: parts[part].targets.tolist() for part in _IMAGES}
    write_whole(folder / LABELS, json.dumps(labels).encode())


def _images(content: bytes, labels: object, *, where: Path) -> ArrayDataset:
    from PIL import Image, UnidentifiedImageError

    if not isinstance(labels, list) or not labels or not all(isinstance(c, int) and c >= 0 for c in labels):
        raise DataError(f"the classes of {where} are no whole numbers")
    try:
        with (
            warnings.catch_warnings(action="error", category=Image.DecompressionBombWarning),
            Image.open(io.BytesIO(content), formats=("PNG",)) as image,
        ):
            if image.width * image.height > MOST_PIXELS or image.height % len(labels):
                raise DataError(f"{where} is no column of {len(labels)} images")
            pixels = np.asarray(image)
    except (UnidentifiedImageError, OSError, Image.DecompressionBombError, Image.DecompressionBombWarning) as e:
        raise DataError(f"{where} is no image ({e})") from e
    if pixels.dtype != np.uint8 or pixels.ndim not in (2, 3):
        raise DataError(f"{where} is no image of eight bits a channel")
    images = pixels.reshape(len(labels), image.height // len(labels), image.width, -1)
    return ArrayDataset(inputs=np.ascontiguousarray(images), targets=np.asarray(labels, dtype=np.int64))
