"""Wraps any Optuna sampler so that each trial is a new, canonical network within the closed-form limits.

The inner sampler proposes as if all options were free; what it proposes is mended here before it becomes
the trial's parameters, so that it also learns from what was really evaluated. Never evaluates anything.
"""

from __future__ import annotations

from collections.abc import Sequence
from collections.abc import Set as AbstractSet
from typing import Any, Protocol, runtime_checkable

import numpy as np
from optuna.distributions import BaseDistribution, CategoricalDistribution
from optuna.samplers import BaseSampler
from optuna.study import Study
from optuna.trial import FrozenTrial, TrialState

from hwnas.search.candidates import Candidates, key_of
from hwnas.search.ledger import CLAIM, Ledger, claim_of
from hwnas.search.problem import Problem
from hwnas.types import IntArray, Option

# user attributes of a complete trial: all its values and upper bounds, closed forms included
VALUES = "values"
UPPER = "upper"


class SamplerFactory(Protocol):
    """Makes the sampler of one search. Registered by name, or given to `search` itself."""

    def __call__(self, problem: Problem, /, *, seed: int) -> BaseSampler:
        """A sampler that proposes values for every choice of `problem.space` by the choice's name.

        It need not know limits, switched-off choices or duplicates. The parameters of complete trials
        are canonical; trials that break a limit on an evaluated metric have Optuna constraints.
        """
        ...


@runtime_checkable
class AwaitsRunning(Protocol):
    """A sampler whose proposals are the same however many networks are evaluated at once, if it is waited for."""

    def awaits_running(self, study: Study, /) -> bool:
        """Whether the next proposal depends on what trials that are running now will have come to."""
        ...


class SpaceSampler(BaseSampler):
    """The sampler of a search; see the module. Not safe for use by several threads at once."""

    def __init__(
        self, factory: SamplerFactory, problem: Problem, *, seed: int, initial: Sequence[IntArray] = ()
    ) -> None:
        """Wrap the sampler that `factory` makes.

        Args:
            factory: makes the inner sampler when the first trial starts. Its seed mixes `seed` and that
                trial's number, so two processes on one study do not propose the same.
            problem: space, directions, limits, closed forms.
            seed: of all randomness.
            initial: encodings (D,) to propose first, in order; those taken or beyond a limit are mended too.
        """
        self.candidates = Candidates(problem)
        self.options = {c.name: c.options for c in problem.space.choices}
        self._distributions = {name: CategoricalDistribution(options) for name, options in self.options.items()}
        self._factory, self._problem, self._seed = factory, problem, seed
        self._initial = [problem.space.canonical(np.asarray(e, dtype=np.int64)[None, :])[0] for e in initial]
        for encoding in self._initial:
            if problem.violations(encoding[None, :])[1].sum() == 0:
                self.candidates.remember(encoding)  # where limits are tight, chance may never find a second one
        # made with the first trial, whose number its seed needs
        self._inner: BaseSampler | None = None
        self.ledger = Ledger()
        self._remembered: set[int] = set()  # running trials whose networks were remembered

    def taken(self, study: Study) -> AbstractSet[bytes]:
        """Keys of the networks that were evaluated, failed, or are being evaluated by anybody."""
        self.look(study)
        claims = {t.number: key for t in self.ledger.running if (key := claim_of(t)) is not None}
        # they keep the limits as well, and are remembered in the order in which they were proposed, however many run
        for number, key in claims.items():
            if number not in self._remembered:
                self._remembered.add(number)
                self.candidates.remember(np.frombuffer(key, dtype=np.int64))
        running = set(claims.values())
        finished = self.ledger.claims.keys()  # a view: copying it would take longer with every trial
        return finished | running if running else finished

    def look(self, study: Study) -> Ledger:
        """The study's trials as they are now."""
        for trial in self.ledger.read(study.get_trials(deepcopy=False)):
            if trial.state is TrialState.COMPLETE and trial.number not in self._remembered:
                self.candidates.remember(np.array(trial.user_attrs[CLAIM], dtype=np.int64))
            self._remembered.discard(trial.number)
        return self.ledger

    def awaits_running(self, study: Study) -> bool:
        """Whether the next proposal depends on trials that are still running."""
        inner: object = self._inner
        return isinstance(inner, AwaitsRunning) and inner.awaits_running(study)

    def infer_relative_search_space(self, study: Study, trial: FrozenTrial) -> dict[str, BaseDistribution]:
        """Every choice that has more than one option."""
        # one option is no choice, and Optuna leaves such out of its search spaces as well
        return {name: d for name, d in self._distributions.items() if not d.single()}

    def sample_relative(
        self, study: Study, trial: FrozenTrial, search_space: dict[str, BaseDistribution]
    ) -> dict[str, Any]:
        """One new architecture: choice name -> option.

        Raises:
            ExhaustedError: nothing new is left.
            InfeasibleError: nothing keeps the closed-form limits.
        """
        # of its own for each trial: what an earlier one drew depends on how often it had to be mended
        rng = np.random.default_rng([self._seed, trial.number])
        taken = self.taken(study)
        # those another process took are passed over
        proposal = next((e for e in self._initial if key_of(e) not in taken), None)
        if proposal is None:
            proposal = self._problem.encode(self._propose(study, trial, search_space))
        else:
            # by identity: arrays compare elementwise
            self._initial = [e for e in self._initial if e is not proposal]
        encoding = self.candidates.nearest_new(proposal, taken, rng)
        named = zip(self.options.items(), encoding, strict=True)
        return {name: options[int(i)] for (name, options), i in named if name in search_space}

    def sample_independent(
        self, study: Study, trial: FrozenTrial, param_name: str, param_distribution: BaseDistribution
    ) -> Any:
        """Refused: a choice alone says nothing about a network."""
        raise NotImplementedError(f"{param_name!r} is not a choice of space {self._problem.space.name!r}")

    def after_trial(self, study: Study, trial: FrozenTrial, state: TrialState, values: Sequence[float] | None) -> None:
        """Let the inner sampler learn."""
        if self._inner is not None:
            self._inner.after_trial(study, trial, state, values)

    def reseed_rng(self) -> None:
        """Nothing to do: every trial draws from its own number."""

    def _propose(
        self, study: Study, trial: FrozenTrial, search_space: dict[str, BaseDistribution]
    ) -> dict[str, Option]:
        """What the inner sampler wants, relative parameters first, by its own protocol."""
        if self._inner is None:
            # mixed, not added: seed 1 and trial 0 must differ from seed 0 and trial 1
            mixed = np.random.SeedSequence([self._seed, trial.number]).generate_state(1)[0]
            self._inner = self._factory(self._problem, seed=int(mixed))
        self._inner.before_trial(study, trial)
        relative = self._inner.infer_relative_search_space(study, trial)
        wanted = self._inner.sample_relative(study, trial, relative)
        proposal: dict[str, Option] = {}
        for name, distribution in self._distributions.items():
            if name not in search_space:
                proposal[name] = self.options[name][0]
            elif name in wanted:
                proposal[name] = wanted[name]
            else:
                proposal[name] = self._inner.sample_independent(study, trial, name, distribution)
        return proposal
