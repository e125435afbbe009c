"""Stage `search`: accuracy by evaluating sub-networks, every cost in closed form, within the limits."""

from __future__ import annotations

import dataclasses
import functools
import hashlib
import json
import time
from collections.abc import Mapping, Sequence
from dataclasses import dataclass
from pathlib import Path
from typing import Any

import numpy as np

from hwnas import registry
from hwnas._console import Console
from hwnas._places import quoted
from hwnas.accuracy.evaluation import EVALUATION
from hwnas.allowed import ACCURACY, Limits, limits_to_json
from hwnas.config import Config
from hwnas.deployment import guessing_note
from hwnas.errors import StudyError
from hwnas.limits import round_up
from hwnas.pipeline._last_used import begin
from hwnas.pipeline.costs import Costs, load_costs, reachable_limits, source_of_cost
from hwnas.pipeline.evaluating import EvaluationCounts, Evaluations, Reusing
from hwnas.pipeline.seeding import MOST, seed_architectures
from hwnas.pipeline.sensitivities import Sensitivity, SensitivityPlan, plan_sensitivities
from hwnas.pipeline.training import refuse_other_run
from hwnas.pipeline.workers import n_validation, workers
from hwnas.quantities import allowed_text, capitalised, difference, metric_name
from hwnas.results import Result, Shown
from hwnas.search import Problem, Sampling, Study, load_study, read_study, save_study
from hwnas.search import search as run_search
from hwnas.types import Direction, IntArray, Option, ProgressCallback, ignore_progress
from hwnas.workspace import Workspace

_SHOWN_LOSSES = 3


@dataclass(frozen=True, slots=True, kw_only=True)
class FrontNetwork:
    """A network of the front, as it stands in a result.

    Attributes:
        trial: its number in the study.
        architecture: choice name -> option.
        values: metric -> value.
        upper: metric -> upper bound, where there is one.
    """

    trial: int
    architecture: Mapping[str, Option]
    values: Mapping[str, float]
    upper: Mapping[str, float]


@dataclass(frozen=True, slots=True, kw_only=True)
class SearchResult(Result):
    """A finished search.

    Attributes:
        folder: of the run.
        study: file of the study.
        metric: what networks were evaluated for: accuracy, or agreement with the given network.
        limits: metric -> value, in absolute numbers.
        n_trials: networks in the study.
        evaluations: how many accuracies were measured by this call, and how many known from earlier ones.
        front: what no network beats, the fastest first.
        sensitivities: what regions lose in each precision, the most first, where the search measured it.
        notes: for people.
        seconds: this search took.
    """

    folder: Path
    study: Path
    metric: str
    limits: Limits
    n_trials: int
    evaluations: EvaluationCounts
    front: tuple[FrontNetwork, ...]
    sensitivities: tuple[Sensitivity, ...]
    notes: tuple[str, ...]
    seconds: float

    @property
    def shown(self) -> Shown:
        """Eight networks of the front, and how to ask for more."""
        front = self.front
        some = front if len(front) <= 8 else [front[round(i * (len(front) - 1) / 7)] for i in range(8)]
        return Shown(
            title=f"Front: {len(front)} of {self.n_trials} networks, {_listed(self.limits)}",
            columns=["trial", f"{self.metric} (validation)", "latency_ms (estimated)", "size_bytes"],
            rows=[
                (t.trial, t.values[self.metric], t.values["latency_ms"], round(t.values["size_bytes"])) for t in some
            ],
            notes=[f"Ask it: {self.question()}", *self.notes],
        )

    def question(self, device: str = "") -> str:
        """A command that asks the study, with a limit that some of its networks keep.

        Args:
            device: of the study, in a run for several.
        """
        # by upper bounds, which limits are kept by
        most = max((t.upper.get("latency_ms", t.values["latency_ms"]) for t in self.front), default=1.0)
        of = f" --device {quoted(device)}" if device else ""
        return f"hwnas query {quoted(self.folder)}{of} --limit latency_ms={round_up(most)}"


def search(
    config: Config,
    *,
    console: Console,
    initial: Sequence[Mapping[str, Option]] = (),
    costs: Costs | None = None,
) -> SearchResult:
    """Search the space; the finished study is kept for `hwnas query` and `hwnas export`.

    Networks that an earlier search evaluated, with other limits or for another device, are not evaluated again, and
    the best of them are where this one begins.

    Args:
        config: of a run for one device.
        console: to speak on.
        initial: architectures that the study shall have in any case.
        costs: what the device's tables tell, if they were read already.

    Raises:
        InfeasibleError: no network keeps the limits; names the smallest reachable value.
        TableError: the device was not profiled yet.
        CheckpointError: the supernet was not trained yet.
    """
    prepared = prepare(config, console=console, costs=costs)
    started = time.monotonic()
    work, fitting = prepared.work, prepared.fitting
    plan = _sensitivity_plan(prepared)
    promising = _promising(prepared, plan)
    fits = [work.space.decode(fitting)] if fitting is not None else []
    sampling = Sampling(
        sampler=_configured_sampler(config), seed=config.search.seed, initial=(*initial, *fits, *promising)
    )
    with console.progress("search") as progress:
        study = evaluate_networks(
            prepared,
            sampling=sampling,
            sampler=config.search.sampler,
            n_trials=config.search.n_trials,
            progress=progress,
        )
    return _result(study, prepared, plan, seconds=time.monotonic() - started)


@dataclass(frozen=True, kw_only=True, eq=False)
class Prepared:
    """A run that is about to be searched.

    Attributes:
        work: the run.
        costs: on its device.
        limits: in absolute numbers.
        fitting: (D,) a network that keeps them, if one is known.
        evaluations: of its supernet.
        name: of the study.
    """

    work: Workspace
    costs: Costs
    limits: Limits
    fitting: IntArray | None
    evaluations: Evaluations
    name: str


def prepare(config: Config, *, console: Console, costs: Costs | None = None) -> Prepared:
    """Read what a search needs, the cheap things first; arguments and errors as of `search`."""
    work = Workspace(config.single)
    costs = costs or load_costs(work)
    limits, fitting = reachable_limits(work, costs)  # before anything expensive, torch included
    # before `begin` writes the configuration: see there
    refuse_other_run(work)
    begin(work, console=console)
    # told now, and not by every worker
    _ = work.supernet
    evaluations = Evaluations.of(work)
    for damage in evaluations.known.repaired:
        console.warn(f"{damage}; it is put aside, and the networks in it are evaluated again")
    name = study_name(work, costs, limits)
    if lost := lost_trials(work, name):
        where = "the journal" if config.search.storage is None else "the database"
        console.warn(f"{lost} finished trials of {name} are gone from {where}; they are searched for again")
    return Prepared(work=work, costs=costs, limits=limits, fitting=fitting, evaluations=evaluations, name=name)


def evaluate_networks(
    prepared: Prepared, *, sampling: Sampling, sampler: str, n_trials: int, progress: ProgressCallback = ignore_progress
) -> Study:
    """Go on with the run's study until it has so many trials, and keep it; it calls how they came about `sampler`."""
    work = prepared.work
    directions = {work.config.ranked_by: Direction.MAXIMIZE, "latency_ms": Direction.MINIMIZE}
    problem = Problem(
        work.space, directions, n_trials=n_trials, limits=prepared.limits, closed_form=prepared.costs.models
    )
    with workers(work) as executor:
        study = run_search(
            problem,
            Reusing(prepared.evaluations, executor),
            sampling=sampling,
            storage=work.trials,
            study_name=prepared.name,
            progress=progress,
        )
    # the search itself tells no more than measured from estimated
    study = _with_sources(study, prepared)
    how = {"device": work.device.name, "sampler": sampler, "seed": sampling.seed, **study.provenance}
    study = dataclasses.replace(study, provenance=how)
    _save(work, study)
    return study


def _sensitivity_plan(prepared: Prepared) -> SensitivityPlan:
    """What tells the sensitivities, if they are asked for."""
    c = prepared.work.config.search
    if not c.sensitivities:
        return SensitivityPlan()
    return plan_sensitivities(
        prepared.work.space,
        prepared.costs.models,
        prepared.costs.limits_among(prepared.limits),
        n_trials=c.n_trials,
        known=prepared.evaluations.in_space()[0],
    )


def _promising(prepared: Prepared, plan: SensitivityPlan) -> list[dict[str, Option]]:
    """Networks to evaluate first.

    The best known, then those that do the most arithmetic within limits on latency, then those that tell what regions
    lose in each precision, which take the place of half of the others: added to all of them they leave the sampler
    later to its own (`benchmarks/search_precision.py`).
    """
    work, costs = prepared.work, prepared.costs
    n_trials = work.config.search.n_trials
    # half at most: the sampler must have trials left to learn from them
    most = min(MOST // 2 if plan.encodings else MOST, max(1, n_trials // 2))
    seeds = seed_architectures(work.space, costs.models, costs.limits_among(prepared.limits), most=most)
    # the best known cost nothing to evaluate again, and give the sampler a front at once
    known = prepared.evaluations.front(costs, prepared.limits, most=n_trials // 4)
    return [*known, *seeds, *map(work.space.decode, plan.encodings)]


def _configured_sampler(config: Config) -> Any:
    """The sampler's factory with those of the configuration's settings that it takes."""
    c = config.search
    sampler: Any = registry.load("samplers", c.sampler)
    settings = {"population_size": c.population_size, "stop_early": c.stop_early}
    return functools.partial(sampler, **registry.taken_by(sampler, settings))


def _result(study: Study, prepared: Prepared, plan: SensitivityPlan, *, seconds: float) -> SearchResult:
    """What is told of a study that was saved."""
    work, sensitivities = prepared.work, plan.read(study)
    return SearchResult(
        folder=work.folder,
        study=work.study,
        metric=study.ranked_by,
        limits=prepared.limits,
        n_trials=len(study),
        evaluations=prepared.evaluations.counts,
        front=tuple(
            FrontNetwork(trial=t.number, architecture=t.architecture, values=t.values, upper=t.upper)
            for t in sorted(study.front(), key=lambda t: t.values["latency_ms"])
        ),
        sensitivities=sensitivities,
        notes=(
            *_notes(study, prepared.evaluations),
            *_precision_notes(sensitivities, plan, metric=study.ranked_by),
        ),
        seconds=seconds,
    )


def _with_sources(study: Study, prepared: Prepared) -> Study:
    """The study with where its values come from, and how exact the measured ones are."""
    work, metric = prepared.work, study.ranked_by
    measured = f"measured on {n_validation(work):,} validation {work.data.what}"
    errors = [
        prepared.evaluations.standard_error(work.space.decode(encoding), accuracy)
        for encoding, accuracy in zip(study.encodings, study.values[metric].tolist(), strict=True)
    ]
    return dataclasses.replace(
        study,
        sources={m: measured if m == metric else source_of_cost(m, prepared.costs) for m in study.values},
        standard_errors={metric: np.array(errors, dtype=float)},
    )


def lost_trials(work: Workspace, name: str) -> int:
    """How many trials of the finished study the journal has no more: it may have been cut off, or is gone."""
    try:
        saved = load_study(work.study_called(name))
    except StudyError:  # there is none yet, or nobody can tell
        return 0
    trials = work.trials
    try:
        found = len(read_study(trials, study_name=name))
    except StudyError:  # there is none, it is damaged, which the search itself tells, or without this study
        found = 0
    return max(0, len(saved) - found)


def _save(work: Workspace, study: Study) -> None:
    """Write the study, unless another process that shares it has already written more of it."""
    with work.alone("saving", wait=True):
        try:
            saved = load_study(work.study)
        except StudyError:  # there is none, or it is damaged
            saved = None
        # another name is another search, which the last one replaces
        if saved is None or saved.name != study.name or len(saved) <= len(study):
            save_study(study, work.study)
            save_study(study, work.study_called(study.name))  # for the pages of what is deployed from it


def study_name(work: Workspace, costs: Costs, limits: Limits) -> str:
    """A study belongs to one set of limits and tables and to one way of evaluating: another begins anew."""
    c = work.config.search
    what = {
        "limits": limits_to_json(limits),
        "tables": dict(costs.hashes),
        "checkpoint": work.weights_and_data(),
        "evaluation": [c.validation_samples, c.recalibration_samples, c.calibration_samples, EVALUATION],
        "sampler": [c.sampler, c.seed, c.population_size, work.space.fingerprint()],
    }
    # 64 bits of the hash: names are compared within one run
    return "search-" + hashlib.sha256(json.dumps(what, sort_keys=True).encode()).hexdigest()[:16]


def _listed(limits: Limits) -> str:
    return ", ".join(f"{metric_name(m)} {allowed_text(m, v)}" for m, v in limits.items()) or "no limits"


def _notes(study: Study, evaluations: Evaluations) -> list[str]:
    notes = [study.note] if study.note else []
    if evaluations.reused:
        asked = evaluations.reused + evaluations.measured
        what = "accuracies" if study.ranked_by == ACCURACY else "networks"
        notes.append(f"{evaluations.reused} of {asked} {what} were known from earlier searches")
    if study.failed:
        notes.append(f"{len(study.failed)} networks could not be evaluated; the first: {study.failed[0].reason}")
    return [*notes, *_guessing(study, evaluations.work)]


def _precision_notes(sensitivities: Sequence[Sensitivity], plan: SensitivityPlan, *, metric: str) -> list[str]:
    """Where precision costs most of what networks are evaluated for, or why nobody measured it."""
    if plan.why_not:
        return [f"What each region loses in each precision was not measured: {plan.why_not}"]
    if not sensitivities:
        return []
    told = ", ".join(
        f"{s.choice.removesuffix('.precision')} in {s.precision} {difference(metric, s.loss)}"
        for s in sensitivities[:_SHOWN_LOSSES]
    )
    name = capitalised(metric_name(metric))
    return [f"{name} lost by single regions, the most of {len(sensitivities)} that were measured: {told}"]


def _guessing(study: Study, work: Workspace) -> list[str]:
    """That even the best network is no better than naming the largest class, where it is so."""
    # the images that accuracies were measured on, no others
    if not len(study) or study.ranked_by != ACCURACY:  # an answer is no class that images have more of
        return []
    labels = work.data.validation.targets[work.stream("validation").rows(work.config.search.validation_samples)]
    sizes = np.bincount(labels)
    note = guessing_note(
        float(np.nanmax(study.values[ACCURACY])),
        majority=work.data.class_names[int(sizes.argmax())],
        share=float(sizes.max() / len(labels)),
        n=len(labels),
    )
    return [f"of all networks the best: {note}"] if note else []
