"""What the server tells of a catalogue, as JSON values: devices, fronts, answers, networks as they are drawn.

Knows the catalogue and how numbers are written; never the protocol.
"""

from __future__ import annotations

import dataclasses
from collections.abc import Mapping
from typing import TYPE_CHECKING, Any

import numpy as np

from hwnas.allowed import Limits
from hwnas.catalogue import DeviceNetworks, Offers
from hwnas.catalogue.asking import predicted_text
from hwnas.errors import ConfigError, InfeasibleError
from hwnas.limits import as_limits
from hwnas.precisions import is_conversion
from hwnas.quantities import difference, limit_text, metric_name, percent, quantity, scale_of
from hwnas.query import Answer
from hwnas.report.architecture import common_activation, levels
from hwnas.report.choice import missing_error_text, preference_text
from hwnas.search.archive import non_dominated
from hwnas.spaces.encoding import ChoiceTree

if TYPE_CHECKING:
    from hwnas.search import Study
    from hwnas.types import Option

SLIDERS = ("latency_ms", "size_bytes", "energy_mj", "memory_bytes", "peak_memory_bytes", "macs")
_MOST_DOTS = 1500
_NORMAL_95 = 1.959964


def device_json(networks: DeviceNetworks) -> dict[str, Any]:
    """What there is on a device, and between which values budgets make sense."""
    study = networks.evaluated
    return {
        "name": networks.device,
        "runtime": networks.runtime,
        "evaluated": len(study),
        "predicted": 0 if networks.predicted is None else len(networks.predicted),
        "searched_for": list(networks.searched_for),
        "left_out": networks.left_out,
        "ranked_by": {
            "metric": networks.metric,
            "name": metric_name(networks.metric),
            "source": study.sources.get(networks.metric, ""),
        },
        "metrics": [_range_json(networks, metric) for metric in SLIDERS if metric in study.values],
    }


def _range_json(networks: DeviceNetworks, metric: str) -> dict[str, Any]:
    """The smallest and largest value that a limit on a metric may sensibly have, by upper bounds."""
    studies = [networks.evaluated, *([networks.predicted] if networks.predicted is not None else [])]
    values = np.concatenate([s.upper.get(metric, s.values[metric]) for s in studies])
    low, high = float(np.nanmin(values)), float(np.nanmax(values))
    return {
        "metric": metric,
        "name": metric_name(metric),
        "source": networks.evaluated.sources.get(metric, ""),
        "min": low,
        "max": high,
        "min_text": quantity(metric, low),
        "max_text": quantity(metric, high),
    }


def front_json(networks: DeviceNetworks, cost: str) -> dict[str, Any]:
    """The evaluated networks of a device and the fronts of accuracy and one cost, evaluated and predicted.

    Raises:
        ConfigError: nothing tells this cost there; lists what is told.
    """
    study = networks.evaluated
    metric = study.ranked_by
    if cost not in study.values or cost == metric:
        known = ", ".join(m for m in study.values if m != metric)
        raise ConfigError(f"nothing tells {cost!r} on {networks.device}; known there: {known}")
    rows = study.front_rows(metric, cost, rows=np.arange(len(study)))
    shown = np.arange(len(study))
    if len(shown) > _MOST_DOTS:
        shown = np.linspace(0, len(study) - 1, _MOST_DOTS).round().astype(int)
    scale = scale_of(cost, float(np.nanmax(study.values[cost])))
    document = {
        "metric": metric,
        "metric_name": metric_name(metric),
        "cost": cost,
        "axis": {"label": scale.label, "factor": scale.factor},
        "evaluated": _points(study, cost, shown),
        "front": [
            {
                "number": int(study.numbers[i]),
                "cost": float(study.values[cost][i]),
                metric: float(study.values[metric][i]),
                "cost_text": quantity(cost, float(study.values[cost][i])),
                f"{metric}_text": percent(float(study.values[metric][i]), decimals=2),
            }
            for i in rows
        ],
        "predicted": [],
    }
    if networks.predicted is not None:
        document["predicted"] = _predicted_front(networks.predicted, cost)
    return document


def _points(study: Study, cost: str, rows: Any) -> list[list[float]]:
    """[cost, accuracy] of some networks."""
    of = study.values[cost][rows], study.values[study.ranked_by][rows]
    points: list[list[float]] = np.stack(of, axis=1).tolist()
    return points


def _predicted_front(study: Study, cost: str) -> list[list[float]]:
    """[cost, accuracy, standard error] along the front of what is predicted."""
    accuracy, costs = study.values[study.ranked_by], study.values[cost]
    rows = np.flatnonzero(non_dominated(np.stack([costs, -accuracy], axis=1)))
    rows = rows[np.argsort(costs[rows], kind="stable")]
    if len(rows) > _MOST_DOTS // 4:
        rows = rows[np.unique(np.linspace(0, len(rows) - 1, _MOST_DOTS // 4).round().astype(int))]
    points: list[list[float]] = np.stack(
        [costs[rows], accuracy[rows], study.standard_errors[study.ranked_by][rows]], axis=1
    ).tolist()
    return points


def offers_json(networks: DeviceNetworks, offers: Offers, limits: Limits) -> dict[str, Any]:
    """The answer to a question."""
    return {
        "device": networks.device,
        "limits": limits_json(networks, limits),
        "answers": [_answer_json(a) for a in offers.evaluated],
        "predicted": [_predicted_json(a) for a in offers.predicted],
        "infeasible": None if offers.infeasible is None else infeasible_json(offers.infeasible),
    }


def limits_json(networks: DeviceNetworks, limits: Limits) -> list[dict[str, Any]]:
    """Limits with their texts."""
    return [
        {"metric": x.metric, "value": x.value, "floor": x.floor, "text": f"{metric_name(x.metric)} {limit_text(x)}"}
        for x in as_limits(limits, networks.evaluated.directions)
    ]


def infeasible_json(error: InfeasibleError) -> dict[str, Any]:
    """Why nothing keeps the limits."""
    told = quantity(error.metric, error.reachable) if error.reachable is not None else ""
    return {
        "type": type(error).__name__,
        "message": str(error),
        "metric": error.metric,
        "limit": error.limit,
        "reachable": error.reachable,
        "reachable_text": told,
        "conflict": [
            {"metric": x.metric, "limit": x.limit, "floor": x.floor, "reachable": x.reachable} for x in error.conflict
        ],
    }


def _answer_json(answer: Answer) -> dict[str, Any]:
    why = preference_text(answer)
    metric = answer.preference.metric
    error = answer.standard_errors.get(metric)
    return {
        **_network_json(answer),
        "trial": answer.number,
        "preference": dataclasses.asdict(answer.preference),
        "why": f"{why[0].upper()}{why[1:]}.",
        "note": missing_error_text(answer),
        "label": f"{percent(answer.values[metric], decimals=2)}"
        + (f" ± {difference(metric, error)}" if error is not None else "")
        + f", {answer.sources.get(metric, 'measured')}",
    }


def _predicted_json(answer: Answer) -> dict[str, Any]:
    metric = answer.preference.metric
    mean, error = answer.values[metric], answer.standard_errors[metric]
    low, high = max(0.0, mean - _NORMAL_95 * error), min(1.0, mean + _NORMAL_95 * error)
    return {
        **_network_json(answer),
        "interval": [low, high],
        "why": predicted_text(answer),
        "label": f"predicted {percent(mean, decimals=2)} ± {difference(metric, error)}, not evaluated",
        "interval_text": f"{percent(low, decimals=2)} to {percent(high, decimals=2)}",
    }


def _network_json(answer: Answer) -> dict[str, Any]:
    return {
        "architecture": answer.architecture,
        "values": answer.values,
        "upper": answer.upper,
        "sources": answer.sources,
        "standard_errors": answer.standard_errors,
        "texts": {
            metric: {
                "name": metric_name(metric),
                "value": quantity(metric, value),
                "upper": quantity(metric, answer.upper[metric]) if answer.upper.get(metric, value) != value else "",
                "source": answer.sources.get(metric, ""),
            }
            for metric, value in answer.values.items()
        },
    }


def network_json(networks: DeviceNetworks, architecture: Mapping[str, Option]) -> dict[str, Any]:
    """A network as it is drawn.

    Raises:
        SpaceError: it is none of the device's space.
        ConfigError: nothing is known of the device's space.
    """
    if networks.space is None:
        raise ConfigError(f"how networks of {networks.device} look is not known")
    space = networks.space
    blocks = space.named_blocks(ChoiceTree(space.choices).encode(architecture))
    return {
        "levels": [dataclasses.asdict(level) for level in levels(blocks)],
        "activation": common_activation([b for _, b in blocks]),
        "blocks": sum(1 for _, b in blocks if not is_conversion(b.kind)),
        "input": list(blocks[0][1].in_shape) if blocks else [],
        "choices": {name: str(option) for name, option in architecture.items()},
    }
