"""Workers of a Ray cluster, each with an evaluation of its own; optional, `hwnas[ray]`.

Knows Ray's actors, never what is evaluated. What evaluates is sent to the cluster by name (pickled), so its machines
need the same packages, and whatever files it reads at the same places.
"""

from __future__ import annotations

import logging
import os
import socket
from typing import Any

from hwnas.errors import ConfigError, MissingPackageError
from hwnas.search.workers import (
    Answer,
    Architecture,
    Crew,
    Died,
    Event,
    MakeEvaluate,
    Ready,
    Unfit,
    answer_of,
    make_in_worker,
)

LOCAL = "local"  # a cluster of this machine alone, for as long as the executor
_LOOK_S = 1.0  # for Ctrl-C, while nothing happens
_KNOCK_S = 10.0


class RayWorkers(Crew[int]):
    """Evaluates on a Ray cluster.

    Args:
        make: see `hwnas.search.Processes`.
        address: of a cluster that runs, as `ray.init` takes it: "auto", "HOST:PORT"; or `LOCAL`. Where this process has
            called `ray.init` already, that cluster is used.
        count: workers; None: as many as the cluster has processors for now.
        cpus: processors of each.

    Raises:
        MissingPackageError: Ray is not installed.
        ConfigError: there is no cluster at the address, or it has no processor.
    """

    def __init__(self, make: MakeEvaluate, *, address: str = LOCAL, count: int | None = None, cpus: int = 1) -> None:
        self._ray = ray = _import_ray()
        self._began = not ray.is_initialized()
        if self._began:
            _connect(ray, address, cpus=None if count is None else count * cpus)
        there = int(ray.cluster_resources().get("CPU", 0)) // cpus
        if not there:
            self._leave()
            raise ConfigError(f"the Ray cluster {address!r} has no {cpus} processors for a worker")
        super().__init__(count or there)
        self._make = make
        # a worker that dies is replaced here, for its network must be handed on as well
        self._worker = ray.remote(num_cpus=cpus, max_restarts=0, max_task_retries=0)(_Worker)
        self._actors: list[Any] = []
        self._asked: dict[Any, int] = {}  # what was asked for -> number of the actor

    def close(self) -> None:
        """See `Executor`."""
        super().close()
        self._leave()

    def _start(self) -> int:
        actor = self._worker.remote(self._make)
        self._actors.append(actor)
        self._asked[actor.begin.remote()] = len(self._actors) - 1
        return len(self._actors) - 1

    def _give(self, worker: int, architecture: Architecture) -> None:
        self._asked[self._actors[worker].evaluate.remote(architecture)] = worker

    def _events(self) -> list[tuple[int, Event]]:
        found: list[Any] = []
        while not found:
            found, _ = self._ray.wait(list(self._asked), num_returns=1, timeout=_LOOK_S)
        return [(self._asked.pop(ref), self._hear(ref)) for ref in found]

    def _hear(self, ref: Any) -> Event:
        try:
            event = self._ray.get(ref)
        except self._ray.exceptions.RayError as e:
            return Died(reason=f"on the cluster ({_first_line(e)})")
        assert isinstance(event, Ready | Answer | Unfit), event
        return event

    def _end(self, workers: list[int]) -> None:
        for worker in workers:
            self._ray.kill(self._actors[worker])
        self._asked = {ref: worker for ref, worker in self._asked.items() if worker not in workers}

    def _leave(self) -> None:
        if self._began and self._ray.is_initialized():
            self._ray.shutdown()


class _Worker:
    """What runs on the cluster."""

    def __init__(self, make: MakeEvaluate) -> None:
        self._evaluate = make_in_worker(make)

    def begin(self) -> Ready | Unfit:
        return self._evaluate if isinstance(self._evaluate, Unfit) else Ready()

    def evaluate(self, architecture: Architecture) -> Answer:
        assert not isinstance(self._evaluate, Unfit), "only a worker that is ready is given a network"
        return answer_of(self._evaluate, architecture)


def _import_ray() -> Any:
    # a search is nobody else's business
    os.environ.setdefault("RAY_USAGE_STATS_ENABLED", "0")
    try:
        import ray
    except ImportError as e:
        raise MissingPackageError("ray", "ray", needed_for="evaluating on a Ray cluster") from e
    return ray


def _connect(ray: Any, address: str, *, cpus: int | None) -> None:
    quiet = {"log_to_driver": False, "logging_level": logging.ERROR}
    try:
        if address == LOCAL:
            ray.init(address=LOCAL, num_cpus=cpus, include_dashboard=False, **quiet)
        else:
            _knock(address)
            ray.init(address=address, **quiet)
    # Ray ends the process where it gets no answer
    except (ConnectionError, ValueError, RuntimeError, OSError, SystemExit) as e:
        raise ConfigError(
            f"there is no Ray cluster at {address!r} ({_first_line(e)}); start one with `ray start --head`, or name "
            f"{LOCAL!r} for one of this machine alone"
        ) from e


def _knock(address: str) -> None:
    """See that somebody listens: Ray itself would try for two minutes.

    Raises:
        OSError: nobody does.
    """
    host, _, port = address.rpartition("://")[2].rpartition(":")
    if host and port.isdigit():
        with socket.create_connection((host, int(port)), timeout=_KNOCK_S):
            pass


def _first_line(error: BaseException) -> str:
    return str(error).strip().partition("\n")[0] or type(error).__name__
