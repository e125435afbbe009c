"""The answer to a budget question as a result: the best networks of a run's study.

Knows finished studies and their places; must never load torch or a runtime.
"""

from __future__ import annotations

from collections.abc import Mapping
from dataclasses import dataclass
from pathlib import Path

from hwnas._places import quoted
from hwnas.allowed import Limits, limits_to_json
from hwnas.errors import ConfigError
from hwnas.limits import Limit, as_limits
from hwnas.quantities import limit_text, metric_name
from hwnas.query import Answer, query
from hwnas.report.choice import missing_error_text, preference_text
from hwnas.results import Result, Shown
from hwnas.search.study_file import load_study

_STUDY_PLACES = ("study.safetensors", "search/study.safetensors")  # in the folder of a run


@dataclass(frozen=True, kw_only=True)
class QueryResult(Result):
    """The best networks of a study within limits.

    Attributes:
        metric: they are the best in.
        limits: they keep, as they were asked for.
        asked: the same one by one.
        answers: the best first.
    """

    metric: str
    limits: Limits
    asked: tuple[Limit, ...]
    answers: tuple[Answer, ...]

    def values(self) -> Mapping[str, object]:
        """Limits and answers; how a network is encoded is nobody's concern."""
        return {
            "limits": limits_to_json(self.limits),
            "answers": [{"trial": a.number, **answer_values(a), "preference": a.preference} for a in self.answers],
        }

    @property
    def shown(self) -> Shown:
        """A row for each answer, and why the first is preferred."""
        first = self.answers[0]
        metrics = [self.metric, *(m for m in first.values if m != self.metric)]
        asked = ", ".join(f"{metric_name(x.metric)} {limit_text(x)}" for x in self.asked)
        return Shown(
            title=f"Best {metric_name(self.metric)}, {asked or 'without limits'}",
            columns=["trial", *metrics],
            rows=[(a.number, *(a.values[m] for m in metrics)) for a in self.answers],
            notes=[
                f"{preference_text(first)[0].upper()}{preference_text(first)[1:]}.",
                *_kinds({m: first.sources[m] for m in metrics if m in first.sources}),
                *filter(None, [missing_error_text(first)]),
                "The architecture is shown by --json.",
            ],
        )


def answer_values(answer: Answer) -> dict[str, object]:
    """A network as programs have it, evaluated or not."""
    return {
        "architecture": answer.architecture,
        "values": answer.values,
        "upper": answer.upper,
        "sources": answer.sources,
    }


def best_networks(
    study: Path,
    *,
    limits: Limits,
    metric: str,
    top: int,
    device: str = "",
    tolerance: float | None = None,
) -> QueryResult:
    """The answer to a budget question.

    Args:
        study: the folder of a run, or a study's file.
        limits: see `hwnas.query.query`.
        metric: what to be best in; empty: what the study's networks were evaluated for.
        top: how many networks at most.
        device: which of the devices, in a run for several; without it, the only one that was searched for.
        tolerance: see `hwnas.query.query`.

    Raises:
        ConfigError: the folder has no finished study, or several, or none of this device.
        InfeasibleError: no network of the study keeps the limits.
        StudyError: the study cannot be read, or has no such metric.
    """
    opened = load_study(study_file(study, device))
    metric = metric or opened.ranked_by
    answers = query(opened, limits=limits, metric=metric, top=top, tolerance=tolerance)
    return QueryResult(
        metric=metric,
        limits=limits,
        asked=as_limits(limits, opened.directions),
        answers=tuple(answers),
    )


def _kinds(sources: Mapping[str, str]) -> list[str]:
    """How the values came about: `Estimated: latency, size. Computed: MACs, parameters.`"""
    by_source: dict[str, list[str]] = {}
    for metric, source in sources.items():
        by_source.setdefault(source, []).append(metric_name(metric))
    told = [f"{source[0].upper()}{source[1:]}: {', '.join(names)}." for source, names in by_source.items() if source]
    return [" ".join(told)] if told else []


def study_of(folder: Path, device: str) -> Path | None:
    """The finished study that a question for a device goes to; None if there is none, or several.

    Args:
        folder: of a run.
        device: of the run's search; empty: the only one.
    """
    found = {p.parent.name: p for p in sorted(folder.glob("search/*/study.safetensors"))}
    if device:
        return found.get(device)
    only = next((folder / place for place in _STUDY_PLACES if (folder / place).is_file()), None)
    return only or (next(iter(found.values())) if len(found) == 1 else None)


def study_file(path: Path, device: str) -> Path:
    """The file of a finished study.

    Args:
        path: the folder of a run, or the file itself.
        device: which of the devices, in a run for several.

    Raises:
        ConfigError: the folder has no finished study, or several, or none of this device.
    """
    if not path.is_dir():
        return path
    if (study := study_of(path, device)) is not None:
        return study
    found = [p.parent.name for p in sorted(path.glob("search/*/study.safetensors"))]
    if found:
        raise ConfigError(
            f"{path} has {f'no study of device {device!r}' if device else 'a study for each device'}; "
            f"give --device {' or '.join(found)}"
        )
    if device and study_of(path, "") is not None:
        raise ConfigError(f"{path} is a run for one device; ask it without --device")
    raise ConfigError(
        f"{path} has no finished study ({' or '.join(_STUDY_PLACES)}); make one with: hwnas search {quoted(path)}"
    )
