"""What the commands read of each kind of file in a run, by the functions that they read it with; for `damage.py`."""

from __future__ import annotations

import dataclasses
from collections.abc import Callable, Sequence
from dataclasses import dataclass, field
from pathlib import Path
from typing import Any

from hwnas.errors import HwnasError


class LostError(Exception):
    """Something is gone that the damage did not touch."""


@dataclass
class Run:
    """A finished run: its configuration, and every byte of its folder."""

    folder: Path
    files: dict[Path, bytes] = field(default_factory=dict)

    def __post_init__(self) -> None:
        self.files = {p.relative_to(self.folder): p.read_bytes() for p in self.folder.rglob("*") if p.is_file()}

    def restore(self) -> None:
        """Put every file back as it was, and remove those that came."""
        for path in self.folder.rglob("*"):
            if path.is_file() and path.relative_to(self.folder) not in self.files:
                path.unlink()
        for name, data in self.files.items():
            path = self.folder / name
            if not path.is_file() or path.read_bytes() != data:
                path.write_bytes(data)

    def matching(self, pattern: str) -> list[Path]:
        """Files by a pattern, relative to the folder."""
        return sorted(p for p in self.files if p.match(pattern))


@dataclass(frozen=True)
class Kind:
    """A kind of file of a run.

    Attributes:
        name: for people.
        pattern: of its files.
        read: what the commands read of it, as a value to compare, and what is told; raises what the commands raise.
        partial: a value read after damage may be a part of what was written: the rest is made again.
    """

    name: str
    pattern: str
    read: Callable[[Readers, Path], tuple[Any, Sequence[str]]]
    partial: Callable[[Any, Any], bool] | None = None


class Readers:
    """The functions that commands read files of a run with.

    Args:
        run: to read.
    """

    def __init__(self, run: Run) -> None:
        from hwnas.config import load_config
        from hwnas.workspace import Workspace

        self.run = run
        self.config = load_config(run.folder)
        self.part = self.config.part(
            self.config.device.all[0], self.config.budgets_of(self.config.device.all[0])[0].given()
        )
        self._work = Workspace(self.part)
        self._shared = {"data": self._work.data, "training_space": self._work.training_space, "space": self._work.space}

    @property
    def work(self) -> Any:
        """A workspace that has read no file of the run yet."""
        from hwnas.workspace import Workspace

        work = Workspace(self.part)
        work.__dict__.update(self._shared)
        return work

    def configuration(self, path: Path) -> tuple[Any, Sequence[str]]:
        from hwnas.config import load_config
        from hwnas.pipeline._last_used import LastUsed, settings_of

        config = load_config(self.run.folder)
        return settings_of(config), LastUsed.of(self.run.folder).changes(config)

    def last_used(self, path: Path) -> tuple[Any, Sequence[str]]:
        from hwnas.pipeline._last_used import LastUsed

        found = LastUsed.of(self.run.folder)
        return dataclasses.asdict(dataclasses.replace(found, problem="")), found.changes(self.config)

    def table(self, path: Path) -> tuple[Any, Sequence[str]]:
        from hwnas.appending import complete_lines
        from hwnas.cost.table import LatencyTable, repair_table
        from hwnas.pipeline.costs import load_costs

        try:
            costs = load_costs(self.work)
            # not the files' digests: half a line at the end, which counts for nothing, is part of those
            return (dict(costs.entries), costs.networks, costs.largest_ms), ()
        except HwnasError:
            # whoever measures keeps all that is sound
            before = self.run.files[path.relative_to(self.run.folder)].splitlines()
            damaged = set(complete_lines(path)) if path.exists() else set()
            repair_table(path)
            kept = LatencyTable.open(path).n_entries if path.exists() else -1
            aside = path.with_name(path.name + ".damaged")
            put_aside = set(aside.read_bytes().split(b"\n")) if aside.exists() else set()
            untouched = sum(line in damaged for line in before[1:])
            if kept < untouched and not (kept < 0 and damaged <= put_aside):
                raise LostError(f"{untouched - kept} lines of {path.name}") from None
            raise

    def audit_table(self, path: Path) -> tuple[Any, Sequence[str]]:
        from hwnas.cost.table import LatencyTable

        table = LatencyTable.open(path)
        return {"": table.context, **table.statistics, **table.failures}, ()

    def anchor(self, path: Path) -> tuple[Any, Sequence[str]]:
        from hwnas.cost.table import LatencyTable
        from hwnas.pipeline._candidate import Bench

        precision = path.name.split(".")[0].split("-")[1]
        context = LatencyTable.open(path.with_name(f"fake-{precision}.jsonl")).context
        said = {"hardware": context.hardware, "runtime_version": context.runtime_version, "source": context.source}

        class Worker:
            def context(self) -> dict[str, str]:
                return said

        bench = Bench(work=self.work, worker=Worker(), costs=None, limits={}, study="")  # type: ignore[arg-type]
        artefact, anchor_ms = bench.anchor(precision)
        return (artefact.path.read_bytes(), anchor_ms), ()

    def checkpoint(self, path: Path) -> tuple[Any, Sequence[str]]:
        from hwnas.supernet.checkpoint import load_newest

        told: list[str] = []
        self.work.supernet  # noqa: B018  refuses one that is not trained to its end
        found = load_newest(self.run.folder / "checkpoint.safetensors", warn=told.append)
        assert found is not None
        return ({k: v.numpy().tobytes() for k, v in found.tensors.items()}, found.meta), told

    def checkpoint_before(self, path: Path) -> tuple[Any, Sequence[str]]:
        """As when the newest one is damaged too."""
        from hwnas.supernet.checkpoint import load_newest

        (self.run.folder / "checkpoint.safetensors").write_bytes(b"damaged")
        found = load_newest(self.run.folder / "checkpoint.safetensors")
        assert found is not None
        return ({k: v.numpy().tobytes() for k, v in found.tensors.items()}, found.meta), ()

    def journal(self, path: Path) -> tuple[Any, Sequence[str]]:
        from hwnas.errors import StudyError
        from hwnas.pipeline.searching import lost_trials
        from hwnas.search import load_study, read_study

        study = load_study(self.work.study)
        lost = lost_trials(self.work, study.name)
        told = [f"{lost} trials are searched for again"] if lost else []
        try:
            return repr(read_study(path, study_name=study.name)), told
        except StudyError:
            if not path.exists() or not path.stat().st_size:  # as before the first search
                return None, told
            raise

    def study(self, path: Path) -> tuple[Any, Sequence[str]]:
        from hwnas.search import load_study

        return repr(load_study(path)), ()

    def accuracies(self, path: Path) -> tuple[Any, Sequence[str]]:
        from hwnas.pipeline.evaluating import Evaluations

        known = Evaluations.of(self.work).known
        return {n.key: n for n in known.networks}, known.repaired

    def fleet(self, path: Path) -> tuple[Any, Sequence[str]]:
        from hwnas.errors import ConfigError
        from hwnas.fleet.record import FleetRecord

        found = FleetRecord(self.config).to_json()
        if not found["rows"]:
            raise ConfigError("no deployment to report on; make them with `hwnas run`")  # as `hwnas report` does
        return found, ()

    def audit(self, path: Path) -> tuple[Any, Sequence[str]]:
        from hwnas.audit.auditing import load_audit

        return load_audit(path), ()

    def deployment(self, path: Path) -> tuple[Any, Sequence[str]]:
        from hwnas.deployment import Manifest, Samples, check_files

        manifest = Manifest.read(path.parent)
        check_files(path.parent, manifest)
        samples = Samples.read(path.parent)
        return (manifest, *(_comparable(getattr(samples, f.name)) for f in dataclasses.fields(samples))), ()

    def record(self, path: Path) -> tuple[Any, Sequence[str]]:
        from hwnas.files import read_document

        return read_document(path), ()


def _comparable(value: Any) -> Any:
    """Arrays as bytes, since a comparison of arrays is an array."""
    if isinstance(value, tuple):
        return tuple(map(_comparable, value))
    return (value.dtype.str, value.shape, value.tobytes()) if hasattr(value, "tobytes") else value


def _is_part(found: Any, before: Any) -> bool:
    """Whether all that is known is true; what is not known is measured again."""
    return all(before.get(key) == value for key, value in found.items())


KINDS = (
    Kind("configuration", "config.toml", Readers.configuration),
    Kind("memory of the configuration", "last_used.json", Readers.last_used),
    Kind("table", "latency_tables/fake/*.jsonl", Readers.table),
    Kind("reference model", "latency_tables/fake/*.reference.*", Readers.anchor),
    Kind("measurements of an audit", "audit/measurements.jsonl", Readers.audit_table, _is_part),
    Kind("audit", "audit/audit.json", Readers.audit),
    Kind("checkpoint", "checkpoint.safetensors", Readers.checkpoint),
    Kind("checkpoint before", "checkpoint.previous.safetensors", Readers.checkpoint_before),
    Kind("journal", "journal.log", Readers.journal),
    Kind("study", "study.safetensors", Readers.study),
    Kind("accuracies", "accuracies-*.jsonl", Readers.accuracies, _is_part),
    Kind("fleet", "fleet.json", Readers.fleet),
    Kind("manifest", "deployments/*/manifest.json", Readers.deployment),
    Kind("samples", "deployments/*/samples.safetensors", Readers.deployment),
    Kind("artefact", "deployments/*/model.*", Readers.deployment),
    Kind("reference of a deployment", "deployments/*/reference.*", Readers.deployment),
)
