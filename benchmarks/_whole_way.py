"""The whole way of one configuration: a supernet trained, and deployed within shares of its largest network's latency.

Goes on from what it finds in the run's folder, so training may be interrupted. Knows the pipeline's stages and their
results, nothing below them.
"""

from __future__ import annotations

import contextlib
import json
import shutil
import time
from collections.abc import Iterator, Mapping
from dataclasses import dataclass
from pathlib import Path
from typing import TYPE_CHECKING, Any

from _common import Figure

from hwnas.config import CONFIG_FILE, Config
from hwnas.errors import ConfigError, InfeasibleError, VerificationError

if TYPE_CHECKING:
    from hwnas._console import Console

_TRAINING_LOG = "training_time.jsonl"
_MADE_BY_STAGES = ("checkpoint*", "latency_tables", "search", "deployments", CONFIG_FILE, _TRAINING_LOG)


@dataclass(frozen=True, kw_only=True)
class Trained:
    """What the stages before deployment found.

    Attributes:
        figures: how long training and search took, and the latency that budgets are shares of.
        details: the front, and how sums of tables were corrected.
    """

    figures: list[Figure]
    details: dict[str, Any]


def train_and_search(config: Config, *, console: Console) -> Trained:
    """Everything up to the search, which is what all budgets share."""
    from hwnas import pipeline

    folder = Path(config.output.folder)
    with training_timed(folder):
        pipeline.train(config, console=console)
    profiled = pipeline.profile(config, console=console)
    searched = pipeline.search(config, console=console)
    figures = [*training_figures(folder), Figure(name="search_s", value=round(searched.seconds, 1))]
    figures.append(Figure(name="largest_fp32_latency_ms", value=profiled.largest_ms))
    return Trained(
        figures=figures, details={"front": searched.to_json()["front"], "correction": profiled.correction.to_json()}
    )


def deploy(
    config: Config, *, shares: Mapping[float, float], targets: Mapping[float, float | None], console: Console
) -> tuple[list[Figure], dict[str, Any]]:
    """A deployment for each budget; one that cannot be kept is told, and the others still are.

    Args:
        config: of a finished search.
        shares: budget, as figures are named after it -> share of the largest fp32 network's latency.
        targets: budget -> test accuracy in percent, or None.
        console: told of failures and progress.

    Returns:
        The figures, and manifests by budget.
    """
    from hwnas import pipeline

    figures: list[Figure] = []
    manifests: dict[str, Any] = {}
    for budget, share in shares.items():
        at = f"{100 * budget:.0f}_percent"
        try:
            made = pipeline.export(config.with_limits({"latency_fraction": share}), console=console)
        except (InfeasibleError, VerificationError) as e:
            console.failure(e)
            manifests[at] = {"error": str(e)}
            figures.append(Figure(name=f"test_accuracy_runtime_at_{at}", value=None, at_least=targets[budget]))
            continue
        manifests[at] = made.to_json()["manifest"]
        figures += _deployment_figures(manifests[at], at=at, target=targets[budget])
    return figures, manifests


def _deployment_figures(manifest: Mapping[str, Any], *, at: str, target: float | None) -> list[Figure]:
    accuracy, latency = manifest["accuracy"], manifest["measured"]["latency_ms"]
    lost = 100 * (accuracy["test_fp32"] - accuracy["test_runtime"])
    agreement = 100 * manifest["parity"]["top1_agreement"]
    return [
        Figure(name=f"test_accuracy_runtime_at_{at}", value=100 * accuracy["test_runtime"], at_least=target),
        Figure(name=f"test_accuracy_fp32_at_{at}", value=100 * accuracy["test_fp32"]),
        Figure(name=f"points_lost_on_runtime_at_{at}", value=round(lost, 4), at_most=1.0),
        Figure(name=f"latency_ms_at_{at}", value=latency["fastest"], at_most=manifest["limits"]["latency_ms"]),
        Figure(name=f"latency_ms_uncorrected_at_{at}", value=latency["median"] * latency["drift"]),
        Figure(name=f"size_bytes_at_{at}", value=manifest["artefact"]["size_bytes"]),
        Figure(name=f"top1_agreement_percent_at_{at}", value=agreement, at_least=99.5),
    ]


# ---------------------------------------------------------------- how long the training took


@contextlib.contextmanager
def training_timed(folder: Path) -> Iterator[None]:
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


def training_figures(folder: Path) -> list[Figure]:
    """The time of the training, as far as this program ran it."""
    log, steps = folder / _TRAINING_LOG, _trained_steps(folder)
    rows = [json.loads(line) for line in log.read_text().splitlines()] if log.exists() else []
    timed = sum(row["last"] - row["first"] for row in rows)
    figures = [Figure(name="training_steps", value=steps)]
    if timed:
        figures.append(Figure(name="training_steps_timed", value=timed))
        figures.append(Figure(name="training_s", value=round(sum(row["seconds"] for row in rows), 1)))
    return figures


def forget(folder: Path) -> None:
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
