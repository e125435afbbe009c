"""Random sets of one to three limits, decided exactly: how many answers are right, how long they take, what they tell.

Limits are on several metrics and from both sides; every second set is possible, because a network keeps it, and the
others are tightened until they are answered to be impossible. Every answer is judged without the code that gave it: a
network is held against the limits by adding up its blocks; that limits are impossible must be found by an integer
program over the slots' blocks (HiGHS through SciPy) as well; of the limits that conflict none may be spared; and the
nearest value told for each must be what a network that keeps the others costs, and just beyond it the integer program
must find nothing. What the integer program cannot decide in its time is counted, and not as right. A network that
HiGHS finds and that is beyond a limit when its blocks are added up contradicts nothing. The tables' entries are made
up; everything runs on one core.
"""

from __future__ import annotations

import argparse
import hashlib
import statistics
import time
from collections.abc import Sequence
from dataclasses import asdict, dataclass
from typing import TYPE_CHECKING

from _common import Benchmark, Figure, script
from _limits_program import Program

if TYPE_CHECKING:
    import numpy as np

    from hwnas.cost import SlotCost
    from hwnas.errors import InfeasibleError, Relaxation
    from hwnas.limits import Limit
    from hwnas.spaces.mobilenet import MobileNetSpace
    from hwnas.types import Block, IntArray

_RATIOS = {"latency_ms": 1.07, "energy_mj": 1.05, "size_bytes": 1.01}  # upper bound over value
_OFFSETS = {"latency_ms": 0.01, "size_bytes": 2000.0}
_SECONDS = {"mobilenet-tiny": 1.0, "mobilenet-v3-large": 2.0}
_BEYOND = 1e-4  # relative: how far beyond a nearest value nothing may be found; more than the program's tolerance
_ROUNDING = 1e-12  # relative: blocks added up in another order
_TIGHTENINGS = 40
PEAK = "peak_memory_bytes"


def main(argv: Sequence[str] | None = None) -> int:
    """Run the program; returns its exit status."""
    parser = argparse.ArgumentParser(description=__doc__)
    parser.add_argument("--sets", type=int, default=500, help="of limits, for each of two presets (500)")
    parser.add_argument("--presets", nargs="+", default=list(_SECONDS), help="(mobilenet-tiny mobilenet-v3-large)")
    parser.add_argument("--seed", type=int, default=0, help="of the sets (0)")
    parser.add_argument("--minutes", type=float, default=120.0, help="for each preset; the sets until then count (120)")
    parser.add_argument("--only", metavar="I,J", help="numbers of sets, as the details have them (all)")
    bench = Benchmark("search_limits", parser, argv)
    o = bench.options
    presets, sets = (("test-tiny",), 8) if bench.smoke else (o.presets, o.sets)
    numbers = range(sets) if o.only is None else [int(i) for i in o.only.split(",")]
    figures: list[Figure] = []
    noted: list[Noted] = []
    for preset in presets:
        trial = Trial(preset)
        figures += trial.run(numbers, seed=o.seed, seconds=60 * o.minutes)
        noted += trial.noted
    details = {"presets": list(presets), "sets": list(numbers), "seed": o.seed, "noted": [asdict(x) for x in noted]}
    return bench.publish(figures, details=details)


@dataclass
class Counts:
    """What came out of the sets of one preset.

    Attributes:
        feasible: sets with a network that keeps them.
        infeasible: sets that were refused.
        wrong: answers that another solver, or adding up blocks, contradicts.
        over: networks that were given and break a limit.
        undecided: sets without an answer.
        unsure: refusals of which the integer program could not decide every claim, and contradicts none.
        unconfirmed: questions that the integer program did not decide in its time, or to its tolerance.
        told: nearest values of limits that conflict.
        together: sets of which no one limit can be loosened alone.
    """

    feasible: int = 0
    infeasible: int = 0
    wrong: int = 0
    over: int = 0
    undecided: int = 0
    unsure: int = 0
    unconfirmed: int = 0
    told: int = 0
    together: int = 0


@dataclass(frozen=True, kw_only=True)
class Noted:
    """A set that was answered wrongly, late or not at all.

    Attributes:
        preset: of the set.
        number: of the set; with the seed it makes the same limits again.
        limits: as they are written.
        contradicted: what was claimed and is not so.
        seconds: of CPU, for the answer.
        answer: the text of the refusal, if it was one.
    """

    preset: str
    number: int
    limits: list[str]
    contradicted: list[str]
    seconds: float
    answer: str


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
            PEAK: lambda b: float(analytic.peak_memory_bytes(b)),
        }
        bounds = {m: model.bounds() for m, model in self.models.items()}
        self.lowest = {m: bounds[m][0] * model.upper_ratio for m, model in self.models.items()}
        self.highest = {m: high for m, (_, high) in bounds.items()}
        self.counts = Counts()
        self.noted: list[Noted] = []
        self._program = Program(self.blocks, self.of_block, self._beyond, offsets=_OFFSETS, ratios=_RATIOS, peak=PEAK)

    def run(self, numbers: Sequence[int], *, seed: int, seconds: float) -> list[Figure]:
        """Decide the sets of limits with these numbers, or those that the time is enough for; what came out."""
        import numpy as np
        import scipy.optimize  # noqa: F401  # half a second, once in a process, that no set is to pay
        from cost_speed import one_core

        took: list[float] = []
        wall: list[float] = []
        until = time.monotonic() + seconds
        with one_core():
            for i in numbers:
                if time.monotonic() > until:
                    break
                rng = np.random.default_rng([seed, i])  # the same set whichever others are drawn
                limits = self._around_a_network(rng) if i % 2 else self._near_the_ends(rng)
                for _ in range(_TIGHTENINGS):
                    began, began_wall = time.process_time(), time.monotonic()
                    witness, error = self._decided(limits)
                    spent = time.process_time() - began, time.monotonic() - began_wall
                    if i % 2 or witness is None:
                        break
                    self._judge_network(limits, witness)  # right or wrong, but not the kind that is looked for
                    limits = self._tightened(limits)
                took.append(spent[0])
                wall.append(spent[1])
                wrong = self._judge(limits, witness, error, is_possible=bool(i % 2))
                if wrong or (error is None and witness is None) or spent[0] > _SECONDS.get(self.preset, 1.0):
                    self._note(i, limits, error, wrong=wrong, seconds=spent[0])
        c, name = self.counts, self.preset.replace("-", "_")
        return [
            Figure(name=f"{name}_sets", value=len(took)),
            Figure(name=f"{name}_right", value=len(took) - c.wrong - c.undecided - c.unsure, at_least=len(took)),
            Figure(name=f"{name}_feasible", value=c.feasible),
            Figure(name=f"{name}_infeasible", value=c.infeasible),
            Figure(name=f"{name}_undecided", value=c.undecided, at_most=0),
            Figure(name=f"{name}_networks_over_a_limit", value=c.over, at_most=0),
            Figure(name=f"{name}_nearest_values_told", value=c.told),
            Figure(name=f"{name}_several_to_loosen_at_once", value=c.together),
            Figure(name=f"{name}_not_decided_by_the_judge", value=c.unconfirmed),
            Figure(name=f"{name}_median_cpu_s", value=statistics.median(took)),
            Figure(name=f"{name}_99_percent_cpu_s", value=float(np.quantile(took, 0.99))),
            Figure(name=f"{name}_longest_cpu_s", value=max(took), at_most=_SECONDS.get(self.preset)),
            Figure(name=f"{name}_longest_wall_s", value=max(wall)),
        ]

    # ------------------------------------------------------------ sets

    def _sides(self, rng: np.random.Generator) -> list[tuple[str, bool]]:
        """One to three of all metrics and sides."""
        all_sides = [(m, floor) for m in self.models for floor in (False, True)]
        chosen = rng.choice(len(all_sides), size=int(rng.integers(1, 4)), replace=False)
        return [all_sides[int(i)] for i in chosen]

    def _metrics(self, rng: np.random.Generator) -> list[tuple[str, bool]]:
        """One to three metrics, one side of each: at the two ends of one metric they would be refused unread."""
        chosen = rng.choice(list(self.models), size=int(rng.integers(1, 4)), replace=False)
        return [(str(m), bool(rng.random() < 0.5)) for m in chosen]

    def _around_a_network(self, rng: np.random.Generator) -> list[Limit]:
        """Limits that a random network keeps, some of them by little."""
        from hwnas.limits import Limit

        network = self.space.sample(1, rng)
        found = []
        for m, floor in self._sides(rng):
            estimate, room = self.models[m].estimate(network), 10 ** rng.uniform(-4, -0.5)
            value = float(estimate.value[0]) * (1 - room) if floor else float(estimate.upper[0]) * (1 + room)
            found.append(Limit(metric=m, value=value, floor=floor))
        return found

    def _near_the_ends(self, rng: np.random.Generator) -> list[Limit]:
        """Limits that each alone can just be kept, or just not."""
        from hwnas.limits import Limit

        found = []
        for m, floor in self._metrics(rng):
            room = 10 ** rng.uniform(-3, -0.3) * (1 if rng.random() < 0.9 else -0.5)
            end = self.highest[m] * (1 - min(room, 0.9)) if floor else self.lowest[m] * (1 + room)
            found.append(Limit(metric=m, value=end, floor=floor))
        return found

    def _tightened(self, limits: Sequence[Limit]) -> list[Limit]:
        """Each halfway to its end, and at last just beyond it."""
        from hwnas.limits import Limit

        found = []
        for x in limits:
            end = self.highest[x.metric] * 1.001 if x.floor else self.lowest[x.metric] * 0.999
            found.append(Limit(metric=x.metric, value=(x.value + end) / 2, floor=x.floor))
        return found

    def _decided(self, limits: Sequence[Limit]) -> tuple[IntArray | None, InfeasibleError | None]:
        from hwnas.cost import check_reachable
        from hwnas.errors import InfeasibleError

        try:
            return check_reachable(self.models, limits, self.space), None
        except InfeasibleError as e:
            return None, e

    # ------------------------------------------------------------ judges

    def _judge(
        self, limits: Sequence[Limit], witness: IntArray | None, error: InfeasibleError | None, *, is_possible: bool
    ) -> list[str]:
        """What is wrong with an answer."""
        c = self.counts
        if error is None:
            c.undecided += witness is None
            c.feasible += witness is not None
            return [] if witness is None else self._judge_network(limits, witness)
        c.infeasible += 1
        before = c.unconfirmed
        wrong = ["said impossible, but it is possible"] if is_possible else self._contradicted(limits, error)
        c.wrong += bool(wrong)
        c.unsure += not wrong and c.unconfirmed > before
        return wrong

    def _judge_network(self, limits: Sequence[Limit], network: IntArray) -> list[str]:
        if self._keeps(network, limits):
            return []
        self.counts.over += 1
        self.counts.wrong += 1
        return ["the network breaks a limit"]

    def _note(
        self, number: int, limits: Sequence[Limit], error: InfeasibleError | None, *, wrong: list[str], seconds: float
    ) -> None:
        noted = Noted(
            preset=self.preset,
            number=number,
            limits=[f"{x.metric} {'>=' if x.floor else '<='} {x.value!r}" for x in limits],
            contradicted=wrong,
            seconds=seconds,
            answer=str(error or ""),
        )
        print(noted, flush=True)
        self.noted.append(noted)

    def _contradicted(self, limits: Sequence[Limit], error: InfeasibleError) -> list[str]:
        """What is claimed of limits that conflict and is not so."""
        from hwnas.limits import Limit

        asked = [Limit(metric=x.metric, value=x.limit, floor=x.floor) for x in error.conflict]
        if not asked:
            return ["no limit is named"]
        found = []
        if not set(asked) <= set(limits):
            found.append("a named limit was not asked")
        if not self._is_impossible(asked):
            found.append("the named limits are possible")
        alone = [x for x in asked if self._is_impossible([x], certain=True)]
        if alone and len(alone) < len(asked):
            found.append("a limit is named beside one that is impossible by itself")
        if not alone and len(asked) > 1:
            for x in asked:
                if self._is_impossible([y for y in asked if y != x], certain=True):
                    found.append(f"{x} can be spared")
        for x, limit in zip(error.conflict, asked, strict=True):
            others = [y for y in limits if y != limit]
            if x.reachable is not None:
                self.counts.told += 1
                found += self._wrong_nearest(x, limit, others)
            elif others and not self._is_impossible(others):
                found.append(f"{limit}: no nearest value, but the others can be kept")
        return found + self._wrong_together(limits, error)

    def _wrong_together(self, limits: Sequence[Limit], error: InfeasibleError) -> list[str]:
        from hwnas.limits import Limit

        if not error.together:
            return []
        self.counts.together += 1
        loosened = {(x.metric, x.floor): x.reachable for x in error.together}
        now = [
            Limit(metric=x.metric, value=loosened.get((x.metric, x.floor)) or x.value, floor=x.floor) for x in limits
        ]
        again, refused = self._decided(now)
        is_kept = refused is None and again is not None and self._keeps(again, now)
        return [] if is_kept else ["loosened together they are not kept"]

    def _wrong_nearest(self, relaxation: Relaxation, limit: Limit, others: Sequence[Limit]) -> list[str]:
        from hwnas.limits import Limit

        assert relaxation.architecture is not None
        assert relaxation.reachable is not None
        network = self.space.encode(dict(relaxation.architecture))  # type: ignore[arg-type]
        counts = self._counting(network, limit)
        share = _BEYOND if limit.floor else -_BEYOND
        closer = Limit(metric=limit.metric, value=relaxation.reachable * (1 + share), floor=limit.floor)
        found = []
        if abs(counts / relaxation.reachable - 1) >= _ROUNDING:
            found.append(f"{limit}: the nearest value is not what its network costs")
        if not self._keeps(network, others):
            found.append(f"{limit}: the network of the nearest value breaks the others")
        if not self._is_impossible([*others, closer]):
            found.append(f"{limit}: a nearer value is possible than {relaxation.reachable!r}")
        return found

    def _is_impossible(self, limits: Sequence[Limit], *, certain: bool = False) -> bool:
        """Whether the integer program finds nothing; where it cannot tell, that is counted, and believed unless
        `certain`.
        """
        found = self._program.is_possible(limits)
        if found is None:
            self.counts.unconfirmed += 1
            return not certain
        return not found

    def _keeps(self, network: IntArray, limits: Sequence[Limit]) -> bool:
        return all(self._beyond(network, x) <= 0 for x in limits)

    def _beyond(self, network: IntArray, limit: Limit) -> float:
        """How far a network is beyond a limit, as a share of it, by more than the rounding of another order."""
        excess = self._counting(network, limit) / limit.value - 1
        return (-excess if limit.floor else excess) - _ROUNDING

    def _counting(self, network: IntArray, limit: Limit) -> float:
        """What counts against a limit, by the network's blocks alone."""
        each = [self.of_block[limit.metric](b) for _, b in self.space.named_blocks(network)]
        total = max(each) if limit.metric == PEAK else sum(each)
        ratio = 1.0 if limit.floor else _RATIOS.get(limit.metric, 1.0)
        return (total + _OFFSETS.get(limit.metric, 0.0)) * ratio


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
