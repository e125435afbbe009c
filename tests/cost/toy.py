"""A small space written by hand, so that these tests know all of it."""

from __future__ import annotations

import itertools
from collections.abc import Sequence

import numpy as np

from hwnas.spaces.edges import terms
from hwnas.types import Block, Choice, IntArray, SearchSpace, Slot


class ToySpace:
    """Two stages: the first one block, the second one or two; every block has a width and a precision."""

    name = "toy"
    choices = (
        Choice(name="resolution", options=(8, 16, 24)),
        Choice(name="depth", options=(1, 2)),
        Choice(name="a.kernel_size", options=(3, 5)),
        Choice(name="a.precision", options=("fp32", "int8")),
        Choice(name="b.kernel_size", options=(3, 5, 7), parent=1, active_when=frozenset({1})),
        Choice(name="b.precision", options=("fp32", "int8"), parent=1, active_when=frozenset({1})),
    )
    slots = (
        Slot(name="a", depends_on=(2, 0, 3)),  # out of order on purpose
        Slot(name="b", depends_on=(0, 1, 4, 5)),
    )

    def canonical(self, encodings: IntArray) -> IntArray:
        off = encodings[:, 1] == 0
        out = encodings.copy()
        out[np.ix_(off, [4, 5])] = 0
        return out

    def block_at(self, slot: int, options: Sequence[int]) -> Block | None:
        if slot == 0:
            kernel, resolution, precision = options
        else:
            resolution, depth, kernel, precision = options
            if depth == 0:
                return None
        side = 8 * (resolution + 1)
        attributes = (("activation", "relu6"), ("kernel_size", 3 + 2 * kernel))
        shape = (8 if slot else 3, side, side)
        return Block(
            kind="conv",
            in_shape=shape,
            out_shape=(8, side, side),
            precision=("fp32", "int8")[precision],
            attributes=attributes,
        )

    def named_blocks(self, encoding: IntArray) -> tuple[tuple[str, Block], ...]:
        found = ((t.name, t.at(encoding.tolist())) for t in terms(self))
        return tuple((name, block) for name, block in found if block is not None)


def everything(space: SearchSpace) -> IntArray:
    """(N, D) every encoding of a small space."""
    return np.array(list(itertools.product(*(range(len(c.options)) for c in space.choices))), dtype=np.int64)
