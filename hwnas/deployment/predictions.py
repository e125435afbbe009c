"""What a network says of one sample, in the words of its task. Knows outputs and their meaning; nothing of runtimes."""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import dataclass
from typing import TypeAlias

import numpy as np

from hwnas.deployment.shipped import OutputMeaning
from hwnas.row_parts import split_outputs
from hwnas.types import Array


@dataclass(frozen=True, slots=True, kw_only=True)
class Prediction:
    """The class of a sample.

    Attributes:
        class_name: of the highest score.
        scores: class name -> share, in the order of the classes; they sum to 1 (softmax of the logits).
        logits: class name -> the network's output.
    """

    class_name: str
    scores: dict[str, float]
    logits: dict[str, float]


@dataclass(frozen=True, slots=True, kw_only=True)
class Labels:
    """The labels of a sample.

    Attributes:
        labels: those whose score is above one half.
        scores: label -> its probability, each on its own (sigmoid of the logit).
        logits: label -> the network's output.
    """

    labels: tuple[str, ...]
    scores: dict[str, float]
    logits: dict[str, float]


@dataclass(frozen=True, slots=True, kw_only=True)
class Values:
    """Numbers that are foretold of a sample.

    Attributes:
        values: name -> number, in the units of the targets that the network learned from.
    """

    values: dict[str, float]


@dataclass(frozen=True, slots=True, kw_only=True, eq=False)
class Mask:
    """The class of every pixel.

    Attributes:
        classes: (h, w) uint8 indices into `class_names`, of the size of the network's output.
        class_names: in their order.
        logits: (classes, h, w) float32.
    """

    classes: Array
    class_names: tuple[str, ...]
    logits: Array


@dataclass(frozen=True, slots=True, kw_only=True, eq=False)
class Outputs:
    """What a network of a user's own task says.

    Attributes:
        outputs: float32, as the network gives them.
    """

    outputs: Array


@dataclass(frozen=True, slots=True, kw_only=True, eq=False)
class NamedOutputs:
    """What a network of several outputs says.

    Attributes:
        outputs: name -> float32, in the network's order and each in its shape, channels first.
    """

    outputs: dict[str, Array]


AnyPrediction: TypeAlias = Prediction | Labels | Values | Mask | Outputs | NamedOutputs


def prediction_of(outputs: Array, info: OutputMeaning, *, names: Sequence[str]) -> AnyPrediction:
    """What one sample's outputs mean.

    Args:
        outputs: float32, of one sample.
        info: what outputs mean.
        names: of classes, labels or values.
    """
    if info.parts:
        return NamedOutputs(outputs={name: row[0] for name, row in split_outputs(outputs[None], info.parts).items()})
    if info.task == "classification":
        # less the largest: exp of a large logit overflows
        powers = np.exp(outputs.astype(np.float64) - outputs.max())
        return Prediction(
            class_name=names[int(outputs.argmax())],
            scores=_named(names, powers / powers.sum()),
            logits=_named(names, outputs),
        )
    if info.task == "multi_label":
        shares = 1 / (1 + np.exp(-np.clip(outputs.astype(np.float64), -700, 700)))
        labels = tuple(name for name, logit in zip(names, outputs, strict=True) if logit > 0)
        return Labels(labels=labels, scores=_named(names, shares), logits=_named(names, outputs))
    if info.task == "regression":
        values = outputs.astype(np.float64)
        if info.mean is not None and info.std is not None:
            values = values * np.asarray(info.std) + np.asarray(info.mean)
        return Values(values=_named(names, values))
    if info.task == "segmentation":
        return Mask(classes=outputs.argmax(0).astype(np.uint8), class_names=tuple(names), logits=outputs)
    return Outputs(outputs=outputs)


def _named(names: Sequence[str], values: Array) -> dict[str, float]:
    return {name: float(value) for name, value in zip(names, values, strict=True)}
