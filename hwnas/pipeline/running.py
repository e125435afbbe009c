"""The whole way in one call, for one device."""

from __future__ import annotations

import time
from collections.abc import Iterator, Mapping
from contextlib import contextmanager
from dataclasses import dataclass

from hwnas._console import Console, format_seconds
from hwnas._places import quoted
from hwnas.config import Config
from hwnas.limits import round_up
from hwnas.pipeline._deployment_summary import ExportResult
from hwnas.pipeline.adapting import adapt
from hwnas.pipeline.costs import reachable_limits
from hwnas.pipeline.deploying import export
from hwnas.pipeline.memory import refuse_too_large
from hwnas.pipeline.profiling import profile
from hwnas.pipeline.searching import search
from hwnas.pipeline.training import refuse_other_run, train
from hwnas.results import Shown
from hwnas.workspace import Workspace


@dataclass(frozen=True, kw_only=True)
class RunResult(ExportResult):
    """A new deployment, and how it was come by.

    Attributes:
        folder: of the run.
        seconds: stage -> how long it took.
    """

    folder: str
    seconds: Mapping[str, float]

    def values(self) -> Mapping[str, object]:
        """Those of the deployment, and the seconds."""
        return {**super().values(), "seconds": self.seconds}

    @property
    def shown(self) -> Shown:
        """The deployment, with the time and what can be asked next."""
        deployed, folder = super().shown, self.folder
        most = round_up(2 * self.manifest.measured.latency_ms.minimum)
        return Shown(
            title=deployed.title,
            rows=[*deployed.rows, ("time", _times(self.seconds))],
            notes=[
                *deployed.notes,
                f"Other budgets of the same study: hwnas query {quoted(folder)} --limit latency_ms={most}",
                f"Your own images and device: edit {folder}/config.toml ([data] source, [device] name), "
                f"name another [output] folder, and start it with: hwnas run FILE",
            ],
        )


def run_all(config: Config, *, console: Console) -> RunResult:
    """Train, profile, search, export, verify and report; each stage goes on from what it finds.

    Raises:
        InfeasibleError: no network keeps the limits; found out before the training.
        HwnasError: a stage failed; the ones before it are kept.
    """
    work = Workspace(config.single)
    if config.model is not None and not work.adapted.exists:
        console.note("-- adapt")
        console.table(adapt(config, console=console).shown)
    refuse_other_run(work)
    refuse_too_large(work)
    _ = work.training_space  # images that do not fit it are told before a folder is made
    seconds: dict[str, float] = {}
    with _stage("profile", seconds, console=console):
        profiled = profile(config, console=console)
        console.table(profiled.shown)
    costs = profiled.costs  # read once: the study and the deployment are of the same tables
    reachable_limits(work, costs)  # a limit that cannot be kept is told before the training
    with _stage("train", seconds, console=console):
        console.table(train(config, console=console).shown)
    with _stage("search", seconds, console=console):
        console.table(search(config, console=console, costs=costs).shown)
    with _stage("export", seconds, console=console):
        made = export(config, console=console, costs=costs)
    return RunResult(deployment=made.deployment, manifest=made.manifest, folder=config.output.folder, seconds=seconds)


@contextmanager
def _stage(name: str, seconds: dict[str, float], *, console: Console) -> Iterator[None]:
    """Tell that a stage begins, and note how long it took."""
    console.note(f"-- {name}")
    begun = time.monotonic()
    yield
    seconds[name] = round(time.monotonic() - begun, 1)


def _times(seconds: Mapping[str, float]) -> str:
    """`33 s: profile 20 s, train 5 s`, stages of less than a second left out."""
    parts = ", ".join(f"{name} {format_seconds(s)}" for name, s in seconds.items() if s >= 1)
    return f"{format_seconds(sum(seconds.values()))}{f': {parts}' if parts else ''}"
