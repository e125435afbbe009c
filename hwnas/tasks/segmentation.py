"""Of which class every pixel of an image is."""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from typing import TYPE_CHECKING, Self

import numpy as np

from hwnas.allowed import MEAN_IOU
from hwnas.data.augment import IGNORED
from hwnas.data.targets import MASKS
from hwnas.tasks.base import Task
from hwnas.tasks.classification import soft_cross_entropy, weights_of
from hwnas.types import FloatArray

if TYPE_CHECKING:
    from torch import Tensor

    from hwnas.data import ArrayDataset


class Segmentation(Task):
    """Outputs are (N, classes, h, w) logits, targets (N, H, W) class indices, 255 where nobody knows.

    Outputs of another size than the masks are brought to theirs, bilinearly. Measured are `mean_iou`, the mean over the
    classes of how large the intersection of what is said and what is so is over their union, over all images (classes
    that are neither said nor so are left out), and `pixel_accuracy`.

    Args:
        class_weights: as of `Classification`, by pixels.
    """

    name = "segmentation"
    metric = MEAN_IOU
    targets = MASKS
    counts = "classes"
    decides = "pixel"

    def __init__(self, *, class_weights: str | Sequence[float] | None = None) -> None:
        self._asked = class_weights
        self._weights: tuple[float, ...] | None = None

    def fitted(self, train: ArrayDataset, *, n_outputs: int | None = None, given: bool = False) -> Self:
        if self._asked is not None:
            counts = np.bincount(train.targets.ravel(), minlength=IGNORED + 1)[:IGNORED]
            n = n_outputs or int(np.flatnonzero(counts)[-1]) + 1
            self._weights = weights_of(self._asked, counts[:n])
        return self

    def fits(self, shape: tuple[int, ...], *, n_outputs: int | None) -> bool:
        return len(shape) == 3 and n_outputs in (None, shape[0])

    def loss(self, outputs: Tensor, targets: Tensor, *, label_smoothing: float = 0.0) -> Tensor:
        from torch.nn.functional import cross_entropy

        if not bool((targets != IGNORED).any()):  # a mean over no pixel would be NaN
            return outputs.sum() * 0
        weight = None if self._weights is None else outputs.new_tensor(self._weights)
        return cross_entropy(
            _brought_to(outputs, targets.shape[-2:]),
            targets.long(),
            weight=weight,
            ignore_index=IGNORED,
            label_smoothing=label_smoothing,
        )

    def distill(self, outputs: Tensor, teacher: Tensor) -> Tensor:
        return soft_cross_entropy(_brought_to(outputs, teacher.shape[-2:]), teacher)

    def answers(self, outputs: Tensor) -> Tensor:
        import torch

        return outputs.argmax(1).to(torch.uint8)

    def statistics(self, outputs: Tensor, targets: Tensor) -> Tensor:
        import torch

        n, k = len(outputs), outputs.shape[1]
        said = _brought_to(outputs, targets.shape[-2:]).argmax(1).flatten(1)  # (N, pixels)
        so = targets.long().flatten(1)
        known = so != IGNORED
        right = known & (said == so)
        found = []
        for classes, counted in ((said, right), (said, known), (so, known)):
            # one bin more: whatever is not counted
            bins = torch.where(counted, classes, k) + (k + 1) * torch.arange(n, device=classes.device)[:, None]
            found.append(torch.bincount(bins.flatten(), minlength=n * (k + 1)).view(n, k + 1)[:, :k])
        return torch.cat(found, 1).double()  # (N, 3 * classes): right, said and so

    def by_class(self, statistics: FloatArray) -> FloatArray:
        """(3, classes) pixels in all samples that were found, said to be, and are of each class.

        Args:
            statistics: (N, 3 * classes) of `hwnas.tasks.statistics_of`.
        """
        counts: FloatArray = statistics.sum(0).reshape(3, -1)
        return counts

    def measures(self, means: FloatArray) -> Mapping[str, FloatArray]:
        k = means.shape[-1] // 3
        right, said, so = (means[..., i * k : (i + 1) * k] for i in range(3))
        union = said + so - right
        occurs = union > 0
        iou = np.divide(right, union, out=np.zeros_like(right), where=occurs)
        n = np.maximum(occurs.sum(-1), 1)
        pixels = np.maximum(so.sum(-1), 1e-12)
        return {MEAN_IOU: iou.sum(-1) / n, "pixel_accuracy": right.sum(-1) / pixels}


def _brought_to(outputs: Tensor, size: Sequence[int]) -> Tensor:
    """(N, classes, h, w) -> (N, classes, *size), bilinearly."""
    from torch.nn.functional import interpolate

    if tuple(outputs.shape[-2:]) == tuple(size):
        return outputs
    return interpolate(outputs, tuple(size), mode="bilinear", align_corners=False)
