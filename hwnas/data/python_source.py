"""What a function of the user's own may give as data. Calls none: `hwnas.user_functions` does."""

from __future__ import annotations

from collections.abc import Mapping
from typing import Any

from hwnas.data.arrays import Data, RawData
from hwnas.errors import DataError
from hwnas.user_functions import Purpose

GIVES_DATA = Purpose(
    title="data source",
    gives="data",
    kind="data",
    classes=frozenset({"RawData", "Data"}),
    example="hwnas.data.RawData",
    error=DataError,
)


def arrays_of(found: Mapping[Any, Any]) -> dict[Any, Any]:
    """A user's mapping as a dict; tensors as arrays that need no gradient."""
    return {name: value.detach().cpu() if hasattr(value, "detach") else value for name, value in found.items()}


def as_given(found: object, *, target: str) -> Data | RawData | Mapping[Any, Any]:
    """What a user's function gave, when it is of a kind that is understood.

    Raises:
        DataError: it is not.
    """
    if isinstance(found, Data | RawData | Mapping):
        return found
    raise DataError(
        f"the data function {target} gave a {type(found).__name__}; it must give a dict with x_train and y_train, or a "
        "hwnas.data.RawData"
    )
