"""How long a space takes to profile completely on this machine, and where the time goes.

Profiles into a fresh folder; knows the pipeline's `profile`, and what making models, the exporter and the measuring
process are called so that their time can be told apart.
"""

from __future__ import annotations

import argparse
import functools
import tempfile
import time
from collections import defaultdict
from collections.abc import Callable, Iterator, Sequence
from contextlib import contextmanager
from types import ModuleType
from typing import TYPE_CHECKING, Any

from _common import SMOKE, Benchmark, Figure, script

from hwnas.config import Config

if TYPE_CHECKING:
    from hwnas.pipeline import ProfileResult

_MADE = ("untrained_block", "untrained_network", "drift_anchor")  # what is exported


def main(argv: Sequence[str] | None = None) -> int:
    """Run the program; returns its exit status."""
    parser = argparse.ArgumentParser(description=__doc__)
    parser.add_argument("--space", default="mobilenet-tiny", help="preset, in all its precisions (mobilenet-tiny)")
    parser.add_argument("--device", default="cpu", help="see `hwnas devices` (cpu)")
    parser.add_argument("--at-most", type=float, default=180.0, metavar="SECONDS", help="the target (180)")
    bench = Benchmark("profiling", parser, argv)
    with tempfile.TemporaryDirectory(prefix="hwnas-profiling-") as folder:
        values = {"space.preset": bench.options.space, "device.name": bench.options.device}
        config = Config().replaced({**(SMOKE if bench.smoke else values), "output.folder": folder})
        began = time.monotonic()
        seconds, result = timed_profile(bench, config)
        total = time.monotonic() - began
    figures = [
        Figure(name="profile_s", value=round(total, 1), at_most=bench.options.at_most),
        *(Figure(name=f"{name}_s", value=round(value, 1)) for name, value in seconds.items()),
        Figure(name="other_s", value=round(total - sum(seconds.values()), 1)),
        Figure(name="distinct_blocks", value=result.n_blocks),
        Figure(name="whole_networks", value=result.n_networks),
        Figure(name="mean_error_percent_held_out", value=result.correction.quality.mean_abs_error_percent),
        Figure(name="largest_latency_ms", value=result.largest_ms),
    ]
    details = {"correction": result.correction.to_json(), "bounds": result.latency_ms_bounds}
    return bench.publish(figures, details=details)


def timed_profile(bench: Benchmark, config: Config) -> tuple[dict[str, float], ProfileResult]:
    """Profile; the seconds spent in exporting and in measuring, and the stage's result."""
    from hwnas import pipeline
    from hwnas.measure import Worker
    from hwnas.supernet import untrained
    from hwnas.workspace import Workspace

    seconds: dict[str, float] = defaultdict(float)
    with (
        stopwatch(untrained, _MADE, lambda s: _add(seconds, "export", s)),
        stopwatch(type(Workspace(config).exporter), ("export",), lambda s: _add(seconds, "export", s)),
        stopwatch(Worker, ("measure", "measure_anchor"), lambda s: _add(seconds, "measure", s)),
    ):
        result = pipeline.profile(config, console=bench.console)
    return dict(seconds), result


@contextmanager
def stopwatch(owner: type | ModuleType, methods: Sequence[str], report: Callable[[float], None]) -> Iterator[None]:
    """Time the outermost calls of some methods of a class, or functions of a module, while the context lasts.

    Args:
        owner: whose they are.
        methods: by name; a call inside another of them does not count again.
        report: called with the seconds of each call.
    """
    originals = {name: getattr(owner, name) for name in methods}
    depth = 0

    def timed(original: Callable[..., Any]) -> Callable[..., Any]:
        @functools.wraps(original)
        def call(*args: Any, **kwargs: Any) -> Any:
            nonlocal depth
            depth += 1
            began = time.monotonic()
            try:
                return original(*args, **kwargs)
            finally:
                depth -= 1
                if depth == 0:
                    report(time.monotonic() - began)

        return call

    for name, original in originals.items():
        setattr(owner, name, timed(original))
    try:
        yield
    finally:
        for name, original in originals.items():
            setattr(owner, name, original)


def _add(seconds: dict[str, float], name: str, more: float) -> None:
    seconds[name] += more


if __name__ == "__main__":
    script(main)
