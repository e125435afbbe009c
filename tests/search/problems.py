"""Small searches that the tests of this folder share."""

import numpy as np

from hwnas.search import Problem
from hwnas.search.problem import ClosedForm
from hwnas.spaces import CategoricalSpace
from hwnas.types import Estimate, FloatArray, IntArray, Option

# 4 * 4 * 4 encodings; the third choice matters only if the first is not "a": 4 + 3 * 16 = 52 networks
SPACE = CategoricalSpace(
    {"x": ("a", "b", "c", "d"), "y": (1, 2, 3, 4), "z": (1, 2, 3, 4)},
    name="xyz",
    conditions={"z": ("x", ("b", "c", "d"))},
)
# too large to list: 4 ** 20 encodings
WIDE = CategoricalSpace({f"c{i}": (0, 1, 2, 3) for i in range(20)}, name="wide")


def cost(encodings: IntArray) -> FloatArray:
    """The sum of all option indices."""
    return np.asarray(encodings, dtype=float).sum(axis=1)


def quality(architecture: dict[str, Option]) -> dict[str, float]:
    """Grows with every choice of SPACE."""
    return {"accuracy": "abcd".index(str(architecture["x"])) + int(architecture["y"]) + int(architecture.get("z", 0))}


class Bounded:
    """A cost model: the sum of option indices, an upper bound of 1 more, and exact extremes."""

    metric = "cost"

    def __init__(self, space: CategoricalSpace) -> None:
        self.space = space

    def estimate(self, encodings: IntArray) -> Estimate:
        return Estimate(value=cost(encodings), upper=cost(encodings) + 1)

    def bounds(self) -> tuple[float, float]:
        return 0.0, float(sum(len(c.options) - 1 for c in self.space.choices))

    def minimizer(self) -> IntArray:
        return self.space.smallest()


def problem(
    space: CategoricalSpace = SPACE, *, limit: float | None = 4.0, closed_form: ClosedForm = cost, n_trials: int = 50
) -> Problem:
    return Problem(
        space,
        {"accuracy": "maximize", "cost": "minimize"},
        n_trials=n_trials,
        limits=None if limit is None else {"cost": limit},
        closed_form={"cost": closed_form},
    )
