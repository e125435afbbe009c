"""What a search costs beside the evaluations: candidates scored a second, and seconds for each proposed network.

On the published Once-for-All space (10^20 networks; searched by evolution) and on a made-up table of 15,625 networks
(predicted whole). Evaluations cost nothing here. Candidates a second: all that the inner search makes, holds against
the limits, predicts and scores, over its time, from the 50th to the 150th trial. Fits and storage are not in it.
Overhead: the time of a whole trial, storage in a journal included, over the last 100 of some trials.
"""

from __future__ import annotations

import argparse
import itertools
import tempfile
import time
from collections.abc import Callable, Sequence
from pathlib import Path
from typing import TYPE_CHECKING, Any

from _common import Benchmark, Figure, script
from search_front import Table, made_up_problem, once_for_all_problem

if TYPE_CHECKING:
    from hwnas.types import FloatArray, Option


def main(argv: Sequence[str] | None = None) -> int:
    """Run the program; returns its exit status."""
    parser = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    parser.add_argument("--trials", type=int, default=1000, help="of the search whose overhead is told (1000)")
    bench = Benchmark("search_speed", parser, argv)
    problems = [made_up_problem()] if bench.smoke else [made_up_problem(), once_for_all_problem()]
    n, first = (30, 20) if bench.smoke else (bench.options.trials, 50)
    figures = []
    for problem in problems:
        counted = _Counted()
        seconds = _searched(problem, n=n, counted=counted, within=(first, min(n, first + 100)))
        last = seconds[-min(100, n // 2) :]
        if problem.name == "once_for_all":
            figures.append(Figure(name="candidates_per_s", value=round(counted.rate), at_least=200_000))
        else:
            figures.append(Figure(name=f"{problem.name}_candidates_per_s", value=round(counted.rate)))
        figures.append(
            Figure(name=f"{problem.name}_s_per_trial_at_{n}", value=round(sum(last) / len(last), 4), at_most=0.3)
        )
    return bench.publish(figures)


class _Counted:
    """Candidates that were scored, and the time of the inner searches they were scored in."""

    def __init__(self) -> None:
        self.on = False
        self.candidates = 0
        self.seconds = 0.0

    @property
    def rate(self) -> float:
        return self.candidates / self.seconds

    def scoring(self, call: Callable[..., FloatArray]) -> Callable[..., FloatArray]:
        def counting(promise: Any, pool: Any) -> FloatArray:
            self.candidates += self.on * len(pool)
            return call(promise, pool)

        return counting

    def searching(self, call: Callable[..., Any]) -> Callable[..., Any]:
        def counting(*arguments: Any) -> Any:
            began = time.perf_counter()
            found = call(*arguments)
            self.seconds += self.on * (time.perf_counter() - began)
            return found

        return counting


def _searched(problem: Table, *, n: int, counted: _Counted, within: tuple[int, int]) -> list[float]:
    """Seconds of each trial."""
    from unittest import mock

    from hwnas.search import Problem, Sampling, search
    from hwnas.search.promise import Promise
    from hwnas.search.samplers.predictor import Predictor, predictor

    ends: list[float] = [time.perf_counter()]

    def evaluate(architecture: dict[str, Option]) -> dict[str, float]:
        return {"accuracy": float(problem.accuracy(problem.space.encode(architecture)[None])[0])}

    def progress(done: int, total: int, note: str) -> None:
        ends.append(time.perf_counter())
        counted.on = within[0] <= done < within[1]

    def never_done(real: Problem, /, *, seed: int) -> Any:
        return predictor(real, seed=seed, stop_early=False)

    asked = Problem(
        problem.space,
        {"accuracy": "maximize", "latency_ms": "minimize"},
        n_trials=n,
        closed_form={"latency_ms": problem.latency},
    )
    with (
        tempfile.TemporaryDirectory(prefix="hwnas-speed-") as folder,
        mock.patch.object(Promise, "__call__", counted.scoring(Promise.__call__)),
        mock.patch.object(Predictor, "_searched", counted.searching(Predictor._searched)),
    ):
        search(
            asked, evaluate, sampling=Sampling(sampler=never_done), storage=Path(folder, "journal"), progress=progress
        )
    return [b - a for a, b in itertools.pairwise(ends)]


if __name__ == "__main__":
    script(main)
