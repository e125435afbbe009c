"""Whether sub-networks ship as the supernet has them: six of them in torch in fp32, and in int8 on each runtime.

The smallest, a middle, the largest and three random networks are taken as they are, with the ranges that were learned
with the weights where `train.quantized_fraction` says so, else calibrated, on all test images. `--tune` adds what
quantization-aware steps gain, `--alone` what the same networks reach that are trained by themselves, with the same
recipe for as many steps. The supernet is trained first, or found trained.
"""

from __future__ import annotations

import argparse
import copy
import tempfile
from collections.abc import Iterator, Mapping, Sequence
from dataclasses import replace
from pathlib import Path
from typing import TYPE_CHECKING, Any

from _common import SMOKE, Benchmark, Figure, script
from parity import compared

from hwnas.config import Config, load_config
from hwnas.types import IntArray, Option, ProgressCallback, TrainTarget

if TYPE_CHECKING:
    import numpy as np

    from hwnas._console import Console
    from hwnas.accuracy import SubnetEvaluator
    from hwnas.measure import Worker
    from hwnas.spaces import Space
    from hwnas.supernet.subnetwork import SubNetwork
    from hwnas.workspace import Workspace

_MOST_LOST = 0.005  # of accuracy, by int8
_MOST_GAINED = 0.003  # by tuning, where it is not needed
_MOST_BEHIND = 0.005  # of the same network trained by itself


def main(argv: Sequence[str] | None = None) -> int:
    """Run the program; returns its exit status."""
    parser = argparse.ArgumentParser(description=__doc__)
    parser.add_argument("config", type=Path, nargs="?", help="of the run (train_supernet.toml)")
    parser.add_argument("--supernet", metavar="NAME", help="one that is trained: zoo:NAME or a folder")
    parser.add_argument("--data", metavar="SOURCE", help="as [data] source has it; as the configuration if left out")
    parser.add_argument("--output", metavar="FOLDER", help="of the run; as the configuration has it if left out")
    parser.add_argument("--device", action="append", help="may be repeated (cpu cpu-litert)")
    parser.add_argument("--test-samples", type=int, help="test images; all if left out")
    parser.add_argument("--tune", type=int, default=0, metavar="STEPS", help="quantization-aware steps (0: none)")
    parser.add_argument("--alone", action="store_true", help="train the same networks by themselves as well")
    bench = Benchmark("train_supernet", parser, argv)
    o = bench.options
    config = load_config(o.config or Path(__file__).with_suffix(".toml"))
    if o.supernet:
        folder = f"runs/train-supernet-{Path(o.supernet.removeprefix('zoo:')).name}"
        config = Config().replaced({"train.supernet": o.supernet, "output.folder": folder})
    asked = {"data.source": o.data, "output.folder": o.output}
    config = config.replaced({key: value for key, value in asked.items() if value})
    devices, samples, tune = o.device or ["cpu", "cpu-litert"], o.test_samples, o.tune
    with tempfile.TemporaryDirectory(prefix="hwnas-train-supernet-") as folder:
        if bench.smoke:
            precisions = {"space.precisions": None, "train.quantized_fraction": 0.5}
            config = config.replaced({**SMOKE, **precisions, "output.folder": folder})
            devices, samples, tune = ["fake"], 50, 1
        rows = compare(config, devices, samples=samples, tune=tune, alone=o.alone or bench.smoke, console=bench.console)
    return bench.publish(_figures(rows, devices), details={"networks": rows, "configuration": config.to_toml()})


def compare(
    config: Config, devices: Sequence[str], *, samples: int | None, tune: int, alone: bool, console: Console
) -> list[dict[str, Any]]:
    """Accuracies on test images of six networks in all their forms.

    Args:
        config: of the run.
        devices: on whose runtimes the integers are computed.
        samples: test images; None: all.
        tune: quantization-aware steps.
        alone: whether they are trained by themselves, too.
        console: shows the progress.
    """
    from hwnas.measure import Worker
    from hwnas.pipeline.training import train
    from hwnas.pipeline.workers import make_evaluator
    from hwnas.torch_process import prepare_torch
    from hwnas.workspace import Workspace

    train(config, console=console)
    prepare_torch(config.train.threads)
    rows = [{"network": name, **found} for name, found in _networks(Workspace(config).training_space)]
    for device in devices:
        work = Workspace(config.replaced({"device.name": device}))
        evaluator = make_evaluator(work)
        test = list(work.stream("test").unaugmented(samples))
        with Worker(work.device) as worker, console.progress(f"networks on {device}") as progress:
            work.found_on(worker.context())
            for i, row in enumerate(rows):
                _on_device(work, evaluator, worker, test, row, device=device)
                if tune and device == devices[0]:
                    row["tuned"] = _tuned(work, evaluator, worker, test, row, steps=tune)
                progress(i + 1, len(rows), row["network"])
    if alone:
        for row in rows:
            row["alone"] = _alone(work, test, row, console=console)
    return rows


def _networks(space: Space) -> Iterator[tuple[str, dict[str, Any]]]:
    """Name -> architecture without precisions."""
    import numpy as np

    middle: IntArray = np.array([len(c.options) // 2 for c in space.choices])
    drawn = space.sample(3, np.random.default_rng(1), over="encodings")
    named = {"smallest": space.smallest(), "middle": space.canonical(middle), "largest": space.largest()}
    for name, encoding in [*named.items(), *((f"random {i}", e) for i, e in enumerate(drawn))]:
        chosen = {k: v for k, v in space.decode(encoding).items() if not k.endswith("precision")}
        yield name, {"architecture": chosen}


def _blocks(work: Workspace, row: Mapping[str, Any], precision: str) -> Any:
    space = work.training_space.restrict(precisions=(precision,)).computed_in(work.computed)
    architecture: Mapping[str, Option] = row["architecture"]
    return space.named_blocks(space.encode({k: v for k, v in architecture.items() if k in _names(space)}))


def _names(space: Space) -> frozenset[str]:
    return frozenset(c.name for c in space.choices)


def _on_device(
    work: Workspace, evaluator: SubnetEvaluator, worker: Worker, test: Any, row: dict[str, Any], *, device: str
) -> None:
    """Accuracies of one network: in floats in torch, in integers there and on the runtime, ranges learned and not."""
    if "fp32" not in row:
        floats = evaluator.extract(_blocks(work, row, "fp32"))
        row["fp32"] = accuracy_of(floats, test)
    integers = evaluator.extract(_blocks(work, row, "int8"))
    ways: list[tuple[str, SubNetwork]] = [("int8", integers)]
    if integers.ranges is not None:
        calibrated = copy.deepcopy(integers)
        calibrated.ranges = None
        ways.append(("int8_calibrated", evaluator.recalibrate(calibrated)))
    for way, network in ways:
        ships = evaluator.quantize(network)
        found = compared(work, worker, ships, test, in_shape=network.in_shape, precision="int8")
        row[f"{way}_{device}_torch"] = found["int8_accuracy_torch"]
        row[f"{way}_{device}"] = found["int8_accuracy_runtime"]


def _tuned(
    work: Workspace, evaluator: SubnetEvaluator, worker: Worker, test: Any, row: Mapping[str, Any], *, steps: int
) -> float:
    """Accuracy on the runtime after quantization-aware steps, as a deployment takes them."""
    from hwnas.supernet.finetuning import finetune

    c = work.config
    network = evaluator.extract(_blocks(work, row, "int8"))
    ships = evaluator.quantize(network)
    finetune(
        ships,
        work.stream("train", batch_size=c.train.batch_size, augmented=True),
        in_shape=network.in_shape,
        task=work.task,
        steps=steps,
        learning_rate=c.deploy.finetune_learning_rate,
        teacher=evaluator.extract(_blocks(work, {"architecture": _largest(work)}, "fp32")),
    )
    found = compared(work, worker, ships, test, in_shape=network.in_shape, precision="int8")
    return found["int8_accuracy_runtime"]


def _largest(work: Workspace) -> Mapping[str, Option]:
    return work.training_space.decode(work.training_space.largest())


def _alone(work: Workspace, test: Any, row: Mapping[str, Any], *, console: Console) -> float:
    """Accuracy in floats of the same network trained by itself."""
    space = work.training_space.restrict(precisions=("fp32",))
    encoding = space.encode({k: v for k, v in row["architecture"].items() if k in _names(space)})
    with console.progress(f"{row['network']} alone") as progress:
        return accuracy_of(Alone(work, space).trained(encoding, progress=progress), test)


class Alone:
    """Trains networks by themselves: as many steps of one alone as the run's supernet takes, the same settings.

    Args:
        work: of the run.
        space: its networks in floats.
    """

    def __init__(self, work: Workspace, space: Space) -> None:
        self._work, self._space = work, space

    def trained(self, encoding: IntArray, *, progress: ProgressCallback) -> SubNetwork:
        """One network with the averaged weights of its training, recalibrated."""
        import torch

        from hwnas.accuracy import SubnetEvaluator
        from hwnas.pipeline.training import settings_of
        from hwnas.supernet.elastic import Supernet
        from hwnas.supernet.training import Trainer
        from hwnas.torch_process import training_device

        work, space, c = self._work, self._space, self._work.config.train
        torch.manual_seed(c.seed)
        supernet = Supernet(space)
        trainer = Trainer(
            supernet,
            work.stream("train", batch_size=c.batch_size, augmented=True),
            strategy=_Only(encoding),
            named_blocks=space.named_blocks,
            settings=replace(settings_of(work), quantized_fraction=0.0),
            task=work.task,
            device=training_device(),
        )
        trainer.run(progress=progress)
        trainer.take_averages_()
        train, validation = work.stream("train"), work.stream("validation")
        evaluator = SubnetEvaluator(supernet.cpu().eval(), train=train, validation=validation, validation_samples=1)
        return evaluator.extract(space.named_blocks(encoding))


class _Only:
    """Trains one network."""

    def __init__(self, encoding: IntArray) -> None:
        self.encoding = encoding

    def architectures(self, step: int, rng: np.random.Generator) -> Sequence[TrainTarget]:
        return [TrainTarget(encoding=self.encoding)]


def accuracy_of(network: SubNetwork, test: Any) -> float:
    """Share of the images of some batches that a network in floats tells right."""
    import torch

    from hwnas.data.tensors import fit

    with torch.inference_mode():
        right = sum(int((network(fit(x, network.in_shape)).argmax(1) == y).sum()) for x, y in test)
    return right / sum(len(y) for _, y in test)


def _figures(rows: Sequence[Mapping[str, Any]], devices: Sequence[str]) -> list[Figure]:
    figures = [Figure(name=f"fp32_accuracy_{row['network'].replace(' ', '_')}", value=row["fp32"]) for row in rows]
    for device in devices:
        for way in ("int8", "int8_calibrated"):
            lost = [row["fp32"] - row[f"{way}_{device}"] for row in rows if f"{way}_{device}" in row]
            if lost:
                limit = _MOST_LOST if way == "int8" else None
                figures += [
                    Figure(name=f"lost_by_{way}_on_{device}_most", value=max(lost), at_most=limit),
                    Figure(name=f"lost_by_{way}_on_{device}_mean", value=sum(lost) / len(lost)),
                ]
    gained = [row["tuned"] - row[f"int8_{devices[0]}"] for row in rows if "tuned" in row]
    if gained:
        figures += [
            Figure(name="gained_by_tuning_most", value=max(gained), at_most=_MOST_GAINED),
            Figure(name="gained_by_tuning_mean", value=sum(gained) / len(gained)),
        ]
    behind = [row["alone"] - row["fp32"] for row in rows if "alone" in row]
    if behind:
        figures += [
            Figure(name="behind_alone_most", value=max(behind), at_most=_MOST_BEHIND),
            Figure(name="behind_alone_mean", value=sum(behind) / len(behind), at_most=0.0),
        ]
    return figures


if __name__ == "__main__":
    script(main)
