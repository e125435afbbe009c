"""The data sources registered by hwnas: each reads one kind of data and gives it as found.

Checking and splitting are `load.py`'s. A source must never know torch, networks or devices.
"""

from __future__ import annotations

import sys
import zipfile
import zlib
from collections.abc import Iterable, Mapping
from contextlib import contextmanager
from pathlib import Path
from typing import TYPE_CHECKING, Any

import numpy as np
import numpy.typing as npt

from hwnas import registry
from hwnas._places import user_path
from hwnas.data.arrays import Data, RawData
from hwnas.data.augment import POLICIES, Augment, policy
from hwnas.data.idx import read_idx_folder
from hwnas.data.images import read_image_folder
from hwnas.errors import DataError, HwnasError

if TYPE_CHECKING:
    from collections.abc import Iterator

_PARTS = {"train": "train", "val": "validation", "test": "test"}
_ARRAY_NAMES = tuple(f"{x}_{part}" for part in _PARTS for x in "xy")
_FASHION = ("T-shirt", "Trouser", "Pullover", "Dress", "Coat", "Sandal", "Shirt", "Sneaker", "Bag", "Ankle boot")


def digits(argument: str, *, options: Mapping[str, str]) -> RawData:
    """scikit-learn's 1,797 hand-written digits of 8x8 pixels; needs no file. Takes no argument.

    Raises:
        DataError: an argument or option was given.
    """
    _no_options(options, source="digits")
    if argument:
        raise DataError(f"the source 'digits' takes nothing after its name, got {argument!r}")
    from sklearn.datasets import load_digits

    found = load_digits()
    images = np.rint(found.images * (255 / 16)).astype(np.uint8)  # 0..16 -> 0..255, (N, 8, 8)
    return RawData(
        name="digits",
        train=(images, found.target.astype(np.int64)),
        class_names=tuple(str(d) for d in range(10)),
        augment=POLICIES["text"],
    )


def idx(argument: str, *, options: Mapping[str, str]) -> RawData:
    """A folder with MNIST's files: `train-images-idx3-ubyte`, `train-labels-idx1-ubyte`, `t10k-...`, also .gz.

    A folder whose name contains "fashion" gets Fashion-MNIST's class names.

    Raises:
        DataError: a file is missing, cut short, or not an idx file.
    """
    _no_options(options, source="idx")
    folder = _existing(argument, source="idx", folder=True)
    train, test = read_idx_folder(folder)
    fashion = "fashion" in folder.resolve().name.lower()
    return RawData(
        name=folder.resolve().name,
        train=train,
        test=test,
        class_names=_FASHION if fashion else None,
        augment=POLICIES["centred" if fashion else "text"],
    )


def npz(argument: str, *, options: Mapping[str, str]) -> RawData:
    """A numpy archive with `x_train`, `y_train` and, if there are, `x_val`, `y_val`, `x_test`, `y_test`.

    An array `class_names` of text is understood too.

    Raises:
        DataError: the file is missing or damaged, or an array has no partner.
    """
    _no_options(options, source="npz")
    path = _existing(argument, source="npz", folder=False)
    try:
        if not zipfile.is_zipfile(path):
            raise DataError(
                f"{path} is not a numpy archive (.npz) with {', '.join(_ARRAY_NAMES)}; write it with numpy.savez"
            )
        with path.open("rb") as file, np.load(file, allow_pickle=False) as archive:
            arrays: dict[str, Any] = {name: archive[name] for name in archive.files}
    except (OSError, EOFError, ValueError, zipfile.BadZipFile, zlib.error) as e:
        if isinstance(e, DataError):
            raise
        raise DataError(f"{path} cannot be read as a numpy archive: {e}; write it again with numpy.savez") from e
    if "class_names" in arrays:
        arrays["class_names"] = [str(n) for n in arrays["class_names"].tolist()]
    return _from_arrays(arrays, name=path.stem, where=str(path), augment=POLICIES["none"])


def folder(argument: str, *, options: Mapping[str, str]) -> RawData:
    """One folder a class, or `train/` and perhaps `val/` and `test/` with one folder a class in each.

    Options: `size` (pixels; images are cut to a centred square and resized), `channels` (1 or 3).

    Raises:
        DataError: no class, an unreadable image, images of several sizes and no `size`, ...
    """
    _no_options(options, source="folder", known=("size", "channels"))
    path = _existing(argument, source="folder", folder=True)
    size = _integer(options, "size", allowed=range(4, 4097))
    channels = _integer(options, "channels", allowed=(1, 3))
    parts, class_names = read_image_folder(path, size=size, channels=channels)
    return RawData(
        name=path.resolve().name,
        train=parts["train"],
        validation=parts.get("val"),
        test=parts.get("test"),
        class_names=class_names,
        augment=POLICIES["natural"],
    )


def python(argument: str, *, options: Mapping[str, str]) -> RawData | Data:
    """What the function at `module:function` gives: a `Data`, a `RawData`, or a dict of arrays as in `npz`.

    The working directory is searched for the module too. The function is called with the options as
    keyword arguments (text). A dict may also hold `class_names` and `augment` (a policy's name).

    Raises:
        DataError: the function fails or gives something else.
        ConfigError: there is no such function.
    """
    with _importable(Path.cwd()):
        function = registry.load_object(argument, needed_for="data source 'python'")
        try:
            found = function(**options)
        except HwnasError:
            raise
        except Exception as e:
            raise DataError(f"the data function {argument} failed: {type(e).__name__}: {e}") from e
    if isinstance(found, Data | RawData):
        return found
    if not isinstance(found, Mapping):
        raise DataError(
            f"the data function {argument} gave a {type(found).__name__}; it must give a dict with x_train and "
            f"y_train, or a hwnas.data.RawData"
        )
    return _from_arrays(found, name=argument.rpartition(":")[2], where=argument, augment=POLICIES["none"])


def _from_arrays(arrays: Mapping[str, Any], *, name: str, where: str, augment: Augment) -> RawData:
    unknown = sorted(set(arrays) - {*_ARRAY_NAMES, "class_names", "augment"})
    if unknown:
        raise DataError(f"{where} has {', '.join(unknown)}; known are {', '.join(_ARRAY_NAMES)}, class_names")
    parts: dict[str, tuple[npt.ArrayLike, npt.ArrayLike]] = {}
    for part in _PARTS:
        held = [x for x in (f"x_{part}", f"y_{part}") if x in arrays]
        if len(held) == 1 or (part == "train" and not held):
            raise DataError(
                f"{where} has {', '.join(sorted(arrays)) or 'no array'}; both x_{part} and y_{part} are needed"
            )
        if held:
            parts[part] = (arrays[held[0]], arrays[held[1]])
    names = arrays.get("class_names")
    chosen = arrays.get("augment", augment)
    return RawData(
        name=name,
        train=parts["train"],
        validation=parts.get("val"),
        test=parts.get("test"),
        class_names=None if names is None else tuple(str(n) for n in names),
        augment=policy(chosen) if isinstance(chosen, str) else chosen,
    )


def _existing(argument: str, *, source: str, folder: bool) -> Path:
    what = "folder" if folder else "file"
    if not argument:
        raise DataError(f"the source {source!r} needs a {what}: {source}:PATH")
    path = user_path(argument)
    if not (path.is_dir() if folder else path.is_file()):
        state = "does not exist" if not path.exists() else f"is not a {what}"
        raise DataError(f"the {what} {path} {state} (data source {source!r}, seen from {Path.cwd()})")
    return path


def _no_options(options: Mapping[str, str], *, source: str, known: Iterable[str] = ()) -> None:
    unknown = sorted(set(options) - set(known))
    if unknown:
        raise DataError(
            f"the source {source!r} has no option {', '.join(map(repr, unknown))}; known: "
            f"{', '.join([*known, 'augment'])}"
        )


def _integer(options: Mapping[str, str], name: str, *, allowed: range | tuple[int, ...]) -> int | None:
    if name not in options:
        return None
    text = f"{allowed[0]} to {allowed[-1]}" if isinstance(allowed, range) else " or ".join(map(str, allowed))
    try:
        value = int(options[name])
    except ValueError:
        value = -1
    if value not in allowed:
        raise DataError(f"the option {name} is {options[name]!r}, but must be {text}")
    return value


@contextmanager
def _importable(directory: Path) -> Iterator[None]:
    added = str(directory)
    sys.path.append(added)
    try:
        yield
    finally:
        sys.path.remove(added)
