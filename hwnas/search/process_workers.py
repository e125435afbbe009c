"""Workers that are processes of this machine, each with an evaluation of its own.

Knows pipes and signals, never what is evaluated. A worker ends with the process that started it, however that ends, and
leaves Ctrl-C to it.
"""

from __future__ import annotations

import contextlib
import multiprocessing
import os
import signal
import sys
import threading
import time
from collections.abc import Callable, Iterator
from multiprocessing.connection import Connection, wait
from multiprocessing.process import BaseProcess

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

_SPARE = 1.2  # memory a worker takes while it evaluates, over what it takes when it is ready
_PARTING_S = 2.0  # for workers to end when they are asked to


class Processes(Crew[Connection]):
    """Evaluates in several processes at once.

    Args:
        make: called once in each process: makes its function from one architecture to metric -> value. It is sent there
            (pickled), so it must be a function of a module, or a `functools.partial` of one.
        count: processes.
        free_memory: bytes that are free, or None where nobody can tell; no more processes than fit are started.
    """

    def __init__(self, make: MakeEvaluate, count: int, *, free_memory: Callable[[], int | None] = lambda: None) -> None:
        super().__init__(count)
        self._make, self._free_memory = make, free_memory
        # not forked: threads of torch, BLAS and databases do not survive a fork
        self._context = multiprocessing.get_context("spawn")
        self._processes: dict[Connection, BaseProcess] = {}

    @property
    def pids(self) -> list[int]:
        """Of the workers that live."""
        return [p.pid for p in self._processes.values() if p.pid is not None]

    def _start(self) -> Connection:
        here, there = self._context.Pipe()
        process = self._context.Process(target=_work, args=(there, self._make), daemon=True)
        with _without_interrupts():
            process.start()
        # ours alone keeps the other end: that it is closed tells that the worker died
        there.close()
        self._processes[here] = process
        return here

    def _give(self, worker: Connection, architecture: Architecture) -> None:
        # it may have died while it was idle; `_events` finds out
        with contextlib.suppress(OSError):
            worker.send(architecture)

    def _events(self) -> list[tuple[Connection, Event]]:
        ready = wait(list(self._processes))
        return [(worker, self._hear(worker)) for worker in ready if isinstance(worker, Connection)]

    def _hear(self, worker: Connection) -> Event:
        try:
            event = worker.recv()
        except (EOFError, OSError):  # also in the middle of a message
            process = self._processes.pop(worker)
            worker.close()
            process.join()
            return Died(reason=_how(process.exitcode))
        assert isinstance(event, Ready | Answer | Unfit), event
        return event

    def _end(self, workers: list[Connection]) -> None:
        ending = [self._processes.pop(w) for w in workers if w in self._processes]
        for process in ending:
            process.terminate()
        until = time.monotonic() + _PARTING_S
        for process in ending:
            process.join(max(0.0, until - time.monotonic()))
            if process.is_alive():
                process.kill()
                process.join()
        for worker in workers:
            worker.close()

    def _room_for(self, memory_bytes: int) -> int | None:
        free = self._free_memory()
        return None if free is None else int(free // (memory_bytes * _SPARE))


@contextlib.contextmanager
def _without_interrupts() -> Iterator[None]:
    """Hold Ctrl-C back, also for good in processes that are started: they may not yet be able to pass it over."""
    if not hasattr(signal, "pthread_sigmask"):  # pragma: no cover - not on this system
        yield
        return
    before = signal.pthread_sigmask(signal.SIG_BLOCK, [signal.SIGINT])
    try:
        yield
    finally:
        signal.pthread_sigmask(signal.SIG_SETMASK, before)


def _how(exitcode: int | None) -> str:
    """How a process ended, for people."""
    if exitcode is None or exitcode >= 0:
        return f"with exit status {exitcode}"
    try:
        name = signal.Signals(-exitcode).name
    except ValueError:
        name = f"signal {-exitcode}"
    return f"by {name}" + (" (the memory may not suffice)" if -exitcode == signal.SIGKILL else "")


# ---------------------------------------------------------------- in the worker


def _work(connection: Connection, make: MakeEvaluate) -> None:
    """All that a worker does, until its pipe is closed."""
    # the terminal sends Ctrl-C to all; the one that started us decides what ends
    signal.signal(signal.SIGINT, signal.SIG_IGN)
    # a user's main module may have installed handlers: `terminate` must end us at once
    signal.signal(signal.SIGTERM, signal.SIG_DFL)
    threading.Thread(target=_end_with_parent, daemon=True).start()
    evaluate = make_in_worker(make)
    if isinstance(evaluate, Unfit):
        connection.send(evaluate)
        return
    connection.send(Ready(memory_bytes=_memory_taken()))
    while True:
        try:
            architecture = connection.recv()
        except (EOFError, OSError):
            return
        connection.send(answer_of(evaluate, architecture))


def _end_with_parent() -> None:
    """End this process when the one that started it is gone, also in the middle of an evaluation."""
    parent = multiprocessing.parent_process()
    assert parent is not None
    parent.join()
    os._exit(1)


def _memory_taken() -> int:
    """Bytes this process has at most had in memory; 0 where the system does not tell."""
    try:
        import resource
    except ImportError:  # pragma: no cover - not on this system
        return 0
    unit = 1 if sys.platform == "darwin" else 1024  # getrusage(2) counts in bytes there, in kilobytes elsewhere
    return resource.getrusage(resource.RUSAGE_SELF).ru_maxrss * unit
