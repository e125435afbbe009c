"""Several inputs of samples as one row of numbers each, which is what a network of several is given here.

    one_row({"image": images, "age": ages})  # (N, 3, 32, 32), (N, 1) -> (N, 3073)

Knows arrays and the parts of a row; never networks or files.
"""

from __future__ import annotations

import math
from collections.abc import Mapping, Sequence
from dataclasses import replace
from typing import TYPE_CHECKING, Any

import numpy as np
import numpy.typing as npt

from hwnas.errors import DataError
from hwnas.row_parts import RowPart

if TYPE_CHECKING:
    from hwnas.data.arrays import RawData


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
    given = inputs.values() if isinstance(inputs, Mapping) else inputs
    arrays = [_array(x, name) for name, x in zip(names, given, strict=True)]
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
        whole = _array(sample, "row")
        size = sum(part.size for part in parts)
        if whole.dtype.kind not in "biuf" or whole.shape != (size,):
            raise DataError(f"a sample has the inputs {wanted}: give them by name, in order, or as one row of {size}")
        return np.asarray(whole, np.float32)
    arrays = [_array(x, part.name) for part, x in zip(parts, given, strict=True)]
    for part, array in zip(parts, arrays, strict=True):
        if array.shape != part.shape or array.dtype.kind not in "biuf":
            raise DataError(f"the input {part} of a sample is given as {array.dtype} of shape {array.shape}")
    (row,) = one_row([array[None] for array in arrays])
    return np.asarray(row, np.float32)


def in_one_order(raw: RawData) -> tuple[RawData, tuple[RowPart, ...]]:
    """What a source found, with several inputs in the order of the training samples' in every part; and which they are.

    Raises:
        DataError: a part has inputs of other names or shapes.
    """
    first = raw.train[0]
    if not isinstance(first, Mapping):
        for which, part in (("validation", raw.validation), ("test", raw.test)):
            if part is not None and isinstance(part[0], Mapping):
                raise DataError(f"{which} samples have inputs by name, other than the training samples; give all so")
        return raw, ()
    parts = _parts_of(first, "training")
    changes: dict[str, Any] = {}
    for which, part in (("validation", raw.validation), ("test", raw.test)):
        if part is None:
            continue
        named = part[0]
        found = _parts_of(named, which) if isinstance(named, Mapping) else ()
        if {p.name: p.shape for p in found} != {p.name: p.shape for p in parts}:
            told = ", ".join(map(str, found)) or "one without a name"
            wanted = ", ".join(map(str, parts))
            raise DataError(f"{which} samples have the inputs {told}, and training samples {wanted}")
        by_name: dict[str, npt.ArrayLike] = dict(named)  # type: ignore[arg-type]  # it has parts
        changes[which] = ({p.name: by_name[p.name] for p in parts}, part[1])
    return replace(raw, **changes), parts


def _parts_of(inputs: Mapping[str, npt.ArrayLike], which: str) -> tuple[RowPart, ...]:
    try:
        one_row(inputs)
    except DataError as e:
        raise DataError(f"{which} samples: {e}") from e
    return tuple(RowPart(name=str(name), shape=_array(x, name).shape[1:]) for name, x in inputs.items())


def _array(given: object, name: str) -> npt.NDArray[Any]:
    """What somebody gave as an array; tensors of torch lose their gradient.

    Raises:
        DataError: it is ragged.
    """
    try:
        # by what it can do: this module must not import torch
        detach = getattr(given, "detach", None)
        return np.asarray(given if detach is None else detach().cpu())
    except (ValueError, TypeError, RuntimeError) as e:
        raise DataError(f"input {name!r} is not one array ({' '.join(str(e).split())})") from e
