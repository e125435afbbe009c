"""Which studies can be compared: those whose values mean the same. Knows studies; never how good they are."""

from __future__ import annotations

from collections.abc import Mapping
from itertools import combinations

import numpy as np

from hwnas.errors import StudyError
from hwnas.search.study import Study


def check_comparable(studies: Mapping[str, Study]) -> list[str]:
    """Refuse studies whose values do not mean the same.

    Args:
        studies: what each is called -> the study; at least two.

    Returns:
        What could not be checked, in words.

    Raises:
        StudyError: names the studies and what differs: the space, what is searched for, the device, where values come
            from, or the values of one network in both; or one of them has no network.
    """
    for name, study in studies.items():
        if not len(study):
            raise StudyError(f"{name} has no evaluated network; go on with its search first")
    linked = [{name} for name in studies]  # by networks that they have in common
    for (a, first), (b, second) in combinations(studies.items(), 2):
        different = _difference(first, second)
        if different:
            raise StudyError(f"{a} and {b} cannot be compared: {different}")
        if _check_common(first, second, names=(a, b)):
            joined = [names for names in linked if names & {a, b}]
            linked = [set().union(*joined), *(names for names in linked if names not in joined)]
    if len(linked) == 1:
        return []
    told = "; ".join(" and ".join(name for name in studies if name in names) for names in linked)
    return [
        f"That all were searched with the same weights and tables could not be checked by networks in common: {told} "
        f"have none with the others."
    ]


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


def _check_common(first: Study, second: Study, *, names: tuple[str, str]) -> bool:
    """Whether two studies have a network in common; each of those must have the same values in both."""
    rows = {encoding.tobytes(): i for i, encoding in enumerate(first.encodings.astype(np.int64))}
    pairs = [
        (rows[key], j)
        for j, encoding in enumerate(second.encodings.astype(np.int64))
        if (key := encoding.tobytes()) in rows
    ]
    for metric in first.directions:
        a, b = first.values[metric], second.values[metric]
        for i, j in pairs:
            # sums of floats may differ in their last digits from one NumPy to another
            if not np.isclose(a[i], b[j], rtol=1e-6, atol=0.0, equal_nan=True):
                raise StudyError(
                    f"{names[0]} and {names[1]} cannot be compared: the same network has {metric} {a[i]:.6g} in trial "
                    f"{first.numbers[i]} of the one and {b[j]:.6g} in trial {second.numbers[j]} of the other, so that "
                    f"their weights or tables differ"
                )
    return bool(pairs)


def _directions(study: Study) -> str:
    return ", ".join(f"{metric} ({direction})" for metric, direction in study.directions.items())
