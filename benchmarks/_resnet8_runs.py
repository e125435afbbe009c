"""Runs of MLPerf Tiny's ResNet8 as a given network, and what stands in for one. Knows configurations."""

from __future__ import annotations

from pathlib import Path

import numpy as np
from _common import SMOKE

from hwnas.config import Config
from hwnas.errors import ConfigError

_WIDTHS = (0.5, 0.75, 1.0)
_SIDES = (16, 20, 24, 28, 32)


def configured(data: str | None, weights: str | None, *, side: int = 32) -> Config:
    """A run of the reference network.

    Raises:
        ConfigError: images or weights are not named.
    """
    if data is None or weights is None:
        raise ConfigError("name CIFAR-10 with --data, and the reference network's weights with --weights")
    return Config().replaced(
        {
            "data.source": data,
            "model.source": "python:_tiny_networks:ResNet8",
            "model.weights": weights,
            "model.input": [3, side, side],
            "model.mean": [0.0, 0.0, 0.0],  # it takes pixels from 0 to 255
            "model.std": [1 / 255, 1 / 255, 1 / 255],
            "model.elastic.width": list(_WIDTHS),
            "model.elastic.residual": list(_WIDTHS),
            "model.elastic.resolutions": [s for s in _SIDES if s <= side],
            "space.precisions": ["int8"],
            "train.learning_rate": 0.02,
            "train.label_smoothing": 0.0,
            "train.ema_decay": 0.99,
            "profile.n_networks": 12,
            "search.validation_samples": 1000,
            "deploy.candidates": 10,
        }
    )


def smoke_config(folder: Path) -> Config:
    """A run of seconds: noise for images, weights that torch begins with, a simulated device."""
    from _tiny_networks import ResNet8
    from safetensors.torch import save_file

    images = noise(folder / "noise.npz")
    save_file(ResNet8().state_dict(), folder / "weights.safetensors")
    small = {k: v for k, v in SMOKE.items() if k.partition(".")[0] not in ("data", "space", "limits")}
    elastic = {"model.elastic.width": [0.5, 1.0], "model.elastic.residual": [1.0]}
    return configured(images, str(folder / "weights.safetensors"), side=16).replaced(
        {**small, **elastic, "train.epochs": None}
    )


def noise(path: Path) -> str:
    """Images of 16 px for a run of seconds, written there; as [data] source has them."""
    rng = np.random.default_rng(0)
    images, labels = rng.integers(0, 256, (160, 16, 16, 3), dtype=np.uint8), np.arange(160) % 10
    np.savez(path, x_train=images, y_train=labels, x_test=images, y_test=labels)
    return f"npz:{path}"
