"""Which statistic of a latency repeats: whole networks, timed again and again, each time loaded anew.

Prints how far each statistic of one pass lies from its median over the passes, for plain times and for times
divided by the reference network's. What a table promises must be something that repeats.
"""

from __future__ import annotations

import argparse
import dataclasses
import tempfile
import time
from collections.abc import Callable, Mapping, Sequence
from pathlib import Path
from typing import Any

from _common import Benchmark, Figure, script

PRECISIONS = ("fp32", "int8")


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
        found = {name: deviation_percent(times, precision, statistic) for name, statistic in STATISTICS.items()}
        figures += [Figure(name=f"{precision}_{name}_repeats_to_percent", value=value) for name, value in found.items()]
    return bench.publish(figures, details={})


def measure(space: str, device: str, *, networks: int, passes: int, pause_s: float) -> list[dict[str, list[float]]]:
    """One mapping a pass: key -> time of one run in milliseconds, in each of its visits."""
    import numpy as np

    from hwnas import registry
    from hwnas.devices import load_device
    from hwnas.measure import TimingSettings, time_rounds

    described = load_device(device)
    runtime, exporter = registry.load("runtimes", described.runtime)(), registry.load("exporters", "onnx")()
    rng, everything = np.random.default_rng(0), registry.load("spaces", space)()
    settings = TimingSettings(rounds=41, min_rounds=41)
    with tempfile.TemporaryDirectory(prefix="hwnas-repeatability-") as folder:
        artefacts = {}
        for p in PRECISIONS:
            artefacts[f"{p} reference"] = exporter.reference_artefact(Path(folder, f"{p}.onnx"), precision=p)
            part = everything.restrict(precisions=(p,))
            for i, encoding in enumerate(part.sample(networks, rng, over="encodings")):
                blocks = [b for _, b in part.named_blocks(encoding)]
                artefacts[f"{p} {i}"] = exporter.export_sample(blocks, Path(folder, f"{p}-{i}.onnx"), precision=p)
        found = []
        for number in range(passes):
            sessions = {key: runtime.load(artefact, described) for key, artefact in artefacts.items()}
            changed = dataclasses.replace(settings, seed=number)
            timed = time_rounds(sessions, reference=None, settings=changed, rng=np.random.default_rng(number))
            found.append(
                {key: [timed.fastest_ms[key], *map(float, samples)] for key, samples in timed.samples_ms.items()}
            )
            for session in sessions.values():
                session.__exit__(None, None, None)
            time.sleep(pause_s)
    return found


def _median(times: Sequence[float], reference: Sequence[float]) -> float:
    import numpy as np

    return float(np.median(times[1:]))


def _median_of_ratios(times: Sequence[float], reference: Sequence[float]) -> float:
    import numpy as np

    return float(np.median(np.array(times[1:]) / np.array(reference[1:])))


STATISTICS: Mapping[str, Callable[[Sequence[float], Sequence[float]], float]] = {
    "median": _median,
    "median_of_ratios": _median_of_ratios,
    "fastest": lambda times, reference: times[0],
    "ratio_of_fastest": lambda times, reference: times[0] / reference[0],
}


def deviation_percent(passes: Sequence[Mapping[str, Sequence[float]]], precision: str, statistic: Any) -> float:
    """Mean distance of a statistic from its median over the passes, over all networks of a precision, in percent."""
    import numpy as np

    keys = [k for k in passes[0] if k.startswith(precision) and not k.endswith("reference")]
    values = np.array(
        [[statistic(p[k], p[f"{precision} reference"]) for p in passes] for k in keys]
    )  # (networks, passes)
    return float(100 * np.abs(values / np.median(values, axis=1, keepdims=True) - 1).mean())


if __name__ == "__main__":
    script(main)
