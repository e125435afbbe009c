"""Where networks are evaluated, some at a time: what a search asks of it, and what all kinds of workers share.

A search hands out networks under the numbers of their trials and collects what came of them; it proposes, workers
evaluate, so none of them knows a study. A worker that dies is replaced, and its network goes to another one. Knows
neither processes nor clusters, nor what an evaluation is.
"""

from __future__ import annotations

import pickle
from abc import ABC, abstractmethod
from collections import deque
from collections.abc import Callable, Hashable, Mapping
from dataclasses import dataclass, field
from typing import Generic, Protocol, TypeVar, runtime_checkable

from hwnas.errors import EvaluationError, HwnasError
from hwnas.types import Option

Architecture = dict[str, Option]
Evaluate = Callable[[Architecture], Mapping[str, float]]
MakeEvaluate = Callable[[], Evaluate]

# of the workers that evaluate one network: then it, not chance, is taken to be the reason
MAX_DEATHS = 3
# of workers that had no network, without an answer in between; beyond the number of workers, since a machine that goes
# takes all of its own with it
_IDLE_DEATHS = 2


@dataclass(frozen=True, slots=True, kw_only=True)
class Outcome:
    """What came of one network.

    Attributes:
        number: it was handed out under.
        values: metric -> value; empty if there is an error.
        error: what the evaluation raised. One of ours (HwnasError) is about this network; any other is a bug.
    """

    number: int
    values: Mapping[str, float] = field(default_factory=dict)
    error: Exception | None = None


@runtime_checkable
class Executor(Protocol):
    """Evaluates networks, several at once. One whose search was interrupted still has its networks: close it."""

    @property
    def slots(self) -> int:
        """How many networks it evaluates at once; may change."""
        ...

    @property
    def note(self) -> str:
        """What people should know of it by now, empty if nothing."""
        ...

    def submit(self, number: int, architecture: Architecture) -> None:
        """Hand out a network, at most `slots` at a time."""
        ...

    def collect(self) -> list[Outcome]:
        """What has come of networks since the last call, at least of one; waits for it."""
        ...

    def close(self) -> None:
        """End everything; networks that are evaluated are lost."""
        ...


class InProcess:
    """Evaluates here, one network after the other."""

    slots = 1
    note = ""

    def __init__(self, evaluate: Evaluate) -> None:
        self._evaluate = evaluate
        self._asked: list[tuple[int, Architecture]] = []

    def submit(self, number: int, architecture: Architecture) -> None:
        """See `Executor`."""
        self._asked.append((number, architecture))

    def collect(self) -> list[Outcome]:
        """See `Executor`. An error that is not ours passes through, with all that led to it."""
        number, architecture = self._asked.pop(0)
        try:
            return [Outcome(number=number, values=self._evaluate(architecture))]
        except HwnasError as e:
            return [Outcome(number=number, error=e)]

    def close(self) -> None:
        """See `Executor`."""
        self._asked.clear()


# ---------------------------------------------------------------- workers that are elsewhere


@dataclass(frozen=True, slots=True, kw_only=True)
class Ready:
    """A worker can evaluate.

    Attributes:
        memory_bytes: it has taken so far; 0 if unknown.
    """

    memory_bytes: int = 0


@dataclass(frozen=True, slots=True, kw_only=True)
class Answer:
    """What a worker says of the network it was given; see `Outcome`."""

    values: Mapping[str, float] = field(default_factory=dict)
    error: Exception | None = None


@dataclass(frozen=True, slots=True, kw_only=True)
class Unfit:
    """A worker cannot be made, and another one could not either."""

    error: Exception


@dataclass(frozen=True, slots=True, kw_only=True)
class Died:
    """A worker is gone.

    Attributes:
        reason: as far as it is known, for people.
    """

    reason: str


Event = Ready | Answer | Unfit | Died


def make_in_worker(make: MakeEvaluate) -> Evaluate | Unfit:
    """What a worker begins with: its way of evaluating, or why it has none."""
    try:
        return make()
    except Exception as e:  # noqa: BLE001 - told to whoever started the worker
        return Unfit(error=portable(e))


def answer_of(evaluate: Evaluate, architecture: Architecture) -> Answer:
    """What a worker answers."""
    try:
        values = evaluate(architecture)
        pickle.dumps(values)  # whatever a user's function gives must reach the search
    except Exception as e:  # noqa: BLE001 - the search decides what it means
        return Answer(error=portable(e))
    return Answer(values=values)


def portable(error: Exception) -> Exception:
    """An error that can be sent: itself, or one that says the same. Where it comes from stands in a note."""
    import traceback

    if not isinstance(error, HwnasError):
        error.add_note("In a worker:\n" + "".join(traceback.format_exception(error)))
    try:
        pickle.loads(pickle.dumps(error))
    except Exception:  # noqa: BLE001 - an error's own constructor may want anything
        text = f"{type(error).__name__}: {error}"
        told = EvaluationError(text) if isinstance(error, HwnasError) else RuntimeError(text)
        for note in getattr(error, "__notes__", ()):
            told.add_note(note)
        return told
    return error


@dataclass(slots=True)
class _Task:
    number: int
    architecture: Architecture
    deaths: int = 0  # of workers that were evaluating it


W = TypeVar("W", bound=Hashable)


class Crew(ABC, Generic[W]):
    """Workers of one kind, as an executor: whoever is free gets the next network.

    Workers start when there is work for them. Of one that dies the network goes to another, until three died of it;
    then it counts as one that cannot be evaluated. Workers that die before they are given any end the search.

    Args:
        slots: workers at most.
    """

    def __init__(self, slots: int) -> None:
        self._slots = slots
        self._waiting: deque[_Task] = deque()
        self._starting: set[W] = set()
        self._ready: dict[W, _Task | None] = {}  # what each is evaluating
        self._deaths = self._idle_deaths = 0
        self._short = ""

    @property
    def slots(self) -> int:
        """See `Executor`."""
        return self._slots

    @property
    def note(self) -> str:
        """See `Executor`."""
        died = f"{self._deaths} worker{'s' * (self._deaths > 1)} died and gave the network back" if self._deaths else ""
        return "; ".join(filter(None, [self._short, died]))

    def submit(self, number: int, architecture: Architecture) -> None:
        """See `Executor`."""
        self._waiting.append(_Task(number, architecture))
        self._dispatch()

    def collect(self) -> list[Outcome]:
        """See `Executor`.

        Raises:
            HwnasError: workers cannot be made, or die before they evaluate anything.
        """
        outcomes: list[Outcome] = []
        while not outcomes:
            for worker, event in self._events():
                outcomes += self._take(worker, event)
            self._dispatch()
        return outcomes

    def close(self) -> None:
        """See `Executor`."""
        self._waiting.clear()
        workers = [*self._starting, *self._ready]
        self._starting.clear()
        self._ready.clear()
        self._end(workers)

    # ------------------------------------------------------------ what a kind of workers does

    @abstractmethod
    def _start(self) -> W:
        """A new worker; it says `Ready`, is `Unfit`, or has `Died`."""

    @abstractmethod
    def _give(self, worker: W, architecture: Architecture) -> None:
        """Let a worker that is free evaluate; it answers, or has died."""

    @abstractmethod
    def _events(self) -> list[tuple[W, Event]]:
        """What happened to workers, at least one thing; waits for it."""

    @abstractmethod
    def _end(self, workers: list[W]) -> None:
        """End workers, whatever they do; none of them is heard of again."""

    def _room_for(self, memory_bytes: int) -> int | None:
        """How many more workers that take so much memory there is room for; None: nobody can tell."""
        return None

    # ------------------------------------------------------------ what all do alike

    def _dispatch(self) -> None:
        for worker, task in self._ready.items():
            if task is None and self._waiting:
                self._ready[worker] = self._waiting.popleft()
                self._give(worker, self._ready[worker].architecture)  # type: ignore[union-attr]
        # the first alone, until it tells what memory a worker takes
        most = self._slots if self._ready else 1
        free = len(self._starting)
        while free < len(self._waiting) and len(self._starting) + len(self._ready) < most:
            self._starting.add(self._start())
            free += 1

    def _take(self, worker: W, event: Event) -> list[Outcome]:
        match event:
            case Ready(memory_bytes=memory_bytes):
                self._starting.discard(worker)
                if not self._ready:
                    self._limit(memory_bytes)
                self._ready[worker] = None
            case Answer(values=values, error=error):
                task, self._ready[worker] = self._ready[worker], None
                self._idle_deaths = 0
                assert task is not None, "only a worker that was given a network answers"
                return [Outcome(number=task.number, values=values, error=error)]
            case Unfit(error=error):
                raise error
            case Died(reason=reason):
                return self._bury(worker, reason)
        return []

    def _limit(self, memory_bytes: int) -> None:
        """Start no more workers than there is memory for, once one tells how much it takes."""
        room = self._room_for(memory_bytes) if memory_bytes else None
        if room is not None and 1 + room < self._slots:
            fit = 1 + max(room, 0)
            self._short = f"memory is free for {fit} of {self._slots} workers, {memory_bytes / 1e9:.1f} GB each"
            self._slots = fit

    def _bury(self, worker: W, reason: str) -> list[Outcome]:
        """Hand on the network of a worker that died, or give it up."""
        self._starting.discard(worker)
        task = self._ready.pop(worker, None)
        self._deaths += 1
        if task is None:
            self._idle_deaths += 1
            if self._idle_deaths > _IDLE_DEATHS + self._slots:
                raise EvaluationError(
                    f"{self._idle_deaths} workers in a row died before they could evaluate, the last one {reason}"
                )
            return []
        task.deaths += 1
        if task.deaths < MAX_DEATHS:
            self._waiting.appendleft(task)
            return []
        error = EvaluationError(f"{task.deaths} workers died evaluating it, the last one {reason}")
        return [Outcome(number=task.number, error=error)]
