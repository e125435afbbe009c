"""What a run's searches evaluated, with what it costs on any device that is profiled for the run's space.

An accuracy depends on no device but for how its runtime quantizes, so that a device which was profiled after the
searches has all their networks that it can compute. Knows studies, spaces and costs.
"""

from __future__ import annotations

import dataclasses
import hashlib
import json
from collections.abc import Iterator
from dataclasses import dataclass
from pathlib import Path
from typing import TYPE_CHECKING

import numpy as np

from hwnas._places import quoted
from hwnas.accuracy.known import network_key
from hwnas.errors import StudyError
from hwnas.pipeline.costs import Costs, source_of_cost
from hwnas.pipeline.evaluating import Evaluations
from hwnas.pipeline.networks import in_full, in_space
from hwnas.precisions import is_quantized
from hwnas.quantities import metric_name
from hwnas.search import Study, load_study, save_study
from hwnas.types import Direction, IntArray
from hwnas.workspace import Workspace

if TYPE_CHECKING:
    from hwnas.accuracy import SubnetEvaluator


@dataclass(frozen=True, kw_only=True)
class Evaluated:
    """The networks of a run's studies that a device can compute.

    Attributes:
        study: of all of them, with their costs on the device; without limits. Numbers are those of the trials where
            one study has them all.
        devices: the devices that were searched for.
        left_out: networks that the device does not have, or quantizes otherwise.
    """

    study: Study
    devices: tuple[str, ...]
    left_out: int


def last_study(work: Workspace) -> Study:
    """The study of the run's last search on the device.

    Raises:
        StudyError: there is none, it is damaged, or its networks were evaluated for something else than the run's are.
    """
    study = load_study(work.study)
    if study.ranked_by != work.config.ranked_by:
        raise StudyError(
            f"{work.study} knows {metric_name(study.ranked_by)} of its networks, and this run, where [data] labels is "
            f"{work.config.data.labels!r}, asks for {metric_name(work.config.ranked_by)}; search again with "
            f"`hwnas search {quoted(work.folder)}`"
        )
    return study


def evaluated_on(work: Workspace, costs: Costs) -> Evaluated:
    """All networks that the run's last searches evaluated, on one device; those of its own search first.

    Args:
        work: the run on that device, see `Workspace.on`.
        costs: on the device.

    Raises:
        StudyError: the run has no finished study, or one is damaged or of another space, or none of their networks can
            be had on the device.
    """
    found = _gathered(work)
    return Evaluated(study=_costed(work, costs, found), devices=found.devices, left_out=found.left_out)


def study_with(work: Workspace, costs: Costs, encoding: IntArray, *, evaluator: SubnetEvaluator) -> tuple[Study, int]:
    """A study that has a network, kept under its name, and the number of the network's trial in it.

    The device's own study if that has it. Else all that was evaluated, at the costs on the device, and the network
    itself, evaluated now if no search ever did.

    Args:
        work: the run on that device.
        costs: on the device.
        encoding: (D,) canonical, of the network.
        evaluator: of accuracies.

    Raises:
        StudyError: see `evaluated_on`.
        OSError: the study cannot be written.
    """
    found = _gathered(work)
    known = next((n for n in found.networks if n.encoding.tobytes() == encoding.tobytes()), None)
    if known is not None and found.devices == (work.device.name,):
        return last_study(work), known.number
    if known is None:
        evaluations, architecture = Evaluations.of(work), work.space.decode(encoding)
        accuracy = evaluations.accuracy(architecture, evaluator)
        known = _Network(
            encoding=encoding,
            number=max(n.number for n in found.networks) + 1,
            accuracy=accuracy,
            standard_error=evaluations.standard_error(architecture, accuracy),
        )
        found = dataclasses.replace(found, networks=(*found.networks, known))
    study = _costed(work, costs, found)
    study = dataclasses.replace(study, name=f"network-{_digest(work, study, encoding)}")
    # under its name alone: it is the study of no search
    work.searched.mkdir(parents=True, exist_ok=True)
    save_study(study, work.study_called(study.name))
    return study, known.number


@dataclass(frozen=True, slots=True, kw_only=True)
class _Network:
    encoding: IntArray
    number: int
    accuracy: float
    standard_error: float


@dataclass(frozen=True, kw_only=True)
class _Gathered:
    """What a device has of some studies, before it costs anything."""

    networks: tuple[_Network, ...]
    studies: tuple[Study, ...]
    devices: tuple[str, ...]
    left_out: int


def _gathered(work: Workspace) -> _Gathered:
    studies = list(_studies(work))
    if not studies:
        raise StudyError(
            f"{work.folder} has no finished study, so no network is known to be accurate; make one with "
            f"`hwnas search {quoted(work.folder)}`"
        )
    found: dict[bytes, _Network] = {}
    left_out = 0
    for origin, study in studies:
        networks = list(_on(work, origin, study))
        left_out += len(study) - len(networks)
        for network in networks:
            found.setdefault(network.encoding.tobytes(), network)
    devices = tuple(origin.device.name for origin, _ in studies)
    if not found:
        raise StudyError(
            f"none of the {left_out} networks that were searched for {' and '.join(devices)} can be had on "
            f"{work.device.name}, which computes or quantizes otherwise; search for it: `hwnas search`"
        )
    networks = list(found.values())
    if len(studies) > 1:
        # a number means nothing beside another study's
        networks = [dataclasses.replace(n, number=i) for i, n in enumerate(networks)]
    return _Gathered(networks=tuple(networks), studies=tuple(s for _, s in studies), devices=devices, left_out=left_out)


def _digest(work: Workspace, study: Study, encoding: IntArray) -> str:
    what = [work.device.name, study.name, work.space.fingerprint(), encoding.tolist()]
    return hashlib.sha256(json.dumps(what).encode()).hexdigest()[:16]


def _studies(work: Workspace) -> Iterator[tuple[Workspace, Study]]:
    """The last search of each of the run's devices, with the run on that device; that of the device itself first."""
    origins = [work.on(name) for name in work.config.whole.device.all]
    seen: set[Path] = set()
    for origin in sorted(origins, key=lambda o: o.device.name != work.device.name):
        if origin.study.is_file() and origin.study not in seen:
            seen.add(origin.study)
            yield origin, last_study(origin)


def _on(work: Workspace, origin: Workspace, study: Study) -> Iterator[_Network]:
    """The networks of a study as a device has them."""
    if study.choices != tuple(origin.space.choices):
        raise StudyError(
            f"{origin.study} is not of the space that this run has on {origin.device.name}; search again with "
            "`hwnas search`"
        )
    quantize_alike = origin.runtime.quantization == work.runtime.quantization
    same = quantize_alike and origin.space.fingerprint() == work.space.fingerprint()
    metric = study.ranked_by
    errors = study.standard_errors.get(metric)
    for row in range(len(study)):
        encoding: IntArray | None = study.encodings[row].astype(np.int64)
        if not same:
            architecture, blocks = study.architecture_at(row), origin.space.named_blocks(study.trial_at(row).encoding)
            # integers of another quantization are other numbers: their accuracy is not known here
            keeps_accuracy = quantize_alike or not any(is_quantized(b.precision) for _, b in blocks)
            full = in_full(work.training_space, architecture, blocks)
            encoding = in_space(work.space, full, key=network_key(blocks)) if keeps_accuracy else None
        if encoding is not None:
            yield _Network(
                encoding=encoding,
                number=int(study.numbers[row]),
                accuracy=float(study.values[metric][row]),
                standard_error=float("nan") if errors is None else float(errors[row]),
            )


def _costed(work: Workspace, costs: Costs, found: _Gathered) -> Study:
    metric = work.config.ranked_by
    networks, sources = found.networks, {study.sources.get(metric, "") for study in found.studies}
    encodings = np.stack([n.encoding for n in networks])
    estimates = {metric: model.estimate(encodings) for metric, model in costs.models.items()}
    return Study(
        name=found.studies[0].name,
        space_name=work.space.name,
        choices=tuple(work.space.choices),
        directions={metric: Direction.MAXIMIZE, "latency_ms": Direction.MINIMIZE},
        limits={},
        numbers=np.array([n.number for n in networks], dtype=np.int64),
        encodings=encodings,
        values={
            metric: np.array([n.accuracy for n in networks]),
            **{metric: estimate.value for metric, estimate in estimates.items()},
        },
        upper={metric: estimate.upper for metric, estimate in estimates.items()},
        standard_errors={metric: np.array([n.standard_error for n in networks])},
        feasible=np.ones(len(networks), dtype=bool),
        sources={
            metric: sources.pop() if len(sources) == 1 else "measured",
            **{metric: source_of_cost(metric, costs) for metric in estimates},
        },
    )
