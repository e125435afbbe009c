"""Sizes are trained the more, the more they still differ from their neighbours. Knows spaces and numbers."""

from __future__ import annotations

from collections.abc import Sequence
from typing import TYPE_CHECKING, Any

import numpy as np

from hwnas.supernet.strategies.sandwich import SandwichRule
from hwnas.supernet.strategies.sizes import Sizes, nearest_to, of_all_sizes
from hwnas.types import FloatArray, IntArray, TrainTarget

if TYPE_CHECKING:
    from hwnas.spaces.base import Space

_CLASSES = 8  # of size, each with as large a share of the span
_DRAWN = 64  # networks that are drawn for a size
_FORGETS = 0.95  # what the mean loss of a class of size keeps of itself
_LEAST = 0.25  # share of the networks that are drawn from all classes alike


class ProbabilityShift(SandwichRule):
    """Draws sizes where a larger network is much better, more often: there the smaller ones lack training most.

    Zhang et al. (2023), "ShiftNAS: Improving One-shot NAS via Probability Shift", section 3. The variation between
    neighbouring sizes is that of the training's own losses, and networks of a size are found by drawing, not made by a
    generator.

    Args:
        space: where the networks come from.
        sizes: (N, D) encodings -> (N,) how large.
        n_random: how many such networks a step trains besides the largest and the smallest.
    """

    def __init__(self, space: Space, *, sizes: Sizes, n_random: int = 2) -> None:
        super().__init__(space, n_random)
        self._sizes = sizes
        low, high = sizes(np.stack([space.smallest(), space.largest()]))
        self._edges = np.linspace(low, high, _CLASSES + 1)
        self._losses: FloatArray = np.full(_CLASSES, np.nan)

    def architectures(self, step: int, rng: np.random.Generator) -> Sequence[TrainTarget]:
        """Largest first, then those of the drawn sizes, the smallest last."""
        largest, *random, smallest = super().architectures(step, rng)
        return [largest, *(TrainTarget(encoding=self._drawn(rng), teacher=0) for _ in random), smallest]

    def probabilities(self) -> FloatArray:
        """(8,) of the classes of size, the smallest first; all alike until each was seen."""
        alike = np.full(_CLASSES, 1 / _CLASSES)
        if np.isnan(self._losses).any():
            return alike
        falls = np.maximum(self._losses[:-1] - self._losses[1:], 0.0)
        falls = np.append(falls, falls[-1])  # the largest class has no larger neighbour
        if not falls.sum() > 0:
            return alike
        shifted: FloatArray = _LEAST * alike + (1 - _LEAST) * falls / falls.sum()
        return shifted

    def _drawn(self, rng: np.random.Generator) -> IntArray:
        i = int(rng.choice(_CLASSES, p=self.probabilities()))
        drawn = of_all_sizes(self.space, _DRAWN, rng)
        size = float(rng.uniform(self._edges[i], self._edges[i + 1]))
        nearest: IntArray = nearest_to(size, drawn, self._sizes(drawn), 1)[0]
        return nearest

    # ------------------------------------------------------------ what it learns from

    def observe(self, targets: Sequence[TrainTarget], losses: Sequence[float]) -> None:
        """Take note of the losses of a step, above that of its largest network."""
        others = targets[1:]
        sizes = self._sizes(np.stack([t.encoding for t in others]))
        at = np.clip(np.searchsorted(self._edges, sizes, side="right") - 1, 0, _CLASSES - 1)
        for i, loss in zip(at.tolist(), losses[1:], strict=True):
            before, now = self._losses[i], loss - losses[0]
            self._losses[i] = now if np.isnan(before) else _FORGETS * before + (1 - _FORGETS) * now

    def state(self) -> dict[str, Any]:
        """What it has learned, as JSON values."""
        return {"losses": [None if np.isnan(x) else float(x) for x in self._losses]}

    def restore(self, state: dict[str, Any]) -> None:
        """Go on with what `state` gave."""
        self._losses = np.array([np.nan if x is None else x for x in state["losses"]])
