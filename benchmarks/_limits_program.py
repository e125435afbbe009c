"""Whether limits can be kept, as an integer program over slots and blocks: the judge of `search_limits.py`.

A column for each option of each choice, and one for each way to fill a slot. HiGHS keeps rows to a millionth, and where
limits are tight there are networks within that of a limit which do not keep it: so what it finds is added up block by
block, and if that is beyond a limit, the least is asked that a network costs there which keeps the others.
"""

from __future__ import annotations

import functools
from collections.abc import Callable, Mapping, Sequence
from dataclasses import dataclass
from typing import TYPE_CHECKING, Any

if TYPE_CHECKING:
    from scipy.sparse import csr_array

    from hwnas.cost import SlotBlocks
    from hwnas.limits import Limit
    from hwnas.types import FloatArray, IntArray

_SECONDS = 20.0  # for each option of the first choice
_SCALE = 1e4
_INFEASIBLE = 2  # of the statuses of `scipy.optimize.milp`


@dataclass(frozen=True, kw_only=True, eq=False)
class Cells:
    """The columns of all networks with one option of the first choice.

    Attributes:
        block: (columns,) the block that each stands for, -1 for none.
        rows: what makes a network of them: `rows @ columns == right`.
        right: see there.
        upper: (columns,) 0 for the other options of the first choice.
    """

    block: IntArray
    rows: csr_array
    right: FloatArray
    upper: FloatArray


class Program:
    """Whether limits can be kept.

    Args:
        blocks: of the space.
        of_block: metric -> what a block costs.
        beyond: how far (D,) a network is beyond a limit, as a share of it; at most 0 if it keeps it.
        offsets: metric -> what is added to the sum.
        ratios: metric -> upper bound over value.
        peak: the metric of which the largest block counts.
    """

    def __init__(
        self,
        blocks: SlotBlocks,
        of_block: Mapping[str, Any],
        beyond: Callable[[IntArray, Limit], float],
        *,
        offsets: Mapping[str, float],
        ratios: Mapping[str, float],
        peak: str,
    ) -> None:
        import numpy as np

        self._blocks, self._beyond = blocks, beyond
        self._values = {m: np.array([*(form(b) for b in blocks.blocks), 0.0]) for m, form in of_block.items()}
        self._offsets, self._ratios, self._peak = offsets, ratios, peak
        self._starts = np.cumsum([0, *blocks.sizes])

    def is_possible(self, limits: Sequence[Limit]) -> bool | None:
        """Whether some network keeps the limits; None if that was not found out."""
        found: list[bool | None] = []
        for first in range(self._blocks.sizes[0]):  # the choice every slot depends on
            found.append(self._is_possible(limits, self._cells(first)))
            if found[-1]:
                return True
        return None if None in found else False

    def _is_possible(self, limits: Sequence[Limit], cells: Cells) -> bool | None:
        status, network = self._solved(limits, cells)
        if network is None:
            return False if status == _INFEASIBLE else None
        beyond = {x: self._beyond(network, x) for x in limits}
        worst = max(limits, key=lambda x: beyond[x])
        if beyond[worst] <= 0:
            return True
        if worst.metric == self._peak:  # its rows are whole numbers
            return None
        others = [x for x in limits if x != worst]
        status, network = self._solved(others, cells, nearest_to=worst)
        if network is None or status != 0 or any(self._beyond(network, x) > 0 for x in others):
            return None
        return self._beyond(network, worst) <= 0

    def _solved(
        self, limits: Sequence[Limit], cells: Cells, *, nearest_to: Limit | None = None
    ) -> tuple[int, IntArray | None]:
        """The solver's status, and a network that keeps limits to its tolerance, the best one for another limit."""
        import numpy as np
        from scipy.optimize import Bounds, LinearConstraint, milp
        from scipy.sparse import csr_array

        constraints = [LinearConstraint(cells.rows, cells.right, cells.right)]
        upper = cells.upper.copy()
        for x in limits:
            values = self._values[x.metric][cells.block]
            if x.metric != self._peak:
                low, high = (1.0, np.inf) if x.floor else (-np.inf, 1.0)
                constraints.append(LinearConstraint(csr_array([values / self._room(x)]), low, high))
            elif x.floor:  # some block is that large
                constraints.append(LinearConstraint(csr_array([(values >= x.value).astype(float)]), 1.0, np.inf))
            else:
                upper[values > x.value] = 0.0
        objective = np.zeros(len(upper))
        if nearest_to is not None:
            sign = -1.0 if nearest_to.floor else 1.0
            # the solver is content within a millionth of its objective
            objective = sign * _SCALE * self._values[nearest_to.metric][cells.block] / self._room(nearest_to)
        whole = np.zeros(len(upper))
        whole[: self._starts[-1]] = 1
        found = milp(
            objective,
            constraints=constraints,
            bounds=Bounds(0, upper),
            integrality=whole,
            options={"time_limit": _SECONDS, "mip_rel_gap": 0.0},
        )
        if found.x is None:
            return found.status, None
        taken = [int(np.argmax(found.x[a:b])) for a, b in zip(self._starts, self._starts[1:], strict=False)]
        return found.status, self._blocks.canonical(np.array(taken, dtype=np.int64)[None])[0]

    def _room(self, limit: Limit) -> float:
        """What a sum of blocks may be."""
        ratio = 1.0 if limit.floor else self._ratios.get(limit.metric, 1.0)
        return limit.value / ratio - self._offsets.get(limit.metric, 0.0)

    @functools.cache  # noqa: B019  # one program for each preset, as long as the process
    def _cells(self, first: int) -> Cells:
        import numpy as np
        from scipy.sparse import csr_array

        b, starts = self._blocks, self._starts
        n = int(starts[-1])
        blocks: list[int] = [-1] * n  # the last value of each metric is that of none
        upper = [1.0] * n
        upper[: b.sizes[0]] = [float(o == first) for o in range(b.sizes[0])]
        rows: list[tuple[int, int, float]] = []
        right: list[float] = []
        for c in range(len(b.sizes)):
            rows += [(len(right), int(starts[c]) + o, 1.0) for o in range(b.sizes[c])]
            right.append(1.0)
        for scope, index in zip(b.scopes, b.index, strict=True):
            entries = [
                (cell, int(k)) for cell, k in np.ndenumerate(index) if 0 not in scope or cell[scope.index(0)] == first
            ]
            columns = range(n, n + len(entries))
            n += len(entries)
            blocks += [k for _, k in entries]
            upper += [1.0] * len(entries)
            for axis, c in enumerate(scope):
                for o in range(b.sizes[c]):
                    if c == 0 and o != first:
                        continue
                    mine = [at for at, (cell, _) in zip(columns, entries, strict=True) if cell[axis] == o]
                    rows += [(len(right), at, 1.0) for at in mine]
                    rows.append((len(right), int(starts[c]) + o, -1.0))
                    right.append(0.0)
        i, j, v = zip(*rows, strict=True)
        matrix = csr_array((v, (i, j)), shape=(len(right), n))
        return Cells(block=np.array(blocks), rows=matrix, right=np.array(right), upper=np.array(upper))
