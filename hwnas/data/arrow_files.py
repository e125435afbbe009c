"""Which Arrow and Parquet files hold which split of a data set that Hugging Face's `datasets` has written.

Three layouts are known: what `save_to_disk` writes (`dataset_dict.json`, `state.json`), a repository of Parquet files
(`data/train-00000-of-00002.parquet`, `default/train/0000.parquet`), and a single file. Knows names of files and these
two documents; opens no table.
"""

from __future__ import annotations

import os
import re
from collections.abc import Iterator
from pathlib import Path
from typing import Any

from hwnas.data.part_names import part_of
from hwnas.errors import DataError
from hwnas.foreign import ForeignFileError, inner_path, is_file_name, read_foreign, shown
from hwnas.integrity import parse_json

ENDINGS = (".arrow", ".parquet")
_LARGEST_BYTES = 64 << 20  # of a document; class names of a large data set are thousands
_DEEPEST = 8
_SHARD = re.compile(r"[-_.]?\d+(-of-\d+)?(-[0-9a-f]{8,})?$")  # `train-00000-of-00002-0f1e2d3c4b5a6978`
_CACHED = re.compile(r"(cache|tmp)[-_]|indices\.arrow$")  # what `datasets` keeps beside a data set for itself


def find_splits(path: Path) -> dict[str, list[Path]]:
    """Splits of a data set, by their own names -> the files of each, in the order of their rows.

    Args:
        path: a folder, or one file.

    Raises:
        DataError: there is no such file, a document is damaged, or the folder holds several data sets.
    """
    if path.is_file():
        if path.suffix.lower() not in ENDINGS:
            raise DataError(
                f"{shown(path)} is no Arrow or Parquet file by its ending; give *.arrow, *.parquet or a folder"
            )
        return {_split_of(path, root=path.parent): [path]}
    if (path / "dataset_dict.json").exists():
        return {name: _saved(path / name) for name in _names_of_splits(path)}
    if (path / "state.json").exists():
        return {"train": _saved(path)}
    return _by_name(path)


def _names_of_splits(folder: Path) -> list[str]:
    splits = _document(folder, "dataset_dict.json").get("splits")
    if not isinstance(splits, list) or not splits or not all(isinstance(s, str) and is_file_name(s) for s in splits):
        raise DataError(f"{shown(folder / 'dataset_dict.json')} names no splits; save the data set again")
    return splits


def _saved(folder: Path) -> list[Path]:
    """The files of what `Dataset.save_to_disk` wrote."""
    listed = _document(folder, "state.json").get("_data_files")
    names = [f.get("filename") if isinstance(f, dict) else None for f in listed] if isinstance(listed, list) else []
    if not names or not all(isinstance(name, str) for name in names):
        raise DataError(f"{shown(folder / 'state.json')} names no files; save the data set again")
    try:
        # a document from elsewhere leads to no file outside of its folder
        paths = [inner_path(folder, name) for name in names if isinstance(name, str)]
    except ForeignFileError as e:
        raise DataError(f"{shown(folder / 'state.json')} names a file that is not taken: {e}") from e
    for path in paths:
        if not path.is_file():
            raise DataError(f"{shown(path)} is missing, which state.json names; copy the whole folder")
    return paths


def _document(folder: Path, name: str) -> dict[str, Any]:
    path = folder / name
    try:
        value = parse_json(read_foreign(path, limit_bytes=_LARGEST_BYTES))
    except FileNotFoundError as e:
        raise DataError(f"{shown(path)} is missing; copy the whole folder, or save the data set again") from e
    except (OSError, ValueError) as e:
        raise DataError(f"{shown(path)} cannot be read: {e}; save the data set again") from e
    if not isinstance(value, dict):
        raise DataError(f"{shown(path)} holds no object; save the data set again")
    return value


def _by_name(root: Path) -> dict[str, list[Path]]:
    """Splits of a folder of files, by the names of files and folders."""
    files = sorted(_walk(root, depth=0))
    if not files:
        raise DataError(
            f"{shown(root)} holds no Arrow or Parquet file; give a folder that datasets.Dataset.save_to_disk wrote, or "
            "one of Parquet files. For a folder of images: folder:DIR"
        )
    splits: dict[str, list[Path]] = {}
    homes: dict[Path, Path] = {}
    for file in files:
        name = _split_of(file, root=root)
        splits.setdefault(name, []).append(file)
        # a split's folder belongs to the data set that the folder around it holds
        home = file.parent.parent if file.parent != root and part_of(file.parent.name) else file.parent
        homes.setdefault(home, file)
    if len(homes) > 1:
        listed = ", ".join(shown(home.relative_to(root)) or "." for home in sorted(homes)[:8])
        raise DataError(f"{shown(root)} holds several data sets, in {listed}; name the folder of one")
    return splits


def _walk(folder: Path, *, depth: int) -> Iterator[Path]:
    if depth > _DEEPEST:
        return
    try:
        entries = sorted(os.scandir(folder), key=lambda entry: entry.name)
    except OSError as e:
        raise DataError(f"{shown(folder)} cannot be read: {e.strerror or e}") from e
    for entry in entries:
        if entry.name.startswith(".") or _CACHED.search(entry.name):
            continue
        path = folder / entry.name
        # links to folders may lead in a circle; files of a cache of downloads are links
        if entry.is_dir(follow_symlinks=False):
            yield from _walk(path, depth=depth + 1)
        elif path.suffix.lower() in ENDINGS and path.is_file():
            yield path


def _split_of(file: Path, *, root: Path) -> str:
    """The name of the split that a file belongs to: `train` where nothing says another."""
    stem = _SHARD.sub("", file.stem)
    for word in re.finditer(r"[^-_. ]+", stem):
        if part_of(word[0]):
            # what stands before it is the data set's name (`cifar10-train`); what comes after may tell splits apart
            return stem[word.start() :]
    return file.parent.name if file.parent != root and part_of(file.parent.name) else "train"
