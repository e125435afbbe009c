"""Conformance checks of a search space: what the rest of hwnas takes for granted, tried.

Each check takes a space and a source of randomness, and raises AssertionError with the counterexample.
A third party's test is one line for each:

    @pytest.mark.parametrize("check", space_suite.CHECKS, ids=lambda check: check.__name__)
    def test_conformance(check):
        check(MySpace(), np.random.default_rng(0))

`check_count_by_enumeration` walks through all encodings: for small spaces only, so it stands apart.
This module knows spaces; never torch, devices or weights.
"""

from __future__ import annotations

import itertools
import json
import math
from collections.abc import Callable
from typing import Literal

import numpy as np

from hwnas.precisions import gives_integers, is_conversion, takes_integers
from hwnas.spaces import space_from_json
from hwnas.spaces.base import Space
from hwnas.spaces.kinds import normalised
from hwnas.types import IntArray, SearchSpace

SAMPLES = 24
MAX_ENUMERATED = 100_000


def check_protocol(space: Space, rng: np.random.Generator) -> None:
    """It is a SearchSpace; slots name choices that exist and are in order; names are unique."""
    _require(isinstance(space, SearchSpace), f"{space!r} lacks a part of the SearchSpace protocol")
    for what, names in (("choices", [c.name for c in space.choices]), ("slots", [s.name for s in space.slots])):
        _require(len(set(names)) == len(names), f"two {what} have one name: {names}")
    for slot in space.slots:
        valid = set(range(len(space.choices)))
        _require(valid.issuperset(slot.depends_on), f"slot {slot.name!r} depends on unknown choices {slot.depends_on}")
        ordered = tuple(sorted(set(slot.depends_on)))
        _require(slot.depends_on == ordered, f"slot {slot.name!r}: depends_on {slot.depends_on} must be {ordered}")


def check_canonical(space: Space, rng: np.random.Generator) -> None:
    """Canonical forms are in range, zero where switched off, and their own canonical form."""
    raw = _raw(space, rng)
    before = raw.copy()
    canonical = space.canonical(raw)
    _require(np.array_equal(raw, before), "canonical changed its argument")
    _require_canonical(space, canonical, "canonical")
    on = space.active(raw)
    _require(np.array_equal(on, space.active(canonical)), "canonical changed which choices are active")
    _require(np.array_equal(canonical[on], raw[on]), "canonical changed an active choice")
    _require(not canonical[~on].any(), "canonical left a choice that is switched off above 0")
    one = space.canonical(raw[0])
    _require(np.array_equal(one, canonical[0]), "canonical of one encoding differs from that of a batch")


def check_encode_decode(space: Space, rng: np.random.Generator) -> None:
    """`encode` and `decode` are inverse on canonical encodings."""
    for encoding in space.sample(SAMPLES, rng):
        architecture = space.decode(encoding)
        again = space.encode(architecture)
        _require(np.array_equal(again, encoding), f"encode(decode(x)) is {again} for x = {encoding}")
        _require(space.decode(again) == architecture, f"decode(encode(a)) differs for {architecture}")


def check_sampling(space: Space, rng: np.random.Generator) -> None:
    """Samples are canonical, of the asked number, and follow from the generator alone."""
    ways: tuple[Literal["networks", "encodings"], ...] = ("networks", "encodings")
    for n, over in itertools.product((0, 1, SAMPLES), ways):
        seed = int(rng.integers(2**32))
        drawn = space.sample(n, np.random.default_rng(seed), over=over)
        _require(drawn.shape == (n, len(space.choices)), f"sample({n}) has shape {drawn.shape}")
        _require_canonical(space, drawn, f"sample over {over}")
        again = space.sample(n, np.random.default_rng(seed), over=over)
        _require(np.array_equal(drawn, again), f"sample over {over} does not follow from its generator alone")


def check_extremes(space: Space, rng: np.random.Generator) -> None:
    """`largest` and `smallest` take the last and the first option of each choice that matters."""
    for what, encoding in (("largest", space.largest()), ("smallest", space.smallest())):
        _require_canonical(space, encoding[None], what)
        for i in np.flatnonzero(space.active(encoding)).tolist():
            expected = len(space.choices[i].options) - 1 if what == "largest" else 0
            _require(encoding[i] == expected, f"{what}: {space.choices[i].name} is option {encoding[i]}")


def check_mutation(space: Space, rng: np.random.Generator) -> None:
    """Mutants are canonical; probability 0 changes nothing, 1 changes every choice that was and stays active."""
    parents = space.sample(SAMPLES, rng)
    same = space.mutate(parents, rng, probability=0.0)
    _require(np.array_equal(same, parents), "mutate with probability 0 changed an architecture")
    _require_canonical(space, space.mutate(parents, rng, probability=0.3), "mutate")
    others = space.mutate(parents, rng, probability=1.0)
    _require_canonical(space, others, "mutate")
    several = np.array([len(c.options) > 1 for c in space.choices], dtype=np.bool_)  # of one option there is no other
    stayed = space.active(parents) & space.active(others) & several
    _require(not (others == parents)[stayed].any(), "mutate with probability 1 kept an option")


def check_crossover(space: Space, rng: np.random.Generator) -> None:
    """Children are canonical, and each active choice has the option of a parent where it was active."""
    a, b = space.sample(SAMPLES, rng), space.sample(SAMPLES, rng)
    child = space.crossover(a, b, rng)
    _require_canonical(space, child, "crossover")
    from_a = space.active(a) & (child == a)
    from_b = space.active(b) & (child == b)
    _require(bool((from_a | from_b)[space.active(child)].all()), "a child has an option of neither parent")
    _require(np.array_equal(space.crossover(a, a, rng), a), "crossover of an architecture with itself changed it")


def check_json(space: Space, rng: np.random.Generator) -> None:
    """The definition survives JSON text: same choices, slots, fingerprint and blocks."""
    again = space_from_json(json.loads(json.dumps(space.to_json(), allow_nan=False)))
    _require(again == space and hash(again) == hash(space), "the space read back is not equal")
    _require(again.choices == space.choices, "the choices changed on their way through JSON")
    _require(again.slots == space.slots, "the slots changed on their way through JSON")
    _require(again.fingerprint() == space.fingerprint(), "the fingerprint changed on its way through JSON")
    for encoding in space.sample(2, rng):
        _require(again.named_blocks(encoding) == space.named_blocks(encoding), "a network changed through JSON")


def check_blocks_depend_on_slots_choices(space: Space, rng: np.random.Generator) -> None:
    """A slot's block in a network is what `block_at` says, whatever the switched-off choices are."""
    for encoding in _raw(space, rng):
        expected = [
            (slot.name, normalised(block))
            for i, slot in enumerate(space.slots)
            if (block := space.block_at(i, encoding[list(slot.depends_on)].tolist())) is not None
        ]
        _require(
            expected == [(name, b) for name, b in space.named_blocks(encoding) if not is_conversion(b.kind)],
            f"blocks of {encoding.tolist()} differ when the choices that are switched off become 0",
        )


def check_slot_blocks(space: Space, rng: np.random.Generator) -> None:
    """`terms` list `block_at` in C order; `enumerate_blocks` and `distinct_blocks` hold every block."""
    distinct = space.distinct_blocks()
    _require(len({b.key for b in distinct}) == len(distinct), "distinct_blocks has two blocks of one key")
    by_slot, terms = space.enumerate_blocks(), {t.name: t for t in space.terms}
    for encoding in space.sample(SAMPLES, rng):
        for name, block in space.named_blocks(encoding):
            _require(block in by_slot[name], f"enumerate_blocks lacks {block.key} of slot {name!r}")
        for i, slot in enumerate(space.slots):
            options = encoding[list(slot.depends_on)].tolist()
            sizes = [len(space.choices[j].options) for j in slot.depends_on]
            at = int(np.ravel_multi_index(options, sizes)) if options else 0
            _require(len(terms[slot.name].blocks) == math.prod(sizes), f"the term of {slot.name!r} is incomplete")
            there = space.block_at(i, options)
            _require(terms[slot.name].blocks[at] == (there and normalised(there)), f"term of {slot.name!r}: order")
    _require(set(itertools.chain.from_iterable(by_slot.values())) == set(distinct), "distinct_blocks is incomplete")


def check_networks_are_distinct(space: Space, rng: np.random.Generator) -> None:
    """Neighbours with different canonical encodings have different blocks (where the space has blocks)."""
    if not space.slots:
        return
    for parent in space.sample(4, rng):
        network = space.named_blocks(parent)
        for i in np.flatnonzero(space.active(parent)).tolist():
            for option in range(len(space.choices[i].options)):
                neighbour = parent.copy()
                neighbour[i] = option
                same = np.array_equal(space.canonical(neighbour), parent)
                _require(
                    same == (space.named_blocks(neighbour) == network),
                    f"{parent.tolist()} and {neighbour.tolist()}: encodings and networks disagree on being equal",
                )


def check_describe(space: Space, rng: np.random.Generator) -> None:
    """A description names the space and has no trailing blanks."""
    for encoding in space.sample(3, rng):
        text = space.describe(encoding)
        _require(space.name in text, f"the description does not name the space: {text!r}")
        _require(all(line == line.rstrip() for line in text.split("\n")), f"trailing blanks in {text!r}")


def check_count_by_enumeration(space: Space, rng: np.random.Generator) -> None:
    """`count` is the number of different canonical rows among all encodings.

    Raises:
        ValueError: the space has more than MAX_ENUMERATED encodings.
    """
    sizes = [len(c.options) for c in space.choices]
    if math.prod(sizes) > MAX_ENUMERATED:
        raise ValueError(f"{space!r} has {math.prod(sizes)} encodings; at most {MAX_ENUMERATED} can be enumerated")
    rows = np.array(list(itertools.product(*map(range, sizes))), dtype=np.int64)  # (product of sizes, D)
    distinct = len({row.tobytes() for row in space.canonical(rows)})
    _require(space.count() == distinct, f"count() is {space.count()}, enumeration finds {distinct}")


def check_precisions_meet(space: Space, rng: np.random.Generator) -> None:
    """Of every network, integers meet integers and floats floats, and it takes and gives floats."""
    for encoding in space.sample(SAMPLES, rng):
        integers = False
        for name, block in space.named_blocks(encoding):
            _require(takes_integers(block) == integers, f"what enters {name!r} of {encoding.tolist()}")
            integers = gives_integers(block)
        _require(not integers, f"{encoding.tolist()} gives integers")


Check = Callable[[Space, np.random.Generator], None]
CHECKS: tuple[Check, ...] = (
    check_protocol,
    check_canonical,
    check_encode_decode,
    check_sampling,
    check_extremes,
    check_mutation,
    check_crossover,
    check_json,
    check_blocks_depend_on_slots_choices,
    check_slot_blocks,
    check_precisions_meet,
    check_networks_are_distinct,
    check_describe,
)


def _require(condition: bool, message: str) -> None:
    if not condition:  # an `assert` statement would vanish under python -O
        raise AssertionError(message)


def _raw(space: Space, rng: np.random.Generator) -> IntArray:
    """(SAMPLES, D) any encodings, canonical or not."""
    sizes = np.array([len(c.options) for c in space.choices], dtype=np.int64)
    drawn: IntArray = rng.integers(0, sizes, size=(SAMPLES, len(sizes)), dtype=np.int64)
    return drawn


def _require_canonical(space: Space, encodings: IntArray, what: str) -> None:
    _require(encodings.dtype == np.int64, f"{what} gave {encodings.dtype} instead of int64")
    again = space.canonical(encodings)  # raises SpaceError when out of range
    _require(np.array_equal(again, encodings), f"{what} gave an encoding that is not canonical")
