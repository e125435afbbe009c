"""Numbers that are foretold of a sample."""

from __future__ import annotations

from collections.abc import Mapping
from typing import TYPE_CHECKING, Self

import numpy as np

from hwnas.allowed import R2
from hwnas.data.targets import VALUES
from hwnas.tasks.base import Task, mean_of_known
from hwnas.types import FloatArray

if TYPE_CHECKING:
    from torch import Tensor

    from hwnas.data import ArrayDataset

_LEAST = 1e-9  # of a variance, in that of the training targets


class Regression(Task):
    """Outputs are (N, values), targets (N, values).

    Errors count in standard deviations of the training targets, so that no value outweighs another by its unit. A
    network of a space foretells that many deviations from the training targets' mean (`mean` and `std` lead to the
    targets' units); one that was given trained has the targets' units already.

    Measured are `r2`, the share of the variance of the values that is foretold (the mean over the values, but for those
    that are the same for all samples; to foretell the mean gives 0, and it may be below), `mae` and `rmse`, the mean
    absolute error and the root of the mean square, in the targets' units, over all values.

    Attributes:
        mean: an output of 0 means it, of each value.
        std: and one more means so much more.
    """

    name = "regression"
    metric = R2
    targets = VALUES
    counts = "values"

    def __init__(self) -> None:
        self.mean: tuple[float, ...] | None = None
        self.std: tuple[float, ...] | None = None
        self._centre: tuple[float, ...] | None = None
        self._scale: tuple[float, ...] | None = None

    def fitted(self, train: ArrayDataset, *, n_outputs: int | None = None, given: bool = False) -> Self:
        values = train.targets.astype(np.float64)
        std = values.std(0)
        self._centre = tuple(values.mean(0).tolist())
        self._scale = tuple(np.where(std > 0, std, 1.0).tolist())
        if not given:
            self.mean, self.std = self._centre, self._scale
        return self

    def output_scale(self) -> dict[str, tuple[float, ...]]:
        return {} if self.mean is None or self.std is None else {"mean": self.mean, "std": self.std}

    def loss(self, outputs: Tensor, targets: Tensor, *, label_smoothing: float = 0.0) -> Tensor:
        return ((self._in_units(outputs) - targets.to(outputs.dtype)) / self._scales(outputs)).square().mean()

    def distill(self, outputs: Tensor, teacher: Tensor) -> Tensor:
        return ((self._in_units(outputs) - self._in_units(teacher)) / self._scales(outputs)).square().mean()

    def answers(self, outputs: Tensor) -> Tensor:
        return self._in_units(outputs.float())

    def statistics(self, outputs: Tensor, targets: Tensor) -> Tensor:
        import torch

        y = targets.double()
        error = self._in_units(outputs.double()) - y
        scale = self._scales(y)
        # from the training targets' mean: squares of large numbers would lose what differs
        z = (y if self._centre is None else y - y.new_tensor(self._centre)) / scale
        whole = torch.stack([error.abs().mean(1), error.square().mean(1)], 1)
        return torch.cat([(error / scale).square(), z, z.square(), whole], 1)  # (N, 3 * values + 2)

    def measures(self, means: FloatArray) -> Mapping[str, FloatArray]:
        k = (means.shape[-1] - 2) // 3
        errors, first, second = (means[..., i * k : (i + 1) * k] for i in range(3))
        variance = second - first**2
        # of a value that is the same for all of these samples it cannot be said
        share = 1 - np.divide(errors, variance, out=np.full_like(errors, np.nan), where=variance > _LEAST)
        return {R2: mean_of_known(share), "mae": means[..., -2], "rmse": np.sqrt(means[..., -1])}

    def _in_units(self, outputs: Tensor) -> Tensor:
        if self.mean is None or self.std is None:
            return outputs
        return outputs * outputs.new_tensor(self.std) + outputs.new_tensor(self.mean)

    def _scales(self, like: Tensor) -> Tensor:
        import torch

        return torch.ones_like(like[0]) if self._scale is None else like.new_tensor(self._scale)
