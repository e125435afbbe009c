"""What some networks of a run really are: accuracy on the validation images, and what their files cost on the device.

Nothing is deployed: no weights are tuned, no test image is read, and the files are gone afterwards.
"""

from __future__ import annotations

import dataclasses
from collections.abc import Sequence
from dataclasses import dataclass
from pathlib import Path

from hwnas._console import Console
from hwnas.allowed import Limits
from hwnas.config import Config
from hwnas.measure import first_reachable
from hwnas.pipeline._candidate import Bench, Candidate
from hwnas.pipeline.costs import load_costs
from hwnas.pipeline.evaluating import Evaluations
from hwnas.pipeline.workers import make_evaluator
from hwnas.query import Answer
from hwnas.scratch import scratch
from hwnas.torch_process import prepare_torch
from hwnas.workspace import Workspace


@dataclass(frozen=True, slots=True, kw_only=True)
class MeasuredNetwork:
    """What was found of one network.

    Attributes:
        values: metric -> value: the accuracy, the minimum of the latency, the size of the file, and what else the
            runtime or a meter tells.
        standard_error: of the accuracy.
        n_validation: images it was measured on.
        source: of the latency: `measured`, or who estimates it.
        misses: the limits that it misses so; a latency must stay below its limit by what repeating it may differ by.
    """

    values: dict[str, float]
    standard_error: float
    n_validation: int
    source: str
    misses: tuple[str, ...]


def measure_networks(
    config: Config, answers: Sequence[Answer], *, limits: Limits, console: Console
) -> list[MeasuredNetwork]:
    """Evaluate and time networks, in the order in which they are given.

    Args:
        config: of a run for one device.
        answers: with their architectures, as the device has them.
        limits: they are held against.
        console: to speak on.

    Raises:
        CheckpointError: the supernet was not trained yet.
        TableError: the device is not profiled.
        TableContextError: its tables were measured on another machine or runtime.
        MeasurementError: the runtime cannot be started, or dies.
    """
    work = Workspace(config.single)
    metric = config.ranked_by
    costs = load_costs(work)
    prepare_torch(config.train.threads)
    evaluator = make_evaluator(work)
    evaluations, found = Evaluations.of(work), []
    with work.alone("exporting"), first_reachable(work.device, tell=console.note) as worker:
        for note in work.found_on(worker.context()):
            console.note(note, once=True)
        bench = Bench(work=work, worker=worker, costs=costs, limits=limits, study="")
        for i, answer in enumerate(answers):
            console.note(f"measuring network {i + 1} of {len(answers)}")
            accuracy = evaluations.accuracy(answer.architecture, evaluator)
            # what was predicted of it is known better now
            known = dataclasses.replace(answer, values={**answer.values, metric: accuracy})
            candidate = Candidate.extract(work.space, evaluator, known)
            with scratch("candidate") as folder:
                artefact = candidate.write(work.exporter, Path(folder))
                measured, misses = bench.measure(candidate, artefact)
                size = float(artefact.path.stat().st_size)
            found.append(
                MeasuredNetwork(
                    values={
                        metric: accuracy,
                        "latency_ms": measured.latency_ms.minimum,
                        "size_bytes": size,
                        **measured.costs,
                    },
                    standard_error=evaluations.standard_error(answer.architecture, accuracy),
                    n_validation=evaluator.n_validation,
                    source=measured.source,
                    misses=tuple(misses),
                )
            )
    return found
