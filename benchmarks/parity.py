"""What is exported computes what was evaluated: torch against the runtime, on the test images.

Random networks of a run's study, each in fp32 and in int8 (calibrated only), through the evaluator, the exporter and
the measuring process that deployments go through. With `--space` random networks of a preset instead, with random
weights, on digits: what they say of an image means nothing, but torch and the runtime must say the same.
"""

from __future__ import annotations

import argparse
import contextlib
import tempfile
from collections.abc import Iterator, Mapping, Sequence
from pathlib import Path
from typing import TYPE_CHECKING, Any

from _common import Benchmark, Figure, borrowed_run, run_folder, script, spread

from hwnas.config import Config
from hwnas.types import Array, Option

if TYPE_CHECKING:
    from torch import nn

    from hwnas._console import Console
    from hwnas.measure import Worker
    from hwnas.workspace import Workspace

    Forms = Iterator[tuple[str, tuple[int, ...], nn.Module]]  # precision, shape of an image, the network as it ships

PRECISIONS = ("fp32", "int8")
_PART = 1000  # images in one call of the runtime
_CALIBRATION = 64  # images, for networks with random weights


def main(argv: Sequence[str] | None = None) -> int:
    """Run the program; returns its exit status."""
    parser = argparse.ArgumentParser(description=__doc__)
    parser.add_argument("run", type=Path, nargs="?", metavar="RUN_FOLDER", help="of a run with a finished search")
    parser.add_argument("--space", metavar="PRESET", help="random networks of it instead of a run's")
    parser.add_argument("--device", action="append", help="the run's if left out; may be repeated")
    parser.add_argument("--networks", type=int, default=10, help="how many (10)")
    parser.add_argument("--test-samples", type=int, help="test images; all if left out")
    parser.add_argument("--seed", type=int, default=0, help="of the networks (0)")
    bench = Benchmark("parity", parser, argv)
    options = bench.options
    n, samples = (2, 50) if bench.smoke else (options.networks, options.test_samples)
    with _configured(options, smoke=bench.smoke) as config:
        found = {
            device: compare(
                config.part(device),
                n,
                trained=options.space is None,
                samples=samples,
                seed=options.seed,
                console=bench.console,
            )
            for device in options.device or config.device.all
        }
    figures = [figure for device, rows in found.items() for figure in _figures(device, rows)]
    return bench.publish(figures, details=found)


@contextlib.contextmanager
def _configured(options: argparse.Namespace, *, smoke: bool) -> Iterator[Config]:
    """The configuration of the run, or of one that has the space and nothing else."""
    if options.space is None:
        with run_folder(options.run, smoke=smoke) as folder, borrowed_run(folder) as config:
            yield config
        return
    devices = options.device or ["fake" if smoke else "cpu"]
    with tempfile.TemporaryDirectory(prefix="hwnas-parity-") as folder:
        values = {"data.source": "digits", "space.preset": options.space, "output.folder": folder}
        many = {"device.names": devices} if len(devices) > 1 else {"device.name": devices[0]}
        yield Config().replaced(values | many)


def compare(
    config: Config, n: int, *, trained: bool, samples: int | None, seed: int, console: Console
) -> list[dict[str, Any]]:
    """How far torch and the runtime agree on each of n random networks in both precisions.

    Args:
        config: of a run on one device.
        n: how many networks.
        trained: trials of the run's study with its weights; otherwise networks of the space with random ones.
        samples: test images; None: all.
        seed: of the networks.
        console: shows the progress.
    """
    from hwnas.measure import Worker
    from hwnas.torch_process import prepare_torch
    from hwnas.workspace import Workspace

    work = Workspace(config)
    prepare_torch(config.train.threads)
    networks = (_trained if trained else _random)(work, n, seed)
    test = list(work.stream("test").unaugmented(samples))
    rows = []
    with Worker(work.device) as worker, console.progress("networks") as progress:
        work.found_on(worker.context())  # before a network is made: what its integers are is known only there
        for name, forms in networks:
            found: dict[str, Any] = {"network": name, "trained": trained}
            for precision, in_shape, network in forms:
                found |= compared(work, worker, network, test, in_shape=in_shape, precision=precision)
            rows.append(found)
            progress(len(rows), n, name)
    return rows


def _trained(work: Workspace, n: int, seed: int) -> Iterator[tuple[str, Forms]]:
    """Trials of the run's study, as a search would have evaluated them wholly in one precision."""
    import numpy as np

    from hwnas.pipeline.workers import make_evaluator
    from hwnas.search import load_study

    study = load_study(work.study)
    evaluator = make_evaluator(work)

    def forms(architecture: Mapping[str, Option]) -> Forms:
        for precision in _precisions(work):
            space = work.training_space.restrict(precisions=(precision,)).computed_in(work.computed)
            subnetwork = evaluator.extract(space.named_blocks(space.encode(_without_precisions(architecture))))
            yield precision, subnetwork.in_shape, evaluator.quantize(subnetwork)

    for row in np.random.default_rng(seed).choice(len(study), size=min(n, len(study)), replace=False):
        trial = study.trial_at(int(row))
        yield f"trial {trial.number}", forms(trial.architecture)


def _random(work: Workspace, n: int, seed: int) -> Iterator[tuple[str, Forms]]:
    """Networks of the space with random weights; those of integers calibrated on images of the training part."""
    import numpy as np

    from hwnas.data.tensors import resize
    from hwnas.supernet.quantization import quantize
    from hwnas.supernet.untrained import random_network

    images = [x for x, _ in work.stream("train").unaugmented(_CALIBRATION, shuffled=True)]

    def forms(i: int) -> Forms:
        for precision in _precisions(work):
            rng = np.random.default_rng([seed, i])
            space = work.training_space.restrict(precisions=(precision,)).computed_in(work.computed)
            (encoding,) = space.sample(1, rng, over="encodings")
            network = random_network([b for _, b in space.named_blocks(encoding)], rng)
            yield precision, network.in_shape, quantize(network, [resize(x, network.in_shape[1:]) for x in images])

    for i in range(n):
        yield f"network {i}", forms(i)


def _precisions(work: Workspace) -> tuple[str, ...]:
    return tuple(p for p in PRECISIONS if p in work.device.precisions)


def compared(
    work: Workspace,
    worker: Worker,
    network: nn.Module,
    test: Sequence[tuple[Any, Any]],
    *,
    in_shape: tuple[int, ...],
    precision: str,
) -> dict[str, float]:
    """One network wholly in one precision, in torch and on a runtime.

    Args:
        work: of a run whose device's precisions are known.
        worker: of the device.
        network: as it ships.
        test: batches of images and labels.
        in_shape: of an image as the network takes it.
        precision: `fp32` or `int8`.
    """
    import numpy as np
    import torch

    from hwnas.data.tensors import fit
    from hwnas.pipeline.parity import compare as compare_outputs

    images = [fit(x, in_shape).contiguous() for x, _ in test]
    labels: Array = torch.cat([y for _, y in test]).numpy()
    with torch.inference_mode():
        expected: Array = torch.cat([network(x) for x in images]).numpy()
    inputs: Array = torch.cat(images).numpy()
    with tempfile.TemporaryDirectory(prefix="hwnas-parity-") as folder:
        path = Path(folder, f"model.{work.exporter.format}")
        computed = work.computed[precision]
        artefact = work.exporter.export(network, torch.zeros(1, *in_shape), path, precision=computed)
        parts = [inputs[start : start + _PART] for start in range(0, len(inputs), _PART)]
        outputs: Array = np.concatenate([worker.predict(artefact, part) for part in parts])
    compared = compare_outputs(outputs, expected)
    return {
        f"{precision}_accuracy_torch": float((expected.argmax(1) == labels).mean()),
        f"{precision}_accuracy_runtime": float((outputs.argmax(1) == labels).mean()),
        f"{precision}_max_abs_diff": compared.difference,
        f"{precision}_largest_output": float(np.abs(expected).max()),
        f"{precision}_top1_agreement": compared.agreement,
        f"{precision}_agreement_near_ties_aside": 1 - (compared.disagreements - compared.near_ties) / compared.n,
        "n_test": len(labels),
    }


def _without_precisions(architecture: Mapping[str, Option]) -> dict[str, Option]:
    return {name: option for name, option in architecture.items() if not name.endswith(".precision")}


def _figures(device: str, rows: Sequence[Mapping[str, Any]]) -> list[Figure]:
    trained, floats = rows[0]["trained"], "fp32_max_abs_diff" in rows[0]
    # images mean nothing to random weights, whose largest logits often are two in one step of the integers
    agreed = "top1_agreement" if trained else "agreement_near_ties_aside"
    agreement = spread([100 * row[f"int8_{agreed}"] for row in rows])
    figures = [
        Figure(name=f"{device}_networks", value=len(rows)),
        Figure(name=f"{device}_test_images", value=rows[0]["n_test"]),
        Figure(name=f"{device}_int8_{agreed}_percent_worst", value=agreement["min"], at_least=99),
        Figure(name=f"{device}_int8_{agreed}_percent_mean", value=agreement["mean"]),
    ]
    if floats:
        worst = max(row["fp32_max_abs_diff"] for row in rows)
        figures.append(Figure(name=f"{device}_fp32_max_abs_diff", value=worst, at_most=1e-4))
        # random weights give outputs of any size, and floats are as close to each other as their size allows
        relative = max(row["fp32_max_abs_diff"] / row["fp32_largest_output"] for row in rows)
        figures.append(Figure(name=f"{device}_fp32_max_abs_diff_over_largest_output", value=relative))
    if trained:
        figures.append(Figure(name=f"{device}_int8_accuracy_percent_mean", value=_mean(rows, "int8_accuracy_runtime")))
    if trained and floats:
        lost = spread([100 * (row["fp32_accuracy_runtime"] - row["int8_accuracy_runtime"]) for row in rows])
        figures += [
            Figure(name=f"{device}_fp32_accuracy_percent_mean", value=_mean(rows, "fp32_accuracy_runtime")),
            Figure(name=f"{device}_int8_points_lost_worst", value=lost["max"], at_most=1.0),
            Figure(name=f"{device}_int8_points_lost_mean", value=lost["mean"], at_most=1.0),
        ]
    return figures


def _mean(rows: Sequence[Mapping[str, Any]], name: str) -> float:
    """In percent."""
    return spread([100 * row[name] for row in rows])["mean"]


if __name__ == "__main__":
    script(main)
