"""Networks that are expected to be good, or bad, for their size. Knows spaces and numbers."""

from __future__ import annotations

from collections import deque
from collections.abc import Sequence
from typing import TYPE_CHECKING, Any

import numpy as np

from hwnas.supernet.strategies.sandwich import SandwichRule
from hwnas.supernet.strategies.sizes import Sizes, nearest_to, of_all_sizes
from hwnas.types import FloatArray, IntArray, TrainTarget

if TYPE_CHECKING:
    from hwnas.spaces.base import Space

_DRAWN, _NEAR = 64, 4  # networks that are drawn for a size, and those nearest to it of which one is taken
_REMEMBERED, _ENOUGH = 400, 60  # losses that are learned from: at most, and at least
_REFIT = 20  # steps
_RIDGE = 1.0


class _ByExpectedLoss(SandwichRule):
    """The sandwich rule, whose random networks are chosen among a few of a size, by the losses that are expected.

    Args:
        space: where the networks come from.
        sizes: (N, D) encodings -> (N,) how large.
        n_random: how many such networks a step trains besides the largest and the smallest.
    """

    _sign: float  # of what is taken: the most of it

    def __init__(self, space: Space, *, sizes: Sizes, n_random: int = 2) -> None:
        super().__init__(space, n_random)
        self._sizes = sizes
        self._ends = sizes(np.stack([space.smallest(), space.largest()]))
        self._last = np.maximum([len(c.options) - 1 for c in space.choices], 1)
        self._seen: deque[tuple[list[int], float]] = deque(maxlen=_REMEMBERED)
        self._fitted: FloatArray | None = None

    def architectures(self, step: int, rng: np.random.Generator) -> Sequence[TrainTarget]:
        """Largest first, then the chosen ones, the smallest last."""
        largest, *random, smallest = super().architectures(step, rng)
        if step % _REFIT == 0 or self._fitted is None:
            self._fitted = self._fit()
        return [largest, *(TrainTarget(encoding=self._chosen(rng), teacher=0) for _ in random), smallest]

    def _chosen(self, rng: np.random.Generator) -> IntArray:
        drawn = of_all_sizes(self.space, _DRAWN, rng)
        near = nearest_to(float(rng.uniform(*self._ends)), drawn, self._sizes(drawn), _NEAR)
        at = 0 if self._fitted is None else int(np.argmax(self._sign * (self._features(near) @ self._fitted)))
        chosen: IntArray = near[at]
        return chosen

    def _features(self, encodings: IntArray) -> FloatArray:
        """(N, D + 1) choices from 0 to 1, and a constant."""
        scaled = np.asarray(encodings, dtype=float) / self._last
        return np.concatenate([scaled, np.ones((len(scaled), 1))], axis=1)

    def _fit(self) -> FloatArray | None:
        """(D + 1,) of a ridge regression on the losses that were seen; None of too few."""
        if len(self._seen) < _ENOUGH:
            return None
        x = self._features(np.array([e for e, _ in self._seen]))
        y = np.array([loss for _, loss in self._seen])
        found: FloatArray = np.linalg.solve(x.T @ x + _RIDGE * np.eye(x.shape[1]), x.T @ y)
        return found

    # ------------------------------------------------------------ what it learns from

    def observe(self, targets: Sequence[TrainTarget], losses: Sequence[float]) -> None:
        """Take note of the losses of a step, above that of its largest network."""
        for target, loss in zip(targets[1:], losses[1:], strict=True):
            self._seen.append((target.encoding.tolist(), loss - losses[0]))

    def state(self) -> dict[str, Any]:
        """What it has learned, as JSON values."""
        return {
            "seen": [[e, loss] for e, loss in self._seen],
            "fitted": None if self._fitted is None else self._fitted.tolist(),
        }

    def restore(self, state: dict[str, Any]) -> None:
        """Go on with what `state` gave."""
        self._seen = deque(((list(e), float(loss)) for e, loss in state["seen"]), maxlen=_REMEMBERED)
        self._fitted = None if state["fitted"] is None else np.array(state["fitted"])


class BestUp(_ByExpectedLoss):
    """Trains what is expected to be on the front: of a few networks of one size the best.

    Wang et al. (2021), "AttentiveNAS", section 3.2, BestUp. Sizes are drawn uniformly. What a network is expected to be
    comes from a linear model of the losses that the training saw itself, not from a predictor of accuracies that is
    trained before.
    """

    _sign = -1.0


class WorstUp(_ByExpectedLoss):
    """Trains what is expected to lag behind: of a few networks of one size the worst; see `BestUp`.

    Wang et al. (2021), "AttentiveNAS", section 3.2, WorstUp.
    """

    _sign = 1.0
