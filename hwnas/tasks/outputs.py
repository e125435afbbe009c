"""A given network's outputs, several or one of any shape, learned and measured as that network gives them."""

from __future__ import annotations

from collections.abc import Iterator, Mapping
from typing import TYPE_CHECKING

import numpy as np

from hwnas.allowed import R2
from hwnas.data.targets import VALUES
from hwnas.tasks.base import Task
from hwnas.types import FloatArray

if TYPE_CHECKING:
    from torch import Tensor

_ROUNDED = 1e-14  # of a second moment: a variance below it is the rounding of moments
_LEAST = 1e-12  # of a mean square: of nothing but zeros there is no scale


class Outputs(Task):
    """Targets are what the given network answers: (N, ...) as its outputs are, several side by side in one row.

    Networks learn from every output of the given one alike: the loss is the mean over the outputs of the mean squared
    difference, in units of the mean square of what is taught, so that no output outweighs another by its size or unit.

    Measured is `r2`, the mean over the outputs of the share of variance that is told: one less the mean squared
    difference over the variance around each channel's mean (channels are the first axis, and count by their variance).
    1 is perfect, and to tell each channel's mean gives 0. Each output's own share stands beside it, under its name.
    """

    name = "outputs"
    metric = R2
    targets = VALUES
    counts = "outputs"
    takes_several = True
    takes_labels = False

    def fits(self, shape: tuple[int, ...], *, n_outputs: int | None) -> bool:
        """Any shape, as long as nobody but the network says what is right."""
        return n_outputs is None

    def loss(self, outputs: Tensor, targets: Tensor, *, label_smoothing: float = 0.0) -> Tensor:
        return self.distill(outputs, targets.to(outputs.dtype))

    def distill(self, outputs: Tensor, teacher: Tensor) -> Tensor:
        import torch

        taught = self.split(teacher)
        parts = [
            (y - taught[name]).square().mean() / taught[name].square().mean().clamp(min=_LEAST)
            for name, y in self.split(outputs).items()
        ]
        return torch.stack(parts).mean()

    def answers(self, outputs: Tensor) -> Tensor:
        return outputs.float()

    def statistics(self, outputs: Tensor, targets: Tensor) -> Tensor:
        import torch

        columns: list[Tensor] = []
        given = self.split(targets.double())
        for name, y in self.split(outputs.double()).items():
            t = given[name]
            n, channels = t.shape[:2]
            # (N, channels, positions): means over the latter
            error, value = ((z.reshape(n, channels, -1)) for z in ((y - t).square(), t))
            columns += [error.mean((1, 2))[:, None], value.mean(2), value.square().mean(2)]
        return torch.cat(columns, 1)  # of each output: its error, and of its channels first and second moments

    def measures(self, means: FloatArray) -> Mapping[str, FloatArray]:
        names = [part.name for part in self.parts] or ["output"]
        shares = dict(zip(names, self._shares(means), strict=True))
        beside = shares if self.parts else {}
        return {R2: np.mean(list(shares.values()), 0), **{f"output {name}": share for name, share in beside.items()}}

    def _shares(self, means: FloatArray) -> Iterator[FloatArray]:
        begin = 0
        for channels in [part.shape[0] for part in self.parts] or [(means.shape[-1] - 1) // 2]:
            error = means[..., begin]
            first, second = (means[..., begin + 1 + i * channels :][..., :channels] for i in range(2))
            variance = (second - first**2).mean(-1)
            least = _ROUNDED * second.mean(-1)  # an output's unit may be any
            # of what is the same for all samples no share can be told: it is right, or it is not
            same = np.where(error <= least, 0.0, 1.0)
            yield 1 - np.divide(error, variance, out=same, where=variance > least)
            begin += 1 + 2 * channels
