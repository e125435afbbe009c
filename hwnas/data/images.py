"""Read stored images into arrays: looked at once, then decoded by one rule for all of them.

What lies where is `discovery`'s for folders and `arrow_files`'s for tables, one image's pixels are `decoding`'s. Knows
no networks.
"""

from __future__ import annotations

from collections.abc import Iterator, Mapping, Sequence
from dataclasses import dataclass, fields, replace
from pathlib import Path
from typing import Any

import numpy as np
import numpy.typing as npt

from hwnas.data.arrays import Int64Array, LeftOut, UInt8Array
from hwnas.data.decoding import Decoded, DecodingRule, ImageFacts, decode_fully, look, raw_grey
from hwnas.data.discovery import FolderOptions, discover
from hwnas.data.memory import available_memory, require_memory
from hwnas.data.stored import ImageFile, Listed, StoredImage
from hwnas.data.streamed import StreamedImages, in_pieces
from hwnas.errors import DataError
from hwnas.foreign import shown

_VALUES_AN_IMAGE = 1000  # of deep grey, kept to judge the range by
_AT_ONCE = 16  # images decoded by all processors, before what they show is looked at
_SHARE = 0.5  # of the memory that is left, which images may take: training needs some too
_DARK = 64  # of 255: colour of 16 bits that never gets brighter has lost two of its eight bits


@dataclass(frozen=True, slots=True, kw_only=True)
class ReadingOptions:
    """How images are to be read, as far as the user said.

    Attributes:
        size: see `DecodingRule`.
        channels: 1 or 3; None: 1 if every image is grey, else 3.
        ground: see `DecodingRule`.
        value_range: see `DecodingRule`; None: that of the training images, if they have more than eight bits of grey.
        skip_unreadable: leave out images that cannot be read; they are refused otherwise.
        stream: decode images when they are needed (True) or keep them all (False); None: as memory allows.
    """

    size: int | None = None
    channels: int | None = None
    ground: str = "white"
    value_range: tuple[float, float] | None = None
    skip_unreadable: bool = False
    stream: bool | None = None


@dataclass(frozen=True, slots=True, kw_only=True, eq=False)
class Images:
    """What a source of stored images gives.

    Attributes:
        parts: of `PARTS` -> images (N, H, W, C), in memory or decoded when they are read, and labels (N,).
        files: of `PARTS` -> what the images were read from; empty where they have no files of their own.
        class_names: in the order of the labels.
        rule: by which files became pixels.
        left_out: what is not used, and why.
        notes: what was chosen, where it is not obvious.
        warnings: what may be a mistake.
    """

    parts: dict[str, tuple[UInt8Array | StreamedImages, Int64Array]]
    files: dict[str, tuple[Path, ...]]
    class_names: tuple[str, ...]
    rule: DecodingRule
    left_out: tuple[LeftOut, ...]
    notes: tuple[str, ...]
    warnings: tuple[str, ...]


@dataclass(frozen=True, slots=True)
class _Looked:
    """An image that was found, with what its header says."""

    at: Listed
    facts: ImageFacts


def read_image_folder(root: Path, *, options: FolderOptions, reading: ReadingOptions) -> Images:
    """The images of a folder, by parts (`train`, perhaps `val` and `test`) and classes.

    Args:
        root: holds one folder a class, or a folder for each part with one folder a class each.
        options: what the user said about the folders.
        reading: what the user said about the images.

    Raises:
        DataError: see `discover` and `read_images`.
    """
    source = f"folder:{shown(root)}"
    found = discover(root, source=source, options=options)
    listed = {
        # classes are sorted, so a label is the same in every part
        part: [
            Listed(ImageFile(path), part, name, label)
            for label, (name, paths) in enumerate(classes.items())
            for path in paths
        ]
        for part, classes in found.files.items()
    }
    images = read_images(listed, class_names=tuple(found.files["train"]), source=source, reading=reading)
    return replace(
        images,
        left_out=(*found.left_out, *images.left_out),
        notes=(*found.notes, *images.notes),
        warnings=(*found.warnings, *images.warnings),
    )


def read_images(
    listed: Mapping[str, Sequence[Listed]], *, class_names: Sequence[str], source: str, reading: ReadingOptions
) -> Images:
    """The pixels of images that were found.

    Args:
        listed: "train", perhaps "val" and "test" -> their images.
        class_names: in the order of the labels.
        source: the data source without options, for messages: `folder:photos`.
        reading: what the user said about the images.

    Raises:
        DataError: an unreadable image; images of several sizes; 8 bits and more than 8 mixed.
    """
    return _Reader(listed, class_names=tuple(class_names), source=source, reading=reading).read()


class _Reader:
    def __init__(
        self,
        listed: Mapping[str, Sequence[Listed]],
        *,
        class_names: tuple[str, ...],
        source: str,
        reading: ReadingOptions,
    ) -> None:
        self._listed = listed
        self._class_names = class_names
        self._source = source
        self._reading = reading
        self._left_out: list[LeftOut] = []
        self._notes: list[str] = []
        self._warnings: list[str] = []
        self._streamed: bool | None = None
        self._transparent = 0
        self._used: dict[str, list[Path]] = {part: [] for part in listed}

    def read(self) -> Images:
        # all headers before any pixel: one rule for the whole set needs to know them all
        files = list(self._look())
        rule = self._rule(files)
        parts = {part: self._decode([f for f in files if f.at.part == part], rule) for part in self._listed}
        self._refuse_lost_classes(parts["train"][1])
        return Images(
            parts=parts,
            files={part: tuple(paths) for part, paths in self._used.items() if paths},
            class_names=self._class_names,
            rule=rule,
            left_out=tuple(self._left_out),
            notes=(*self._describe_decoding(files, rule), *self._notes),
            warnings=(*self._warnings, *self._doubts(files)),
        )

    def _look(self) -> Iterator[_Looked]:
        """Every image with what its header says."""
        for listed in self._listed.values():
            for at in listed:
                try:
                    yield _Looked(at, look(at.image.open()))
                except DataError as e:
                    self._leave_out(e, at)

    def _leave_out(self, error: DataError, at: Listed) -> None:
        """Leave an image out if the user wants that, else let the error go on."""
        if not self._reading.skip_unreadable:
            raise error
        reason = "an image that cannot be read"
        self._left_out.append(
            LeftOut(part=at.part, class_name=at.class_name, reason=reason, count=1, example=str(at.image), image=True)
        )

    def _refuse_lost_classes(self, labels: Int64Array) -> None:
        """Hold that of every class with training images one could be read."""
        for label in sorted({at.label for at in self._listed["train"]}):
            name = self._class_names[label]
            if not (labels == label).any():
                raise DataError(f"not one image of the class {name!r} can be read; convert some of them, or remove it")

    # ------------------------------------------------------------ the rule

    def _rule(self, files: Sequence[_Looked]) -> DecodingRule:
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
                f"{len(deep):,} images have more than eight bits of grey (the first: {deep[0].at.image}), others "
                f"eight ({plain.at.image}). Say which stored values of the former are black and white: "
                f"{self._source}?range=0..65535"
            )
        # of the training images alone: the test set must not decide how it is read
        return replace(rule, value_range=self._range([f.at for f in deep if f.at.part == "train"]))

    def _range(self, images: Sequence[Listed]) -> tuple[float, float]:
        """Lowest and highest stored value of the training images: one range for the whole set."""
        low, high = np.inf, -np.inf
        kept: list[npt.NDArray[Any]] = []
        for at in images:
            try:
                raw = raw_grey(at.image.open())
            except DataError:
                if not self._reading.skip_unreadable:
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
            self._warnings.append(
                f"99.8 % of the pixels lie within {inner:g}..{outer:g} of the range {low:g}..{high:g}, so that few "
                f"grey levels are left to them; is {self._source}?range={inner:g}..{outer:g} meant?"
            )
        return low, high

    # ------------------------------------------------------------ the pixels

    def _decode(self, files: Sequence[_Looked], rule: DecodingRule) -> tuple[UInt8Array | StreamedImages, Int64Array]:
        """Every image decoded once; kept as pixels, or as what is read again, if they are many."""
        images: UInt8Array | None = None
        shape: tuple[int, int, int] | None = None
        stored: list[StoredImage] = []
        labels: list[int] = []
        hidden: list[Listed] = []
        brightest = 0
        for file, decoded in self._each(files, rule):
            pixels = decoded.pixels
            if shape is None:
                # known with the first image, and said before hours of decoding end in a MemoryError
                shape, first = (pixels.shape[0], pixels.shape[1], pixels.shape[2]), file.at.image
                if not self._is_streamed(pixels.size):
                    # (N, H, W, C), filled in place: a list and its stack would take twice the memory
                    images = np.empty((len(files), *shape), np.uint8)
            if pixels.shape != shape:
                raise DataError(
                    f"{file.at.image} is {_size(pixels.shape)} pixels, but {first} is {_size(shape)}; give a common "
                    f"size: {self._source}?size=64"
                )
            if images is not None:
                images[len(stored)] = pixels
            stored.append(file.at.image)
            labels.append(file.at.label)
            self._transparent += decoded.transparent
            if decoded.hidden:
                hidden.append(file.at)
            if file.facts.deep_colour:
                brightest = max(brightest, int(pixels.max()))
        if shape is None:
            raise DataError(f"not one image of {self._source} can be read")
        self._refuse_unseen(hidden, dark=[f.at for f in files if f.facts.deep_colour], brightest=brightest, rule=rule)
        paths = [image.path for image in stored if image.path is not None]
        if files and paths:
            self._used[files[0].at.part].extend(paths)
        # fewer than N where unreadable ones were left out
        held = StreamedImages(stored, rule=rule, shape=shape) if images is None else images[: len(stored)]
        return held, np.array(labels, np.int64)

    def _each(self, files: Sequence[_Looked], rule: DecodingRule) -> Iterator[tuple[_Looked, Decoded]]:
        """The images in order, decoded, without those that cannot be."""

        def tried(file: _Looked) -> Decoded | DataError:
            try:
                return decode_fully(file.at.image.open(), rule)
            except DataError as e:
                return e

        for at, piece in enumerate(in_pieces(tried, files, step=_AT_ONCE)):
            for file, found in zip(files[at * _AT_ONCE :], piece, strict=False):
                if isinstance(found, DataError):
                    self._leave_out(found, file.at)
                else:
                    yield file, found

    def _is_streamed(self, image_bytes: int) -> bool:
        """Whether images are decoded when they are read, rather than kept in memory: decided once, for all parts."""
        if self._streamed is None:
            n = sum(map(len, self._listed.values()))
            needed, free = n * image_bytes, available_memory()
            told = f"{n:,} images take {needed / 1e9:,.3g} GB of memory"
            if self._reading.stream is not None:
                self._streamed = self._reading.stream
            else:
                self._streamed = free is not None and needed > free * _SHARE
            if self._streamed:
                left = "" if free is None else f", of {free / 1e9:.3g} GB that are free"
                self._notes.append(
                    f"{told}{left}: they are read from their files whenever they are needed (stream=never keeps them)"
                )
            else:
                require_memory(needed, what=f"{n:,} images")
        return self._streamed

    def _refuse_unseen(
        self, hidden: Sequence[Listed], *, dark: Sequence[Listed], brightest: int, rule: DecodingRule
    ) -> None:
        """Hold that something is seen of drawings on nothing, and of colour with 16 bits."""
        if hidden:
            others = " or ".join(f"ground={g}" for g in ("white", "grey", "black") if g != rule.ground)
            raise DataError(
                f"{len(hidden):,} images show nothing on a {rule.ground} ground, though something is drawn in their "
                f"transparency (the first: {hidden[0].image}); lay them on another: {self._source}?{others}"
            )
        if dark and brightest < _DARK:
            raise DataError(
                f"{len(dark):,} images have 16 bits a channel, of which the upper eight are kept, but no pixel is "
                f"brighter than {brightest} of 255 then (the first: {dark[0].image}); save them with 8 bits a channel"
            )

    # ------------------------------------------------------------ what is told

    def _describe_decoding(self, files: Sequence[_Looked], rule: DecodingRule) -> Iterator[str]:
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

    def _doubts(self, files: Sequence[_Looked]) -> Iterator[str]:
        profiled = [file for file in files if file.facts.profile]
        if profiled:
            yield (
                f"{len(profiled):,} images have a colour profile other than sRGB, which is not applied (the first: "
                f"{profiled[0].at.image})"
            )


def _size(shape: Sequence[int]) -> str:
    return f"{shape[1]}x{shape[0]}"
