"""What every search space can do, from its choices and slots alone.

An architecture is stored as its encoding: (D,) int64, the index of the option taken in each choice.
Encodings that differ only in choices that are switched off are one network; `canonical` makes them
one row, and every method here that gives encodings gives canonical ones. This module knows numpy;
never torch, devices or weights.
"""

from __future__ import annotations

import hashlib
import itertools
import json
from abc import ABC, abstractmethod
from collections.abc import Mapping, Sequence
from functools import cached_property
from typing import Any, ClassVar, Literal, Self

import numpy as np
import numpy.typing as npt

from hwnas.errors import SpaceError
from hwnas.spaces._serialize import SCHEMA
from hwnas.spaces._text import choices_text
from hwnas.spaces.edges import Term, terms
from hwnas.spaces.encoding import ChoiceTree
from hwnas.types import Block, Choice, IntArray, Option, Slot


class Space(ABC):
    """A search space: implements the SearchSpace protocol and what search needs on top.

    A space never changes after it is made, so it may be shared between threads. Two spaces are equal
    when their definitions are.

    Slots say what a network computes; where two of them differ in precision, what converts between them follows
    (`hwnas.spaces.edges`).

    Subclasses call `__init__` with their choices and slots, implement `arguments` and
    `from_arguments` for files, and override `block_at` when they have slots. In a space whose options
    have a size, options stand in ascending order: the last is the largest.

    Attributes:
        kind: name of the class in files; registered under `space_types`.
        optimizer: that trains such networks well where none is asked for; see `hwnas.supernet.descent`.
        name: for people and files.
        choices: `encoding[i]` indexes `choices[i].options`. Parents stand before their children.
        slots: positions in the network; empty where no cost is a sum over blocks.
        channel_divisor: channels are multiples of it; 0 where the space does not say.
        precisions: which blocks may have, ascending; empty where there are no blocks.
        resolutions: heights and widths of the input, or lengths of series, ascending, where they are a choice or
            `restrict` takes them.
    """

    kind: ClassVar[str]
    optimizer: ClassVar[str] = "sgd"
    channel_divisor: int = 0
    precisions: tuple[str, ...] = ()
    resolutions: tuple[int, ...] = ()

    def __init__(self, name: str, *, choices: Sequence[Choice], slots: Sequence[Slot] = ()) -> None:
        if not isinstance(name, str) or not name:
            raise SpaceError(f"a space needs a name, a text that is not empty; got {name!r}")
        self.name = name
        self.choices = tuple(choices)
        self.slots = tuple(slots)
        self._tree = ChoiceTree(self.choices)

    # ------------------------------------------------------------ what a subclass says

    def block_at(self, slot: int, options: Sequence[int]) -> Block | None:
        """The block of a slot when the choices in its `depends_on` have these option indices; None: absent."""
        raise SpaceError(f"space {self.name!r} describes no blocks (it has no slots), so it has no slot {slot}")

    @abstractmethod
    def arguments(self) -> dict[str, Any]:
        """What the space is made of, as JSON values (lists, never tuples); `name` is added by `to_json`."""

    @classmethod
    @abstractmethod
    def from_arguments(cls, name: str, arguments: Mapping[str, Any]) -> Self:
        """The inverse of `arguments`.

        Raises:
            SpaceError: an argument is unknown, missing or wrong.
        """

    # ------------------------------------------------------------ related spaces

    def restrict(
        self,
        *,
        precisions: Sequence[str] | None = None,
        resolutions: Sequence[int] | None = None,
        width_mults: Sequence[float] | None = None,
        kernel_sizes: Sequence[int] | None = None,
    ) -> Self:
        """The sub-space with fewer options, under the same name. Here only the space itself, with all it has.

        Spaces that have such options override it; a run needs `precisions` where there are several.

        Args:
            precisions: what is kept, None for all; likewise the others.
            resolutions: see there.
            width_mults: see there.
            kernel_sizes: see there.

        Raises:
            SpaceError: an option that this space does not have, or fewer than it has.
        """
        whole: dict[str, tuple[object, ...]] = {"precisions": self.precisions, "resolutions": self.resolutions}
        given = {
            "precisions": precisions,
            "resolutions": resolutions,
            "width_mults": width_mults,
            "kernel_sizes": kernel_sizes,
        }
        for what, options in given.items():
            if options is not None and set(options) != set(whole.get(what, ())):
                raise SpaceError(
                    f"space {self.name!r} cannot be restricted to {what} {', '.join(map(str, options))}: "
                    f"{type(self).__name__} has no `restrict` of its own; write one, or inherit StagedSpace"
                )
        return self

    def computed_in(self, names: Mapping[str, str]) -> Self:
        """The same space where its precisions have other names: of what a device computes instead.

        Args:
            names: precision -> the other; those that are absent stay.

        Raises:
            SpaceError: a name differs, and the space does not override this method.
        """
        other = [f"{names[p]} for {p}" for p in self.precisions if names.get(p, p) != p]
        if other:
            raise SpaceError(
                f"the device computes {', '.join(other)}, which space {self.name!r} cannot say: "
                f"{type(self).__name__} has no `computed_in` of its own; write one, or inherit StagedSpace"
            )
        return self

    # ------------------------------------------------------------ architectures and encodings

    def validate(self, encodings: IntArray) -> IntArray:
        """The encodings, (D,) or (N, D), as int64; not a copy if they were.

        Raises:
            SpaceError: no integers, another number of choices, or an index without an option.
        """
        return self._tree.validate(encodings)

    def canonical(self, encodings: IntArray) -> IntArray:
        """(N, D) -> (N, D), or (D,) -> (D,): choices that are switched off become 0. A new array.

        Raises:
            SpaceError: as `validate`.
        """
        given = self.validate(encodings)
        return self._tree.canonical(np.atleast_2d(given)).reshape(given.shape)

    def active(self, encodings: IntArray) -> npt.NDArray[np.bool_]:
        """Which choices matter, in the shape of the encodings; the others are switched off.

        Raises:
            SpaceError: as `validate`.
        """
        given = self.validate(encodings)
        return self._tree.active(np.atleast_2d(given)).reshape(given.shape)

    def encode(self, architecture: Mapping[str, Option]) -> IntArray:
        """(D,) canonical encoding of an architecture given as choice name -> option.

        Choices that are switched off may be missing; what is given for them must be an option all the same.

        Raises:
            SpaceError: an unknown choice, a value that is no option, or an active choice that is missing.
        """
        return self._tree.encode(architecture)

    def decode(self, encoding: IntArray) -> dict[str, Option]:
        """(D,) -> choice name -> option, active choices only, in the order of `choices`.

        Raises:
            SpaceError: as `validate`, or several encodings at once.
        """
        return self._tree.decode(encoding)

    def _one(self, encoding: IntArray) -> IntArray:
        """The canonical form of a single encoding."""
        one = self.canonical(encoding)
        if one.ndim != 1:
            raise SpaceError(f"one encoding of shape ({len(self.choices)},) is asked for; got {one.shape}")
        return one

    # ------------------------------------------------------------ the networks of the space

    def count(self) -> int:
        """Number of distinct networks, exactly."""
        return self._tree.count()

    def largest(self) -> IntArray:
        """(D,) the last option everywhere: the largest network, options standing in ascending order."""
        return self.canonical(self._tree.sizes - 1)

    def smallest(self) -> IntArray:
        """(D,) the first option everywhere: the smallest network, options standing in ascending order."""
        return np.zeros(len(self.choices), dtype=np.int64)

    def sample(
        self, n: int, rng: np.random.Generator, *, over: Literal["networks", "encodings"] = "networks"
    ) -> IntArray:
        """(n, D) random architectures, canonical; repetitions may occur.

        Args:
            n: how many, at least 0.
            rng: source of randomness.
            over: `networks`: uniform over the distinct networks, so a deep stage, which has more of them,
                comes more often. `encodings`: every choice uniform over its options, as published
                supernet training does.

        Raises:
            SpaceError: `n` is negative or `over` unknown.
        """
        if n < 0:
            raise SpaceError(f"cannot sample {n} architectures; ask for 0 or more")
        if over == "networks":
            return self._tree.sample_networks(n, rng)
        if over == "encodings":
            return self._tree.canonical(self._tree.sample_encodings(n, rng))
        raise SpaceError(f"cannot sample over {over!r}; allowed: networks, encodings")

    def mutate(self, encodings: IntArray, rng: np.random.Generator, *, probability: float) -> IntArray:
        """Neighbours of architectures: each active choice becomes another of its options with a probability.

        A choice that a mutation switches on takes a random option. Canonical, in the given shape.

        Args:
            encodings: (N, D) or (D,).
            rng: source of randomness.
            probability: of a change, for each choice, from 0 to 1.

        Raises:
            SpaceError: as `validate`, or a probability outside 0 to 1.
        """
        if not 0.0 <= probability <= 1.0:
            raise SpaceError(f"mutation probability {probability}; allowed: 0 to 1")
        given = self.validate(encodings)
        rows = np.atleast_2d(given)
        # what is switched off gets an option too, for the case that its parent is about to switch it on
        filled = np.where(self._tree.active(rows), rows, self._tree.sample_encodings(len(rows), rng))
        # another option: a step of 1 to size - 1 around the circle of options; none where there is only one
        steps = rng.integers(0, np.maximum(self._tree.sizes - 1, 1), size=rows.shape, dtype=np.int64) + 1
        # drawn for every choice, active or not, so that one network's changes do not shift the numbers of the next
        changed = rng.random(rows.shape) < probability
        mutated = (filled + np.where(changed, steps, 0)) % self._tree.sizes
        return self._tree.canonical(mutated).reshape(given.shape)

    def crossover(self, a: IntArray, b: IntArray, rng: np.random.Generator) -> IntArray:
        """Uniform crossover: each choice from either parent, and from the one where it is active if only one.

        So every active choice of a child has the option of a parent that made it. Canonical, in the given shape.

        Args:
            a: (N, D) or (D,) first parents.
            b: the second parents, in the same shape.
            rng: source of randomness.

        Raises:
            SpaceError: as `validate`, or shapes that differ.
        """
        first, second = self.canonical(a), self.canonical(b)
        if first.shape != second.shape:
            raise SpaceError(f"parents must have one shape, got {first.shape} and {second.shape}")
        on_first, on_second = self.active(first), self.active(second)
        from_first = np.where(on_first == on_second, rng.random(first.shape) < 0.5, on_first)
        return self.canonical(np.where(from_first, first, second))

    # ------------------------------------------------------------ blocks

    def named_blocks(self, encoding: IntArray) -> tuple[tuple[str, Block], ...]:
        """(D,) -> (name, block) of the network's slots and of the edges where its precision changes, in order.

        Raises:
            SpaceError: as `validate`, or several encodings at once.
        """
        one = self._one(encoding).tolist()
        return tuple((t.name, block) for t in self.terms if (block := t.at(one)) is not None)

    @cached_property
    def terms(self) -> tuple[Term, ...]:
        """The slots and the edges where the precision may change, in the network's order, with all their blocks."""
        return terms(self)

    def enumerate_blocks(self) -> dict[str, tuple[Block, ...]]:
        """Name of a slot or an edge -> its distinct blocks."""
        return {t.name: tuple(b for b in dict.fromkeys(t.blocks) if b is not None) for t in self.terms}

    def distinct_blocks(self) -> tuple[Block, ...]:
        """All distinct blocks of the space, in the network's order: what a latency table must hold."""
        return tuple(dict.fromkeys(itertools.chain.from_iterable(self.enumerate_blocks().values())))

    # ------------------------------------------------------------ people and files

    def describe(self, encoding: IntArray) -> str:
        """A short text of several lines for people.

        Raises:
            SpaceError: as `decode`.
        """
        return f"{self.name}\n{choices_text(self.decode(encoding))}"

    def to_json(self) -> dict[str, Any]:
        """The space's definition as JSON values; `space_from_json` makes the space again."""
        return {"schema": SCHEMA, "type": self.kind, "name": self.name, **self.arguments()}

    def fingerprint(self) -> str:
        """SHA-256 of the definition: equal for equal spaces, in any process."""
        text = json.dumps(self.to_json(), sort_keys=True, separators=(",", ":"), allow_nan=False)
        return hashlib.sha256(text.encode()).hexdigest()

    def __eq__(self, other: object) -> bool:
        return isinstance(other, Space) and self.to_json() == other.to_json()

    def __hash__(self) -> int:
        return hash((type(self), self.name, self.choices))

    def __repr__(self) -> str:
        return f"{type(self).__name__}({self.name!r}, {len(self.choices)} choices, {len(self.slots)} slots)"
