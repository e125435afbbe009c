"""The pictures of the pages about concepts: schemes, and figures of a real run, table and machine.

Takes the folder of a finished run (that of the quick start does). The drift anchor and a network are timed for half
a minute, for a third of it beside processes that multiply matrices, two for each core.
"""

from __future__ import annotations

import argparse
import itertools
import json
import multiprocessing
import os
import tempfile
import time
from collections.abc import Callable, Sequence
from pathlib import Path
from typing import TYPE_CHECKING

import _schemes
from _common import RESULTS, ROOT, Benchmark, Figure, run_folder, script

from hwnas.report.palette import LIGHT

if TYPE_CHECKING:
    from matplotlib.axes import Axes
    from matplotlib.figure import Figure as Drawing

    from hwnas._console import Console
    from hwnas.search import Study
    from hwnas.workspace import Workspace

PICTURES = ROOT / "docs" / "images" / "concepts"
_TIMED_S = 30.0  # by the anchor and a network in turns; the second third of it beside busy processes


def main(argv: Sequence[str] | None = None) -> int:
    """Run the program; returns its exit status."""
    parser = argparse.ArgumentParser(description=__doc__)
    parser.add_argument("run", type=Path, nargs="?", metavar="RUN_FOLDER", help="a finished run")
    parser.add_argument("--folder", type=Path, default=PICTURES, help="of the pictures (docs/images/concepts)")
    bench = Benchmark("draw_concepts", parser, argv)
    o = bench.options
    with run_folder(o.run, smoke=bench.smoke) as run, tempfile.TemporaryDirectory(prefix="hwnas-concepts-") as scratch:
        folder = Path(scratch, "pictures") if bench.smoke else o.folder
        if bench.smoke:
            _deploy(run, bench.console)
        seconds = 0.6 if bench.smoke else _TIMED_S
        drawn: dict[str, Callable[[], Drawing]] = {
            "supernet": _schemes.supernet,
            "elastic": _schemes.elastic,
            "quantization": _schemes.quantization,
            "latency-table": lambda: latency_table(run),
            "drift": lambda: drift(seconds),
            "bounds": bounds,
            "limits": lambda: limits(run),
            "studies": lambda: studies(run),
        }
        sizes = {name: write(make, folder / f"{name}.svg") for name, make in drawn.items()}
    return bench.publish([Figure(name=f"{name}_kilobytes", value=size / 1e3) for name, size in sizes.items()])


def _deploy(run: Path, console: Console) -> None:
    from hwnas import pipeline
    from hwnas.config import load_config

    pipeline.export(load_config(run / "config.toml"), console=console)


def write(make: Callable[[], Drawing], path: Path) -> int:
    """Draw a picture in the house's look; returns the file's size in bytes."""
    import matplotlib

    from hwnas.report._drawing import drawing_style

    path.parent.mkdir(parents=True, exist_ok=True)
    with drawing_style(), matplotlib.rc_context({"svg.hashsalt": "hwnas"}):
        make().savefig(path, metadata={"Date": None})
    return path.stat().st_size


def latency_table(run: Path) -> Drawing:
    """A deployed network: its blocks, the corrected sum with its bound, and what was measured."""
    from matplotlib.figure import Figure

    from hwnas.cost.correction import entry_of
    from hwnas.deployment import Manifest
    from hwnas.pipeline.costs import load_costs
    from hwnas.types import Block

    work = _work(run)
    costs = load_costs(work)
    manifest = Manifest.read(_deployment(run))
    blocks = [Block.from_key(key) for key in manifest.blocks]
    alone = [entry_of(b.key, costs.entries) for b in blocks]
    corrected = [costs.latency.correct(b, e) for b, e in zip(blocks, alone, strict=True)]
    figure = Figure(figsize=(7.2, 2.6), layout="constrained")
    axes = figure.add_subplot()
    measured, predicted = manifest.measured.latency_ms.minimum, manifest.predicted["latency_ms"]
    rows = {"blocks by themselves": alone, "corrected by whole networks": corrected}
    for y, (label, parts) in zip((2, 1), rows.items(), strict=True):
        _stacked(axes, y, parts)
        axes.text(sum(parts), y, f"  {sum(parts):.3f} ms", va="center", fontsize=9)
        axes.text(0, y + 0.36, label, fontsize=9, color=LIGHT["muted"])
    axes.barh(0, measured, height=0.5, color=LIGHT["good"])
    axes.text(measured, 0, f"  {measured:.3f} ms (predicted: {predicted:.3f})", va="center", fontsize=9)
    axes.text(0, 0.36, "measured as one file", fontsize=9, color=LIGHT["muted"])
    axes.set(yticks=[], xlabel="milliseconds", ylim=(-0.4, 2.7), xlim=(0, 1.3 * max(sum(alone), measured)))
    axes.spines["left"].set_visible(False)
    axes.grid(visible=False)
    return figure


def _stacked(axes: Axes, y: float, parts: Sequence[float]) -> None:
    left = 0.0
    for part, colour in zip(parts, itertools.cycle((LIGHT["int8"], LIGHT["device6"]))):
        axes.barh(y, part, left=left, height=0.5, color=colour, edgecolor="white", linewidth=0.6)
        left += part


def drift(seconds: float) -> Drawing:
    """Times of a network and of the anchor in turns, and their ratio, while other processes come and go."""
    import numpy as np
    from matplotlib.figure import Figure

    at, network, anchor = _timed(seconds)
    figure = Figure(figsize=(7.2, 3.2), layout="constrained")
    above, below = figure.subplots(2, 1, sharex=True)
    for axes in (above, below):
        axes.axvspan(seconds / 3, 2 * seconds / 3, color=LIGHT["band"], linewidth=0)
    above.plot(at, network / np.median(network), color=LIGHT["int8"], linewidth=1, label="network")
    above.plot(at, anchor / np.median(anchor), color=LIGHT["fp32"], linewidth=1, label="drift anchor")
    above.set(ylabel="time,\nover its median")
    above.legend(loc="upper left", ncols=2, fontsize=9)
    above.text(seconds / 2, above.get_ylim()[1], "other processes run", ha="center", va="top", fontsize=9)
    ratio = network / anchor
    below.plot(at, ratio / np.median(ratio), color=LIGHT["good"], linewidth=1)
    below.set(ylabel="network over anchor,\nover its median", xlabel="seconds", ylim=(0, above.get_ylim()[1]))
    return figure


def _timed(seconds: float) -> tuple[Sequence[float], Sequence[float], Sequence[float]]:
    """Seconds since the start, and the median milliseconds of two networks in each quarter of a second."""
    import numpy as np

    from hwnas import registry
    from hwnas.devices import load_device
    from hwnas.supernet.untrained import drift_anchor, untrained_network

    device = load_device("cpu")
    runtime, exporter = registry.load("runtimes", device.runtime)(), registry.load("exporters", "onnx")()
    space = registry.load("spaces", "mobilenet-mini")().restrict(precisions=("fp32",))
    blocks = [b for _, b in space.named_blocks(space.largest())]
    spawn = multiprocessing.get_context("spawn")
    with tempfile.TemporaryDirectory(prefix="hwnas-drift-") as folder:
        files = [
            untrained_network(blocks, precision="fp32").write(exporter, Path(folder, "network.onnx")),
            drift_anchor("fp32").write(exporter, Path(folder, "anchor.onnx")),
        ]
        sessions = [runtime.load(file, device) for file in files]
        others = 2 * (os.cpu_count() or 1)
        busy = [spawn.Process(target=_multiply, args=(seconds / 3,), daemon=True) for _ in range(others)]
        rows: list[tuple[float, float, float]] = []
        samples: list[list[float]] = [[], []]
        began = told = time.monotonic()
        while (now := time.monotonic()) - began < seconds:
            if busy[0].pid is None and now - began > seconds / 3:
                for process in busy:
                    process.start()
            for session, times in zip(sessions, samples, strict=True):
                times.append(1e-6 * session.time_ns(iterations=4) / 4)
            if now - told > seconds / 120:
                rows.append((now - began, *(float(np.median(times)) for times in samples)))
                samples, told = [[], []], now
        for process in busy:
            process.join()
        for session in sessions:
            session.__exit__(None, None, None)
    at, network, anchor = np.array(rows).T
    return at, network, anchor


def _multiply(seconds: float) -> None:
    """Keep a core and the memory busy."""
    import numpy as np
    from threadpoolctl import threadpool_limits

    matrix = np.ones((1500, 1500), dtype=np.float32)
    until = time.monotonic() + seconds
    with threadpool_limits(1):
        while time.monotonic() < until:
            matrix = matrix @ matrix / 1500


def bounds() -> Drawing:
    """Predicted against measured latency of networks that no fit has seen, from the result of `prediction.py`."""
    import numpy as np
    from matplotlib.figure import Figure

    found = json.loads((RESULTS / "prediction.json").read_text())["details"]
    of_device = next(iter(found.values()))["int8"]
    predicted = np.array([n["predicted_ms"] for n in of_device["networks"]])
    measured = np.array([n["measured_ms"][0] for n in of_device["networks"]])  # and once more, to see how it repeats
    ratio = float(np.quantile(measured / predicted, 0.9))
    figure = Figure(figsize=(7.2, 3.0), layout="constrained")
    axes = figure.add_subplot()
    axes.axhline(1.0, color=LIGHT["muted"], linewidth=1, label="measured = predicted")
    axes.axhline(ratio, linestyle="--", color=LIGHT["chosen"], linewidth=1.2, label="9 of 10 stay under")
    axes.plot(predicted, measured / predicted, "o", color=LIGHT["int8"], markersize=4, label="a network")
    axes.set(xlabel="predicted latency (ms)", ylabel="measured, over predicted", ylim=(0.9, 1.1))
    figure.legend(loc="outside upper left", ncols=3, fontsize=9)
    return figure


def limits(run: Path) -> Drawing:
    """The front of a run's study, its limits and the network that was deployed."""
    from hwnas.deployment import Manifest
    from hwnas.report.figures import front_figure

    manifest = Manifest.read(_deployment(run))
    study = _study(run)
    trial = int(manifest.provenance["trial"])
    asked = {name: limit for name, limit in manifest.limits.items() if name == "latency_ms"}
    return front_figure(study, trial=trial, limits=asked)


def studies(run: Path) -> Drawing:
    """Networks in the order they were evaluated, and the area under their front so far."""
    import numpy as np
    from matplotlib.figure import Figure

    from hwnas.search.measures import hypervolumes

    study = _study(run)
    latency, accuracy = study.values["latency_ms"], study.values[study.ranked_by]
    order = np.argsort(study.numbers)
    points = np.stack([latency[order], -accuracy[order]], axis=1)
    area = hypervolumes(points, reference=(float(latency.max()), -float(accuracy.min())))
    figure = Figure(figsize=(7.2, 2.8), layout="constrained")
    left, right = figure.subplots(1, 2)
    dots = left.scatter(latency[order], 100 * accuracy[order], c=np.arange(len(order)), cmap="viridis", s=14)
    figure.colorbar(dots, ax=left, label="evaluation")
    left.set(xlabel="latency (ms)", ylabel="validation accuracy (%)")
    right.step(1 + np.arange(len(area)), area / area[-1], where="post", color=LIGHT["int8"])
    right.set(xlabel="evaluations", ylabel="area under the front,\nshare of the last", ylim=(0, 1.05))
    return figure


def _work(run: Path) -> Workspace:
    from hwnas.config import load_config
    from hwnas.workspace import Workspace

    return Workspace(load_config(run / "config.toml"))


def _deployment(run: Path) -> Path:
    return next(p.parent for p in sorted(run.glob("deployments/*/manifest.json")))


def _study(run: Path) -> Study:
    from hwnas.search import load_study

    return load_study(_work(run).study)


if __name__ == "__main__":
    script(main)
