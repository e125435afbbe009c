"""Read a folder of image files, one sub-folder a class. Knows Pillow, not networks."""

from __future__ import annotations

import warnings
from collections.abc import Sequence
from pathlib import Path
from typing import TYPE_CHECKING

import numpy as np

from hwnas.data.arrays import Int64Array, UInt8Array
from hwnas.errors import DataError

if TYPE_CHECKING:
    from PIL.Image import Image

_PART_NAMES = {"train": ("train",), "val": ("val", "validation", "valid"), "test": ("test",)}
_GREY_MODES = frozenset({"1", "L", "LA", "I;16", "I;16L", "I;16B", "I"})


def read_image_folder(
    root: Path, *, size: int | None, channels: int | None
) -> tuple[dict[str, tuple[UInt8Array, Int64Array]], tuple[str, ...]]:
    """Parts (`train`, perhaps `val` and `test`) and class names, the sub-folders in sorted order.

    Args:
        root: holds one folder a class, or `train`, `val`, `test` with one folder a class each.
        size: images are cut to a centred square and resized to this side, in pixels; None: they must
            all have one size.
        channels: 1 (grey) or 3 (colour); None: 1 if every image is grey, else 3.

    Raises:
        DataError: no class, a class without images, parts with different classes, an unreadable image,
            images of several sizes.
    """
    subfolders = {p.name: p for p in _visible(root) if p.is_dir()}
    parts = {
        part: subfolders[name]
        for part, names in _PART_NAMES.items()
        for name in [next((n for n in names if n in subfolders), None)]
        if name
    }
    if "train" not in parts:
        parts = {"train": root}
    files = {part: _files_by_class(path) for part, path in parts.items()}
    names = tuple(files["train"])
    for part, found in files.items():
        if tuple(found) != names:
            odd = sorted(set(found) ^ set(names))
            raise DataError(
                f"{parts[part]} and {parts['train']} have different classes: {', '.join(odd[:8])} is in one only"
            )
    if channels is None:
        every = [f for found in files.values() for paths in found.values() for f in paths]
        channels = 1 if _all_grey(every) else 3
    read: dict[str, tuple[UInt8Array, Int64Array]] = {}
    first: tuple[Path, tuple[int, ...]] | None = None
    for part, found in files.items():
        images: list[UInt8Array] = []
        for path in (p for paths in found.values() for p in paths):
            image = _read(path, size=size, channels=channels)
            first = first or (path, image.shape)
            if image.shape != first[1]:
                raise DataError(
                    f"{path} is {image.shape[1]}x{image.shape[0]} pixels, but {first[0]} is "
                    f"{first[1][1]}x{first[1][0]}; give a common size: folder:{root}?size=64"
                )
            images.append(image)
        labels = np.repeat(np.arange(len(names)), [len(paths) for paths in found.values()])
        read[part] = (np.stack(images), labels.astype(np.int64))
    return read, names


def _visible(folder: Path) -> list[Path]:
    return sorted(p for p in folder.iterdir() if not p.name.startswith("."))


def _files_by_class(folder: Path) -> dict[str, list[Path]]:
    from PIL import Image

    known = Image.registered_extensions()
    classes = {
        sub.name: sorted(p for p in sub.rglob("*") if p.suffix.lower() in known and not p.name.startswith("."))
        for sub in _visible(folder)
        if sub.is_dir()
    }
    if not classes:
        raise DataError(f"{folder} has no sub-folder; give one folder a class, with its images in it")
    empty = [name for name, files in classes.items() if not files]
    if empty:
        raise DataError(
            f"the class {empty[0]!r} has no image in {folder / empty[0]}; add images (PNG, JPEG, WebP, ...) or "
            f"remove the folder"
        )
    return classes


def _all_grey(paths: Sequence[Path]) -> bool:
    from PIL import Image

    for path in paths:
        try:
            with Image.open(path) as image:
                if image.mode not in _GREY_MODES:
                    return False
        except (OSError, ValueError, SyntaxError, Image.DecompressionBombError) as e:
            raise _unreadable(path, e) from e
    return True


def _read(path: Path, *, size: int | None, channels: int) -> UInt8Array:
    """One image as (H, W, channels)."""
    from PIL import Image, ImageOps

    try:
        with warnings.catch_warnings(), Image.open(path) as file:
            warnings.simplefilter("ignore")  # of Pillow, on odd metadata: the pixels are what counts
            image = _plain(ImageOps.exif_transpose(file), "L" if channels == 1 else "RGB")
            if size is not None:
                image = ImageOps.fit(image, (size, size), Image.Resampling.BILINEAR)
            array = np.array(image, dtype=np.uint8)
    except (OSError, ValueError, SyntaxError, Image.DecompressionBombError) as e:
        raise _unreadable(path, e) from e
    return array.reshape(*array.shape[:2], channels)


def _plain(image: Image, mode: str) -> Image:
    """Eight bits a channel, no palette, no transparency."""
    from PIL import Image as pillow  # noqa: N813 - the class is named Image too

    if image.mode.startswith("I"):  # 16 bits a pixel: keep the upper eight
        image = pillow.fromarray((np.clip(np.asarray(image).astype(np.int64), 0, 65535) >> 8).astype(np.uint8))
    elif image.mode == "F":
        raise ValueError("images of floating-point pixels are not understood; save it with 8 bits a channel")
    elif image.mode == "P":
        image = image.convert("RGBA")
    return image.convert(mode)


def _unreadable(path: Path, error: Exception) -> DataError:
    return DataError(f"the image {path} cannot be read: {error}; repair or remove it")
