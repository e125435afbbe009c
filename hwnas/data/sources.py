"""The data sources registered by hwnas: each reads one kind of data and gives it as found.

Checking and splitting are `load.py`'s. A source must never know torch, networks or devices.
"""

from __future__ import annotations

from collections.abc import Mapping
from dataclasses import replace
from pathlib import Path
from typing import Any

import numpy as np
import numpy.typing as npt

from hwnas import registry
from hwnas.data.array_names import understood
from hwnas.data.arrays import Data, RawData
from hwnas.data.augment import POLICIES, Augment, policy
from hwnas.data.discovery import FolderOptions
from hwnas.data.idx import read_idx_folder
from hwnas.data.images import Images, read_image_folder
from hwnas.data.mask_folders import folder_beside_masks, read_masked_folder
from hwnas.data.naming import class_names
from hwnas.data.npz import Archive
from hwnas.data.options import READING, check_known, reading_options, word
from hwnas.data.part_names import PARTS
from hwnas.data.paths import existing
from hwnas.data.python_source import GIVES_DATA, arrays_of, as_given
from hwnas.data.targets import CLASS_INDICES, MASKS, TargetKind
from hwnas.errors import DataError, MissingPackageError
from hwnas.foreign import shown
from hwnas.user_functions import call_function

_FASHION = ("T-shirt", "Trouser", "Pullover", "Dress", "Coat", "Sandal", "Shirt", "Sneaker", "Bag", "Ankle boot")


def digits(argument: str, *, options: Mapping[str, str]) -> RawData:
    """scikit-learn's 1,797 hand-written digits of 8x8 pixels; needs no file. Takes no argument.

    Raises:
        DataError: an argument or option was given.
        MissingPackageError: scikit-learn is not installed.
    """
    # a misspelled option must not be passed over in silence
    check_known(options, source="digits")
    if argument:
        raise DataError(f"the source 'digits' takes nothing after its name, got {argument!r}")
    # the file that `sklearn.datasets.load_digits` reads; importing the package takes ten times as long
    package = registry.installed_file("sklearn")
    if package is None:
        raise MissingPackageError("scikit-learn", "", needed_for="the digits")
    rows = np.loadtxt(package.with_name("datasets") / "data" / "digits.csv.gz", delimiter=",")  # (N, 64 pixels, class)
    images = np.rint(rows[:, :-1].reshape(-1, 8, 8) * (255 / 16)).astype(np.uint8)  # 0..16 -> 0..255, (N, 8, 8)
    return RawData(
        name="digits",
        train=(images, rows[:, -1].astype(np.int64)),
        class_names=tuple(str(d) for d in range(10)),
        augment=POLICIES["text"],
    )


def idx(argument: str, *, options: Mapping[str, str]) -> RawData:
    """A folder with MNIST's files: `train-images-idx3-ubyte`, `train-labels-idx1-ubyte`, `t10k-...`, also .gz.

    A folder whose name contains "fashion" gets Fashion-MNIST's class names.

    Raises:
        DataError: a file is missing, cut short, or not an idx file.
    """
    check_known(options, source="idx")
    folder = existing(argument, source="idx", folder=True)
    train, test = read_idx_folder(folder)
    # both data sets have the same files, names and shapes: only the folder's name tells them apart
    fashion = "fashion" in folder.resolve().name.lower()
    return RawData(
        name=folder.resolve().name,
        train=train,
        test=test,
        class_names=_FASHION if fashion else None,
        augment=POLICIES["centred" if fashion else "text"],
        # read here and held by nobody else, so it may be reordered in place
        handed_over=True,
    )


def npz(argument: str, *, options: Mapping[str, str]) -> RawData:
    """A numpy archive with `x_train`, `y_train` and, if there are, `x_val`, `y_val`, `x_test`, `y_test`.

    Names that say the same are understood (`train_images`, `train_labels`); so is an array `class_names` of text.

    Raises:
        DataError: the file is missing or damaged, or an array has no partner.
    """
    check_known(options, source="npz")
    path = existing(argument, source="npz", folder=False)
    archive = Archive(path)
    understood(archive.names, where=shown(path))  # before anything is read
    raw = _from_arrays(archive.read(archive.names), name=path.stem, where=shown(path), augment=POLICIES["none"])
    return replace(raw, handed_over=True)


def folder(
    argument: str, *, options: Mapping[str, str], targets: TargetKind = CLASS_INDICES, labelled: bool = True
) -> RawData:
    """One folder a class, or a folder for each part (training, validation, test) with one folder a class in each.

    Where masks are wanted: a folder `images` and a folder `masks`, see `mask_folders.py`. Where labels are left aside
    (not `labelled`), masks among the images are refused.

    Options:
        size: pixels; images are cut to a centred square and resized.
        channels: 1 or 3; by default 1 if every image is grey.
        ground: white, grey or black: what lies under transparent pixels; white by default.
        range: `LOW..HIGH`, the stored values that become black and white in grey images of more than eight bits;
            by default those of the training images.
        train, val, test: which folder is which part, where the names do not say it.
        parts: `none` says that every sub-folder is a class, whatever it is called.
        classes: `none` says that folders are no classes: every image below is taken, and has no label.
        unreadable: `skip` leaves out images that cannot be read, which are refused otherwise.

    `parts` and `classes` are not for masks.

    Raises:
        DataError: no class, an unreadable image, images of several sizes and no `size`, ...
    """
    if targets is MASKS and labelled:
        return _masked_folder(argument, options=options)
    check_known(options, source="folder", known=(*READING, *PARTS, "parts", "classes"))
    path = existing(argument, source="folder", folder=True)
    if targets is MASKS and (beside := folder_beside_masks(path)) is not None:
        raise DataError(
            f"{shown(path)} has masks beside its images, which would be read as images where their labels are the "
            f"network's answers; name the images alone: folder:{shown(beside)}?classes=none"
        )
    reading = reading_options(options)
    stated = FolderOptions(
        folders={part: options[part] for part in PARTS if part in options},
        no_parts=word(options, "parts", allowed=("none",)) is not None,
        no_classes=word(options, "classes", allowed=("none",)) is not None,
        skip_unreadable=reading.skip_unreadable,
    )
    if stated.folders and stated.no_parts:
        raise DataError(f"the option parts=none contradicts {', '.join(stated.folders)}; give one or the other")
    if stated.no_classes and stated.no_parts:
        raise DataError("the option parts=none says that folders are classes, and classes=none that they are not")
    found = read_image_folder(path, options=stated, reading=reading)
    parts = {p: (images, None if stated.no_classes else labels) for p, (images, labels) in found.parts.items()}
    return _read_below(path, found, parts, class_names=None if stated.no_classes else found.class_names)


def _masked_folder(argument: str, *, options: Mapping[str, str]) -> RawData:
    check_known(options, source="folder", known=(*READING, *PARTS))
    path = existing(argument, source="folder", folder=True)
    stated = {part: options[part] for part in PARTS if part in options}
    found = read_masked_folder(path, folders=stated, reading=reading_options(options))
    parts = {part: (pixels, found.masks[part]) for part, (pixels, _) in found.images.parts.items()}
    return _read_below(path, found.images, parts, class_names=found.class_names)


def _read_below(
    path: Path,
    images: Images,
    parts: Mapping[str, tuple[npt.ArrayLike, npt.ArrayLike | None]],
    *,
    class_names: tuple[str, ...] | None,
) -> RawData:
    """What was read below a folder, by parts."""
    return RawData(
        name=shown(path.resolve().name),
        train=parts["train"],
        validation=parts.get("val"),
        test=parts.get("test"),
        class_names=class_names,
        augment=POLICIES["natural"],
        decoding=images.rule,
        files=images.files,
        left_out=images.left_out,
        notes=images.notes,
        warnings=images.warnings,
        handed_over=True,
    )


def python(argument: str, *, options: Mapping[str, str]) -> RawData | Data:
    """What the function at `module:function` gives: a `Data`, a `RawData`, or a dict of arrays as in `npz`.

    The working directory is searched for the module first. The function is called with the options as
    keyword arguments (text). A dict may also hold `class_names` and `augment` (a policy's name or an `Augment`).

    Raises:
        DataError: the function fails or gives something else.
        ConfigError: there is no such function.
    """
    given = as_given(call_function(argument, GIVES_DATA, options=options), target=argument)
    if isinstance(given, Data | RawData):
        return given
    name = argument.rpartition(":")[2]
    return _from_arrays(arrays_of(given), name=name, where=argument, augment=POLICIES["none"])


def _from_arrays(arrays: Mapping[Any, Any], *, name: str, where: str, augment: Augment) -> RawData:
    names = understood(arrays, where=where)
    parts = {part: (arrays[names[f"x_{part}"]], arrays[names[f"y_{part}"]]) for part in PARTS if f"x_{part}" in names}
    other = [f"{given} as {meant}" for meant, given in names.items() if given != meant]
    return RawData(
        name=shown(name),
        train=parts["train"],
        validation=parts.get("val"),
        test=parts.get("test"),
        class_names=class_names(arrays["class_names"]) if "class_names" in names else None,
        augment=_augment(arrays["augment"], where=where) if "augment" in names else augment,
        notes=(f"read {', '.join(other)}",) if other else (),
    )


def _augment(given: Any, *, where: str) -> Augment:
    if isinstance(given, np.ndarray) and given.ndim == 0:
        # `numpy.savez` makes an array of a text
        given = given.item()
    if isinstance(given, str):
        return policy(given)
    if isinstance(given, Augment):
        return given
    raise DataError(
        f"{where}: augment is a {type(given).__name__}, but must be a policy's name ({', '.join(POLICIES)}) or a "
        "hwnas.data.Augment"
    )
