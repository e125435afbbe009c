"""Several workers on one study, some of them killed; and a thousand devices with a hundred budgets each, by arithmetic.

First: four workers evaluate networks of a made-up table (an evaluation looks a network up and sleeps, as if a board or
a GPU did the work), and one of them is killed every 20 seconds: processes of one search, actors on a local Ray cluster,
and whole searches that share a real PostgreSQL server, each as if on a machine of its own. Counted are trials that are
missing, and networks that are complete twice or with another value than the table's; speed is held against one worker
that nobody kills. A killed machine is started again after a second.

Then: one study, made-up costs of its networks on each of a thousand devices, a hundred budgets each. How long costs and
queries take, how many budgets are answered without a new evaluation, and how many evaluations that spares.
"""

from __future__ import annotations

import argparse
import contextlib
import hashlib
import multiprocessing
import os
import random
import signal
import tempfile
import threading
import time
from collections.abc import Iterator, Mapping, Sequence
from dataclasses import dataclass
from functools import partial
from pathlib import Path
from typing import TYPE_CHECKING, Any

from _common import Benchmark, Figure, script

if TYPE_CHECKING:
    from multiprocessing.process import BaseProcess

    from hwnas.search import Problem, Study
    from hwnas.types import Option

KINDS = ("processes", "ray", "postgresql")
_EDGES = 6
_OPERATIONS = ("none", "skip", "conv1", "conv3", "pool")  # of NAS-Bench-201: 15,625 networks
_REFERENCE_TRIALS = 40
_RESTART_S = 1.0
_PER_SEARCH = 200  # evaluations of one search, `search.n_trials` of a new configuration


@dataclass(frozen=True, kw_only=True)
class Setting:
    """What is tried.

    Attributes:
        workers: at once.
        n_trials: of a study.
        seconds: an evaluation takes, at least and at most.
        kill_every_s: a worker.
        kills: at most; None: until the study is complete.
        lease: seconds between beats and until a trial is free; None as they are.
    """

    workers: int = 4
    n_trials: int = 320
    seconds: tuple[float, float] = (0.5, 1.0)
    kill_every_s: float = 20.0
    kills: int | None = None
    lease: tuple[int, int] | None = None


def main(argv: Sequence[str] | None = None) -> int:
    """Run the program; returns its exit status."""
    parser = argparse.ArgumentParser(description=__doc__)
    parser.add_argument("--kinds", nargs="+", choices=KINDS, help=f"({' '.join(KINDS)})")
    parser.add_argument("--trials", type=int, default=320, help="of each study (320)")
    parser.add_argument("--devices", type=int, default=1000, help="(1000)")
    parser.add_argument("--budgets", type=int, default=100, help="on each device (100)")
    bench = Benchmark("search_workers", parser, argv)
    o = bench.options
    setting, kinds, devices, budgets = Setting(n_trials=o.trials), KINDS, o.devices, o.budgets
    if bench.smoke:
        # starting a cluster takes longer than all the rest; tests/search/test_ray.py tries one
        setting = Setting(workers=2, n_trials=8, seconds=(0.03, 0.06), kill_every_s=0.5, kills=1, lease=(1, 2))
        kinds, devices, budgets = ("processes", "postgresql"), 5, 10
    figures: list[Figure] = []
    details: dict[str, Any] = {}
    for kind in o.kinds or kinds:
        if why := _missing(kind):
            bench.console.warn(f"{kind} is left out: {why}")
            continue
        found = _tried(kind, setting)
        details[kind] = found
        figures += [
            Figure(name=f"{kind}_trials_lost", value=found["lost"], at_most=0),
            Figure(name=f"{kind}_trials_counted_twice", value=found["twice"], at_most=0),
            Figure(name=f"{kind}_values_of_another_network", value=found["wrong"], at_most=0),
            Figure(name=f"{kind}_workers_killed", value=found["killed"], at_least=0 if bench.smoke else 2),
            Figure(name=f"{kind}_speed_over_one_worker", value=found["speedup"]),
        ]
    shared = _many_devices(devices, budgets)
    details["many_devices"] = shared
    figures += [Figure(name=name, value=value) for name, value in shared.items()]
    return bench.publish(figures, details={**details, "setting": setting.__dict__})


def _missing(kind: str) -> str:
    """Why a kind cannot be tried here, empty if it can."""
    if kind == "postgresql":
        from hwnas.testing import postgresql

        return postgresql.missing()
    from hwnas.packages import installed_version

    return "Ray is not installed" if kind == "ray" and installed_version("ray") is None else ""


# ---------------------------------------------------------------- what is evaluated


def accuracy_of(architecture: Mapping[str, Option]) -> float:
    """The made-up table: a part that adds up over the edges, and one that nobody can predict."""
    good = sum(_OPERATIONS.index(str(o)) * (i + 1) for i, o in enumerate(architecture.values()))
    return 0.5 + good / 200 + _noise(architecture) / 50


def _noise(architecture: Mapping[str, Option]) -> float:
    """In [0, 1), the same for the same network everywhere."""
    text = "|".join(f"{k}={v}" for k, v in sorted(architecture.items()))
    return int.from_bytes(hashlib.sha256(text.encode()).digest()[:6], "big") / 2**48


def make_evaluate(folder: str, seconds: tuple[float, float]) -> Any:
    """An evaluation for a worker, which leaves its process number in a folder, to be killed by, and notes its ends."""
    Path(folder, "workers", str(os.getpid())).touch()

    def evaluate(architecture: dict[str, Option]) -> dict[str, float]:
        time.sleep(seconds[0] + (seconds[1] - seconds[0]) * _noise(architecture))
        with Path(folder, "ended").open("a") as ended:
            ended.write(f"{time.time()}\n")
        return {"accuracy": accuracy_of(architecture)}

    return evaluate


def _problem(n_trials: int) -> Problem:
    from hwnas.search import Problem
    from hwnas.spaces import CategoricalSpace

    space = CategoricalSpace({f"edge{i}": _OPERATIONS for i in range(_EDGES)}, name="made-up")
    return Problem(space, {"accuracy": "maximize"}, n_trials=n_trials)


# ---------------------------------------------------------------- workers that are killed


def _tried(kind: str, setting: Setting) -> dict[str, float]:
    """One study with several workers that are killed, and a short one with one worker that is not."""
    alone = Setting(workers=1, n_trials=min(_REFERENCE_TRIALS, setting.n_trials), seconds=setting.seconds)
    with _searching(kind) as run:
        with _folder() as folder:
            run(alone, str(folder), "alone")
            alone_s = _seconds_a_trial(folder, alone)
        with _folder() as folder:
            with _killing(folder / "workers", every_s=setting.kill_every_s, most=setting.kills) as killed:
                study = run(setting, str(folder), "several")
            several_s = _seconds_a_trial(folder, setting)
    rows = {tuple(e) for e in study.encodings.tolist()}
    right = [t.values["accuracy"] == accuracy_of(t.architecture) for t in study.trials]
    return {
        "lost": setting.n_trials - len(rows),
        "twice": len(study) - len(rows),
        "wrong": right.count(False),
        "failed": len(study.failed),
        "killed": len(killed),
        "seconds_a_trial": several_s,
        "seconds_a_trial_alone": alone_s,
        "speedup": alone_s / several_s,
    }


@contextlib.contextmanager
def _folder() -> Iterator[Path]:
    with tempfile.TemporaryDirectory(prefix="hwnas-workers-") as name:
        Path(name, "workers").mkdir()
        yield Path(name)


def _seconds_a_trial(folder: Path, setting: Setting) -> float:
    """From the first end of an evaluation to the last: starting is not counted, what deaths cost is."""
    ended = sorted(map(float, (folder / "ended").read_text().split()))
    return (ended[-1] - ended[0]) / (setting.n_trials - 1)


@contextlib.contextmanager
def _searching(kind: str) -> Iterator[Any]:
    """What runs a study with workers of one kind: (setting, folder, name) -> the study."""
    if kind == "postgresql":
        from hwnas.testing import postgresql

        with postgresql.server() as server:
            os.environ["PGPASSWORD"] = postgresql.PASSWORD
            yield partial(_on_machines, server.url())
        return
    yield partial(_in_one_search, kind)


def _in_one_search(kind: str, setting: Setting, folder: str, name: str) -> Study:
    from hwnas.search import Processes, RayWorkers, Sampling, search

    make = partial(make_evaluate, folder, setting.seconds)
    executor = Processes(make, setting.workers) if kind == "processes" else RayWorkers(make, count=setting.workers)
    with contextlib.closing(executor):
        return search(_problem(setting.n_trials), executor, sampling=Sampling(sampler="random"), study_name=name)


def _on_machines(url: str, setting: Setting, folder: str, name: str) -> Study:
    """As many searches as there are workers; one that is killed is started again after a moment."""
    from hwnas.search import read_study

    context = multiprocessing.get_context("spawn")

    def start(number: int) -> BaseProcess:
        process = context.Process(target=_machine, args=(url, setting, folder, name, number))
        process.start()
        return process

    running = {number: start(number) for number in range(setting.workers)}
    while running:
        for number, process in list(running.items()):
            process.join(0.2)
            if process.exitcode is None:
                continue
            del running[number]
            if process.exitcode == -signal.SIGKILL:
                time.sleep(_RESTART_S)
                running[number] = start(number)
            elif process.exitcode:
                raise RuntimeError(f"machine {number} ended with {process.exitcode}")
    return read_study(url, study_name=name)


def _machine(url: str, setting: Setting, folder: str, name: str, number: int) -> None:
    """A search that takes itself for alone on a machine: what others run it can only judge by leases."""
    import socket

    from hwnas.search import Sampling, lease, search

    socket.gethostname = lambda: f"machine-{number}"
    if setting.lease is not None:
        lease.BEAT_S, lease.LEASE_S = setting.lease
    evaluate = make_evaluate(folder, setting.seconds)
    search(
        _problem(setting.n_trials),
        evaluate,
        sampling=Sampling(sampler="random", seed=number),
        storage=url,
        study_name=name,
    )


@contextlib.contextmanager
def _killing(folder: Path, *, every_s: float, most: int | None) -> Iterator[list[int]]:
    """Kill one of the processes whose numbers are in a folder, again and again; gives those that were killed."""
    killed: list[int] = []
    over = threading.Event()

    def kill() -> None:
        rng = random.Random(0)
        while not over.wait(every_s) and len(killed) != most:
            there = sorted(folder.iterdir())
            rng.shuffle(there)
            for path in there:
                path.unlink()
                with contextlib.suppress(ProcessLookupError):
                    os.kill(int(path.name), signal.SIGKILL)
                    killed.append(int(path.name))
                    break

    thread = threading.Thread(target=kill, daemon=True)
    thread.start()
    try:
        yield killed
    finally:
        over.set()
        thread.join()


# ---------------------------------------------------------------- many devices


def _many_devices(n_devices: int, n_budgets: int) -> dict[str, float]:
    """One study for all devices: what costs and queries take, and how many evaluations they spare."""
    import dataclasses

    import numpy as np

    from hwnas import registry
    from hwnas.cost import SlotBlocks, SlotCost
    from hwnas.errors import InfeasibleError
    from hwnas.query import query
    from hwnas.search import Problem, Sampling, search

    space = registry.load("spaces", "mobilenet-tiny")()
    blocks = SlotBlocks.of(space)
    rng = np.random.default_rng(0)
    weights = rng.normal(size=sum(len(c.options) for c in space.choices))

    def accuracy(architecture: Mapping[str, Option]) -> dict[str, float]:
        pairs = zip(space.choices, space.encode(architecture), strict=True)
        chosen = np.concatenate([np.arange(len(c.options)) == i for c, i in pairs])
        return {"accuracy": float(0.7 + 0.01 * (weights @ chosen))}

    study = search(
        Problem(space, {"accuracy": "maximize"}, n_trials=_PER_SEARCH), accuracy, sampling=Sampling(sampler="random")
    )
    base = np.array([rng.lognormal() for _ in blocks.blocks])
    at = {block: i for i, block in enumerate(blocks.blocks)}
    costs_s, query_s, answered = 0.0, [], 0
    for _ in range(n_devices):
        factors = base * rng.lognormal(sigma=0.5, size=len(base))  # devices are alike, and each its own
        began = time.perf_counter()
        table = blocks.table(lambda block, factors=factors: float(factors[at[block]]))
        model = SlotCost(metric="latency_ms", table=table, upper_ratio=1.05)
        estimate = model.estimate(study.encodings)
        values = {**study.values, "latency_ms": estimate.value}
        here = dataclasses.replace(study, values=values, upper={"latency_ms": estimate.upper})
        low, high = model.bounds()
        costs_s += time.perf_counter() - began
        for budget in np.geomspace(low * model.upper_ratio, high, n_budgets):
            began = time.perf_counter()
            with contextlib.suppress(InfeasibleError):
                query(here, limits={"latency_ms": float(budget)})
                answered += 1
            query_s.append(time.perf_counter() - began)
    asked = n_devices * n_budgets
    return {
        "devices": n_devices,
        "budgets": n_budgets,
        "costs_of_a_device_ms": 1e3 * costs_s / n_devices,
        "query_ms_median": 1e3 * float(np.median(query_s)),
        "query_ms_99th_percentile": 1e3 * float(np.percentile(query_s, 99)),
        "all_queries_s": sum(query_s),
        "budgets_answered_percent": 100 * answered / asked,
        "evaluations_shared": _PER_SEARCH,
        "evaluations_of_a_search_each": asked * _PER_SEARCH,
    }


if __name__ == "__main__":
    script(main)
