"""Stage `export`: the most accurate network that keeps its limits when measured, as a deployment.

Candidates come from the study, best first, by the upper bounds of their estimates. Each is exported and
timed; the first that keeps its limits is fine-tuned, exported again, and checked in full. Those that
miss a limit are not returned but told.
"""

from __future__ import annotations

import datetime
import platform
import shutil
from collections.abc import Iterator, Mapping
from dataclasses import dataclass
from pathlib import Path
from typing import TYPE_CHECKING, Any

import numpy as np

from hwnas import __version__, deployment, registry
from hwnas._console import Console
from hwnas.config import Config
from hwnas.deployment import ArtefactInfo, DeviceInfo, InputInfo, Latency, Manifest, Measured, Parity
from hwnas.errors import ConfigError, InfeasibleError, TableContextError, VerificationError
from hwnas.files import sha256_file, write_whole
from hwnas.measure import Worker
from hwnas.pipeline.costs import (
    MIXED,
    Costs,
    absolute_limits,
    artefact_precision,
    load_costs,
    precision_of,
    reference_path,
    table_path,
)
from hwnas.pipeline.gaining import precision_gain
from hwnas.pipeline.reporting import write_deployment_report
from hwnas.pipeline.searching import make_evaluator
from hwnas.pipeline.verifying import (
    MEASURED,
    compare,
    computes_exactly,
    limit_problems,
    measure_latency,
    measured_values,
    parity_problems,
    shown_costs,
    source_of,
)
from hwnas.pipeline.workspace import Workspace, limit_threads
from hwnas.query import Answer, query
from hwnas.search import load_study
from hwnas.types import Array, Artefact, Block, CompilesForBoard

if TYPE_CHECKING:
    from torch import nn

    from hwnas.accuracy import SubnetEvaluator
    from hwnas.supernet.plain import PlainNetwork

MARGIN = 0.03  # a measured latency must stay below its limit by this share: what repeating it may differ by
N_SAMPLES = 16  # inputs stored with their outputs


@dataclass(frozen=True, kw_only=True)
class _Candidate:
    """A network of the study, extracted."""

    answer: Answer
    blocks: tuple[tuple[str, Block], ...]
    plain: PlainNetwork  # fp32, recalibrated
    network: nn.Module  # at its blocks' precisions

    @property
    def resolution(self) -> tuple[int, int]:
        """(H, W) of its input."""
        _, height, width = self.plain.in_shape
        return height, width


def export(config: Config, *, console: Console) -> dict[str, Any]:
    """Deploy the study's most accurate network within the configuration's limits.

    Raises:
        InfeasibleError: no network of the study keeps the limits, or none of the candidates did when measured.
        VerificationError: the runtime computes something else than torch.
        StudyError: there is no finished study.
        TableContextError: the device's tables were measured on another machine or runtime.
    """
    work = Workspace(config)
    costs = load_costs(work)
    limits = absolute_limits(work, costs)
    study = load_study(work.study)
    answers = query(study, limits=limits, metric="accuracy", top=config.deploy.candidates)
    limit_threads(config.train.threads)
    evaluator = make_evaluator(work)
    rejected: list[dict[str, Any]] = []
    with work.alone("exporting"), Worker(work.device) as worker:
        for i, answer in enumerate(answers):
            console.note(f"candidate {i + 1} of at most {len(answers)}: trial {answer.number}")
            candidate = _extract(work, evaluator, answer)
            misses = _first_look(work, worker, candidate, costs=costs, limits=limits)
            if misses:
                console.note(f"  rejected when measured: {'; '.join(misses)}")
                rejected.append({"trial": answer.number, "reason": "; ".join(misses), "predicted": answer.values})
                continue
            network = _finetuned(work, evaluator, candidate, console=console)
            built = _build(
                work, worker, candidate, network, evaluator=evaluator, costs=costs, limits=limits, rejected=rejected
            )
            if isinstance(built, str):
                console.note(f"  rejected when measured: {built}")
                rejected.append({"trial": answer.number, "reason": built, "predicted": answer.values})
                continue
            write_deployment_report(work, built, costs=costs, study=study, trial=answer.number)
            return _summary(built, Manifest.read(built), rejected)
    raise InfeasibleError(
        f"none of the {len(rejected)} best networks of the study kept the limits when measured: "
        f"{rejected[-1]['reason']}; try more with deploy.candidates, or search with this limit",
        metric="latency_ms",
        limit=limits.get("latency_ms", float("nan")),
    )


def _extract(work: Workspace, evaluator: SubnetEvaluator, answer: Answer) -> _Candidate:
    blocks = work.space.named_blocks(work.space.encode(answer.architecture))
    plain = evaluator.extract(blocks)
    return _Candidate(answer=answer, blocks=blocks, plain=plain, network=evaluator.quantize(plain))


def _first_look(
    work: Workspace, worker: Worker, candidate: _Candidate, *, costs: Costs, limits: Mapping[str, float]
) -> list[str]:
    """Measure a candidate before anything is spent on its weights; latency and size do not depend on them."""
    import tempfile

    with tempfile.TemporaryDirectory(prefix="hwnas-candidate-") as folder:
        artefact = _write(work, candidate, candidate.network, Path(folder))
        return _limits_missed(work, worker, candidate, artefact, costs=costs, limits=limits)[0]


def _limits_missed(
    work: Workspace,
    worker: Worker,
    candidate: _Candidate,
    artefact: Artefact,
    *,
    costs: Costs,
    limits: Mapping[str, float],
) -> tuple[list[str], Measured]:
    precision = _table_precision(candidate)
    reference, reference_ms = _reference(work, worker, precision)
    statistic = measure_latency(worker, artefact, reference=reference, reference_ms=reference_ms)
    values = {**candidate.answer.values, **measured_values(statistic, artefact)}
    if costs.energy is not None and "energy_mj" in statistic.costs:
        values["energy_mj"] = costs.energy.comparable(statistic.costs, precision)
    margin = MARGIN if source_of(worker.context()) == MEASURED else 0.0  # an estimate repeats exactly
    problems = limit_problems(values, limits, margin=margin)
    return problems, Measured(
        latency_ms=Latency.of(statistic), costs=shown_costs(statistic.costs), source=source_of(worker.context())
    )


def _table_precision(candidate: _Candidate) -> str:
    return precision_of([b for _, b in candidate.blocks])


def _reference(work: Workspace, worker: Worker, precision: str) -> tuple[Artefact, float]:
    """The reference model of a table, and its time when the table was begun.

    Raises:
        TableContextError: the table was measured in another context than the one that candidates are timed in.
    """
    from hwnas.cost.table import LatencyTable, TableContext
    from hwnas.measure import artefact_from_file

    path = table_path(work, precision)
    context = LatencyTable.open(path).context
    reference = artefact_from_file(
        reference_path(work, precision),
        format=work.exporter.format,
        precision=artefact_precision("fp32" if precision == MIXED else precision),
    )
    here = TableContext.of(
        work.device,
        worker.context(),
        precision=precision,
        reference_sha256=reference.sha256,
        reference_ms=context.reference_ms,
    )
    if differences := context.differences(here):
        raise TableContextError(str(path), differences)
    return reference, context.reference_ms


def _finetuned(work: Workspace, evaluator: SubnetEvaluator, candidate: _Candidate, *, console: Console) -> nn.Module:
    """Quantization-aware fine-tuning, kept unless it does harm on the validation images."""
    import copy

    from hwnas.supernet.finetuning import finetune

    c = work.config.deploy
    if not c.finetune_steps:
        return candidate.network
    before = evaluator.accuracy(candidate.network, resolution=candidate.resolution)
    with console.progress("fine-tune") as progress:
        tuned = finetune(
            copy.deepcopy(candidate.network),
            work.stream("train", batch_size=work.config.train.batch_size, augmented=True),
            resolution=candidate.resolution,
            steps=c.finetune_steps,
            learning_rate=c.finetune_learning_rate,
            teacher=evaluator.extract(work.space.named_blocks(work.space.largest())),
            progress=progress,
        )
    after = evaluator.accuracy(tuned, resolution=candidate.resolution)
    console.note(f"  validation accuracy {before:.2%} calibrated, {after:.2%} fine-tuned")
    # the calibrated network was chosen for its accuracy on these very images, the tuned one was not: within the
    # standard error of so many images the difference tells nothing
    noise = (before * (1 - before) / evaluator.n_validation) ** 0.5
    return tuned if after >= before - noise else candidate.network


def _write(work: Workspace, candidate: _Candidate, network: nn.Module, folder: Path) -> Artefact:
    import torch

    example = torch.zeros(1, *candidate.plain.in_shape)
    path = folder / f"model.{work.exporter.format}"
    precision = artefact_precision(_table_precision(candidate))
    return work.exporter.export(network, example, path, precision=precision)


def _build(
    work: Workspace,
    worker: Worker,
    candidate: _Candidate,
    network: nn.Module,
    *,
    evaluator: SubnetEvaluator,
    costs: Costs,
    limits: Mapping[str, float],
    rejected: list[dict[str, Any]],
) -> Path | str:
    """Export, verify and describe a network in a folder that appears whole; or why it misses a limit."""
    final = work.folder / "deployments" / _folder_name(work, limits)
    folder = final.with_name(f".{final.name}.new")
    shutil.rmtree(folder, ignore_errors=True)
    folder.mkdir(parents=True)
    try:
        artefact = _write(work, candidate, network, folder)
        misses, measured = _limits_missed(work, worker, candidate, artefact, costs=costs, limits=limits)
        if misses:
            return "; ".join(misses)
        manifest = _described(
            work, worker, candidate, network, artefact, folder, measured=measured,
            evaluator=evaluator, costs=costs, limits=limits, rejected=rejected,
        )  # fmt: skip
        manifest.write(folder)
        if final.exists():
            shutil.rmtree(final)
        folder.replace(final)
    finally:
        shutil.rmtree(folder, ignore_errors=True)
    return final


def _described(
    work: Workspace,
    worker: Worker,
    candidate: _Candidate,
    network: nn.Module,
    artefact: Artefact,
    folder: Path,
    *,
    measured: Measured,
    evaluator: SubnetEvaluator,
    costs: Costs,
    limits: Mapping[str, float],
    rejected: list[dict[str, Any]],
) -> Manifest:
    precision = _table_precision(candidate)
    reference, reference_ms = _reference(work, worker, precision)
    kept_reference = f"reference.{work.exporter.format}"
    shutil.copyfile(reference.path, folder / kept_reference)
    accuracy, parity = _test(work, worker, candidate, network, artefact, evaluator=evaluator, folder=folder)
    data, answer = work.data, candidate.answer
    predicted = dict(answer.values)
    predicted |= {f"{m}_upper": v for m, v in answer.upper.items() if v != answer.values.get(m)}
    return Manifest(
        schema_number=deployment.SCHEMA,
        space=work.space.name,
        architecture=dict(answer.architecture),
        blocks=tuple(b.key for _, b in candidate.blocks),
        device=DeviceInfo(
            name=work.device.name,
            runtime=work.device.runtime,
            threads=work.device.threads,
            options=dict(work.device.options),
            context=dict(worker.context()),
            cores=work.device.cores,
            connection=dict(work.device.connection),
            # without such a limit a machine that cannot read the meter can still verify
            meter=work.device.meter if "energy_mj" in limits else "",
            meter_options=dict(work.device.meter_options) if "energy_mj" in limits else {},
            idle_w=work.device.idle_w if "energy_mj" in limits else None,
        ),
        runtime=work.device.runtime,
        precision=artefact_precision(precision),
        limits=dict(limits),
        predicted=predicted,
        measured=measured,
        accuracy=accuracy,
        parity=parity,
        artefact=ArtefactInfo.of(artefact, path=artefact.path.name),
        reference=ArtefactInfo.of(reference, path=kept_reference),
        reference_ms=reference_ms,
        input=InputInfo(shape=candidate.plain.in_shape, mean=data.mean, std=data.std),  # type: ignore[arg-type]
        classes=data.class_names,
        rejected=tuple(rejected),
        provenance=_provenance(work, costs, trial=answer.number),
        companions=tuple(_companions(work, artefact, folder)),
        runs=dict(worker.info(artefact)),
        precision_gain=precision_gain(
            work,
            worker,
            blocks=[b for _, b in candidate.blocks],
            plain=candidate.plain,
            artefact=artefact,
            reference=reference,
            reference_ms=reference_ms,
        ),
    )


def _test(
    work: Workspace,
    worker: Worker,
    candidate: _Candidate,
    network: nn.Module,
    artefact: Artefact,
    *,
    evaluator: SubnetEvaluator,
    folder: Path,
) -> tuple[deployment.Accuracy, Parity]:
    """Read the test set, once: accuracy in torch and through the runtime, and how far the two agree."""
    import torch
    from safetensors.numpy import save

    from hwnas.accuracy import top1
    from hwnas.supernet.elastic import resize

    batches = list(work.stream("test").plain(work.config.deploy.test_samples))
    images = torch.cat([resize(x, candidate.resolution) for x, _ in batches]).contiguous()
    labels = torch.cat([y for _, y in batches]).numpy()
    with torch.inference_mode():
        expected: Array = torch.cat([network(x) for x in torch.split(images, 250)]).numpy()
    inputs: Array = images.numpy()
    outputs = [worker.predict(artefact, part) for part in np.array_split(inputs, max(1, len(inputs) // 2000))]
    found = np.concatenate(outputs)
    difference, agreement = compare(found, expected)
    scale = float(np.abs(expected).max())
    exact = computes_exactly(artefact.precision, worker.context())
    problems = parity_problems(exact, difference, agreement, scale=scale)
    if problems:
        raise VerificationError(
            f"{work.device.runtime} does not compute what torch does for trial {candidate.answer.number}: {problems[0]}"
        )
    # integers may fall to the other side of a tie on another processor: only images both agree on tell a change
    agreed = np.flatnonzero(found.argmax(1) == expected.argmax(1))[:N_SAMPLES]
    stored = {"inputs": inputs[agreed].copy(), "outputs": expected[agreed].copy()}
    write_whole(folder / deployment.SAMPLES, save(stored))
    accuracy = deployment.Accuracy(
        validation_torch=evaluator.accuracy(network, resolution=candidate.resolution),
        validation_fp32=evaluator.accuracy(candidate.plain, resolution=candidate.resolution),
        test_torch=float((expected.argmax(1) == labels).mean()),
        test_fp32=top1(candidate.plain, batches, resolution=candidate.resolution),
        test_runtime=float((found.argmax(1) == labels).mean()),
        n_test=len(labels),
    )
    return accuracy, Parity(max_abs_diff=difference, top1_agreement=agreement, n=len(labels))


def _companions(work: Workspace, artefact: Artefact, folder: Path) -> Iterator[ArtefactInfo]:
    """What the board runs instead of the artefact, where a compiler makes it."""
    from hwnas.measure import artefact_from_file

    if isinstance(work.runtime, CompilesForBoard):
        for path in work.runtime.companions(artefact, work.device, folder):
            made = artefact_from_file(path, format=artefact.format, precision=artefact.precision)
            yield ArtefactInfo.of(made, path=path.name)


def _folder_name(work: Workspace, limits: Mapping[str, float]) -> str:
    parts = [f"{m.removesuffix('_bytes').removesuffix('_ms')}-{v:.4g}" for m, v in sorted(limits.items())]
    name = "_".join([work.device.name, *(parts or ["best"])])
    if "/" in name or name.startswith("."):
        raise ConfigError(f"device name {work.device.name!r} cannot name a folder")
    return name


def _provenance(work: Workspace, costs: Costs, *, trial: int) -> dict[str, Any]:
    c = work.config
    packages = ("torch", "onnx", "numpy", "optuna")
    return {
        "created": datetime.datetime.now(datetime.UTC).isoformat(timespec="seconds"),
        "versions": {
            "hwnas": __version__,
            "python": platform.python_version(),
            **{p: registry.installed_version(p) for p in packages},
        },
        "seeds": {"data": c.data.seed, "train": c.train.seed, "search": c.search.seed},
        "data": {"source": c.data.source, "fingerprint": work.data.fingerprint},
        "space_fingerprint": work.space.fingerprint(),
        "checkpoint_sha256": sha256_file(work.checkpoint),
        "tables_sha256": dict(costs.hashes),
        "trial": trial,
    }


def _summary(folder: Path, manifest: Manifest, rejected: list[dict[str, Any]]) -> dict[str, Any]:
    accuracy = manifest.accuracy
    latency_limit = manifest.limits.get("latency_ms")
    bound = f", limit {latency_limit:.3f} ms" if latency_limit is not None else ""
    upper = manifest.predicted.get("latency_ms_upper", manifest.predicted["latency_ms"])
    return {
        "title": f"Deployed: {folder}",
        "rows": [
            ("test accuracy through the runtime", f"{accuracy.test_runtime:.2%} of {accuracy.n_test}"),
            ("  in torch, same precision / fp32", f"{accuracy.test_torch:.2%} / {accuracy.test_fp32:.2%}"),
            *_latency_rows(manifest, bound),
            ("  predicted", f"{manifest.predicted['latency_ms']:.3f} ms, upper bound {upper:.3f} ms"),
            ("size", f"{manifest.artefact.size_bytes:,} bytes"),
            *(
                (metric, f"{value:,.4g} ({manifest.measured.source})")
                for metric, value in shown_costs(manifest.measured.costs).items()
            ),
            *_gain_rows(manifest),
            ("predictions equal to torch's", f"{manifest.parity.top1_agreement:.2%} of {manifest.parity.n}"),
            ("candidates rejected before", len(rejected)),
        ],
        "notes": [f"Report: {folder / 'report.html'}", f"Check it again: hwnas verify {folder}"],
        "deployment": str(folder),
        "manifest": manifest.model_dump(mode="json"),
    }


def _latency_rows(manifest: Manifest, bound: str) -> list[tuple[str, Any]]:
    latency, source = manifest.measured.latency_ms, manifest.measured.source
    if source != MEASURED:
        return [(f"latency {source}", f"{latency.fastest:.3f} ms{bound}")]
    return [("latency measured", f"{latency.fastest:.3f} ms undisturbed{bound} (median {latency.median:.3f})")]


def _gain_rows(manifest: Manifest) -> list[tuple[str, Any]]:
    gain = manifest.precision_gain
    if gain is None:
        return []
    rows: list[tuple[str, Any]] = [
        (f"{manifest.precision} against fp32", f"{gain.speedup:.2f} times as fast ({gain.fp32_latency_ms:.3f} ms)")
    ]
    if gain.slow_blocks:
        worst = gain.slow_blocks[0]
        block = Block.from_key(worst.block)
        kernel = next((f" {v} x {v}" for k, v in block.attributes if k == "kernel_size"), "")
        other = "" if worst.fp32_latency_ms is None else f", in fp32 {worst.fp32_latency_ms:.4f}"
        rows.append(
            (
                "  stopped most by",
                f"{block.kind}{kernel} of {' x '.join(map(str, block.in_shape))}: {worst.latency_ms:.4f} ms{other} "
                f"({len(gain.slow_blocks)} such blocks in the report)",
            )
        )
    return rows
