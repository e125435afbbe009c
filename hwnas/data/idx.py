"""Read idx files, the format of MNIST and Fashion-MNIST. Knows bytes, not what they show."""

from __future__ import annotations

import gzip
import math
import struct
import zlib
from pathlib import Path
from typing import IO

import numpy as np

from hwnas.data.arrays import UInt8Array
from hwnas.data.memory import require_memory
from hwnas.errors import DataError
from hwnas.foreign import shown

_UBYTE = 0x08
_GZIP = b"\x1f\x8b"
_MOST_DIMENSIONS = 4  # (N, H, W, C); labels have one
_DEFLATE_RATIO = 1040  # at most, by the format
_PIECE = 1 << 20
_Part = tuple[UInt8Array, UInt8Array]


def read_idx(path: Path) -> UInt8Array:
    """The array in an idx file of unsigned bytes, compressed by gzip or not.

    Memory is taken only for what a file of this length can hold.

    Raises:
        DataError: the file is cut short, too long, damaged, or not of this format.
    """
    try:
        with path.open("rb") as file:
            # by content: people rename files
            compressed = file.read(2) == _GZIP
            file.seek(0)
            held = path.stat().st_size
            if compressed:
                with gzip.GzipFile(fileobj=file) as unpacked:
                    return _read(unpacked, path=path, most=held * _DEFLATE_RATIO)
            return _read(file, path=path, most=held)
    except (OSError, EOFError, zlib.error, MemoryError) as e:
        raise DataError(f"{shown(path)} cannot be read: {e or type(e).__name__}; is the download complete?") from e


def _read(file: IO[bytes] | gzip.GzipFile, *, path: Path, most: int) -> UInt8Array:
    start = file.read(4)
    if len(start) < 4 or start[:2] != b"\0\0" or start[2] != _UBYTE or not start[3]:
        raise DataError(
            f"{shown(path)} is not an idx file of unsigned bytes (it starts with {start.hex() or 'nothing'})"
        )
    if start[3] > _MOST_DIMENSIONS:
        raise DataError(
            f"{shown(path)} claims {start[3]} dimensions, but images have 3 or 4 and labels 1; is the download "
            "complete?"
        )
    sizes = file.read(4 * start[3])
    if len(sizes) < 4 * start[3]:
        raise DataError(f"{shown(path)} is cut short inside its header")
    shape = struct.unpack(f">{start[3]}I", sizes)
    # Python's integers: four sizes of 32 bits overflow any fixed width
    expected = math.prod(shape)
    if expected > most:
        raise _other_length(path, shape, f"fewer than {most:,}" if most > path.stat().st_size else f"{most:,}")
    require_memory(expected, what=f"the values of {shown(path)}")
    # taken once and filled by pieces: `read()` of all and a copy would need twice as much
    array = np.empty(expected, np.uint8)
    n = 0
    while piece := file.read(_PIECE):
        if n + len(piece) > expected:
            raise _other_length(path, shape, "more")
        array[n : n + len(piece)] = np.frombuffer(piece, np.uint8)
        n += len(piece)
    if n < expected:
        raise _other_length(path, shape, f"{len(start) + len(sizes) + n:,}")
    return array.reshape(shape)


def _other_length(path: Path, shape: tuple[int, ...], held: str) -> DataError:
    expected = 4 + 4 * len(shape) + math.prod(shape)
    return DataError(
        f"{shown(path)} has {held} bytes, but its header ({'x'.join(map(str, shape))}) says {expected:,}; is the "
        "download complete?"
    )


def read_idx_folder(folder: Path) -> tuple[_Part, _Part | None]:
    """The training part and, if its files are there, the test part of an MNIST-like folder.

    Names may begin with more (`emnist-letters-train-images-idx3-ubyte`) and be in upper case.

    Raises:
        DataError: a file is missing, stands twice, or cannot be read.
    """
    try:
        held = sorted(path for path in folder.iterdir() if path.is_file())
    except OSError as e:
        raise DataError(f"{shown(folder)} cannot be read: {e.strerror or e}") from e
    train = (_find(held, "train", "images"), _find(held, "train", "labels"))
    test = (_find(held, "t10k", "images"), _find(held, "t10k", "labels"))
    if test == (None, None):
        # EMNIST and others call MNIST's "t10k" plainly "test"
        test = (_find(held, "test", "images"), _find(held, "test", "labels"))
    for part, prefix in ((train, "train"), (test, "t10k")):
        if None in part and (part is train or part != (None, None)):
            missing = f"{prefix}-images-idx3-ubyte" if part[0] is None else f"{prefix}-labels-idx1-ubyte"
            listed = ", ".join(shown(p.name) for p in held[:8]) or "nothing"
            raise DataError(f"{shown(folder)} has no {missing} or {missing}.gz; it holds {listed}")
    read_train = _both(train)
    if read_train is None:
        raise AssertionError("the training files were just found")
    return read_train, _both(test)


def _both(part: tuple[Path | None, Path | None]) -> _Part | None:
    images, labels = part
    return None if images is None or labels is None else (read_idx(images), read_idx(labels))


def _find(held: list[Path], prefix: str, kind: str) -> Path | None:
    """The one file of this part and kind; that without .gz where both are there."""
    # "-" as on MNIST's page, "." as some tools unpack it
    endings = [f"{prefix}-{kind}{mark}idx{n}-ubyte" for mark in "-." for n in ((3, 4) if kind == "images" else (1,))]
    found: dict[str, Path] = {}
    for path in held:
        name = path.name.lower().removesuffix(".gz")
        ending = next((e for e in endings if name == e or name.endswith(f"-{e}")), None)
        if ending is None:
            continue
        known = found.get(name)
        if known is None or known.name.lower().endswith(".gz"):
            found[name] = path
    if len(found) > 1:
        listed = " and ".join(sorted(shown(path.name) for path in found.values()))
        raise DataError(f"{listed} are both files of the {prefix} {kind}; keep one data set in a folder")
    return next(iter(found.values()), None)
