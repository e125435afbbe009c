"""A run so small that the whole way takes seconds, on the fake device.

Knows the configuration; never what stands behind it.
"""

from __future__ import annotations

import json
from collections.abc import Mapping, Sequence
from pathlib import Path

from hwnas.config import (
    Config,
    DeployConfig,
    DeviceConfig,
    LimitsConfig,
    OutputConfig,
    ProfileConfig,
    SearchConfig,
    SpaceConfig,
    TrainConfig,
)
from hwnas.files import write_whole
from hwnas.types import PRECISIONS, Option


def tiny_config(folder: Path, changes: Mapping[str, object] | None = None) -> Config:
    """Digits, the space `test-tiny`, the fake device, a handful of steps and trials.

    Args:
        folder: of the run.
        changes: "section.key" -> value, as for `Config.replaced`.

    Raises:
        ConfigError: a change is not allowed.
    """
    config = Config(
        space=SpaceConfig(preset="test-tiny"),
        train=TrainConfig(steps=10, batch_size=32, n_random=1, threads=1),
        device=DeviceConfig(name="fake"),
        profile=ProfileConfig(n_networks=4),
        search=SearchConfig(
            n_trials=8,
            population_size=4,
            validation_samples=100,
            recalibration_samples=64,
            calibration_samples=32,
        ),
        limits=LimitsConfig(latency_fraction=0.8),
        # a torch program takes as long as all the rest
        deploy=DeployConfig(candidates=3, test_samples=100, torch_program=False),
        output=OutputConfig(folder=str(folder)),
    )
    return config.replaced(changes) if changes else config


def describe_fake_device(
    folder: Path,
    options: Mapping[str, Option] | None = None,
    *,
    name: str = "fake",
    precisions: Sequence[str] = PRECISIONS,
) -> str:
    """Write the description of a fake device with other options, and give its path for `[device] name`.

    Args:
        folder: where to write it.
        options: see `hwnas.testing.fake.OPTIONS`.
        name: of the device; its tables are kept under it.
        precisions: that it has.
    """
    lines = [f"{key} = {json.dumps(value)}" for key, value in (options or {}).items()]  # JSON scalars are TOML
    head = ("schema = 1", 'runtime = "fake"', f"precisions = {json.dumps(list(precisions))}")
    path = Path(folder) / f"{name}.toml"
    write_whole(path, "\n".join([*head, "\n[options]", *lines, ""]).encode())
    return str(path)
