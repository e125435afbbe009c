"""Runs for tests: the command line as a process, a finished run, a console that is read."""

from __future__ import annotations

import io
import json
import os
import subprocess
import sys
from collections.abc import Iterator, Mapping
from contextlib import contextmanager
from dataclasses import dataclass
from pathlib import Path
from typing import Any

from rich.console import Console as RichConsole

from hwnas._console import Console
from hwnas.config import Config
from hwnas.types import ProgressCallback

# half the blocks and a third of the networks; no fault depends on the precision
ONE_PRECISION = {"space.precisions": ["fp32"]}


def hwnas(*arguments: object, environment: Mapping[str, str] | None = None) -> subprocess.CompletedProcess[str]:
    """The command `hwnas` in a process of its own, whatever it exits with."""
    return subprocess.run(
        [sys.executable, "-c", "from hwnas.cli import main; main()", *map(str, arguments)],
        capture_output=True,
        text=True,
        check=False,
        timeout=200,
        env={**os.environ, **(environment or {})},
    )


@dataclass(frozen=True)
class FinishedRun:
    """A run's folder, not to be changed, and what the command printed."""

    given: Config
    stdout: str
    stderr: str

    @property
    def folder(self) -> Path:
        return Path(self.given.output.folder)

    @property
    def document(self) -> dict[str, Any]:
        found: dict[str, Any] = json.loads(self.stdout)
        return found

    @property
    def deployment(self) -> Path:
        return Path(self.document["deployment"])


class ReadConsole(Console):
    """Keeps what is said.

    Args:
        interrupt_after: (label of a progress, calls): Ctrl-C comes when it was updated so often.
    """

    def __init__(self, *, interrupt_after: tuple[str, int] | None = None) -> None:
        self._text = io.StringIO()
        speaker = RichConsole(file=self._text, width=500)
        super().__init__(stdout=speaker, stderr=speaker)
        self._interrupt_after = interrupt_after

    @property
    def said(self) -> str:
        return self._text.getvalue()

    @contextmanager
    def progress(self, label: str) -> Iterator[ProgressCallback]:
        calls = 0
        with super().progress(label) as update:

            def update_or_interrupt(done: int, total: int, note: str) -> None:
                nonlocal calls
                calls += 1
                update(done, total, note)
                if self._interrupt_after == (label, calls):
                    raise KeyboardInterrupt

            yield update_or_interrupt


def contents(folder: Path) -> dict[str, bytes]:
    """Path in a folder -> content of every file, locks aside."""
    files = [p for p in sorted(folder.rglob("*")) if p.is_file() and p.suffix != ".lock"]
    return {str(p.relative_to(folder)): p.read_bytes() for p in files}
