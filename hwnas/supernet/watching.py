"""How a training goes on: losses and accuracies as lines of a CSV file, and when to look at accuracies.

Knows files and numbers; what is looked at is the caller's. Never spaces, devices or search.
"""

from __future__ import annotations

import csv
import io
import time
from collections.abc import Callable, Mapping
from pathlib import Path

from hwnas.errors import HwnasError
from hwnas.files import write_whole
from hwnas.foreign import read_foreign
from hwnas.supernet.board import Board

_FIRST_AFTER_S = 30.0  # a training of seconds is not held up
_LARGEST_BYTES = 50_000_000
_STEP = "step"

Look = Callable[[], Mapping[str, float]]  # name -> how good it is, a share of which 1 is perfect


class Watch:
    """Looks now and then, so that looking takes a given share of the time at most.

    Args:
        look: what tells how good some networks are.
        share: of the time, above 0.
        clock: seconds that pass.
    """

    def __init__(self, look: Look, *, share: float, clock: Callable[[], float] = time.monotonic) -> None:
        self._look, self._share, self._clock = look, share, clock
        self._next = clock() + _FIRST_AFTER_S

    @property
    def is_due(self) -> bool:
        """Whether it is time to look."""
        return self._clock() >= self._next

    def look(self) -> Mapping[str, float]:
        """How good they are now; nothing where that cannot be told: a training does not end by being looked at."""
        begun = self._clock()
        try:
            found = self._look()
        except HwnasError:  # as of a task whose measure wants more, or finite, answers
            found = {}
        taken = self._clock() - begun
        self._next = self._clock() + taken * (1 / self._share - 1)
        return found


class Log:
    """Lines of a CSV file, one a noted step; columns come as they are needed.

    Args:
        path: of the file; lines of an earlier part of the training, up to a step, are kept.
        until: that step.
        board: is given the same values; None: there is none.
    """

    def __init__(self, path: Path, *, until: int, board: Board | None = None) -> None:
        self._path, self._board = path, board
        self._rows: list[dict[str, str]] = []
        try:
            text = read_foreign(path, limit_bytes=_LARGEST_BYTES).decode()
            rows = list(csv.DictReader(io.StringIO(text)))
            self._rows = [row for row in rows if int(row[_STEP]) <= until]
        except (OSError, ValueError, KeyError, TypeError, csv.Error):
            pass  # it is for people, who may have changed it; nothing goes on from it

    def add(self, step: int, values: Mapping[str, float]) -> None:
        """Note some values of a step."""
        row = {_STEP: str(step), **{key: f"{value:.6g}" for key, value in values.items()}}
        self._rows.append(row)
        if self._board is not None:
            self._board.add(step, values)

    def write(self) -> None:
        """Write the file whole, and what the board has.

        Raises:
            OSError: it cannot be written.
        """
        columns = list(dict.fromkeys(key for row in self._rows for key in row))
        text = io.StringIO()
        writer = csv.DictWriter(text, columns or [_STEP], lineterminator="\n")
        writer.writeheader()
        writer.writerows(self._rows)
        write_whole(self._path, text.getvalue().encode())
        if self._board is not None:
            self._board.write()

    def close(self) -> None:
        """Let go of what the board has open."""
        if self._board is not None:
            self._board.close()
