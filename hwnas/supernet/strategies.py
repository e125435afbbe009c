"""Which sub-networks a training step runs, and what each learns from. Knows spaces, not torch."""

from __future__ import annotations

from collections.abc import Sequence
from typing import TYPE_CHECKING

import numpy as np

from hwnas.types import TrainTarget

if TYPE_CHECKING:
    from hwnas.spaces.base import Space


class SandwichRule:
    """The largest network learns from the labels; the smallest and random ones from it.

    Yu & Huang (2019), "Universally slimmable networks", section 3.1-3.2; Yu et al. (2020), "BigNAS",
    sections 3.1-3.2 (in-place distillation).

    Args:
        space: where the networks come from.
        n_random: how many random networks a step trains besides the largest and the smallest.
    """

    def __init__(self, space: Space, n_random: int = 2) -> None:
        if n_random < 0:
            raise ValueError(f"n_random is {n_random}; it must be 0 or more")
        self.space = space
        self.n_random = n_random

    def architectures(self, step: int, rng: np.random.Generator) -> Sequence[TrainTarget]:
        """Largest first, then the random ones, the smallest last."""
        # over encodings, not networks: uniform over networks is nearly always the deepest one
        random = self.space.sample(self.n_random, rng, over="encodings")
        others = [*random, self.space.smallest()]
        return [
            TrainTarget(encoding=self.space.largest()),
            *(TrainTarget(encoding=e, teacher=0) for e in others),
        ]


class LargestOnly:
    """Trains only the largest network: the baseline, and a warm start for the sandwich rule."""

    def __init__(self, space: Space) -> None:
        self.space = space

    def architectures(self, step: int, rng: np.random.Generator) -> Sequence[TrainTarget]:
        return [TrainTarget(encoding=self.space.largest())]
