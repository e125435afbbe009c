"""Budget queries: how long one takes where many networks and devices are known, and how `hwnas serve` bears many.

The networks, their accuracies and the devices' latencies are made up, which changes no time. First a catalogue is asked
in this process, on one core. Then a server of the same catalogue, in a process of its own, gets requests at fixed
moments, whether earlier ones were answered or not; a latency counts from the moment a request was due.
"""

from __future__ import annotations

import argparse
import asyncio
import contextlib
import json
import multiprocessing
import time
from collections.abc import Iterator, Sequence
from dataclasses import dataclass
from typing import TYPE_CHECKING, Any

from _common import Benchmark, Figure, script
from cost_speed import one_core

if TYPE_CHECKING:
    from multiprocessing.connection import Connection

    from hwnas.catalogue import Catalogue
    from hwnas.cost import SlotCost
    from hwnas.search import Study
    from hwnas.types import FloatArray, IntArray

_QUERY_MS, _SERVE_MS = 10.0, 50.0
_SEED = 0
_START_S = 60.0


@dataclass(frozen=True, slots=True, kw_only=True)
class Size:
    """Of a catalogue that is made up.

    Attributes:
        space: preset.
        evaluated: networks.
        predicted: networks.
        devices: in number.
    """

    space: str
    evaluated: int
    predicted: int
    devices: int


def main(argv: Sequence[str] | None = None) -> int:
    """Run the program; returns its exit status."""
    parser = argparse.ArgumentParser(description=__doc__)
    parser.add_argument("--space", default="mobilenet-v3-large", help="preset (mobilenet-v3-large)")
    parser.add_argument("--evaluated", type=int, default=10_000, help="evaluated networks (10000)")
    parser.add_argument("--predicted", type=int, default=50_000, help="predicted networks (50000)")
    parser.add_argument("--devices", type=int, default=20, help="devices (20)")
    parser.add_argument("--queries", type=int, default=5000, help="in this process (5000)")
    parser.add_argument("--rate", type=float, default=100.0, help="requests a second (100)")
    parser.add_argument("--seconds", type=float, default=60.0, help="of requests (60)")
    bench = Benchmark("serve", parser, argv)
    o = bench.options
    size = Size(space=o.space, evaluated=o.evaluated, predicted=o.predicted, devices=o.devices)
    queries, rate, seconds = o.queries, o.rate, o.seconds
    if bench.smoke:
        size, queries, rate, seconds = Size(space="test-tiny", evaluated=100, predicted=200, devices=2), 20, 50.0, 0.5
    began = time.perf_counter()
    catalogue = make_catalogue(size)
    built_s = time.perf_counter() - began
    with one_core():
        asked = ask_directly(catalogue, queries)
    with served(catalogue) as port:
        answered = asyncio.run(ask_over_http(catalogue, port, rate=rate, seconds=seconds))
    return bench.publish(
        [
            Figure(name="query_p50_ms", value=_percentile(asked.seconds, 50)),
            Figure(name="query_p99_ms", value=_percentile(asked.seconds, 99), at_most=_QUERY_MS),
            Figure(name="query_max_ms", value=_percentile(asked.seconds, 100)),
            Figure(name="serve_p50_ms", value=_percentile(answered.seconds, 50)),
            Figure(name="serve_p99_ms", value=_percentile(answered.seconds, 99), at_most=_SERVE_MS),
            Figure(name="serve_max_ms", value=_percentile(answered.seconds, 100)),
            Figure(name="serve_errors", value=answered.errors, at_most=0),
            Figure(name="serve_requests", value=len(answered.seconds)),
            Figure(name="catalogue_built_s", value=round(built_s, 1)),
        ],
        details={
            "evaluated": size.evaluated,
            "predicted": len(next(iter(catalogue.values())).predicted or ()),
            "devices": size.devices,
            "rate_per_s": rate,
            "infeasible_percent": round(100 * asked.infeasible / queries, 1),
        },
    )


def _percentile(seconds: Sequence[float], share: float) -> float:
    """In milliseconds."""
    import numpy as np

    return round(1000 * float(np.percentile(np.array(seconds), share)), 3)


# ---------------------------------------------------------------- a catalogue


def make_catalogue(size: Size) -> Catalogue:
    """Networks whose accuracy grows with their arithmetic, and devices on which each block has a time of its own."""
    import numpy as np

    from hwnas import registry
    from hwnas.catalogue import Catalogue, DeviceNetworks
    from hwnas.catalogue.pool import promising
    from hwnas.catalogue.predicting import FEATURES, AccuracyPredictor
    from hwnas.cost import SlotBlocks, SlotCost, analytic, closed_form_costs

    rng = np.random.default_rng(_SEED)
    space = registry.load("spaces", size.space)()
    blocks = SlotBlocks.of(space)
    common = {
        **closed_form_costs(blocks),
        "size_bytes": SlotCost(metric="size_bytes", table=blocks.table(analytic.size_bytes), upper_ratio=1.02),
    }

    def on_device() -> dict[str, SlotCost]:
        times = {
            b.key: 0.01 * rng.lognormal(0, 0.3) + 1e-7 * analytic.macs(b) * rng.lognormal(0, 0.5) for b in blocks.blocks
        }
        latency = SlotCost(metric="latency_ms", table=blocks.table(lambda b: times[b.key]), upper_ratio=1.05)
        energy = SlotCost(metric="energy_mj", table=blocks.table(lambda b: 3 * times[b.key]), upper_ratio=1.1)
        return {"latency_ms": latency, "energy_mj": energy, **common}

    models = [on_device() for _ in range(size.devices)]
    encodings = np.unique(space.sample(3 * size.evaluated, rng), axis=0)
    encodings = rng.permutation(encodings)[: size.evaluated]
    macs = common["macs"].estimate(encodings).value
    accuracy = 0.75 + 0.05 * np.log(macs / macs.max()) + rng.normal(0, 0.004, len(encodings))
    evaluated = _study(space, encodings, accuracy, costs=models[0], error=np.full(len(encodings), 0.003))
    predictor = AccuracyPredictor(evaluated, models[0], seed=_SEED)
    costs = [common[m] for m in ("size_bytes", *FEATURES)] + [m["latency_ms"] for m in models]
    pool, mean, std = promising(space, predictor, costs, start=encodings, most=size.predicted, seed=_SEED)
    return Catalogue(
        {
            f"device{i}": DeviceNetworks(
                device=f"device{i}",
                space=space,
                evaluated=_study(space, encodings, accuracy, costs=of, error=np.full(len(encodings), 0.003)),
                predicted=_study(space, pool, mean, costs=of, error=std),
            )
            for i, of in enumerate(models)
        }
    )


def _study(
    space: Any, encodings: IntArray, accuracy: FloatArray, *, costs: dict[str, SlotCost], error: FloatArray
) -> Study:
    import numpy as np

    from hwnas.search import Study
    from hwnas.types import Direction

    estimates = {metric: model.estimate(encodings) for metric, model in costs.items()}
    return Study(
        name="made-up",
        space_name=space.name,
        choices=tuple(space.choices),
        directions={"accuracy": Direction.MAXIMIZE, "latency_ms": Direction.MINIMIZE},
        limits={},
        numbers=np.arange(len(encodings)),
        encodings=encodings,
        values={"accuracy": accuracy, **{m: e.value for m, e in estimates.items()}},
        upper={m: e.upper for m, e in estimates.items()},
        standard_errors={"accuracy": error},
        feasible=np.ones(len(encodings), dtype=bool),
        sources={"accuracy": "made up", **dict.fromkeys(estimates, "made up")},
    )


def questions(catalogue: Catalogue, n: int) -> Iterator[dict[str, Any]]:
    """Questions of one to four limits, between what nearly no network keeps and what nearly all keep."""
    import numpy as np

    rng = np.random.default_rng(_SEED + 1)
    names, metrics = list(catalogue), ("latency_ms", "size_bytes", "energy_mj", "peak_memory_bytes")
    for _ in range(n):
        device = str(rng.choice(names))
        upper = catalogue[device].evaluated.upper
        asked = rng.choice(metrics, size=rng.integers(1, len(metrics) + 1), replace=False)
        limits = {str(m): float(np.quantile(upper[str(m)], rng.uniform(0.01, 0.99))) for m in asked}
        yield {"device": device, "limits": limits, "predicted": 1}


# ---------------------------------------------------------------- in this process


@dataclass(kw_only=True)
class Asked:
    """What asking took.

    Attributes:
        seconds: of each question.
        infeasible: questions that no network answers.
        errors: questions that were not answered.
    """

    seconds: list[float]
    infeasible: int = 0
    errors: int = 0


def ask_directly(catalogue: Catalogue, n: int) -> Asked:
    """Ask the catalogue as the server does, the answer's text aside."""
    from hwnas.errors import InfeasibleError

    found = Asked(seconds=[])
    for question in questions(catalogue, n):
        began = time.perf_counter()
        try:
            catalogue[question["device"]].ask(question["limits"])
        except InfeasibleError:
            found.infeasible += 1
        found.seconds.append(time.perf_counter() - began)
    return found


# ---------------------------------------------------------------- over HTTP


@contextlib.contextmanager
def served(catalogue: Catalogue) -> Iterator[int]:
    """The port of a server in a process of its own.

    Raises:
        RuntimeError: it did not start.
    """
    # a copy of this process: the catalogue is there, and need not be made again
    context = multiprocessing.get_context("fork")
    here, there = context.Pipe()
    process = context.Process(target=_serve, args=(catalogue, there), daemon=True)
    process.start()
    try:
        if not here.poll(_START_S):
            raise RuntimeError("the server did not start")
        yield int(here.recv())
    finally:
        process.terminate()
        process.join()


def _serve(catalogue: Catalogue, to_parent: Connection) -> None:
    from pathlib import Path

    import uvicorn

    from hwnas.serve.app import Served, make_app
    from hwnas.serve.jobs import Jobs
    from hwnas.serve.running import Address, bound, settings

    listening = bound(Address(port=0))
    app = make_app(Served(catalogue=catalogue, run=Path("made-up"), jobs=Jobs()))
    to_parent.send(listening.getsockname()[1])
    uvicorn.Server(settings(app)).run(sockets=[listening])


async def ask_over_http(catalogue: Catalogue, port: int, *, rate: float, seconds: float) -> Asked:
    """Ask at fixed moments, over as many connections as it takes."""
    n = max(1, round(rate * seconds))
    bodies = [json.dumps(question).encode() for question in questions(catalogue, n)]
    free: list[tuple[asyncio.StreamReader, asyncio.StreamWriter]] = []
    found = Asked(seconds=[])
    # the first connection and the first answer of a process take longer than any other
    await _one(port, free, bodies[0], found=Asked(seconds=[]), due=time.perf_counter())
    began = time.perf_counter()

    async def at(moment: float, body: bytes) -> None:
        await asyncio.sleep(max(0.0, moment - time.perf_counter()))
        await _one(port, free, body, found=found, due=moment)

    await asyncio.gather(*(at(began + i / rate, body) for i, body in enumerate(bodies)))
    for _, writer in free:
        writer.close()
    return found


async def _one(
    port: int,
    free: list[tuple[asyncio.StreamReader, asyncio.StreamWriter]],
    body: bytes,
    *,
    found: Asked,
    due: float,
) -> None:
    """One request on a connection that is free, or a new one."""
    try:
        reader, writer = free.pop() if free else await asyncio.open_connection("127.0.0.1", port)
        head = f"POST /api/query HTTP/1.1\r\nHost: 127.0.0.1:{port}\r\nContent-Type: application/json\r\n"
        writer.write(f"{head}Content-Length: {len(body)}\r\n\r\n".encode() + body)
        await writer.drain()
        answer = (await reader.readuntil(b"\r\n\r\n")).decode()
        length = next(int(line[15:]) for line in answer.lower().split("\r\n") if line.startswith("content-length:"))
        document = json.loads(await reader.readexactly(length))
        free.append((reader, writer))
    except (OSError, asyncio.IncompleteReadError, StopIteration, ValueError):
        found.errors += 1
        found.seconds.append(time.perf_counter() - due)
        return
    found.seconds.append(time.perf_counter() - due)
    status = answer.split()[1]
    # that nothing keeps the limits is an answer as well
    found.infeasible += status == "409"
    found.errors += not ((status == "200" and document["device"]) or status == "409")


if __name__ == "__main__":
    script(main)
