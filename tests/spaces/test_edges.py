"""Where the precision changes: the same conversions as ever, derived for any space."""

from __future__ import annotations

import json
from collections.abc import Sequence
from pathlib import Path
from typing import Any

import numpy as np
import pytest

from hwnas.cost import analytic
from hwnas.cost.slots import SlotBlocks
from hwnas.errors import SpaceError
from hwnas.precisions import is_conversion
from hwnas.registry import load
from hwnas.spaces import edges
from hwnas.spaces.edges import conversion, terms
from hwnas.types import Block, Choice, IntArray, Slot

KNOWN: dict[str, list[dict[str, Any]]] = json.loads((Path(__file__).parent / "networks.json").read_text())


@pytest.mark.parametrize("name", sorted(KNOWN))
def test_networks_cost_what_they_did_when_their_conversions_were_slots(name: str) -> None:
    space = load("spaces", name)()
    blocks = SlotBlocks.of(space)
    tables = [blocks.table(of) for of in (analytic.macs, analytic.parameters, analytic.size_bytes)]
    tables.append(blocks.table(analytic.peak_memory_bytes, combine="max"))
    for known in KNOWN[name]:
        encoding = np.array(known["encoding"])
        named = space.named_blocks(encoding)
        assert [b.key for _, b in named if is_conversion(b.kind)] == known["conversions"]
        costs = [float(t.evaluate(encoding[None])[0]) for t in tables]
        assert costs == known["macs, parameters, size_bytes, peak_memory_bytes"]


class Chain:
    """Blocks in a row; each may have a precision of its own and, if asked for, be absent."""

    name = "chain"

    def __init__(self, precisions: Sequence[Sequence[str]], *, optional: Sequence[int] = ()) -> None:
        choices: list[Choice] = []
        self.slots: tuple[Slot, ...] = ()
        for i, options in enumerate(precisions):
            depends_on = [len(choices)]
            choices.append(Choice(name=f"{i}.precision", options=tuple(options)))
            if i in optional:
                depends_on.append(len(choices))
                choices.append(Choice(name=f"{i}.present", options=(False, True)))
            self.slots += (Slot(name=str(i), depends_on=tuple(depends_on)),)
        self.choices = tuple(choices)

    def canonical(self, encodings: IntArray) -> IntArray:
        return encodings

    def block_at(self, slot: int, options: Sequence[int]) -> Block | None:
        if len(options) == 2 and not options[1]:
            return None
        precision = self.choices[self.slots[slot].depends_on[0]].options[options[0]]
        shape = (slot + 1, 4, 4)
        return Block(kind="odd", in_shape=shape, out_shape=(slot + 2, 4, 4), precision=str(precision))

    def named_blocks(self, encoding: IntArray) -> tuple[tuple[str, Block], ...]:
        found = ((t.name, t.at(encoding.tolist())) for t in terms(self))
        return tuple((name, block) for name, block in found if block is not None)


def kinds(space: Chain, *encoding: int) -> list[str]:
    return [f"{name} {b.kind} {b.in_shape[0]}" for name, b in space.named_blocks(np.array(encoding))]


BOTH = ("fp32", "int8")


def test_floats_alone_have_no_edges() -> None:
    assert [t.name for t in terms(Chain([["fp32"], ["fp16"]]))] == ["0", "1"]


def test_integers_alone_have_edges_at_the_ends_that_depend_on_nothing() -> None:
    found = {t.name: t.depends_on for t in terms(Chain([["int8"], ["int8"]])) if t.name.startswith("conversion")}
    assert found == {"conversion.0": (), "conversion.end": ()}


def test_an_edge_depends_on_the_precisions_around_it_alone() -> None:
    found = {t.name: t.depends_on for t in terms(Chain([BOTH, BOTH, BOTH]))}
    assert [found[f"conversion.{n}"] for n in ("0", "1", "2", "end")] == [(0,), (0, 1), (1, 2), (2,)]


def test_before_an_absent_block_stands_no_conversion_and_behind_it_what_the_block_before_asks_for() -> None:
    space = Chain([BOTH, BOTH, BOTH], optional=[1])  # choices: precision 0, precision 1, presence of 1, precision 2
    assert kinds(space, 1, 0, 0, 0) == ["conversion.0 quantize 1", "0 odd 1", "conversion.2 dequantize 3", "2 odd 3"]
    assert kinds(space, 0, 1, 1, 0) == [
        "0 odd 1",
        "conversion.1 quantize 2",
        "1 odd 2",
        "conversion.2 dequantize 3",
        "2 odd 3",
    ]


def test_the_output_is_converted_at_the_shape_of_the_last_block_that_is_there() -> None:
    space = Chain([BOTH, BOTH], optional=[1])
    assert kinds(space, 1, 1, 0)[-1] == "conversion.end dequantize 2"
    assert kinds(space, 1, 1, 1)[-1] == "conversion.end dequantize 3"
    assert next(t for t in terms(space) if t.name == "conversion.end").depends_on == (0, 1, 2)


def test_a_precision_that_no_choice_decides_needs_none() -> None:
    space = Chain([["int8"], BOTH])
    assert next(t for t in terms(space) if t.name == "conversion.1").depends_on == (1,)


def test_too_many_absent_blocks_in_a_row_are_refused(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(edges, "_MOST_STATES", 64)
    with pytest.raises(SpaceError, match="let fewer blocks in a row be absent"):
        terms(Chain([BOTH] * 6, optional=range(6)))


@pytest.mark.parametrize(
    ("before", "after", "kind", "precision"),
    [("fp32", "int8", "quantize", "int8"), ("int8-w7", "fp16", "dequantize", "int8-w7")],
)
def test_a_conversion_has_the_precision_of_the_integers(before: str, after: str, kind: str, precision: str) -> None:
    found = conversion((3, 4, 4), before=before, after=after)
    assert found is not None
    assert (found.kind, found.precision, found.in_shape, found.out_shape) == (kind, precision, (3, 4, 4), (3, 4, 4))
    assert conversion((3,), before=before, after=before) is None
