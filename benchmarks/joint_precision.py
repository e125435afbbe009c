"""Architecture and precision searched together, against the largest network in fp32 at about its accuracy.

The claim of SimQ-NAS (Sridhar et al., 2023), at the scale of the supernet that ships: the fastest network whose
accuracy on validation images is at most 0.3 points below that of the largest one in fp32, both deployed on the runtime
and measured. Accuracies shown are of all test images; these chose nothing.
"""

from __future__ import annotations

import argparse
import math
import tempfile
from collections.abc import Mapping, Sequence
from typing import TYPE_CHECKING, Any

from _common import SMOKE, Benchmark, Figure, script

from hwnas.config import Config
from hwnas.precisions import EXACT

if TYPE_CHECKING:
    from hwnas._console import Console
    from hwnas.deployment import Manifest
    from hwnas.search import Study
    from hwnas.types import Option

_LOST = 0.003  # of accuracy
_FASTER, _SMALLER = 3.0, 3.4  # what the paper claims


def main(argv: Sequence[str] | None = None) -> int:
    """Run the program; returns its exit status."""
    parser = argparse.ArgumentParser(description=__doc__)
    parser.add_argument("--supernet", default="zoo:cifar10-mobilenet", help="(zoo:cifar10-mobilenet)")
    parser.add_argument("--data", metavar="SOURCE", help="images of its classes; those that come with it if left out")
    parser.add_argument("--device", default="cpu", help="(cpu)")
    parser.add_argument("--trials", type=int, default=120, help="networks to evaluate (120)")
    parser.add_argument("--validation", type=int, default=5000, help="images to rank them by (5,000)")
    parser.add_argument("--output", metavar="FOLDER", default="runs/joint-precision", help="of the run")
    bench = Benchmark("joint_precision", parser, argv)
    o = bench.options
    values: dict[str, object] = {
        "train.supernet": o.supernet,
        "space.precisions": ["fp32", "int8"],
        "device.name": o.device,
        "search.n_trials": o.trials,
        "search.validation_samples": o.validation,
        "deploy.finetune_steps": 0,
        "output.folder": o.output,
    }
    with tempfile.TemporaryDirectory(prefix="hwnas-joint-precision-") as scratch:
        if bench.smoke:
            values = {**SMOKE, "space.precisions": ["fp32", "int8"], "output.folder": scratch}
        if o.data:
            values["data.source"] = o.data
        config = Config().replaced(values)
        largest, chosen = (m for m in deployed(config, lost=1.0 if bench.smoke else _LOST, console=bench.console))
    return bench.publish(_figures(largest, chosen), details={"largest": _details(largest), "chosen": _details(chosen)})


def deployed(config: Config, *, lost: float, console: Console) -> list[Manifest]:
    """The largest network in fp32, and the fastest that is as accurate but for so much, on the device."""
    from hwnas import pipeline
    from hwnas.search import load_study
    from hwnas.workspace import Workspace

    for stage in (pipeline.train, pipeline.profile, pipeline.search):
        stage(config, console=console)
    work = Workspace(config)
    whole = work.space.decode(work.space.largest())
    largest = {name: EXACT if name.endswith("precision") else option for name, option in whole.items()}
    first = pipeline.export_network(config, largest, console=console).manifest
    chosen = _fastest(load_study(work.study), wanted=first.accuracy.validation_torch - lost)
    return [first, pipeline.export_network(config, chosen, console=console).manifest]


def _fastest(study: Study, *, wanted: float) -> Mapping[str, Option]:
    trials = [study.trial_at(row) for row in range(len(study))]
    enough = [t for t in trials if t.values[study.ranked_by] >= wanted and math.isfinite(t.values["latency_ms"])]
    return min(enough, key=lambda t: t.values["latency_ms"]).architecture


def _figures(largest: Manifest, chosen: Manifest) -> list[Figure]:
    ms = [m.measured.latency_ms.minimum for m in (largest, chosen)]
    sizes = [m.artefact.size_bytes for m in (largest, chosen)]
    accuracies = [m.accuracy.test_runtime for m in (largest, chosen)]
    return [
        Figure(name="times_as_fast", value=ms[0] / ms[1], at_least=_FASTER),
        Figure(name="times_smaller", value=sizes[0] / sizes[1], at_least=_SMALLER),
        Figure(name="test_points_lost", value=100 * (accuracies[0] - accuracies[1]), at_most=100 * _LOST),
        Figure(name="largest_test_accuracy_percent", value=100 * accuracies[0]),
        Figure(name="chosen_test_accuracy_percent", value=100 * accuracies[1]),
        Figure(name="largest_ms", value=ms[0]),
        Figure(name="chosen_ms", value=ms[1]),
        Figure(name="test_images", value=chosen.accuracy.n_test),
    ]


def _details(manifest: Manifest) -> dict[str, Any]:
    return {"architecture": dict(manifest.architecture), "blocks": list(manifest.blocks)}


if __name__ == "__main__":
    script(main)
