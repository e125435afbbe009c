"""A table measured while another process loads the cores, used on the quiet machine.

Profiles twice, under load and quietly, then measures the same unseen networks on the quiet machine, and compares the
errors of the two tables' predictions. Knows the pipeline's `profile` and the predictions of `prediction.py`.
"""

from __future__ import annotations

import argparse
import contextlib
import os
import subprocess
import sys
import tempfile
import time
from collections.abc import Iterator, Sequence
from pathlib import Path
from typing import Any

from _common import SMOKE, Benchmark, Figure, script
from prediction import PRECISIONS, compare

from hwnas._console import Console
from hwnas.config import Config

_RATIO = 1.5  # of the errors: at most
# multiplies matrices in turns of its own: takes the core's time, its caches and its clock
_WORK = """
import time, numpy as np
rng = np.random.default_rng()
a = rng.standard_normal((600, 600))
while True:
    end = time.monotonic() + rng.uniform(0.05, 2.0)
    while time.monotonic() < end:
        a @ a
    time.sleep(rng.uniform(0.0, 0.3))
"""


def main(argv: Sequence[str] | None = None) -> int:
    """Run the program; returns its exit status."""
    parser = argparse.ArgumentParser(description=__doc__)
    parser.add_argument("--space", default="mobilenet-tiny", help="preset (mobilenet-tiny)")
    parser.add_argument("--device", default="cpu", help="see `hwnas devices` (cpu)")
    parser.add_argument("--networks", type=int, default=30, help="of each precision (30)")
    parser.add_argument("--loads", type=int, default=1, help="processes that load a core (1)")
    bench = Benchmark("loaded_table", parser, argv)
    o = bench.options
    n = 4 if bench.smoke else o.networks
    with tempfile.TemporaryDirectory(prefix="hwnas-loaded-") as temporary:
        values = {"space.preset": o.space, "device.name": o.device}
        smoke = {**SMOKE, "space.precisions": ["fp32"]}
        config = Config().replaced(smoke if bench.smoke else values)
        with load(o.loads):
            _profile(config, Path(temporary, "loaded"), console=bench.console)
        _profile(config, Path(temporary, "quiet"), console=bench.console)
        found = {
            name: compare(_placed(config, Path(temporary, name)), n, seed=2000, console=bench.console)
            for name in ("quiet", "loaded")
        }
    return bench.publish(_figures(found), details=found)


def _figures(found: dict[str, dict[str, Any]]) -> list[Figure]:
    figures = []
    for precision in (p for p in PRECISIONS if p in found["quiet"]):
        quiet, loaded = (found[name][precision]["prediction"]["mean_abs_error_percent"] for name in ("quiet", "loaded"))
        figures += [
            Figure(name=f"{precision}_mean_error_percent_quiet_table", value=quiet),
            Figure(name=f"{precision}_mean_error_percent_loaded_table", value=loaded),
            Figure(name=f"{precision}_ratio", value=loaded / quiet, at_most=_RATIO),
        ]
    return figures


def _placed(config: Config, folder: Path) -> Config:
    return config.replaced({"output.folder": str(folder)})


def _profile(config: Config, folder: Path, *, console: Console) -> None:
    from hwnas import pipeline

    began = time.monotonic()
    pipeline.profile(_placed(config, folder), console=console)
    console.note(f"{folder.name}: {time.monotonic() - began:.0f} s, load {os.getloadavg()[0]:.1f}")


@contextlib.contextmanager
def load(processes: int) -> Iterator[None]:
    """Other work on the machine while the context lasts."""
    environment = {**os.environ, "OMP_NUM_THREADS": "1", "OPENBLAS_NUM_THREADS": "1"}
    workers = [subprocess.Popen([sys.executable, "-c", _WORK], env=environment) for _ in range(processes)]
    try:
        yield
    finally:
        for worker in workers:
            worker.kill()
            worker.wait()


if __name__ == "__main__":
    script(main)
