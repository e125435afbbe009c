"""The several outputs of a network, which everywhere but in its files are one row of numbers: (N, sum of their sizes).

    parts = (OutputPart(name="boxes", shape=(4,)), OutputPart(name="mask", shape=(1, 8, 8)))
    split_outputs(outputs, parts)["mask"]  # (N, 68) -> (N, 1, 8, 8)

So whatever learns from outputs, evaluates, keeps or compares them knows one tensor, and who has to tell the parts apart
asks here. A network of one output has no parts. Knows shapes; tensors of any library that can be sliced and reshaped.
"""

from __future__ import annotations

import math
from collections.abc import Iterator, Sequence
from dataclasses import dataclass
from typing import Any, TypeVar

Row = TypeVar("Row", bound=Any)


@dataclass(frozen=True, slots=True, kw_only=True)
class OutputPart:
    """One of several outputs.

    Attributes:
        name: unique among them: the key of a dictionary, `output_0` of a tuple or a list.
        shape: of one sample: (C, H, W), (features,).
    """

    name: str
    shape: tuple[int, ...]

    def __str__(self) -> str:
        return f"{self.name} {'x'.join(map(str, self.shape))}"

    @property
    def size(self) -> int:
        """Numbers of one sample."""
        return math.prod(self.shape)


def columns(parts: Sequence[OutputPart]) -> Iterator[tuple[OutputPart, slice]]:
    """Each part with its place in the row."""
    begin = 0
    for part in parts:
        yield part, slice(begin, begin + part.size)
        begin += part.size


def split_outputs(outputs: Row, parts: Sequence[OutputPart]) -> dict[str, Row]:
    """(N, sum of sizes) -> name: (N, *shape) of each part, in their order; arrays or tensors."""
    n = len(outputs)
    return {part.name: outputs[:, place].reshape((n, *part.shape)) for part, place in columns(parts)}
