"""The process of one job: deploys what it is told on standard input, and says on standard output what it does.

One JSON object a line: `said`, `progress`, `progress-end`, `result`, `error`. What anything else prints goes to
standard error. Knows the command's function; never the server.
"""

from __future__ import annotations

import json
import sys
import time
from collections.abc import Callable, Iterator, Mapping, Sequence
from contextlib import contextmanager
from typing import Any, TextIO

from hwnas._commands import Terminated, signals, stdout_for_result
from hwnas._console import Console
from hwnas.allowed import limits_from_json
from hwnas.config import load_config
from hwnas.errors import HwnasError, MissingPackageError
from hwnas.results import Result, Shown, json_value
from hwnas.types import ProgressCallback

_EVERY_S = 0.2  # between two lines of one progress


class EventConsole(Console):
    """Says everything as events.

    Args:
        out: they are written to.
    """

    def __init__(self, out: TextIO) -> None:
        super().__init__()
        self._to = out

    def event(self, kind: str, **values: object) -> None:
        """One line."""
        self._to.write(json.dumps(json_value({"kind": kind, **values}), allow_nan=False) + "\n")
        self._to.flush()

    def _line(self, text: str, *, prefix: str = "", style: str = "") -> None:
        self.event("said", text=f"{prefix}{text}")

    def table(self, shown: Shown) -> None:
        """Its title alone: a job has no terminal."""
        if shown.title:
            self._line(shown.title)

    def result(self, result: Result) -> None:
        """What the job ends with."""
        self.event("result", result=result.to_json())

    def failure(self, error: HwnasError, *, exit_status: int | None = None) -> None:
        """Why the job ends without a result."""
        self.event("error", type=type(error).__name__, message=str(error))

    @contextmanager
    def progress(self, label: str, *, work: Callable[[int], float] | None = None) -> Iterator[ProgressCallback]:
        """Now and then how much is done; the time left is not told."""
        told_at = 0.0

        def update(done: int, total: int, note: str) -> None:
            nonlocal told_at
            if time.monotonic() - told_at >= _EVERY_S or done == total:
                told_at = time.monotonic()
                self.event("progress", label=label, done=done, total=total, note=note)

        try:
            yield update
        finally:
            self.event("progress-end", label=label)


def deploy(request: Mapping[str, Any], console: Console) -> None:
    """Export the network of a request, and tell the result.

    Args:
        request: `run`, the folder; `device`, as the configuration calls it; `architecture`; `limits`, by metric.
        console: to speak on.

    Raises:
        HwnasError: see `hwnas.pipeline.export_network`.
    """
    config = load_config(request["run"]).with_limits(limits_from_json(request["limits"])).part_for(request["device"])
    from hwnas import pipeline

    console.note("loading the supernet and the device's tables")
    console.result(pipeline.export_network(config, request["architecture"], console=console))


def main(argv: Sequence[str] | None = None) -> int:
    """Work off one request; returns the exit status."""
    console = EventConsole(stdout_for_result())
    try:
        with signals():
            deploy(json.load(sys.stdin), console)
    except Terminated as e:
        return 128 + e.number
    except KeyboardInterrupt:
        return 130
    except HwnasError as e:
        console.failure(e)
        return e.exit_status
    except ModuleNotFoundError as e:
        missing = MissingPackageError.of(e, needed_for="deploying a network", with_most=True)
        if missing is None:
            raise
        console.failure(missing)
        return missing.exit_status
    except (OSError, MemoryError) as e:
        console.failure(HwnasError(str(e) or type(e).__name__))
        return 1
    return 0


if __name__ == "__main__":
    sys.exit(main())
