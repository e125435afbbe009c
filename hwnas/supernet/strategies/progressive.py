"""Progressive shrinking: what is elastic becomes so by and by. Knows spaces and numbers."""

from __future__ import annotations

from collections.abc import Sequence
from typing import TYPE_CHECKING

import numpy as np

from hwnas.types import TrainTarget

if TYPE_CHECKING:
    from hwnas.spaces.base import Space

# shares of the steps at whose end more becomes elastic; resolution and precision are from the first step on
_LARGEST_UNTIL, _KERNELS_UNTIL, _DEPTHS_UNTIL = 0.25, 0.4, 0.6
_KERNELS, _DEPTHS, _FREE = ("kernel_size",), ("depth",), ("resolution", "precision")


class ProgressiveShrinking:
    """First the largest network alone, then smaller kernels, then fewer layers, then fewer channels as well.

    Cai et al. (2020), "Once-for-All", section 3.3. As there the largest network teaches; other than there it goes on to
    learn from the labels in every step, instead of being kept as it was.

    Args:
        space: where the networks come from.
        steps: of the training.
        n_random: how many smaller networks a step trains.

    Raises:
        ValueError: a number is too small.
    """

    def __init__(self, space: Space, *, steps: int, n_random: int = 2) -> None:
        if steps < 1 or n_random < 1:
            raise ValueError(f"steps is {steps} and n_random {n_random}; both must be 1 or more")
        self.space = space
        self.steps = steps
        self.n_random = n_random
        self._options = np.array([len(c.options) for c in space.choices])
        self._kinds = [c.name.rpartition(".")[2] for c in space.choices]

    def architectures(self, step: int, rng: np.random.Generator) -> Sequence[TrainTarget]:
        """Largest first, then what is elastic by now."""
        done = step / self.steps
        largest = self.space.largest()
        targets = [TrainTarget(encoding=largest)]
        if done < _LARGEST_UNTIL:
            return targets
        elastic = np.array([self._is_elastic(kind, done) for kind in self._kinds])
        # choices one by one: of networks that `sample` gives, what is left out has no choices any more
        drawn = rng.integers(0, self._options, size=(self.n_random, len(self._options)))
        some = self.space.canonical(np.where(elastic, drawn, largest))
        return [*targets, *(TrainTarget(encoding=e, teacher=0) for e in some)]

    @staticmethod
    def _is_elastic(kind: str, done: float) -> bool:
        if kind in (*_FREE, *_KERNELS):
            return True
        return done >= (_KERNELS_UNTIL if kind in _DEPTHS else _DEPTHS_UNTIL)
