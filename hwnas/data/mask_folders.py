"""Folders of images and of their masks: which lie where, which belong together, which classes there are.

Images and masks lie in folders of their own, `images` and `masks` or of names that say the same, and a mask has its
image's name but for the ending. Parts are folders around those, within them, or words of their names. Knows files;
the pixels of one mask are `mask_files`'s.
"""

from __future__ import annotations

import codecs
import re
from collections.abc import Iterator, Mapping, Sequence
from dataclasses import dataclass, replace
from itertools import chain
from pathlib import Path, PurePath
from typing import TypeVar

import numpy as np

from hwnas.data.arrays import LeftOut, UInt8Array
from hwnas.data.augment import IGNORED
from hwnas.data.discovery import folder_below, hold_apart
from hwnas.data.images import Images, ReadingOptions, read_images
from hwnas.data.mask_files import check_mask, read_mask, seen_size
from hwnas.data.memory import require_memory
from hwnas.data.naming import class_names
from hwnas.data.part_names import PARTS, part_of
from hwnas.data.stored import ImageFile, Listed
from hwnas.data.streamed import in_pieces
from hwnas.data.tree import Folder, read_tree
from hwnas.errors import DataError
from hwnas.foreign import ForeignFileError, read_foreign, shown

_IMAGES = frozenset(["image", "images", "img", "imgs", "photo", "photos", "picture", "pictures"])
_MASKS = frozenset(["mask", "masks", "label", "labels", "annotation", "annotations", "segmentation", "segmentations"])
_NAMES_FILE = "classes.txt"
_LARGEST_NAMES = 1 << 16  # bytes
_AT_ONCE = 16  # masks
_T = TypeVar("_T")
_LAYOUTS = "images/ and masks/, or those two in folders of parts (train, val, test), or parts in each of those two"


@dataclass(frozen=True, slots=True, kw_only=True)
class MaskedImages:
    """Images with the class of each of their pixels.

    Attributes:
        images: as they were read; their labels say nothing.
        masks: of `PARTS` -> (N, H, W), in the order of the images.
        class_names: in the order of the indices; None: nobody named them.
    """

    images: Images
    masks: dict[str, UInt8Array]
    class_names: tuple[str, ...] | None


def read_masked_folder(root: Path, *, folders: Mapping[str, str], reading: ReadingOptions) -> MaskedImages:
    """The images of a folder, by parts (`train`, perhaps `val` and `test`), with their masks.

    A file `classes.txt` beside them may name the classes, one a line.

    Args:
        root: the folder.
        folders: part -> its folder, as a path below the root, as far as the user said; empty: by their names.
        reading: what the user said about the images.

    Raises:
        DataError: images or masks are not found, or not in pairs of one size; a mask holds no class indices, or more
            than there are classes; see also `read_images`.
    """
    source = f"folder:{shown(root)}"
    skip = reading.skip_unreadable
    whole = read_tree(root)
    # paths that the user named are of the folder that they named
    tree = whole if folders and all(_is_below(whole, path) for path in folders.values()) else _unwrapped(whole)
    parts = _parts(tree, folders)
    named = _names_file(tree.path, root=root)
    left_out = list(_unused(tree, used=list(chain.from_iterable(parts.values())), named=named))
    pairs = {
        part: dict(_pairs(images, masks, part=part, left_out=left_out, skip=skip))
        for part, (images, masks) in parts.items()
    }
    names = None if named is None else _names(named)
    # headers before any pixel: an hour of decoding must not end with a mask of another size
    for image, mask in chain.from_iterable(p.items() for p in pairs.values()):
        try:
            wanted = seen_size(image)
        except DataError:
            if not skip:
                raise
            continue  # it is left out when it is decoded
        check_mask(mask, image=image, wanted=wanted)
    listed = {part: [Listed(ImageFile(image), part, "", 0) for image in found] for part, found in pairs.items()}
    images = read_images(listed, class_names=("",), source=source, reading=reading)
    masks = _masks(images, pairs, size=reading.size, names=names)
    return MaskedImages(images=replace(images, left_out=(*left_out, *images.left_out)), masks=masks, class_names=names)


def folder_beside_masks(root: Path) -> Path | None:
    """The first folder of images with a folder of masks beside it, at or below a folder; None: there is none."""
    found = (two for folder in read_tree(root).walk() for two in _by_names(folder).values())
    return next((images.path for images, _ in found), None)


# ---------------------------------------------------------------- which folders


def _unwrapped(folder: Folder) -> Folder:
    """The folder that the images lie in: archives often unpack into one of their own."""
    while len(folder.holding) == 1 and not folder.own and not _by_part(folder.holding) and not _by_names(folder):
        (folder,) = folder.holding
    return folder


def _parts(root: Folder, named: Mapping[str, str]) -> dict[str, tuple[Folder, Folder]]:
    """Part -> the folders of its images and of its masks."""
    found = _by_names(root)
    whole = found.get("train")
    if named:  # folders that hold the two, or that are held by them
        if whole is None or all(_is_below(root, path) for path in named.values()):
            hold_apart({p: folder_below(root, path, option=p) for p, path in named.items()})
            return _complete({p: _both(folder_below(root, path, option=p)) for p, path in named.items()}, root)
        images, masks = ({p: folder_below(f, path, option=p) for p, path in named.items()} for f in whole)
        hold_apart(images)
        return _complete({p: (images[p], masks[p]) for p in named}, root)
    if not found:
        return _complete({p: _both(f) for p, f in _by_part(root.holding).items() if p != "unlabelled"}, root)
    if set(found) == {"train"} and whole is not None and not whole[0].own:  # perhaps with parts in each of the two
        images, masks = (_by_part(folder.holding) for folder in whole)
        if "train" in images:
            alone = sorted(images.keys() ^ masks.keys())
            if alone:
                lacking, has = (whole[1], whole[0]) if alone[0] in images else (whole[0], whole[1])
                raise DataError(
                    f"{shown(has.name)} in {shown(root.path)} has a part {alone[0]!r} that {shown(lacking.name)} has "
                    "not; add it, or name the parts that are to be used: train=FOLDER&val=FOLDER&test=FOLDER"
                )
            found = {p: (images[p], masks[p]) for p in images}
    return _complete(found, root)


def _is_below(root: Folder, path: str) -> bool:
    """Whether a folder has one at this path; of a path that is none too, which is refused where it is followed."""
    try:
        folder_below(root, path, option="")
    except DataError:
        return False
    return True


def _both(folder: Folder) -> tuple[Folder, Folder]:
    found = _by_names(folder)
    if "train" in found:
        return found["train"]
    if len(found) == 1:  # `train/train_images`
        return next(iter(found.values()))
    raise _unknown(folder)


def _complete(found: dict[str, tuple[Folder, Folder]], root: Folder) -> dict[str, tuple[Folder, Folder]]:
    if "train" not in found:
        raise _unknown(root)
    if "eval" in found:
        name = shown(found["eval"][0].path.relative_to(root.path))
        raise DataError(
            f"{name} in {shown(root.path)} may be for validation or for the test; call it val or test, or say so with "
            "the options train, val and test"
        )
    return {part: found[part] for part in PARTS if part in found}


def _unknown(folder: Folder) -> DataError:
    held = ", ".join(shown(inner.name) for inner in folder.folders[:8]) or "no folder"
    return DataError(
        f"no images with masks are found in {shown(folder.path)}, which holds {held}; a segmentation reads {_LAYOUTS}. "
        "A part with another name is told so: train=FOLDER&val=FOLDER&test=FOLDER"
    )


def _by_names(folder: Folder) -> dict[str, tuple[Folder, Folder]]:
    """Part -> the folders that are called images and masks, of that part if they say one: `images`, `masks_test`."""
    found: dict[str, dict[str, Folder]] = {}
    for inner in folder.holding:
        words = re.findall(r"[a-z]+", re.sub(r"(?<=[a-z])(?=[A-Z])", " ", inner.name).lower())
        kinds = ["masks" if w in _MASKS else "images" for w in words if w in _MASKS | _IMAGES]
        if not kinds:
            continue
        kind = "masks" if "masks" in kinds else "images"  # of `image labels` too
        rest = [w for w in words if w not in _MASKS | _IMAGES]
        part = part_of(" ".join(rest)) if rest else None
        if rest and (part is None or not part.alone):
            continue
        named = found.setdefault(part.role if part else "train", {})
        if kind in named:
            raise DataError(
                f"{shown(named[kind].name)!r} and {shown(inner.name)!r} in {shown(folder.path)} may both be the folder "
                f"of {kind}; rename or move one of them"
            )
        named[kind] = inner
    return _told({part: (f["images"], f["masks"]) for part, f in found.items() if len(f) == 2})


def _by_part(folders: Sequence[Folder]) -> dict[str, Folder]:
    """Part -> the folder that is named like it; empty where two are named like one."""
    named = [(part.role, f) for f in folders if (part := part_of(f.name)) is not None and part.alone]
    found = dict(named)
    return _told(found) if len(found) == len(named) else {}


def _told(found: dict[str, _T]) -> dict[str, _T]:
    """`eval` means validation or test: the other of the two if one is there."""
    if "eval" in found and ("val" in found) != ("test" in found):
        return {("test" if "val" in found else "val") if part == "eval" else part: f for part, f in found.items()}
    return found


def _unused(folder: Folder, *, used: Sequence[Folder], named: Path | None) -> Iterator[LeftOut]:
    """Everything outside the folders of images and masks, but for the file that names classes."""
    if any(folder is one for one in used):
        return
    for odd in folder.odd:
        if odd.path == named:
            continue
        yield LeftOut(part="", class_name="", reason=odd.reason, count=odd.count, example=shown(odd.path))
    if folder.images:
        yield LeftOut(
            part="",
            class_name="",
            reason="outside the folders of images and masks",
            count=len(folder.images),
            example=shown(folder.images[0]),
            image=True,
        )
    for inner in folder.folders:
        yield from _unused(inner, used=used, named=named)


# ---------------------------------------------------------------- which files


def _pairs(
    images: Folder, masks: Folder, *, part: str, left_out: list[LeftOut], skip: bool
) -> Iterator[tuple[Path, Path]]:
    """Each image with its mask, sorted."""
    for folder in (images, masks):
        for odd in chain.from_iterable(inner.odd for inner in folder.walk()):
            if odd.image and not (skip and folder is images):
                raise DataError(f"{shown(odd.path)} cannot be used: {odd.reason}; convert, repair or remove it")
            left_out.append(
                LeftOut(
                    part=part,
                    class_name="",
                    reason=odd.reason,
                    count=odd.count,
                    example=shown(odd.path),
                    image=odd.image,
                )
            )
    found, held = _by_stem(images), _by_stem(masks)
    for odd in chain.from_iterable(inner.odd for inner in images.walk()):
        if odd.image:  # skipped, and so is its mask
            held.pop(odd.path.relative_to(images.path).with_suffix(""), None)
    for what, has, lacks in (("image", found, held), ("mask", held, found)):
        if alone := has.keys() - lacks.keys():
            other = "a mask" if what == "image" else "an image"
            raise DataError(
                f"{what}s of which there is not {other} of the same name but for the ending: {len(alone):,}, the first "
                f"is {shown(has[min(alone)])}; add what is missing, or remove the {what}"
            )
    for stem in sorted(found):
        yield found[stem], held[stem]


def _by_stem(folder: Folder) -> dict[PurePath, Path]:
    """Path below the folder without its ending -> the file."""
    found: dict[PurePath, Path] = {}
    for path in chain.from_iterable(inner.images for inner in folder.walk()):
        stem = path.relative_to(folder.path).with_suffix("")
        if stem in found:
            raise DataError(f"{shown(found[stem])} and {shown(path)} differ in their endings only; remove one of them")
        found[stem] = path
    return found


# ---------------------------------------------------------------- which classes


def _names_file(folder: Path, *, root: Path) -> Path | None:
    """Beside the images, or around the folder that an archive unpacked into."""
    around = [folder, *(above for above in folder.parents if above.is_relative_to(root))]
    return next((found for above in around if (found := above / _NAMES_FILE).is_file()), None)


def _names(file: Path) -> tuple[str, ...]:
    try:
        text = read_foreign(file, limit_bytes=_LARGEST_NAMES).removeprefix(codecs.BOM_UTF8)
    except (OSError, ForeignFileError) as e:
        raise DataError(f"the names of the classes, {shown(file)}, cannot be read: {e}") from e
    return class_names([line.strip() for line in text.splitlines() if line.strip()])


def _masks(
    images: Images, pairs: Mapping[str, Mapping[Path, Path]], *, size: int | None, names: Sequence[str] | None
) -> dict[str, UInt8Array]:
    """Part -> (N, H, W), of the images that could be read."""
    shapes = {part: found.shape[:3] for part, (found, _) in images.parts.items()}
    require_memory(sum(int(np.prod(s)) for s in shapes.values()), what=f"{sum(s[0] for s in shapes.values()):,} masks")
    first: dict[int, Path] = {}  # class -> the first training mask with a pixel of it
    n_classes = None if names is None else len(names)
    masks: dict[str, UInt8Array] = {}
    for part in images.parts:  # training first
        masks[part] = np.empty(shapes[part], np.uint8)
        files = [pairs[part][image] for image in images.files[part]]
        read = chain.from_iterable(in_pieces(lambda file: read_mask(file, size=size), files, step=_AT_ONCE))
        for i, (file, mask) in enumerate(zip(files, read, strict=True)):
            masks[part][i] = mask
            found = np.flatnonzero(np.bincount(mask.ravel(), minlength=IGNORED + 1)[:IGNORED]).tolist()
            if n_classes is not None and found and found[-1] >= n_classes:
                raise DataError(_beyond(file, found[-1], n_classes, named=names is not None))
            if part == "train":
                first |= {c: file for c in found if c not in first}
        if part == "train":
            _check_classes(first, has_ignored=bool((masks[part] == IGNORED).any()), names=names)
            n_classes = n_classes or max(first) + 1
    return masks


def _beyond(file: Path, found: int, n_classes: int, *, named: bool) -> str:
    known = f"{_NAMES_FILE} names" if named else "the training masks have"
    return (
        f"the mask {shown(file)} has a pixel of class {found}, but {known} {n_classes} classes, which go from 0 to "
        f"{n_classes - 1}; {IGNORED} is for pixels of no known class"
    )


def _check_classes(first: Mapping[int, Path], *, has_ignored: bool, names: Sequence[str] | None) -> None:
    """Hold that training masks have classes from 0 without gaps, and all that are named."""
    if not first:
        raise DataError("training masks: not one pixel is of a known class")
    if set(first) == {0} and has_ignored:
        raise DataError(
            f"the training masks hold 0 and {IGNORED} only, and {IGNORED} is for pixels of no known class; save 1 for "
            f"what is now {IGNORED}"
        )
    gap = next(c for c in range(IGNORED + 1) if c not in first)
    if names is not None and gap < len(names):
        raise DataError(
            f"no training mask has a pixel of class {gap} ({shown(names[gap])}), which {_NAMES_FILE} names; add one to "
            f"the training images, or take the class out of {_NAMES_FILE} and of all masks"
        )
    if gap <= max(first):
        raise DataError(
            f"the mask {shown(first[max(first)])} has a pixel of class {max(first)}, but no training mask one of class "
            f"{gap}; number the classes from 0 without gaps"
        )
