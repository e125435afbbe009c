"""Stage `export`: the most accurate network that keeps its limits when measured, as a deployment.

Candidates come from the study, best first, by the upper bounds of their estimates. Each is exported and
timed; the first that keeps its limits is fine-tuned, exported again, and checked in full. Those that
miss a limit, or of which the runtime computes something else than torch, are not returned but told. Exactly one network
is exported likewise, without others to take its place.
"""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from dataclasses import dataclass
from pathlib import Path
from typing import TYPE_CHECKING

from hwnas._console import Console
from hwnas.allowed import Limits
from hwnas.config import Config
from hwnas.deployment import PROGRAM, ArtefactInfo, Manifest, Measured
from hwnas.deployment.doubts import doubt_texts
from hwnas.errors import ExportError, HwnasError, InfeasibleError, VerificationError
from hwnas.limits import as_limits
from hwnas.measure import first_reachable
from hwnas.pipeline._candidate import Bench, Candidate, Rejection
from hwnas.pipeline._deployment_folder import deployment_folder, heal_run, new_folder, take_place
from hwnas.pipeline._deployment_summary import ExportResult
from hwnas.pipeline._last_used import tell_changes
from hwnas.pipeline._manifest import Proven, describe
from hwnas.pipeline._test_images import WrongOutputsError, test_candidate
from hwnas.pipeline._tuning import tuned
from hwnas.pipeline.costs import Costs, absolute_limits, load_costs
from hwnas.pipeline.evaluated import last_study, study_with
from hwnas.pipeline.reporting import write_deployment_report
from hwnas.pipeline.workers import make_evaluator
from hwnas.query import Answer, answer_for, query
from hwnas.scratch import scratch
from hwnas.search import Study
from hwnas.torch_process import prepare_torch
from hwnas.types import Option
from hwnas.workspace import Workspace

if TYPE_CHECKING:
    from hwnas.accuracy import SubnetEvaluator


def export(config: Config, *, console: Console, costs: Costs | None = None) -> ExportResult:
    """Deploy the study's best network within the configuration's limits: the cheapest of the most accurate.

    Args:
        config: of a run for one device.
        console: to speak on.
        costs: what the device's tables tell, if they were read already.

    Raises:
        InfeasibleError: no network of the study keeps the limits, or none of the candidates did when measured.
        VerificationError: the runtime computes something else than torch of every candidate that keeps the limits.
        StudyError: see `last_study`.
        TableContextError: the device's tables were measured on another machine or runtime.
    """
    work = _opened(config, console)
    costs = costs or load_costs(work)
    limits = absolute_limits(work, costs)
    study = last_study(work)
    answers = query(study, limits=limits, top=config.deploy.candidates, tolerance=config.deploy.tolerance)
    prepare_torch(config.train.threads)
    setting = _Setting(work=work, costs=costs, limits=limits, study=study, evaluator=make_evaluator(work))
    return _first_that_holds(setting, answers, console=console)


def export_network(config: Config, architecture: Mapping[str, Option], *, console: Console) -> ExportResult:
    """Deploy exactly this network within the configuration's limits, whatever others there are.

    One that was never evaluated is evaluated first. The device may be another than the run's own, once it is profiled.

    Args:
        config: of a run for one device.
        architecture: choice name -> option, as the device has it.
        console: to speak on.

    Raises:
        SpaceError: it is no network of the device's space.
        InfeasibleError: it misses a limit when measured.
        VerificationError: the runtime computes something else than torch.
        StudyError: the run has no finished study.
        TableError: the device is not profiled.
        TableContextError: its tables were measured on another machine or runtime.
    """
    work = _opened(config, console)
    costs = load_costs(work)
    limits = absolute_limits(work, costs)
    prepare_torch(config.train.threads)
    # before anything is loaded: what is no network is told at once
    encoding = work.space.encode(architecture)
    evaluator = make_evaluator(work)
    study, number = study_with(work, costs, encoding, evaluator=evaluator)
    setting = _Setting(work=work, costs=costs, limits=limits, study=study, evaluator=evaluator)
    return _first_that_holds(setting, [answer_for(study, number)], console=console)


def _opened(config: Config, console: Console) -> Workspace:
    work = Workspace(config.single)
    # a killed export may have left the deployment under its hidden name
    heal_run(work, console=console)
    tell_changes(work, console=console)
    return work


@dataclass(frozen=True, kw_only=True)
class _Setting:
    """What the candidates of one export have in common, before the device is asked for anything."""

    work: Workspace
    costs: Costs
    limits: Limits
    study: Study
    evaluator: SubnetEvaluator


def _first_that_holds(setting: _Setting, answers: Sequence[Answer], *, console: Console) -> ExportResult:
    """Deploy the first of some networks that keeps the limits when measured."""
    work, study = setting.work, setting.study
    rejected: list[Rejection] = []
    with work.alone("exporting"), first_reachable(work.device, tell=console.note) as worker:
        for note in work.found_on(worker.context()):
            console.note(note, once=True)
        bench = Bench(work=work, worker=worker, costs=setting.costs, limits=setting.limits, study=study.name)
        for i, answer in enumerate(answers):
            console.note(f"candidate {i + 1} of at most {len(answers)}: trial {answer.number}")
            built = _attempt(bench, setting.evaluator, answer, rejected=rejected, console=console)
            # told and kept: the manifest of what ships names those that were better on paper
            if isinstance(built, Rejection):
                console.note(f"  rejected when {'tested' if built.wrong_outputs else 'measured'}: {built.reason}")
                rejected.append(built)
                continue
            write_deployment_report(work, built, costs=setting.costs, study=study, trial=answer.number)
            manifest = Manifest.read(built)
            for warning in [*manifest.accuracy.warnings(), *manifest.latency_warnings()]:
                console.warn(warning)
            return ExportResult(deployment=built, manifest=manifest)
    raise _none_of(rejected, limits=setting.limits)


def _none_of(rejected: Sequence[Rejection], *, limits: Limits) -> HwnasError:
    """Why no candidate is deployed."""
    wrong = [r for r in rejected if r.wrong_outputs]
    if wrong:
        others = f"; the other {len(rejected) - 1} candidates were rejected too" if len(rejected) > 1 else ""
        hint = "" if wrong[-1].answer.preference.asked_for else "; try more with deploy.candidates"
        return VerificationError(f"trial {wrong[-1].answer.number}: {wrong[-1].reason}{others}{hint}")
    asked = rejected[-1].answer.preference.asked_for
    return InfeasibleError(
        f"the network misses a limit when measured: {rejected[-1].reason}"
        if asked
        else f"none of the {len(rejected)} best networks of the study kept the limits when measured: "
        f"{rejected[-1].reason}; try more with deploy.candidates, or search with this limit",
        metric="latency_ms",
        limit=next((x.value for x in as_limits(limits) if x.metric == "latency_ms"), float("nan")),
    )


def _attempt(
    bench: Bench, evaluator: SubnetEvaluator, answer: Answer, *, rejected: list[Rejection], console: Console
) -> Path | Rejection:
    """Deploy one network of the study, or say why not."""
    candidate = Candidate.extract(bench.work.space, evaluator, answer)
    with scratch("candidate") as folder:
        # before anything is spent on its weights: latency and size do not depend on them
        measured, misses = bench.measure(candidate, candidate.write(bench.work.exporter, Path(folder)))
    if misses:
        return Rejection(answer=answer, reason=_reason(misses, measured, answer))
    candidate = tuned(bench.work, evaluator, candidate, console=console)
    deployments = bench.work.folder / "deployments"
    final = deployment_folder(deployments, device=bench.work.device.name, limits=bench.limits)
    with new_folder(final) as folder:
        artefact = candidate.write(bench.work.exporter, folder)
        # again: this is the file that ships, and what its manifest says must be of it
        measured, misses = bench.measure(candidate, artefact, again=True)
        if misses:
            return Rejection(answer=answer, reason=_reason(misses, measured, answer))
        try:
            tested = test_candidate(
                bench.work, bench.worker, candidate, artefact, evaluator=evaluator, tell=console.note
            )
        except WrongOutputsError as e:
            return Rejection(answer=answer, reason=str(e), wrong_outputs=True)
        proven = Proven(
            candidate=candidate,
            artefact=artefact,
            measured=measured,
            tested=tested,
            program=_write_program(bench.work, candidate, folder, console=console),
            folder=folder,
        )
        tested.samples.write(folder)
        describe(bench, proven, rejected=rejected).write(folder)
        take_place(folder, final)
    return final


def _write_program(work: Workspace, candidate: Candidate, folder: Path, *, console: Console) -> ArtefactInfo | None:
    """The network as a torch program beside its file; None where there is none, which costs nobody the deployment."""
    if not work.config.deploy.torch_program:
        return None
    try:
        return candidate.write_program(folder)
    except ExportError as e:
        console.warn(f"the deployment has no {PROGRAM}: {e}")
        return None


def _reason(misses: Sequence[str], measured: Measured, answer: Answer) -> str:
    """Which limits are missed, and what speaks against the measurement that says so."""
    doubts = doubt_texts(measured.latency_ms, predicted_ms=answer.values.get("latency_ms"))
    return "; ".join([*misses, *doubts])
