"""Where the precision of a network changes: on the edges between its slots, at its input and at its output.

A slot says what it computes and in which precision; what stands between two that differ follows. An edge depends on
as few choices as decide it: those that neither the tensor nor the precisions before and behind it follow from are
eliminated, option by option, also where blocks that may be absent let the one before vary. So any space has its
conversions without a word about them. Knows the protocol of spaces; no space, no kind of block but the conversions.
"""

from __future__ import annotations

import math
from collections.abc import Hashable, Sequence
from dataclasses import dataclass, field
from typing import Generic, TypeVar

import numpy as np
import numpy.typing as npt

from hwnas.errors import SpaceError
from hwnas.precisions import DEQUANTIZE, EXACT, QUANTIZE, is_quantized
from hwnas.spaces.slots import slot_blocks
from hwnas.types import Block, IntArray, SearchSpace

NAME = "conversion"  # of an edge: `conversion.<slot behind it>`, `conversion.end` at the output
_MOST_STATES = 1 << 22  # cells of a table over the options of its choices: 32 MiB
T = TypeVar("T", bound=Hashable)
Face = tuple[str, tuple[int, ...]]  # a precision and a shape


@dataclass(frozen=True, slots=True, kw_only=True)
class Term:
    """A slot or an edge: what adds to a network's cost, and the few choices that decide it.

    Attributes:
        name: of the slot, or of the edge.
        depends_on: indices of choices.
        sizes: the number of options of each.
        blocks: under all options of these choices, the last choice fastest (C order); None: absent.
    """

    name: str
    depends_on: tuple[int, ...]
    sizes: tuple[int, ...]
    blocks: tuple[Block | None, ...]

    def at(self, encoding: Sequence[int]) -> Block | None:
        """The block of a network; None: absent.

        Args:
            encoding: option indices of all choices of the space.
        """
        cell = 0
        for choice, size in zip(self.depends_on, self.sizes, strict=True):
            cell = cell * size + encoding[choice]
        return self.blocks[cell]


def conversion(shape: tuple[int, ...], *, before: str, after: str) -> Block | None:
    """What stands where a tensor becomes integers, or ceases to be; None elsewhere.

    Args:
        shape: of the tensor.
        before: precision it comes in.
        after: precision it is wanted in.
    """
    if is_quantized(before) == is_quantized(after):
        return None
    kind, precision = (QUANTIZE, after) if is_quantized(after) else (DEQUANTIZE, before)
    return Block(kind=kind, in_shape=shape, out_shape=shape, precision=precision)


def terms(space: SearchSpace) -> tuple[Term, ...]:
    """The slots of a space and the edges where the precision may change, in the network's order.

    Raises:
        SpaceError: a slot depends on choices that do not exist, or an edge on too many.
    """
    sizes = tuple(len(c.options) for c in space.choices)
    # What leaves the part of the network so far: first its input, whose shape nobody asks for (`_edge` takes that of
    # what is entered), then, slot by slot, what the slot gives or, where it is absent, what left before it.
    leaving: _Table[Face] = _Table.of((), sizes=sizes, values=[(EXACT, ())])
    found: list[Term] = []
    for i, slot in enumerate(space.slots):
        # Equal blocks become one object: depths under which a block is present, say, differ in nothing else.
        known: dict[Block | None, Block | None] = {}
        blocks = tuple(known.setdefault(b, b) for b in slot_blocks(space, i))
        scope = slot.depends_on
        entering = _Table.of(scope, sizes=sizes, values=[_face(b, b.in_shape) if b else None for b in blocks])
        found += _edge(slot.name, leaving, entering)
        found.append(Term(name=slot.name, depends_on=scope, sizes=tuple(sizes[j] for j in scope), blocks=blocks))
        left = _Table.of(scope, sizes=sizes, values=[_face(b, b.out_shape) if b else None for b in blocks])
        leaving = left.or_else(leaving, what=f"slot {slot.name!r}")
    # Behind the last slot stands whoever asked for the logits: the same tensor, wanted in floats.
    output = [(EXACT, face[1]) if face else None for face in leaving.options]
    wanted = _Table(scope=leaving.scope, sizes=sizes, codes=leaving.codes, options=output)
    return (*found, *(_edge("end", leaving, wanted) if space.slots else ()))


def _face(block: Block, shape: tuple[int, ...]) -> Face:
    return block.precision, shape


def _edge(behind: str, leaving: _Table[Face], entering: _Table[Face]) -> list[Term]:
    """The edge before a slot, if the precision can change there."""
    # Without its shape what leaves depends on fewer choices; the tensor's shape is told by what is entered anyway.
    precisions = leaving.mapped([face[0] if face else None for face in leaving.options])
    scope, (before, after) = _aligned(precisions, entering, what=f"the edge before {behind!r}")
    between = [
        [conversion(f[1], before=p, after=f[0]) if f and p else None for f in entering.options]
        for p in precisions.options
    ]
    options: list[Block | None] = list(dict.fromkeys([None, *(b for row in between for b in row)]))
    codes = np.array([[options.index(b) for b in row] for row in between], dtype=np.int64)
    edge = _Table(scope=scope, sizes=entering.sizes, codes=codes[before, after], options=options).reduced()
    if not edge.codes.any():  # option 0 is no conversion
        return []
    cells = tuple(options[c] for c in edge.codes.ravel().tolist())
    return [Term(name=f"{NAME}.{behind}", depends_on=edge.scope, sizes=edge.codes.shape, blocks=cells)]


@dataclass(frozen=True, slots=True, kw_only=True)
class _Table(Generic[T]):
    """What is so under the options of a few choices.

    Attributes:
        scope: indices of the choices, ascending.
        sizes: number of options of every choice of the space.
        codes: over the options of the scope: index into `options`.
        options: what may be; None: absent.
    """

    scope: tuple[int, ...]
    sizes: tuple[int, ...]
    codes: IntArray
    options: Sequence[T | None] = field(repr=False)

    @classmethod
    def of(cls, scope: Sequence[int], *, sizes: tuple[int, ...], values: Sequence[T | None]) -> _Table[T]:
        """The table of values in C order over a scope in any order, without choices that decide nothing."""
        serial: dict[T | None, int] = {}
        codes = np.array([serial.setdefault(v, len(serial)) for v in values], dtype=np.int64)
        order = np.argsort(scope)  # a slot may name its choices in any order; tables are joined in one
        codes = codes.reshape([sizes[j] for j in scope]).transpose(order)
        ascending = tuple(scope[i] for i in order)
        return cls(scope=ascending, sizes=sizes, codes=codes, options=list(serial)).reduced()

    def reduced(self) -> _Table[T]:
        """The same without the choices that decide nothing."""
        codes, scope = self.codes, list(self.scope)
        for axis in reversed(range(codes.ndim)):  # from behind: an axis that goes does not move those still to come
            first = codes.take([0], axis=axis)  # (..., n, ...) -> (..., 1, ...), which broadcasts against all of them
            if (codes == first).all():
                codes = first.squeeze(axis)
                del scope[axis]
        return _Table(scope=tuple(scope), sizes=self.sizes, codes=codes, options=self.options)

    def mapped(self, options: Sequence[str | None]) -> _Table[str]:
        """The table of what its options lead to."""
        distinct = list(dict.fromkeys(options))
        to = np.array([distinct.index(o) for o in options], dtype=np.int64)
        return _Table(scope=self.scope, sizes=self.sizes, codes=to[self.codes], options=distinct).reduced()

    def or_else(self, other: _Table[T], *, what: str) -> _Table[T]:
        """What this table says where it is not absent, else what the other does."""
        if None not in self.options:
            return self
        options = list(dict.fromkeys([*self.options, *other.options]))
        scope, (mine, theirs) = _aligned(self, other, what=what)
        to = [np.array([options.index(o) for o in t.options], dtype=np.int64) for t in (self, other)]
        codes = np.where(mine == self.options.index(None), to[1][theirs], to[0][mine])
        return _Table(scope=scope, sizes=self.sizes, codes=codes, options=options).reduced()


def _aligned(
    a: _Table[T] | _Table[str], b: _Table[T] | _Table[str], *, what: str
) -> tuple[tuple[int, ...], tuple[npt.NDArray[np.int64], npt.NDArray[np.int64]]]:
    """The codes of two tables, both over the options of both scopes."""
    scope = tuple(sorted({*a.scope, *b.scope}))
    shape = [a.sizes[j] for j in scope]
    if math.prod(shape) > _MOST_STATES:
        raise SpaceError(
            f"the precision around {what} depends on {len(scope)} choices with {math.prod(shape)} combinations; at "
            f"most {_MOST_STATES} are taken: let fewer blocks in a row be absent"
        )
    # (sizes of a table's own choices) -> (sizes of all choices), as views: nothing is copied
    spread = [
        np.broadcast_to(t.codes.reshape([t.sizes[j] if j in t.scope else 1 for j in scope]), shape) for t in (a, b)
    ]
    return scope, (np.asarray(spread[0]), np.asarray(spread[1]))
