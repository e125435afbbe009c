"""How a given network's supernet is best trained: statistics of normalisation, and what smaller networks learn from.

MLPerf Tiny's ResNet8 on CIFAR-10, one pass over the training images for each way, from the same weights and in the same
order: statistics computed anew for each network or frozen as they were given, and learning from the given network's
answers alone or from what its regions hand on as well. The same sub-networks of each are evaluated on the test images,
in floats. Accuracies, and seconds a step beside whatever else runs.
"""

from __future__ import annotations

import argparse
import json
import statistics
import tempfile
import time
from collections.abc import Mapping, Sequence
from pathlib import Path
from typing import TYPE_CHECKING, Any

import numpy as np
from _common import Benchmark, Figure, script
from _resnet8_runs import configured, smoke_config

if TYPE_CHECKING:
    from hwnas.config import Config
    from hwnas.types import IntArray
    from hwnas.workspace import Workspace

# way -> what it changes; features with weights at which they are about as large as the loss on answers, and a tenth
WAYS: Mapping[str, Mapping[str, object]] = {
    "answers": {},
    "frozen": {"train.batch_norm": "frozen"},
    "features": {"train.feature_weight": 1.0},
    "features_tenth": {"train.feature_weight": 0.1},
}
_RANDOM = 6  # networks between the smallest and the largest


def main(argv: Sequence[str] | None = None) -> int:
    """Run the program; returns its exit status."""
    parser = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    parser.add_argument("--data", metavar="SOURCE", help="CIFAR-10, as [data] source has it: npz:cifar10.npz")
    parser.add_argument("--weights", metavar="FILE", help="of the network, see _tiny_networks.trained_resnet8")
    parser.add_argument("--epochs", type=float, default=1.0, help="of each training (1)")
    parser.add_argument("--threads", type=int, default=1, help="of training (1)")
    parser.add_argument("--ways", nargs="+", choices=WAYS, default=list(WAYS), help="(all)")
    parser.add_argument("--kept", type=Path, metavar="FOLDER", help="where runs are kept, and gone on with")
    bench = Benchmark("adapt_training", parser, argv)
    figures, details = [], {}
    with tempfile.TemporaryDirectory(prefix="hwnas-training-") as temporary:
        folder = bench.options.kept or Path(temporary)
        if bench.smoke:
            config = smoke_config(Path(temporary))
        else:
            options = bench.options
            config = configured(options.data, options.weights).replaced(
                {"train.epochs": options.epochs, "train.threads": options.threads}
            )
        for way in bench.options.ways[:1] if bench.smoke else bench.options.ways:
            place = folder / f"{way}-{bench.options.epochs:g}"
            found = _trained(config.replaced({**WAYS[way], "output.folder": str(place)}), bench)
            details[way] = found
            accuracies = found["accuracies"]
            figures += [
                Figure(name=f"{way}_{name}_percent", value=100 * accuracies[name]) for name in ("largest", "smallest")
            ]
            others = [100 * a for name, a in accuracies.items() if name.startswith("random")]
            figures += [
                Figure(name=f"{way}_mean_of_{len(others)}_random_percent", value=statistics.mean(others)),
                Figure(name=f"{way}_s_per_step", value=found["s_per_step"]),
            ]
    return bench.publish(figures, details=details)


def _trained(config: Config, bench: Benchmark) -> dict[str, Any]:
    """Accuracies of sub-networks of a supernet that was trained in one way; as they are kept, if they are."""
    from hwnas import pipeline
    from hwnas.workspace import Workspace

    kept = Path(config.output.folder, "found.json")
    if kept.exists():
        known: dict[str, Any] = json.loads(kept.read_text())
        return known
    if not Path(config.output.folder, "network.json").exists():
        pipeline.adapt(config, console=bench.console)
    resumed = any(Path(config.output.folder).glob("checkpoint*"))
    began = time.perf_counter()
    trained = pipeline.train(config, console=bench.console)
    seconds = time.perf_counter() - began
    found = {"accuracies": _accuracies(Workspace(config)), "s_per_step": None if resumed else seconds / trained.steps}
    kept.write_text(json.dumps(found))
    return found


def _accuracies(work: Workspace) -> dict[str, float]:
    """Of the same sub-networks whatever was trained, on the test images."""
    from hwnas.accuracy import SubnetEvaluator

    evaluator = SubnetEvaluator(
        work.supernet,
        train=work.stream("train"),
        validation=work.stream("test"),
        recalibration_samples=512,
        calibration_samples=1,
    )
    space = work.training_space.restrict(precisions=("fp32",))
    rng = np.random.default_rng(0)
    asked: dict[str, IntArray] = {"largest": space.largest(), "smallest": space.smallest()}
    asked |= {f"random_{i}": e for i, e in enumerate(space.sample(_RANDOM, rng, over="encodings"))}
    found = {}
    for name, encoding in asked.items():
        # as it was trained, whatever the given one would reach
        network = evaluator.recalibrate(work.supernet.extract(space.named_blocks(encoding)))
        found[name] = evaluator.score(network, in_shape=network.in_shape).value
    return found


if __name__ == "__main__":
    script(main)
