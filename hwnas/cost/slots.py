"""Costs of whole networks as small tables, one for each slot of a space.

A slot's block depends on a few choices only, so a cost that adds up over blocks (or whose largest
block counts) is known for every network of the space from one small table a slot: evaluated by a few
gathers, minimised exactly by elimination. This module must never know what a cost means, how it was
measured, or torch.
"""

from __future__ import annotations

import math
import sys
from collections.abc import Callable, Sequence
from dataclasses import dataclass
from functools import cached_property

import numpy as np
import numpy.typing as npt

from hwnas.cost.elimination import Combine, Factor, Optimum, optimum
from hwnas.cost.exact import UndecidedError
from hwnas.cost.wide import wide_optimum
from hwnas.errors import SpaceError
from hwnas.spaces.base import Space
from hwnas.spaces.edges import terms
from hwnas.types import Block, FloatArray, IntArray, SearchSpace

_CHUNK = 1024  # architectures evaluated at once: their indices and gathered entries stay in the cache
_MERGED_ENTRIES = 1 << 13  # slots are merged into one table as long as it stays this small
_FLOAT32_EXACT = 1 << 24  # integers below this are exact in float32, so BLAS may compute indices


@dataclass(frozen=True, slots=True, kw_only=True, eq=False)
class SlotBlocks:
    """Every block a space can put into its slots, enumerated once and shared by all costs.

    Attributes:
        sizes: (D,) number of options of each choice.
        slots: names of slots and of edges where the precision may change, in the network's order.
        scopes: for each of them, the choices it depends on.
        index: for each slot, an array over the options of its scope: index into `blocks`, -1 if absent.
        blocks: the distinct blocks, in order of appearance.
        canonical: the space's own.
    """

    sizes: tuple[int, ...]
    slots: tuple[str, ...]
    scopes: tuple[tuple[int, ...], ...]
    index: tuple[IntArray, ...]
    blocks: tuple[Block, ...]
    canonical: Callable[[IntArray], IntArray]

    @classmethod
    def of(cls, space: SearchSpace) -> SlotBlocks:
        """Enumerate a space.

        Raises:
            SpaceError: a slot depends on choices that do not exist.
        """
        sizes = tuple(len(c.options) for c in space.choices)
        serial: dict[Block, int] = {}
        index: list[IntArray] = []
        # a space of ours has its terms cached; any other is enumerated here
        found = space.terms if isinstance(space, Space) else terms(space)
        for term in found:
            cells = [-1 if b is None else serial.setdefault(b, len(serial)) for b in term.blocks]
            # (product of sizes,) -> one axis for each choice of the scope
            index.append(np.array(cells, dtype=np.int64).reshape(term.sizes))
        return cls(
            sizes=sizes,
            slots=tuple(t.name for t in found),
            scopes=tuple(t.depends_on for t in found),
            index=tuple(index),
            blocks=tuple(serial),
            canonical=space.canonical,
        )

    def table(self, cost: Callable[[Block], float], *, combine: Combine = "sum", offset: float = 0.0) -> SlotTable:
        """The table of a cost known for each block; an absent block costs nothing.

        Costs that add up are rounded, in their last digits, so that floats add them exactly: a network costs the same
        whatever order its blocks are added in, and one that costs just a limit keeps it.

        Args:
            cost: called once for each distinct block.
            combine: whether the blocks' costs add up or the largest counts (at least 0).
            offset: added to every network.

        Raises:
            ValueError: a block's cost is not a number.
        """
        costs = np.array([*(cost(b) for b in self.blocks), 0.0])  # index -1, absent, finds the 0
        if np.isnan(costs).any():
            raise ValueError(f"the cost of block {self.blocks[int(np.isnan(costs).argmax())].key!r} is not a number")
        if combine == "sum":
            costs = _round_to_add_exactly(costs, most=sum(float(np.abs(costs[i]).max(initial=0.0)) for i in self.index))
        factors = (Factor.over(scope, costs[i]) for scope, i in zip(self.scopes, self.index, strict=True))
        return SlotTable(
            sizes=self.sizes,
            # a slot that never costs anything would only lengthen every gather
            factors=tuple(f for f in factors if f.values.any()),
            combine=combine,
            offset=offset,
            canonical=self.canonical,
        )


@dataclass(frozen=True, kw_only=True, eq=False)
class SlotTable:
    """A cost of every network of a space: `offset` + the sum (or maximum) of one entry a slot.

    Attributes:
        sizes: (D,) number of options of each choice.
        factors: one for each slot that costs anything, over the choices it depends on.
        combine: `sum` or `max`; a maximum is at least 0.
        offset: added to every network.
        canonical: (N, D) -> (N, D), gives equal networks equal encodings.
    """

    sizes: tuple[int, ...]
    factors: tuple[Factor, ...]
    combine: Combine = "sum"
    offset: float = 0.0
    canonical: Callable[[IntArray], IntArray] = np.asarray

    def evaluate(self, encodings: IntArray) -> FloatArray:
        """The cost of N architectures.

        Args:
            encodings: (N, D) option indices; switched-off choices may hold anything in range.

        Returns:
            (N,) float64.

        Raises:
            SpaceError: wrong shape or type, or an index outside its choice's options.
        """
        self._check_form(encodings)
        values = np.full(len(encodings), self.offset)
        # the type of the strides: a product of mixed types would leave BLAS
        sizes = np.array(self.sizes, dtype=self._gather.exact)
        for start in range(0, len(encodings), _CHUNK):
            rows = encodings[start : start + _CHUNK]
            digits = rows.astype(sizes.dtype)
            if digits.size and (digits.min() < 0 or (digits >= sizes).any()):
                # checked: the gather would silently read an entry of another table
                raise self._out_of_range(rows, start)
            values[start : start + len(rows)] += self._gather(digits, self.combine)
        return values

    def minimum(self) -> Optimum:
        """The exact minimum over the space and a canonical encoding that reaches it."""
        return self._optimum(maximize=False)

    def maximum(self) -> Optimum:
        """The exact maximum over the space and a canonical encoding that reaches it."""
        return self._optimum(maximize=True)

    def _optimum(self, *, maximize: bool) -> Optimum:
        try:
            found = optimum(self.factors, self.sizes, combine=self.combine, maximize=maximize)
        except SpaceError as too_large:  # too many choices depend on each other for a table of them
            try:
                found = wide_optimum(self.factors, self.sizes, combine=self.combine, maximize=maximize)
            except UndecidedError:
                raise too_large from None
        # (D,) -> (1, D): the assignment may set choices that are switched off
        encodings = self.canonical(found.assignment[None])
        # evaluated again, so that the minimum is the very float a search gets for this network
        return Optimum(value=float(self.evaluate(encodings)[0]), assignment=encodings[0])

    def _check_form(self, encodings: IntArray) -> None:
        integers = np.issubdtype(encodings.dtype, np.integer)
        if encodings.ndim != 2 or encodings.shape[1] != len(self.sizes) or not integers:
            raise SpaceError(
                f"encodings of shape {encodings.shape} and type {encodings.dtype}; "
                f"they must be integers of shape (N, {len(self.sizes)})"
            )

    def _out_of_range(self, rows: IntArray, start: int) -> SpaceError:
        row, column = np.argwhere((rows < 0) | (rows >= np.array(self.sizes)))[0]
        return SpaceError(
            f"encoding {start + row} has {rows[row, column]} for choice {column}, "
            f"which has the options 0 to {self.sizes[column] - 1}"
        )

    @cached_property
    def _gather(self) -> _Gather:
        return _Gather(_merge(self.factors, self.sizes, self.combine), self.sizes)


class _Gather:
    """All tables laid end to end, and the matrix that turns encodings into positions in them.

    The position of a network's entry in a table is a dot product of its encoding with the table's
    strides, so one BLAS product finds the entries of all tables at once.

    Attributes:
        exact: the float type in which every position is exact.
    """

    def __init__(self, factors: Sequence[Factor], sizes: Sequence[int]) -> None:
        lengths = [f.values.size for f in factors]
        self.exact: npt.DTypeLike = np.float32 if sum(lengths) < _FLOAT32_EXACT else np.float64
        # an empty array first: a cost may have no factors, and nothing cannot be concatenated
        self._entries = np.concatenate([np.zeros(0), *(f.values.ravel() for f in factors)])
        self._starts = np.cumsum([0, *lengths])[:-1, None]
        self._strides = np.zeros((len(factors), len(sizes)), dtype=self.exact)
        for row, factor in zip(self._strides, factors, strict=True):
            # C order: the stride of an axis is the product of the sizes after it
            below = np.cumprod([1, *factor.values.shape[:0:-1]])[::-1]
            row[list(factor.scope)] = below[: len(factor.scope)]

    def __call__(self, digits: FloatArray, combine: Combine) -> FloatArray:
        """(n, D) option indices as `exact` floats -> (n,) combined entries."""
        positions = (self._strides @ digits.T).astype(np.intp)  # (T, D) @ (D, n) -> (T, n)
        positions += self._starts
        found = self._entries.take(positions)
        return np.asarray(found.sum(axis=0) if combine == "sum" else found.max(axis=0, initial=0.0))


def _merge(factors: Sequence[Factor], sizes: Sequence[int], combine: Combine) -> list[Factor]:
    """The same cost with fewer factors: greedily joined where the union of their scopes stays small."""
    join = np.add if combine == "sum" else np.maximum
    merged: list[Factor] = []
    # largest first, as in first-fit decreasing: small ones then fit beside those they share choices with
    for factor in sorted(factors, key=lambda f: -f.values.size):
        unions = [tuple(sorted({*m.scope, *factor.scope})) for m in merged]
        entries = [math.prod(sizes[v] for v in u) for u in unions]
        # where scopes overlap most, the joint table grows least
        growth = [e - m.values.size for e, m in zip(entries, merged, strict=True)]
        host = min(range(len(merged)), key=growth.__getitem__, default=None)
        if host is None or entries[host] > _MERGED_ENTRIES:
            merged.append(factor)
        else:
            union = unions[host]
            merged[host] = Factor(scope=union, values=join(merged[host].aligned(union), factor.aligned(union)))
    return merged


def _round_to_add_exactly(costs: FloatArray, *, most: float) -> FloatArray:
    """The nearest multiples of a power of two of which `most` has so few that every sum up to it is a float."""
    if not 0 < most < math.inf:
        return costs
    exponent = math.frexp(most)[1] - sys.float_info.mant_dig + 1  # a bit to spare for what rounding adds
    return np.ldexp(np.rint(np.ldexp(costs, -exponent)), exponent)
