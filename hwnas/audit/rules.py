"""From an audit's times to verdicts, by rules whose thresholds stand here.

Every option is held against the base block of the same kind, shape and precision, which has the usual option of every
choice. What counts is the excess: how much longer it takes than the base, over how many more
multiply-accumulates it does. An option that costs just what its work costs has excess 1. A width is held against
what the two widths around it, which are multiples of twice as many channels, say its work should cost.
Knows times and blocks, and what blocks compute; no kind by name, and not how they were measured.
"""

from __future__ import annotations

import math
from collections.abc import Iterable, Mapping, Sequence
from dataclasses import dataclass

from hwnas.audit.cases import BASE, WIDTH, WIDTH_SITES, WIDTHS, Case
from hwnas.cost.analytic import macs
from hwnas.errors import SpaceError
from hwnas.graph.words import operators_beside
from hwnas.precisions import is_quantized
from hwnas.spaces.kinds import Variation, block_graph, kind_of
from hwnas.types import Block, Option

# Of a whole network the changed operators are a part only: an excess of 1.2 in a block is the least that is seen in
# the network's latency beside what a table predicts it to (some percent); at 1.5 another choice is nearly always the
# better use of the time (an expand ratio of 6 instead of 4 costs as much).
COSTLY_EXCESS, LEAVE_OUT_EXCESS = 1.2, 1.5
# int8 costs accuracy and care. It should pay by what networks designed for it are known to gain, at least.
INT8_WORTH, INT8_GAINS = 1.3, 1.05

FINE, COSTLY, LEAVE_OUT = "fine", "costly", "leave out"
VERDICTS = (FINE, COSTLY, LEAVE_OUT)  # from good to bad


@dataclass(frozen=True, slots=True, kw_only=True)
class MeasuredCase:
    """One case with its outcome.

    Attributes:
        case: what was measured.
        latency_ms: of one run, the minimum; None if it failed.
        failure: why; "" if it did not.
    """

    case: Case
    latency_ms: float | None
    failure: str = ""


@dataclass(frozen=True, slots=True, kw_only=True)
class Finding:
    """What one option costs in one precision.

    Attributes:
        kind: of the blocks.
        choice: a variation of their kind: `activation`, `kernel_size`; or `precision` (integers against floats, of
            the base), or `multiple` (a width that is a multiple of so many channels and not of twice as many).
        option: taken for it.
        precision: of the blocks.
        excess: site -> time over the base's, divided by `work`; `precision`: int8's time over fp32's.
        ratio: geometric mean over the sites of the time over the base's.
        work: likewise of the multiply-accumulates.
        macs_per_ns: likewise, of the option itself: how well the device is used.
        speedup: likewise of the time in fp32 over that in int8, both with this option; None if one is not known.
        verdict: fine, costly or leave out.
        reason: of the verdict, for people.
        operators: that the option's blocks have and the base's have not, in words: `conv2d 7x7 depthwise`; none where
            only numbers of channels differ.
        base: the option that it is held against; "" where it is no option of a choice.
    """

    kind: str
    choice: str
    option: Option
    precision: str
    excess: Mapping[str, float]
    ratio: float | None
    work: float | None
    macs_per_ns: float | None
    speedup: float | None
    verdict: str
    reason: str
    operators: tuple[str, ...] = ()
    base: Option = ""


def variation_of(kind: str, choice: str) -> Variation | None:
    """What is known of a choice; None if it is no variation of that kind, or nobody knows the kind."""
    try:
        found = kind_of(Block(kind=kind, in_shape=(), out_shape=(), precision=""))
    except SpaceError:
        return None
    return next((v for v in found.variations if v.choice == choice), None)


def compared_with_base(measured: Iterable[MeasuredCase], choice: str, option: Option) -> tuple[tuple[str, ...], Option]:
    """The operators of an option's blocks that its base has not, in words, and the base's option; as in `Finding`.

    Args:
        measured: of one kind of block.
        choice: a variation.
        option: of it.
    """
    blocks = {(m.case.choice, m.case.option): m.case.block for m in measured}
    varied, base = blocks.get((choice, option)), blocks.get((BASE, BASE))
    if varied is None or base is None:
        return (), ""
    try:
        words = operators_beside(block_graph(varied), block_graph(base))
        return words, kind_of(base).options_of(base).get(choice, "")
    except SpaceError:  # a kind whose module is not there: its times are known all the same
        return (), ""


def judge(measured: Sequence[MeasuredCase], *, precisions: Sequence[str]) -> tuple[Finding, ...]:
    """All findings, kind by kind, the precision's first, then option by option.

    Args:
        measured: cases with their outcomes.
        precisions: that were measured.
    """
    found: list[Finding] = []
    for kind in dict.fromkeys(m.case.kind for m in measured):
        found += _judge_kind(_Book([m for m in measured if m.case.kind == kind], precisions), precisions)
    return tuple(found)


def _judge_kind(book: _Book, precisions: Sequence[str]) -> list[Finding]:
    found: list[Finding] = []
    base_speedup = book.speedup(BASE, BASE)
    if book.integers:
        found.append(_judge_int8(book, base_speedup, compared=bool(book.floats)))
    for choice, option in book.options():
        found.extend(_judge_option(book, choice, option, p, base_speedup=base_speedup) for p in precisions)
    for multiple in WIDTHS:
        found.extend(_judge_multiple(book, multiple, p) for p in precisions)
    return found


def recommended_multiple(findings: Iterable[Finding], precision: str) -> int:
    """Channels should be multiples of so many: twice the largest multiple that costs too much; 4 if none does.

    Args:
        findings: of the kinds of block that matter.
        precision: that matters.
    """
    bad = [int(f.option) for f in findings if f.choice == "multiple" and f.precision == precision and f.verdict != FINE]
    return 2 * max(bad) if bad else min(WIDTHS)


class _Book:
    """The outcomes of one kind of block by what they are of."""

    def __init__(self, measured: Sequence[MeasuredCase], precisions: Sequence[str]) -> None:
        self.kind = measured[0].case.kind
        self.measured = measured
        # the most exact of each sort: precisions come from exact to coarse
        self.floats = next((p for p in precisions if not is_quantized(p)), "")
        self.integers = next((p for p in precisions if is_quantized(p)), "")
        self._by_place = {(m.case.choice, m.case.option, m.case.block.precision, m.case.site): m for m in measured}

    def options(self) -> list[tuple[str, Option]]:
        """(choice, option) that change a base, in order."""
        return list(dict.fromkeys(k[:2] for k in self._by_place if k[0] not in (BASE, WIDTH)))

    def all(self, choice: str, option: Option, precision: str) -> list[MeasuredCase]:
        return [m for (c, o, p, _), m in self._by_place.items() if (c, o, p) == (choice, option, precision)]

    def times(self, choice: str, option: Option, precision: str) -> dict[str, float]:
        """Site -> milliseconds, where it was measured."""
        found = self.all(choice, option, precision)
        return {m.case.site: m.latency_ms for m in found if m.latency_ms is not None}

    def work(self, choice: str, option: Option, precision: str) -> dict[str, int]:
        """Site -> multiply-accumulates."""
        return {m.case.site: macs(m.case.block) for m in self.all(choice, option, precision)}

    def failure(self, choice: str, option: Option, precision: str) -> str:
        """Why one of them has no time; "" if all have."""
        return next((m.failure for m in self.all(choice, option, precision) if m.failure), "")

    def speedup(self, choice: str, option: Option) -> float | None:
        fp32, int8 = (self.times(choice, option, p) for p in (self.floats, self.integers))
        return _mean(fp32[site] / int8[site] for site in fp32 if site in int8)

    def macs_per_ns(self, choice: str, option: Option, precision: str) -> float | None:
        work = self.work(choice, option, precision)
        return _mean(work[s] / (ms * 1e6) for s, ms in self.times(choice, option, precision).items())


def _judge_int8(book: _Book, speedup: float | None, *, compared: bool) -> Finding:
    fp32, int8 = (book.times(BASE, BASE, p) for p in (book.floats, book.integers))
    failure = book.failure(BASE, BASE, book.integers)
    if failure and not int8:
        verdict, reason = LEAVE_OUT, f"does not run: {failure}"
    elif speedup is None:
        verdict, reason = FINE, f"{book.floats} failed, nothing to compare with" if compared else "the only precision"
    elif speedup < INT8_GAINS:
        verdict, reason = LEAVE_OUT, f"no faster than {book.floats} ({speedup:.2g}x)"
    elif speedup < INT8_WORTH:
        verdict, reason = COSTLY, f"gains little: {speedup:.2g}x"
    else:
        verdict, reason = FINE, f"{speedup:.2g}x as fast as {book.floats}"
    # the same blocks in both precisions: the work is equal, so the ratio is the excess
    excess = {site: int8[site] / fp32[site] for site in fp32 if site in int8}
    return Finding(
        kind=book.kind,
        choice="precision",
        option=book.integers,
        precision=book.integers,
        excess=excess,
        ratio=_mean(excess.values()),
        work=1.0,
        macs_per_ns=book.macs_per_ns(BASE, BASE, book.integers),
        speedup=speedup,
        verdict=verdict,
        reason=reason,
    )


def _judge_option(book: _Book, choice: str, option: Option, precision: str, *, base_speedup: float | None) -> Finding:
    times, base_times = book.times(choice, option, precision), book.times(BASE, BASE, precision)
    work, base_work = book.work(choice, option, precision), book.work(BASE, BASE, precision)
    sites = [site for site in times if site in base_times]
    ratios = {s: times[s] / base_times[s] for s in sites}
    variation = variation_of(book.kind, choice)
    is_work = variation is None or variation.is_work
    more = {s: work[s] / base_work[s] if is_work else 1.0 for s in sites}
    excess = {s: ratios[s] / more[s] for s in sites}
    speedup = book.speedup(choice, option)
    verdict, reason = _by_excess(excess, ratio=_mean(ratios.values()), work=_mean(more.values()))
    failure = book.failure(choice, option, precision)
    if failure:
        verdict = LEAVE_OUT
        reason = f"{len(book.all(choice, option, precision)) - len(times)} blocks do not run: {failure}"
    elif not sites:
        verdict, reason = FINE, "the base failed, nothing to compare with"
    elif _turns_int8_slow(precision, speedup, base_speedup):
        verdict, reason = LEAVE_OUT, f"{_mean(ratios.values()):.2g}x, slower than {book.floats}"
    operators, base = compared_with_base(book.measured, choice, option)
    return Finding(
        kind=book.kind,
        choice=choice,
        option=option,
        precision=precision,
        excess=excess,
        ratio=_mean(ratios.values()),
        work=_mean(more.values()),
        macs_per_ns=book.macs_per_ns(choice, option, precision),
        speedup=speedup,
        verdict=verdict,
        reason=reason,
        operators=operators,
        base=base,
    )


def _turns_int8_slow(precision: str, speedup: float | None, base_speedup: float | None) -> bool:
    """Whether int8 gains with the base's choices and loses with this option."""
    if not is_quantized(precision) or speedup is None or base_speedup is None:
        return False
    return speedup < 1.0 and base_speedup >= INT8_GAINS


def _judge_multiple(book: _Book, multiple: int, precision: str) -> Finding:
    excess: dict[str, float] = {}
    failure = ""
    for width, below, above in WIDTHS[multiple]:
        for side in WIDTH_SITES:
            site = f"{side}x{side}"
            low, here, high = (book.times(WIDTH, w, precision).get(site) for w in (below, width, above))
            failure = failure or book.failure(WIDTH, width, precision)
            if low is None or here is None or high is None:
                continue
            work = [book.work(WIDTH, w, precision)[site] for w in (below, width, above)]
            # linear in the work between the two widths that are known to suit the device
            expected = low + (high - low) * (work[1] - work[0]) / (work[2] - work[0])
            excess[f"{site}x{width}"] = here / expected
    verdict, reason = _by_excess(excess, ratio=_mean(excess.values()), work=1.0)
    if failure:
        verdict, reason = LEAVE_OUT, f"does not run: {failure}"
    elif not excess:
        verdict, reason = FINE, "the widths around it failed, nothing to compare with"
    return Finding(
        kind=book.kind,
        choice="multiple",
        option=multiple,
        precision=precision,
        excess=excess,
        ratio=_mean(excess.values()),
        work=1.0,
        macs_per_ns=_mean(
            m for w, _, _ in WIDTHS[multiple] if (m := book.macs_per_ns(WIDTH, w, precision)) is not None
        ),
        speedup=_mean(s for w, _, _ in WIDTHS[multiple] if (s := book.speedup(WIDTH, w)) is not None),
        verdict=verdict,
        reason=reason,
    )


def _by_excess(excess: Mapping[str, float], *, ratio: float | None, work: float | None) -> tuple[str, str]:
    mean = _mean(excess.values())
    if mean is None or ratio is None or work is None:
        return FINE, ""
    if ratio < 1:  # saves less than its work would tell, but saves
        verdict = FINE
    else:
        verdict = LEAVE_OUT if mean >= LEAVE_OUT_EXCESS else COSTLY if mean >= COSTLY_EXCESS else FINE
    reason = f"{ratio:.2g}x" if abs(work - 1) < 0.005 else f"{ratio:.2g}x for {work:.2g}x the MACs"
    worst = max(excess, key=lambda site: excess[site])
    if verdict != LEAVE_OUT and excess[worst] >= LEAVE_OUT_EXCESS:  # good in most places is not good everywhere
        verdict, reason = COSTLY, f"{reason}, but {excess[worst]:.2g}x at {worst}"
    return verdict, reason


def _mean(values: Iterable[float]) -> float | None:
    """Geometric mean; None of nothing."""
    logarithms = [math.log(v) for v in values]
    # ratios are averaged by logarithms: twice and half as slow cancel
    return math.exp(math.fsum(logarithms) / len(logarithms)) if logarithms else None
