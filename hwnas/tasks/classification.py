"""Which one of several classes a sample is of."""

from __future__ import annotations

import math
from collections.abc import Mapping, Sequence
from typing import TYPE_CHECKING, Self

import numpy as np

from hwnas.allowed import ACCURACY
from hwnas.data.targets import CLASS_INDICES
from hwnas.errors import ConfigError
from hwnas.tasks.base import Task
from hwnas.types import Array, FloatArray, IntArray

if TYPE_CHECKING:
    from torch import Tensor

    from hwnas.data import ArrayDataset

BALANCED = "balanced"
_TOP = 5


class Classification(Task):
    """Outputs are (N, classes) logits, targets (N,) class indices.

    Measured are `accuracy`, the share of samples whose highest logit is that of their class, and `top5`, whose class is
    among the five highest, where there are more classes.

    Args:
        class_weights: what errors of each class count, in the order of the classes; `balanced`: inversely to how
            frequent they are in training; None: alike. In the loss alone: accuracy counts samples.
    """

    name = "classification"
    metric = ACCURACY
    targets = CLASS_INDICES
    counts = "classes"
    decides = "prediction"

    def __init__(self, *, class_weights: str | Sequence[float] | None = None) -> None:
        self._asked = class_weights
        self._weights: tuple[float, ...] | None = None

    def fitted(self, train: ArrayDataset, *, n_outputs: int | None = None, given: bool = False) -> Self:
        if self._asked is not None:
            self._weights = weights_of(self._asked, np.bincount(train.targets, minlength=n_outputs or 0))
        return self

    def loss(self, outputs: Tensor, targets: Tensor, *, label_smoothing: float = 0.0) -> Tensor:
        from torch.nn.functional import cross_entropy

        weight = None if self._weights is None else outputs.new_tensor(self._weights)
        return cross_entropy(outputs, targets, weight=weight, label_smoothing=label_smoothing)

    def distill(self, outputs: Tensor, teacher: Tensor) -> Tensor:
        return soft_cross_entropy(outputs, teacher)

    def answers(self, outputs: Tensor) -> Tensor:
        return outputs.argmax(1)

    def statistics(self, outputs: Tensor, targets: Tensor) -> Tensor:
        import torch

        # argmax, not the first of the highest five: equal logits have one order for the metric and the runtime
        first = outputs.argmax(1) == targets
        if outputs.shape[1] <= _TOP:
            return first[:, None].double()
        within = (outputs.topk(_TOP, 1).indices == targets[:, None]).any(1)
        return torch.stack([first, within], 1).double()

    def measures(self, means: FloatArray) -> Mapping[str, FloatArray]:
        return dict(zip((ACCURACY, f"top{_TOP}"), np.moveaxis(means, -1, 0), strict=False))

    def standard_error(self, value: float, statistics: FloatArray) -> float:
        return binomial_error(value, len(statistics))

    def right_decisions(self, targets: Array) -> IntArray | None:
        return targets.astype(np.int64)


def soft_cross_entropy(logits: Tensor, teacher: Tensor) -> Tensor:
    """Cross-entropy of (N, classes, ...) logits with the teacher's softmax."""
    from torch.nn.functional import log_softmax, softmax

    return -(softmax(teacher, 1) * log_softmax(logits, 1)).sum(1).mean()


def binomial_error(accuracy: float, n: int) -> float:
    """By how much an accuracy measured on n samples may be off: one binomial standard error, never less than a sample.

    Without the floor an accuracy of 1 would count as exact.

    Args:
        accuracy: in [0, 1].
        n: at least 1.
    """
    return max(math.sqrt(accuracy * (1 - accuracy) / n), 1 / n)


def weights_of(asked: str | Sequence[float], counts: IntArray) -> tuple[float, ...]:
    """What errors of each class count; their mean over the samples is 1 where they are balanced.

    Args:
        asked: `balanced`, or one number a class.
        counts: (classes,) of the training samples.

    Raises:
        ConfigError: there is not one number a class.
    """
    if asked == BALANCED:
        # a class that was set aside as a whole teaches nothing, whatever it counts
        weights = np.divide(counts.sum() / len(counts), counts, out=np.ones(len(counts)), where=counts > 0)
        return tuple(weights.tolist())
    if isinstance(asked, str) or len(asked) != len(counts):
        raise ConfigError(f"task.class_weights is {asked!r}; give {BALANCED!r}, or {len(counts)} numbers, one a class")
    return tuple(map(float, asked))
