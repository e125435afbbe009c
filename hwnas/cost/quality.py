"""How well predictions agree with measurements. Knows two lists of numbers, not where they come from."""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import dataclass

import numpy as np

from hwnas.types import FloatArray


@dataclass(frozen=True, slots=True, kw_only=True)
class PredictionQuality:
    """The agreement of n predictions with their measurements; errors are relative to the measurement.

    Attributes:
        n: number of pairs.
        mean_abs_error_percent: mean of |predicted / measured - 1|, in percent.
        max_abs_error_percent: the largest of them.
        bias_percent: mean of predicted / measured - 1; positive if predictions are too large.
        within_5: share of predictions within 5 % of the measurement, in [0, 1].
        within_10: likewise within 10 %.
        kendall_tau: rank correlation in [-1, 1] (tau-b); None where ranks mean nothing, because there are
            fewer than two pairs or all values of one side are equal.
    """

    n: int
    mean_abs_error_percent: float
    max_abs_error_percent: float
    bias_percent: float
    within_5: float
    within_10: float
    kendall_tau: float | None

    @classmethod
    def of(cls, predicted: Sequence[float] | FloatArray, measured: Sequence[float] | FloatArray) -> PredictionQuality:
        """Compare (n,) predictions with (n,) measurements of the same networks.

        Raises:
            ValueError: the lengths differ, there is nothing to compare, or a measurement is not positive.
        """
        p, m = np.asarray(predicted, dtype=float), np.asarray(measured, dtype=float)
        if p.shape != m.shape or p.ndim != 1 or not len(p):
            raise ValueError(
                f"{p.shape} predictions against {m.shape} measurements; both must be equally long, at least 1"
            )
        if not (np.isfinite(p).all() and np.isfinite(m).all() and (m > 0).all()):
            raise ValueError("predictions must be finite and measurements positive and finite")
        # relative: absolute errors of milliseconds say nothing across spaces and devices
        error = p / m - 1
        return cls(
            n=len(p),
            mean_abs_error_percent=float(100 * np.abs(error).mean()),
            max_abs_error_percent=float(100 * np.abs(error).max()),
            bias_percent=float(100 * error.mean()),
            within_5=float((np.abs(error) <= 0.05).mean()),
            within_10=float((np.abs(error) <= 0.10).mean()),
            kendall_tau=_kendall_tau(p, m),
        )

    def __str__(self) -> str:
        tau = "" if self.kendall_tau is None else f", rank correlation {self.kendall_tau:.3f}"
        return (
            f"mean error {self.mean_abs_error_percent:.1f} %, {100 * self.within_5:.0f} % within 5 %, "
            f"{100 * self.within_10:.0f} % within 10 %{tau} (n = {self.n})"
        )


def _kendall_tau(a: FloatArray, b: FloatArray) -> float | None:
    """Tau-b (Kendall, 1945): of the pairs that neither side ties, those in the same order less those in another.

    Not `scipy.stats.kendalltau`, whose import takes longer than all else that is done with a table.
    """
    order_a, order_b = (np.sign(x[:, None] - x) for x in (a, b))  # (n,) -> (n, n)
    pairs = np.sqrt(float(np.count_nonzero(order_a)) * np.count_nonzero(order_b))
    # ties on one whole side leave 0 / 0
    return float((order_a * order_b).sum() / pairs) if pairs else None
