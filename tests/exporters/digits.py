"""Digits as the tests of exporters train on them for a moment."""

import numpy as np
import torch
import torch.nn.functional as F

from hwnas.data import sources


def shuffled_digits() -> tuple[torch.Tensor, torch.Tensor]:
    """(N, 1, 16, 16) float32, normalized, and (N,) classes; in the same random order each time."""
    images, labels = sources.digits("", options={}).train
    order = np.random.default_rng(0).permutation(len(images))
    scanned = np.rint(images[order] * (16 / 255)) / 16  # of 17 levels
    larger = F.interpolate(torch.tensor(scanned, dtype=torch.float32)[:, None], size=16, mode="bilinear")
    return (larger - 0.3) / 0.38, torch.tensor(labels[order])
