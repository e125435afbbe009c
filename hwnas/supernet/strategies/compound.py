"""Compound choices: the parts of a stage are small together, or large. Knows spaces and numbers."""

from __future__ import annotations

from collections.abc import Sequence
from typing import TYPE_CHECKING

import numpy as np

from hwnas.supernet.strategies.sandwich import SandwichRule
from hwnas.types import IntArray, TrainTarget

if TYPE_CHECKING:
    from hwnas.spaces.base import Space


class Compound(SandwichRule):
    """As the sandwich rule, but a random network has a size for each stage, by which all choices of the stage go.

    Sahni et al. (2021), "CompOFA", section 3: depths and widths grow together in good networks, so that there are far
    fewer networks to train. Which networks are searched later stays as it is: choose with care among those that mix.

    Args:
        space: where the networks come from.
        n_random: how many random networks a step trains besides the largest and the smallest.
    """

    def __init__(self, space: Space, n_random: int = 2) -> None:
        super().__init__(space, n_random)
        prefixes = [_stage(c.name) for c in space.choices]
        self._stages = np.unique(prefixes, return_inverse=True)[1]
        self._last = np.array([len(c.options) - 1 for c in space.choices])

    def architectures(self, step: int, rng: np.random.Generator) -> Sequence[TrainTarget]:
        """Largest first, then the random ones, the smallest last."""
        largest, *random, smallest = super().architectures(step, rng)
        return [largest, *(TrainTarget(encoding=self._drawn(rng), teacher=0) for _ in random), smallest]

    def _drawn(self, rng: np.random.Generator) -> IntArray:
        """(D,) one network."""
        most = max(1, int(self._last.max()))
        levels = rng.integers(0, most + 1, size=int(self._stages.max()) + 1) / most
        return self.space.canonical(np.rint(self._last * levels[self._stages]).astype(np.int64))


def _stage(name: str) -> str:
    """`stages.0` of its choices; choices outside of stages and precisions are on their own."""
    parts = name.split(".")
    return ".".join(parts[:2]) if parts[0] == "stages" and parts[-1] != "precision" else name
