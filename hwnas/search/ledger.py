"""What a study's trials have come to, kept up to date by reading only those that were not finished before.

A finished trial never changes, so the cost of a look is that of the trials since the last one, not of the whole study.
Knows Optuna's trials; never samples, never evaluates.
"""

from __future__ import annotations

import bisect
from collections.abc import Sequence

import numpy as np
from optuna.trial import FrozenTrial, TrialState

from hwnas.search.candidates import key_of

# User attributes of a trial. CLAIM holds the encoding and is written before anything is evaluated.
CLAIM = "encoding"
ERROR = "error"


class Ledger:
    """The trials of one study, as far as they were read.

    Attributes:
        complete: numbers of complete trials, rising.
        claims: key of a network that was evaluated or failed -> number of the first trial that claims it.
        running: trials that were not finished at the last look.
    """

    def __init__(self) -> None:
        self.complete: list[int] = []
        self.claims: dict[bytes, int] = {}
        self.running: list[FrozenTrial] = []
        self._known = 0
        self._open: list[int] = []

    def read(self, trials: Sequence[FrozenTrial]) -> list[FrozenTrial]:
        """Look at all trials of the study, in the order of their numbers.

        Returns:
            Those that finished since the last look.
        """
        # trials open at the last look may have finished; finished ones never change
        news = [*self._open, *range(self._known, len(trials))]
        self._known = max(self._known, len(trials))
        finished: list[FrozenTrial] = []
        self.running = []
        self._open = []
        for position in news:
            trial = trials[position]
            if not trial.state.is_finished():
                self._open.append(position)
                self.running.append(trial)
                continue
            finished.append(trial)
            if trial.state is TrialState.COMPLETE:
                # trials finish out of order; `Run` looks numbers up by bisection
                bisect.insort(self.complete, trial.number)
            key = claim_of(trial)
            if key is not None:
                # the first claim wins: whoever made a later one of the same network stepped back
                self.claims.setdefault(key, trial.number)
        return finished


def claim_of(trial: FrozenTrial) -> bytes | None:
    """The key of the network that a trial has reserved; None if it has none, or was given up without an error."""
    claim = trial.user_attrs.get(CLAIM)
    # failed with an error: known to fail, so reserved for good. Without: given up or killed, so it is free again
    counts = claim is not None and (trial.state is not TrialState.FAIL or ERROR in trial.user_attrs)
    return key_of(np.array(claim)) if counts else None
