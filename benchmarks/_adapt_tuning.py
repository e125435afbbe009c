"""A module as it would ship: trained as our sub-networks are, in int8, as a file, with its accuracy and latency there.

What other tools leave of a network goes through the same training, quantization and exporter as ours, so that only
what was taken away differs. Knows modules and a run's workspace; never which tool made a module.
"""

from __future__ import annotations

from collections.abc import Callable, Mapping
from dataclasses import replace
from typing import TYPE_CHECKING

import numpy as np

from hwnas.errors import MeasurementError

if TYPE_CHECKING:
    from pathlib import Path

    from torch import nn

    from hwnas.config import Config
    from hwnas.measure import Worker
    from hwnas.supernet.subnetwork import SubNetwork
    from hwnas.types import Artefact
    from hwnas.workspace import Workspace

_RECALIBRATED = 1024  # images
_CALIBRATED = 256


class Tuning:
    """What modules are trained on, and how they become files.

    Args:
        work: of a run on one device; its images, settings of training and exporter are used.
        given: the network that all learn from.
    """

    def __init__(self, work: Workspace, given: nn.Module) -> None:
        from hwnas.accuracy import SubnetEvaluator

        assert work.config.model is not None
        self.work = work
        self._shape = work.config.model.input[0].shape
        self._given = self.subnetwork(given, precision="fp32").eval().requires_grad_(False)
        self._evaluator = SubnetEvaluator(
            work.new_supernet(),
            train=work.stream("train"),
            validation=work.stream("validation"),
            recalibration_samples=_RECALIBRATED,
            calibration_samples=_CALIBRATED,
            symmetric=work.symmetric,
        )

    def subnetwork(self, module: nn.Module, *, precision: str) -> SubNetwork:
        """A module as a network of blocks, with its own weights."""
        import torch
        from _adapt_sweep import with_precision

        from hwnas.graph import unknown_operators
        from hwnas.precisions import is_quantized
        from hwnas.spaces.adapted.wishes import Wishes, adapt
        from hwnas.supernet.adapted import AdaptedSupernet
        from hwnas.supernet.tracing import trace_with_numbers

        example = torch.zeros(1, *self._shape)
        graph, numbers = trace_with_numbers(module, example)
        if unknown_operators(graph):  # stochastic depth, as `hwnas adapt` does it
            graph, numbers = trace_with_numbers(module, example, training=False)
        as_it_is = Wishes(width=(1.0,), residual=(1.0,), depth=False, kernel=False)
        space = adapt("as_it_is", [graph], as_it_is)
        blocks = [
            (name, replace(b, precision=self.work.computed[precision]) if is_quantized(b.precision) else b)
            for name, b in with_precision(space, space.largest(), precision)
        ]
        return AdaptedSupernet(space, numbers).extract(blocks)

    def tuned(
        self, module: nn.Module, *, steps: int, progress: Callable[[int, int, str], None], precision: str = "int8"
    ) -> nn.Module:
        """A module after so many steps of training, calibrated; 0: as it is."""
        from hwnas.supernet.finetuning import train_alone
        from hwnas.torch_process import training_device

        c = self.work.config.train
        network = self.subnetwork(module, precision=precision)
        if steps:
            network = train_alone(
                network,
                self.work.stream("train", batch_size=c.batch_size, augmented=True),
                steps=steps,
                descent=self.work.descent,
                teacher=self._given,
                device=training_device(),
                progress=progress,
            )
        return self._evaluator.quantize(self._evaluator.recalibrate(network))

    def accuracy(self, module: nn.Module) -> float:
        """Of a module on validation images, in floats and as it is."""
        return self._evaluator.score(module, in_shape=self._shape).value

    def write(self, network: nn.Module, path: Path, *, precision: str = "int8") -> Artefact:
        """A network as a file for the run's device."""
        import torch

        example = torch.zeros(1, *self._shape)
        return self.work.exporter.export(network, example, path, precision=self.work.computed.get(precision, precision))

    def test_accuracy(self, worker: Worker, artefact: Artefact) -> float:
        """Of a file on the runtime, on all test images."""
        import torch

        from hwnas.data.tensors import fit

        batches = [(fit(x, self._shape), y) for x, y in self.work.stream("test").unaugmented(None)]
        images, labels = (torch.cat([b[i] for b in batches]).numpy() for i in (0, 1))
        parts = np.array_split(images, max(1, len(images) // 2000))
        found = np.concatenate([worker.predict(artefact, part) for part in parts])
        return float((found.argmax(1) == labels).mean())


def own_latency_ms(config: Config, artefact: Artefact) -> float:
    """Latency of a file in the state of the machine that a run's int8 table is of, in which its limits are meant."""
    from hwnas.measure import Worker
    from hwnas.pipeline._candidate import Bench
    from hwnas.pipeline.costs import load_costs
    from hwnas.pipeline.verdict import reach_verdict
    from hwnas.workspace import Workspace

    work = Workspace(config)
    with Worker(work.device) as worker:
        work.found_on(worker.context())
        bench = Bench(work=work, worker=worker, costs=load_costs(work), limits={}, study="")
        anchor, anchor_ms = bench.anchor(work.computed["int8"])
        verdict = reach_verdict(worker, artefact, anchor=anchor, anchor_ms=anchor_ms, predicted_ms=None)
    return verdict.statistic.minimum


def latency_shares(worker: Worker, artefacts: Mapping[str, Artefact], *, anchor: Artefact) -> dict[str, float]:
    """Latencies as shares of the anchor's, all timed in the same rounds.

    Raises:
        MeasurementError: a file does not run.
    """
    from hwnas.pipeline.verdict import VERDICT
    from hwnas.types import MeasurementFailure

    found = worker.measure(artefacts, anchor=anchor, anchor_ms=1.0, settings=VERDICT)
    shares = {}
    for key, result in found.items():
        if isinstance(result, MeasurementFailure):
            raise MeasurementError(f"{key} could not be measured: {result.reason}")
        shares[key] = result.minimum
    return shares


def read_file(path: Path) -> Artefact:
    """A file that was written before; in int8, unless its name ends with fp32."""
    from hwnas.measure import artefact_from_file

    precision = "fp32" if path.stem.endswith("fp32") else "int8"
    return artefact_from_file(path, format=path.suffix[1:], precision=precision)


def silent(done: int, total: int, note: str) -> None:
    """Progress of what takes a second."""
