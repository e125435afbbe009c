"""Several evaluations at once: the same trials, and none lost with a worker."""

from __future__ import annotations

import os
import random
import signal
import subprocess
import sys
import time
from collections.abc import Iterator
from contextlib import closing, contextmanager
from functools import partial
from pathlib import Path
from typing import Any

import numpy as np
import pytest

from hwnas.errors import DataError, EvaluationError, MeasurementError
from hwnas.search import InProcess, Problem, Processes, Sampling, Study, read_study, search
from hwnas.search.workers import MAX_DEATHS, Architecture, Executor, MakeEvaluate, Outcome
from hwnas.types import FloatArray, IntArray

from . import made_in_workers as made
from .problems import SPACE, WIDE, cost, quality

DIRECTIONS = {"accuracy": "maximize"}


class OutOfOrder:
    """Evaluates here, and answers in an order of its own, as workers of different speeds would."""

    note = ""

    def __init__(self, slots: int, *, fails: bool = False) -> None:
        self.slots, self.fails = slots, fails
        self.most = 0
        self._asked: dict[int, Architecture] = {}
        self._rng = random.Random(slots)

    def submit(self, number: int, architecture: Architecture) -> None:
        self._asked[number] = architecture
        self.most = max(self.most, len(self._asked))

    def collect(self) -> list[Outcome]:
        chosen = self._rng.sample(sorted(self._asked), self._rng.randint(1, len(self._asked)))
        return [self._outcome(number, self._asked.pop(number)) for number in chosen]

    def _outcome(self, number: int, architecture: Architecture) -> Outcome:
        if self.fails and number % 3 == 1:
            return Outcome(number=number, error=MeasurementError("one in three"))
        return Outcome(number=number, values=graded(architecture))

    def close(self) -> None:
        self._asked.clear()


def graded(architecture: Architecture) -> dict[str, float]:
    return {"accuracy": sum((i % 3 + 1) * float(v) for i, v in enumerate(architecture.values()))}


def wide_search(executor: Executor, sampler: str, *, tight: bool = False, n_trials: int = 30) -> Study:
    """In a space that is too large to list; with a limit that few proposals keep, so that most are mended."""

    def price(encodings: IntArray) -> FloatArray:
        return cost(encodings)

    problem = Problem(
        WIDE,
        {"accuracy": "maximize", "cost": "minimize"},
        n_trials=n_trials,
        limits={"cost": 8.0 if tight else 40.0},
        closed_form={"cost": price},
    )
    return search(problem, executor, sampling=Sampling(sampler=sampler, seed=3))


# ---------------------------------------------------------------- the same trials


@pytest.mark.parametrize("tight", [False, True])
@pytest.mark.parametrize("sampler", ["random", "nsga2", "nsga3"])
def test_trials_are_the_same_however_many_are_evaluated_at_once(sampler: str, tight: bool) -> None:
    one = wide_search(OutOfOrder(1), sampler, tight=tight)
    for slots in (2, 5):
        executor = OutOfOrder(slots)
        several = wide_search(executor, sampler, tight=tight)
        assert executor.most == slots
        assert (several.numbers == one.numbers).all()
        assert (several.encodings == one.encodings).all()


@pytest.mark.parametrize("sampler", ["random", "nsga2"])
def test_also_where_some_networks_cannot_be_evaluated(sampler: str) -> None:
    one, several = (wide_search(OutOfOrder(slots, fails=True), sampler) for slots in (1, 4))
    assert (several.numbers == one.numbers).all()
    assert (several.encodings == one.encodings).all()


def test_one_at_a_time_in_another_class_is_what_a_function_gives() -> None:
    problem = Problem(WIDE, DIRECTIONS, n_trials=20)
    plain, told = (search(problem, evaluate) for evaluate in (graded, InProcess(graded)))
    assert (plain.encodings == told.encodings).all()


@pytest.mark.parametrize("sampler", ["predictor", "tpe"])
def test_samplers_that_learn_from_every_trial_ask_for_no_network_twice(sampler: str) -> None:
    study = wide_search(OutOfOrder(4), sampler, n_trials=18)
    assert len(np.unique(study.encodings, axis=0)) == 18


def test_a_space_that_ends_while_networks_are_evaluated_is_evaluated_wholly() -> None:
    executor = OutOfOrder(7)
    study = search(Problem(SPACE, DIRECTIONS, n_trials=60), _Quality(executor))
    assert len(study) == 52
    assert study.note.startswith("ended after 52 of 60 trials")


class _Quality:
    """`OutOfOrder` for the small space."""

    note = ""

    def __init__(self, inner: OutOfOrder) -> None:
        self.inner, self.slots = inner, inner.slots
        inner._outcome = lambda number, a: Outcome(number=number, values=quality(a))  # type: ignore[method-assign]
        self.submit, self.collect, self.close = inner.submit, inner.collect, inner.close


# ---------------------------------------------------------------- processes


@contextmanager
def processes(make: MakeEvaluate, count: int = 2, **options: Any) -> Iterator[Processes]:
    with closing(Processes(make, count, **options)) as executor:
        yield executor


def find(executor: Executor, *, n_trials: int = 52, storage: Path | None = None) -> Study:
    return search(
        Problem(SPACE, DIRECTIONS, n_trials=n_trials), executor, sampling=Sampling(sampler="random"), storage=storage
    )


def test_processes_find_what_one_finds_and_evaluate_every_network_once(tmp_path: Path) -> None:
    with processes(partial(made.noting, str(tmp_path), 0.02)) as executor:
        several = find(executor)
    assert (several.encodings == find(InProcess(quality)).encodings).all()
    began = [path.name.split() for path in tmp_path.iterdir()]
    assert len({name for name, *_ in began}) == len(began) == 52
    assert len({pid for _, pid, _ in began}) <= 2
    assert not executor.note


def test_a_worker_that_dies_gives_its_network_to_another(tmp_path: Path) -> None:
    said: list[str] = []
    with processes(partial(made.dying, str(tmp_path), times=2)) as executor:
        study = search(
            Problem(SPACE, DIRECTIONS, n_trials=52), executor, progress=lambda done, total, note: said.append(note)
        )
    assert len(list(tmp_path.iterdir())) == 2
    assert len(study) == len(np.unique(study.encodings, axis=0)) == 52
    assert not study.failed
    assert study.numbers.tolist() == list(range(52))  # the same trial, not another one
    assert said[-1] == "2 workers died and gave the network back"


def test_a_network_that_workers_die_of_is_one_that_cannot_be_evaluated(tmp_path: Path) -> None:
    with processes(partial(made.dying, str(tmp_path), times=MAX_DEATHS), 1) as executor:
        study = find(executor)
    assert len(study) == 51
    (failed,) = study.failed
    assert failed.architecture["x"] == "d"
    assert failed.reason == (
        "EvaluationError: 3 workers died evaluating it, the last one by SIGKILL (the memory may not suffice)"
    )


def test_workers_that_die_before_they_evaluate_end_the_search() -> None:
    with (
        processes(made.dying_at_once, 1) as executor,
        pytest.raises(
            EvaluationError, match="4 workers in a row died before they could evaluate, the last one with exit status 7"
        ),
    ):
        find(executor)


def test_what_keeps_workers_from_being_made_is_raised_here_and_no_other_is_started() -> None:
    with processes(made.refusing) as executor, pytest.raises(DataError, match="there are no images"):
        find(executor)


def test_errors_of_ours_travel_and_mark_the_trial() -> None:
    with processes(made.failing) as executor:
        study = find(executor, n_trials=8)
    reasons = {str(f.architecture["x"]): f.reason for f in study.failed}
    assert reasons["d"] == "MeasurementError: too hot"
    assert "unknown fan 'left'; known: right" in reasons["c"]


def test_a_bug_in_a_worker_ends_the_search_and_shows_where_it_is(tmp_path: Path) -> None:
    path = tmp_path / "study.journal"
    with processes(made.buggy) as executor, pytest.raises(ZeroDivisionError) as raised:
        find(executor, storage=path)
    assert "_buggy" in raised.value.__notes__[0]
    assert len(find(InProcess(quality), storage=path)) == 52  # what was running is free again


def test_values_that_cannot_be_sent_are_an_error_and_no_dead_worker() -> None:
    with processes(made.unsendable, 1) as executor, pytest.raises(TypeError, match="it cannot be sent"):
        find(executor)


def test_no_more_workers_are_started_than_memory_is_free_for() -> None:
    with processes(made.good, 3, free_memory=lambda: 1000) as executor:
        find(executor, n_trials=8)
        assert executor.slots == 1
        assert len(executor.pids) == 1
        assert executor.note.startswith("memory is free for 1 of 3 workers")


def test_closing_ends_all_workers_also_those_that_evaluate(tmp_path: Path) -> None:
    with processes(partial(made.noting, str(tmp_path), 60.0)) as executor:
        for number, x in enumerate("ab"):
            executor.submit(number, {"x": x, "y": 1, "z": 1})
        executor._take(*executor._events()[0])
        executor._dispatch()
        pids = executor.pids
        assert pids
    assert not [pid for pid in pids if is_alive(pid)]


_SEARCH = """
import sys
from contextlib import closing
from functools import partial
from hwnas.search import Problem, Processes, Sampling, search
from tests.search import made_in_workers
from tests.search.problems import SPACE

if __name__ == "__main__":
    problem = Problem(SPACE, {"accuracy": "maximize"}, n_trials=40)
    with closing(Processes(partial(made_in_workers.noting, sys.argv[2], 60.0), 2)) as executor:
        search(problem, executor, sampling=Sampling(sampler="random"), storage=sys.argv[1])
"""


@pytest.mark.parametrize("number", [signal.SIGINT, signal.SIGKILL])
def test_workers_end_with_the_search_and_its_networks_are_free(number: int, tmp_path: Path) -> None:
    script, began, journal = tmp_path / "search.py", tmp_path / "began", tmp_path / "study.journal"
    began.mkdir()
    script.write_text(_SEARCH)
    here = Path(__file__).parents[2]
    with subprocess.Popen(
        [sys.executable, str(script), str(journal), str(began)],
        cwd=here,
        env={**os.environ, "PYTHONPATH": str(here)},
        stderr=subprocess.PIPE,
        start_new_session=True,
    ) as process:
        assert soon(lambda: len(list(began.iterdir())) == 2)
        if number == signal.SIGINT:
            os.killpg(process.pid, number)  # as a terminal does: to all of them
        else:
            process.kill()
        assert process.stderr is not None
        said = process.stderr.read().decode()  # closed when the last of them has ended
    assert said.count("Traceback") == (number == signal.SIGINT)  # of the search, and of no worker
    assert soon(lambda: not any(is_alive(int(path.name.split()[1])) for path in began.iterdir()))
    study = find(InProcess(quality), storage=journal)
    assert len(study) == 52
    assert not read_study(journal).failed


def soon(condition: Any) -> bool:
    until = time.monotonic() + 30
    while time.monotonic() < until:
        if condition():
            return True
        time.sleep(0.02)
    return False


def is_alive(pid: int) -> bool:
    try:
        os.kill(pid, 0)
    except ProcessLookupError:
        return False
    return "Z" not in Path(f"/proc/{pid}/stat").read_text().rpartition(")")[2].split()[0]
