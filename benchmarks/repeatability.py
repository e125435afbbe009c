"""Which statistic of a latency repeats: whole networks, timed again and again, each time loaded anew.

Prints how far each statistic of one pass lies from its median over the passes, on average and at worst, for plain times
and for times divided by the drift anchor's. All statistics of a pass are of the same rounds. What a table promises
must be something that repeats.
"""

from __future__ import annotations

import argparse
import dataclasses
import statistics
import tempfile
import time
from collections.abc import Callable, Mapping, Sequence
from pathlib import Path
from typing import TYPE_CHECKING

from _common import Benchmark, Figure, script

if TYPE_CHECKING:
    from hwnas.measure import RoundTimes
    from hwnas.types import Artefact

PRECISIONS = ("fp32", "int8")
Times = dict[str, float]


def main(argv: Sequence[str] | None = None) -> int:
    """Run the program; returns its exit status."""
    parser = argparse.ArgumentParser(description=__doc__)
    parser.add_argument("--space", default="mobilenet-tiny", help="preset (mobilenet-tiny)")
    parser.add_argument("--networks", type=int, default=8, help="of each precision (8)")
    parser.add_argument("--passes", type=int, default=14, help="over all networks (14)")
    parser.add_argument("--pause-s", type=float, default=2.0, help="between passes (2)")
    bench = Benchmark("repeatability", parser, argv)
    options = bench.options
    space, device = ("test-tiny", "fake") if bench.smoke else (options.space, "cpu")
    passes = 3 if bench.smoke else options.passes
    networks = 2 if bench.smoke else options.networks
    times = measure(space, device, networks=networks, passes=passes, pause_s=0.0 if bench.smoke else options.pause_s)
    figures = []
    for precision in PRECISIONS:
        for name in STATISTICS:
            mean, worst = deviation_percent(times, precision, name)
            figures.append(Figure(name=f"{precision}_{name}_repeats_to_percent", value=mean))
            figures.append(Figure(name=f"{precision}_{name}_repeats_to_percent_at_worst", value=worst))
    return bench.publish(figures, details={"passes": times})


def measure(space: str, device: str, *, networks: int, passes: int, pause_s: float) -> list[dict[str, Times]]:
    """One mapping a pass: network -> its statistics, in milliseconds or as a share of the anchor."""
    import numpy as np

    from hwnas import registry
    from hwnas.devices import load_device
    from hwnas.measure import TimingSettings, time_rounds
    from hwnas.supernet.untrained import drift_anchor, untrained_network

    described = load_device(device)
    runtime, exporter = registry.load("runtimes", described.runtime)(), registry.load("exporters", "onnx")()
    rng, everything = np.random.default_rng(0), registry.load("spaces", space)()
    settings = TimingSettings(rounds=41, min_rounds=41)
    with tempfile.TemporaryDirectory(prefix="hwnas-repeatability-") as folder:
        artefacts: dict[str, dict[str, Artefact]] = {}
        for p in PRECISIONS:
            artefacts[p] = {"reference": drift_anchor(p).write(exporter, Path(folder, f"{p}.onnx"))}
            part = everything.restrict(precisions=(p,))
            for i, encoding in enumerate(part.sample(networks, rng, over="encodings")):
                blocks = [b for _, b in part.named_blocks(encoding)]
                network = untrained_network(blocks, precision=p)
                artefacts[p][f"{p} {i}"] = network.write(exporter, Path(folder, f"{p}-{i}.onnx"))
        found: list[dict[str, Times]] = []
        for number in range(passes):
            found.append({})
            for of in artefacts.values():
                sessions = {key: runtime.load(artefact, described) for key, artefact in of.items()}
                changed = dataclasses.replace(settings, seed=number)
                rng = np.random.default_rng(number)
                timed = time_rounds(sessions, anchor="reference", settings=changed, rng=rng)
                found[-1] |= {k: {n: f(timed, k) for n, f in STATISTICS.items()} for k in of if k != "reference"}
                for session in sessions.values():
                    session.__exit__(None, None, None)
            time.sleep(pause_s)
    return found


def _median_of_ratios(times: RoundTimes, key: str) -> float:
    import numpy as np

    return float(np.median(times.samples_ms[key] / times.anchor_ms[key]))


def _minimum_in_phase(times: RoundTimes, key: str) -> float:
    """What `Statistic.minimum` is made of."""
    from hwnas.measure.phases import minimum_in_phase

    found = minimum_in_phase(times.minima_ms[key], times.around_ms[key])
    return found.candidate_ms / found.anchor_ms


STATISTICS: Mapping[str, Callable[[RoundTimes, str], float]] = {
    "median": lambda times, key: statistics.median(times.samples_ms[key].tolist()),
    "median_of_ratios": _median_of_ratios,
    "minimum": lambda times, key: float(times.minima_ms[key].min()),
    "ratio_of_minima": lambda times, key: float(times.minima_ms[key].min() / times.around_ms[key].min()),
    "minimum_in_phase": _minimum_in_phase,
}


def deviation_percent(passes: Sequence[Mapping[str, Times]], precision: str, statistic: str) -> tuple[float, float]:
    """Distance of a statistic from its median over the passes in percent, of a precision's networks: mean, largest."""
    import numpy as np

    keys = [k for k in passes[0] if k.startswith(precision)]
    values = np.array([[p[k][statistic] for p in passes] for k in keys])  # (networks, passes)
    distances = 100 * np.abs(values / np.median(values, axis=1, keepdims=True) - 1)
    return float(distances.mean()), float(distances.max())


if __name__ == "__main__":
    script(main)
