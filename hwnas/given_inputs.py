"""What a network of the user's own takes, as people write it: `3x224x224`, `3x224x224,16`, `128:int64`.

Knows shapes and types of numbers, of one sample; not the network, nor the tensors.
"""

from __future__ import annotations

import math
import re
from collections.abc import Sequence
from dataclasses import dataclass

from hwnas.errors import ConfigError
from hwnas.foreign import as_written

INPUT_DTYPES = ("float32", "int64", "int32", "bool")
_MOST_AXES = 8
_MOST_ELEMENTS = 2**31  # of a sample; beyond it a number is a mistake
_FORM = "give its axes without the batch's, as 3x224x224; several inputs as 3x224x224,16; ids of tokens as 128:int64"


@dataclass(frozen=True, slots=True)
class InputShape:
    """One input of a network.

    Attributes:
        shape: of one sample, without the batch axis; each axis 1 or more.
        dtype: one of `INPUT_DTYPES`.

    Raises:
        ConfigError: it cannot be an input's.
    """

    shape: tuple[int, ...]
    dtype: str = "float32"

    def __post_init__(self) -> None:
        if self.dtype not in INPUT_DTYPES:
            raise ConfigError(f"an input is of {as_written(self.dtype)}; allowed: {', '.join(INPUT_DTYPES)}")
        if not 1 <= len(self.shape) <= _MOST_AXES or any(n < 1 for n in self.shape):
            raise ConfigError(f"an input cannot have the shape {as_written(self.shape)}; {_FORM}")
        if math.prod(self.shape) > _MOST_ELEMENTS:
            raise ConfigError(f"an input of {self} has {math.prod(self.shape):,} elements; allowed: {_MOST_ELEMENTS:,}")

    def __str__(self) -> str:
        """As `parse_inputs` reads it."""
        return "x".join(map(str, self.shape)) + ("" if self.dtype == "float32" else f":{self.dtype}")


def parse_inputs(text: str) -> tuple[InputShape, ...]:
    """The inputs of a network, in the order in which its forward takes them.

    Args:
        text: sizes with `x` between them; a comma between inputs; a type of numbers behind a colon.

    Raises:
        ConfigError: it is not of this form.
    """
    found = tuple(_one(part.strip(), text) for part in text.split(","))
    if len(found) == 3 and found[0].shape[0] <= 4 and all(x.shape == x.shape[:1] for x in found):
        image = "x".join(str(x.shape[0]) for x in found)
        raise ConfigError(f"the input {text!r} means three inputs of one axis each; an image is {image}")
    return found


def _one(part: str, text: str) -> InputShape:
    sizes, colon, dtype = (word.strip() for word in part.partition(":"))
    words = [word.strip() for word in re.split("[x×X*]", sizes)]
    if not all(re.fullmatch("[0-9]{1,12}", word) for word in words) or (colon and not dtype):
        raise ConfigError(f"the input {as_written(text)} is not of the form SIZExSIZE...; {_FORM}")
    return InputShape(tuple(int(word) for word in words), dtype or "float32")


def format_inputs(inputs: Sequence[InputShape]) -> str:
    """As `parse_inputs` reads them."""
    return ",".join(map(str, inputs))
