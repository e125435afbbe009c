"""What is exported computes what was evaluated: torch against the runtime, on the test images.

Random networks of a run's study, each in fp32 and in int8 (calibrated only), through the evaluator, the exporter and
the measuring process that deployments go through.
"""

from __future__ import annotations

import argparse
import tempfile
from collections.abc import Mapping, Sequence
from pathlib import Path
from typing import TYPE_CHECKING, Any

from _common import Benchmark, Figure, borrowed_run, run_folder, script, spread

from hwnas.config import Config
from hwnas.types import Array, Option

if TYPE_CHECKING:
    from hwnas._console import Console
    from hwnas.accuracy import SubnetEvaluator
    from hwnas.measure import Worker
    from hwnas.workspace import Workspace

PRECISIONS = ("fp32", "int8")
_PART = 1000  # images in one call of the runtime


def main(argv: Sequence[str] | None = None) -> int:
    """Run the program; returns its exit status."""
    parser = argparse.ArgumentParser(description=__doc__)
    parser.add_argument("run", type=Path, nargs="?", metavar="RUN_FOLDER", help="of a run with a finished search")
    parser.add_argument("--device", action="append", help="of the run; all if left out; may be repeated")
    parser.add_argument("--networks", type=int, default=10, help="of the study (10)")
    parser.add_argument("--test-samples", type=int, help="test images; all if left out")
    parser.add_argument("--seed", type=int, default=0, help="of the networks (0)")
    bench = Benchmark("parity", parser, argv)
    n, samples = (2, 50) if bench.smoke else (bench.options.networks, bench.options.test_samples)
    with run_folder(bench.options.run, smoke=bench.smoke) as folder, borrowed_run(folder) as config:
        found = {
            device: compare(config.part(device), n, samples=samples, seed=bench.options.seed, console=bench.console)
            for device in bench.options.device or config.device.all
        }
    figures = [figure for device, rows in found.items() for figure in _figures(device, rows)]
    return bench.publish(figures, details=found)


def compare(config: Config, n: int, *, samples: int | None, seed: int, console: Console) -> list[dict[str, Any]]:
    """For each of n random trials and both precisions: accuracy in torch and in the runtime, and how far they agree."""
    import numpy as np

    from hwnas.measure import Worker
    from hwnas.pipeline.searching import make_evaluator
    from hwnas.search import load_study
    from hwnas.workspace import Workspace, limit_threads

    work = Workspace(config)
    limit_threads(config.train.threads)
    study = load_study(work.study)
    chosen = np.random.default_rng(seed).choice(len(study), size=min(n, len(study)), replace=False)
    evaluator = make_evaluator(work)
    test = list(work.stream("test").plain(samples))
    rows = []
    with Worker(work.device) as worker, console.progress("networks") as progress:
        for i, row in enumerate(chosen):
            trial = study.trial_at(int(row))
            found: dict[str, Any] = {"trial": trial.number}
            for precision in (p for p in PRECISIONS if p in work.device.precisions):
                found |= _compared(work, worker, evaluator, trial.architecture, test, precision=precision)
            rows.append(found)
            progress(i + 1, len(chosen), f"trial {trial.number}")
    return rows


def _compared(
    work: Workspace,
    worker: Worker,
    evaluator: SubnetEvaluator,
    architecture: Mapping[str, Option],
    test: Sequence[tuple[Any, Any]],
    *,
    precision: str,
) -> dict[str, float]:
    """One network wholly in one precision."""
    import numpy as np
    import torch

    from hwnas.data.tensors import resize
    from hwnas.pipeline.parity import compare as compare_outputs

    space = work.training_space.restrict(precisions=(precision,))
    blocks = space.named_blocks(space.encode(_without_precisions(architecture)))
    plain = evaluator.extract(blocks)
    network = evaluator.quantize(plain)
    size = plain.in_shape[1:]
    images = [resize(x, size).contiguous() for x, _ in test]
    labels: Array = torch.cat([y for _, y in test]).numpy()
    with torch.inference_mode():
        expected: Array = torch.cat([network(x) for x in images]).numpy()
    inputs: Array = torch.cat(images).numpy()
    with tempfile.TemporaryDirectory(prefix="hwnas-parity-") as folder:
        path = Path(folder, f"model.{work.exporter.format}")
        artefact = work.exporter.export(network, torch.zeros(1, *plain.in_shape), path, precision=precision)
        parts = [inputs[start : start + _PART] for start in range(0, len(inputs), _PART)]
        outputs: Array = np.concatenate([worker.predict(artefact, part) for part in parts])
    compared = compare_outputs(outputs, expected)
    return {
        f"{precision}_accuracy_torch": float((expected.argmax(1) == labels).mean()),
        f"{precision}_accuracy_runtime": float((outputs.argmax(1) == labels).mean()),
        f"{precision}_max_abs_diff": compared.difference,
        f"{precision}_top1_agreement": compared.agreement,
        "n_test": len(labels),
    }


def _without_precisions(architecture: Mapping[str, Option]) -> dict[str, Option]:
    return {name: option for name, option in architecture.items() if not name.endswith(".precision")}


def _figures(device: str, rows: Sequence[Mapping[str, Any]]) -> list[Figure]:
    agreement = spread([100 * row["int8_top1_agreement"] for row in rows])
    figures = [
        Figure(name=f"{device}_networks", value=len(rows)),
        Figure(name=f"{device}_test_images", value=rows[0]["n_test"]),
        Figure(name=f"{device}_int8_top1_agreement_percent_worst", value=agreement["min"], at_least=99),
        Figure(name=f"{device}_int8_top1_agreement_percent_mean", value=agreement["mean"]),
        Figure(name=f"{device}_int8_accuracy_percent_mean", value=_mean(rows, "int8_accuracy_runtime")),
    ]
    if "fp32_max_abs_diff" in rows[0]:
        lost = spread([100 * (row["fp32_accuracy_runtime"] - row["int8_accuracy_runtime"]) for row in rows])
        worst = max(row["fp32_max_abs_diff"] for row in rows)
        figures += [
            Figure(name=f"{device}_fp32_max_abs_diff", value=worst, at_most=1e-4),
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
