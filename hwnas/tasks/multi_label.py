"""Which of several labels a sample has, any number of them."""

from __future__ import annotations

from collections.abc import Mapping
from typing import TYPE_CHECKING

import numpy as np

from hwnas.allowed import MACRO_F1
from hwnas.data.targets import LABEL_SETS
from hwnas.tasks.base import Task, mean_of_known
from hwnas.types import Array, FloatArray, IntArray

if TYPE_CHECKING:
    from torch import Tensor


class MultiLabel(Task):
    """Outputs are (N, labels) logits, each on its own, targets (N, labels) of 0 and 1.

    A sample is said to have the labels whose logit is above 0. Measured are `macro_f1`, the mean over the labels of the
    harmonic mean of precision and recall (labels that no sample has and none is said to have are left out),
    `label_accuracy`, the share of labels that are right, and `exact_match`, the share of samples all of whose are.
    """

    name = "multi_label"
    metric = MACRO_F1
    targets = LABEL_SETS
    counts = "labels"
    decides = "label"

    def loss(self, outputs: Tensor, targets: Tensor, *, label_smoothing: float = 0.0) -> Tensor:
        from torch.nn.functional import binary_cross_entropy_with_logits

        known = targets.to(outputs.dtype)
        return binary_cross_entropy_with_logits(outputs, known + label_smoothing * (0.5 - known))

    def distill(self, outputs: Tensor, teacher: Tensor) -> Tensor:
        from torch.nn.functional import binary_cross_entropy_with_logits

        return binary_cross_entropy_with_logits(outputs, teacher.sigmoid())

    def answers(self, outputs: Tensor) -> Tensor:
        import torch

        return (outputs > 0).to(torch.uint8)

    def statistics(self, outputs: Tensor, targets: Tensor) -> Tensor:
        import torch

        said, has = outputs > 0, targets.bool()
        right = said == has
        whole = torch.stack([right.double().mean(1), right.all(1).double()], 1)
        # (N, 3 * labels + 2): right, said and had of each label
        return torch.cat([(said & has).double(), said.double(), has.double(), whole], 1)

    def measures(self, means: FloatArray) -> Mapping[str, FloatArray]:
        k = (means.shape[-1] - 2) // 3
        right, said, had = (means[..., i * k : (i + 1) * k] for i in range(3))
        f1 = np.divide(2 * right, said + had, out=np.full_like(right, np.nan), where=said + had > 0)
        return {
            MACRO_F1: np.nan_to_num(mean_of_known(f1)),
            "label_accuracy": means[..., -2],
            "exact_match": means[..., -1],
        }

    def right_decisions(self, targets: Array) -> IntArray | None:
        return targets.reshape(-1).astype(np.int64)
