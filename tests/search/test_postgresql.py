"""One study in a real PostgreSQL server, shared by several processes."""

from __future__ import annotations

import multiprocessing
import signal
from collections.abc import Iterator
from pathlib import Path

import optuna
import pytest

from hwnas.errors import MissingPackageError, StudyError
from hwnas.search import Problem, Sampling, read_study, search
from hwnas.search import storage as storages
from hwnas.testing import postgresql

from .problems import SPACE, quality
from .test_lease import DIRECTIONS, find, other_machine
from .test_storage import _share

pytestmark = pytest.mark.skipif(bool(postgresql.missing()), reason=postgresql.missing())


@pytest.fixture(scope="module")
def server() -> Iterator[postgresql.Server]:
    with postgresql.server() as running:
        yield running


@pytest.fixture(autouse=True)
def password(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setenv("PGPASSWORD", postgresql.PASSWORD)


@pytest.fixture
def database(server: postgresql.Server) -> Iterator[str]:
    """The server's database, emptied afterwards."""
    import psycopg

    yield server.url()
    with psycopg.connect(server.url(), autocommit=True) as connection:
        connection.execute("DROP SCHEMA public CASCADE")
        connection.execute("CREATE SCHEMA public")


def test_it_finds_what_a_journal_finds_and_goes_on(database: str, tmp_path: Path) -> None:
    def found(storage: Path | str, n_trials: int) -> list[list[int]]:
        problem = Problem(SPACE, DIRECTIONS, n_trials=n_trials)
        study = search(problem, quality, sampling=Sampling(sampler="nsga2"), storage=storage)
        assert (read_study(storage).encodings == study.encodings).all()
        rows: list[list[int]] = study.encodings.tolist()
        return rows

    assert found(database, 5) == found(tmp_path / "study.journal", 5)
    assert found(database, 8) == found(tmp_path / "study.journal", 8)


def test_processes_share_it_and_evaluate_no_network_twice(database: str) -> None:
    context = multiprocessing.get_context("spawn")
    with context.Manager() as manager:
        asked = manager.list()
        workers = [context.Process(target=_share, args=(database, 12, asked)) for _ in range(2)]
        for w in workers:
            w.start()
        for w in workers:
            w.join(120)
        assert [w.exitcode for w in workers] == [0, 0]
        assert len(asked) == len(set(asked))
    assert len(read_study(database)) == 12


def test_a_machine_that_is_killed_gives_its_trial_back(database: str, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr("hwnas.search.lease.BEAT_S", 1)
    monkeypatch.setattr("hwnas.search.lease.LEASE_S", 2)
    with other_machine(database, seconds=60) as process:
        process.send_signal(signal.SIGKILL)
    assert len(find(database, [])) == 3


def test_machines_in_other_time_zones_see_the_same_leases(database: str, monkeypatch: pytest.MonkeyPatch) -> None:
    find(database, [], n_trials=1)
    with other_machine(database, seconds=60) as process:
        monkeypatch.setenv("PGTZ", "Asia/Tokyo")
        with storages.opened(database) as opened:
            study = optuna.load_study(study_name="search", storage=opened)
            freed = storages.fail_abandoned(study)
        process.send_signal(signal.SIGKILL)
    assert freed == 0


@pytest.mark.parametrize("wrong", ["no-such-password", "p/w:d"])
def test_no_error_shows_a_password(server: postgresql.Server, wrong: str) -> None:
    url = server.url(password=True).replace(postgresql.PASSWORD, wrong)
    with pytest.raises(StudyError) as raised:
        read_study(url)
    assert f"{postgresql.USER}:***@127.0.0.1" in str(raised.value)
    assert wrong not in str(raised.value)


def test_another_search_under_the_name_is_refused_without_the_password(
    server: postgresql.Server, database: str
) -> None:
    find(database, [], n_trials=1)
    with pytest.raises(StudyError, match="is another search") as raised:
        search(Problem(SPACE, {"loss": "minimize"}, n_trials=1), quality, storage=server.url(password=True))
    assert postgresql.PASSWORD not in str(raised.value)


def test_without_its_driver_the_extra_is_named(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setitem(__import__("sys").modules, "psycopg", None)
    with pytest.raises(MissingPackageError, match=r"pip install 'hwnas\[postgresql\]'"):
        read_study("postgresql://user@localhost/x")
