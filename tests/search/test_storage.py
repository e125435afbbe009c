import contextlib
import datetime
import errno
import json
import multiprocessing
import os
import signal
import sqlite3
import subprocess
import sys
import time
from collections.abc import Callable
from pathlib import Path
from typing import Any

import numpy as np
import optuna
import pytest
import sqlalchemy.exc
from hypothesis import HealthCheck, given, settings
from hypothesis import strategies as st

from hwnas.errors import ConfigError, StudyError
from hwnas.search import Problem, Sampling, Study, read_study, search
from hwnas.search import storage as storages
from hwnas.search.journal import HealingJournal
from hwnas.types import Option

from .problems import SPACE, quality


def find(storage: Path | str, *, n_trials: int, seed: int = 0) -> Study:
    return search(
        Problem(SPACE, {"accuracy": "maximize"}, n_trials=n_trials),
        quality,
        sampling=Sampling(sampler="random", seed=seed),
        storage=storage,
    )


# ---------------------------------------------------------------- a journal that was cut


@pytest.fixture(scope="module")
def journal(tmp_path_factory: pytest.TempPathFactory) -> bytes:
    path = tmp_path_factory.mktemp("journal") / "study.journal"
    find(path, n_trials=6)
    return path.read_bytes()


@settings(deadline=None, max_examples=40, suppress_health_check=[HealthCheck.function_scoped_fixture])
@given(data=st.data())
def test_a_journal_cut_at_any_byte_resumes(journal: bytes, tmp_path: Path, data: st.DataObject) -> None:
    path = tmp_path / "cut.journal"
    path.write_bytes(journal[: data.draw(st.integers(0, len(journal)))])
    study = find(path, n_trials=8)
    assert len(study) == 8
    assert len(np.unique(study.encodings, axis=0)) == 8
    assert (read_study(path).encodings == study.encodings).all()
    assert all(isinstance(json.loads(line), dict) for line in path.read_bytes().splitlines())


def test_a_whole_last_record_without_its_line_end_is_kept(tmp_path: Path) -> None:
    path = tmp_path / "tail.journal"
    path.write_bytes(b'{"a":1}\n{"b":2}')
    HealingJournal(path).append_logs([{"c": 3}])
    assert path.read_bytes() == b'{"a":1}\n{"b":2}\n{"c":3}\n'


def test_part_of_a_last_record_is_cut_off(tmp_path: Path) -> None:
    path = tmp_path / "tail.journal"
    path.write_bytes(b'{"a":1}\n{"long":"' + b"x" * 200_000)
    HealingJournal(path).append_logs([{"c": 3}])
    assert path.read_bytes() == b'{"a":1}\n{"c":3}\n'


@settings(deadline=None, max_examples=60, suppress_health_check=[HealthCheck.function_scoped_fixture])
@given(data=st.data())
def test_no_changed_byte_is_read_as_if_it_were_what_was_written(
    journal: bytes, tmp_path: Path, data: st.DataObject
) -> None:
    at, bit = data.draw(st.integers(0, len(journal) - 2)), data.draw(st.integers(0, 7))
    path = tmp_path / "flipped.journal"
    path.write_bytes(journal[:at] + bytes([journal[at] ^ 1 << bit]) + journal[at + 1 :])
    with pytest.raises(StudyError, match=r"flipped\.journal is damaged"):
        read_study(path)


@pytest.mark.parametrize("change", ["lost", "doubled", "swapped"])
def test_lines_that_were_lost_doubled_or_moved_are_noticed(change: str, journal: bytes, tmp_path: Path) -> None:
    lines = journal.splitlines(keepends=True)
    middle = {"lost": [lines[5]], "doubled": [lines[4], lines[4], lines[5]], "swapped": [lines[5], lines[4]]}[change]
    path = tmp_path / "moved.journal"
    path.write_bytes(b"".join([*lines[:4], *middle, *lines[6:]]))
    with pytest.raises(StudyError, match="damaged"):
        read_study(path)


def test_a_journal_from_before_checksums_is_read_and_gone_on_with(journal: bytes, tmp_path: Path) -> None:
    path = tmp_path / "older.journal"
    values = [json.loads(line) for line in journal.splitlines()]
    plain = [{k: v for k, v in line.items() if k not in ("line", "checksum")} for line in values]
    path.write_text("".join(json.dumps(line) + "\n" for line in plain))
    assert len(read_study(path)) == 6
    assert len(find(path, n_trials=8)) == 8
    assert b"checksum" not in path.read_bytes()


def test_damage_before_the_last_line_is_an_error_that_names_the_file(tmp_path: Path, journal: bytes) -> None:
    path = tmp_path / "broken.journal"
    path.write_bytes(b"\0\0\0 not json\n" + journal)
    with pytest.raises(StudyError, match=r"broken\.journal is damaged"):
        find(path, n_trials=8)


def test_a_full_disk_ends_the_search_and_space_lets_it_go_on(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    path, appends = tmp_path / "full.journal", 0
    append = HealingJournal.append_logs

    def full_after_some(self: HealingJournal, logs: list[dict[str, Any]]) -> None:
        nonlocal appends
        appends += 1
        if appends > 30:
            with open(path, "ab") as f:
                f.write(b'{"op_code":5,"trial')  # what fitted
            raise OSError(errno.ENOSPC, os.strerror(errno.ENOSPC))
        append(self, logs)

    with monkeypatch.context() as m:
        m.setattr(HealingJournal, "append_logs", full_after_some)
        with pytest.raises(OSError, match="No space left"):
            find(path, n_trials=10)
    assert len(find(path, n_trials=10)) == 10


# ---------------------------------------------------------------- several processes, killed processes

_SEARCH_FOR_EVER = """
import sys, time
from hwnas.search import Problem, Sampling, search
from tests.search.problems import SPACE, quality

def evaluate(architecture):
    print("evaluating", flush=True)
    time.sleep({seconds})
    return quality(architecture)

problem = Problem(SPACE, {{"accuracy": "maximize"}}, n_trials=40)
search(problem, evaluate, sampling=Sampling(sampler="random"), storage=sys.argv[1])
"""


def test_a_search_killed_while_evaluating_is_completed_by_the_next(tmp_path: Path) -> None:
    path = tmp_path / "killed.journal"
    with subprocess.Popen(
        [sys.executable, "-c", _SEARCH_FOR_EVER.format(seconds=60), str(path)],
        stdout=subprocess.PIPE,
        cwd=Path(__file__).parents[2],
    ) as process:
        assert process.stdout is not None
        process.stdout.readline()  # it evaluates its first network
        process.send_signal(signal.SIGKILL)
    study = find(path, n_trials=3)
    assert study.numbers.tolist() == [1, 2, 3]  # trial 0 was running: failed and not counted
    assert not study.failed
    # its network is free again: the whole space can still be evaluated
    assert len(find(path, n_trials=60)) == 52


def test_a_trial_that_runs_elsewhere_is_left_alone(tmp_path: Path) -> None:
    path = tmp_path / "shared.journal"
    with subprocess.Popen(
        [sys.executable, "-c", _SEARCH_FOR_EVER.format(seconds=60), str(path)],
        stdout=subprocess.PIPE,
        cwd=Path(__file__).parents[2],
    ) as process:
        assert process.stdout is not None
        process.stdout.readline()
        study = find(path, n_trials=60)
        process.send_signal(signal.SIGKILL)
    assert len(study) == 51  # all but the one that the other process holds
    assert "all 52 networks" in study.note


def _share(path: str, n_trials: int, asked: Any) -> None:
    def evaluate(architecture: dict[str, Option]) -> dict[str, float]:
        asked.append(str(sorted(architecture.items())))
        time.sleep(0.002)
        return quality(architecture)

    search(Problem(SPACE, {"accuracy": "maximize"}, n_trials=n_trials), evaluate, storage=path)


@pytest.mark.parametrize(("storage", "n_trials"), [("journal", 52), ("sqlite", 6)])  # 52: the whole space
def test_two_processes_share_a_study_and_evaluate_no_network_twice(tmp_path: Path, storage: str, n_trials: int) -> None:
    path = str(tmp_path / "two.journal") if storage == "journal" else f"sqlite:///{tmp_path}/two.db"
    if storage == "sqlite":
        find(path, n_trials=1)  # two processes that make the tables at once are SQLite's problem, not ours
    context = multiprocessing.get_context("spawn")
    with context.Manager() as manager:
        asked = manager.list()
        workers = [context.Process(target=_share, args=(path, n_trials, asked)) for _ in range(2)]
        for w in workers:
            w.start()
        for w in workers:
            w.join(120)
        assert [w.exitcode for w in workers] == [0, 0]
        assert len(asked) == len(set(asked))
    study = find(path, n_trials=n_trials)
    assert len(study) == len(np.unique(study.encodings, axis=0)) == n_trials


# ---------------------------------------------------------------- storages that cannot be opened


def another_schema(folder: Path) -> str:
    url = f"sqlite:///{folder / 'old.db'}"
    optuna.storages.RDBStorage(url)
    with contextlib.closing(sqlite3.connect(folder / "old.db")) as database, database:
        database.execute("UPDATE version_info SET schema_version = 1, library_version = '0.1'")
        database.execute("UPDATE alembic_version SET version_num = 'v0.9.0.a'")
    return url


def foreign_tables(folder: Path) -> str:
    with contextlib.closing(sqlite3.connect(folder / "foreign.db")) as database, database:
        database.execute("CREATE TABLE studies (something INTEGER)")
    return f"sqlite:///{folder / 'foreign.db'}"


def written(path: Path, content: bytes) -> Path:
    path.write_bytes(content)
    return path


CANNOT_BE_OPENED: dict[str, Callable[[Path], str]] = {
    "a directory as a database": lambda f: f"sqlite:///{f}",
    "a database in no folder": lambda f: f"sqlite:///{f / 'absent' / 'x.db'}",
    "no database": lambda f: f"sqlite:///{written(f / 'x.db', b'not a database' * 100)}",
    "tables of something else": foreign_tables,
    "another schema": another_schema,
    "a database in /proc": lambda _: "sqlite:////proc/x.db",
    "NUL in a URL": lambda f: f"sqlite:///{f}/a\0b.db",
    "an unknown dialect": lambda _: "oracles://localhost/x",
    "an unknown driver": lambda _: "sqlite+nothing:///x.db",
    "a missing driver": lambda _: "mysql://user@localhost/x",
    "no URL": lambda _: "://",
    "no host": lambda _: "postgresql://",
    "a port that is none": lambda _: "postgresql://user@host:port/x",
    "a missing redis": lambda _: "redis://localhost:1/0",
    "a directory as a journal": str,
    "a journal under a file": lambda f: str(written(f / "file", b"") / "journal.log"),
    "a journal in /proc": lambda _: "/proc/nothing/journal.log",
    "NUL in a path": lambda f: str(f / "a\0b.log"),
}


@pytest.mark.parametrize("kind", CANNOT_BE_OPENED)
def test_a_storage_that_cannot_be_opened_is_one_error_that_names_it(kind: str, tmp_path: Path) -> None:
    storage = CANNOT_BE_OPENED[kind](tmp_path)
    with pytest.raises((StudyError, ConfigError)) as caught:
        search(Problem(SPACE, {"accuracy": "maximize"}, n_trials=1), quality, storage=storage)
    assert "\n" not in str(caught.value)
    assert storage.replace("\0", "\\x00") in str(caught.value).replace("\0", "\\x00")


# ---------------------------------------------------------------- many at once


def test_what_other_processes_are_in_the_way_of_is_tried_again(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(storages.time, "sleep", lambda _: None)
    said = iter(["database is locked", "table studies already exists", "UNIQUE constraint failed: studies.study_name"])

    def work() -> int:
        for text in said:
            raise sqlalchemy.exc.OperationalError("INSERT", {}, Exception(text))
        return 3

    assert storages.patiently(work) == 3


def test_it_is_not_tried_for_ever_nor_for_another_reason(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(storages.time, "sleep", lambda _: None)
    tried: list[str] = []

    def failing(text: str) -> None:
        tried.append(text)
        raise sqlalchemy.exc.OperationalError("INSERT", {}, Exception(text))

    for text, times in (("database is locked", storages._ATTEMPTS), ("disk I/O error", 1)):
        tried.clear()
        with pytest.raises(StudyError, match=text), storages.told_of_database("sqlite:///x.db"):
            storages.patiently(lambda text=text: failing(text))
        assert len(tried) == times


@pytest.mark.parametrize(("age_s", "abandoned"), [(10.0, False), (7200.0, True)])
def test_a_trial_of_another_container_with_the_same_host_name_and_process_numbers_is_left_alone(
    age_s: float, abandoned: bool, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr(storages, "namespace", lambda: "1")
    with storages.session() as owner:
        pass
    study = optuna.create_study()
    trial = study.ask()
    trial.set_user_attr(storages.OWNER, {**owner, "started": "another process with this number"})
    frozen = study.get_trials(deepcopy=True)[0]
    frozen.datetime_start = datetime.datetime.now() - datetime.timedelta(seconds=age_s)
    assert storages._is_abandoned(frozen)  # in this container its process is gone
    monkeypatch.setattr(storages, "namespace", lambda: "2")
    assert storages._is_abandoned(frozen) is abandoned
