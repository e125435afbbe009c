"""Arrays that a measuring process hands over as a file: read only if they are what such a file holds.

A board's outputs may be anybody's bytes. Knows the container and the arrays' headers; not what they are the outputs of.
"""

from __future__ import annotations

import io
import math
import zipfile
from pathlib import Path
from tokenize import TokenError
from typing import Any

import numpy as np
from numpy.lib import format as npy

from hwnas.foreign import ForeignFileError, quoted, read_foreign
from hwnas.types import Array

_LONGEST_HEADER = 10_000  # characters
_MOST_DIMENSIONS = 16
_NO_NUMBERS = "OSUVmM"  # objects, texts, structures, dates


def read_arrays(path: Path, *, n: int, limit_bytes: int) -> tuple[Array, ...]:
    """The arrays `array_0`, `array_1`, ... of an .npz file as `numpy.savez` writes it.

    Args:
        path: of the file.
        n: how many it must hold.
        limit_bytes: of the file; no array can be larger, for nothing in it may be compressed.

    Raises:
        ForeignFileError: it is not such a file; the message says why, without the path.
        OSError: it cannot be read.
    """
    data = read_foreign(path, limit_bytes=limit_bytes)
    try:
        with zipfile.ZipFile(io.BytesIO(data)) as archive:
            entries = archive.infolist()
            # these names and no others: nothing is extracted under a name from elsewhere
            if sorted(e.filename for e in entries) != sorted(f"array_{i}.npy" for i in range(n)):
                raise ForeignFileError(f"it holds {quoted([e.filename for e in entries[:20]])} instead of {n} arrays")
            if any(
                e.compress_type != zipfile.ZIP_STORED or e.flag_bits & 1 or e.file_size > len(data) for e in entries
            ):
                raise ForeignFileError("its arrays are compressed, encrypted or larger than itself")
            return tuple(_array(archive.read(f"array_{i}.npy")) for i in range(n))
    except (zipfile.BadZipFile, NotImplementedError, EOFError, OSError, OverflowError, RuntimeError) as e:
        raise ForeignFileError(f"it is damaged: {e}") from e


def _array(data: bytes) -> Array:
    """One array; its shape is believed only where its bytes are as many."""
    file = io.BytesIO(data)
    try:
        version = npy.read_magic(file)
        read_header: Any = {(1, 0): npy.read_array_header_1_0, (2, 0): npy.read_array_header_2_0}[version]
        shape, in_fortran_order, dtype = read_header(file, max_header_size=_LONGEST_HEADER)
    except (ValueError, KeyError, TypeError, SyntaxError, TokenError, RecursionError, MemoryError) as e:
        raise ForeignFileError(f"it holds an array whose header is damaged: {quoted(str(e))}") from e
    if dtype.kind in _NO_NUMBERS or len(shape) > _MOST_DIMENSIONS or any(length < 0 for length in shape):
        raise ForeignFileError(f"it holds an array of type {quoted(str(dtype))} and shape {quoted(shape)}")
    left = len(data) - file.tell()
    if math.prod(shape) * dtype.itemsize != left:
        raise ForeignFileError(f"it holds an array said to be {quoted(shape)} of {dtype}, in {left} bytes")
    found: Array = np.frombuffer(data, dtype, offset=file.tell()).reshape(shape, order="F" if in_fortran_order else "C")
    # out of the file's bytes, which are read-only and would stay in memory
    return found.copy()
