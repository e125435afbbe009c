"""Deployments as jobs: one at a time, each in a child process, so that none of them can end the server.

A job is queued, runs, and ends done, failed or cancelled. What its process says is kept, bounded. Knows processes and
JSON lines; never what a job does.
"""

from __future__ import annotations

import asyncio
import contextlib
import json
import os
import secrets
import signal
import sys
import time
from collections import deque
from collections.abc import AsyncIterator, Mapping, Sequence
from dataclasses import dataclass, field
from pathlib import Path
from typing import Any, Literal

from hwnas.errors import HwnasError
from hwnas.foreign import printable, words_of

State = Literal["queued", "running", "done", "failed", "cancelled"]
ENDED = ("done", "failed", "cancelled")
_MOST_WAITING = 16
_MOST_KEPT = 50  # ended jobs
_MOST_SAID = 100  # lines of one job
_LINE_BYTES = 1 << 22  # of an event: a result holds a manifest
_GRACE_S = 15.0  # for a process that was asked to end, before it is killed
PROCESS = (sys.executable, "-m", "hwnas.serve.job_process")


class NoSuchJobError(HwnasError, KeyError):
    """There is no job of that name.

    What to do: ask for the list of jobs.
    """

    exit_status = 2

    def __str__(self) -> str:
        return str(self.args[0])


class TooManyJobsError(HwnasError):
    """So many jobs wait that no more are taken.

    What to do: wait until a job has ended.
    """

    exit_status = 2


@dataclass(kw_only=True)
class Job:
    """One deployment that was asked for.

    Attributes:
        id: its name, not to be guessed.
        request: what the process is told.
        title: for people.
        state: where it is.
        said: what its process said, the last lines.
        progress: of what it does now: label, done, total; empty in between.
        result: what it ended with; None before, or if it failed.
        error: why it failed; empty otherwise.
        cancelled: somebody wants it to end.
        started: when it began to run, in seconds of the system's clock; likewise `ended`.
    """

    id: str
    request: Mapping[str, Any]
    title: str
    state: State = "queued"
    said: deque[str] = field(default_factory=lambda: deque(maxlen=_MOST_SAID))
    progress: dict[str, Any] = field(default_factory=dict)
    result: dict[str, Any] | None = None
    error: str = ""
    cancelled: bool = False
    started: float | None = None
    ended: float | None = None

    def to_json(self) -> dict[str, Any]:
        """What is told of it."""
        return {
            "id": self.id,
            "title": self.title,
            "state": self.state,
            "device": self.request.get("device"),
            "limits": self.request.get("limits", {}),
            "said": list(self.said),
            "progress": self.progress,
            "result": self.result,
            "error": self.error,
            "seconds": None if self.started is None else round((self.ended or time.time()) - self.started, 1),
        }


class Jobs:
    """The jobs of one server. To be used within one event loop, between `start` and `stop`.

    Args:
        command: that a job's process runs, told of the request on standard input.
        folder: the processes work in.
    """

    def __init__(self, *, command: Sequence[str] = PROCESS, folder: Path | None = None) -> None:
        self._command, self._folder = tuple(command), folder
        self._jobs: dict[str, Job] = {}
        self._changed: dict[str, asyncio.Event] = {}
        self._waiting: deque[str] = deque()
        self._wake = asyncio.Event()
        self._processes: dict[str, asyncio.subprocess.Process] = {}
        self._task: asyncio.Task[None] | None = None

    def start(self) -> None:
        """Begin to work off what is asked for."""
        self._task = asyncio.create_task(self._work())

    async def stop(self) -> None:
        """Cancel all jobs; returns when none of their processes is left."""
        for job in self.all:
            if job.state not in ENDED:
                self.cancel(job.id)
        if self._task is not None:
            while any(job.state not in ENDED for job in self.all):
                await asyncio.sleep(0.05)
            self._task.cancel()
            with contextlib.suppress(asyncio.CancelledError):
                await self._task

    @property
    def all(self) -> list[Job]:
        """Every job that is kept, the newest first."""
        return list(reversed(self._jobs.values()))

    def get(self, name: str) -> Job:
        """A job by its id.

        Raises:
            NoSuchJobError: there is none, or it ended long ago.
        """
        if name not in self._jobs:
            raise NoSuchJobError(f"there is no job {name!r}; it may have ended long ago")
        return self._jobs[name]

    def submit(self, request: Mapping[str, Any], *, title: str) -> Job:
        """Ask for a deployment.

        Raises:
            TooManyJobsError: so many wait that no more are taken.
        """
        if len(self._waiting) >= _MOST_WAITING:
            raise TooManyJobsError(f"{len(self._waiting)} jobs wait already; try again when one has ended")
        job = Job(id=secrets.token_urlsafe(9), request=dict(request), title=title)
        self._jobs[job.id] = job
        self._changed[job.id] = asyncio.Event()
        self._waiting.append(job.id)
        self._wake.set()
        self._forget()
        return job

    def cancel(self, name: str) -> Job:
        """End a job, whether it waits or runs; one that ended stays as it is.

        Raises:
            NoSuchJobError: there is none.
        """
        job = self.get(name)
        if job.state == "queued":
            self._waiting.remove(name)
            self._end(job, "cancelled")
        elif job.state == "running" and not job.cancelled:
            job.cancelled = True
            job.said.append("cancelling: what was begun is tidied up")
            self._tell(job)
            # one that is still being started is ended once it is there
            if name in self._processes:
                _ask_to_end(self._processes[name])
        return job

    async def follow(self, name: str, *, every_s: float = 10.0) -> AsyncIterator[dict[str, Any]]:
        """What is told of a job whenever that changes, and now and then if it does not, until it ends.

        Raises:
            NoSuchJobError: there is none.
        """
        job = self.get(name)
        while True:
            changed = self._changed[name]
            yield job.to_json()
            if job.state in ENDED:
                return
            with contextlib.suppress(asyncio.TimeoutError):
                await asyncio.wait_for(changed.wait(), every_s)

    # ------------------------------------------------------------ one after the other

    async def _work(self) -> None:
        while True:
            while not self._waiting:
                self._wake.clear()
                await self._wake.wait()
            job = self._jobs[self._waiting.popleft()]
            try:
                await self._run(job)
            except OSError as e:  # a process could not be started: the next may
                job.error = f"the process of the job could not be started: {e.strerror or e}"
                self._end(job, "failed")

    async def _run(self, job: Job) -> None:
        job.state, job.started = "running", time.time()
        self._tell(job)
        process = await asyncio.create_subprocess_exec(
            *self._command,
            stdin=asyncio.subprocess.PIPE,
            stdout=asyncio.subprocess.PIPE,
            stderr=asyncio.subprocess.PIPE,
            cwd=self._folder,
            limit=_LINE_BYTES,
            # a group of its own: Ctrl-C of the server is not the job's, and its measuring processes end with it
            start_new_session=True,
        )
        self._processes[job.id] = process
        if job.cancelled:
            _ask_to_end(process)
        assert process.stdin is not None
        assert process.stderr is not None
        errors = asyncio.create_task(_last_words(process.stderr))
        try:
            with contextlib.suppress(BrokenPipeError, ConnectionResetError):
                process.stdin.write(json.dumps(dict(job.request)).encode())
                process.stdin.close()
            await self._listen(job, process)
            status = await process.wait()
        finally:
            # whatever it left running
            _signal(process, signal.SIGKILL)
            words = words_of(await errors)
            del self._processes[job.id]
        job.progress = {}
        if job.result is not None and status == 0:
            job.error = ""
            self._end(job, "done")
        elif job.cancelled:
            job.error = ""
            self._end(job, "cancelled")
        else:
            job.error = job.error or f"the process of the job ended with status {status}{f': {words}' if words else ''}"
            self._end(job, "failed")

    async def _listen(self, job: Job, process: asyncio.subprocess.Process) -> None:
        assert process.stdout is not None
        while True:
            try:
                line = await process.stdout.readline()
            except ValueError:  # longer than any line of ours
                continue
            if not line:
                return
            with contextlib.suppress(ValueError):
                _take(job, json.loads(line))
                self._tell(job)

    def _end(self, job: Job, state: State) -> None:
        job.state, job.ended = state, time.time()
        self._tell(job)

    def _tell(self, job: Job) -> None:
        """Wake who follows, and give the next ones something new to wait for."""
        changed = self._changed.get(job.id)
        if changed is not None:
            changed.set()
            self._changed[job.id] = asyncio.Event()

    def _forget(self) -> None:
        ended = [name for name, job in self._jobs.items() if job.state in ENDED]
        for name in ended[: max(0, len(ended) - _MOST_KEPT)]:
            del self._jobs[name], self._changed[name]


def _take(job: Job, event: Any) -> None:
    """Keep what a process says."""
    if not isinstance(event, dict):
        raise ValueError("an event is an object")
    kind = event.get("kind")
    if kind == "said":
        job.said.append(printable(str(event["text"]), limit=2000))
    elif kind == "progress":
        job.progress = {k: event.get(k) for k in ("label", "done", "total", "note")}
    elif kind == "progress-end":
        job.progress = {}
    elif kind == "result":
        job.result = event["result"]
    elif kind == "error":
        job.error = printable(str(event["message"]), limit=4000)


async def _last_words(stream: asyncio.StreamReader) -> bytes:
    """The end of what a process says on standard error; all of it is read, so that it never waits."""
    kept = b""
    while piece := await stream.read(1 << 16):
        kept = (kept + piece)[-(1 << 14) :]
    return kept


def _ask_to_end(process: asyncio.subprocess.Process) -> None:
    """Let a process tidy up and end, for a while; then it is killed."""
    with contextlib.suppress(ProcessLookupError):
        # it alone: it ends its measuring processes itself
        process.terminate()
    asyncio.get_running_loop().call_later(_GRACE_S, _signal, process, signal.SIGKILL)


def _signal(process: asyncio.subprocess.Process, number: signal.Signals) -> None:
    with contextlib.suppress(ProcessLookupError, PermissionError):
        # its group: it started measuring processes
        os.killpg(process.pid, number)
