"""The sandwich rule, and the largest network alone. Knows spaces and numbers."""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import replace
from typing import TYPE_CHECKING

import numpy as np

from hwnas.types import TrainTarget

if TYPE_CHECKING:
    from hwnas.spaces.base import Space


SMALLEST = "smallest"


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
        return [
            TrainTarget(encoding=self.space.largest()),
            *(TrainTarget(encoding=e, teacher=0) for e in random),
            TrainTarget(encoding=self.space.smallest(), teacher=0, name=SMALLEST),
        ]


class SplitSandwich(SandwichRule):
    """As the sandwich rule, but each network besides the largest sees a share of the batch of its own.

    Different images of a batch go to different networks, as in Liao et al. (2021), "Searching for efficient multi-stage
    vision transformers" (ViT-ResNAS), section 3.3. All of them together cost about as much as one, so that a given time
    is enough for more steps, and the largest network, from which the others learn, sees more images.
    """

    def architectures(self, step: int, rng: np.random.Generator) -> Sequence[TrainTarget]:
        """Largest first, then the random ones, the smallest last; who takes which share changes with every step."""
        largest, *others = super().architectures(step, rng)
        # whole shares of the shuffled batch, interleaved: under `torchrun` each process has a part of each
        shares = [slice(int(i), None, len(others)) for i in rng.permutation(len(others))]
        return [largest, *(replace(target, images=s) for target, s in zip(others, shares, strict=True))]


class LargestOnly:
    """Trains only the largest network: the baseline, and a warm start for the sandwich rule."""

    def __init__(self, space: Space) -> None:
        self.space = space

    def architectures(self, step: int, rng: np.random.Generator) -> Sequence[TrainTarget]:
        return [TrainTarget(encoding=self.space.largest())]
