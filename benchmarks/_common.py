"""What the benchmark programs share: options, figures with their targets, the machine, and result files.

Importing it loads neither torch nor a runtime: `--help` answers at once. It must never know what any program measures.
"""

from __future__ import annotations

import argparse
import contextlib
import datetime
import json
import math
import os
import platform
import shlex
import subprocess
import sys
import tempfile
import time
from collections.abc import Callable, Iterator, Mapping, Sequence
from dataclasses import dataclass
from importlib.metadata import version
from pathlib import Path
from typing import TYPE_CHECKING, Any

from hwnas._console import Console
from hwnas.errors import HwnasError
from hwnas.results import Result, Shown

if TYPE_CHECKING:
    from hwnas.config import Config

SCHEMA = 1
ROOT = Path(__file__).resolve().parent.parent
RESULTS = ROOT / "benchmarks" / "results"
PACKAGES = ("hwnas", "torch", "numpy", "scipy", "onnx", "onnxruntime", "optuna")
RUNTIMES = ("ai-edge-litert", "openvino", "tensorrt_rtx_cu12_bindings")  # where they are installed

# Configuration values that make a run take seconds: a simulated device, a space of 8 px networks, hardly any training
SMOKE: Mapping[str, object] = {
    "data.source": "digits",
    "space.preset": "test-tiny",
    "space.resolutions": [8],
    "space.precisions": ["int8"],
    "train.steps": 4,
    "train.batch_size": 32,
    "train.threads": 1,
    "device.name": "fake",
    "profile.n_networks": 4,
    "search.n_trials": 6,
    "search.population_size": 4,
    "search.validation_samples": 50,
    "search.recalibration_samples": 64,
    "search.calibration_samples": 64,
    "limits.latency_fraction": 1.2,  # on the simulated device, int8 networks this small gain nothing
    "deploy.finetune_steps": 1,
    "deploy.test_samples": 50,
    "deploy.torch_program": False,
}

Value = float | int | str | None


@dataclass(frozen=True, slots=True, kw_only=True)
class Figure:
    """One number a benchmark shows.

    Attributes:
        name: with its unit: `wall_time_s`.
        value: what was found; None if nothing was, which reaches no target.
        at_least: the target, if more is better.
        at_most: the target, if less is better.
    """

    name: str
    value: Value
    at_least: float | None = None
    at_most: float | None = None

    @property
    def target(self) -> str:
        """The target as text, empty if there is none."""
        if self.at_least is not None:
            return f">= {self.at_least:g}"
        return f"<= {self.at_most:g}" if self.at_most is not None else ""

    @property
    def reached(self) -> bool | None:
        """Whether the target is; None without one."""
        if self.at_least is None and self.at_most is None:
            return None
        value = math.nan if self.value is None else float(self.value)
        return (self.at_least is None or value >= self.at_least) and (self.at_most is None or value <= self.at_most)


@dataclass(frozen=True, slots=True, kw_only=True)
class Outcome(Result):
    """What a benchmark ends with: its figures as a table, and notes below it."""

    title: str
    figures: tuple[Figure, ...]
    notes: tuple[str, ...]

    @property
    def shown(self) -> Shown:
        """A row for each figure."""
        return Shown(
            title=self.title,
            columns=["figure", "value", "target", "reached"],
            rows=[(f.name, f.value, f.target, "" if f.reached is None else f.reached) for f in self.figures],
            notes=self.notes,
        )


class Benchmark:
    """One run of a program: its options, when it began, and where its result goes.

    Args:
        name: of the program and its result file.
        parser: the program's own options; `--smoke` and `--results` are added.
        argv: the arguments; None: those of the process.
    """

    def __init__(self, name: str, parser: argparse.ArgumentParser, argv: Sequence[str] | None) -> None:
        parser.add_argument(
            "--smoke", action="store_true", help="seconds instead of minutes: shows that it works, not a number"
        )
        parser.add_argument(
            "--results",
            type=Path,
            metavar="FOLDER",
            help=f"where {name}.json is written (benchmarks/results; with --smoke nowhere)",
        )
        parser.add_argument("--as", dest="name", metavar="NAME", help=f"of the result, for a variant ({name})")
        given = list(sys.argv[1:] if argv is None else argv)
        self.options = parser.parse_args(given)
        self.program = name
        self.name: str = self.options.name or name
        self.smoke: bool = self.options.smoke
        self.console = Console()
        self._command = shlex.join(["python", f"benchmarks/{name}.py", *given])
        self._began = time.monotonic()
        self._began_at = datetime.datetime.now(datetime.UTC)
        self._load = os.getloadavg()[0] if hasattr(os, "getloadavg") else None

    def publish(self, figures: Sequence[Figure], *, details: Mapping[str, Any] | None = None) -> int:
        """Show the figures as a table and write them, with the machine and the command, as one JSON file.

        Args:
            figures: in the order they are shown.
            details: JSON values behind the figures.

        Returns:
            The exit status: 1 if a target was missed; with `--smoke`, whose numbers mean nothing, always 0.
        """
        seconds = time.monotonic() - self._began
        folder = self.options.results or (None if self.smoke else RESULTS)
        notes = [f"{self._command} took {seconds:.0f} s on {_processor()}"]
        if folder is not None:
            notes.append(f"Written to {folder / self.name}.json")
            self._write(folder / f"{self.name}.json", figures, details=details or {}, seconds=seconds)
        title = f"{self.name} (smoke: the numbers mean nothing)" if self.smoke else self.name
        self.console.result(Outcome(title=title, figures=tuple(figures), notes=tuple(notes)))
        return int(not self.smoke and any(f.reached is False for f in figures))

    def _write(self, path: Path, figures: Sequence[Figure], *, details: Mapping[str, Any], seconds: float) -> None:
        from hwnas.files import write_json

        write_json(
            path,
            {
                "schema": SCHEMA,
                "benchmark": self.name,
                "command": self._command,
                "smoke": self.smoke,
                "began": self._began_at.isoformat(timespec="seconds"),
                "seconds": round(seconds, 1),
                "machine": {**machine(), "load_average_at_start": self._load},
                "figures": {f.name: {"value": f.value, "target": f.target, "reached": f.reached} for f in figures},
                "details": dict(details),
            },
        )


def machine() -> dict[str, Any]:
    """The machine and the packages a number was found with."""
    from hwnas.packages import installed_version

    cores = len(os.sched_getaffinity(0)) if hasattr(os, "sched_getaffinity") else os.cpu_count()
    return {
        "processor": _processor(),
        "cores": os.cpu_count(),
        "usable_cores": cores,
        "torch_threads": _torch_threads(),
        "gpu": _gpu(),
        "system": f"{platform.system()} {platform.release()} {platform.machine()}",
        "python": platform.python_version(),
        "packages": {name: version(name) for name in PACKAGES}
        | {name: found for name in RUNTIMES if (found := installed_version(name)) is not None},
        "commit": _commit(),
    }


def _processor() -> str:
    from hwnas import registry

    host_context = registry.load_object("hwnas.devices.host:host_context", needed_for="the machine's description")
    return str(host_context(threads=1)["hardware"])


def _torch_threads() -> int | None:
    """None if the program never needed torch."""
    torch = sys.modules.get("torch")
    return int(torch.get_num_threads()) if torch is not None else None


def _commit() -> str | None:
    """Of the working tree, with `-dirty` if more than results has changed; None outside a repository."""
    try:
        commit = _git("rev-parse", "--short", "HEAD")
        changed = _git("status", "--porcelain", "--untracked-files=no", "--", ":!benchmarks/results", ":!docs")
    except (OSError, subprocess.CalledProcessError):
        return None
    return commit + ("-dirty" if changed else "")


def _git(*arguments: str) -> str:
    return subprocess.run(["git", *arguments], cwd=ROOT, capture_output=True, text=True, check=True).stdout.strip()


# ---------------------------------------------------------------- work that several programs do


def hwnas(*arguments: str | Path, cwd: Path | None = None) -> tuple[int, dict[str, Any]]:
    """Run a command of hwnas in a fresh process; what it says on standard error passes through.

    Args:
        arguments: of the command; `--json` is added.
        cwd: the folder it runs in.

    Returns:
        Its exit status and the JSON document it printed, empty if there is none.
    """
    program = Path(sys.executable).with_name("hwnas")
    done = subprocess.run([program, *arguments, "--json"], cwd=cwd, stdout=subprocess.PIPE, text=True, check=False)
    return done.returncode, json.loads(done.stdout) if done.stdout.strip() else {}


def _gpu() -> str | None:
    """What torch trained on; None if there is none, or the program never needed torch."""
    torch = sys.modules.get("torch")
    return str(torch.cuda.get_device_name()) if torch is not None and torch.cuda.is_available() else None


def children_cpu_s() -> float:
    """Processor time, in seconds, of all commands of this program that ended."""
    import resource  # Windows has none

    used = resource.getrusage(resource.RUSAGE_CHILDREN)
    return used.ru_utime + used.ru_stime


@contextlib.contextmanager
def run_folder(given: Path | None, *, smoke: bool) -> Iterator[Path]:
    """The folder of a finished run: the one that was named, or with `--smoke` and none named a tiny one, made now.

    Raises:
        HwnasError: neither.
    """
    if given is not None or not smoke:
        if given is None:
            raise HwnasError("name the folder of a run (for example runs/fashion-mnist), or try --smoke")
        yield given
        return
    with tempfile.TemporaryDirectory(prefix="hwnas-smoke-") as folder:
        make_smoke_run(Path(folder))
        yield Path(folder)


def make_smoke_run(folder: Path) -> None:
    """Profile, train and search as `SMOKE` says, into a folder."""
    from hwnas import pipeline
    from hwnas.config import Config

    config = Config().replaced({**SMOKE, "output.folder": str(folder)})
    for stage in (pipeline.profile, pipeline.train, pipeline.search):
        stage(config, console=Console())


@contextlib.contextmanager
def borrowed_run(folder: Path) -> Iterator[Config]:
    """The configuration of a finished run, with a temporary output folder that links to its results.

    What is deployed goes to the temporary folder; the run stays as it is.

    Raises:
        ConfigError: the folder is not that of a run.
    """
    from hwnas.config import load_config

    config = load_config(folder)
    with tempfile.TemporaryDirectory(prefix="hwnas-benchmark-") as temporary:
        for name in ("checkpoint.safetensors", "latency_tables", "search"):
            if (folder / name).exists():
                Path(temporary, name).symlink_to((folder / name).resolve())
        yield config.replaced({"output.folder": temporary})


def spread(values: Sequence[float]) -> dict[str, float]:
    """Minimum, median, mean and maximum."""
    import statistics

    return {
        "min": min(values),
        "median": statistics.median(values),
        "mean": statistics.fmean(values),
        "max": max(values),
    }


def script(main: Callable[[], int]) -> None:
    """End the process with the program's status; an error of ours becomes one line."""
    try:
        sys.exit(main())
    except HwnasError as e:
        Console().failure(e)
        sys.exit(e.exit_status)
