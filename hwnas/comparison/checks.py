"""Which studies can be compared: those whose values mean the same. Knows studies; never how good they are."""

from __future__ import annotations

from collections.abc import Mapping
from itertools import combinations

import numpy as np

from hwnas.errors import StudyError
from hwnas.quantities import capitalised, metric_name, percent
from hwnas.search.study import Study

_ROUNDING = 1e-6


def check_comparable(studies: Mapping[str, Study]) -> list[str]:
    """Refuse studies whose values do not mean the same.

    Args:
        studies: what each is called -> the study; at least two.

    Returns:
        What could not be checked, and what is not quite the same, in words.

    Raises:
        StudyError: names the studies and what differs: the space, what is searched for, the device, where values come
            from, or the values of one network in both; or one of them has no network.
    """
    for name, study in studies.items():
        if not len(study):
            raise StudyError(f"{name} has no evaluated network; go on with its search first")
    furthest: dict[str, float] = {}
    linked = [{name} for name in studies]  # by networks that they have in common
    for (a, first), (b, second) in combinations(studies.items(), 2):
        different = _difference(first, second)
        if different:
            raise StudyError(f"{a} and {b} cannot be compared: {different}")
        apart = _apart(first, second, names=(a, b))
        if apart is not None:
            furthest = {metric: max(share, furthest.get(metric, 0.0)) for metric, share in apart.items()}
            joined = [names for names in linked if names & {a, b}]
            linked = [set().union(*joined), *(names for names in linked if names not in joined)]
    notes = [
        f"{capitalised(metric_name(metric))} of the same network differs by up to {percent(share, decimals=2)} from "
        f"one search to another, within its upper bounds: what estimates it was fitted anew."
        for metric, share in furthest.items()
        if share
    ]
    if len(linked) > 1:
        told = "; ".join(" and ".join(name for name in studies if name in names) for names in linked)
        notes.append(
            f"That all were searched with the same weights and tables could not be checked by networks in common: "
            f"{told} have none with the others."
        )
    return notes


def _difference(first: Study, second: Study) -> str:
    """What keeps two studies from being compared; empty if nothing does."""
    if first.space_name != second.space_name:
        return f"their spaces are {first.space_name} and {second.space_name}"
    if first.choices != second.choices:
        return f"both are of {first.space_name}, but its choices were others"
    if first.directions != second.directions:
        return f"one searches for {_directions(first)}, the other for {_directions(second)}"
    devices = [s.provenance.get("device") for s in (first, second)]
    if None not in devices and devices[0] != devices[1]:
        return f"they are for different devices, {devices[0]} and {devices[1]}"
    for metric in (*first.directions, *first.limits, *second.limits):
        sources = first.sources.get(metric), second.sources.get(metric)
        if None not in sources and sources[0] != sources[1]:
            return f"{metric} is {sources[0]} in one and {sources[1]} in the other"
    return ""


def _apart(first: Study, second: Study, *, names: tuple[str, str]) -> dict[str, float] | None:
    """How far the values of networks in common are apart: metric -> the largest share; None if there is none in common.

    Raises:
        StudyError: further than by rounding and, where values are estimates, than their upper bounds allow.
    """
    rows = {encoding.tobytes(): i for i, encoding in enumerate(first.encodings.astype(np.int64))}
    pairs = [
        (rows[key], j)
        for j, encoding in enumerate(second.encodings.astype(np.int64))
        if (key := encoding.tobytes()) in rows
    ]
    if not pairs:
        return None
    of_first, of_second = np.array(pairs).T
    found = {}
    for metric in first.directions:
        a, b = first.values[metric][of_first], second.values[metric][of_second]
        # sums of floats may differ in their last digits from one NumPy to another
        apart = np.abs(a - b) / np.maximum(np.maximum(np.abs(a), np.abs(b)), 1e-300)
        apart[apart <= _ROUNDING] = 0.0
        # an estimate is as exact as its bound: corrections that were fitted to other networks differ a little
        room = np.zeros(len(a))
        if metric in first.upper and metric in second.upper:
            room = np.maximum(first.upper[metric][of_first] - a, second.upper[metric][of_second] - b)
        wrong = np.flatnonzero((apart > 0) & (np.abs(a - b) > room))
        if len(wrong):
            i = wrong[0]
            raise StudyError(
                f"{names[0]} and {names[1]} cannot be compared: the same network has {metric} {a[i]:.6g} in trial "
                f"{first.numbers[of_first[i]]} of the one and {b[i]:.6g} in trial {second.numbers[of_second[i]]} of "
                f"the other, so that their weights or tables differ"
            )
        found[metric] = float(apart.max())
    return found


def _directions(study: Study) -> str:
    return ", ".join(f"{metric} ({direction})" for metric, direction in study.directions.items())
