"""One call of `search`: ask for a network, claim it, have it evaluated, tell what came out.

As many networks are evaluated at once as the executor takes; all are proposed here, in the order of their numbers.
Knows Optuna studies and the space sampler; never what a metric means, how or by whom a network is evaluated, or
where trials are stored.
"""

from __future__ import annotations

import bisect
import contextlib
import time
from collections.abc import Mapping

import numpy as np
import optuna

from hwnas.errors import HwnasError, StudyError
from hwnas.limits import as_limits
from hwnas.search.candidates import ExhaustedError, key_of
from hwnas.search.lease import Leases
from hwnas.search.ledger import CLAIM, ERROR, Ledger, claim_of
from hwnas.search.problem import Estimator, Problem
from hwnas.search.space_sampler import UPPER, VALUES, SpaceSampler
from hwnas.search.storage import OWNER, can_be_judged, fail_abandoned, finish_failed
from hwnas.search.workers import Executor, Outcome
from hwnas.types import IntArray, ProgressCallback

# Consecutive failures after which the evaluation itself, not a network, must be at fault.
MAX_FAILURES = 10
# withdrawals in a row of up to 50 ms each: some five seconds of meeting others everywhere
_MAX_WITHDRAWALS = 200
_LOOK_S = 0.5  # at what other processes do, while there is nothing else to do


class Run:
    """One call of `search`: the trials it asks for, and what becomes of them."""

    def __init__(
        self,
        study: optuna.Study,
        problem: Problem,
        sampler: SpaceSampler,
        *,
        executor: Executor,
        owner: dict[str, str],
    ) -> None:
        self.study, self.problem, self.sampler = study, problem, sampler
        self.executor, self.owner = executor, owner
        self.leases = Leases(study)
        self.in_flight: dict[int, optuna.Trial] = {}  # number -> trial that is evaluated
        self.failures = 0  # consecutive
        self.withdrawals = 0  # consecutive

    def to_the_end(self, progress: ProgressCallback) -> str:
        """Run trials until there are enough, or none is left; returns the note for the study."""
        total = self.problem.n_trials
        try:
            with self.leases.kept():
                exhausted = self._run(progress)
        except BaseException:  # a bug, a full disk, Ctrl-C: the networks are free to be tried again
            for number in self.in_flight:
                with contextlib.suppress(Exception):
                    finish_failed(self.study, number)
            raise
        if not exhausted:
            return ""
        complete = self._counts()[0]
        note = f"ended after {complete} of {total} trials: {exhausted}"
        progress(complete, total, note)
        return note

    def _run(self, progress: ProgressCallback) -> str:
        """Returns what the space was exhausted by, empty if it was not."""
        exhausted = ""
        while True:
            while not exhausted and self._may_begin():
                try:
                    self._begin()
                except ExhaustedError as e:
                    exhausted = str(e)
            if self.in_flight:
                for outcome in self.executor.collect():
                    self._end(outcome)
                progress(self._counts()[0], self.problem.n_trials, self._told())
            elif exhausted or not (others := self._others()):
                return exhausted
            else:
                # should one of them die, its network is evaluated here
                progress(self._counts()[0], self.problem.n_trials, f"waiting for {others} of other processes")
                time.sleep(_LOOK_S)
                fail_abandoned(self.study)

    def _others(self) -> int:
        """How many trials of other processes are running that are sure to end, if only because their process does."""
        return sum(can_be_judged(self.study, t) for t in self.sampler.look(self.study).running)

    def _told(self) -> str:
        """For who watches the progress."""
        failures = f"{self.failures} failures in a row" if self.failures else ""
        return "; ".join(filter(None, [failures, self.executor.note]))

    def _may_begin(self) -> bool:
        """Whether one more network is to be proposed now."""
        # running ones count: processes that share a study must not overshoot it together
        if len(self.in_flight) >= self.executor.slots or self._counts()[1] >= self.problem.n_trials:
            return False
        # so that trials do not depend on how many are evaluated at once
        return not self.in_flight or not self.sampler.awaits_running(self.study)

    def _counts(self) -> tuple[int, int]:
        """Complete trials; complete and running ones."""
        ledger = self.sampler.look(self.study)
        complete = len(ledger.complete)
        # unsigned trials are not counted: they may be left from a killed process
        return complete, complete + sum(OWNER in t.user_attrs for t in ledger.running)

    def _begin(self) -> None:
        """Propose one network and have it evaluated, unless another process was first."""
        trial = self.study.ask()
        # from here on it is ours to give back
        self.in_flight[trial.number] = trial
        self.leases.take(trial)
        try:
            # before anything else: a trial without an owner is taken for abandoned
            trial.set_user_attr(OWNER, self.owner)
            if self._claim(trial):
                self.executor.submit(trial.number, self.problem.decode(self.problem.encode(trial.params)))
                return
            finish_failed(self.study, trial.number)
        except ExhaustedError:
            finish_failed(self.study, trial.number)
            self._let_go(trial)
            raise
        except optuna.exceptions.UpdateFinishedTrialError:
            pass  # another process took it for abandoned
        self._let_go(trial)

    def _let_go(self, trial: optuna.Trial) -> None:
        self.leases.end(trial)
        del self.in_flight[trial.number]

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

    def _end(self, outcome: Outcome) -> None:
        """Tell the study what came of a network."""
        trial = self.in_flight[outcome.number]
        # its lease ran out meanwhile: whoever evaluates the network now tells, or it would count twice
        with contextlib.suppress(optuna.exceptions.UpdateFinishedTrialError):
            self._tell(trial, outcome)
        # not before: an error on the way leaves the network free
        self._let_go(trial)

    def _tell(self, trial: optuna.Trial, outcome: Outcome) -> None:
        # of ours: this network cannot be measured, and the next one may. Any other error is a bug and ends the search
        if isinstance(outcome.error, HwnasError):
            self._fail(trial, outcome.error)
            return
        if outcome.error is not None:
            raise outcome.error
        values, upper = self._with_closed_forms(outcome.values, self.problem.encode(trial.params))
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
        try:
            self.study.tell(trial, [values[m] for m in self.problem.directions])
        except ValueError as e:  # what Optuna says of a trial that was finished between the last look and this
            raise optuna.exceptions.UpdateFinishedTrialError(str(e)) from e
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
