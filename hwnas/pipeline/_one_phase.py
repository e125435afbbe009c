"""Tables of one phase: what was timed while the machine was slower than for the rest is timed again.

Knows tables and the drift that each entry was measured at; never how a sample is taken.

A shared machine is slower by half for seconds or minutes, and slows blocks, whole networks and the drift anchor by
factors of their own. Each entry is corrected by the anchor of its moment, which is right within one phase only: where
blocks come from one phase and networks from another, every prediction is wrong by what lies between the two.
"""

from __future__ import annotations

import math
import time
from collections.abc import Mapping, Sequence

import numpy as np

from hwnas._console import Console
from hwnas.measure import PHASE_WIDTH
from hwnas.measure.phases import fastest_shared
from hwnas.measure.protocol import can_be_disturbed
from hwnas.pipeline._timed_table import Key, TimedTable, Timing
from hwnas.quantities import count
from hwnas.types import Block, Statistic

_LOOKS_AGAIN = 3  # at each entry, at most
_FAR = 2 * PHASE_WIDTH  # outside the phase: what is said; less may be the noise of the anchor
_PAUSE_S = 2.0  # before each: a machine stays in a phase for seconds


def bring_to_one_phase(
    tables: Mapping[str, TimedTable],
    blocks: Sequence[Block],
    networks: Mapping[str, Sequence[tuple[Block, ...]]],
    *,
    console: Console,
) -> int:
    """Time again, a few times at most, what was timed in another phase than the rest of its table.

    Of an entry's looks the one nearest to the table's phase counts; nothing else about it matters.

    Args:
        tables: precision -> its table, with everything measured.
        blocks: of the space, of all precisions; what else is in the tables is left alone, but for pairs of these.
        networks: precision -> those that correct its sums.
        console: shows how far it is, and warns of what stayed in another phase.

    Returns:
        how many entries lie far from it all the same.
    """
    disturbed = any(can_be_disturbed(opened.worker.context()) for opened in tables.values())
    looks = 0
    while True:
        drifts = {
            precision: _drifts(opened, blocks, networks.get(precision, ())) for precision, opened in tables.items()
        }
        phases = phases_of({precision: list(found.values()) for precision, found in drifts.items()})
        outside = {
            precision: [key for key, drift in found.items() if not _within(drift, phases[precision])]
            for precision, found in drifts.items()
            if found
        }
        n_outside = sum(map(len, outside.values()))
        if not n_outside or looks == _LOOKS_AGAIN:
            break
        if disturbed:  # a simulated device has no neighbours: tests need not wait
            time.sleep(_PAUSE_S)
        looks += 1
        for precision, keys in outside.items():
            before = {key: drifts[precision][key] for key in keys}
            _look_again(
                tables[precision], before, blocks, networks.get(precision, ()), phase=phases[precision], console=console
            )
    far = {
        (precision, key): drifts[precision][key] / phases[precision]
        for precision, keys in outside.items()
        for key in keys
        if not _within(drifts[precision][key], phases[precision], width=_FAR)
    }
    if far:
        console.warn(
            f"{count(len(far), 'time')} of {sum(map(len, drifts.values()))} in the tables were taken while the machine "
            f"was {min(far.values()):.2f} to {max(far.values()):.2f} times as slow as for the others, and was so "
            f"each of {looks + 1} times: predictions may miss by some ten per cent; `hwnas profile`, when the machine "
            "is quiet, measures these again"
        )
    return len(far)


def phases_of(drifts: Mapping[str, Sequence[float]]) -> dict[str, float]:
    """Precision -> the drift at the fast end of the phase that its table is to be of; without those of no drifts.

    It is the fastest that enough entries share. A table all of which is slower than the fastest of the others, as the
    anchor sees it, is to be as fast; but none needs to be faster than its anchor was when it was begun.
    """
    own = {precision: fastest_shared(np.array(found)) for precision, found in drifts.items() if found}
    fastest = max(1.0, min(own.values(), default=1.0))
    return {
        precision: phase if _within(phase, fastest) or phase < fastest else fastest for precision, phase in own.items()
    }


def _within(drift: float, phase: float, *, width: float = PHASE_WIDTH) -> bool:
    """Whether a drift is of a phase, given its fast end."""
    return phase / (1 + width) <= drift <= phase * (1 + width)


def _drifts(opened: TimedTable, blocks: Sequence[Block], networks: Sequence[tuple[Block, ...]]) -> dict[Key, float]:
    """Of the table's entries that count: the anchor's time over its time when the table was begun."""
    found: dict[Key, Statistic] = {
        b.key: opened.table.statistics[b.key] for b in blocks if b.key in opened.table.statistics
    }
    wanted = {tuple(b.key for b in network) for network in networks}
    known = {b.key for b in blocks}
    # measured again: the last counts
    found.update({_of_pair(n.blocks): n.statistic for n in opened.table.pairs if known.issuperset(n.blocks)})
    found.update({n.blocks: n.statistic for n in opened.table.networks if n.blocks in wanted})
    # tables of earlier versions do not tell
    return {key: s.phase_drift for key, s in found.items() if s.phase_drift is not None}


def _of_pair(keys: Key) -> Key:
    """Tells a pair from a network of these two blocks."""
    return ("pair", *keys)


def _look_again(
    opened: TimedTable,
    before: Mapping[Key, float],
    blocks: Sequence[Block],
    networks: Sequence[tuple[Block, ...]],
    *,
    phase: float,
    console: Console,
) -> None:
    """Time entries once more, given the drift each was seen at; append what lies nearer to the phase than before."""

    def counts(key: Key, result: Timing) -> bool:
        # a failure would hide the time that there is
        now = result.phase_drift if isinstance(result, Statistic) else None
        return now is not None and abs(math.log(now / phase)) < abs(math.log(before[key] / phase))

    opened.time_blocks([b for b in blocks if b.key in before], console=console, label="blocks again", counts=counts)
    of_key = {b.key: b for b in blocks}
    timed = dict.fromkeys(pair.blocks for pair in opened.table.pairs)
    pairs = [tuple(of_key[key] for key in keys) for keys in timed if _of_pair(keys) in before]
    opened.time_pairs(
        pairs, console=console, label="pairs again", counts=lambda keys, result: counts(_of_pair(keys), result)
    )
    again = [n for n in networks if tuple(b.key for b in n) in before]
    opened.time_networks(again, console=console, label="networks again", counts=counts)
