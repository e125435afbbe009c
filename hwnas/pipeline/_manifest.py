"""What a manifest says of a network that was measured and tested. Knows what is written, not how it is decided."""

from __future__ import annotations

import dataclasses
import datetime
import platform
import shutil
from collections.abc import Iterator, Sequence
from dataclasses import dataclass
from pathlib import Path
from typing import Any

from hwnas import __version__
from hwnas.deployment import (
    SAMPLES,
    SCHEMA,
    ArtefactInfo,
    DeviceInfo,
    InputInfo,
    InputPart,
    Manifest,
    Measured,
    OutputInfo,
)
from hwnas.files import sha256_file
from hwnas.measure.connection import connections
from hwnas.named_spaces import inputs_of_space
from hwnas.packages import installed_version
from hwnas.pipeline._candidate import Bench, Candidate, Rejection
from hwnas.pipeline._test_images import TestResult
from hwnas.pipeline.speedup import measure_speedup
from hwnas.query import Answer
from hwnas.report.choice import preference_text
from hwnas.types import Artefact, CompilesForBoard
from hwnas.workspace import Workspace


@dataclass(frozen=True, kw_only=True)
class Proven:
    """A candidate that keeps its limits and computes what torch does.

    Attributes:
        candidate: the network.
        artefact: its file, in `folder`.
        measured: of that file.
        tested: likewise.
        program: the same network to go on with in torch; None where there is none.
        folder: what will ship.
    """

    candidate: Candidate
    artefact: Artefact
    measured: Measured
    tested: TestResult
    program: ArtefactInfo | None
    folder: Path


def describe(bench: Bench, proven: Proven, *, rejected: Sequence[Rejection]) -> Manifest:
    """The manifest; the drift anchor and what a board's compiler makes are put beside it.

    Args:
        bench: where it was measured.
        proven: what ships.
        rejected: the candidates before it.
    """
    work, worker = bench.work, bench.worker
    candidate, artefact, answer = proven.candidate, proven.artefact, proven.candidate.answer
    anchor, anchor_ms = bench.anchor(candidate.table_precision)
    kept_anchor = f"reference.{work.exporter.format}"
    # beside the artefact: drift is measured wherever the deployment is verified
    shutil.copyfile(anchor.path, proven.folder / kept_anchor)
    predicted = dict(answer.values)
    # a bound that equals its value is none
    predicted |= {f"{m}_upper": v for m, v in answer.upper.items() if v != answer.values.get(m)}
    return Manifest(
        schema_number=SCHEMA,
        space=work.space.name,
        architecture=dict(answer.architecture),
        blocks=tuple(b.key for _, b in candidate.blocks),
        device=_describe_device(bench),
        runtime=work.device.runtime,
        precision=candidate.precision,
        limits=dict(bench.limits),
        predicted=predicted,
        measured=proven.measured,
        accuracy=proven.tested.accuracy,
        parity=proven.tested.parity,
        artefact=ArtefactInfo.of(artefact, path=artefact.path.name),
        reference=ArtefactInfo.of(anchor, path=kept_anchor),
        reference_ms=anchor_ms,
        input=InputInfo(
            shape=candidate.subnetwork.in_shape,
            parts=tuple(InputPart(name=p.name, shape=p.shape) for p in inputs_of_space(work.space)),
        ),
        output=OutputInfo(task=work.task.name, parts=proven.tested.parts, **work.task.output_scale()),
        preprocessing=proven.tested.preprocessing,
        classes=work.data.class_names,
        rejected=tuple(r.to_dict() for r in rejected),
        provenance=_provenance(bench, answer),
        samples_sha256=sha256_file(proven.folder / SAMPLES),
        compiled=tuple(_compile_for_board(work, artefact, proven.folder)),
        program=proven.program,
        runs=dict(worker.info(artefact)),
        precision_speedup=measure_speedup(
            work,
            worker,
            blocks=[b for _, b in candidate.blocks],
            float_network=candidate.subnetwork,
            artefact=artefact,
            anchor=anchor,
            anchor_ms=anchor_ms,
        ),
    )


def _describe_device(bench: Bench) -> DeviceInfo:
    """Where it was measured, with the meter if energy is promised."""
    device = bench.work.device
    # without such a limit a machine that cannot read the meter can still verify
    metered = "energy_mj" in bench.limits
    return DeviceInfo(
        name=device.name,
        runtime=device.runtime,
        threads=device.threads,
        options=dict(device.options),
        context=dict(bench.worker.context()),
        cores=device.cores,
        # of several boards the one that it was measured on
        connection=connections(bench.worker.device.connection)[0],
        meter=device.meter if metered else "",
        meter_options=dict(device.meter_options) if metered else {},
        idle_w=device.idle_w if metered else None,
    )


def _compile_for_board(work: Workspace, artefact: Artefact, folder: Path) -> Iterator[ArtefactInfo]:
    """What the board runs instead of the artefact, where a compiler makes it."""
    from hwnas.measure import artefact_from_file

    if isinstance(work.runtime, CompilesForBoard):
        for path in work.runtime.compile_for_board(artefact, work.device, folder):
            made = artefact_from_file(path, format=artefact.format, precision=artefact.precision)
            yield ArtefactInfo.of(dataclasses.replace(made, batch=artefact.batch), path=path.name)


def _provenance(bench: Bench, answer: Answer) -> dict[str, Any]:
    work, c = bench.work, bench.work.config
    packages = ("torch", "onnx", "numpy", "optuna")
    return {
        "created": datetime.datetime.now(datetime.UTC).isoformat(timespec="seconds"),
        "versions": {
            "hwnas": __version__,
            "python": platform.python_version(),
            **{p: installed_version(p) for p in packages},
        },
        "seeds": {"data": c.data.seed, "train": c.train.seed, "search": c.search.seed},
        "data": {"source": c.data.source, "fingerprint": work.data.fingerprint},
        "space_fingerprint": work.space.fingerprint(),
        "checkpoint_sha256": sha256_file(work.checkpoint),
        "tables_sha256": dict(bench.costs.hashes),
        "study": bench.study,
        "trial": answer.number,
        "chosen": preference_text(answer),
    }
