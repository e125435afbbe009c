"""What commands print: progress and notes on standard error, the result on standard output.

Knows Rich and numbers, not what is being done.
"""

from __future__ import annotations

import json
import math
import re
import time
from collections import deque
from collections.abc import Callable, Iterator, Sequence
from contextlib import contextmanager
from typing import TYPE_CHECKING, Any

from rich.console import Console as RichConsole
from rich.text import Text

from hwnas._tables import format_table, wrap
from hwnas.errors import HwnasError, InfeasibleError
from hwnas.foreign import printable
from hwnas.results import Result, Shown, json_value
from hwnas.types import ProgressCallback

if TYPE_CHECKING:
    from rich.progress import Progress

_RATE_WINDOW_S = 60.0
_LINE_EVERY_S = 10.0  # where there is no terminal to draw on
_COMMAND = re.compile(r"`[^`]*`|\bhwnas [a-z].*$")  # in a text: within backticks, or up to its end
_HELD = "\ue000"  # for private use, and one column wide: a space that is no place to break
_REDRAWS_PER_S = 4.0  # few: drawing competes with what is being measured


class RateMeter:
    """Rate and time left of work that reports how much is done, over the last minute.

    Args:
        clock: seconds, monotonic.
        work: how much is done -> the work of it, where some of it takes longer than the rest; None: as much.
    """

    def __init__(self, clock: Callable[[], float] = time.monotonic, work: Callable[[int], float] | None = None) -> None:
        self._clock = clock
        self._work: Callable[[int], float] = work or float
        self._seen: deque[tuple[float, int]] = deque()

    def update(self, done: int, total: int) -> str:
        """Note what is done and tell rate and time left, "" while there is nothing to tell.

        What was done before the first call (a resumed run) does not count into the rate.
        """
        now = self._clock()
        self._seen.append((now, done))
        # two stay in any case: work that reports less than once a minute has a rate too
        while len(self._seen) > 2 and self._seen[0][0] < now - _RATE_WINDOW_S:
            self._seen.popleft()
        before, at_first = self._seen[0]
        seconds, steps = now - before, done - at_first
        if seconds <= 0 or steps <= 0:
            return ""
        rate = steps / seconds
        text = f"{rate:.3g}/s" if rate >= 1 else f"{1 / rate:.3g} s each"
        left = (self._work(total) - self._work(done)) * seconds / (self._work(done) - self._work(at_first))
        return f"{text}, {format_seconds(left)} left" if left > 0 else text


def format_seconds(seconds: float) -> str:
    """A duration for people: `42 s`, `12 min 30 s`, `3 h 05 min`."""
    whole = math.ceil(seconds)
    if whole < 60:
        return f"{whole} s"
    if whole < 3600:
        return f"{whole // 60} min {whole % 60:02} s"
    return f"{whole // 3600} h {whole % 3600 // 60:02} min"


class Console:
    """Where a command speaks.

    Args:
        json_output: the result is one JSON document instead of a table.
        stdout: for the result; standard output by default.
        stderr: for everything else; standard error by default.
        clock: seconds, monotonic.
    """

    def __init__(
        self,
        *,
        json_output: bool = False,
        stdout: RichConsole | None = None,
        stderr: RichConsole | None = None,
        clock: Callable[[], float] = time.monotonic,
    ) -> None:
        self._json = json_output
        self._out = stdout or RichConsole()
        self._err = stderr or RichConsole(stderr=True)
        self._clock = clock
        self._drawing: Progress | None = None
        self._told: set[str] = set()

    def note(self, text: str, *, once: bool = False) -> None:
        """A line for who is watching.

        Args:
            text: what to say.
            once: say nothing if this console said it before, as another stage of a run may have.
        """
        if once and text in self._told:
            return
        self._told.add(text)
        self._line(text)

    def warn(self, text: str) -> None:
        """Something went on, but not as it should."""
        self._line(text, prefix="warning: ", style="yellow")

    def error(self, text: str) -> None:
        """Why the command ends without a result, in one line."""
        self._line(" ".join(line.strip() for line in text.splitlines()), prefix="error: ", style="bold red")

    def failure(self, error: HwnasError, *, exit_status: int | None = None) -> None:
        """An error in one line; with JSON output also as the document.

        Args:
            error: to be told.
            exit_status: of the command; None: the error's own.
        """
        self.error(str(error))
        if self._json:
            details: dict[str, Any] = {"type": type(error).__name__, "message": str(error)}
            if isinstance(error, InfeasibleError):
                details |= {
                    "metric": error.metric,
                    "limit": error.limit,
                    "reachable": error.reachable,
                    "architecture": error.architecture,
                    "conflict": [json_value(each) for each in error.conflict],
                    "together": [json_value(each) for each in error.together],
                }
            self._print_json(
                {"error": details, "exit_status": error.exit_status if exit_status is None else exit_status}
            )

    def table(self, shown: Shown) -> None:
        """The table of a stage for who is watching, on standard error; the command's own is `result`."""
        self._table(self._err, shown.title, shown.columns, shown.rows)

    def result(self, result: Result) -> None:
        """The end of a command: a short table with notes, or the whole as JSON."""
        if self._json:
            self._print_json(result.to_json())
            return
        shown = result.shown
        if shown.rows:
            self._table(self._out, shown.title, shown.columns, shown.rows)
        for note in shown.notes:
            self._print(self._out, Text("\n".join(_fitting(note, self._out))))

    @contextmanager
    def progress(self, label: str, *, work: Callable[[int], float] | None = None) -> Iterator[ProgressCallback]:
        """A bar with rate and time left while the context lasts; may be nested.

        Without a terminal it is a line now and then.

        Args:
            label: what is done.
            work: as of `RateMeter`.
        """
        meter = RateMeter(self._clock, work)
        if not self._err.is_terminal:
            yield from self._lines(label, meter)
            return
        outer = self._drawing
        drawing = outer or self._new_drawing()
        if outer is None:
            self._drawing = drawing
            drawing.start()
        task = drawing.add_task(printable(label), total=None, visible=False, rate="", note="")  # until there is work

        def update(done: int, total: int, note: str) -> None:
            rate = meter.update(done, total)
            drawing.update(task, completed=done, total=total, visible=True, rate=rate, note=printable(note))

        try:
            yield update
        finally:
            if outer is None:
                drawing.stop()
                self._drawing = None

    def _new_drawing(self) -> Progress:
        from rich.progress import BarColumn, MofNCompleteColumn, Progress, TextColumn
        from rich.table import Column

        return Progress(
            TextColumn("{task.description}", markup=False),
            BarColumn(bar_width=24),
            MofNCompleteColumn(),
            TextColumn("{task.fields[rate]}", markup=False),
            TextColumn(
                "{task.fields[note]}",
                style="dim",
                markup=False,
                table_column=Column(ratio=1, no_wrap=True, overflow="ellipsis"),  # it gives way to the others
            ),
            console=self._err,
            expand=True,
            refresh_per_second=_REDRAWS_PER_S,
        )

    def _lines(self, label: str, meter: RateMeter) -> Iterator[ProgressCallback]:
        printed_at, printed, latest = self._clock(), "", ""

        def update(done: int, total: int, note: str) -> None:
            nonlocal printed_at, printed, latest
            share = f" ({100 * done // total} %)" if total else ""
            parts = [f"{label}: {done}/{total}{share}", meter.update(done, total), note]
            latest = ", ".join(part for part in parts if part)
            if self._clock() - printed_at >= _LINE_EVERY_S:
                printed_at, printed = self._clock(), latest
                self._line(latest)

        try:
            yield update
        finally:
            if latest != printed:
                self._line(latest)

    def _line(self, text: str, *, prefix: str = "", style: str = "") -> None:
        shown = Text("\n".join(_fitting(f"{prefix}{text}", self._err)))
        shown.stylize(style, 0, len(prefix))
        self._print(self._err, shown)

    def _table(self, where: RichConsole, title: str, columns: Sequence[str], rows: Sequence[Sequence[object]]) -> None:
        rule = "─" if where.encoding.lower().startswith("utf") else "-"
        lines = format_table(columns, rows, width=where.width if where.is_terminal else None, rule=rule)
        if title:
            self._print(where, Text("\n".join(_fitting(title, where)), style="bold"))
        self._print(where, Text("\n".join(["", *lines, ""])))

    def _print(self, where: RichConsole, text: Text) -> None:
        where.print(text, soft_wrap=True)  # the lines are as they shall be

    def _print_json(self, value: object) -> None:
        # past Rich, which would wrap and colour it
        text = json.dumps(json_value(value), indent=2, ensure_ascii=False, allow_nan=False) + "\n"
        text = "".join(c if c.isprintable() or c == "\n" else _json_escape(c) for c in text)
        try:
            text.encode(self._out.encoding)
        except UnicodeEncodeError:  # a terminal that lacks letters
            text = json.dumps(json_value(value), indent=2, allow_nan=False) + "\n"
        self._out.file.write(text)
        self._out.file.flush()


def _fitting(text: str, where: RichConsole) -> list[str]:
    """The lines of a text, on a terminal broken between words; a command stays whole, to be copied."""
    lines = _lines_of(text).split("\n")
    if not where.is_terminal:
        return lines
    held = [_COMMAND.sub(lambda found: found[0].replace(" ", _HELD), line) for line in lines]
    return [part.replace(_HELD, " ") for line in held for part in wrap(line, width=where.width)]


def _lines_of(text: str) -> str:
    """A text of one or more lines as it may be shown: parts of it may come from anywhere."""
    return "\n".join(map(printable, text.split("\n")))


def _json_escape(character: str) -> str:
    """A character that a terminal would act on, as it may stand in a JSON string."""
    return json.dumps(character, ensure_ascii=True)[1:-1]
