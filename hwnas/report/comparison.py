"""The page that shows finished searches side by side: what each was, how fast it found what, and the fronts.

The same inputs give the same bytes. This module must never know how a number was obtained.
"""

from __future__ import annotations

from collections.abc import Callable, Mapping, Sequence
from dataclasses import dataclass
from functools import partial
from typing import TYPE_CHECKING, NamedTuple

from hwnas.limits import as_limits
from hwnas.quantities import count, digits, limit_text, metric_name, percent, printable, quantity
from hwnas.report._template import render
from hwnas.report.comparison_figures import curves_figure, fronts_figure
from hwnas.report.palette import DARK, LIGHT
from hwnas.report.svg import inline_svg
from hwnas.report.tables import TextTable
from hwnas.types import Direction, FloatArray

if TYPE_CHECKING:
    from matplotlib.figure import Figure

    from hwnas.search.measures import Quartiles
    from hwnas.search.study import Study


@dataclass(frozen=True, slots=True, kw_only=True)
class Spread:
    """One number of several searches: the median, and the quartiles it lies between."""

    lower: float
    median: float
    upper: float


class Cell(NamedTuple):
    """Of a table: what it says, and what stands small below it."""

    text: str
    below: str = ""

    def __str__(self) -> str:
        """In one line."""
        return f"{self.text} ({self.below})" if self.below else self.text


@dataclass(frozen=True, slots=True, kw_only=True, eq=False)
class ComparedGroup:
    """Searches that differ in their seed alone.

    Attributes:
        name: of the sampler, or of the only search.
        studies: their names among those compared.
        share: of the best known hypervolume after each evaluation.
        share_at: the same after as many evaluations as all compared searches have.
        front: of the search of median hypervolume: (K,) costs, rising, and (K,) values; K is 0 if one metric alone is
            searched for.
        distance: IGD+ from the best known front, in units of it.
        distances: the same after each evaluation; None if a search found nothing, or one metric alone is searched for.
        epsilon: additive epsilon, likewise.
        evaluations_to: share of the best known hypervolume -> evaluations until it, the median; None: never.
        improvement: over the average random architecture, as a share of it; None if nobody searched at random.
        improvements: the same after each evaluation.
    """

    name: str
    studies: tuple[str, ...]
    share: Quartiles
    share_at: Spread
    front: tuple[FloatArray, FloatArray]
    distance: Spread | None
    distances: Quartiles | None
    epsilon: Spread | None
    evaluations_to: Mapping[float, float | None]
    improvement: Spread | None
    improvements: Quartiles | None


@dataclass(frozen=True, slots=True, kw_only=True, eq=False)
class ComparisonInputs:
    """Everything the page shows.

    Attributes:
        studies: what each is called -> the search.
        groups: of them, as they are drawn.
        reference: metric -> the worst value that counts.
        n_common: evaluations that all of them have.
        metric: whose relative improvement is told, on the vertical axis of the fronts.
        cost: on their horizontal axis; empty if one metric alone is searched for.
        notes: what to know.
    """

    studies: Mapping[str, Study]
    groups: Sequence[ComparedGroup]
    reference: Mapping[str, float]
    n_common: int
    metric: str
    cost: str
    notes: Sequence[str] = ()

    @property
    def directions(self) -> Mapping[str, Direction]:
        """Of all of them."""
        return next(iter(self.studies.values())).directions


def render_comparison(inputs: ComparisonInputs) -> str:
    """The comparison as one HTML document that loads nothing."""
    first = next(iter(inputs.studies.values()))
    headers, rows = measures_table(inputs)
    about = studies_table(inputs.studies)
    best = max(inputs.groups, key=lambda g: g.share_at.median)
    return render(
        "comparison.html",
        {
            "light": dict(LIGHT),
            "dark": dict(DARK),
            "space": printable(first.space_name),
            "n_studies": count(len(inputs.studies), "search").replace("searchs", "searches"),
            "n_common": count(inputs.n_common, "network"),
            "best": printable(best.name),
            "best_share": percent(best.share_at.median),
            "alone": len(inputs.groups) == 1,
            "curves": [picture for picture in (_shares(inputs), _distances(inputs), _improvements(inputs)) if picture],
            "fronts": _fronts(inputs),
            "studies": {"headers": about.headers, "rows": [[Cell(text) for text in row] for row in about.rows]},
            "measures": {"headers": headers, "rows": rows},
            "reference": [(metric_name(m), quantity(m, v)) for m, v in inputs.reference.items()],
            "notes": [printable(note) for note in inputs.notes],
        },
    )


def studies_table(studies: Mapping[str, Study]) -> TextTable:
    """What each search was."""
    rows = [(printable(name), *_about(study)) for name, study in studies.items()]
    headers = ("Search", "Device", "Sampler", "Seed", "Limits", "Networks", "Failed", "Time of its trials", "Note")
    # a note that none has is no column
    shown = len(headers) if any(row[-1] for row in rows) else len(headers) - 1
    return TextTable(headers=headers[:shown], rows=tuple(row[:shown] for row in rows))


def _about(study: Study) -> tuple[str, ...]:
    told = study.provenance
    within = [f"{metric_name(x.metric)} {limit_text(x)}" for x in as_limits(study.limits, study.directions)]
    seconds = told.get("seconds")
    return (
        *(printable(str(told.get(what, "not told"))) for what in ("device", "sampler", "seed")),
        ", ".join(within) or "none",
        f"{len(study):,}",
        f"{len(study.failed):,}",
        f"{seconds:,.0f} s" if isinstance(seconds, int | float) else "not told",
        printable(study.note),
    )


def measures_table(inputs: ComparisonInputs) -> tuple[tuple[str, ...], list[tuple[Cell, ...]]]:
    """How good each is: headers, and a row a group; a measure that none has is left out."""
    shares = list(inputs.groups[0].evaluations_to)
    columns: dict[str, list[Cell]] = {
        "Sampler": [Cell(printable(g.name)) for g in inputs.groups],
        "Searches": [Cell(str(len(g.studies))) for g in inputs.groups],
        f"Hypervolume after {inputs.n_common:,}": [_spread(g.share_at, percent) for g in inputs.groups],
    }
    for share in shares:
        cells = [Cell(_number(g.evaluations_to[share])) for g in inputs.groups]
        columns[f"Networks to {percent(share, decimals=0)}"] = cells
    columns["IGD+"] = [_spread(g.distance, digits) for g in inputs.groups]
    columns["Additive ε"] = [_spread(g.epsilon, digits) for g in inputs.groups]
    columns["Over random"] = [_spread(g.improvement, lambda v: percent(v, signed=True)) for g in inputs.groups]
    kept = {header: cells for header, cells in columns.items() if any(cell.text for cell in cells)}
    return tuple(kept), list(zip(*kept.values(), strict=True))


def _spread(value: Spread | None, text: Callable[[float], str]) -> Cell:
    if value is None:
        return Cell("")
    lower, upper = text(value.lower), text(value.upper)
    return Cell(text(value.median), "" if lower == upper else f"{lower} to {upper}")


def _number(value: float | None) -> str:
    return "not reached" if value is None else f"{value:,.0f}" if float(value).is_integer() else f"{value:,.1f}"


def _shares(inputs: ComparisonInputs) -> dict[str, str]:
    caption = "Hypervolume up to the reference point, as a share of that of all networks of all searches together."
    if any(g.share.n_searches > 1 for g in inputs.groups):
        caption += " Lines are medians of searches that differ in their seed, bands reach from quartile to quartile."
    label = f"Share of the best known hypervolume over {inputs.n_common} evaluations: " + "; ".join(
        f"{g.name} ends at {percent(float(g.share.median[-1]))}" for g in inputs.groups
    )
    figure = curves_figure(
        {g.name: g.share for g in inputs.groups}, axis="hypervolume (% of the best known)", factor=100
    )
    svg = inline_svg(figure, name="curves", label=printable(label))
    return {"title": "How fast each found its front", "svg": svg, "caption": caption}


def _distances(inputs: ComparisonInputs) -> dict[str, str] | None:
    curves = {g.name: g.distances for g in inputs.groups if g.distances is not None}
    if not curves:
        return None
    figure = curves_figure(curves, axis="IGD+ from the best known front", falling=True)
    return {
        "title": "How far it was from the best one",
        "svg": _svg(figure, curves, name="distances", what="IGD+ from the best known front", text=digits),
        "caption": "How far the best known front is from what was found, each metric in units of its range on it: less "
        "is better.",
    }


def _improvements(inputs: ComparisonInputs) -> dict[str, str] | None:
    curves = {g.name: g.improvements for g in inputs.groups if g.improvements is not None}
    if not curves:
        return None
    what = metric_name(inputs.metric)
    over = f"Improvement of {what} over the average random architecture"
    figure = curves_figure(curves, axis=f"{what} over random (%)", factor=100)
    return {
        "title": f"Best {what} over random",
        "svg": _svg(figure, curves, name="improvements", what=over, text=partial(percent, signed=True)),
        "caption": f"The best {what} so far, as a share above the average of networks that were drawn at random.",
    }


def _svg(figure: Figure, curves: Mapping[str, Quartiles], *, name: str, what: str, text: Callable[[float], str]) -> str:
    """Curves over evaluations for the page, with where each ends told to those who do not see them."""
    ends = "; ".join(f"{group} ends at {text(float(curve.median[-1]))}" for group, curve in curves.items())
    return inline_svg(figure, name=name, label=printable(f"{what} over evaluations: {ends}"))


def _fronts(inputs: ComparisonInputs) -> dict[str, str] | None:
    if not inputs.cost or not any(len(g.front[0]) for g in inputs.groups):
        return None
    figure = fronts_figure(
        {g.name: g.front for g in inputs.groups},
        cost=(inputs.cost, inputs.directions[inputs.cost]),
        metric=(inputs.metric, inputs.directions[inputs.metric]),
        reference=inputs.reference,
    )
    sizes = "; ".join(f"{g.name} of {count(len(g.front[0]), 'network')}" for g in inputs.groups)
    label = f"Fronts of {metric_name(inputs.metric)} over {metric_name(inputs.cost)}: {sizes}"
    caption = "Networks that no other of the search beats in these two metrics, as far as they are better than the "
    caption += f"reference point in {metric_name(inputs.metric)}."
    if any(len(g.studies) > 1 for g in inputs.groups):
        caption += " Of several searches, the one whose hypervolume is their median."
    return {"svg": inline_svg(figure, name="fronts", label=printable(label)), "caption": caption}
