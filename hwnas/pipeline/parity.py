"""Whether a runtime computes what torch does: by logits, with as much certainty as the number of images allows.

Knows arrays of logits; never how they were computed.
"""

from __future__ import annotations

import math
from dataclasses import dataclass

import numpy as np

from hwnas.types import Array, TensorSpec

TOLERANCE = 1e-4  # largest difference of a float logit, relative to the largest logit
STEPS = 2  # of an output's scale that integers may be off by: a value on the edge between two steps falls to either
WRONG_SHARE = 0.005  # of predictions that may be others, beyond near-ties
_CERTAINTY = 0.99  # with which more than that share must be shown before a runtime is called wrong
# quant_max - quant_min of 8 bits
_QUANT_RANGE = 255


@dataclass(frozen=True, slots=True, kw_only=True)
class Comparison:
    """A runtime's (N, classes) logits against torch's.

    Attributes:
        n: number of images.
        difference: largest, of a logit.
        scale: largest logit of torch.
        step: of the outputs; see `output_step`.
        disagreements: images whose prediction is another.
        near_ties: those of them where the two classes' logits are off by STEPS at most: no fault of the runtime.
    """

    n: int
    difference: float
    scale: float
    step: float
    disagreements: int
    near_ties: int

    @property
    def agreement(self) -> float:
        """Share of equal predictions."""
        return 1 - self.disagreements / self.n

    def problems(self, *, exact: bool) -> list[str]:
        """What is wrong with the runtime's outputs; empty if nothing is.

        Float outputs must be equal to 1e-4 of the largest logit (at least 1). Of quantized outputs, and where a runtime
        computes floats in fewer bits, predictions count: wrong is what a share of WRONG_SHARE leads to in less than one
        case in a hundred (a one-sided binomial test).

        Args:
            exact: outputs are floats that nothing is lost of.
        """
        # at least 1: logits near zero would be held to rounding errors
        allowed = TOLERANCE * max(1.0, self.scale)
        if not np.isfinite(self.difference) or (exact and self.difference > allowed):
            return [f"outputs differ from torch's by {self.difference:.2g} (allowed: {allowed:.2g})"]
        wrong, most = self.disagreements - self.near_ties, most_wrong(self.n)
        if not exact and wrong > most:
            return [
                f"{wrong} of {self.n} predictions are others than torch's, and no near-ties; at this number of images "
                f"at most {most} may be"
            ]
        return []


def compare(found: Array, expected: Array, *, step: float = 0.0) -> Comparison:
    """Hold a runtime's (N, classes) logits against torch's.

    Args:
        found: by the runtime.
        expected: by torch.
        step: of the outputs, at least; that of `expected`'s own range if it is larger.
    """
    difference = np.abs(found - expected)
    step = max(step, output_step(expected))
    ours, theirs = expected.argmax(1), found.argmax(1)
    rows = np.flatnonzero(ours != theirs)
    # of the two logits that the prediction is between; what others differ by does not decide it
    worst = np.maximum(difference[rows, ours[rows]], difference[rows, theirs[rows]])
    return Comparison(
        n=len(expected),
        difference=float(difference.max()),
        scale=float(np.abs(expected).max()),
        step=step,
        disagreements=len(rows),
        # a little more: a difference of just two steps must not fail by rounding
        near_ties=int((worst <= STEPS * step * (1 + 1e-4)).sum()),
    )


def output_step(expected: Array, spec: TensorSpec | None = None) -> float:
    """What an integer output can tell apart at least: one step of 255 over the logits' range.

    Args:
        expected: (N, classes) logits.
        spec: of the artefact's output; its scale counts if that is an integer.
    """
    own = spec.scale if spec is not None and np.dtype(spec.dtype).kind in "iu" else 0.0
    return max(own, float(expected.max() - expected.min()) / _QUANT_RANGE)


def most_wrong(n: int) -> int:
    """How many of n predictions may be wrong before more than WRONG_SHARE is shown."""
    left, k = 1.0, 0  # the probability that more than k - 1 are
    while True:
        # by logarithms of factorials: the binomial coefficients of thousands of images overflow
        left -= math.exp(
            math.lgamma(n + 1) - math.lgamma(k + 1) - math.lgamma(n - k + 1)
            + k * math.log(WRONG_SHARE) + (n - k) * math.log1p(-WRONG_SHARE)
        )  # fmt: skip
        if left < 1 - _CERTAINTY or k == n:
            return k
        k += 1
