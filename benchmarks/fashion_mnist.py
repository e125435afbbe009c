"""Fashion-MNIST, the whole way: one supernet, three budgets, three int8 deployments, and the README's picture.

Goes on from what it finds in the run's folder, so training may be interrupted. Knows the pipeline's stages and
their results, nothing below them.
"""

from __future__ import annotations

import argparse
import contextlib
import io
import json
import shutil
import tempfile
import time
from collections.abc import Iterator, Mapping, Sequence
from pathlib import Path
from typing import Any

from _common import ROOT, SMOKE, Benchmark, Figure, script

from hwnas.config import CONFIG_FILE, Config, load_config
from hwnas.errors import ConfigError, InfeasibleError, VerificationError

CONFIG = Path(__file__).with_suffix(".toml")
PICTURE = ROOT / "docs" / "images" / "front.png"
BUDGETS = {0.3: 88.0, 0.5: 90.0, 0.8: 91.0}  # share of the largest fp32 network's latency -> test accuracy, percent
_TRAINING_LOG = "training_time.jsonl"
_MADE_BY_STAGES = ("checkpoint*", "latency_tables", "search", "deployments", CONFIG_FILE, _TRAINING_LOG)


def main(argv: Sequence[str] | None = None) -> int:
    """Run the program; returns its exit status."""
    parser = argparse.ArgumentParser(description=__doc__)
    parser.add_argument("--output", metavar="FOLDER", help="of the run; as the configuration has it if left out")
    parser.add_argument("--fresh", action="store_true", help="delete what the run's folder holds and train anew")
    parser.add_argument("--picture", type=Path, metavar="FILE", help="the front as PNG (docs/images/front.png)")
    bench = Benchmark("fashion_mnist", parser, argv)
    with contextlib.ExitStack() as stack:
        config = load_config(CONFIG)
        picture: Path = bench.options.picture or PICTURE
        if bench.smoke:
            temporary = stack.enter_context(tempfile.TemporaryDirectory(prefix="hwnas-fashion-"))
            limits = {"limits.latency_fraction": None}
            config = config.replaced({**SMOKE, **limits, "output.folder": f"{temporary}/run"})
            picture = bench.options.picture or Path(temporary, "front.png")
        if bench.options.output:
            config = config.replaced({"output.folder": bench.options.output})
        if bench.options.fresh:
            _forget(Path(config.output.folder))
        return _whole_way(bench, config, picture)


def _whole_way(bench: Benchmark, config: Config, picture: Path) -> int:
    from hwnas import pipeline

    folder = Path(config.output.folder)
    with _training_timed(folder):
        pipeline.train(config, console=bench.console)
    profiled = pipeline.profile(config, console=bench.console)
    searched = pipeline.search(config, console=bench.console)
    draw_front(folder, picture, title=f"Fashion-MNIST, {config.space.preset}, int8")
    figures = [*_training_figures(folder), Figure(name="search_s", value=round(searched.seconds, 1))]
    figures.append(Figure(name="largest_fp32_latency_ms", value=profiled.largest_ms))
    manifests = {}
    for fraction, target in list(BUDGETS.items())[: 1 if bench.smoke else None]:
        share = fraction if not bench.smoke else 1.0 + fraction  # the simulated networks are not that small
        at = f"{100 * fraction:.0f}_percent"
        try:
            made = pipeline.export(config.with_limits({"latency_fraction": share}), console=bench.console)
        except (InfeasibleError, VerificationError) as e:  # the other budgets still tell something
            bench.console.failure(e)
            manifests[at] = {"error": str(e)}
            figures.append(Figure(name=f"test_accuracy_int8_at_{at}", value=None, at_least=target))
            continue
        manifests[at] = made.to_json()["manifest"]
        figures += _deployment_figures(manifests[at], at=at, target=target)
    front, correction = searched.to_json()["front"], profiled.correction.to_json()
    details = {"front": front, "correction": correction, "deployments": manifests}
    return bench.publish(figures, details=details)


def _deployment_figures(manifest: Mapping[str, Any], *, at: str, target: float) -> list[Figure]:
    accuracy, latency = manifest["accuracy"], manifest["measured"]["latency_ms"]
    lost = 100 * (accuracy["test_fp32"] - accuracy["test_runtime"])
    agreement = 100 * manifest["parity"]["top1_agreement"]
    return [
        Figure(name=f"test_accuracy_int8_at_{at}", value=100 * accuracy["test_runtime"], at_least=target),
        Figure(name=f"test_accuracy_fp32_at_{at}", value=100 * accuracy["test_fp32"]),
        Figure(name=f"points_lost_to_int8_at_{at}", value=round(lost, 4), at_most=1.0),
        Figure(name=f"latency_ms_at_{at}", value=latency["fastest"], at_most=manifest["limits"]["latency_ms"]),
        Figure(name=f"latency_ms_uncorrected_at_{at}", value=latency["median"] * latency["drift"]),
        Figure(name=f"size_bytes_at_{at}", value=manifest["artefact"]["size_bytes"]),
        Figure(name=f"top1_agreement_percent_at_{at}", value=agreement, at_least=99.5),
    ]


def draw_front(folder: Path, path: Path, *, title: str) -> None:
    """Write the front of a run's study as a PNG of 1000 pixels' width, the same bytes for the same study."""
    from hwnas.files import write_whole
    from hwnas.report import front_figure
    from hwnas.search import load_study

    figure = front_figure(load_study(folder / "search" / "study.safetensors"), title=title)
    image = io.BytesIO()
    figure.savefig(image, format="png", dpi=200, metadata={"Software": None})
    write_whole(path, image.getvalue())


# ---------------------------------------------------------------- how long the training took


@contextlib.contextmanager
def _training_timed(folder: Path) -> Iterator[None]:
    """Note, beside the checkpoint, how long the steps of this call took, also when it is interrupted."""
    first, began = _trained_steps(folder), time.monotonic()
    try:
        yield
    finally:
        seconds, last = time.monotonic() - began, _trained_steps(folder)
        if last > first:
            with open(folder / _TRAINING_LOG, "a", encoding="utf-8") as f:
                f.write(json.dumps({"first": first, "last": last, "seconds": round(seconds, 1)}) + "\n")


def _trained_steps(folder: Path) -> int:
    from hwnas.supernet.checkpoint import load_newest

    found = load_newest(folder / "checkpoint.safetensors")
    return int(found.meta["step"]) if found is not None else 0


def _training_figures(folder: Path) -> list[Figure]:
    """The time of the training, as far as this program ran it."""
    log, steps = folder / _TRAINING_LOG, _trained_steps(folder)
    rows = [json.loads(line) for line in log.read_text().splitlines()] if log.exists() else []
    timed = sum(row["last"] - row["first"] for row in rows)
    figures = [Figure(name="training_steps", value=steps)]
    if timed:
        figures.append(Figure(name="training_steps_timed", value=timed))
        figures.append(Figure(name="training_s", value=round(sum(row["seconds"] for row in rows), 1)))
    return figures


def _forget(folder: Path) -> None:
    """Delete what the stages made in a run's folder, and nothing else there.

    Raises:
        ConfigError: the folder holds no run.
    """
    if not folder.is_dir():
        return
    if not any((folder / name).exists() for name in (CONFIG_FILE, "checkpoint.safetensors")):
        raise ConfigError(f"{folder} does not look like the folder of a run; delete it yourself if it should go")
    for pattern in _MADE_BY_STAGES:
        for path in folder.glob(pattern):
            shutil.rmtree(path) if path.is_dir() else path.unlink()


if __name__ == "__main__":
    script(main)
