"""The several inputs or outputs of a network as one row of numbers: (N, sum of their sizes).

    parts = (RowPart(name="boxes", shape=(4,)), RowPart(name="mask", shape=(1, 8, 8)))
    split_outputs(outputs, parts)["mask"]  # (N, 68) -> (N, 1, 8, 8)

So whatever reads samples or learns from outputs, evaluates, keeps or compares them knows one tensor, and who has to
tell the parts apart asks here. A network of one input or output has no parts of it. Knows shapes; tensors of any
library that can be sliced and reshaped.
"""

from __future__ import annotations

import math
from collections.abc import Iterator, Sequence
from dataclasses import dataclass
from typing import Any, TypeVar

Row = TypeVar("Row", bound=Any)


@dataclass(frozen=True, slots=True, kw_only=True)
class RowPart:
    """One of several inputs or outputs.

    Attributes:
        name: unique among them: of an input that of forward's argument; of an output the key of a dictionary,
            `output_0` of a tuple or a list.
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


def columns(parts: Sequence[RowPart]) -> Iterator[tuple[RowPart, slice]]:
    """Each part with its place in the row."""
    begin = 0
    for part in parts:
        yield part, slice(begin, begin + part.size)
        begin += part.size


def split_outputs(outputs: Row, parts: Sequence[RowPart]) -> dict[str, Row]:
    """(N, sum of sizes) -> name: (N, *shape) of each part, in their order; arrays or tensors."""
    n = len(outputs)
    return {part.name: outputs[:, place].reshape((n, *part.shape)) for part, place in columns(parts)}
