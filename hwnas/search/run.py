"""One call of `search`: ask for a network, claim it, evaluate it, tell what came out.

Knows Optuna studies and the space sampler; never what a metric means, how a network is evaluated, or
where trials are stored.
"""

from __future__ import annotations

import bisect
import contextlib
import time
from collections.abc import Callable, Mapping

import numpy as np
import optuna

from hwnas.errors import HwnasError, StudyError
from hwnas.limits import as_limits
from hwnas.search.candidates import ExhaustedError, key_of
from hwnas.search.ledger import CLAIM, ERROR, Ledger, claim_of
from hwnas.search.problem import Estimator, Problem
from hwnas.search.space_sampler import UPPER, VALUES, SpaceSampler
from hwnas.search.storage import OWNER, finish_failed
from hwnas.types import IntArray, Option, ProgressCallback

# Consecutive failures after which the evaluation itself, not a network, must be at fault.
MAX_FAILURES = 10
# withdrawals in a row of up to 50 ms each: some five seconds of meeting others everywhere
_MAX_WITHDRAWALS = 200


class Run:
    """One call of `search`: the trials it asks for, and what becomes of them."""

    def __init__(
        self,
        study: optuna.Study,
        problem: Problem,
        sampler: SpaceSampler,
        *,
        evaluate: Callable[[dict[str, Option]], Mapping[str, float]],
        owner: dict[str, str],
    ) -> None:
        self.study, self.problem, self.sampler = study, problem, sampler
        self.evaluate, self.owner = evaluate, owner
        self.failures = 0  # consecutive
        self.withdrawals = 0  # consecutive

    def to_the_end(self, progress: ProgressCallback) -> str:
        """Run trials until there are enough, or none is left; returns the note for the study."""
        total = self.problem.n_trials
        # running ones count: processes that share a study must not overshoot it together
        while (counts := self._counts())[1] < total:
            try:
                self._one()
            except ExhaustedError as e:
                note = f"ended after {counts[0]} of {total} trials: {e}"
                progress(counts[0], total, note)
                return note
            complete = self._counts()[0]
            progress(complete, total, f"{self.failures} failures in a row" if self.failures else "")
        return ""

    def _counts(self) -> tuple[int, int]:
        """Complete trials; complete and running ones."""
        ledger = self.sampler.look(self.study)
        complete = len(ledger.complete)
        # unsigned trials are not counted: they may be left from a killed process
        return complete, complete + sum(OWNER in t.user_attrs for t in ledger.running)

    def _one(self) -> None:
        """One trial: completed, failed, or left to another process."""
        trial = self.study.ask()
        try:
            # before anything else: a trial without an owner is taken for abandoned
            trial.set_user_attr(OWNER, self.owner)
            if self._claim(trial):
                self._evaluate(trial)
            else:
                finish_failed(self.study, trial.number)
        except BaseException:  # a bug, a full disk, Ctrl-C: the network is free to be tried again
            with contextlib.suppress(Exception):
                finish_failed(self.study, trial.number)
            raise

    def _claim(self, trial: optuna.Trial) -> bool:
        """Reserve the trial's network; False if another process reserved it at the same time.

        Each process writes its claim and then looks. Of two that want one network, the later writer is
        bound to see the earlier claim, so never both go on; both may step back, and try again.
        """
        proposed = trial.relative_params  # a copy every time it is asked for
        wanted = {name: proposed.get(name, o[0]) for name, o in self.sampler.options.items()}
        encoding = self.problem.encode(wanted)
        # write, then look: the order on which the claim's safety rests
        trial.set_user_attr(CLAIM, encoding.tolist())
        ledger, key = self.sampler.look(self.study), key_of(encoding)
        rival = key in ledger.claims or any(t.number != trial.number and claim_of(t) == key for t in ledger.running)
        if rival or self._too_many(ledger, trial.number):
            self.withdrawals += 1
            if self.withdrawals > _MAX_WITHDRAWALS:
                raise StudyError(
                    f"{self.withdrawals} networks in a row were taken by other processes; run fewer of them"
                )
            time.sleep(float(np.random.default_rng().random()) * 0.05)  # do not step back in step for ever
            return False
        self.withdrawals = 0
        # only after the claim stands: a trial that steps back leaves no parameters in the study
        for name, options in self.sampler.options.items():
            trial.suggest_categorical(name, options)
        return True

    def _too_many(self, ledger: Ledger, number: int) -> bool:
        """Whether trials made before this one are already enough."""
        running = sum(OWNER in t.user_attrs for t in ledger.running if t.number < number)
        return bisect.bisect_left(ledger.complete, number) + running >= self.problem.n_trials

    def _evaluate(self, trial: optuna.Trial) -> None:
        encoding = self.problem.encode(trial.params)
        architecture = self.problem.decode(encoding)
        try:
            evaluated = self.evaluate(architecture)
        # of ours: this network cannot be measured, and the next one may. Any other error is a bug and ends the search
        except HwnasError as e:
            self._fail(trial, e)
            return
        values, upper = self._with_closed_forms(evaluated, encoding)
        undefined = [m for m in (*self.problem.directions, *self.problem.limits) if np.isnan(values[m])]
        if undefined:
            self._fail(trial, StudyError(f"{', '.join(undefined)} is not a number"))
            return
        for limit in as_limits(self.problem.limits, self.problem.directions):
            if limit.metric not in self.problem.closed_form:
                # closed-form limits are kept already; Optuna learns of those that only measuring tells
                both = len(self.problem.limits_on(limit.metric)) > 1
                name = f"{limit.metric} at {'least' if limit.floor else 'most'}" if both else limit.metric
                trial.set_constraint(name, float(limit.beyond(np.array(values[limit.metric]))))
        trial.set_user_attr(VALUES, values)
        trial.set_user_attr(UPPER, upper)
        self.study.tell(trial, [values[m] for m in self.problem.directions])
        # failures in a row count: one network that runs shows that the evaluation works
        self.failures = 0

    def _with_closed_forms(
        self, evaluated: Mapping[str, float], encoding: IntArray
    ) -> tuple[dict[str, float], dict[str, float]]:
        """All values of one network, and the upper bounds of those that have one."""
        if not isinstance(evaluated, Mapping):
            raise StudyError(f"evaluate gave {type(evaluated).__name__}; it must give a mapping of metrics to numbers")
        estimates = self.problem.estimate(encoding[None, :])
        # a closed form beats what `evaluate` gave: one metric must come from one source in all trials
        values = {str(m): float(v) for m, v in evaluated.items() if m not in estimates}
        values |= {m: float(e.value[0]) for m, e in estimates.items()}
        # a plain function has no bound of its own, and its value repeated would look like one
        upper = {
            m: float(e.upper[0]) for m, e in estimates.items() if isinstance(self.problem.closed_form[m], Estimator)
        }
        missing = sorted({*self.problem.directions, *self.problem.limits} - set(values))
        if missing:
            raise StudyError(
                f"evaluate gave {sorted(evaluated)}, and the closed forms are {sorted(estimates)}, but the directions "
                f"and limits also need {missing}"
            )
        return values, upper

    def _fail(self, trial: optuna.Trial, error: HwnasError) -> None:
        trial.set_user_attr(ERROR, f"{type(error).__name__}: {error}")
        finish_failed(self.study, trial.number)
        self.failures += 1
        if self.failures >= MAX_FAILURES:
            raise StudyError(f"{self.failures} evaluations in a row failed, the last one with: {error}") from error
