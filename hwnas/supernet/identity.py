"""What a training run is, so that no other one goes on with its checkpoint. Knows settings and JSON values."""

from __future__ import annotations

from collections.abc import Mapping
from dataclasses import asdict
from pathlib import Path
from typing import TYPE_CHECKING, Any

from hwnas.errors import CheckpointError

if TYPE_CHECKING:
    from hwnas.supernet.settings import TrainSettings

EARLIER: Mapping[str, Any] = {  # of checkpoints that do not say it
    "batch_norm": "recalibrated",
    "feature_weight": 0.0,
    "optimizer": "sgd",
    "task": "classification",
    "class_weights": "alike",
    "quantized_fraction": 0.0,
    "supernet": "",
    "start_from": "",
    "accumulate": 1,
    "experts": 1,
    "split_fraction": 0.0,
}


def run_identity(
    settings: TrainSettings, identity: Mapping[str, Any], *, batch_size: int, n_samples: int
) -> dict[str, Any]:
    """What must not change when a run goes on; how often it saves may.

    Args:
        settings: of the training.
        identity: what else the run is: its space, its data.
        batch_size: images a step.
        n_samples: training images.
    """
    values = asdict(settings)
    del values["checkpoint_every_s"]
    return {**identity, "settings": {**values, "batch_size": batch_size, "n_samples": n_samples}}


def refuse_other_identity(path: Path, found: Mapping[str, Any], wanted: Mapping[str, Any]) -> None:
    """Refuse to go on with a checkpoint that was begun as another run; only what differs is told.

    Args:
        path: of the checkpoint.
        found: its identity; what an older version did not write down is not compared.
        wanted: the identity of this run.

    Raises:
        CheckpointError: they differ; says in what, and what to do.
    """
    before, now = {**EARLIER, **_flat(found)}, _flat(wanted)
    differences = [f"{k} was {before[k]!r}, now {v!r}" for k, v in now.items() if k in before and before[k] != v]
    if differences:
        raise CheckpointError(
            f"{path} belongs to another run ({'; '.join(differences)}); "
            "name another output folder, or delete it to train anew"
        )


def _flat(identity: Mapping[str, Any]) -> dict[str, Any]:
    """The settings beside what they stood under."""
    flat: dict[str, Any] = {}
    for key, value in identity.items():
        flat |= value if isinstance(value, Mapping) else {key: value}
    return flat
