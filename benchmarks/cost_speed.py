"""How fast costs are known: architectures a second, exact bounds, refusals, and queries of a finished study.

The table's entries are made up, which changes no time: the work depends on the space alone. Everything runs on one
core, without torch.
"""

from __future__ import annotations

import argparse
import contextlib
import os
import statistics
import tempfile
import time
from collections.abc import Callable, Iterator, Sequence
from pathlib import Path
from typing import TYPE_CHECKING, Any

from _common import Benchmark, Figure, script

if TYPE_CHECKING:
    from hwnas.cost import SlotCost
    from hwnas.search import Study
    from hwnas.spaces.mobilenet import MobileNetSpace
    from hwnas.types import Block

_UPPER_RATIO = 1.05  # of the made-up latency, so that limits are kept by an upper bound


def main(argv: Sequence[str] | None = None) -> int:
    """Run the program; returns its exit status."""
    parser = argparse.ArgumentParser(description=__doc__)
    parser.add_argument("--space", default="mobilenet-v3-large", help="preset (mobilenet-v3-large)")
    parser.add_argument("--architectures", type=int, default=200_000, help="in one call of `estimate` (200000)")
    parser.add_argument("--trials", type=int, default=10_000, help="of the study that is queried (10000)")
    parser.add_argument("--repeats", type=int, default=11, help="of everything; the median counts (11)")
    bench = Benchmark("cost_speed", parser, argv)
    options = bench.options
    small = {"space": "test-tiny", "architectures": 2000, "trials": 100, "repeats": 2}
    arguments = small if bench.smoke else {name: getattr(options, name) for name in small}
    with one_core(), tempfile.TemporaryDirectory(prefix="hwnas-cost-") as folder:
        figures = [*_model_figures(arguments), *_query_figures(arguments, Path(folder))]
    return bench.publish(figures, details=arguments)


@contextlib.contextmanager
def one_core() -> Iterator[None]:
    """Keep this process on one core, and its linear algebra on one thread, while the context lasts."""
    from threadpoolctl import threadpool_limits  # type: ignore[import-untyped]  # comes with scikit-learn

    with threadpool_limits(limits=1), _pinned():
        yield


@contextlib.contextmanager
def _pinned() -> Iterator[None]:
    """Keep the calling thread on one core, where the system can do that."""
    if not hasattr(os, "sched_setaffinity"):
        yield
        return
    before = os.sched_getaffinity(0)
    os.sched_setaffinity(0, {min(before)})
    try:
        yield
    finally:
        os.sched_setaffinity(0, before)


def seconds(work: Callable[[], object], *, repeats: int) -> float:
    """Median time of some work."""
    times = []
    for _ in range(repeats):
        began = time.perf_counter()
        work()
        times.append(time.perf_counter() - began)
    return statistics.median(times)


def made_up_latency_ms(block: Block) -> float:
    """A positive number that grows with the block's work."""
    from hwnas.cost import analytic

    return 0.005 + 1e-7 * analytic.macs(block)


def make_space(name: str) -> MobileNetSpace:
    """A preset, new: spaces remember blocks they were asked for."""
    from hwnas import registry

    space: MobileNetSpace = registry.load("spaces", name)()
    return space


def make_models(space: MobileNetSpace) -> dict[str, SlotCost]:
    """The closed forms, and a latency that looks like a corrected table's."""
    from hwnas.cost import SlotBlocks, SlotCost, closed_form_costs

    blocks = SlotBlocks.of(space)
    table = blocks.table(made_up_latency_ms, offset=0.02)
    latency = SlotCost(metric="latency_ms", table=table, upper_ratio=_UPPER_RATIO)
    return {"latency_ms": latency, **closed_form_costs(blocks)}


def _model_figures(arguments: dict[str, Any]) -> list[Figure]:
    import numpy as np

    from hwnas.cost import SlotBlocks, check_reachable
    from hwnas.errors import InfeasibleError
    from hwnas.limits import Limit

    name, n, repeats = arguments["space"], arguments["architectures"], arguments["repeats"]
    began = time.perf_counter()
    space = make_space(name)
    blocks = SlotBlocks.of(space)
    enumeration_s = time.perf_counter() - began
    models = make_models(space)
    encodings = space.sample(n, np.random.default_rng(0), over="encodings")
    latency = models["latency_ms"]
    latency.estimate(encodings)  # lays the tables out; the next ones find them
    estimate_s = seconds(lambda: latency.estimate(encodings), repeats=repeats)
    bounds_s = seconds(latency.bounds, repeats=repeats)
    low, _ = latency.bounds()

    def refused(limits: Sequence[Limit], known: dict[str, SlotCost] | None) -> None:
        fresh = space if known else make_space(name)
        with contextlib.suppress(InfeasibleError):
            check_reachable(known or make_models(fresh), limits, fresh)
            raise AssertionError(f"{limits} were not refused")

    unreachable = Limit(metric="latency_ms", value=0.99 * low)
    smallest = {m: model.bounds()[0] for m, model in models.items()}
    # each can just be kept alone; whether all can be together takes a proof or a network that does
    together = [Limit(metric=m, value=(_UPPER_RATIO if m == "latency_ms" else 1.0) * smallest[m]) for m in models]
    together_s = seconds(lambda: _checked(models, together, space), repeats=repeats)
    return [
        Figure(name="architectures_per_s", value=round(n / estimate_s), at_least=1_000_000),
        Figure(name="distinct_networks_log10", value=len(str(space.count())) - 1),
        Figure(name="distinct_blocks", value=len(blocks.blocks)),
        Figure(name="enumeration_s", value=enumeration_s),
        Figure(name="exact_min_and_max_s", value=bounds_s),
        Figure(name="refusal_s", value=seconds(lambda: refused([unreachable], models), repeats=repeats), at_most=1),
        Figure(
            name="refusal_with_space_and_tables_made_s", value=seconds(lambda: refused([unreachable], None), repeats=1)
        ),
        Figure(name="four_tight_limits_decided_s", value=together_s, at_most=1),
    ]


def _checked(models: dict[str, SlotCost], limits: Sequence[Any], space: MobileNetSpace) -> None:
    from hwnas.cost import check_reachable
    from hwnas.errors import InfeasibleError

    with contextlib.suppress(InfeasibleError):
        check_reachable(models, limits, space)


def _query_figures(arguments: dict[str, Any], folder: Path) -> list[Figure]:
    import numpy as np

    from hwnas.query import query, trade_off
    from hwnas.search import save_study

    path = folder / "study.safetensors"
    study = synthetic_study(make_space(arguments["space"]), arguments["trials"])
    save_study(study, path)
    limits = {m: float(np.quantile(study.values[m], 0.5)) for m in ("latency_ms", "macs")}
    began = time.perf_counter()
    query(path, limits=limits)
    first_s = time.perf_counter() - began
    repeats = arguments["repeats"]
    return [
        Figure(name="study_trials", value=len(study)),
        Figure(name="study_file_bytes", value=path.stat().st_size),
        Figure(name="first_query_with_opening_ms", value=1e3 * first_s),
        Figure(
            name="query_with_opening_ms",
            value=1e3 * seconds(lambda: query(path, limits=limits), repeats=repeats),
            at_most=50,
        ),
        Figure(name="query_ms", value=1e3 * seconds(lambda: query(study, limits=limits), repeats=repeats)),
        Figure(
            name="front_with_opening_ms",
            value=1e3 * seconds(lambda: trade_off(path, "accuracy", "latency_ms"), repeats=repeats),
        ),
    ]


def synthetic_study(space: MobileNetSpace, n: int) -> Study:
    """A study of n random networks of a space, with made-up accuracies."""
    import numpy as np

    from hwnas.search import Study
    from hwnas.types import Direction

    rng = np.random.default_rng(0)
    encodings = space.sample(n, rng, over="encodings")
    estimates = {m: model.estimate(encodings) for m, model in make_models(space).items()}
    return Study(
        name="synthetic",
        space_name=space.name,
        choices=space.choices,
        directions={"accuracy": Direction.MAXIMIZE, "latency_ms": Direction.MINIMIZE},
        limits={},
        numbers=np.arange(n),
        encodings=encodings,
        values={"accuracy": rng.random(n), **{m: e.value for m, e in estimates.items()}},
        upper={"latency_ms": estimates["latency_ms"].upper},
        feasible=np.ones(n, dtype=bool),
        sources={"accuracy": "made up", "latency_ms": "made up"},
    )


if __name__ == "__main__":
    script(main)
