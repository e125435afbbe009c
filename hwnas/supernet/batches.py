"""Deterministic streams of training batches: which images step t sees depends on the seed and t alone.

That is what lets a killed training go on exactly where it was, with no state but the step number.
"""

from __future__ import annotations

from collections.abc import Callable, Iterator
from typing import TYPE_CHECKING, Any

import numpy as np
import torch
from torch import Tensor

from hwnas.data.tensors import normalise, to_unit_range
from hwnas.errors import DataError

if TYPE_CHECKING:
    from hwnas.types import IntArray

Augment = Callable[[Tensor, torch.Generator], Tensor]


def step_rng(seed: int, step: int, *, stream: int = 0) -> np.random.Generator:
    """The numpy generator of one step; `stream` separates independent uses."""
    return np.random.default_rng([seed, stream, step])


def batch_indices(n: int, batch_size: int, *, step: int, seed: int) -> IntArray:
    """(batch_size,) indices of a step's samples: epochs without replacement, each in its own order.

    A batch may end one epoch and begin the next, so that every sample is seen equally often.
    """
    positions = np.arange(step * batch_size, (step + 1) * batch_size)
    epochs = positions // n
    order = {int(e): step_rng(seed, int(e), stream=1).permutation(n) for e in np.unique(epochs)}
    return np.array([order[int(e)][p % n] for p, e in zip(positions, epochs, strict=True)], dtype=np.int64)


class BatchStream:
    """Batches of a data set as normalised float tensors.

    Args:
        dataset: map-style. Ours (`hwnas.data.ArrayDataset`, arrays `images` (N, H, W, C) uint8 and `labels`)
            is read a batch at a time; any other torch Dataset sample by sample: its images are (H, W) or
            (H, W, C) uint8 arrays, or (C, H, W) tensors, uint8 or float in [0, 1]; labels are ints.
        mean, std: per channel, on the [0, 1] scale.
        augment: applied to (N, C, H, W) floats in [0, 1] before normalisation.
    """

    def __init__(
        self,
        dataset: Any,
        *,
        batch_size: int,
        mean: tuple[float, ...],
        std: tuple[float, ...],
        seed: int = 0,
        augment: Augment | None = None,
    ) -> None:
        self.n = len(dataset)
        if self.n == 0:
            raise DataError("the data set is empty")
        if batch_size < 1:
            raise DataError(f"batch_size is {batch_size}; it must be at least 1")
        self.dataset = dataset
        self.batch_size = batch_size
        self.seed = seed
        self.augment = augment
        self.mean, self.std = mean, std

    def batch(self, step: int) -> tuple[Tensor, Tensor]:
        """Training batch of a step: (N, C, H, W) normalised float32 and (N,) int64 labels."""
        indices = batch_indices(self.n, self.batch_size, step=step, seed=self.seed)
        images, labels = self._fetch(indices)
        if self.augment is not None:
            generator = torch.Generator().manual_seed(int(step_rng(self.seed, step, stream=2).integers(2**62)))
            images = self.augment(images, generator)
        return normalise(images, mean=self.mean, std=self.std), labels

    def plain(self, limit: int | None = None) -> Iterator[tuple[Tensor, Tensor]]:
        """The first `limit` samples (None: all) in order, not augmented, in batches."""
        n = self.n if limit is None else min(limit, self.n)
        for start in range(0, n, self.batch_size):
            images, labels = self._fetch(np.arange(start, min(start + self.batch_size, n)))
            yield normalise(images, mean=self.mean, std=self.std), labels

    def _fetch(self, indices: IntArray) -> tuple[Tensor, Tensor]:
        images = getattr(self.dataset, "images", None)
        if isinstance(images, np.ndarray):
            x = torch.from_numpy(images[indices])  # (N, H, W, C)
            y = torch.from_numpy(self.dataset.labels[indices])
            return to_unit_range(x.permute(0, 3, 1, 2)), y.long()
        samples = [self.dataset[int(i)] for i in indices]
        x = torch.stack([_to_tensor(s[0]) for s in samples])
        return x, torch.tensor([int(s[1]) for s in samples])


def _to_tensor(image: Any) -> Tensor:
    """One sample's image -> (C, H, W) float32 in [0, 1]."""
    if isinstance(image, Tensor):
        x = image
    else:
        array = np.asarray(image)
        x = torch.from_numpy(array if array.ndim == 2 else array.transpose(2, 0, 1))
        x = x[None] if x.dim() == 2 else x
    if x.dim() != 3:
        raise DataError(f"an image has shape {tuple(x.shape)}; allowed: (C, H, W) tensors, (H, W) or (H, W, C) arrays")
    return to_unit_range(x) if x.dtype == torch.uint8 else x.float()
