"""What samplers of our own share: they propose encodings, and everything they know follows from the study's trials.

So a resumed search knows what an uninterrupted one would, and processes that share a study know the same. Knows
problems and Optuna's trials; never how a network is chosen.
"""

from __future__ import annotations

from abc import abstractmethod
from collections.abc import Sequence
from collections.abc import Set as AbstractSet
from typing import Any

import numpy as np
from optuna.distributions import BaseDistribution, CategoricalDistribution
from optuna.samplers import BaseSampler
from optuna.study import Study
from optuna.trial import FrozenTrial, TrialState

from hwnas.search.archive import non_dominated
from hwnas.search.candidates import Candidates, key_of
from hwnas.search.ledger import CLAIM, Ledger, claim_of
from hwnas.search.problem import Problem
from hwnas.types import BoolArray, Direction, FloatArray, IntArray


class EncodingSampler(BaseSampler):
    """A sampler with one method to write: `propose`.

    Attributes:
        problem: what is searched.
        candidates: networks within its closed-form limits.
    """

    def __init__(self, problem: Problem, *, seed: int) -> None:
        self.problem = problem
        self.candidates = Candidates(problem)
        self._seed = seed

    @abstractmethod
    def propose(self, study: Study, trial: FrozenTrial, rng: np.random.Generator) -> IntArray:
        """(D,) the network to evaluate next; the space sampler mends one that is taken or beyond a limit.

        Args:
            study: its trials so far.
            trial: the new one.
            rng: of this trial.
        """

    def infer_relative_search_space(self, study: Study, trial: FrozenTrial) -> dict[str, BaseDistribution]:
        """Every choice: a network is proposed whole."""
        return {c.name: CategoricalDistribution(c.options) for c in self.problem.space.choices}

    def sample_relative(
        self, study: Study, trial: FrozenTrial, search_space: dict[str, BaseDistribution]
    ) -> dict[str, Any]:
        """Choice name -> option of what `propose` gives."""
        # of its own for each trial: a resumed search draws what this one would have drawn
        encoding = self.propose(study, trial, np.random.default_rng([self._seed, trial.number]))
        return {c.name: c.options[int(i)] for c, i in zip(self.problem.space.choices, encoding, strict=True)}

    def sample_independent(
        self, study: Study, trial: FrozenTrial, param_name: str, param_distribution: BaseDistribution
    ) -> Any:
        """Refused: a choice alone says nothing about a network."""
        raise NotImplementedError(f"{param_name!r} is always sampled together with the other choices")


class History:
    """The complete trials of a study as columns, in the order of their numbers.

    Attributes:
        numbers: (N,) of the trials.
        encodings: (N, D) canonical.
        points: (N, M) the objectives, every column to be minimised.
        excess: (N,) how far limits on evaluated metrics are exceeded, all together; 0 where they are kept.
        notes: what a sampler wrote into each trial under the key it named; None where it did not.
    """

    def __init__(self, problem: Problem, *, note: str = "") -> None:
        """Nothing is known before `read`.

        Args:
            problem: of the study.
            note: key of the system attribute that is kept in `notes`.
        """
        self._signs = np.array([-1.0 if d is Direction.MAXIMIZE else 1.0 for d in problem.directions.values()])
        self._note = note
        self._ledger = Ledger()
        self.numbers: IntArray = np.zeros(0, dtype=np.int64)
        self.encodings: IntArray = np.zeros((0, len(problem.sizes)), dtype=np.int64)
        self.points: FloatArray = np.zeros((0, len(self._signs)))
        self.excess: FloatArray = np.zeros(0)
        self.notes: list[Any] = []

    def __len__(self) -> int:
        return len(self.numbers)

    def read(self, study: Study) -> AbstractSet[bytes]:
        """Take in the trials that finished since the last look.

        Returns:
            Keys of the networks that were evaluated, failed, or are being evaluated.
        """
        finished = self._ledger.read(study.get_trials(deepcopy=False))
        if new := [t for t in finished if t.state is TrialState.COMPLETE]:
            self._append(new)
        running = {key for t in self._ledger.running if (key := claim_of(t)) is not None}
        known = self._ledger.claims.keys()
        return known | running if running else known

    def front(self) -> IntArray:
        """(K,) rows that no other beats, see `unbeaten`."""
        return np.flatnonzero(unbeaten(self.points, self.excess))

    def _append(self, trials: Sequence[FrozenTrial]) -> None:
        self.numbers = np.concatenate([self.numbers, [t.number for t in trials]])
        encodings = np.array([t.user_attrs[CLAIM] for t in trials], dtype=np.int64)
        self.encodings = np.concatenate([self.encodings, encodings])
        self.points = np.concatenate([self.points, np.array([t.values for t in trials]) * self._signs])
        beyond = [sum(max(float(v), 0.0) for v in t.constraints.values()) for t in trials]
        self.excess = np.concatenate([self.excess, beyond])
        self.notes += [t.system_attrs.get(self._note) for t in trials]
        # trials of several processes finish out of order, and nothing may depend on it
        if (np.diff(self.numbers) < 0).any():
            order = np.argsort(self.numbers)
            self.numbers, self.encodings = self.numbers[order], self.encodings[order]
            self.points, self.excess = self.points[order], self.excess[order]
            self.notes = [self.notes[i] for i in order]


def unbeaten(points: FloatArray, excess: FloatArray) -> BoolArray:
    """Which of some networks no other of them beats (constrained domination: Deb et al., 2002, section VI).

    One that keeps the limits beats all that do not; where none keeps them, the nearest to them beat the others.

    Args:
        points: (N, M), N at least 1, every column minimised.
        excess: (N,) how far limits are exceeded.

    Returns:
        (N,)
    """
    allowed = excess <= excess.min()
    found = np.zeros(len(points), dtype=bool)
    found[allowed] = non_dominated(points[allowed])
    return found


def first_new(encodings: IntArray, taken: AbstractSet[bytes]) -> IntArray | None:
    """(D,) the first of (N, D) networks that nobody evaluated; None if all are taken."""
    for encoding in encodings:
        if key_of(encoding) not in taken:
            found: IntArray = encoding
            return found
    return None
