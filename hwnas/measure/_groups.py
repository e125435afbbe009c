"""Measure a group of artefacts over a link, and find the ones that cannot be measured.

Knows artefacts and the link; not where results go.
"""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from dataclasses import replace

import numpy as np

from hwnas.errors import ArtefactError, HwnasError, MeasurementError, MeasurementTimeoutError, WorkerCrashedError
from hwnas.measure._link import Link
from hwnas.measure.energy import energy_limit_s
from hwnas.measure.protocol import RuntimeBrokenError, settings_to_json
from hwnas.measure.statistics import summarize
from hwnas.measure.timing import RoundTimes, TimingSettings
from hwnas.types import Artefact, MeasurementFailure, Statistic

Result = Statistic | MeasurementFailure

_SLOW_RUNS = 20  # a model too slow for the settings still runs so often: calibration and three rounds


class GroupMeasurement:
    """What all groups of one measurement share, and the results so far."""

    def __init__(
        self,
        link: Link,
        artefacts: Mapping[str, Artefact],
        *,
        anchor: Artefact | None,
        anchor_ms: float | None,
        settings: TimingSettings,
    ) -> None:
        self._link = link
        self._artefacts = artefacts
        self._anchor = anchor
        self._anchor_ms = anchor_ms
        self._settings = settings
        # Loaded once and kept from call to call; no key of a caller looks like this.
        self._anchor_key = f"\0reference {anchor.sha256}" if anchor is not None else None
        self.results: dict[str, Result] = {}

    def measure(self, keys: Sequence[str]) -> None:
        """Give each key its result.

        A death while a candidate loads and runs once names the candidate. A death while the group is timed does
        not: the halves are tried. Each call has fewer keys than its caller, so this ends.

        Raises:
            MeasurementError: the anchor cannot be measured, or nothing can.
        """
        loaded: list[str] = []
        # every time: after a death the new child has nothing loaded
        if keys:
            self._load_anchor()
        for key in keys:
            try:
                self._link.load(key, self._artefacts[key], timeout_s=self._settings.timeout_s)
                self._link.note_success()
                loaded.append(key)
            except RuntimeBrokenError:  # a subclass of MeasurementError, but no fault of this artefact's
                raise
            except (WorkerCrashedError, MeasurementTimeoutError) as e:
                self.results[key] = MeasurementFailure(reason=str(e))
                self.measure([k for k in keys if k not in self.results])  # those loaded died with the child
                return
            except (MeasurementError, ArtefactError) as e:
                self.results[key] = MeasurementFailure(reason=str(e))
        if loaded:
            self._time(loaded)

    def _load_anchor(self) -> None:
        if self._anchor is None or self._anchor_key is None or self._link.is_loaded(self._anchor_key):
            return
        self._link.load(self._anchor_key, self._anchor, timeout_s=self._settings.timeout_s)

    def _time(self, keys: Sequence[str]) -> None:
        """Time loaded candidates together, and free them."""
        anchor = self._anchor_key
        try:
            times = time_loaded(
                self._link,
                keys,
                anchor=anchor,
                anchor_ms=self._anchor_ms,
                settings=self._settings,
                energy=self._settings.energy,
            )
        except RuntimeBrokenError:
            raise
        except HwnasError as e:
            self._link.unload(keys, timeout_s=self._settings.timeout_s)
            if len(keys) == 1:
                self.results[keys[0]] = MeasurementFailure(reason=str(e))
                return
            # bisection: one bad candidate of n is found in about log2 n deaths, and the others keep their results
            middle = len(keys) // 2
            self.measure(keys[:middle])
            self.measure(keys[middle:])
            return
        self._link.unload(keys, timeout_s=self._settings.timeout_s)
        for key in keys:
            result = summarize(
                times.samples_ms[key],
                times.anchor_ms.get(key),
                anchor_ms=self._anchor_ms if anchor is not None else None,
                minima_ms=times.minima_ms[key],
                around_ms=times.around_ms.get(key),
            )
            # a meter's costs win over what a session told when it was loaded
            self.results[key] = replace(result, costs={**self._link.costs(key), **times.costs.get(key, {})})


def time_loaded(
    link: Link,
    keys: Sequence[str],
    *,
    anchor: str | None,
    settings: TimingSettings,
    anchor_ms: float | None = None,
    energy: bool = False,
) -> RoundTimes:
    """Time what the child has loaded and, if the device has a meter and `energy` is asked for, measure its energy.

    Args:
        link: to the child.
        keys: of the candidates.
        anchor: key of the anchor; None: there is none.
        settings: how long and how often.
        anchor_ms: its time in the table; None: not known.
        energy: whether to.

    Raises:
        HwnasError: the child reported an error or died.
    """
    everything = [*keys, *([anchor] if anchor is not None else [])]
    # seconds; the first run is slower than all others, so this is generous
    slow_s = sum(_SLOW_RUNS * link.first_run_s(key) for key in everything)
    request: dict[str, object] = {
        "settings": settings_to_json(settings),
        "seed": settings.seed,
        "reference_ms": anchor_ms if anchor is not None else None,
    }
    if energy and link.device.meter:
        request["energy"] = True
        slow_s += energy_limit_s(len(everything))
    times = link.time(
        keys,
        request,
        anchor=anchor,
        # twice the budget: rounds end at it, and a round may be under way
        timeout_s=settings.timeout_s + 2 * settings.candidate_limit_s * len(everything) + slow_s,
    )
    return RoundTimes(
        samples_ms={key: np.array(samples) for key, samples in times.samples_ms.items()},
        anchor_ms={key: np.array(samples) for key, samples in times.reference_ms.items()},
        minima_ms={key: np.array(samples) for key, samples in times.fastest_ms.items()},
        around_ms={key: np.array(pairs) for key, pairs in times.around_ms.items()},
        costs=times.costs,
    )
