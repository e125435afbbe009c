"""Why a network was chosen, in words. Knows answers and numbers, never how either came about."""

from __future__ import annotations

from typing import TYPE_CHECKING

from hwnas.quantities import difference, metric_name, quantity

if TYPE_CHECKING:
    from hwnas.query import Answer


def preference_text(answer: Answer) -> str:
    """One sentence: `trial 48 has the same accuracy as trial 5 at 0.74 of its latency`."""
    p, trial, name = answer.preference, f"trial {answer.number}", metric_name(answer.preference.metric)
    if p.asked_for:
        return f"{trial} was asked for itself; it has {name} {quantity(p.metric, p.best_value)}"
    if p.best == answer.number:
        return f"{trial} has the best {name}, {quantity(p.metric, p.best_value)}"
    cheaper = f" {_cheaper(p.ratio, metric_name(p.cost))}" if p.cost else ""
    value = answer.values[p.metric]
    if value == p.best_value:
        return f"{trial} has the same {name} as trial {p.best}{cheaper}"
    if p.tolerance == p.standard_error:
        source = answer.sources.get(p.metric, "")
        within = f"one standard error (± {difference(p.metric, p.tolerance)}{f', {source}' if source else ''})"
    else:
        within = f"the tolerance of {difference(p.metric, p.tolerance)}"
    return (
        f"{trial} has {name} {quantity(p.metric, value)}, within {within} of the best, "
        f"{quantity(p.metric, p.best_value)} of trial {p.best},{cheaper}"
    )


def _cheaper(ratio: float, cost: str) -> str:
    """`at 0.60 of its latency`; a saving too small for that is told as one: `with 0.15 % less latency`."""
    if ratio < 0.995:
        return f"at {ratio:.2f} of its {cost}"
    return f"with {100 * (1 - ratio):.2g}\u00a0% less {cost}"


def missing_error_text(answer: Answer) -> str:
    """What to know where a value was measured on samples and the study does not tell how exactly; else empty."""
    p = answer.preference
    if p.standard_error is not None or not answer.sources.get(p.metric, "").startswith("measured"):
        return ""
    return (
        f"The study does not tell the standard error of {metric_name(p.metric)} (it is of an earlier version), so only "
        "equal values count as equal; `hwnas search` with the same settings adds it and evaluates nothing again."
    )
