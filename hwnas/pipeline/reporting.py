"""Stage `report`: the pages of a run's deployments, written from what is in its folder."""

from __future__ import annotations

from collections.abc import Mapping
from dataclasses import dataclass
from pathlib import Path
from typing import TYPE_CHECKING

import numpy as np

from hwnas._console import Console
from hwnas._places import quoted
from hwnas.config import Config
from hwnas.cost.correction import entry_of, held_out_rows
from hwnas.deployment import Manifest, Samples
from hwnas.errors import CheckpointError, ConfigError, StudyError
from hwnas.files import write_whole
from hwnas.pipeline._deployment_folder import deployments_in, heal_run
from hwnas.pipeline.costs import Costs, load_costs, precision_of
from hwnas.report import BlockShare, PredictionPoint, ReportInputs, write_report
from hwnas.results import Result, Shown
from hwnas.search import Study, load_study
from hwnas.types import Block
from hwnas.workspace import Workspace

if TYPE_CHECKING:
    from hwnas.spaces import Space


@dataclass(frozen=True, slots=True, kw_only=True)
class ReportResult(Result):
    """Pages that were written.

    Attributes:
        files: what a page is of -> where it is.
        untouched: why pages of other deployments stayed as they were.
    """

    files: Mapping[str, Path]
    untouched: tuple[str, ...]

    @property
    def shown(self) -> Shown:
        """Where the pages are."""
        return Shown(notes=[*self.untouched, *(f"Report: {path}" for path in self.files.values())])


def report(config: Config, *, console: Console) -> ReportResult:
    """Write the page of every deployment that a run has for its device again.

    Raises:
        ConfigError: the run has no such deployment.
        StudyError: it has no finished study.
    """
    work = Workspace(config.single)
    heal_run(work, console=console)
    folders = [
        f for f in deployments_in(work.folder / "deployments") if Manifest.read(f).device.name == work.device.name
    ]
    if not folders:
        raise ConfigError(
            f"{work.folder} has no deployment for {work.device.name} to report on; make one with "
            f"`hwnas export {quoted(work.folder)}`"
        )
    # once for all pages
    costs, newest = load_costs(work), load_study(work.study)
    notes = []
    for folder in folders:
        manifest = Manifest.read(folder)
        study = chosen_from(work, manifest, newest=newest)
        if study is None:
            notes.append(
                f"{folder.name}: the study its network was chosen from is gone, so its page stays as it was; "
                f"`hwnas export` chooses and describes a network anew"
            )
            continue
        trial = int(manifest.provenance["trial"])
        write_deployment_report(work, folder, costs=costs, study=study, trial=trial)
    return ReportResult(files={f.name: f / "report.html" for f in folders}, untouched=tuple(notes))


def chosen_from(work: Workspace, manifest: Manifest, *, newest: Study) -> Study | None:
    """The study a deployed network was chosen from; None if it is gone.

    A trial's number means nothing in another study. A manifest from before studies were named in it is believed where
    its trial has the network's architecture.

    Args:
        work: of the run.
        manifest: of the deployment.
        newest: the study of the run's last search.
    """
    name = manifest.provenance.get("study")
    study = newest
    if name is not None and name != newest.name:
        try:
            study = load_study(work.study_called(name))
        except StudyError:
            return None
    architecture, trial = dict(manifest.architecture), int(manifest.provenance["trial"])
    rows = np.flatnonzero(study.numbers == trial)
    return study if len(rows) and study.trial_at(int(rows[0])).architecture == architecture else None


def write_deployment_report(work: Workspace, folder: Path, *, costs: Costs, study: Study, trial: int) -> None:
    """Write `report.html` into a deployment, and a copy beside the run's configuration."""
    manifest, c = Manifest.read(folder), work.config
    named = zip(_slots(work.space, manifest), (Block.from_key(k) for k in manifest.blocks), strict=True)
    shares = [
        BlockShare(slot=slot, block=b, latency_ms=costs.latency.correct(b, entry_of(b.key, costs.entries)))
        for slot, b in named
    ]
    inputs = ReportInputs(
        manifest=manifest,
        shares=shares,
        points=prediction_points(costs, seed=c.search.seed, confidence=c.profile.confidence),
        study=study,
        trial=trial,
        history=_history(work.checkpoint),
        sources=study.sources,
        mistakes=Samples.read(folder, raw=manifest.is_sealed).mistakes,
    )
    write_report(inputs, folder / "report.html")
    # a copy, not a link: deployments are moved and removed by hand
    write_whole(work.folder / "report.html", (folder / "report.html").read_bytes())


def prediction_points(costs: Costs, *, seed: int, confidence: float) -> list[PredictionPoint]:
    """Every measured network of the space with its prediction.

    Args:
        costs: on the device.
        seed: of the fit, which decides the networks it held out; likewise `confidence`.
        confidence: of its upper bound.
    """
    held_out = set(np.asarray(held_out_rows(len(costs.networks), seed=seed, confidence=confidence)).tolist())
    return [
        PredictionPoint(
            precision=precision_of([Block.from_key(k) for k in n.blocks]),
            predicted_ms=costs.latency.predict(n.blocks, costs.entries),
            measured_ms=n.statistic.minimum,
            held_out=i in held_out,
        )
        for i, n in enumerate(costs.networks)
    ]


def _slots(space: Space, manifest: Manifest) -> list[str]:
    blocks = space.named_blocks(space.encode(manifest.architecture))
    return [name for name, _ in blocks]


def _history(checkpoint: Path) -> list[dict[str, float]]:
    from hwnas.supernet.checkpoint import load_newest

    try:
        found = load_newest(checkpoint)
    except CheckpointError:  # a page without the training's curve is better than none
        return []
    return list(found.meta["history"]) if found is not None else []
