"""The search on a real supernet: the front after few evaluations by `predictor`, and after many by NSGA-II.

A supernet is trained on Fashion-MNIST (or gone on with in the run's folder, as `fashion_mnist.py` leaves it) and the
device profiled. Then each sampler searches in a copy of the run of its own, so that neither begins from what the other
found. Compared are the areas under their fronts, up to the largest latency and down to the least accuracy of both,
on the validation images that the searches saw and on the test images that they did not; and within budgets the most
accurate network by its test accuracy.
"""

from __future__ import annotations

import argparse
import contextlib
import shutil
import tempfile
from collections.abc import Mapping, Sequence
from dataclasses import dataclass
from pathlib import Path
from typing import TYPE_CHECKING

from _common import SMOKE, Benchmark, Figure, script

from hwnas.config import CONFIG_FILE, Config, load_config

if TYPE_CHECKING:
    import numpy as np

    from hwnas.search import Study

CONFIG = Path(__file__).with_name("fashion_mnist.toml")
FRACTIONS = (0.3, 0.5, 0.8)  # budgets, as shares of the largest fp32 network's latency
_KEPT = ("checkpoint*", "latency_tables", CONFIG_FILE)


@dataclass(frozen=True, kw_only=True)
class Front:
    """The networks of one search that no other of it beats.

    Attributes:
        latency: (K,) milliseconds, rising.
        validation: (K,) accuracies that the search saw.
        test: (K,) accuracies on images that it did not.
        n_trials: of the search.
        seconds: it took.
    """

    latency: np.ndarray
    validation: np.ndarray
    test: np.ndarray
    n_trials: int
    seconds: float


def main(argv: Sequence[str] | None = None) -> int:
    """Run the program; returns its exit status."""
    parser = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    parser.add_argument("--output", metavar="FOLDER", help="of the run; as fashion_mnist.toml has it if left out")
    parser.add_argument("--steps", type=int, help="of training; as fashion_mnist.toml has it if left out")
    parser.add_argument("--few", type=int, default=100, help="trials of the predictor (100)")
    parser.add_argument("--many", type=int, default=800, help="trials of NSGA-II (800)")
    parser.add_argument("--seed", type=int, default=0, help="of both searches (0)")
    bench = Benchmark("search_supernet", parser, argv)
    options = bench.options
    few, many = (5, 8) if bench.smoke else (options.few, options.many)
    with tempfile.TemporaryDirectory(prefix="hwnas-search-") as temporary:
        config = load_config(CONFIG)
        if bench.smoke:
            config = config.replaced({**SMOKE, "limits.latency_fraction": None, "output.folder": f"{temporary}/run"})
        if options.output:
            config = config.replaced({"output.folder": options.output})
        if options.steps:
            config = config.replaced({"train.steps": options.steps})
        largest = _prepared(bench, config)
        searches = {"predictor": few, "nsga2": many}
        fronts = {
            sampler: _searched(bench, config, Path(temporary, sampler), sampler=sampler, n=n, seed=options.seed)
            for sampler, n in searches.items()
        }
    figures = [Figure(name="training_steps", value=config.train.steps), *_figures(fronts, largest)]
    details = {
        sampler: {"latency_ms": f.latency.tolist(), "validation": f.validation.tolist(), "test": f.test.tolist()}
        for sampler, f in fronts.items()
    }
    return bench.publish(figures, details=details)


def _prepared(bench: Benchmark, config: Config) -> float:
    """Train and profile, as far as that was not done; milliseconds of the largest network in fp32."""
    from hwnas import pipeline

    pipeline.train(config, console=bench.console)
    return pipeline.profile(config, console=bench.console).largest_ms


def _searched(bench: Benchmark, config: Config, folder: Path, *, sampler: str, n: int, seed: int) -> Front:
    """One search in a copy of the run."""
    import numpy as np

    from hwnas import pipeline
    from hwnas.search import load_study
    from hwnas.workspace import Workspace

    source = Path(config.output.folder)
    folder.mkdir()
    for pattern in _KEPT:
        for path in source.glob(pattern):
            copy = shutil.copytree if path.is_dir() else shutil.copy
            copy(path, folder / path.name)
    with contextlib.suppress(FileNotFoundError):
        (folder / CONFIG_FILE).unlink()
    settings = {"search.sampler": sampler, "search.n_trials": n, "search.seed": seed, "search.stop_early": False}
    own = config.replaced({**settings, "output.folder": str(folder)})
    result = pipeline.search(own, console=bench.console)
    work = Workspace(own)
    study = load_study(work.study)
    rows = sorted(study.front(), key=lambda t: t.values["latency_ms"])
    return Front(
        latency=np.array([t.values["latency_ms"] for t in rows]),
        validation=np.array([t.values["accuracy"] for t in rows]),
        test=_tested(work, study, [t.number for t in rows]),
        n_trials=len(study),
        seconds=result.seconds,
    )


def _tested(work: object, study: Study, numbers: Sequence[int]) -> np.ndarray:
    """(K,) accuracies of some trials on the test images."""
    import numpy as np

    from hwnas.accuracy import SubnetEvaluator
    from hwnas.workspace import Workspace

    assert isinstance(work, Workspace)
    c = work.config.search
    evaluate = SubnetEvaluator(
        work.supernet,
        train=work.stream("train"),
        validation=work.stream("test"),
        recalibration_samples=c.recalibration_samples,
        calibration_samples=c.calibration_samples,
        symmetric=work.symmetric,
    )
    rows = [int(np.flatnonzero(study.numbers == number)[0]) for number in numbers]
    return np.array([evaluate(work.space.named_blocks(study.encodings[row].astype(np.int64))).value for row in rows])


def _figures(fronts: Mapping[str, Front], largest_ms: float) -> list[Figure]:
    import numpy as np

    from hwnas.search import hypervolume

    few, many = fronts["predictor"], fronts["nsga2"]
    most = max(float(f.latency.max()) for f in fronts.values())
    figures = []
    for images in ("validation", "test"):
        least = min(float(getattr(f, images).min()) for f in fronts.values())
        area = {
            sampler: hypervolume(np.stack([-getattr(f, images), f.latency], axis=1), reference=(-least, most))
            for sampler, f in fronts.items()
        }
        # of networks that are all alike no area is enclosed
        ratio = area["predictor"] / area["nsga2"] if area["nsga2"] > 0 else 1.0 + (area["predictor"] > 0)
        target = 1.0 if images == "validation" else None
        figures.append(Figure(name=f"{images}_area_over_nsga2", value=ratio, at_least=target))
    for fraction in FRACTIONS:
        for sampler, front in fronts.items():
            within = np.flatnonzero(front.latency <= fraction * largest_ms)
            if not len(within):  # a network this small is not in the space
                continue
            best = within[np.argmax(front.validation[within])]
            name = f"{sampler}_test_percent_at_{100 * fraction:.0f}_percent"
            figures.append(Figure(name=name, value=100 * float(front.test[best])))
    for sampler, front in (("predictor", few), ("nsga2", many)):
        figures.append(Figure(name=f"{sampler}_trials", value=front.n_trials))
        figures.append(Figure(name=f"{sampler}_s", value=round(front.seconds, 1)))
    return figures


if __name__ == "__main__":
    script(main)
