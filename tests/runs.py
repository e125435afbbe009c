"""Runs for tests: the command line as a process, a finished run, a console that is read."""

from __future__ import annotations

import io
import json
import os
import subprocess
import sys
from collections.abc import Callable, Iterator, Mapping
from contextlib import contextmanager
from dataclasses import dataclass, field
from pathlib import Path
from typing import Any

from rich.console import Console as RichConsole
from safetensors.numpy import load_file, save_file

from hwnas._console import Console
from hwnas.config import Config
from hwnas.deployment import MANIFEST, SAMPLES
from hwnas.files import read_document, sha256_file, write_document
from hwnas.results import Result, Shown
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


@dataclass(frozen=True, kw_only=True)
class MadeUp(Result):
    """A result that no command made.

    Attributes:
        told: for people.
        more: for programs.
        exit_status: of the command.
    """

    told: Shown = field(default_factory=Shown)
    more: Mapping[str, object] = field(default_factory=dict)
    exit_status: int = 0

    @property
    def shown(self) -> Shown:
        return self.told

    def values(self) -> Mapping[str, object]:
        return self.more


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
    def progress(self, label: str, *, work: Callable[[int], float] | None = None) -> Iterator[ProgressCallback]:
        calls = 0
        with super().progress(label, work=work) as update:

            def update_or_interrupt(done: int, total: int, note: str) -> None:
                nonlocal calls
                calls += 1
                update(done, total, note)
                if self._interrupt_after == (label, calls):
                    raise KeyboardInterrupt

            yield update_or_interrupt


def rewrite_manifest(deployment: Path, change: Callable[[dict[str, Any]], object]) -> None:
    """Change a manifest as one who means it would, with a sound checksum."""
    value = read_document(deployment / MANIFEST)
    change(value)
    write_document(deployment / MANIFEST, value)


def rewrite_samples(deployment: Path, change: Callable[[dict[str, Any]], dict[str, Any]]) -> None:
    """Likewise the samples, which the manifest signs for."""
    path = deployment / SAMPLES
    save_file(change(load_file(path)), path)
    rewrite_manifest(deployment, lambda m: m.update(samples_sha256=sha256_file(path)))


def as_of_the_first_schema(deployment: Path) -> None:
    """Make a deployment what it would have been without checksums and raw images."""
    samples = load_file(deployment / SAMPLES)
    save_file({name: samples[name] for name in ("inputs", "outputs")}, deployment / SAMPLES)
    value = read_document(deployment / MANIFEST)
    del value["accuracy"]["by_class"], value["parity"]["step"], value["parity"]["near_ties"]
    del value["preprocessing"], value["samples_sha256"]
    value["input"] |= {"mean": [0.3], "std": [0.4], "interpolation": "bilinear"}
    (deployment / MANIFEST).write_text(json.dumps({**value, "schema_number": 1}))


def contents(folder: Path) -> dict[str, bytes]:
    """Path in a folder -> content of every file, locks aside."""
    files = [p for p in sorted(folder.rglob("*")) if p.is_file() and p.suffix != ".lock"]
    return {str(p.relative_to(folder)): p.read_bytes() for p in files}
