"""Random sets of tight limits, decided exactly: how many answers are right, how long they take, and what they tell.

Of every set: a network that is given as keeping the limits is held against them by adding up its blocks; the value that
an error tells must be accepted when it is given back, and the network it names must cost just that. Of some sets an
integer program over the slots' blocks (HiGHS through SciPy), which shares no code with the answer, must find the same
smallest value, or none. The tables' entries are made up; everything runs on one core.
"""

from __future__ import annotations

import argparse
import hashlib
import statistics
import time
from collections.abc import Mapping, Sequence
from dataclasses import dataclass
from typing import TYPE_CHECKING, Any

from _common import Benchmark, Figure, script

if TYPE_CHECKING:
    import numpy as np

    from hwnas.cost import SlotBlocks, SlotCost
    from hwnas.errors import InfeasibleError
    from hwnas.limits import Limit
    from hwnas.spaces.mobilenet import MobileNetSpace
    from hwnas.types import Block, IntArray

_RATIOS = {"latency_ms": 1.07, "energy_mj": 1.05, "size_bytes": 1.01}  # upper bound over value
_OFFSETS = {"latency_ms": 0.01, "size_bytes": 2000.0}
_SECONDS = {"mobilenet-tiny": 1.0, "mobilenet-v3-large": 2.0}
_PROGRAM_SECONDS = 5.0  # for each option of the first choice; what takes longer is counted, not compared
_CLOSE = 1e-6  # relative: the integer program's own tolerance


def main(argv: Sequence[str] | None = None) -> int:
    """Run the program; returns its exit status."""
    parser = argparse.ArgumentParser(description=__doc__)
    parser.add_argument("--sets", type=int, default=500, help="of limits, for each of two presets (500)")
    parser.add_argument("--checked", type=int, default=20, help="of them by an integer program, for each preset (20)")
    parser.add_argument("--presets", nargs="+", default=list(_SECONDS), help="(mobilenet-tiny mobilenet-v3-large)")
    parser.add_argument("--seed", type=int, default=0, help="of the sets (0)")
    parser.add_argument("--minutes", type=float, default=60.0, help="for each preset; the sets until then count (60)")
    bench = Benchmark("exact_limits", parser, argv)
    o = bench.options
    presets, sets, checked = (("test-tiny",), 12, 3) if bench.smoke else (o.presets, o.sets, o.checked)
    figures: list[Figure] = []
    for preset in presets:
        figures += Trial(preset).run(sets, checked=checked, seed=o.seed, seconds=60 * o.minutes)
    return bench.publish(figures, details={"presets": list(presets), "sets": sets, "checked": checked, "seed": o.seed})


@dataclass
class Counts:
    """What came out of the sets of one preset."""

    feasible: int = 0
    infeasible: int = 0
    undecided: int = 0
    wrong: int = 0
    not_told: int = 0
    told: int = 0
    accepted: int = 0
    checked: int = 0
    too_long_to_check: int = 0


class Trial:
    """One preset with made-up costs."""

    def __init__(self, preset: str) -> None:
        from hwnas import registry
        from hwnas.cost import SlotBlocks, SlotCost, analytic, closed_form_costs

        self.preset = preset
        self.space: MobileNetSpace = registry.load("spaces", preset)()
        self.blocks = SlotBlocks.of(self.space)
        forms = {
            "latency_ms": lambda b: _made_up(b, "latency"),
            "energy_mj": lambda b: _made_up(b, "energy"),
            "size_bytes": lambda b: float(analytic.size_bytes(b)),
        }
        self.models: dict[str, SlotCost] = {
            **closed_form_costs(self.blocks),
            **{
                m: SlotCost(
                    metric=m, table=self.blocks.table(form, offset=_OFFSETS.get(m, 0.0)), upper_ratio=_RATIOS[m]
                )
                for m, form in forms.items()
            },
        }
        self.of_block = {
            **forms,
            "macs": lambda b: float(analytic.macs(b)),
            "parameters": lambda b: float(analytic.parameters(b)),
            "peak_memory_bytes": lambda b: float(analytic.peak_memory_bytes(b)),
        }
        self.lowest = {m: model.bounds()[0] * model.upper_ratio for m, model in self.models.items()}
        self.counts = Counts()

    def run(self, sets: int, *, checked: int, seed: int, seconds: float) -> list[Figure]:
        """Decide so many sets of limits, or those that the time is enough for; what came out."""
        import numpy as np
        from cost_speed import one_core

        rng = np.random.default_rng(seed)
        took: list[float] = []
        wall: list[float] = []
        until = time.monotonic() + seconds
        with one_core():
            for i in range(sets):
                if time.monotonic() > until:
                    break
                limits = self._limits(rng)
                began, began_wall = time.process_time(), time.monotonic()
                witness, error = self._decided(limits)
                took.append(time.process_time() - began)
                wall.append(time.monotonic() - began_wall)
                self._judge(limits, witness, error)
                if i * checked // sets != (i + 1) * checked // sets:
                    self._compare(limits, error)
        c, name = self.counts, self.preset.replace("-", "_")
        return [
            Figure(name=f"{name}_sets", value=len(took)),
            Figure(name=f"{name}_right", value=len(took) - c.wrong - c.undecided, at_least=len(took)),
            Figure(name=f"{name}_feasible", value=c.feasible),
            Figure(name=f"{name}_infeasible", value=c.infeasible),
            Figure(name=f"{name}_undecided", value=c.undecided, at_most=0),
            Figure(name=f"{name}_no_value_told", value=c.not_told, at_most=0),
            Figure(name=f"{name}_values_told", value=c.told),
            Figure(name=f"{name}_values_accepted", value=c.accepted, at_least=c.told),
            Figure(name=f"{name}_checked_by_integer_program", value=c.checked),
            Figure(name=f"{name}_integer_program_too_slow", value=c.too_long_to_check),
            Figure(name=f"{name}_median_cpu_s", value=statistics.median(took)),
            Figure(name=f"{name}_99_percent_cpu_s", value=float(np.quantile(took, 0.99))),
            Figure(name=f"{name}_longest_cpu_s", value=max(took), at_most=_SECONDS.get(self.preset)),
            Figure(name=f"{name}_longest_wall_s", value=max(wall)),
        ]

    def _limits(self, rng: np.random.Generator) -> list[Limit]:
        """Two to five metrics, each a little above what it can be alone, so that about half the sets are impossible."""
        from hwnas.limits import Limit

        metrics = rng.choice(list(self.models), size=int(rng.integers(2, 6)), replace=False)
        tightness = 10 ** rng.uniform(-3, -0.3, len(metrics))
        return [
            Limit(metric=str(m), value=self.lowest[str(m)] * float(1 + t))
            for m, t in zip(metrics, tightness, strict=True)
        ]

    def _decided(self, limits: Sequence[Limit]) -> tuple[IntArray | None, InfeasibleError | None]:
        from hwnas.cost import check_reachable
        from hwnas.errors import InfeasibleError

        try:
            return check_reachable(self.models, limits, self.space), None
        except InfeasibleError as e:
            return None, e

    def _judge(self, limits: Sequence[Limit], witness: IntArray | None, error: InfeasibleError | None) -> None:
        import re

        from hwnas.cost import feasible_encodings
        from hwnas.limits import Limit

        c = self.counts
        if error is None and witness is None:
            c.undecided += 1
            return
        if error is None:
            c.feasible += 1
            assert witness is not None
            costs = self._costs(witness)
            beyond = any(costs[x.metric] > x.value * (1 + 1e-12) for x in limits)  # blocks added up in another order
            c.wrong += beyond or not bool(feasible_encodings(witness[None], self.models, limits)[0])
            return
        c.infeasible += 1
        if error.architecture is None:  # proven, but by how much to loosen the limits was not found in the time allowed
            c.not_told += 1
            return
        costs = self._costs(self.space.encode(dict(error.architecture)))  # type: ignore[arg-type]
        told = {m: float(v) for m, v in re.findall(r"(\w+) = ([0-9.]+)", str(error))}
        if error.reachable is not None:
            told = {error.metric: float(str(error).rsplit(" ", 1)[1])}
            c.wrong += abs(costs[error.metric] / error.reachable - 1) > 1e-12
        c.told += 1
        again, refused = self._decided([Limit(metric=x.metric, value=told.get(x.metric, x.value)) for x in limits])
        c.accepted += again is not None and refused is None

    def _costs(self, encoding: IntArray) -> dict[str, float]:
        """A network's upper bounds, by its blocks alone."""
        found = {}
        for m, of_block in self.of_block.items():
            each = [of_block(b) for _, b in self.space.named_blocks(encoding)]
            total = max(each) if m == "peak_memory_bytes" else sum(each)
            found[m] = (total + _OFFSETS.get(m, 0.0)) * _RATIOS.get(m, 1.0)
        return found

    def _compare(self, limits: Sequence[Limit], error: InfeasibleError | None) -> None:
        """Hold an answer against the integer program's."""
        c = self.counts
        asked = {x.metric: x.value for x in limits}
        program = Program(self.blocks, self.of_block)
        if error is None or error.architecture is None:
            return  # its network was held against the limits; or nothing was claimed that could be compared
        if error.reachable is not None:
            del asked[error.metric]
        found = program.smallest(error.metric, asked)
        if isinstance(found, str):
            c.too_long_to_check += 1
            return
        c.checked += 1
        if error.reachable is None:
            c.wrong += found is not None
        else:
            c.wrong += found is None or abs(found / error.reachable - 1) > _CLOSE * 10


class Program:
    """The same question as an integer program: which block stands in each slot, and one option for every choice."""

    def __init__(self, blocks: SlotBlocks, of_block: Mapping[str, Any]) -> None:
        self.blocks, self.of_block = blocks, of_block

    def smallest(self, metric: str, limits: Mapping[str, float]) -> float | str | None:
        """The smallest value of a metric within limits on others; None if nothing keeps them, text if undecided."""
        best: float | str | None = None
        for first in range(self.blocks.sizes[0]):  # the choice every slot depends on
            found = self._smallest(metric, limits, first=first)
            if isinstance(found, str):
                return found
            if found is not None:
                assert not isinstance(best, str)
                best = found if best is None else min(best, found)
        return best

    def _smallest(self, metric: str, limits: Mapping[str, float], *, first: int) -> float | str | None:
        import numpy as np
        from scipy.optimize import Bounds, LinearConstraint, milp
        from scipy.sparse import csr_array

        b = self.blocks
        starts = np.cumsum([0, *b.sizes])
        n = int(starts[-1])
        cost: dict[str, list[float]] = {m: [0.0] * n for m in {*limits, metric}}
        upper = [1.0] * n
        upper[: b.sizes[0]] = [float(o == first) for o in range(b.sizes[0])]
        peak = "peak_memory_bytes"
        rows: list[tuple[int, int, float]] = []
        right: list[float] = []
        for c in range(len(b.sizes)):
            rows += [(len(right), int(starts[c]) + o, 1.0) for o in range(b.sizes[c])]
            right.append(1.0)
        for scope, index in zip(b.scopes, b.index, strict=True):
            entries = [
                (cell, k) for cell, k in np.ndenumerate(index) if 0 not in scope or cell[scope.index(0)] == first
            ]
            columns = range(n, n + len(entries))
            n += len(entries)
            for _, k in entries:
                values = {m: 0.0 if k < 0 else self.of_block[m](b.blocks[k]) for m in cost}
                allowed = peak not in limits or values[peak] <= limits[peak]
                upper.append(float(allowed))
                for m, column in cost.items():
                    column.append(values[m])
            for axis, c in enumerate(scope):
                for o in range(b.sizes[c]):
                    if c == 0 and o != first:
                        continue
                    mine = [at for at, (cell, _) in zip(columns, entries, strict=True) if cell[axis] == o]
                    rows += [(len(right), at, 1.0) for at in mine]
                    rows.append((len(right), int(starts[c]) + o, -1.0))
                    right.append(0.0)
        scale = {m: limits.get(m, max(cost[m]) * len(b.slots) or 1.0) for m in cost}
        summed = [m for m in limits if m != peak]
        if metric == peak:  # a column that no entry exceeds
            return "a peak is not minimised here"
        i, j, v = zip(*rows, strict=True)
        equal = csr_array((v, (i, j)), shape=(len(right), n))
        constraints = [LinearConstraint(equal, right, right)]
        for m in summed:
            room = limits[m] / _RATIOS.get(m, 1.0) - _OFFSETS.get(m, 0.0)
            constraints.append(LinearConstraint(csr_array([np.array(cost[m]) / room]), -np.inf, 1.0))
        integer = np.zeros(n)
        integer[: starts[-1]] = 1
        found = milp(
            np.array(cost[metric]) / scale[metric],
            constraints=constraints,
            bounds=Bounds(0, np.array(upper)),
            integrality=integer,
            options={"time_limit": _PROGRAM_SECONDS, "mip_rel_gap": _CLOSE},
        )
        if found.status == 2:
            return None
        if found.status != 0:
            return str(found.message)
        total = float(np.array(cost[metric]) @ np.round(found.x, 6))
        return (total + _OFFSETS.get(metric, 0.0)) * _RATIOS.get(metric, 1.0)


def _made_up(block: Block, what: str) -> float:
    """A positive number that grows with the block's work, and differs from block to block as a measured one does."""
    from hwnas.cost import analytic
    from hwnas.precisions import is_conversion

    share = int(hashlib.sha256(f"{what} {block.key}".encode()).hexdigest()[:8], 16) / 2**32
    if is_conversion(block.kind):
        elements = block.in_shape[0] * block.in_shape[1] * block.in_shape[2] if len(block.in_shape) == 3 else 1
        return 0.002 * (1 + share) + 1e-8 * elements
    work = 0.002 + 2e-7 * analytic.macs(block) * (0.6 if block.precision == "int8" else 1.0)
    return work * (0.7 + 0.6 * share)


if __name__ == "__main__":
    script(main)
