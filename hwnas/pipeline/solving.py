"""Stage `search --exact`: the network that a model of the known accuracies predicts to be best within the limits.

A linear model of options and pairs of options is fitted to the networks whose accuracy is known (HardCoRe-NAS: Nayman
et al., 2021), an integer program finds its maximum within the limits, and that one network is evaluated. Where few
accuracies are known, some random networks within the limits are evaluated first.
"""

from __future__ import annotations

from collections.abc import Mapping
from dataclasses import dataclass
from pathlib import Path
from typing import TYPE_CHECKING

import numpy as np

from hwnas._console import Console
from hwnas._places import quoted
from hwnas.allowed import Limits
from hwnas.config import Config
from hwnas.cost import Objective, Solution, best_within
from hwnas.cost.exact import UndecidedError
from hwnas.errors import StudyError
from hwnas.pipeline.evaluating import EvaluationCounts
from hwnas.pipeline.most import check_one_device
from hwnas.pipeline.searching import Prepared, evaluate_networks, prepare
from hwnas.quantities import metric_name
from hwnas.results import Result, Shown
from hwnas.search import Sampling, Study, Trial, read_study
from hwnas.types import IntArray, Option

if TYPE_CHECKING:
    from hwnas.predict import CrossValidation, LinearModel

_FIRST = 40  # networks evaluated where fewer accuracies are known, unless `search.n_trials` is less
_SAMPLER = "exact"  # as the study calls it
_SECONDS = 60.0
_GAP = 1e-5  # of accuracy: a hundredth of one image among a thousand
_POOR = 0.5  # rank correlation


@dataclass(frozen=True, slots=True, kw_only=True)
class ModelQuality:
    """How well the model predicts networks that it was not fitted to, by cross-validation.

    Attributes:
        networks: it was fitted to.
        pairs: of choices in it.
        rank_correlation: Spearman's, of predicted and measured accuracies.
        rank_correlation_error: its standard error.
        rmse: of predictions.
        rmse_error: its standard error.
    """

    networks: int
    pairs: int
    rank_correlation: float
    rank_correlation_error: float
    rmse: float
    rmse_error: float

    def told(self) -> str:
        """The same for people."""
        pairs = f" and {self.pairs} pairs of choices" if self.pairs else ""
        return (
            f"The model: options{pairs}, fitted to {self.networks} networks. On networks left out its rank correlation "
            f"is {self.rank_correlation:.2f} ± {self.rank_correlation_error:.2f}, its error {self.rmse:.4f} ± "
            f"{self.rmse_error:.4f}"
        )

    @classmethod
    def of(cls, model: LinearModel, quality: CrossValidation) -> ModelQuality:
        return cls(
            networks=quality.n,
            pairs=len(model.pairs),
            rank_correlation=quality.rank_correlation,
            rank_correlation_error=quality.rank_correlation_error,
            rmse=quality.rmse,
            rmse_error=quality.rmse_error,
        )


@dataclass(frozen=True, slots=True, kw_only=True)
class ExactResult(Result):
    """The best network of the model, evaluated.

    Attributes:
        folder: of the run.
        study: file of the study, which has it.
        metric: what networks were evaluated for: accuracy, or agreement with the given network.
        limits: metric -> value, in absolute numbers.
        trial: its number in the study.
        architecture: choice name -> option.
        metrics: metric -> value, the measured accuracy among them.
        predicted: the accuracy that the model told.
        predicted_error: its standard deviation.
        accuracy_error: standard error of the measured one.
        gap: by how much another network's prediction could be better, by the solver's own bound.
        solver_seconds: what the integer program took.
        model: how well it predicts.
        evaluations: how many accuracies were measured by this call, and how many known from earlier ones.
        notes: for people.
    """

    folder: Path
    study: Path
    metric: str
    limits: Limits
    trial: int
    architecture: Mapping[str, Option]
    metrics: Mapping[str, float]
    predicted: float
    predicted_error: float
    accuracy_error: float
    gap: float
    solver_seconds: float
    model: ModelQuality
    evaluations: EvaluationCounts
    notes: tuple[str, ...]

    @property
    def shown(self) -> Shown:
        """What was predicted and what was measured."""
        v, name = self.metrics, metric_name(self.metric)
        return Shown(
            title="The best network within the limits, of a linear model",
            rows=[
                ("trial", self.trial),
                (f"{name} (predicted)", f"{self.predicted:.4f} ± {self.predicted_error:.4f}"),
                (f"{name} (validation)", f"{v[self.metric]:.4f} ± {self.accuracy_error:.4f}"),
                ("latency_ms (estimated)", v["latency_ms"]),
                ("size_bytes", round(v["size_bytes"])),
                ("no other is predicted better by more than", f"{self.gap:.2g}"),
                ("solved in", f"{self.solver_seconds:.2f} s"),
            ],
            notes=[self.model.told(), *self.notes],
        )


def search_exact(config: Config, *, console: Console) -> ExactResult:
    """Fit, solve, evaluate; the network is a trial of the study like any other.

    Args:
        config: of a run for one device.
        console: to speak on.

    Raises:
        InfeasibleError: no network keeps the limits; names the smallest reachable value.
        ConfigError: the run is for several devices, or too few networks could be evaluated to fit a model.
        StudyError: the solver found no network in its time, or its network could not be evaluated.
        TableError: the device was not profiled yet.
        CheckpointError: the supernet was not trained yet.
    """
    check_one_device(config)
    prepared = prepare(config, console=console)
    _evaluate_some(prepared, config, console=console)
    encodings, accuracies = prepared.evaluations.in_space()

    from hwnas.predict import fit_linear

    model, quality = fit_linear(prepared.work.space.choices, encodings, accuracies, seed=config.search.seed)
    solution = _solved(prepared, model)
    study = _with_network(prepared, solution, config)
    return _result(prepared, solution, study=study, model=model, quality=quality)


def _evaluate_some(prepared: Prepared, config: Config, *, console: Console) -> None:
    """Random networks within the limits, where few accuracies are known."""
    wanted = min(_FIRST, config.search.n_trials)
    missing = wanted - len(prepared.evaluations.in_space()[0])
    if missing <= 0:
        return
    n_trials = len(_in_journal(prepared)) + missing
    fits = [prepared.work.space.decode(prepared.fitting)] if prepared.fitting is not None else []
    sampling = Sampling(sampler="random", seed=config.search.seed, initial=tuple(fits))
    with console.progress("networks to learn from") as progress:
        evaluate_networks(prepared, sampling=sampling, sampler=_SAMPLER, n_trials=n_trials, progress=progress)


def _in_journal(prepared: Prepared) -> IntArray:
    """(N, D) the networks that the study has so far."""
    try:
        return read_study(prepared.work.trials, study_name=prepared.name).encodings
    except StudyError:  # there is none yet; of a damaged one the search itself tells
        return np.zeros((0, len(prepared.work.space.choices)), dtype=np.int64)


def _solved(prepared: Prepared, model: LinearModel) -> Solution:
    space = prepared.work.space
    tables = [(t.scope, t.values) for t in model.terms]
    objective = Objective.over_states(space.choices, tables, constant=model.constant)
    # an accuracy is what is predicted here, and no limit on it can be promised
    limits = prepared.costs.limits_among(prepared.limits)
    try:
        return best_within(objective, space, models=prepared.costs.models, limits=limits, seconds=_SECONDS, gap=_GAP)
    except UndecidedError as e:
        raise StudyError(f"{e}; `hwnas search` looks for networks without a proof") from e


def _with_network(prepared: Prepared, solution: Solution, config: Config) -> Study:
    """The study with the network among its trials."""
    known = _in_journal(prepared)
    is_new = not (known == solution.encoding).all(axis=1).any()
    architecture = prepared.work.space.decode(solution.encoding)
    sampling = Sampling(sampler="random", seed=config.search.seed, initial=(architecture,))
    # one that is there already is not evaluated again; what the study has is written in any case
    return evaluate_networks(prepared, sampling=sampling, sampler=_SAMPLER, n_trials=len(known) + is_new)


def _trial(study: Study, encoding: IntArray, architecture: Mapping[str, Option]) -> Trial:
    """The trial of a network.

    Raises:
        StudyError: it has none.
    """
    rows = np.flatnonzero((study.encodings == encoding).all(axis=1))
    if len(rows):
        return study.trial_at(int(rows[0]))
    reason = next((t.reason for t in study.failed if t.architecture == architecture), "another process has it")
    raise StudyError(f"the network that the model predicts to be best could not be evaluated: {reason}")


def _result(
    prepared: Prepared, solution: Solution, *, study: Study, model: LinearModel, quality: CrossValidation
) -> ExactResult:
    trial = _trial(study, solution.encoding, prepared.work.space.decode(solution.encoding))
    metric = study.ranked_by
    accuracy = trial.values[metric]
    notes = []
    if quality.rank_correlation < _POOR:
        notes.append(
            "The model ranks networks poorly, so its best network need not be near the best there is. More evaluated "
            "networks may help: `hwnas search` with a larger search.n_trials"
        )
    if not trial.feasible:  # of limits on what is evaluated nobody knew before
        notes.append("It breaks a limit on what is measured")
    best = max((t for t in study.trials if t.feasible), key=lambda t: t.values[metric], default=trial)
    if best.values[metric] > accuracy:
        notes.append(
            f"Trial {best.number} of the study was measured to be better: {best.values[metric]:.4f}, also within "
            "the limits"
        )
    notes.append(f"It is a trial of the study like any other: hwnas query {quoted(prepared.work.folder)}")
    (_,), (error,) = model.predict(solution.encoding[None])
    return ExactResult(
        folder=prepared.work.folder,
        study=prepared.work.study,
        metric=metric,
        limits=prepared.limits,
        trial=trial.number,
        architecture=trial.architecture,
        metrics=trial.values,
        predicted=solution.value,
        predicted_error=float(error),
        accuracy_error=prepared.evaluations.standard_error(trial.architecture, accuracy),
        gap=solution.gap,
        solver_seconds=solution.seconds,
        model=ModelQuality.of(model, quality),
        evaluations=prepared.evaluations.counts,
        notes=tuple(notes),
    )
