"""Which choices and slots a space of stages has, what they are called, and which depends on which.

This module knows names and conditions: no shapes, no blocks. Stage -1 is the stem, the stage after
the last is the head.
"""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import dataclass
from typing import Any, Literal

from hwnas.spaces.stages import StageSpec
from hwnas.types import Choice, Option, Slot


@dataclass(frozen=True, slots=True, kw_only=True)
class Place:
    """Where a slot stands."""

    role: Literal["stem", "block", "head"]
    stage: int
    block: int = 0


@dataclass(frozen=True, slots=True, kw_only=True)
class Layout:
    """Choices and slots of a space.

    Attributes:
        choices: the dimensions with several options, parents before children.
        fixed: the other dimensions, by name, with their only option.
        places: where each of `slots` stands.
        slots: in the order of the network.
    """

    choices: tuple[Choice, ...]
    fixed: dict[str, Any]
    places: tuple[Place, ...]
    slots: tuple[Slot, ...]


def block_name(stage: int, block: int, *, n_stages: int) -> str:
    """Name of the slot at a place: `stem`, `stages.<s>.blocks.<b>` or `head`."""
    if stage < 0:
        return "stem"
    return "head" if stage == n_stages else f"stages.{stage}.blocks.{block}"


def make_layout(
    *,
    resolutions: Sequence[int],
    width_mults: Sequence[float],
    stages: Sequence[StageSpec],
    precisions: Sequence[str],
) -> Layout:
    """The choices and slots of a space with these dimensions."""
    choices, fixed = _make_choices(resolutions, width_mults, stages=stages, precisions=precisions)
    slots = _Slots(stages, choices)
    for stage, block in _positions(stages):
        slots.add_block(stage, block)
    return Layout(choices=choices, fixed=fixed, places=tuple(slots.places), slots=tuple(slots.slots))


def _positions(stages: Sequence[StageSpec]) -> list[tuple[int, int]]:
    """(stage, block) of everything that may stand in a network, in order."""
    inside = [(s, b) for s, stage in enumerate(stages) for b in range(max(stage.depths))]
    return [(-1, 0), *inside, (len(stages), 0)]


def _make_choices(
    resolutions: Sequence[int], width_mults: Sequence[float], *, stages: Sequence[StageSpec], precisions: Sequence[str]
) -> tuple[tuple[Choice, ...], dict[str, Any]]:
    choices: list[Choice] = []
    fixed: dict[str, Any] = {}

    def add(name: str, options: Sequence[Option], parent: int | None = None, when: Sequence[int] = ()) -> int:
        """Index of the new choice; -1 if there is nothing to choose."""
        if len(options) == 1:
            fixed[name] = options[0]
            return -1
        choices.append(Choice(name=name, options=tuple(options), parent=parent, active_when=frozenset(when)))
        return len(choices) - 1

    add("resolution", resolutions)
    add("width_mult", width_mults)
    add("stem.precision", precisions)
    for s, stage in enumerate(stages):
        depth = add(f"stages.{s}.depth", stage.depths)
        add(f"stages.{s}.activation", stage.activations)
        add(f"stages.{s}.se", stage.se)
        for b in range(max(stage.depths)):
            reached = [i for i, d in enumerate(stage.depths) if d > b]
            # beyond the smallest depth there are several, so `depth` is a choice and not -1
            parent, when = (depth, reached) if b >= min(stage.depths) else (None, [])
            add(f"stages.{s}.blocks.{b}.kernel_size", stage.kernel_sizes, parent, when)
            add(f"stages.{s}.blocks.{b}.expand_ratio", stage.expand_ratios, parent, when)
            add(f"stages.{s}.blocks.{b}.precision", precisions, parent, when)
    add("head.precision", precisions)
    return tuple(choices), fixed


class _Slots:
    """Collects slots with the choices they depend on: as few as decide the block."""

    def __init__(self, stages: Sequence[StageSpec], choices: Sequence[Choice]) -> None:
        self._stages = stages
        self._index = {c.name: i for i, c in enumerate(choices)}
        self.places: list[Place] = []
        self.slots: list[Slot] = []

    def add(self, name: str, place: Place, dimensions: Sequence[str]) -> None:
        """A slot that depends on the dimensions among these that are choices."""
        depends_on = tuple(sorted({self._index[d] for d in dimensions if d in self._index}))
        self.places.append(place)
        self.slots.append(Slot(name=name, depends_on=depends_on))

    def add_block(self, stage: int, block: int) -> None:
        name = block_name(stage, block, n_stages=len(self._stages))
        shared = ["resolution", "width_mult", *self._presence(stage, block), f"{name}.precision"]
        if stage < 0:
            self.add(name, Place(role="stem", stage=stage), shared)
        elif stage == len(self._stages):
            self.add(name, Place(role="head", stage=stage), shared)
        else:
            of_stage = [f"stages.{stage}.activation", f"stages.{stage}.se"]
            own = [f"{name}.kernel_size", f"{name}.expand_ratio"]
            self.add(name, Place(role="block", stage=stage, block=block), [*shared, *of_stage, *own])

    def _presence(self, stage: int, block: int) -> list[str]:
        """What decides whether there is a block."""
        inside = 0 <= stage < len(self._stages)
        return [f"stages.{stage}.depth"] if inside and block >= min(self._stages[stage].depths) else []
