"""Workers that share jobs: one thread for each, one job at a time on each, whoever is free takes the next.

Whoever hands the jobs out stays in its own thread: it makes them, and takes their results, so neither needs a lock.
Knows workers and that they may be lost; never what a job does, nor which board is which.
"""

from __future__ import annotations

import queue
import threading
from collections import deque
from collections.abc import Callable, Iterable, Iterator, Mapping
from dataclasses import dataclass, field
from typing import Any, Generic, TypeVar

from hwnas.errors import MeasurementError
from hwnas.measure.client import Worker
from hwnas.measure.protocol import RuntimeBrokenError

T = TypeVar("T")
Work = Callable[[str, Worker], T]  # (who, its worker) -> result
_POLL_S = 0.2  # between two looks at who is lost
_MOST_LOSSES = 2  # of workers during one job: perhaps it is the job that ends them
_LEAVE_S = 8.0  # for a worker to end politely


@dataclass(eq=False)
class _Job(Generic[T]):
    """A job, who is at it, and whom it cost."""

    work: Work[T]
    holders: set[str] = field(default_factory=set)
    losses: list[RuntimeBrokenError] = field(default_factory=list)


@dataclass(frozen=True, slots=True)
class _Report:
    who: str
    job: _Job[Any]
    result: Any
    error: BaseException | None


class Crew:
    """Threads of some workers. Its methods are for one thread."""

    def __init__(self, workers: Mapping[str, Worker], *, on_loss: Callable[[str, RuntimeBrokenError], None]) -> None:
        """Start the threads; the workers are theirs from now on.

        Args:
            workers: name -> worker.
            on_loss: called, by whoever hands out jobs, when one can go on no more: it gets no more jobs.
        """
        self._workers = dict(workers)
        self._on_loss = on_loss
        self._reports: queue.SimpleQueue[_Report] = queue.SimpleQueue()
        self._inboxes: dict[str, queue.SimpleQueue[_Job[Any] | None]] = {}
        self._busy: set[str] = set()
        self._last_loss: RuntimeBrokenError | None = None
        self._stopped = False
        # daemons: one that waits for a board that is off must not keep the process
        self._threads = {
            name: threading.Thread(target=self._serve, args=(name,), name=f"board {name}", daemon=True)
            for name in workers
        }
        for name, thread in self._threads.items():
            self._inboxes[name] = queue.SimpleQueue()
            thread.start()
        self._present = list(workers)

    @property
    def present(self) -> tuple[str, ...]:
        """Those that take jobs, in the order they were given in."""
        return tuple(self._present)

    def is_lost(self, who: str) -> bool:
        """Whether one is looking for its board, and perhaps takes jobs again."""
        return who in self._busy and self._workers[who].is_lost

    def dismiss(self, who: str) -> None:
        """Give one no more jobs."""
        if who in self._present:
            self._present.remove(who)
            self._inboxes[who].put(None)

    def everywhere(self, work: Work[T], *, among: Iterable[str]) -> dict[str, T]:
        """Do the same on several at once: name -> result of those that could, in the order of `among`.

        One that is being looked for is not waited for, once another has a result.

        Raises:
            RuntimeBrokenError: none could; the error of the first.
            HwnasError: what the work raised otherwise.
        """
        results: dict[str, T] = {}
        jobs: dict[str, _Job[T]] = {who: _Job(work) for who in among}
        for who, job in jobs.items():
            if who not in self._busy:
                self._give(who, job)
        while any(job.holders and not (results and self._only_lost(job)) for job in jobs.values()):
            report = self._next_report()
            if report is None or report.job is not jobs.get(report.who):
                continue
            if report.error is None:
                results[report.who] = report.result
            elif not isinstance(report.error, RuntimeBrokenError):
                raise report.error
        losses = [loss for job in jobs.values() for loss in job.losses]
        if losses and not results:
            raise losses[0]
        return {who: results[who] for who in jobs if who in results}

    def share(
        self, jobs: Iterator[Work[T]], *, among: Callable[[str], bool], on_result: Callable[[str, T], None]
    ) -> None:
        """Do all jobs, each on whoever is free; one that a worker was lost at goes to another.

        Args:
            jobs: asked for one at a time, one ahead of what is under way.
            among: who takes part.
            on_result: called with who did a job and its result, in the order in which they are done.

        Raises:
            RuntimeBrokenError: nobody is left; the error of the last one.
            MeasurementError: two were lost at the same job.
            HwnasError: what a job raised otherwise.
        """
        ready: deque[_Job[T]] = deque()
        open_jobs: set[_Job[T]] = set()
        more = True
        while more or open_jobs:
            self._check_anybody(among)
            for who in [w for w in self._present if w not in self._busy and among(w)]:
                job = ready.popleft() if ready else None if more else self._of_the_lost(open_jobs)
                if job is None:
                    break
                self._give(who, job)
            if more and not ready:
                work = next(jobs, None)
                more = work is not None
                if work is not None:
                    ready.append(_Job(work))
                    open_jobs.add(ready[-1])
                # a look at who is free before anything is waited for
                continue
            report = self._next_report() if open_jobs else None
            if report is None or report.job not in open_jobs:  # of a job that another did meanwhile
                continue
            if report.error is None:
                open_jobs.remove(report.job)
                on_result(report.who, report.result)
            elif isinstance(report.error, RuntimeBrokenError):
                self._check_anybody(among)
                self._check_losses(report.job)
                if not report.job.holders:
                    ready.appendleft(report.job)
            else:
                raise report.error

    def stop(self, *, at_once: bool) -> None:
        """End all workers and threads; those that look for a board are not waited for."""
        self._stopped = at_once
        for who, worker in self._workers.items():
            if at_once or who in self._busy:
                worker.abandon()
            self._inboxes[who].put(None)
        for thread in self._threads.values():
            thread.join(_LEAVE_S)

    # ------------------------------------------------------------ within

    def _give(self, who: str, job: _Job[T]) -> None:
        job.holders.add(who)
        self._busy.add(who)
        self._inboxes[who].put(job)

    def _next_report(self) -> _Report | None:
        """What came of a job; None if nothing came for a moment. A worker that broke is told, and gone."""
        try:
            report = self._reports.get(timeout=_POLL_S)
        except queue.Empty:
            return None
        self._busy.discard(report.who)
        report.job.holders.discard(report.who)
        if isinstance(report.error, RuntimeBrokenError):
            report.job.losses.append(report.error)
            self._last_loss = report.error
            self.dismiss(report.who)
            self._on_loss(report.who, report.error)
        return report

    def _only_lost(self, job: _Job[T]) -> bool:
        return all(self._workers[who].is_lost for who in job.holders)

    def _of_the_lost(self, jobs: set[_Job[T]]) -> _Job[T] | None:
        """A job that only workers are at that look for their boards; whoever is first ends it."""
        return next(
            (
                job
                for job in jobs
                if job.holders and self._only_lost(job) and len(job.holders) + len(job.losses) < _MOST_LOSSES
            ),
            None,
        )

    def _check_anybody(self, among: Callable[[str], bool]) -> None:
        if not any(map(among, self._present)):
            raise self._last_loss or MeasurementError("no board is left that can measure")

    def _check_losses(self, job: _Job[T]) -> None:
        if len(job.losses) >= _MOST_LOSSES:
            raise MeasurementError(
                f"{len(job.losses)} boards were lost, one after the other, while they measured the same; is it this "
                f"that brings them down? What was measured is kept. First: {job.losses[0]}; last: {job.losses[-1]}"
            )

    def _serve(self, who: str) -> None:
        """One worker's thread."""
        worker, inbox = self._workers[who], self._inboxes[who]
        while (job := inbox.get()) is not None:
            try:
                result, error = job.work(who, worker), None
            except BaseException as e:  # noqa: BLE001  it is raised where the jobs are handed out
                result, error = None, e
            self._reports.put(_Report(who, job, result, error))
        worker.stop(at_once=self._stopped)
