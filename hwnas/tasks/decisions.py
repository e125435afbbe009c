"""What outputs decide: by that two programs are held against each other, whatever their numbers.

Knows arrays only.
"""

from __future__ import annotations

from collections.abc import Callable, Mapping
from typing import Literal

import numpy as np

from hwnas.types import Array

Decides = Literal["prediction", "label", "pixel", "value"]


def _predictions(outputs: Array) -> Array:
    return outputs  # (N, classes)


def _labels(outputs: Array) -> Array:
    logits = outputs.reshape(-1, 1)  # (N * labels, 1): without the label, and with it
    return np.concatenate([np.zeros_like(logits), logits], 1)


def _pixels(outputs: Array) -> Array:
    # (N, classes, h, w) -> (N * h * w, classes)
    return np.moveaxis(outputs, 1, -1).reshape(-1, outputs.shape[1])


SCORES: Mapping[str, Callable[[Array], Array]] = {"prediction": _predictions, "label": _labels, "pixel": _pixels}


def scores(outputs: Array, decides: str) -> Array | None:
    """(D, C) scores of the C things that each of D decisions is between; None where outputs are values.

    Args:
        outputs: (N, ...) float32.
        decides: what one decision is: a `prediction` of a class, a `label` that a sample has or not, a `pixel` of a
            class, or a `value`.
    """
    found = SCORES.get(decides)
    return None if found is None else found(outputs)
