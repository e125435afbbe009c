"""Cost models: every metric of a network that is known without building it.

All are slot tables, so they are estimated by the million and their exact minimum and maximum are
known. Closed forms are exact; a corrected cost is an estimate with an upper bound. This module must
never know how a sample was taken, or torch.
"""

from __future__ import annotations

from collections.abc import Iterable, Mapping, Sequence
from dataclasses import dataclass

from hwnas.cost import analytic
from hwnas.cost.correction import Correction, entry_of
from hwnas.cost.slots import SlotBlocks, SlotTable
from hwnas.limits import Limit
from hwnas.types import Block, Estimate, IntArray, SearchSpace


@dataclass(frozen=True, slots=True, kw_only=True, eq=False)
class SlotCost:
    """A CostModel over a slot table.

    Attributes:
        metric: its name, with the unit: `latency_ms`.
        table: the values.
        upper_ratio: upper bound over value, at least 1; 1 for an exact metric. Because it is the same
            for all networks, the network with the smallest value also has the smallest upper bound.
    """

    metric: str
    table: SlotTable
    upper_ratio: float = 1.0

    def estimate(self, encodings: IntArray) -> Estimate:
        """Values and upper bounds of N architectures.

        Args:
            encodings: (N, D) option indices.

        Raises:
            SpaceError: the encodings do not fit the space.
        """
        value = self.table.evaluate(encodings)
        # exact metrics share one array: a multiplication by 1 of a million values is not free
        return Estimate(value=value, upper=value if self.upper_ratio == 1 else value * self.upper_ratio)

    def bounds(self) -> tuple[float, float]:
        """Exact minimum and maximum of the value over the space."""
        return self.table.minimum().value, self.table.maximum().value

    def minimizer(self) -> IntArray:
        """(D,) canonical encoding of a network with the smallest value."""
        return self.table.minimum().assignment

    def decide(self, forms: Mapping[str, object], limits: Sequence[Limit], space: SearchSpace) -> IntArray | None:
        """(D,) a network that keeps limits on several slot tables, None if that was not decided in some seconds.

        Args:
            forms: metric -> slot table, this one among them.
            limits: on metrics of `forms`; those that are not above zero decide nothing here.
            space: of the tables.

        Raises:
            InfeasibleError: no network of the space keeps them.
        """
        from hwnas.cost.limits import check_reachable

        tables = {metric: form for metric, form in forms.items() if isinstance(form, SlotCost)}
        return check_reachable(tables, [x for x in limits if x.metric in tables and x.value > 0], space)


def closed_form_costs(blocks: SlotBlocks) -> dict[str, SlotCost]:
    """The exact metrics: `macs`, `parameters` and `peak_memory_bytes`, by name.

    Raises:
        SpaceError: a kind of block has no closed forms.
    """
    return {
        "macs": SlotCost(metric="macs", table=blocks.table(analytic.macs)),
        "parameters": SlotCost(metric="parameters", table=blocks.table(analytic.parameters)),
        # one tensor crosses from block to block, so the peak of a network is that of one block
        "peak_memory_bytes": SlotCost(
            metric="peak_memory_bytes", table=blocks.table(analytic.peak_memory_bytes, combine="max")
        ),
    }


def corrected_cost(
    metric: str, blocks: SlotBlocks, *, entries: Mapping[str, float], correction: Correction, source: str = "the table"
) -> SlotCost:
    """A measured metric: `latency_ms`, `energy_mj`. Its estimate is the corrected sum of the entries.

    Args:
        metric: what the entries measure.
        blocks: of the space.
        entries: block key -> cost of the block alone; every block of the space needs one.
        correction: fitted on the same entries.
        source: where the entries come from, named in errors.

    Raises:
        MissingEntryError: a block of the space has no entry.
    """
    # the correction is linear in the entries, so it goes into the table and costs nothing afterwards
    table = blocks.table(
        lambda block: correction.correct(block, entry_of(block.key, entries, table=source)), offset=correction.constant
    )
    return SlotCost(metric=metric, table=table, upper_ratio=correction.upper_ratio)


def size_entries(blocks: Iterable[Block]) -> dict[str, float]:
    """Block key -> its closed-form share of an artefact's size in bytes.

    These are the entries on which a correction for `size_bytes` is fitted, from the sizes of files.
    """
    # estimates: names and metadata of a real file differ, which the correction learns
    return {block.key: float(analytic.size_bytes(block)) for block in blocks}
