"""How well latency is predicted: random networks that no fit has seen, each measured twice.

Profiles into a fresh folder (or completes the tables it is given), draws networks of each precision, measures them
in two separate passes, and compares the prediction with their mean, and the passes with each other. Beside it: what the
same tables predict without their pairs of neighbouring blocks, which tell what blocks pay for ends of their own.
"""

from __future__ import annotations

import argparse
import contextlib
import os
import shutil
import tempfile
from collections.abc import Iterable, Mapping, Sequence
from dataclasses import asdict
from pathlib import Path
from statistics import median
from typing import TYPE_CHECKING, Any

from _common import ROOT, SMOKE, Benchmark, Figure, script

from hwnas._console import Console
from hwnas.config import Config, load_config
from hwnas.errors import HwnasError, MeasurementError
from hwnas.types import Artefact, Block, MeasurementFailure, Statistic

if TYPE_CHECKING:
    from hwnas.cost import PredictionQuality
    from hwnas.measure import Worker
    from hwnas.pipeline.costs import Costs
    from hwnas.workspace import Workspace

PRECISIONS = ("fp32", "int8")
_PASSES = 2
_TRIES, _SAME_PHASE = 3, 0.03  # of a pass, until the drift anchor is within this share of what it was for the table


def main(argv: Sequence[str] | None = None) -> int:
    """Run the program; returns its exit status."""
    parser = argparse.ArgumentParser(description=__doc__)
    parser.add_argument("--space", metavar="PRESET", help="whose networks (mobilenet-tiny)")
    parser.add_argument("--run", type=Path, metavar="FOLDER", help="of a network of one's own, profiled anew")
    parser.add_argument("--task", help="that the space is for, with --data (classification)")
    parser.add_argument("--data", metavar="SOURCE", help="for a space that the digits do not fit, as [data] source")
    parser.add_argument("--device", action="append", help="see `hwnas devices` (cpu); may be repeated")
    parser.add_argument("--tables", metavar="FOLDER", help="of latency tables; what they lack is measured and added")
    parser.add_argument("--networks", type=int, default=50, help="of each precision (50)")
    parser.add_argument("--seed", type=int, default=1000, help="of the networks (1000)")
    parser.add_argument("--mean-error", type=float, default=3, help="in percent, at most: the target (3)")
    parser.add_argument("--within-10", type=float, default=98, help="percent of networks, at least: the target (98)")
    bench = Benchmark("prediction", parser, argv)
    # where the run finds functions of this folder that give data
    os.environ["PYTHONPATH"] = os.pathsep.join(filter(None, [str(ROOT / "benchmarks"), os.environ.get("PYTHONPATH")]))
    options = bench.options
    figures: list[Figure] = []
    results: dict[str, dict[str, Any]] = {}
    for device in options.device or ["fake" if bench.smoke else "cpu"]:
        bench.console.note(f"-- {device}")
        with tempfile.TemporaryDirectory(prefix="hwnas-prediction-") as temporary:
            values = {"device.name": device, "profile.tables": options.tables}
            smoke = {**SMOKE, "space.precisions": None}
            of_data = {k: v for k, v in (("task.name", options.task), ("data.source", options.data)) if v}
            values, smoke = {**values, **of_data}, {**smoke, **of_data}
            if options.space:
                values["space.preset"] = options.space
                smoke |= {"space.preset": options.space, "space.resolutions": None}
            if options.run is None:
                config = Config().replaced({**(smoke if bench.smoke else values), "output.folder": temporary})
            else:
                config = _adapted(options.run, Path(temporary), device=device, tables=options.tables)
            n = 4 if bench.smoke else options.networks
            found = compare(config, n, seed=options.seed, console=bench.console)
        results[device] = found
        for precision, result in found.items():
            targets = (options.mean_error, options.within_10)
            figures += _figures(f"{device}_{precision}", result, targets=targets)
        figures.append(Figure(name=f"{device}_profile_s", value=round(next(iter(found.values()))["profile_s"], 1)))
    return bench.publish(figures, details=results)


def _adapted(run: Path, folder: Path, *, device: str, tables: str | None) -> Config:
    """The configuration of a run of a network of one's own, in a folder of its own.

    Raises:
        HwnasError: the run is of none.
    """
    config = load_config(str(run))
    if config.model is None:
        raise HwnasError(f"{run} has no network of one's own; name a preset with --space")
    for path in run.glob("network.*"):
        shutil.copy(path, folder)
    return config.replaced({"device.name": device, "profile.tables": tables, "output.folder": str(folder)})


def compare(config: Config, n: int, *, seed: int, console: Console) -> dict[str, dict[str, Any]]:
    """Precision -> predictions and measurements of n networks of it, and how well they agree.

    Where the device computes a precision in another one (`int8` in `int8-w7`), the result stands under the name that a
    configuration gives it, and says what was computed.

    Raises:
        HwnasError: the device has none of the precisions.
    """
    from hwnas import pipeline
    from hwnas.measure import Worker
    from hwnas.pipeline.costs import load_costs
    from hwnas.workspace import Workspace

    profiled = pipeline.profile(config, console=console)
    work = Workspace(config)
    costs = load_costs(work)
    offered = {p: work.computed.get(p, p) for p in PRECISIONS if work.computed.get(p, p) in work.space.precisions}
    if not offered:
        raise HwnasError(f"{work.device.name} offers {work.space.precisions}; this program compares {PRECISIONS}")
    precisions = list(offered.values())
    networks = {p: unseen_networks(work, costs, n, precision=p, seed=seed) for p in precisions}
    measured: dict[str, list[list[float]]] = {p: [] for p in precisions}
    drifts: dict[str, list[list[float]]] = {p: [] for p in precisions}
    with contextlib.ExitStack() as stack:
        worker = stack.enter_context(Worker(work.device))
        folder = Path(stack.enter_context(tempfile.TemporaryDirectory(prefix="hwnas-networks-")))
        artefacts = {p: _export(work, networks[p], folder / p, precision=p) for p in precisions}
        for number in range(_PASSES):  # the precisions alternate, so that the passes of each lie apart
            for p in precisions:
                found, phases = _measure(work, worker, artefacts[p], precision=p, number=number, console=console)
                measured[p].append(found)
                drifts[p].append(phases)
    return {
        name: {
            "computed_in": p,
            "profile_s": profiled.seconds,
            "drift_over_tables": drifts[p],
            **_compared(costs, networks[p], measured[p], config=config),
        }
        for name, p in offered.items()
    }


def unseen_networks(
    work: Workspace, costs: Costs, n: int, *, precision: str, seed: int
) -> list[tuple[tuple[str, ...], tuple[Block, ...]]]:
    """(Block keys, blocks) of n different random networks of one precision that the correction does not know."""
    import numpy as np

    space = work.space.restrict(precisions=(precision,))
    rng = np.random.default_rng([seed, int(precision != "fp32")])
    known = {network.blocks for network in costs.networks}
    found: dict[tuple[str, ...], tuple[Block, ...]] = {}
    for _ in range(100):
        for encoding in space.sample(n, rng, over="encodings"):
            blocks = tuple(block for _, block in space.named_blocks(encoding))
            keys = tuple(block.key for block in blocks)
            if keys not in known and len(found) < n:
                found[keys] = blocks
        if len(found) == n:
            return list(found.items())
    raise MeasurementError(f"space {space.name!r} has only {len(found)} {precision} networks left; ask for no more")


def _export(
    work: Workspace, networks: Sequence[tuple[tuple[str, ...], tuple[Block, ...]]], folder: Path, *, precision: str
) -> dict[str, Artefact]:
    from hwnas.supernet.untrained import untrained_network

    def written(blocks: Sequence[Block], name: str) -> Artefact:
        network = untrained_network(blocks, precision=precision, symmetric=work.symmetric)
        return network.write(work.exporter, folder / f"{name}.{work.exporter.format}")

    folder.mkdir()
    return {str(i): written(blocks, str(i)) for i, (_, blocks) in enumerate(networks)}


def _measure(
    work: Workspace,
    worker: Worker,
    artefacts: Mapping[str, Artefact],
    *,
    precision: str,
    number: int,
    console: Console,
) -> tuple[list[float], list[float]]:
    """Milliseconds of each artefact, in an order and in groups of this pass's own, and how they were come by.

    A machine whose speed changes slows networks and the drift anchor by factors of their own, so times of one phase
    say nothing about a table of another. A pass is measured again, a few times at most, while the machine is not as
    fast as it was for the table's networks; what decides is the anchor alone, never a prediction. The second list has
    the anchor's time over that of the table's networks, for each try; the one nearest to 1 is taken.
    """
    import dataclasses

    import numpy as np

    from hwnas.cost.table import LatencyTable
    from hwnas.measure import artefact_from_file
    from hwnas.pipeline.costs import anchor_path, table_path
    from hwnas.pipeline.verdict import VERDICT

    table = LatencyTable.open(table_path(work, precision))
    anchor = artefact_from_file(anchor_path(work, precision), format=work.exporter.format, precision=precision)
    order = [str(i) for i in np.random.default_rng([number]).permutation(len(artefacts))]
    of_table = _phase(n.statistic for n in table.networks)
    tries: list[tuple[float, list[float]]] = []
    while len(tries) < _TRIES and not (tries and abs(tries[-1][0] - 1) <= _SAME_PHASE):
        with console.progress(f"pass {number + 1}, {precision}") as progress:
            results = worker.measure(
                {key: artefacts[key] for key in order},
                anchor=anchor,
                anchor_ms=table.context.reference_ms,
                settings=dataclasses.replace(VERDICT, seed=number + _PASSES * len(tries)),
                progress=progress,
            )
        timed: dict[str, Statistic] = {}
        for key, result in results.items():
            if isinstance(result, MeasurementFailure):
                raise MeasurementError(f"{precision} network {key} could not be measured: {result.reason}")
            timed[key] = result
        drift = _phase(timed.values()) / of_table
        tries.append((drift, [timed[key].minimum for key in artefacts]))
        console.note(
            f"pass {number + 1}, {precision}: the drift anchor takes {drift:.3f} times what it did for the table"
        )
    best = min(tries, key=lambda tried: abs(tried[0] - 1))
    return best[1], [drift for drift, _ in tries]


def _phase(statistics: Iterable[Statistic]) -> float:
    """The median of the drift anchor's times over the table's; older tables do not tell, and count as 1."""
    return median(1.0 if s.phase_drift is None else s.phase_drift for s in statistics)


def _compared(
    costs: Costs,
    networks: Sequence[tuple[tuple[str, ...], tuple[Block, ...]]],
    passes: Sequence[Sequence[float]],
    *,
    config: Config,
) -> dict[str, Any]:
    import numpy as np

    from hwnas.cost import NetworkSample, PredictionQuality, fit_correction

    samples = [NetworkSample(blocks=n.blocks, measured=n.statistic.minimum) for n in costs.networks]
    seed, confidence = config.search.seed, config.profile.confidence
    without_pairs = fit_correction(samples, costs.entries, seed=seed, confidence=confidence)
    unpaired = np.array([without_pairs.predict(keys, costs.entries) for keys, _ in networks])
    predicted = np.array([costs.latency.predict(keys, costs.entries) for keys, _ in networks])
    measured = np.array(passes)  # (passes, n)
    mean = measured.mean(axis=0)
    sums = np.array([sum(costs.entries[key] for key in keys) for keys, _ in networks])
    quality: dict[str, PredictionQuality] = {
        "prediction": PredictionQuality.of(predicted, mean),
        "prediction_without_pairs": PredictionQuality.of(unpaired, mean),
        "prediction_of_one_pass": PredictionQuality.of(predicted, measured[0]),
        "plain_sum": PredictionQuality.of(sums, mean),
        "repeatability": PredictionQuality.of(measured[1], measured[0]),
    }
    return {
        **{name: asdict(q) for name, q in quality.items()},
        "cuts_ms": dict(costs.latency.cuts),
        "within_upper_bound": float((mean <= predicted * costs.latency.upper_ratio).mean()),
        "networks": [
            {"predicted_ms": float(p), "measured_ms": [float(x) for x in m]}
            for p, m in zip(predicted, measured.T, strict=True)
        ],
    }


def _figures(name: str, result: Mapping[str, Any], *, targets: tuple[float, float]) -> list[Figure]:
    """The targets are those of the mean error and of the networks within 10 %, in percent."""
    prediction, repeated = result["prediction"], result["repeatability"]
    return [
        Figure(name=f"{name}_networks", value=prediction["n"]),
        Figure(name=f"{name}_mean_error_percent", value=prediction["mean_abs_error_percent"], at_most=targets[0]),
        Figure(name=f"{name}_within_10_percent", value=100 * prediction["within_10"], at_least=targets[1]),
        Figure(name=f"{name}_within_5_percent", value=100 * prediction["within_5"]),
        Figure(name=f"{name}_largest_error_percent", value=prediction["max_abs_error_percent"]),
        Figure(name=f"{name}_kendall_tau", value=prediction["kendall_tau"], at_least=0.9),
        Figure(
            name=f"{name}_mean_error_without_pairs", value=result["prediction_without_pairs"]["mean_abs_error_percent"]
        ),
        Figure(name=f"{name}_below_upper_bound_percent", value=100 * result["within_upper_bound"]),
        Figure(name=f"{name}_mean_error_of_one_pass", value=result["prediction_of_one_pass"]["mean_abs_error_percent"]),
        Figure(name=f"{name}_plain_sum_mean_error_percent", value=result["plain_sum"]["mean_abs_error_percent"]),
        Figure(name=f"{name}_measurement_repeats_to_percent", value=repeated["mean_abs_error_percent"]),
        Figure(name=f"{name}_measurement_repeats_within_5_percent", value=100 * repeated["within_5"]),
    ]


if __name__ == "__main__":
    script(main)
