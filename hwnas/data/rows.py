"""Several inputs of samples as one row of numbers each, which is what a network of several is given here.

    one_row({"image": images, "age": ages})  # (N, 3, 32, 32), (N, 1) -> (N, 3073)

Knows arrays and the parts of a row; never networks or files.
"""

from __future__ import annotations

import math
from collections.abc import Mapping, Sequence
from typing import Any

import numpy as np
import numpy.typing as npt

from hwnas.errors import DataError
from hwnas.row_parts import RowPart


def one_row(inputs: Mapping[str, npt.ArrayLike] | Sequence[npt.ArrayLike]) -> npt.NDArray[np.float32]:
    """Several inputs of samples as rows, in the order in which they are given.

    Args:
        inputs: (N, ...) numbers each, by name or in order.

    Returns:
        (N, sum of their sizes).

    Raises:
        DataError: there is none, one has no samples' axis, or they are of different samples.
    """
    names = list(inputs) if isinstance(inputs, Mapping) else [f"input {i}" for i in range(len(inputs))]
    arrays = [np.asarray(x) for x in (inputs.values() if isinstance(inputs, Mapping) else inputs)]
    told = ", ".join(f"{name} {x.dtype} {x.shape}" for name, x in zip(names, arrays, strict=True))
    if not arrays or any(x.ndim < 1 or x.dtype.kind not in "biuf" for x in arrays):
        raise DataError(f"several inputs must be arrays of numbers, (N, ...) each, not {told or 'none'}")
    if len({len(x) for x in arrays}) > 1:
        raise DataError(f"several inputs must be of the same samples, as many each, not {told}")
    n = len(arrays[0])
    return np.concatenate([x.reshape(n, math.prod(x.shape[1:])).astype(np.float32) for x in arrays], axis=1)


def row_of_sample(sample: object, parts: Sequence[RowPart]) -> npt.NDArray[np.float32]:
    """(sum of sizes,) one sample of several inputs, by their names or in their order; or what is a row already.

    Args:
        sample: name -> array of its part's shape; or a list or tuple of them.
        parts: the inputs.

    Raises:
        DataError: an input is missing, is not known, or has another shape.
    """
    wanted = ", ".join(map(str, parts))
    if isinstance(sample, Mapping):
        if set(sample) != {part.name for part in parts}:
            raise DataError(f"a sample has the inputs {wanted}; given are: {', '.join(map(str, sample)) or 'none'}")
        given = [sample[part.name] for part in parts]
    elif isinstance(sample, list | tuple) and len(sample) == len(parts):
        given = list(sample)
    else:
        whole = np.asarray(sample)
        size = sum(part.size for part in parts)
        if whole.dtype.kind not in "biuf" or whole.shape != (size,):
            raise DataError(f"a sample has the inputs {wanted}: give them by name, in order, or as one row of {size}")
        return np.asarray(whole, np.float32)
    arrays: list[npt.NDArray[Any]] = [np.asarray(x) for x in given]
    for part, array in zip(parts, arrays, strict=True):
        if array.shape != part.shape or array.dtype.kind not in "biuf":
            raise DataError(f"the input {part} of a sample is given as {array.dtype} of shape {array.shape}")
    (row,) = one_row([array[None] for array in arrays])
    return np.asarray(row, np.float32)
