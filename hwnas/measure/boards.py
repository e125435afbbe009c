"""Boards of a kind, used like one measuring process: each measures one thing at a time, all of them at once.

Boards of a kind differ by some per cent: their silicon, their cooling. So each has its own time of the drift anchor, to
which its drift is corrected and by which its phases are told (`hwnas.measure.phases`); what it measures is then
multiplied by the anchor's time in the table over its own, so that all times are those of one board.
One factor does that for boards that differ a little. Where the anchor differs by more, something else does too
(throttled, another clock, another kind), and other models differ by other factors: such a board is left out, by name.
The work goes on without it; nothing tells that its times would be right.

Knows devices, artefacts and workers; never models or tables.
"""

from __future__ import annotations

from collections.abc import Callable, Iterator, Mapping, Sequence
from dataclasses import dataclass, replace
from functools import partial
from math import ceil

from hwnas.errors import ConfigError
from hwnas.foreign import as_written
from hwnas.measure._crew import Crew, Work
from hwnas.measure._groups import Result
from hwnas.measure.client import ResultCallback, Worker, ignore_result
from hwnas.measure.connection import boards_of, naming_setting
from hwnas.measure.protocol import RuntimeBrokenError
from hwnas.measure.timing import TimingSettings
from hwnas.types import Artefact, Device, ProgressCallback, Statistic, ignore_progress

UNLIKE = 0.10  # slower than the fastest by more: not of a kind. Silicon and cooling make a few per cent
# what boards of a kind have in common, or a table of both would be of neither
_SAME = ("hardware", "machine", "runtime_version", "source", "meter")
# what may differ, and is told: the anchor corrects what it slows alike
_ALIKE = ("governor", "turbo", "max_mhz", "os")

Anchors = dict[str, dict[str, float]]  # board -> SHA-256 of a drift anchor -> its time there, in milliseconds


@dataclass(frozen=True, slots=True, kw_only=True)
class BoardShare:
    """What one of several boards did.

    Attributes:
        board: its name: a host or a serial.
        n_measured: results that are its own.
        anchor_ratio: its time of the drift anchor over the first board's, for the anchor that differs most; None where
            it measured none.
        gone: why it was left out or lost; "" if it stayed.
    """

    board: str
    n_measured: int
    anchor_ratio: float | None
    gone: str

    @property
    def shown(self) -> str:
        """In a line for people."""
        ratio = "" if self.anchor_ratio is None else f", drift anchor {self.anchor_ratio:.3f} of the first board's"
        return f"{self.n_measured} timed{ratio}{f'; {self.gone}' if self.gone else ''}"


class Boards:
    """The boards of one device. Use as a context manager, from one thread; leaving it ends all processes there.

    Attributes:
        device: with all of them.
        measured_by: key -> the board that measured it, of what was measured last.
        anchors: the anchors' times on each board that stayed.
    """

    def __init__(
        self,
        device: Device,
        *,
        warn: Callable[[str], None],
        anchors: Anchors | None = None,
        on_anchors: Callable[[Anchors], None] | None = None,
    ) -> None:
        """Describe them; they are contacted later.

        Args:
            device: names several boards.
            warn: of a board that is lost, left out or set up otherwise than the others.
            anchors: known from an earlier time: what is added to a table must be told the same drift.
            on_anchors: called with all of them when one was measured.

        Raises:
            ConfigError, UnknownNameError: a setting of the device's connection is wrong.
        """
        self.device = device
        self.measured_by: dict[str, str] = {}
        self.anchors: Anchors = {board: dict(times) for board, times in (anchors or {}).items()}
        self._warn, self._on_anchors = warn, on_anchors
        key = naming_setting(device.connection)
        workers = {str(board.connection[key]): Worker(board) for board in boards_of(device)}
        self._names = tuple(workers)
        self._gone: dict[str, str] = {}
        self._counts = dict.fromkeys(workers, 0)
        self._contexts: dict[str, Mapping[str, str]] = {}
        self._warnings: dict[str, tuple[str, ...]] = {}
        self._crew = Crew(workers, on_loss=self._lose)

    def __enter__(self) -> Boards:
        return self

    def __exit__(self, kind: type[BaseException] | None, *exc: object) -> None:
        self._crew.stop(at_once=kind is not None)

    def context(self) -> Mapping[str, str]:
        """What the runtime says of the first board; all that answer are held against it.

        Raises:
            MeasurementError: no board can measure; the error of the first.
            ConfigError: they are not of a kind; says which board differs, and in what.
        """
        if not self._contexts:
            found = self._crew.everywhere(lambda _, w: (w.context(), w.warnings()), among=self._crew.present)
            self._contexts = {name: context for name, (context, _) in found.items()}
            self._warnings = {name: warnings for name, (_, warnings) in found.items()}
            self._check_kind()
        return next(iter(self._contexts.values()))

    def warnings(self) -> tuple[str, ...]:
        """What spoils a measurement on the boards, each with their names.

        Raises:
            MeasurementError, ConfigError: as for `context`.
        """
        self.context()
        found: dict[str, list[str]] = {}
        for name, warnings in self._warnings.items():
            for warning in warnings:
                found.setdefault(warning, []).append(name)
        return tuple(f"{', '.join(names)}: {warning}" for warning, names in found.items())

    def measure_anchor(self, anchor: Artefact, *, settings: TimingSettings | None = None) -> Statistic:
        """The anchor's time now on the first board, uncorrected; every other board's is measured at the same time.

        Raises:
            MeasurementError: it cannot be measured on any.
            ArtefactError: its file cannot be read.
        """
        found = self._measure_anchor(anchor, self._crew.present, settings=settings)
        return found[next(name for name in self._crew.present if name in found)]

    def measure(
        self,
        artefacts: Mapping[str, Artefact],
        *,
        anchor: Artefact | None = None,
        anchor_ms: float | None = None,
        settings: TimingSettings | None = None,
        progress: ProgressCallback = ignore_progress,
        on_result: ResultCallback = ignore_result,
    ) -> dict[str, Result]:
        """Measure artefacts in groups, each group on the board that is free; see `Worker.measure`.

        Groups that are done come in any order. The work of a board that is lost goes to the others.

        Raises:
            MeasurementError: no board is left, or two were lost at the same group.
            ArtefactError: the anchor's file cannot be read.
        """
        settings = settings or TimingSettings()
        self.context()  # before anything: boards that are not of a kind must not measure for one table
        if anchor is not None and artefacts:
            lacking = [board for board in self._crew.present if not self._knows(board, anchor)]
            self._measure_anchor(anchor, lacking, settings=settings)
            if anchor_ms is None:
                # of the first that could be asked: one that is being looked for takes no part yet
                first = next(board for board in self._crew.present if self._knows(board, anchor))
                anchor_ms = self.anchors[first][anchor.sha256]
        self.measured_by = {}
        results: dict[str, Result] = {}

        def keep(board: str, found: Mapping[str, Result]) -> None:
            own_ms = self.anchors[board][anchor.sha256] if anchor is not None else None
            for key, result in found.items():
                results[key] = _of_the_table(result, own_ms=own_ms, anchor_ms=anchor_ms)
                self.measured_by[key] = board
                self._counts[board] += 1
                on_result(key, results[key])
            progress(len(results), len(artefacts), f"{[*found][-1]} on {board}")

        self._crew.share(
            self._jobs(artefacts, anchor=anchor, settings=settings),
            among=lambda board: self._knows(board, anchor),
            on_result=keep,
        )
        return {key: results[key] for key in artefacts}

    def shares(self) -> tuple[BoardShare, ...]:
        """What each board did, in the order of the description."""
        return tuple(
            BoardShare(
                board=name,
                n_measured=self._counts[name],
                anchor_ratio=self._anchor_ratio(name),
                gone=self._gone.get(name, "lost, and looked for" if self._crew.is_lost(name) else ""),
            )
            for name in self._names
        )

    # ------------------------------------------------------------ within

    def _jobs(
        self, artefacts: Mapping[str, Artefact], *, anchor: Artefact | None, settings: TimingSettings
    ) -> Iterator[Work[dict[str, Result]]]:
        """One for each group; files are made when the next job is asked for."""
        keys = list(artefacts)
        for size in _group_sizes(len(keys), n_boards=len(self._crew.present), largest=settings.group_size):
            group = {key: artefacts[key] for key in keys[:size]}
            keys = keys[size:]
            yield partial(self._measure_group, group, anchor, settings)

    def _measure_group(
        self,
        group: Mapping[str, Artefact],
        anchor: Artefact | None,
        settings: TimingSettings,
        board: str,
        worker: Worker,
    ) -> dict[str, Result]:
        """On the board's own thread."""
        own_ms = self.anchors[board][anchor.sha256] if anchor is not None else None
        return worker.measure_group(group, anchor=anchor, anchor_ms=own_ms, settings=settings)

    def _measure_anchor(
        self, anchor: Artefact, boards: Sequence[str], *, settings: TimingSettings | None
    ) -> dict[str, Statistic]:
        """Measure the anchor on some boards, and leave out those that are too slow for their kind."""
        if not boards:
            return {}
        # whoever could not be asked takes no part until the next time
        found = self._crew.everywhere(lambda _, w: w.measure_anchor(anchor, settings=settings), among=boards)
        for board, statistic in found.items():
            self.anchors.setdefault(board, {})[anchor.sha256] = statistic.minimum
        known = [board for board in self._crew.present if self._knows(board, anchor)]
        times = {board: self.anchors[board][anchor.sha256] for board in known}
        fastest = min(times, key=times.__getitem__, default="")
        for board, time_ms in times.items():
            # the slower one is wrong: nothing makes a board faster than its kind, and much makes it slower
            if (ratio := time_ms / times[fastest]) > 1 + UNLIKE:
                self._leave_out(board, f"its drift anchor takes {ratio:.2f} times that of {fastest}")
        if self._on_anchors is not None:
            self._on_anchors(self.anchors)
        return found

    def _knows(self, board: str, anchor: Artefact | None) -> bool:
        """Whether a board can measure beside an anchor: its own time of it is known."""
        return anchor is None or anchor.sha256 in self.anchors.get(board, {})

    def _leave_out(self, board: str, why: str) -> None:
        self._gone[board] = f"left out: {why}"
        # or it would be left out for ever, whatever is mended
        self.anchors.pop(board, None)
        self._crew.dismiss(board)
        self._warn(
            f"board {board} is left out: {why}, and boards of a kind differ by at most {UNLIKE:.0%}. Is it throttled "
            "(cooling, power supply), clocked otherwise, or another kind? The others do its work"
        )

    def _lose(self, board: str, error: RuntimeBrokenError) -> None:
        self._gone[board] = "lost"
        if self._crew.present:  # else the error itself is told
            self._warn(f"board {board} cannot measure; the others do its work. {error}")

    def _check_kind(self) -> None:
        first, *others = self._contexts
        wanted = self._contexts[first]
        wrong = [(name, found) for name in others if (found := unlike(wanted, self._contexts[name]))]
        if wrong:
            listed = "; ".join(f"{name}: {found}" for name, found in wrong)
            raise ConfigError(
                f"the boards of device {self.device.name!r} are not of a kind; against {first}, {listed}. Take them "
                "out of the list, and give each kind a description of its own"
            )
        for name in others:
            if found := _differences(wanted, self._contexts[name], _ALIKE):
                self._warn(f"board {name} is set up otherwise than {first}: {found}")

    def _anchor_ratio(self, board: str) -> float | None:
        first = next((self.anchors[name] for name in self._names if name in self.anchors), {})
        own = self.anchors.get(board, {})
        ratios = [own[sha256] / first[sha256] for sha256 in own if sha256 in first]
        return max(ratios, key=lambda ratio: max(ratio, 1 / ratio), default=None)


def _group_sizes(n: int, *, n_boards: int, largest: int) -> list[int]:
    """How many are measured together: as many as allowed, and what is left is shared by all boards alike."""
    full = max(0, ceil(n / largest) - n_boards)
    rest, n_parts = n - full * largest, max(1, n_boards)
    shares = [rest // n_parts + (i < rest % n_parts) for i in range(n_parts)]
    return [largest] * full + [share for share in shares if share]


def _of_the_table(result: Result, *, own_ms: float | None, anchor_ms: float | None) -> Result:
    """A result as the table's board would have it."""
    if not isinstance(result, Statistic) or own_ms is None or anchor_ms is None:
        return result
    factor = anchor_ms / own_ms
    return replace(result, minimum=result.minimum * factor, median=result.median * factor, p90=result.p90 * factor)


def unlike(wanted: Mapping[str, str], found: Mapping[str, str]) -> str:
    """In what a board is of another kind than another, by what their runtimes say, for people; "" if in nothing."""
    return _differences(wanted, found, _SAME)


def _differences(wanted: Mapping[str, str], found: Mapping[str, str], keys: Sequence[str]) -> str:
    """What one context has otherwise than another, for people; "" if nothing."""
    return ", ".join(
        f"{key} is {as_written(found.get(key))} and not {as_written(wanted.get(key))}"
        for key in keys
        if found.get(key) != wanted.get(key)
    )
