"""Stage `verify`: a deployment against its own promises, on this machine, with the runtime alone (no torch)."""

from __future__ import annotations

from collections.abc import Iterator, Mapping
from dataclasses import dataclass
from pathlib import Path

from hwnas import registry
from hwnas._console import Console
from hwnas.allowed import Limits
from hwnas.cost.energy import METRIC as ENERGY
from hwnas.cost.memory import METRIC as MEMORY
from hwnas.deployment import Latency, Manifest, Parity, Samples, check_files, checked_artefact
from hwnas.deployment.doubts import Doubt, doubt_texts
from hwnas.errors import ArtefactError, VerificationError
from hwnas.limits import as_limits
from hwnas.measure import Worker, first_reachable
from hwnas.pipeline._confirmation import device_to_verify_on
from hwnas.pipeline.parity import ERROR, WRONG_SHARE, Comparison, compare_outputs
from hwnas.pipeline.verdict import Verdict, reach_verdict
from hwnas.precisions import EXACT, computed_in, is_quantized, offered_as
from hwnas.precisions import precision as precision_of_name
from hwnas.quantities import allowed_text, metric_name, quantity
from hwnas.results import Result, Shown
from hwnas.tasks.decisions import Decides
from hwnas.types import Array, Artefact, Runtime, Statistic, TellsCosts

MEASURED = "measured"
_UNSEALED = (
    "this deployment is of a version of hwnas without checksums and without every step from an image to the network's "
    "input: whether its manifest or samples changed since cannot be told, and the steps are not verified; export the "
    "network again to have both"
)


@dataclass(frozen=True, slots=True, kw_only=True)
class VerifyResult(Result):
    """A deployment that keeps its promises.

    Attributes:
        folder: of the deployment.
        runtime: registered name.
        runtime_version: as the runtime says.
        latency_ms: measured now.
        looks: how often it was timed.
        doubts: what speaks against the time.
        costs: metric -> value, of what else a run costs.
        size_bytes: of the file.
        source: `measured`, or by what a runtime without hardware estimates.
        max_abs_diff: the largest difference of an output from torch's.
        n: decisions that were compared: of a classifier, its predictions.
        n_equal: of them, those that are the same.
        decides: what a decision is, as `Parity` of a manifest has it.
        same_context: whether this is the machine and runtime the deployment was made on.
        limits: metric -> what was promised.
    """

    folder: Path
    runtime: str
    runtime_version: str
    latency_ms: Latency
    looks: int
    doubts: tuple[Doubt, ...]
    costs: Mapping[str, float]
    size_bytes: int
    source: str
    max_abs_diff: float
    n: int
    n_equal: int
    decides: Decides
    same_context: bool
    limits: Limits

    @property
    def top1_agreement(self) -> float:
        """Share of equal decisions, in [0, 1]."""
        return self.n_equal / self.n

    def values(self) -> Mapping[str, object]:
        """With `top1_agreement`, and the latency as it stands in a manifest."""
        latency = self.latency_ms.model_dump(mode="json", by_alias=True)
        return {**Result.values(self), "latency_ms": latency, "top1_agreement": self.top1_agreement}

    @property
    def shown(self) -> Shown:
        """Each promise with what was found."""
        latency, limits = self.latency_ms, self.limits
        measured = "latency" if self.source == MEASURED else f"latency {self.source}"
        return Shown(
            title=f"{self.folder}: verified",
            rows=[
                ("outputs, largest difference", f"{self.max_abs_diff:.2g}"),
                (f"outputs, equal {self.decides}s", f"{self.n_equal} of {self.n}"),
                (measured, f"{quantity('latency_ms', latency.minimum)} minimum ({_promise(limits, 'latency_ms')})"),
                (
                    "  with what disturbed it now",
                    f"median {quantity('latency_ms', latency.raw_median)}, drift {latency.drift:.2f}",
                ),
                ("size", f"{quantity('size_bytes', self.size_bytes)} ({_promise(limits, 'size_bytes')})"),
                *(
                    (metric_name(metric), f"{quantity(metric, value)} ({_promise(limits, metric)})")
                    for metric, value in self.costs.items()
                ),
                ("runtime", f"{self.runtime} {self.runtime_version}"),
            ],
        )


def verify(
    folder: Path, *, console: Console, here: bool = False, trust: bool = False, device: str = ""
) -> VerifyResult:
    """Check that a deployment's file is the one that was verified, computes the same, and keeps its limits.

    On the hardware it was made for, latency is corrected by the drift anchor's drift; elsewhere it is
    told as the clock says.

    Args:
        folder: of the deployment.
        console: to speak on.
        here: this machine is the board that the deployment was measured on over a connection.
        trust: connect to the board as the manifest says. Without it nothing is contacted that the user has not named.
        device: name or path of the user's own description of the board, whose connection is used.

    Raises:
        ArtefactError: the folder is no deployment, or a file of it is missing or changed.
        ConfigError: its manifest would have a board contacted that the user has not confirmed, or something in it is
            not what it may be.
        VerificationError: outputs differ, or a limit is not kept; the message lists all that failed.
    """
    folder = Path(folder)
    manifest = Manifest.read(folder)
    # first of all: nothing may be contacted that the user has not confirmed
    target = device_to_verify_on(folder, manifest, here=here, trust=trust, device=device)
    check_files(folder, manifest)
    if not manifest.is_sealed:
        console.warn(_UNSEALED)
    runtime = registry.load("runtimes", manifest.runtime)()
    precision = _precision(manifest, runtime)
    artefact = checked_artefact(folder, manifest.artefact, precision=precision)
    anchor = checked_artefact(folder, manifest.reference, precision=precision)
    samples = Samples.read(folder, raw=manifest.is_sealed)
    with first_reachable(target, tell=console.note) as worker:
        found = _run(worker, manifest, artefact, anchor=anchor, samples=samples)
    values = measured_values(found.verdict.statistic, artefact, runtime)
    problems = [
        *_broken_promises(manifest, found, exact=artefact.precision == EXACT, samples=samples),
        *limit_problems(values, manifest.limits),
    ]
    should_be = computed_in(runtime, target, found.context)[offered_as(precision)]
    for warning in _warnings(found, precision=precision, should_be=should_be):
        console.warn(warning)
    # after the warnings: they may explain why a promise is not kept
    if problems:
        raise VerificationError(f"{folder} does not keep its promises: {'; '.join(problems)}")
    return _result(folder, manifest, found, artefact=artefact, runtime=runtime)


@dataclass(frozen=True, kw_only=True)
class _Found:
    """What a run of the file told.

    Attributes:
        context: of the runtime that ran it.
        same_context: whether this is the machine and runtime the deployment was made on.
        compared: its outputs with torch's.
        predicted_ms: the latency it should have; None on another machine.
        verdict: on its latency.
    """

    context: Mapping[str, str]
    same_context: bool
    compared: Comparison
    predicted_ms: float | None
    verdict: Verdict

    @property
    def latency(self) -> Latency:
        return Latency.of(self.verdict.statistic)


def _result(folder: Path, manifest: Manifest, found: _Found, *, artefact: Artefact, runtime: Runtime) -> VerifyResult:
    """What is told of a deployment that keeps its promises."""
    return VerifyResult(
        folder=folder,
        runtime=manifest.runtime,
        runtime_version=found.context.get("runtime_version", ""),
        latency_ms=found.latency,
        looks=found.verdict.looks,
        doubts=found.verdict.doubts,
        costs=metrics_among(found.verdict.statistic.costs, runtime),
        size_bytes=artefact.size_bytes,
        source=source_of(found.context),
        max_abs_diff=found.compared.difference,
        n=found.compared.n,
        n_equal=found.compared.n - found.compared.disagreements,
        decides=manifest.parity.decides,
        same_context=found.same_context,
        limits=manifest.limits,
    )


def _run(worker: Worker, manifest: Manifest, artefact: Artefact, *, anchor: Artefact, samples: Samples) -> _Found:
    """Compute the samples' outputs, then time the file."""
    context = dict(worker.context())
    # outputs before times: a file that computes nonsense need not be timed
    outputs = worker.predict(artefact, samples.inputs)
    same = _same_context(manifest.device.context, context)
    predicted_ms = manifest.predicted.get("latency_ms") if same else None
    verdict = reach_verdict(
        worker,
        artefact,
        anchor=anchor,
        # on another machine the drift would be the difference of two machines
        anchor_ms=manifest.reference_ms if same else None,
        predicted_ms=predicted_ms,
    )
    return _Found(
        context=context,
        same_context=same,
        compared=_compared(manifest, outputs, samples.outputs),
        predicted_ms=predicted_ms,
        verdict=verdict,
    )


def _compared(manifest: Manifest, found: Array, expected: Array) -> Comparison:
    """The runtime's outputs with those that ship.

    Raises:
        ArtefactError: the samples hold others than the manifest names.
    """
    parts = manifest.output.parts
    if parts and expected.shape[1:] != (sum(p.part.size for p in parts),):
        raise ArtefactError("the samples hold other outputs than the manifest names; export the network again")
    steps = {p.name: p.step for p in parts} or {"": manifest.parity.step}
    return compare_outputs(found, expected, parts=[p.part for p in parts], decides=manifest.parity.decides, steps=steps)


def _broken_promises(manifest: Manifest, found: _Found, *, exact: bool, samples: Samples) -> list[str]:
    """Of outputs and preprocessing, all of them: one run shall tell everything that is wrong."""
    share = allowed_share(manifest.parity, same_context=found.same_context)
    problems = found.compared.problems(exact=exact, share=share)
    if manifest.preprocessing is not None:
        problems += samples.preprocessing_problems(manifest.preprocessing)
    return problems


def allowed_share(parity: Parity, *, same_context: bool) -> float:
    """Share of predictions that may be others than torch's, beyond near-ties.

    The samples are images that both agreed on when the deployment was made. Where many others were not, because the
    runtime rounds the same network otherwise, another processor may round these otherwise too; the same one does not.
    """
    ratio = parity.error_ratio
    rounds_otherwise = not same_context and ratio is not None and ratio <= ERROR
    return max(WRONG_SHARE, parity.others) if rounds_otherwise else WRONG_SHARE


def _warnings(found: _Found, *, precision: str, should_be: str) -> Iterator[str]:
    """What breaks no promise but may explain why one is not kept.

    Args:
        found: when the file ran.
        precision: of the file.
        should_be: the precision that this machine's runtime would be given.
    """
    if should_be != precision and (note := precision_of_name(should_be).note):
        yield f"the file is {precision}; here it should be {should_be}: {note}"
    if not found.same_context:
        yield "this is not the machine or runtime the deployment was made on; latency is not drift-corrected"
    yield from doubt_texts(found.latency, predicted_ms=found.predicted_ms)


def _precision(manifest: Manifest, runtime: Runtime) -> str:
    """The manifest's; earlier versions called all floats fp32, and the device's options told what they were."""
    if is_quantized(manifest.precision):
        return manifest.precision
    return computed_in(runtime, manifest.described_device(), manifest.device.context)[EXACT]


def measured_values(statistic: Statistic, artefact: Artefact, runtime: Runtime) -> dict[str, float]:
    """Metric -> what the runtime and the file say, of everything a limit may be about."""
    costs = metrics_among(statistic.costs, runtime)
    return {"latency_ms": statistic.minimum, "size_bytes": float(artefact.size_bytes), **costs}


def metrics_among(costs: Mapping[str, float], runtime: Runtime) -> dict[str, float]:
    """Those of the costs that are metrics, with the runtime's own; the rest says how an energy was found."""
    metrics = {ENERGY, MEMORY, *(runtime.metrics if isinstance(runtime, TellsCosts) else ())}
    return {metric: value for metric, value in costs.items() if metric in metrics}


def source_of(context: Mapping[str, str]) -> str:
    """`measured`, or what a runtime without hardware says of its numbers: `estimated by ...`."""
    return context.get("source", MEASURED)


def limit_problems(values: Mapping[str, float], limits: Limits, *, margin: float = 0.0) -> list[str]:
    """Which measured values miss their limits.

    Args:
        values: metric -> measured.
        limits: metrics that are not measured do not count.
        margin: a latency must stay within its limits by this share.
    """
    problems = []
    for metric, value in values.items():
        for limit in as_limits({metric: limits[metric]} if metric in limits else {}):
            room = margin if metric == "latency_ms" else 0.0
            if not limit.is_kept_by(value * (1 - room if limit.floor else 1 + room)):
                asked = f"the {'least allowed' if limit.floor else 'limit'} {limit.value:.4g}"
                more = f" {'and' if limit.floor else 'less'} {margin:.0%}" if margin else ""
                problems.append(f"{metric} is {value:.4g}, {asked}{more}")
    return problems


def _same_context(made: Mapping[str, str], here: Mapping[str, str]) -> bool:
    # what decides a time; the date, the load and the operating system may differ
    return all(made.get(k) == here.get(k) for k in ("hardware", "runtime_version", "threads"))


def _promise(limits: Limits, metric: str) -> str:
    return allowed_text(metric, limits[metric]) if metric in limits else "no limit"
