"""The answer to a budget question for any profiled device of a run, as the result of a command.

A question that a study answers goes to `hwnas.answers`. Knows a run's folder; never a runtime or a page.
"""

from __future__ import annotations

import dataclasses
from collections.abc import Mapping
from dataclasses import dataclass
from pathlib import Path
from typing import TYPE_CHECKING

from hwnas._console import Console
from hwnas.allowed import ACCURACY, EVALUATED, Allowed, Limits
from hwnas.answers import QueryResult, answer_values, best_networks, study_of
from hwnas.config import CONFIG_FILE, load_config
from hwnas.errors import ConfigError
from hwnas.limits import as_limits, as_mapping
from hwnas.quantities import count, difference, metric_name, percent, quantity
from hwnas.query import Answer
from hwnas.results import Shown

if TYPE_CHECKING:
    from hwnas.pipeline.measuring import MeasuredNetwork

_FRACTION = "latency_fraction"


@dataclass(frozen=True, kw_only=True)
class BudgetResult(QueryResult):
    """The best networks of a run on a device that need not be one it was searched for.

    Attributes:
        device: its name.
        predicted: networks that were not evaluated and are expected to be better, see `Offers`.
        measured: what was found of the answers and then of the predicted ones; empty if that was not asked for.
        notes: for people.
    """

    device: str
    predicted: tuple[Answer, ...]
    measured: tuple[MeasuredNetwork, ...] = ()
    notes: tuple[str, ...]

    def values(self) -> Mapping[str, object]:
        """Limits, answers, and the networks that are predicted."""
        return {
            "device": self.device,
            **super().values(),
            "predicted": [{**answer_values(a), "standard_errors": a.standard_errors} for a in self.predicted],
            "measured": list(self.measured),
        }

    @property
    def shown(self) -> Shown:
        """A row for each evaluated network, and a sentence for each that is predicted."""
        names = [f"trial {a.number}" for a in self.answers] + ["predicted network"] * len(self.predicted)
        told = [predicted_text(a) for a in self.predicted]
        told += [measured_text(m, name) for m, name in zip(self.measured, names, strict=False)]
        if not self.answers:
            return Shown(notes=[*self.notes, *told, "The architecture is shown by --json."])
        shown = super().shown
        return Shown(
            title=f"{shown.title}, on {self.device}",
            columns=shown.columns,
            rows=shown.rows,
            notes=[*shown.notes, *told, *self.notes],
        )


def predicted_text(answer: Answer) -> str:
    """`Predicted 91.2 % ± 0.4 points, not evaluated: latency 0.0188 ms, size 98 kB.`"""
    metric = answer.preference.metric
    value, error = answer.values[metric], answer.standard_errors[metric]
    costs = ", ".join(
        f"{metric_name(m)} {quantity(m, answer.values[m])}" for m in ("latency_ms", "size_bytes") if m in answer.values
    )
    return (
        f"Predicted {percent(value, decimals=2)} ± {difference(metric, error)}, not evaluated"
        f"{f': {costs}' if costs else ''}."
    )


def measured_text(measured: MeasuredNetwork, name: str) -> str:
    """`Measured, trial 5: accuracy 91.2 % ± 0.4 points, latency 0.0188 ms, size 98 kB: keeps the limits.`"""
    values = [
        f"{metric_name(m)} {quantity(m, value)}"
        + (f" ± {difference(m, measured.standard_error)}" if m in EVALUATED else "")
        for m, value in measured.values.items()
    ]
    verdict = f"misses {', '.join(measured.misses)}" if measured.misses else "keeps the limits"
    source = "" if measured.source == "measured" else f" (latency {measured.source})"
    return f"Measured, {name}: {', '.join(values)}{source}: {verdict}."


def answer_budget(
    folder: Path,
    *,
    limits: Limits,
    metric: str = "",
    top: int = 1,
    device: str = "",
    tolerance: float | None = None,
    n_predicted: int = 0,
    measured: bool = False,
    console: Console | None = None,
) -> QueryResult:
    """The answer to a budget question.

    Args:
        folder: of a run, or a study's file.
        limits: see `hwnas.query.query`; of a run also `latency_fraction`, of the largest network's latency.
        metric: what to be best in; empty: what networks were evaluated for.
        top: how many evaluated networks at most.
        device: any that is profiled for the run's space; without it, the only one that was searched for.
        tolerance: see `hwnas.query.query`.
        n_predicted: how many networks that were not evaluated to name, where they are expected to be better.
        measured: whether to evaluate and time the networks that are named, which takes seconds each and the device.
        console: to speak on while that is done.

    Raises:
        ConfigError: the folder has no finished study, or several and no device was named.
        UnknownNameError: the device is not described.
        TableError: the device is not profiled for the run's space.
        InfeasibleError: no network keeps the limits.
        StudyError: the study cannot be read, or has no such metric.
    """
    is_run = folder.is_dir() and (folder / CONFIG_FILE).exists()
    needs_run = bool(n_predicted) or measured
    if _FRACTION in limits:
        limits = _in_milliseconds(limits, folder, device=device, is_run=is_run)
    if not is_run or (not needs_run and study_of(folder, device) is not None):
        if needs_run:
            raise ConfigError(
                f"{folder} is not the folder of a run, which predictions and measurements need: there is no "
                f"{CONFIG_FILE}"
            )
        return best_networks(folder, limits=limits, metric=metric, top=top, device=device, tolerance=tolerance)
    from hwnas.catalogue.of_run import N_PREDICTED, networks_of

    config = load_config(folder)
    networks = networks_of(config, device, n_predicted=N_PREDICTED if n_predicted else 0)
    offers = networks.ask(limits, metric=metric, top=top, n_predicted=n_predicted, tolerance=tolerance)
    found_in = "accuracies are" if networks.metric == ACCURACY else f"{metric_name(networks.metric)} is"
    notes = [f"Costs are those of {networks.device}; {found_in} of the search for {_listed(networks.searched_for)}."]
    if networks.left_out:
        notes.append(f"{count(networks.left_out, 'network')} of it cannot be had there.")
    if offers.infeasible is not None:
        notes.insert(0, f"Of the evaluated networks none answers: {offers.infeasible}.")
    found: list[MeasuredNetwork] = []
    if measured:
        from hwnas.pipeline.measuring import measure_networks

        named = [*offers.evaluated, *offers.predicted]
        found = measure_networks(config.part_for(device), named, limits=limits, console=console or Console())
    return BudgetResult(
        metric=metric or networks.metric,
        limits=limits,
        asked=as_limits(limits, networks.evaluated.directions),
        answers=offers.evaluated,
        device=networks.device,
        predicted=offers.predicted,
        measured=tuple(found),
        notes=tuple(notes),
    )


def _in_milliseconds(limits: Limits, folder: Path, *, device: str, is_run: bool) -> dict[str, Allowed]:
    """Limits with a share of the largest network's latency as what it is on the device.

    Raises:
        ConfigError: there is a limit on the latency as well, or no run whose tables tell the largest network's.
    """
    if "latency_ms" in limits:
        raise ConfigError(f"give latency_ms or {_FRACTION}, not both")
    if not is_run:
        raise ConfigError(
            f"{_FRACTION} is a share of what the largest network takes, which {folder} does not tell: name the "
            "folder of a run, or give latency_ms"
        )
    from hwnas.catalogue.of_run import costs_of

    largest_ms = costs_of(load_config(folder), device).largest_ms
    others = {metric: allowed for metric, allowed in limits.items() if metric != _FRACTION}
    shares = as_limits({"latency_ms": limits[_FRACTION]})
    return {**others, **as_mapping(dataclasses.replace(s, value=s.value * largest_ms) for s in shares)}


def _listed(names: tuple[str, ...]) -> str:
    return " and ".join(dict.fromkeys(names))
