"""What measures for a run's tables: one process, or the device's boards together with what was known of them.

`boards.json` beside the tables keeps each board's time of the drift anchors, so that a profile that goes on holds a
board against what it was when it was first used. Knows the file; never how boards measure.
"""

from __future__ import annotations

from typing import Any

from hwnas._console import Console
from hwnas.files import read_document, write_document
from hwnas.measure import Worker
from hwnas.measure.boards import Anchors, Boards
from hwnas.measure.connection import boards_of
from hwnas.workspace import Workspace

FILE = "boards.json"
SCHEMA = 1


def open_boards(work: Workspace, *, console: Console) -> Worker | Boards:
    """What measures on the run's device; a context manager, and nothing is contacted before the first request.

    Raises:
        ConfigError, UnknownNameError: a setting of the device's connection is wrong.
    """
    boards = boards_of(work.device)
    if len(boards) == 1:
        return Worker(boards[0])
    known = _read(work, console=console)

    def keep(anchors: Anchors) -> None:
        # those that are not in the list today stay known
        values = {"schema": SCHEMA, "anchors_ms": {**known, **anchors}}
        write_document(work.tables / FILE, values)

    return Boards(work.device, warn=console.warn, anchors=known, on_anchors=keep)


def _read(work: Workspace, *, console: Console) -> Anchors:
    """What is known; nothing if the file is absent or damaged, for it can be measured again."""
    path = work.tables / FILE
    if not path.exists():
        return {}
    try:
        values = read_document(path)
        if values["schema"] != SCHEMA:
            raise ValueError(f"schema {values['schema']!r}; this version reads {SCHEMA}")
        return {str(board): _times(times) for board, times in values["anchors_ms"].items()}
    except (OSError, ValueError, TypeError, KeyError, AttributeError) as e:
        console.warn(f"{path} is damaged ({e}); the boards' drift anchors are measured again")
        return {}


def _times(values: Any) -> dict[str, float]:
    times = {str(sha256): float(ms) for sha256, ms in values.items()}
    if not all(0 < ms < float("inf") for ms in times.values()):
        raise ValueError("a drift anchor's time is not above 0")
    return times
