"""Optuna studies of ours: made, opened, compared with what is asked, and read back as columns.

What a study is about stands in one user attribute, so that another search under the same name is
refused with the differences named. Never evaluates, never samples.
"""

from __future__ import annotations

import contextlib
from collections.abc import Iterator, Mapping, Sequence
from typing import Any

import numpy as np
import optuna
from optuna.trial import TrialState

from hwnas.allowed import limits_from_json, limits_to_json
from hwnas.errors import StudyError
from hwnas.limits import as_limits, feasible
from hwnas.search.ledger import CLAIM, ERROR
from hwnas.search.problem import Problem
from hwnas.search.space_sampler import UPPER, VALUES, SpaceSampler
from hwnas.search.storage import patiently
from hwnas.search.study import FailedTrial, Study
from hwnas.search.study_file import choices_from_json, choices_to_json
from hwnas.spaces.encoding import ChoiceTree
from hwnas.types import Direction

_HEADER = "hwnas"
_NOTE = "hwnas:note"


def open_existing(opened: optuna.storages.BaseStorage, *, storage: str, study_name: str) -> optuna.Study:
    """A study of ours, to look at.

    Args:
        opened: where it is.
        storage: what that is called in errors.
        study_name: in it.

    Raises:
        StudyError: there is no such study; lists those there are.
    """
    names = optuna.get_all_study_names(opened)
    if study_name not in names:
        raise StudyError(f"{storage} has no study {study_name!r}; it has: {', '.join(sorted(names)) or 'none'}")
    study = optuna.load_study(study_name=study_name, storage=opened)
    if _HEADER not in study.user_attrs:
        raise StudyError(f"study {study_name!r} in {storage} was not made by hwnas")
    return study


def set_note(study: optuna.Study, note: str) -> None:
    """Keep why a search ended early; empty if it did not."""
    # every call would add a line to the journal otherwise
    if note != study.user_attrs.get(_NOTE, ""):
        study.set_user_attr(_NOTE, note)


def open_or_create(
    problem: Problem, sampler: SpaceSampler, *, opened: optuna.storages.BaseStorage, storage: str, study_name: str
) -> optuna.Study:
    """The Optuna study of a problem, new or the one to go on with; see `open_existing`."""
    try:
        study = patiently(
            lambda: optuna.create_study(
                study_name=study_name,
                storage=opened,
                sampler=sampler,
                directions=[d.value for d in problem.directions.values()],
                # two processes that start together both go on with the one that was made first
                load_if_exists=True,
            )
        )
    except ValueError as e:  # Optuna's, for another number of objectives
        raise StudyError(f"study {study_name!r} in {storage} cannot be continued: {e}") from e
    header = {
        "schema": 1,
        "space": problem.space.name,
        "choices": choices_to_json(problem.space.choices),
        "directions": {m: str(d) for m, d in problem.directions.items()},
        # limits shaped what was proposed, so a study with others is another search
        "limits": limits_to_json(problem.limits),
        "closed_form": sorted(problem.closed_form),
    }
    stored = study.user_attrs.get(_HEADER)
    if stored is None:
        # no header but trials: somebody else's study. Neither: we, or another process of ours, were about to write it
        if study.get_trials(deepcopy=False):
            raise StudyError(f"study {study_name!r} in {storage} was not made by hwnas; use another study_name")
        patiently(lambda: study.set_user_attr(_HEADER, header))
        # read back: of two writers both must compare with what stayed
        stored = study.user_attrs[_HEADER]
    different = _difference(stored, header)
    if different:
        raise StudyError(
            f"study {study_name!r} in {storage} is another search: {'; '.join(different)}. Use another "
            f"study_name or storage (other limits need no new search: query the finished study)"
        )
    return study


def _difference(stored: Mapping[str, Any], given: Mapping[str, Any]) -> list[str]:
    """What differs between two headers, for people."""
    found = []
    # `n_trials` and the sampler are not compared: a search may be made longer, or go on with another one
    for field in ("schema", "space", "directions", "limits", "closed_form"):
        if stored.get(field) != given[field]:
            found.append(f"{field} was {stored.get(field)!r} and is now {given[field]!r}")
    before = {c["name"]: c for c in stored.get("choices", [])}
    now = {c["name"]: c for c in given["choices"]}
    for name in sorted({*before, *now}):
        if name not in now:
            found.append(f"choice {name!r} is gone")
        elif name not in before:
            found.append(f"choice {name!r} is new")
        elif before[name] != now[name]:
            fields = [f for f in now[name] if now[name][f] != before[name].get(f)]
            shown = ", ".join(f"{f} {before[name].get(f)} -> {now[name][f]}" for f in fields)
            found.append(f"choice {name!r} changed ({shown})")
    # encodings are positions: the same choices in another order are read wrongly
    if not found and list(before) != list(now):
        found.append("the choices are in another order")
    return found


def check_closed_forms(study: optuna.Study, problem: Problem) -> None:
    """Refuse to mix the values of two tables in one study: recompute those of the last few trials.

    Raises:
        StudyError: names the metric, both values and the trial.
    """
    # a few are enough: a table that changed changes almost every network
    last = study.get_trials(deepcopy=False, states=(TrialState.COMPLETE,))[-8:]
    if not last:
        return
    estimates = problem.estimate(np.array([t.user_attrs[CLAIM] for t in last], dtype=np.int64))
    for metric, estimate in estimates.items():
        for i, trial in enumerate(last):
            was = (
                trial.user_attrs[VALUES][metric],
                trial.user_attrs[UPPER].get(metric, trial.user_attrs[VALUES][metric]),
            )
            now = (float(estimate.value[i]), float(estimate.upper[i]))
            # sums of floats may differ in their last digits from one NumPy to another
            if not np.allclose(was, now, rtol=1e-6, atol=0.0, equal_nan=True):
                raise StudyError(
                    f"{metric} of trial {trial.number} was {was[0]:.6g} (at most {was[1]:.6g}) when it was searched "
                    f"and is {now[0]:.6g} (at most {now[1]:.6g}) now: what computes it has changed. "
                    f"Use another study_name"
                )


def collect(study: optuna.Study) -> Study:
    """An Optuna study as columns."""
    # choices come from the study, not from the code: a space may have changed since
    header = study.user_attrs[_HEADER]
    choices = choices_from_json(header["choices"])
    tree = ChoiceTree(choices)
    directions = {m: Direction(d) for m, d in header["directions"].items()}
    limits = limits_from_json(header["limits"])
    all_trials = study.get_trials(deepcopy=False)
    trials = [t for t in all_trials if t.state is TrialState.COMPLETE]
    # the claim, not the parameters: it is canonical, and has the
    # switched-off choices. Reshaped: of no trials it is (0, D)
    encodings = np.array([t.user_attrs[CLAIM] for t in trials], dtype=np.int64).reshape(len(trials), len(choices))

    def columns(attribute: str, always: Sequence[str]) -> dict[str, Any]:
        metrics = sorted({*always, *(m for t in trials for m in t.user_attrs[attribute])})
        return {m: np.array([t.user_attrs[attribute].get(m, np.nan) for t in trials], dtype=float) for m in metrics}

    values, upper = columns(VALUES, [*directions, *limits]), columns(UPPER, [])
    return Study(
        name=study.study_name,
        space_name=header["space"],
        choices=choices,
        directions=directions,
        limits=limits,
        numbers=np.array([t.number for t in trials], dtype=np.int64),
        encodings=encodings,
        values=values,
        upper=upper,
        feasible=feasible(as_limits(limits, directions), values, upper),
        sources={m: "estimated" if m in header["closed_form"] else "measured" for m in values},
        failed=tuple(
            FailedTrial(
                number=t.number,
                architecture=tree.decode(np.array(t.user_attrs[CLAIM])),
                reason=t.user_attrs[ERROR],
            )
            for t in all_trials
            # failed without an error: given up for another process, or killed; it may be tried again
            if t.state is TrialState.FAIL and ERROR in t.user_attrs
        ),
        note=study.user_attrs.get(_NOTE, ""),
        provenance={"seconds": sum(t.duration.total_seconds() for t in trials if t.duration is not None)},
    )


@contextlib.contextmanager
def quiet() -> Iterator[None]:
    """Optuna reports to nobody here: progress goes through the callback."""
    before = optuna.logging.get_verbosity()
    optuna.logging.set_verbosity(optuna.logging.WARNING)
    try:
        yield
    finally:
        optuna.logging.set_verbosity(before)
