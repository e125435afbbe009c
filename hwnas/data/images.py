"""Read a folder of image files into arrays: looked at once, then decoded by one rule for all of them.

What lies where is `discovery`'s, one file's pixels are `decoding`'s. Knows no networks.
"""

from __future__ import annotations

from collections.abc import Iterator, Sequence
from dataclasses import dataclass, fields, replace
from pathlib import Path
from typing import Any

import numpy as np
import numpy.typing as npt

from hwnas.data.arrays import Int64Array, LeftOut, UInt8Array
from hwnas.data.decoding import DecodingRule, ImageFacts, decode_fully, look, raw_grey
from hwnas.data.discovery import Discovery, FolderOptions, discover
from hwnas.data.memory import require_memory
from hwnas.errors import DataError
from hwnas.foreign import shown

_VALUES_AN_IMAGE = 1000  # of deep grey, kept to judge the range by
_DARK = 64  # of 255: colour of 16 bits that never gets brighter has lost two of its eight bits


@dataclass(frozen=True, slots=True, kw_only=True)
class ReadingOptions:
    """How images are to be read, as far as the user said.

    Attributes:
        size: see `DecodingRule`.
        channels: 1 or 3; None: 1 if every image is grey, else 3.
        ground: see `DecodingRule`.
        value_range: see `DecodingRule`; None: that of the training images, if they have more than eight bits of grey.
    """

    size: int | None = None
    channels: int | None = None
    ground: str = "white"
    value_range: tuple[float, float] | None = None


@dataclass(frozen=True, slots=True, kw_only=True, eq=False)
class ImageFolder:
    """What a folder of images gives.

    Attributes:
        parts: of `PARTS` -> images (N, H, W, C) and labels (N,).
        files: of `PARTS` -> what the images were read from.
        class_names: in the order of the labels.
        rule: by which files became pixels.
        left_out: what is not used, and why.
        notes: what was chosen, where it is not obvious.
        warnings: what may be a mistake.
    """

    parts: dict[str, tuple[UInt8Array, Int64Array]]
    files: dict[str, tuple[Path, ...]]
    class_names: tuple[str, ...]
    rule: DecodingRule
    left_out: tuple[LeftOut, ...]
    notes: tuple[str, ...]
    warnings: tuple[str, ...]


@dataclass(frozen=True, slots=True)
class _File:
    path: Path
    part: str
    class_name: str
    label: int
    facts: ImageFacts


def read_image_folder(root: Path, *, options: FolderOptions, reading: ReadingOptions) -> ImageFolder:
    """The images of a folder, by parts (`train`, perhaps `val` and `test`) and classes.

    Args:
        root: holds one folder a class, or a folder for each part with one folder a class each.
        options: what the user said about the folders.
        reading: what the user said about the images.

    Raises:
        DataError: see `discover`; an unreadable image; images of several sizes; 8 bits and more than 8 mixed.
    """
    source = f"folder:{shown(root)}"
    found = discover(root, source=source, options=options)
    return _Reader(found, source=source, options=options, reading=reading).read()


class _Reader:
    def __init__(self, found: Discovery, *, source: str, options: FolderOptions, reading: ReadingOptions) -> None:
        self._found = found
        self._source = source
        self._skip = options.skip_unreadable
        self._reading = reading
        self._unreadable: list[LeftOut] = []
        self._transparent = 0
        self._used: dict[str, list[Path]] = {part: [] for part in found.files}

    def read(self) -> ImageFolder:
        # all headers before any pixel: one rule for the whole set needs to know them all
        files = list(self._look())
        rule = self._rule(files)
        parts = {part: self._decode([f for f in files if f.part == part], rule) for part in self._found.files}
        self._refuse_lost_classes(parts["train"][1])
        notes = [*self._found.notes, *self._describe_decoding(files, rule)]
        return ImageFolder(
            parts=parts,
            files={part: tuple(paths) for part, paths in self._used.items()},
            class_names=tuple(self._found.files["train"]),
            rule=rule,
            left_out=(*self._found.left_out, *self._unreadable),
            notes=tuple(notes),
            warnings=(*self._found.warnings, *self._doubts(files)),
        )

    def _look(self) -> Iterator[_File]:
        """Every file with what its header says."""
        for part, classes in self._found.files.items():
            # classes are sorted, so a label is the same in every part
            for label, (name, paths) in enumerate(classes.items()):
                for path in paths:
                    try:
                        yield _File(path, part, name, label, look(path))
                    except DataError as e:
                        self._leave_out(e, path, part=part, name=name)

    def _leave_out(self, error: DataError, path: Path, *, part: str, name: str) -> None:
        """Leave an image out if the user wants that, else let the error go on."""
        if not self._skip:
            raise error
        reason = "an image that cannot be read"
        self._unreadable.append(
            LeftOut(part=part, class_name=name, reason=reason, count=1, example=shown(path), image=True)
        )

    def _refuse_lost_classes(self, labels: Int64Array) -> None:
        """Hold that every class has a training image that could be read."""
        for label, name in enumerate(self._found.files["train"]):
            if not (labels == label).any():
                raise DataError(f"not one image of the class {name!r} can be read; convert some of them, or remove it")

    # ------------------------------------------------------------ the rule

    def _rule(self, files: Sequence[_File]) -> DecodingRule:
        asked = self._reading
        # one colour image makes all of them colour: grey would lose what tells classes apart
        channels = asked.channels or (1 if all(f.facts.grey for f in files) else 3)
        rule = DecodingRule(channels=channels, ground=asked.ground, value_range=asked.value_range, size=asked.size)
        deep = [f for f in files if f.facts.deep]
        if not deep or rule.value_range is not None:
            return rule
        # where both are, no single range maps both kinds alike
        plain = next((f for f in files if not f.facts.deep), None)
        if plain is not None:
            raise DataError(
                f"{len(deep):,} images have more than eight bits of grey (the first: {shown(deep[0].path)}), others "
                f"eight ({shown(plain.path)}). Say which stored values of the former are black and white: "
                f"{self._source}?range=0..65535"
            )
        # of the training images alone: the test set must not decide how it is read
        return replace(rule, value_range=self._range([f.path for f in deep if f.part == "train"]))

    def _range(self, paths: Sequence[Path]) -> tuple[float, float]:
        """Lowest and highest stored value of the training images: one range for the whole set."""
        low, high = np.inf, -np.inf
        kept: list[npt.NDArray[Any]] = []
        for path in paths:
            try:
                raw = raw_grey(path)
            except DataError:
                if not self._skip:
                    raise
                continue  # it is left out when it is decoded
            low, high = min(low, float(raw.min())), max(high, float(raw.max()))
            # a sample of each image: all values of all images may not fit into memory
            kept.append(raw.ravel()[:: max(1, raw.size // _VALUES_AN_IMAGE)])
        if not low < high:
            raise DataError(f"every pixel of every training image of {self._source} has the same value")
        # one hot pixel must not use up the range: told, not decided
        inner, outer = np.quantile(np.concatenate(kept), [0.001, 0.999])
        if outer - inner < (high - low) / 8:
            self._found.warnings.append(
                f"99.8 % of the pixels lie within {inner:g}..{outer:g} of the range {low:g}..{high:g}, so that few "
                f"grey levels are left to them; is {self._source}?range={inner:g}..{outer:g} meant?"
            )
        return low, high

    # ------------------------------------------------------------ the pixels

    def _decode(self, files: Sequence[_File], rule: DecodingRule) -> tuple[UInt8Array, Int64Array]:
        images: UInt8Array | None = None
        labels = np.zeros(len(files), np.int64)
        n = 0
        hidden: list[Path] = []
        dark, brightest = [f.path for f in files if f.facts.deep_colour], 0
        for file in files:
            try:
                decoded = decode_fully(file.path, rule)
            except DataError as e:
                self._leave_out(e, file.path, part=file.part, name=file.class_name)
                continue
            pixels = decoded.pixels
            if images is None:
                # known with the first image, and said before hours of decoding end in a MemoryError
                require_memory(len(files) * pixels.size, what=f"{len(files):,} images of {_size(pixels)}")
                # (N, H, W, C), filled in place: a list and its stack would take twice the memory
                images, first = np.empty((len(files), *pixels.shape), np.uint8), file.path
            if pixels.shape != images.shape[1:]:
                raise DataError(
                    f"{shown(file.path)} is {_size(pixels)} pixels, but {shown(first)} is {_size(images[0])}; give a "
                    f"common size: {self._source}?size=64"
                )
            images[n], labels[n] = pixels, file.label
            n += 1
            self._used[file.part].append(file.path)
            self._transparent += decoded.transparent
            if decoded.hidden:
                hidden.append(file.path)
            if file.facts.deep_colour:
                brightest = max(brightest, int(pixels.max()))
        if images is None:
            raise DataError(f"not one image of {self._source} can be read")
        if hidden:
            others = " or ".join(f"ground={g}" for g in ("white", "grey", "black") if g != rule.ground)
            raise DataError(
                f"{len(hidden):,} images show nothing on a {rule.ground} ground, though something is drawn in their "
                f"transparency (the first: {shown(hidden[0])}); lay them on another: {self._source}?{others}"
            )
        if dark and brightest < _DARK:
            raise DataError(
                f"{len(dark):,} images have 16 bits a channel, of which the upper eight are kept, but no pixel is "
                f"brighter than {brightest} of 255 then (the first: {shown(dark[0])}); save them with 8 bits a channel"
            )
        # fewer than N where unreadable ones were left out
        return images[:n], labels[:n]

    # ------------------------------------------------------------ what is told

    def _describe_decoding(self, files: Sequence[_File], rule: DecodingRule) -> Iterator[str]:
        n = {f.name: sum(getattr(file.facts, f.name) for file in files) for f in fields(ImageFacts)}
        if self._transparent:
            yield f"{self._transparent:,} images are transparent in places: laid on a {rule.ground} ground"
        if n["deep"] and rule.value_range:
            low, high = rule.value_range
            which = "as given" if self._reading.value_range else "the range of the training images"
            yield f"{n['deep']:,} images have more than eight bits of grey: {low:g}..{high:g} becomes 0..255 ({which})"
        if n["deep_colour"]:
            yield f"{n['deep_colour']:,} images have 16 bits a channel: the upper eight are kept"
        if n["frames"]:
            yield f"{n['frames']:,} images have several frames or pages: the first is used"
        if n["cmyk"]:
            yield f"{n['cmyk']:,} images are CMYK: converted to RGB without a colour profile"
        if rule.channels == 1 and (colour := len(files) - n["grey"]):
            yield f"{colour:,} images of colours are read as grey"

    def _doubts(self, files: Sequence[_File]) -> Iterator[str]:
        profiled = [file for file in files if file.facts.profile]
        if profiled:
            yield (
                f"{len(profiled):,} images have a colour profile other than sRGB, which is not applied (the first: "
                f"{shown(profiled[0].path)})"
            )


def _size(pixels: UInt8Array) -> str:
    return f"{pixels.shape[1]}x{pixels.shape[0]}"
