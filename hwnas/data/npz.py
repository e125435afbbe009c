"""Read a numpy archive (.npz) from anywhere: what it claims is held against what is there before memory is taken.

Knows zip files and numpy's headers, not what the arrays mean. Nothing is unpickled.
"""

from __future__ import annotations

import io
import math
import zipfile
from collections.abc import Iterable
from pathlib import Path
from typing import IO, Any

import numpy as np
import numpy.typing as npt

from hwnas.data.memory import require_memory
from hwnas.errors import DataError
from hwnas.foreign import shown

_METHODS = {zipfile.ZIP_STORED, zipfile.ZIP_DEFLATED, zipfile.ZIP_BZIP2, zipfile.ZIP_LZMA}
_LONGEST_HEADER = 1 << 16  # bytes; numpy's own are below 200
_DEFLATE_RATIO = 1040  # at most, by the format


class Archive:
    """A numpy archive, whose arrays are read one at a time.

    Args:
        path: of the file.

    Raises:
        DataError: it is no archive, damaged, encrypted, or an array's name stands twice.
    """

    def __init__(self, path: Path) -> None:
        self.path = path
        try:
            with zipfile.ZipFile(path) as archive:
                members = archive.infolist()
        except (OSError, ValueError, NotImplementedError, zipfile.BadZipFile) as e:
            raise DataError(f"{shown(path)} is not a numpy archive (.npz): {e}; write it with numpy.savez") from e
        # the directory alone: arrays are read when they are asked for
        self._members: dict[str, zipfile.ZipInfo] = {}
        for member in members:
            name = member.filename.removesuffix(".npy")
            if name in self._members:
                raise DataError(
                    f"{shown(path)} has two arrays with the name {shown(name)!r}; write it with numpy.savez"
                )
            self._members[name] = member

    @property
    def names(self) -> tuple[str, ...]:
        """Of the arrays, as they stand in the file."""
        return tuple(self._members)

    def read(self, names: Iterable[str]) -> dict[str, npt.NDArray[Any]]:
        """Arrays by their names.

        Raises:
            DataError: an array is damaged, needs pickle, or does not fit into memory.
        """
        wanted = {name: self._members[name] for name in names}
        try:
            with zipfile.ZipFile(self.path) as archive:
                sizes = {name: self._check(archive, name, member) for name, member in wanted.items()}
                require_memory(sum(sizes.values()), what=f"the arrays of {shown(self.path)}")
                return {name: self._array(archive, member) for name, member in wanted.items()}
        except DataError:
            raise
        # a damaged archive brings zipfile, its decoders and numpy to raise nearly anything
        except Exception as e:
            raise DataError(
                f"{shown(self.path)} cannot be read as a numpy archive: {e or type(e).__name__}; write it again with "
                "numpy.savez"
            ) from e

    def _check(self, archive: zipfile.ZipFile, name: str, member: zipfile.ZipInfo) -> int:
        """Bytes of an array's values, when they are what the archive can hold.

        Raises:
            DataError: they are not.
        """
        what = f"{shown(self.path)}: the array {shown(name)!r}"
        if member.flag_bits & 1:
            raise DataError(f"{what} is encrypted; write the file again without a password")
        if member.compress_type not in _METHODS:
            raise DataError(
                f"{what} is compressed by a method that is not known here ({member.compress_type}); write it with "
                "numpy.savez or numpy.savez_compressed"
            )
        # all sizes in an archive are claims; the file's own is not
        held = self.path.stat().st_size
        most = member.compress_size * (_DEFLATE_RATIO if member.compress_type == zipfile.ZIP_DEFLATED else 1)
        # bzip2 and LZMA have no such bound; their header is held against the member's size below
        exact = member.compress_type in (zipfile.ZIP_STORED, zipfile.ZIP_DEFLATED)
        if member.compress_size > held or (exact and member.file_size > most + _DEFLATE_RATIO):
            raise DataError(
                f"{what} claims {member.file_size:,} bytes, which a file of {held:,} cannot hold; is the download "
                "complete?"
            )
        with archive.open(member) as file:
            shape, dtype, header = _header(file, what)
        if dtype.hasobject:
            raise DataError(f"{what} holds Python objects, which would have to be unpickled; store plain arrays")
        size = math.prod(shape) * dtype.itemsize
        # believed only if header, claim and directory agree
        if size + header != member.file_size:
            raise DataError(
                f"{what} claims {size:,} bytes of values ({'x'.join(map(str, shape))} {dtype}), but has "
                f"{member.file_size - header:,}; write the file again with numpy.savez"
            )
        return size

    @staticmethod
    def _array(archive: zipfile.ZipFile, member: zipfile.ZipInfo) -> npt.NDArray[Any]:
        with archive.open(member) as file:
            array: npt.NDArray[Any] = np.lib.format.read_array(file, allow_pickle=False)
            # reading to the end also makes zipfile check the CRC
            if file.read(1):
                raise ValueError("there is more behind the values")
            return array


def _header(file: IO[bytes], what: str) -> tuple[tuple[int, ...], np.dtype[Any], int]:
    """Shape, type and the header's own length in bytes, from a stream that is at its begin."""
    start = file.read(12)
    if start[:6] != b"\x93NUMPY" or len(start) < 12:
        raise DataError(f"{what} is not an array; write the file with numpy.savez")
    major = start[6]
    if major not in (1, 2):
        raise DataError(f"{what} has a header of version {major}, which images and labels do not need; write it again")
    length = int.from_bytes(start[8:10] if major == 1 else start[8:12], "little")
    if length > _LONGEST_HEADER:
        raise DataError(f"{what} claims a header of {length:,} bytes; write the file again with numpy.savez")
    begin = 10 if major == 1 else 12
    rest = io.BytesIO(start[8:] + file.read(begin + length - 12))
    read = np.lib.format.read_array_header_1_0 if major == 1 else np.lib.format.read_array_header_2_0
    shape, _, dtype = read(rest, max_header_size=_LONGEST_HEADER)
    if any(n < 0 for n in shape) or len(shape) > 32:
        raise DataError(f"{what} claims the shape {shape}; write the file again with numpy.savez")
    return shape, dtype, begin + length
