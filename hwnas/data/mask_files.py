"""From a mask's file to the class of every pixel, by the steps that its image takes. Knows Pillow and numpy.

A mask is a PNG whose stored values are class indices: of a palette, whose colours say nothing, or grey.
"""

from __future__ import annotations

from pathlib import Path
from typing import TYPE_CHECKING

import numpy as np

from hwnas.data.augment import IGNORED
from hwnas.data.decoding import UInt8Array, centre_square, open_image, stored_mode
from hwnas.errors import DataError
from hwnas.foreign import shown

if TYPE_CHECKING:
    from PIL.Image import Image

_ORIENTATION = 274  # EXIF tag
_TURNED = range(5, 9)  # its values by which width and height change places
_SPREAD = {"L;2": 85, "L;4": 17}  # by which Pillow multiplies grey of two and four bits
_INDICES = frozenset({"1", "L", "P", "I", "I;16", "I;16B"})


def seen_size(path: Path) -> tuple[int, int]:
    """(width, height) of an image as a viewer shows it, by its header.

    Raises:
        DataError: it cannot be read.
    """
    with open_image(path) as image:
        return _seen_size(image)


def check_mask(path: Path, *, image: Path, wanted: tuple[int, int]) -> None:
    """Hold by its header that a file is a mask of an image; no pixel is read.

    Args:
        path: of the mask.
        image: for messages.
        wanted: (width, height) of the image.

    Raises:
        DataError: it is no PNG of class indices, or has another size than the image; names it.
    """
    with open_image(path) as mask:
        if mask.format != "PNG":
            raise DataError(
                f"the mask {shown(path)} is a {mask.format} file, but masks must be PNG: others may change values; "
                "make masks of the class indices anew, as PNG"
            )
        if mask.mode not in _INDICES:
            raise DataError(
                f"the mask {shown(path)} is coloured ({mask.mode}), and which class a colour means is not known; save "
                "masks whose pixels are class indices, as grey or as a palette: 0 for the first class, 1 for the "
                f"second, ..., {IGNORED} where nobody knows"
            )
        size = _seen_size(mask)
    if size != wanted:
        raise DataError(
            f"the mask {shown(path)} is {'x'.join(map(str, size))} pixels, but its image {shown(image)} "
            f"{'x'.join(map(str, wanted))}, as a viewer shows it; give both the same size"
        )


def read_mask(path: Path, *, size: int | None) -> UInt8Array:
    """The class of every pixel: (H, W).

    Args:
        path: of the file.
        size: side in pixels of the centred square that is cut out, as of its image, and resized by the nearest pixel;
            None: pixels stay as they are.

    Raises:
        DataError: it cannot be read, or holds values above 255.
    """
    from PIL import Image as pillow  # noqa: N813 - the class is named Image too
    from PIL import ImageOps

    with open_image(path) as file:
        spread = _SPREAD.get(stored_mode(file), 1)
        image = ImageOps.exif_transpose(file)
        values = np.asarray(image)
        if values.dtype.kind in "iu" and int(values.max()) > IGNORED:
            raise DataError(
                f"the mask {shown(path)} has a pixel of value {int(values.max())}; class indices go from 0 to "
                f"{IGNORED - 1}, and {IGNORED} is a pixel of no known class"
            )
        classes = values.astype(np.uint8) // spread
        if size is None:
            return classes
        square = centre_square(pillow.fromarray(classes))
        return np.array(square.resize((size, size), pillow.Resampling.NEAREST), dtype=np.uint8)


def _seen_size(image: Image) -> tuple[int, int]:
    width, height = image.size
    return (height, width) if image.getexif().get(_ORIENTATION) in _TURNED else (width, height)
