"""A network of the study on its way to a deployment: its weights, its file, its time. Knows one candidate at a time."""

from __future__ import annotations

import dataclasses
import hashlib
from dataclasses import dataclass
from pathlib import Path
from typing import TYPE_CHECKING, Any

from hwnas.allowed import Limits
from hwnas.deployment import PROGRAM, ArtefactInfo, Latency, Measured
from hwnas.errors import TableContextError, TableError
from hwnas.files import write_whole
from hwnas.measure import Worker
from hwnas.pipeline.costs import (
    Costs,
    anchor_path,
    anchor_precision,
    artefact_precision,
    precision_of,
    table_path,
)
from hwnas.pipeline.verdict import reach_verdict
from hwnas.pipeline.verifying import limit_problems, measured_values, metrics_among, source_of
from hwnas.query import Answer
from hwnas.types import Artefact, Block, Exporter
from hwnas.workspace import Workspace

if TYPE_CHECKING:
    from torch import nn

    from hwnas.accuracy import SubnetEvaluator
    from hwnas.spaces import Space
    from hwnas.supernet.subnetwork import SubNetwork

MARGIN = 0.03  # a measured latency must stay below its limit by this share: what repeating it may differ by


@dataclass(frozen=True, kw_only=True)
class Candidate:
    """A network of the study, extracted.

    Attributes:
        answer: what the study knows of it.
        blocks: with their slots' names.
        subnetwork: extracted from the supernet, in fp32, recalibrated.
        network: at its blocks' precisions; what would ship.
        finetuned: whether `network` was trained on its own since it was extracted.
    """

    answer: Answer
    blocks: tuple[tuple[str, Block], ...]
    subnetwork: SubNetwork
    network: nn.Module
    finetuned: bool = False

    @classmethod
    def extract(cls, space: Space, evaluator: SubnetEvaluator, answer: Answer) -> Candidate:
        """The network that answers, with weights."""
        blocks = space.named_blocks(space.encode(answer.architecture))
        # both are kept: the float form is what the quantized one is compared with
        subnetwork = evaluator.extract(blocks)
        return cls(answer=answer, blocks=blocks, subnetwork=subnetwork, network=evaluator.quantize(subnetwork))

    @property
    def in_shape(self) -> tuple[int, ...]:
        """Of its input: (C, H, W) of images."""
        return self.subnetwork.in_shape

    @property
    def table_precision(self) -> str:
        """The table that its latency belongs to: of its blocks' precision, or `mixed`."""
        return precision_of([b for _, b in self.blocks])

    @property
    def precision(self) -> str:
        """What its file counts as."""
        return artefact_precision([b for _, b in self.blocks])

    @property
    def float_network(self) -> nn.Module:
        """What ships before its numbers are rounded: in fp32, with the weights that ship.

        BatchNorm stands in it as the supernet has it, unless fine-tuning was quantization-aware, which folds it.
        """
        from hwnas.supernet.quantization import QuantizedNetwork, without_rounding

        if not self.finetuned:
            return self.subnetwork
        return without_rounding(self.network) if isinstance(self.network, QuantizedNetwork) else self.network

    def with_trained(self, subnetwork: SubNetwork, evaluator: SubnetEvaluator) -> Candidate:
        """The same with other weights in floats, calibrated anew."""
        return dataclasses.replace(self, subnetwork=subnetwork, network=evaluator.quantize(subnetwork))

    def with_finetuned(self, network: nn.Module) -> Candidate:
        """The same with weights of its own."""
        return dataclasses.replace(self, network=network, finetuned=True)

    def write(self, exporter: Exporter, folder: Path) -> Artefact:
        """Write the file that would ship into a folder."""
        import torch

        # batch 1: latency is that of a single image
        example = torch.zeros(1, *self.subnetwork.in_shape)
        path = folder / f"model.{exporter.format}"
        return exporter.export(self.network, example, path, precision=self.precision)

    def write_program(self, folder: Path) -> ArtefactInfo:
        """Write the network into a folder as its owner goes on with it in torch.

        Raises:
            ExportError: torch cannot export it.
            OSError: the disk is full.
        """
        from hwnas.supernet.program import torch_program

        content = torch_program(self.float_network, in_shape=self.subnetwork.in_shape)
        write_whole(folder / PROGRAM, content)
        return ArtefactInfo(
            path=PROGRAM,
            format="pt2",
            sha256=hashlib.sha256(content).hexdigest(),
            size_bytes=len(content),
            batch="any",
        )


@dataclass(frozen=True, kw_only=True)
class Rejection:
    """Why a candidate is not deployed.

    Attributes:
        answer: what the study knows of it.
        reason: for people.
        wrong_outputs: the runtime computes something else than torch; else a limit is missed.
    """

    answer: Answer
    reason: str
    wrong_outputs: bool = False

    def to_dict(self) -> dict[str, Any]:
        """As a manifest keeps it."""
        return {"trial": self.answer.number, "reason": self.reason, "predicted": self.answer.values}


@dataclass(frozen=True, kw_only=True)
class Bench:
    """Where the candidates of one export are measured and held against its limits.

    Attributes:
        work: the run.
        worker: of its device.
        costs: what is known about cost there.
        limits: metric -> limit.
        study: name of the study that the candidates are of.
    """

    work: Workspace
    worker: Worker
    costs: Costs
    limits: Limits
    study: str

    def measure(self, candidate: Candidate, artefact: Artefact, *, again: bool = False) -> tuple[Measured, list[str]]:
        """What the runtime says of a candidate's file, and which limits it misses.

        Args:
            candidate: the network.
            artefact: its file.
            again: it kept the limits less their margin with other weights, of which costs do not depend. What repeating
                a measurement may differ by is what the margin was for: now the limits themselves count.
        """
        precision = candidate.table_precision
        anchor, anchor_ms = self.anchor(precision)
        verdict = reach_verdict(
            self.worker,
            artefact,
            anchor=anchor,
            anchor_ms=anchor_ms,
            predicted_ms=candidate.answer.values.get("latency_ms"),
        )
        statistic = verdict.statistic
        values = {**candidate.answer.values, **measured_values(statistic, artefact, self.work.runtime)}
        if self.costs.energy is not None and "energy_mj" in statistic.costs:
            # at the table's state of the machine, as its prediction and limit are
            values["energy_mj"] = self.costs.energy.comparable(statistic.costs, precision)
        source = source_of(self.worker.context())
        margin = 0.0 if again or source.startswith("estimated") else MARGIN  # an estimate repeats exactly
        measured = Measured(
            latency_ms=Latency.of(statistic),
            costs=metrics_among(statistic.costs, self.work.runtime),
            source=source,
            looks=verdict.looks,
            doubts=verdict.doubts,
        )
        return measured, limit_problems(values, self.limits, margin=margin)

    def anchor(self, precision: str) -> tuple[Artefact, float]:
        """The drift anchor of a table, and its time when the table was begun.

        Raises:
            TableContextError: the table was measured in another context than the one that candidates are timed in.
            TableError: the file is not the model that the table was timed with.
        """
        from hwnas.cost.table import LatencyTable, TableContext
        from hwnas.measure import artefact_from_file

        path = table_path(self.work, precision)
        context = LatencyTable.open(path).context
        anchor = artefact_from_file(
            anchor_path(self.work, precision),
            format=self.work.exporter.format,
            precision=anchor_precision(self.work.computed, precision),
        )
        # with another model the drift would be its difference, and every latency wrong by it
        if anchor.sha256 != context.reference_sha256:
            raise TableError(
                f"{anchor.path} is not the drift anchor that {path.name} was timed with; restore it, or run "
                "`hwnas profile`, which makes it again"
            )
        here = TableContext.of(
            self.work.device,
            self.worker.context(),
            precision=precision,
            reference_sha256=anchor.sha256,
            reference_ms=context.reference_ms,
        )
        if differences := context.differences(here):
            raise TableContextError(str(path), differences)
        return anchor, context.reference_ms
