"""Read idx files, the format of MNIST and Fashion-MNIST. Knows bytes, not what they show."""

from __future__ import annotations

import gzip
import math
import struct
import zlib
from pathlib import Path

import numpy as np

from hwnas.data.arrays import UInt8Array
from hwnas.errors import DataError

_UBYTE = 0x08
_GZIP = b"\x1f\x8b"
_Part = tuple[UInt8Array, UInt8Array]


def read_idx(path: Path) -> UInt8Array:
    """The array in an idx file of unsigned bytes, compressed by gzip or not.

    Raises:
        DataError: the file is cut short, too long, damaged, or not of this format.
    """
    try:
        content = path.read_bytes()
        if content.startswith(_GZIP):
            content = gzip.decompress(content)
    except (OSError, EOFError, zlib.error) as e:
        raise DataError(f"{path} cannot be read: {e}; is the download complete?") from e
    if len(content) < 4 or content[:2] != b"\0\0" or content[2] != _UBYTE or not content[3]:
        raise DataError(
            f"{path} is not an idx file of unsigned bytes (it starts with {content[:4].hex() or 'nothing'})"
        )
    header = 4 + 4 * content[3]
    if len(content) < header:
        raise DataError(f"{path} is cut short inside its header")
    shape = struct.unpack(f">{content[3]}I", content[4:header])
    expected = header + math.prod(shape)
    if len(content) != expected:
        raise DataError(
            f"{path} has {len(content):,} bytes, but its header ({'x'.join(map(str, shape))}) says {expected:,}; "
            f"is the download complete?"
        )
    return np.frombuffer(content, dtype=np.uint8, offset=header).reshape(shape).copy()


def read_idx_folder(folder: Path) -> tuple[_Part, _Part | None]:
    """The training part and, if its files are there, the test part of an MNIST-like folder.

    Raises:
        DataError: a file is missing or cannot be read.
    """
    train = (_find(folder, "train", "images"), _find(folder, "train", "labels"))
    test = (_find(folder, "t10k", "images"), _find(folder, "t10k", "labels"))
    if test == (None, None):
        test = (_find(folder, "test", "images"), _find(folder, "test", "labels"))
    for part, prefix in ((train, "train"), (test, "t10k")):
        if None in part and (part is train or part != (None, None)):
            missing = f"{prefix}-images-idx3-ubyte" if part[0] is None else f"{prefix}-labels-idx1-ubyte"
            held = ", ".join(sorted(p.name for p in folder.iterdir())[:8]) or "nothing"
            raise DataError(f"{folder} has no {missing} or {missing}.gz; it holds {held}")
    read_train = _read(train)
    if read_train is None:
        raise AssertionError("the training files were just found")
    return read_train, _read(test)


def _read(part: tuple[Path | None, Path | None]) -> _Part | None:
    images, labels = part
    return None if images is None or labels is None else (read_idx(images), read_idx(labels))


def _find(folder: Path, prefix: str, kind: str) -> Path | None:
    dims = "idx3" if kind == "images" else "idx1"
    for name in (f"{prefix}-{kind}-{dims}-ubyte", f"{prefix}-{kind}.{dims}-ubyte"):
        for path in (folder / name, folder / f"{name}.gz"):
            if path.is_file():
                return path
    return None
