"""Trials of machines that share a database: theirs while they live, free when they vanish."""

from __future__ import annotations

import os
import signal
import subprocess
import sys
import time
from pathlib import Path

import optuna
import pytest

from hwnas.search import Problem, Sampling, search
from hwnas.search import storage as storages
from hwnas.search.lease import BEAT_S, LEASE_S, Leases, expired
from hwnas.types import Option

from .problems import SPACE, quality

DIRECTIONS = {"accuracy": "maximize"}
_OTHER_MACHINE = """
import socket, sys, time
socket.gethostname = lambda: "elsewhere"
from hwnas.search import Problem, Sampling, lease, search
from tests.search.problems import SPACE, quality
lease.BEAT_S, lease.LEASE_S = 1, 2

def evaluate(architecture):
    print("evaluating", flush=True)
    time.sleep(float(sys.argv[2]))
    return quality(architecture)

search(Problem(SPACE, {"accuracy": "maximize"}, n_trials=3), evaluate,
       sampling=Sampling(sampler="random"), storage=sys.argv[1])
"""


@pytest.fixture
def short_leases(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr("hwnas.search.lease.BEAT_S", 1)
    monkeypatch.setattr("hwnas.search.lease.LEASE_S", 2)


@pytest.fixture
def database(tmp_path: Path) -> str:
    """The simplest database; that PostgreSQL does the same is tried in test_postgresql.py."""
    return f"sqlite:///{tmp_path}/shared.db"


def other_machine(database: str, *, seconds: float) -> subprocess.Popen[bytes]:
    """A search that evaluates its first network, for so long."""
    process = subprocess.Popen(
        [sys.executable, "-c", _OTHER_MACHINE, database, str(seconds)],
        stdout=subprocess.PIPE,
        cwd=Path(__file__).parents[2],
    )
    assert process.stdout is not None
    assert process.stdout.readline()
    return process


@pytest.fixture
def here(short_leases: None, database: str) -> list[str]:
    """Grows with what is told while this machine waits."""
    return []


def find(database: str, said: list[str], *, n_trials: int = 3) -> list[tuple[str, ...]]:
    """Search here too; gives the networks that were evaluated here."""
    asked: list[tuple[str, ...]] = []

    def evaluate(architecture: dict[str, Option]) -> dict[str, float]:
        asked.append(tuple(map(str, architecture.values())))
        return quality(architecture)

    study = search(
        Problem(SPACE, DIRECTIONS, n_trials=n_trials),
        evaluate,
        sampling=Sampling(sampler="random"),
        storage=database,
        progress=lambda done, total, note: said.append(note),
    )
    assert len(study) == n_trials
    return asked


def test_a_trial_of_a_machine_that_vanished_is_evaluated_by_another(database: str, here: list[str]) -> None:
    with other_machine(database, seconds=60) as process:
        process.send_signal(signal.SIGKILL)
    assert len(find(database, here)) == 3  # all, whether it had to wait or not


def test_a_trial_of_a_machine_that_lives_is_waited_for_however_long_it_takes(database: str, here: list[str]) -> None:
    with other_machine(database, seconds=4) as process:  # twice as long as a lease
        asked = find(database, here)
        assert process.wait(60) == 0
    assert len(asked) == 2
    assert "waiting for 1 of other processes" in here


def test_a_result_that_comes_after_the_lease_is_not_counted_twice(database: str, short_leases: None) -> None:
    """As of a machine that slept: its trial was failed, and its network evaluated, by another."""
    asked: list[str] = []

    def evaluate(architecture: dict[str, Option]) -> dict[str, float]:
        asked.append(str(architecture))
        if len(asked) == 2:
            with storages.opened(database) as opened:
                storages.finish_failed(optuna.load_study(study_name="search", storage=opened), 1)
        return quality(architecture)

    study = search(
        Problem(SPACE, DIRECTIONS, n_trials=4), evaluate, sampling=Sampling(sampler="random"), storage=database
    )
    assert study.numbers.tolist() == [0, 2, 3, 4]
    assert not study.failed
    assert len(asked) == 5


def test_a_lease_runs_out_unless_it_is_renewed(database: str, short_leases: None) -> None:
    with storages.opened(database) as opened:
        study = optuna.create_study(storage=opened)
        trials = [study.ask() for _ in range(3)]
        leases = Leases(study)
        with leases.kept():
            for trial in trials[:2]:
                leases.take(trial)
            leases.end(trials[0])
            time.sleep(3.2)
            assert expired(study) == {trials[0]._trial_id}  # the third never had one


def test_beats_that_are_lost_do_not_end_a_lease() -> None:
    assert LEASE_S >= 3 * BEAT_S


def test_a_journal_has_no_leases(tmp_path: Path) -> None:
    study = optuna.create_study(storage=storages.open_storage(tmp_path / "study.journal"))
    leases = Leases(study)
    with leases.kept():
        leases.take(study.ask())
        assert expired(study) is None


@pytest.mark.parametrize("expired", [False, True])
def test_a_machine_of_the_same_name_is_judged_by_its_lease(expired: bool) -> None:
    """Another boot of this host would have ended its processes, but it need not be this host."""
    with storages.session() as owner:
        pass
    study = optuna.create_study()
    study.ask().set_user_attr(storages.OWNER, {**owner, "boot": "another"})
    (trial,) = study.get_trials()
    assert storages._is_abandoned(trial, expired=expired) is expired
    assert storages._is_abandoned(trial)


def test_a_process_of_this_machine_is_looked_at_whatever_its_lease_says() -> None:
    with storages.session() as owner:
        study = optuna.create_study()
        study.ask().set_user_attr(storages.OWNER, owner)
        (trial,) = study.get_trials()
        assert not storages._is_abandoned(trial, expired=True)
    assert storages._is_abandoned(trial, expired=False)
    assert owner["pid"] == str(os.getpid())
