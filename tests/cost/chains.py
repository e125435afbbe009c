"""Random costs over variables of which a factor asks for the first and two neighbours: few enough to try all."""

from __future__ import annotations

import itertools
from collections.abc import Sequence

import numpy as np

from hwnas.cost._layers import Cost
from hwnas.cost.elimination import Combine, Factor
from hwnas.types import IntArray

SIZES = (3, 2, 3, 2, 2, 3)
ALL: IntArray = np.array(list(itertools.product(*map(range, SIZES))), dtype=np.int64)


def random_costs(combine: Sequence[Combine], *, seed: int, neighbours: int = len(SIZES) - 1) -> list[Cost]:
    """Whole numbers, which floats add exactly; the last pairs do not ask for the first variable.

    Args:
        combine: of each cost.
        seed: of the entries.
        neighbours: of which pairs the first ask for the first variable too.
    """
    rng = np.random.default_rng(seed)
    scopes = [(0, i, i + 1) if i <= neighbours else (i, i + 1) for i in range(1, len(SIZES) - 1)]
    return [
        Cost(
            factors=tuple(
                Factor(scope=s, values=rng.integers(1, 40, [SIZES[v] for v in s]).astype(float)) for s in scopes
            ),
            combine=c,
            offset=0.0,
            ratio=1.0,
        )
        for c in combine
    ]
