"""Tasks other than telling classes apart, the whole way: trained, searched, deployed, and scored on the runtime.

Pictures of Fashion-MNIST's items (`_composed.py`): a mask of each, by how much an item is turned, and which classes are
there. Each network is asked for within a share of the largest fp32 network's latency. Goes on from what it finds in the
folder that --kept names.
"""

from __future__ import annotations

import argparse
import os
import tempfile
from collections.abc import Mapping, Sequence
from pathlib import Path

from _common import ROOT, SMOKE, Benchmark, Figure, script

from hwnas.config import Config

SHARE = 0.6  # of the largest fp32 network's latency
_PRESETS: Mapping[str, str] = {
    "segmentation": "segment-tiny",
    "regression": "mobilenet-tiny",
    "multi_label": "mobilenet-tiny",
}
_SIDE: Mapping[str, int] = {"segmentation": 48, "regression": 32, "multi_label": 32}  # of pictures, in pixels
# optimiser and peak rate of training; of masks sgd at 0.05 to 0.4 learned more slowly
_DESCENT: Mapping[str, tuple[str, float]] = {
    "segmentation": ("adamw", 0.01),
    "regression": ("sgd", 0.05),
    "multi_label": ("sgd", 0.05),
}
_PRECISIONS: Mapping[str, list[str] | None] = {  # None: the search takes integers where they pay
    "segmentation": None,
    "regression": ["int8"],
    "multi_label": ["int8"],
}


def main(argv: Sequence[str] | None = None) -> int:
    """Run the program; returns its exit status."""
    parser = argparse.ArgumentParser(description=__doc__)
    parser.add_argument("--task", action="append", choices=list(_PRESETS), help="may be repeated (all)")
    parser.add_argument("--device", default="cpu", help="see `hwnas devices` (cpu)")
    parser.add_argument("--steps", type=int, default=2400, help="of training (2400)")
    parser.add_argument("--folder", metavar="FOLDER", help="of Fashion-MNIST's files (Debian's)")
    parser.add_argument("--kept", type=Path, metavar="FOLDER", help="where the runs are kept")
    bench = Benchmark("tasks", parser, argv)
    # where the run finds the function that gives the pictures
    os.environ["PYTHONPATH"] = os.pathsep.join(filter(None, [str(ROOT / "benchmarks"), os.environ.get("PYTHONPATH")]))
    figures, details = [], {}
    with tempfile.TemporaryDirectory(prefix="hwnas-tasks-") as temporary:
        folder = bench.options.kept or Path(temporary)
        # one shows that it works
        for task in bench.options.task or list(_PRESETS)[: 1 if bench.smoke else None]:
            bench.console.note(f"-- {task}")
            found, details[task] = whole_way(bench, configuration(bench, task, folder / task))
            figures += found
    return bench.publish(figures, details=details)


def configuration(bench: Benchmark, task: str, folder: Path) -> Config:
    """What is run for a task."""
    options = bench.options
    source = f"python:_composed:load?task={task}&side={_SIDE[task]}"
    optimizer, rate = _DESCENT[task]
    if bench.smoke:
        source += "&folder=digits&train=300&test=60"
    elif options.folder:
        source += f"&folder={options.folder}"
    asked = {
        "data.source": source,
        "task.name": task,
        "space.preset": _PRESETS[task],
        "space.resolutions": [_SIDE[task]],
        "space.precisions": _PRECISIONS[task],
        "train.steps": options.steps,
        "train.n_random": 1,
        "train.batch_size": 64,
        "train.optimizer": optimizer,
        "train.learning_rate": rate,
        "train.label_smoothing": 0.0,
        "train.ema_decay": 0.99,
        "train.threads": 1,
        "device.name": options.device,
        "search.n_trials": 120,
        "search.validation_samples": 1000,
        "deploy.finetune_steps": 200,
        "limits.latency_fraction": SHARE,
        "output.folder": str(folder),
    }
    if bench.smoke:  # the simulated networks are not that small
        unlike = {"data.source", "space.preset", "space.resolutions", "output.folder"}
        asked |= {k: v for k, v in SMOKE.items() if k not in unlike}
    return Config().replaced(asked)


def whole_way(bench: Benchmark, config: Config) -> tuple[list[Figure], dict[str, object]]:
    """Figures of a task, and the manifest of what was deployed."""
    from hwnas import pipeline

    manifest = pipeline.run_all(config, console=bench.console).to_json()["manifest"]
    task, metric, accuracy = config.task.name, config.task.metric, manifest["accuracy"]
    latency, limit = manifest["measured"]["latency_ms"], manifest["limits"]["latency_ms"]
    return [
        Figure(name=f"{task}_{metric}_fp32_percent", value=100 * accuracy["test_fp32"]),
        Figure(name=f"{task}_{metric}_runtime_percent", value=100 * accuracy["test_runtime"]),
        Figure(
            name=f"{task}_points_lost_on_runtime",
            value=100 * (accuracy["test_fp32"] - accuracy["test_runtime"]),
            at_most=1.0,
        ),
        Figure(name=f"{task}_decisions_equal_percent", value=100 * manifest["parity"]["top1_agreement"], at_least=99.5),
        Figure(name=f"{task}_latency_ms", value=latency["fastest"], at_most=limit),
        Figure(name=f"{task}_size_bytes", value=manifest["artefact"]["size_bytes"]),
    ], manifest


if __name__ == "__main__":
    script(main)
