"""Whether a runtime computes what torch does: by what outputs decide, with as much certainty as their number allows.

Knows arrays of outputs; never how they were computed.
"""

from __future__ import annotations

import math
from collections.abc import Mapping, Sequence
from dataclasses import dataclass, field

import numpy as np

from hwnas.row_parts import RowPart, columns
from hwnas.tasks.decisions import scores
from hwnas.types import Array, Artefact, IntArray, TensorSpec

TOLERANCE = 1e-4  # largest difference of a float logit, relative to the largest logit
STEPS = 2  # of an output's scale that integers may be off by: a value on the edge between two steps falls to either
WRONG_SHARE = 0.005  # of predictions that may be others, beyond near-ties
ERROR = 1.25  # how far integers may be from what they round, over how far torch's are
_CERTAINTY = 0.99  # with which more than that share must be shown before a runtime is called wrong
_MORE = 1 + 1e-4  # a difference of just two steps must not fail by rounding
# quant_max - quant_min of 8 bits
_QUANT_RANGE = 255


@dataclass(frozen=True, slots=True, kw_only=True)
class Comparison:
    """A runtime's outputs against torch's.

    Attributes:
        n: number of decisions: of a classifier its predictions, one a sample; of values each of them is one.
        difference: largest, of an output.
        scale: largest output of torch.
        step: of the outputs; see `output_step`.
        disagreements: decisions that are others: another highest logit, a value that is off by more than STEPS.
        near_ties: those of them where the two classes' logits are off by STEPS at most: no fault of the runtime.
        error_ratio: how far the runtime's outputs are from those of the network in floats, over how far torch's are
            (roots of mean squares); None if nobody gave these.
        decides: what a decision is called.
        lost: decisions that torch's integers make right, and the runtime's do not.
        gained: the other way round.
        outputs: of a network of several, each by its name; the numbers above are of all of them then: sums, the
            largest difference and scale, and the largest error ratio.
    """

    n: int
    difference: float
    scale: float
    step: float
    disagreements: int
    near_ties: int
    error_ratio: float | None = None
    decides: str = "prediction"
    lost: int = 0
    gained: int = 0
    outputs: Mapping[str, Comparison] = field(default_factory=dict)

    @property
    def is_another_rounding(self) -> bool:
        """Whether the runtime rounds the same network, if not as torch does: as near to its floats, and as often right.

        A number on the edge between two integers, which two programs round to different sides, moves others over their
        edges. After dozens of layers two right programs are as far from each other as each is from the floats; one
        with a wrong operator is further from these.
        """
        near = self.error_ratio is not None and self.error_ratio <= ERROR
        # paired: of images that one of two equally good ones is right about, half are lost
        return near and self.lost <= _most_of(self.lost + self.gained, share=0.5)

    @property
    def agreement(self) -> float:
        """Share of equal decisions."""
        return 1 - self.disagreements / self.n

    def problems(self, *, exact: bool, share: float = WRONG_SHARE) -> list[str]:
        """What is wrong with the runtime's outputs; empty if nothing is.

        Float outputs must be equal to 1e-4 of the largest logit (at least 1). Of quantized outputs, and where a runtime
        computes floats in fewer bits, predictions count: wrong is what a share of WRONG_SHARE leads to in less than one
        case in a hundred (a one-sided binomial test), unless it is another rounding of the same network.

        Args:
            exact: outputs are floats that nothing is lost of.
            share: of decisions that may be others, beyond near-ties. Of several outputs each must be right.
        """
        if self.outputs:
            found = ((name, each.problems(exact=exact, share=share)) for name, each in self.outputs.items())
            return [f"output {name!r}: {problem}" for name, problems in found for problem in problems]
        # at least 1: logits near zero would be held to rounding errors
        allowed = TOLERANCE * max(1.0, self.scale)
        if not np.isfinite(self.difference) or (exact and self.difference > allowed):
            return [f"outputs differ from torch's by {self.difference:.2g} (allowed: {allowed:.2g})"]
        wrong, most = self.disagreements - self.near_ties, most_wrong(self.n, share=share)
        if exact or wrong <= most or self.is_another_rounding:
            return []
        told = (
            f"{wrong} of {self.n} {self.decides}s are others than torch's, and no near-ties; at this number "
            f"at most {most} may be"
        )
        if self.error_ratio is None:
            return [told]
        return [
            f"{told}. Nor is it the same network rounded otherwise: its error is {self.error_ratio:.2f} times that of "
            f"torch's integers (allowed: {ERROR:g}), and of {self.lost + self.gained} {self.decides}s that one of the "
            f"two is right about it loses {self.lost}"
        ]


def compare(
    found: Array,
    expected: Array,
    *,
    decides: str = "prediction",
    step: float = 0.0,
    floats: Array | None = None,
    right: IntArray | None = None,
) -> Comparison:
    """Hold a runtime's outputs against torch's.

    Args:
        found: (N, ...) by the runtime.
        expected: by torch.
        decides: what outputs decide, see `hwnas.tasks.decisions`.
        step: of the outputs, at least; that of `expected`'s own range if it is larger.
        floats: by torch, of the network that both round; None where it is not known, or nothing is.
        right: (D,) right decisions, if they are known.
    """
    step = max(step, output_step(expected))
    decided = _values(found, expected, step=step)
    lost = gained = 0
    of_ours, of_theirs = scores(expected, decides), scores(found, decides)
    if of_ours is not None and of_theirs is not None:
        ours, theirs = of_ours.argmax(1), of_theirs.argmax(1)
        decided = _decisions(of_theirs, of_ours, ours, theirs, step=step)
        if right is not None:
            lost, gained = (
                int(((ours == right) & (theirs != right)).sum()),
                int(((ours != right) & (theirs == right)).sum()),
            )
    n, disagreements, near_ties = decided
    return Comparison(
        n=n,
        difference=float(np.abs(found - expected).max()),
        scale=float(np.abs(expected).max()),
        step=step,
        disagreements=disagreements,
        near_ties=near_ties,
        error_ratio=None if floats is None else _error(found, floats) / max(_error(expected, floats), 1e-12),
        decides=decides,
        lost=lost,
        gained=gained,
    )


def compare_outputs(
    found: Array,
    expected: Array,
    *,
    parts: Sequence[RowPart],
    decides: str = "value",
    steps: Mapping[str, float],
    floats: Array | None = None,
    right: IntArray | None = None,
) -> Comparison:
    """Hold a runtime's outputs against torch's, each of several by itself: its values are compared with its own range.

    Args:
        found: (N, ...) by the runtime; likewise the next.
        expected: see `compare`.
        parts: the several outputs; none of a network of one.
        decides: see `compare`; several outputs are values.
        steps: of each part, or of the only output under "", at least; see `compare`.
        floats: see `compare`.
        right: likewise.
    """
    if not parts:
        return compare(found, expected, decides=decides, step=steps.get("", 0.0), floats=floats, right=right)
    each = {
        part.name: compare(
            found[:, at],
            expected[:, at],
            decides="value",
            step=steps.get(part.name, 0.0),
            floats=None if floats is None else floats[:, at],
        )
        for part, at in columns(parts)
    }
    ratios = [c.error_ratio for c in each.values() if c.error_ratio is not None]
    return Comparison(
        n=sum(c.n for c in each.values()),
        difference=max(c.difference for c in each.values()),
        scale=max(c.scale for c in each.values()),
        step=max(c.step for c in each.values()),
        disagreements=sum(c.disagreements for c in each.values()),
        near_ties=0,
        error_ratio=max(ratios, default=None),
        decides="value",
        outputs=each,
    )


def _values(found: Array, expected: Array, *, step: float) -> tuple[int, int, int]:
    """How many values there are, and how many are others."""
    return expected.size, int((np.abs(found - expected) > STEPS * step * _MORE).sum()), 0


def _decisions(found: Array, expected: Array, ours: IntArray, theirs: IntArray, *, step: float) -> tuple[int, int, int]:
    """How many decisions there are, how many are others, and how many of these are near-ties.

    Args:
        found: (D, C) scores by the runtime.
        expected: by torch.
        ours: (D,) torch's decisions.
        theirs: the runtime's.
        step: of the outputs.
    """
    rows = np.flatnonzero(ours != theirs)
    difference = np.abs(found[rows] - expected[rows])
    at = np.arange(len(rows))
    # of the two scores that the decision is between; what others differ by does not decide it
    worst = np.maximum(difference[at, ours[rows]], difference[at, theirs[rows]])
    return len(ours), len(rows), int((worst <= STEPS * step * _MORE).sum())


def _error(outputs: Array, floats: Array) -> float:
    return float(np.sqrt(np.mean((outputs.astype(np.float64) - floats) ** 2)))


def output_step(expected: Array, spec: TensorSpec | None = None) -> float:
    """What an integer output can tell apart at least: one step of 255 over the outputs' range.

    Args:
        expected: (N, ...) outputs.
        spec: of the artefact's output; its scale counts if that is an integer.
    """
    own = spec.scale if spec is not None and np.dtype(spec.dtype).kind in "iu" else 0.0
    return max(own, float(expected.max() - expected.min()) / _QUANT_RANGE)


def output_steps(expected: Array, artefact: Artefact, parts: Sequence[RowPart]) -> dict[str, float]:
    """`output_step` of each of several outputs by name, or of the only one under ""."""
    if not parts:
        return {"": output_step(expected, artefact.output)}
    specs = zip(columns(parts), artefact.outputs, strict=True)
    return {part.name: output_step(expected[:, at], spec) for (part, at), spec in specs}


def most_wrong(n: int, *, share: float = WRONG_SHARE) -> int:
    """How many of n predictions may be wrong before more than a share of them is shown."""
    return n if share >= 1 else _most_of(n, share=share)


def _most_of(n: int, *, share: float) -> int:
    """The most of n that a share in (0, 1) leads to, but for one case in a hundred."""
    left, k = 1.0, 0  # the probability that more than k - 1 are
    while True:
        # by logarithms of factorials: the binomial coefficients of thousands of images overflow
        left -= math.exp(
            math.lgamma(n + 1) - math.lgamma(k + 1) - math.lgamma(n - k + 1)
            + k * math.log(share) + (n - k) * math.log1p(-share)
        )  # fmt: skip
        if left < 1 - _CERTAINTY or k == n:
            return k
        k += 1
