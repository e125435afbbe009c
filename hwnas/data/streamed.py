"""Images that are decoded when they are asked for: by their looks an array, of which only what is read takes memory.

For folders that do not fit into memory. What is read has the same bits as in an array that holds all, each time, so
that nothing that is computed of them differs. Knows stored images and the rule by which they are read; never torch.
"""

from __future__ import annotations

import hashlib
import os
from collections.abc import Callable, Iterator, Sequence
from concurrent.futures import ThreadPoolExecutor
from dataclasses import dataclass
from typing import Any, TypeVar

import numpy as np
import numpy.typing as npt

from hwnas.data.decoding import DecodingRule, decode
from hwnas.data.stored import StoredImage
from hwnas.errors import DataError
from hwnas.types import IntArray

UInt8Array = npt.NDArray[np.uint8]
_Given = TypeVar("_Given")
_Found = TypeVar("_Found")
_PIECE_BYTES = 16 << 20  # decoded at a time where all are gone through


@dataclass(frozen=True, slots=True, kw_only=True, eq=False)
class PixelFacts:
    """What is asked of all pixels of a part, found in one pass.

    Attributes:
        counts: (C, 256): how often each value occurs in each channel.
        digests: (N,) a number for each image's content.
    """

    counts: npt.NDArray[np.int64]
    digests: npt.NDArray[np.uint64]

    @property
    def brightest(self) -> int:
        """The largest value of any pixel."""
        return int(np.flatnonzero(self.counts.any(axis=0)).max())


class StreamedImages:
    """(N, H, W, C) uint8 pixels, each row decoded from its stored image when it is read.

    It is read as an array is: `images[3]` is one image and `images[[3, 9, 4]]` are three, decoded; `images[3:9]` is a
    view, of which nothing is decoded yet. It can be pickled, and other processes open the files themselves.

    Args:
        stored: one each.
        rule: by which they are read.
        shape: (H, W, C) of every one.
    """

    def __init__(self, stored: Sequence[StoredImage], *, rule: DecodingRule, shape: tuple[int, int, int]) -> None:
        self._stored = stored
        self._rule = rule
        self._facts: PixelFacts | None = None
        self.shape = (len(stored), *shape)

    @property
    def dtype(self) -> np.dtype[np.uint8]:
        """uint8."""
        return np.dtype(np.uint8)

    @property
    def ndim(self) -> int:
        """4."""
        return len(self.shape)

    @property
    def nbytes(self) -> int:
        """Bytes that all pixels would take."""
        return int(np.prod(self.shape, dtype=np.int64))

    def __len__(self) -> int:
        return len(self._stored)

    def __getitem__(self, rows: Any) -> Any:
        """One image (H, W, C) for a position, images (n, H, W, C) for several; a view for a slice.

        Raises:
            DataError: a file has gone or changed since it was first read.
        """
        if isinstance(rows, slice):
            return self.view(range(len(self))[rows])
        if isinstance(rows, int | np.integer):
            return self._decode(self._stored[int(rows)])
        where = np.asarray(rows)
        if where.dtype == bool:
            where = np.flatnonzero(where)
        out = np.empty((len(where), *self.shape[1:]), np.uint8)
        for i, row in enumerate(where.tolist()):
            out[i] = self._decode(self._stored[row])
        return out

    def __iter__(self) -> Iterator[UInt8Array]:
        for piece in self.pieces():
            yield from piece

    def __array__(self, dtype: Any = None, *, copy: bool | None = None) -> npt.NDArray[Any]:
        """All of them, in memory."""
        if copy is False:
            raise ValueError("images that are read from files have no array of their own")
        held = np.empty(self.shape, np.uint8)
        at = 0
        for piece in self.pieces():
            held[at : at + len(piece)] = piece
            at += len(piece)
        return held if dtype is None else held.astype(dtype)

    def view(self, rows: Sequence[int] | IntArray) -> StreamedImages:
        """The images at some positions, in this order; nothing is decoded."""
        stored = [self._stored[row] for row in (rows.tolist() if isinstance(rows, np.ndarray) else rows)]
        height, width, channels = self.shape[1:]
        return StreamedImages(stored, rule=self._rule, shape=(height, width, channels))

    def pieces(self) -> Iterator[UInt8Array]:
        """All images in order, some at a time, decoded by every processor there is."""
        step = max(1, _PIECE_BYTES // int(np.prod(self.shape[1:])))
        counts = np.zeros((self.shape[3], 256), np.int64)
        digests = np.empty(len(self), np.uint64)
        for at, images in enumerate(in_pieces(self._decode, self._stored, step=step)):
            piece = np.stack(images)
            if self._facts is None:
                for c in range(len(counts)):
                    counts[c] += np.bincount(piece[..., c].ravel(), minlength=256)
                digests[at * step : at * step + len(piece)] = list(map(image_digest, piece))
            yield piece
        if self._facts is None:
            self._facts = PixelFacts(counts=counts, digests=digests)

    @property
    def facts(self) -> PixelFacts:
        """What is asked of all pixels; they are gone through once, if they were not already."""
        if self._facts is None:
            for _ in self.pieces():
                pass
        if self._facts is None:
            raise AssertionError("a pass over all images leaves their facts")
        return self._facts

    def _decode(self, stored: StoredImage) -> UInt8Array:
        pixels = decode(stored.open(), self._rule)
        if pixels.shape != self.shape[1:]:
            raise DataError(
                f"{stored} is {pixels.shape[1]}x{pixels.shape[0]} pixels, but was {self.shape[2]}x{self.shape[1]} when "
                "it was first read; leave the images alone while they are used"
            )
        return pixels


def in_pieces(do: Callable[[_Given], _Found], given: Sequence[_Given], *, step: int) -> Iterator[list[_Found]]:
    """What a function makes of each of many things, in order, some at a time, by every processor there is.

    For functions that let other threads work while they do, as Pillow's decoders do. No more is held than one piece.

    Args:
        do: the function; what it raises goes on.
        given: what it is called with.
        step: things in a piece; the last may have fewer.
    """
    with ThreadPoolExecutor(processors()) as pool:
        for at in range(0, len(given), step):
            yield list(pool.map(do, given[at : at + step]))


def image_digest(image: UInt8Array) -> int:
    """A number for an image's content: among a million images two different ones meet with a probability of 3e-8."""
    return int.from_bytes(hashlib.blake2b(np.ascontiguousarray(image).data, digest_size=8).digest(), "little")


def processors() -> int:
    """How many processors this process may use."""
    try:
        return len(os.sched_getaffinity(0))
    except AttributeError:  # not on every system
        return os.cpu_count() or 1
