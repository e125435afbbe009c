"""One device of a fleet while it is worked on: its tables, its one study, its budgets and what speaks against them.

An error of the device, or of one budget, is kept instead of ending the others' work.
"""

from __future__ import annotations

import copy
import hashlib
import json
from collections.abc import Iterator
from contextlib import contextmanager
from dataclasses import asdict, dataclass, field, replace

import numpy as np

from hwnas import __version__
from hwnas._console import Console
from hwnas.allowed import Allowed, limits_to_json
from hwnas.config import Config
from hwnas.cost import feasible_encodings
from hwnas.cost.table import LatencyTable
from hwnas.deployment import Manifest, check_files
from hwnas.errors import (
    ArtefactError,
    CheckpointError,
    DataError,
    HwnasError,
    InfeasibleError,
    SpaceError,
    TrainingError,
)
from hwnas.files import sha256_file
from hwnas.fleet.record import FleetRecord
from hwnas.limits import Limit, as_limits, as_mapping
from hwnas.pipeline import ExportResult, SearchResult, deploying, profiling, searching, seeding
from hwnas.pipeline.costs import Costs, absolute_limits, load_costs, reachable_limits, table_path
from hwnas.pipeline.evaluating import EvaluationCounts
from hwnas.report.fleet import FleetDevice, FleetRow, budget_text
from hwnas.search import load_study
from hwnas.types import IntArray, Option
from hwnas.workspace import Workspace

_OF_THE_RUN = (DataError, SpaceError, CheckpointError, TrainingError)  # no other device would fare better


@dataclass(kw_only=True)
class Budget:
    """One budget of one device.

    Attributes:
        called: for people.
        config: the run for this device and budget alone.
        given: the limits as configured.
        limits: in absolute numbers, once the device was measured.
        fitting: (D,) a network that keeps them, if one is known.
        error: why there is no deployment.
    """

    called: str
    config: Config
    given: dict[str, Allowed]
    limits: dict[str, Allowed] = field(default_factory=dict)
    fitting: IntArray | None = None
    error: HwnasError | None = None


class Member:
    """One device of the fleet, while it is worked on.

    Args:
        config: of the run.
        entry: what the device is called there.

    Raises:
        UnknownNameError, ConfigError: the device is not described.
    """

    def __init__(self, config: Config, entry: str, *, console: Console) -> None:
        self.config, self.entry, self.console = config, entry, console
        self.work = Workspace(config.part(entry))
        self.name = self.called = self.work.device.name
        self.described = FleetDevice(name=self.name, runtime=self.work.device.runtime)
        self.budgets = [
            Budget(called=f"{self.name}, {budget_text(given)}", config=config.part(entry, given), given=given)
            for given in (b.given() for b in config.budgets_of(entry))
        ]
        self.error: HwnasError | None = None
        self.costs: Costs | None = None
        self.evaluations = EvaluationCounts()  # by this call

    @property
    def open_budgets(self) -> list[Budget]:
        """Those that nothing speaks against so far."""
        return [b for b in self.budgets if b.error is None and self.error is None]

    @contextmanager
    def surviving(self, failing: Member | Budget) -> Iterator[None]:
        """Note an error of this device, or of one budget, instead of ending the others' work."""
        try:
            yield
        except _OF_THE_RUN:  # what all devices share: the others would fail alike, one after the other
            raise
        except HwnasError as e:
            failing.error = e
            self.console.warn(f"{failing.called}: {e}")

    def profile(self) -> None:
        """Measure what the tables lack, then see which budgets can be kept at all."""
        with self.surviving(self):
            self.costs = profiling.profile(self.work.config, console=self.console).costs
        self.plan()

    def plan(self) -> None:
        """Read the tables, unless profiling just did, and turn the budgets into absolute limits."""
        if self.error is not None:
            return
        with self.surviving(self):
            self.costs = self.costs or load_costs(self.work)
            self.described = replace(
                self.described,
                hardware=_hardware(self.work),
                precisions=tuple(self.work.space.precisions),
                error_percent=self.costs.latency.quality.mean_abs_error_percent,
            )
        for budget in self.open_budgets:
            assert self.costs is not None
            with self.surviving(budget):
                work = self._workspace(budget.config)
                budget.limits = absolute_limits(work, self.costs)
                _, budget.fitting = reachable_limits(work, self.costs)

    def search(self) -> SearchResult | None:
        """One study for all budgets: within the loosest of them, with networks that keep the tighter ones."""
        if not self.open_budgets:
            return None
        result: SearchResult | None = None
        with self.surviving(self):
            config = self.config.part(self.entry, self._loosest())
            result = searching.search(config, console=self.console, initial=self._starts(config), costs=self.costs)
            self.evaluations = result.evaluations
            self.described = replace(
                self.described,
                n_networks=result.n_trials,
                measured=self.evaluations.measured,
                reused=self.evaluations.reused,
            )
        return result

    def export(self, record: FleetRecord) -> None:
        """A deployment for each budget; one that is there already, made by the same of everything, stays."""
        for budget in self.open_budgets:
            with self.surviving(budget):
                fingerprint = self._fingerprint(budget)
                # by the budget as it was given: absolute limits change with the tables
                before = record.row(self.name, budget.given)
                if before is not None and self.is_deployed(before, fingerprint):
                    self.console.note(f"{budget.called}: is deployed already")
                    # a problem of an earlier call is over
                    record.keep(replace(before, problem="", exit_status=0))
                    continue
                if len(self.budgets) > 1:
                    self.console.note(f"- {budget.called}")
                result = deploying.export(budget.config, console=self.console, costs=self.costs)
                # after each budget: a killed process loses one
                record.keep(self._deployed(budget, result, fingerprint=fingerprint))

    def is_deployed(self, row: FleetRow, fingerprint: str) -> bool:
        """Whether a row's deployment is there, whole, and made by the same of everything; says so if it is damaged."""
        if not row.deployment or row.fingerprint != fingerprint:
            return False
        folder = self.work.folder / row.deployment
        try:
            check_files(folder, Manifest.read(folder))
        except ArtefactError as e:
            self.console.warn(f"{self.name}: {e}; it is made again")
            return False
        return True

    def keep(self, record: FleetRecord) -> None:
        """Put down what is known of the device, and what speaks against it or its budgets."""
        before = record.device(self.name)
        if before is not None and not self.evaluations.asked:  # nothing was left to search
            self.described = replace(self.described, measured=before.measured, reused=before.reused)
        self.described = replace(self.described, problem=str(self.error or ""))
        record.keep(self.described, *(row for b in self.budgets if (row := self._problem(b, record)) is not None))

    # ------------------------------------------------------------

    def _workspace(self, config: Config) -> Workspace:
        """The device's workspace with other limits; what was loaded is shared, none of it depends on limits."""
        # shallow: data, space and device were read once, and stay shared
        work = copy.copy(self.work)
        work.config = config
        return work

    def _loosest(self) -> dict[str, Allowed]:
        sides = [{(x.metric, x.floor): x.value for x in as_limits(b.limits)} for b in self.open_budgets]
        # a metric that one budget leaves free must be free in the study
        common = set.intersection(*(set(each) for each in sides))
        return as_mapping(
            Limit(metric=metric, value=(min if floor else max)(each[metric, floor] for each in sides), floor=floor)
            for metric, floor in sorted(common)
        )

    def _starts(self, config: Config) -> list[dict[str, Option]]:
        """For each budget, the largest of the search's own seeds that keep it, or any network that does."""
        budgets = self.open_budgets
        if len(budgets) < 2:
            return []
        assert self.costs is not None
        work, costs = self._workspace(config), self.costs
        seeds = seeding.seed_architectures(
            work.space, costs.models, costs.limits_among(self._loosest())
        )  # the fastest first
        each = 2 if 4 * len(budgets) <= config.search.n_trials else 1
        # by encoding: tighter and looser budgets often have the same network
        starts: dict[bytes, IntArray] = {}
        for budget in budgets:
            encodings = np.array([work.space.encode(a) for a in seeds], dtype=np.int64)
            limits = costs.limits_among(budget.limits)
            within = encodings[feasible_encodings(encodings, costs.models, limits)] if len(encodings) else encodings
            # the slowest that still keep it: of the fastest-first seeds the most arithmetic
            found = list(within[-each:]) or ([budget.fitting] if budget.fitting is not None else [])
            starts |= {e.tobytes(): e for e in found}
        return [work.space.decode(e) for e in starts.values()]

    def _fingerprint(self, budget: Budget) -> str:
        """Of all that decides a budget's deployment.

        Raises:
            StudyError: there is no finished study.
            CheckpointError: there is no trained supernet.
        """
        assert self.costs is not None
        # refuses a damaged one by name, before its hash is taken for good
        load_study(self.work.study)
        if not self.work.checkpoint.exists():
            raise CheckpointError(f"there is no trained supernet in {self.work.folder}; train one with `hwnas train`")
        what = {
            "version": __version__,
            "limits": limits_to_json(budget.limits),
            "study": sha256_file(self.work.study),
            "tables": dict(self.costs.hashes),
            "checkpoint": sha256_file(self.work.checkpoint),
            "deploy": self.config.deploy.model_dump(mode="json"),
            "alone": asdict(self.work.descent_alone),
        }
        return hashlib.sha256(json.dumps(what, sort_keys=True).encode()).hexdigest()[:16]

    def _deployed(self, budget: Budget, result: ExportResult, *, fingerprint: str) -> FleetRow:
        manifest = result.manifest
        comparison = manifest.precision_speedup
        return FleetRow(
            device=self.name,
            budget=budget.given,
            limits=budget.limits,
            deployment=f"deployments/{result.deployment.name}",
            precision=manifest.precision,
            trial=int(manifest.provenance["trial"]),
            metric=manifest.accuracy.metric,
            accuracy=manifest.accuracy.test_runtime,
            n_test=manifest.accuracy.n_test,
            validation_accuracy=manifest.accuracy.validation_torch,
            latency_ms=manifest.measured.latency_ms.minimum,
            source=manifest.measured.source,
            size_bytes=manifest.artefact.size_bytes,
            speedup=None if comparison is None else comparison.speedup,
            fingerprint=fingerprint,
        )

    def _problem(self, budget: Budget, record: FleetRecord) -> FleetRow | None:
        error = self.error or budget.error
        if error is None:
            return None
        before = record.row(self.name, budget.given)
        if self.error is not None and before is not None and before.deployment:
            return replace(before, problem=str(error), exit_status=error.exit_status)  # a board that is away now
        reachable = {}
        if isinstance(error, InfeasibleError) and error.reachable is not None:
            reachable = {error.metric: error.reachable}
        return FleetRow(
            device=self.name,
            budget=budget.given,
            limits=budget.limits,
            problem=str(error),
            reachable=reachable,
            exit_status=error.exit_status,
        )


def _hardware(work: Workspace) -> str:
    return LatencyTable.open(table_path(work, work.widest_precision)).context.hardware
