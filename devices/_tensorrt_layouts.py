"""How TensorRT lays an image out in memory, and arrays brought into that form and back.

A block's engine may keep the tensors at its ends as a network's keeps those inside: channels last, or in groups. Knows
arrays and the names of TensorRT's formats, not engines.
"""

from __future__ import annotations

import numpy as np

from hwnas.errors import MeasurementError
from hwnas.types import Array

# format -> (channels in a group, whether the groups of a pixel stand together)
_FORMATS = {
    "LINEAR": (1, False),
    "CHW4": (4, False),
    "CHW32": (32, False),
    "HWC": (1, True),
    "HWC8": (8, True),
    "HWC16": (16, True),
}
# that TensorRT allows for images of these types
INT8_FORMATS = ("LINEAR", "CHW4", "CHW32", "HWC16")
HALF_FORMATS = ("LINEAR", "HWC8")
FLOAT_FORMATS = ("LINEAR", "CHW32", "HWC")
_IMAGE_CHANNELS = 4  # that people's images have, at most


def is_between_blocks(shape: tuple[int, ...]) -> bool:
    """Whether a tensor at an engine's end has more channels than people's images, so that the engine is a block's."""
    return len(shape) == 4 and shape[1] > _IMAGE_CHANNELS


def free_formats(shape: tuple[int, ...], dtype: str) -> tuple[str, ...]:
    """The formats TensorRT may choose from for a tensor at an engine's end.

    Images people give, and logits, are linear. An image that is int8 or half, and one between blocks, is a block's
    end: a block alone must not pay for a change of layout that no network has.

    Args:
        shape: (N, C, H, W), or any other.
        dtype: TensorRT's name: INT8, HALF, FLOAT.
    """
    if len(shape) != 4 or not (dtype != "FLOAT" or is_between_blocks(shape)):
        return ("LINEAR",)
    return {"INT8": INT8_FORMATS, "HALF": HALF_FORMATS, "FLOAT": FLOAT_FORMATS}.get(dtype, ("LINEAR",))


def packed_shape(shape: tuple[int, ...], layout: str) -> tuple[int, ...]:
    """The array that has a tensor's bytes in order, for a tensor (N, C, H, W) or, in LINEAR, any other.

    Raises:
        MeasurementError: the format is unknown.
    """
    if layout == "LINEAR":
        return shape
    if layout not in _FORMATS or len(shape) != 4:
        raise MeasurementError(
            f"TensorRT keeps a tensor of shape {shape} in format {layout!r}; known: {', '.join(_FORMATS)} for images"
        )
    group, last = _FORMATS[layout]
    n, c, h, w = shape
    groups = -(-c // group)
    return (n, h, w, groups * group) if last else (n, groups, h, w, group)


def pack(array: Array, layout: str) -> Array:
    """(N, C, H, W) -> the contiguous array of `packed_shape`; channels that only fill a group are 0."""
    if layout == "LINEAR":
        return np.ascontiguousarray(array)
    shape = packed_shape(array.shape, layout)
    group, last = _FORMATS[layout]
    n, c, h, w = array.shape
    padded = np.zeros((n, -(-c // group) * group, h, w), array.dtype)
    padded[:, :c] = array
    if last:
        return np.ascontiguousarray(padded.transpose(0, 2, 3, 1))  # (N, C, H, W) -> (N, H, W, C)
    return np.ascontiguousarray(padded.reshape(n, -1, group, h, w).transpose(0, 1, 3, 4, 2)).reshape(shape)


def unpack(packed: Array, shape: tuple[int, ...], layout: str) -> Array:
    """The inverse of `pack`, for a tensor of that shape."""
    if layout == "LINEAR":
        return packed.reshape(shape)
    _, last = _FORMATS[layout]
    n, c, h, w = shape
    planes = packed.transpose(0, 3, 1, 2) if last else packed.transpose(0, 1, 4, 2, 3).reshape(n, -1, h, w)
    return np.ascontiguousarray(planes[:, :c])
