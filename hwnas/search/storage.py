"""Where trials live: Optuna storages, opened so that killed and simultaneous searches do no harm.

A database is tried again while other processes are in its way, whatever a storage raises is one error of ours, and
trials whose process is gone are told from trials that run elsewhere. Knows Optuna, never spaces or samplers.
"""

from __future__ import annotations

import contextlib
import datetime
import functools
import os
import random
import socket
import time
import types
import uuid
import warnings
from collections.abc import Callable, Iterator, Mapping
from pathlib import Path
from typing import Any, TypeVar

import optuna
from optuna.trial import FrozenTrial, TrialState

from hwnas._urls import is_url, without_password
from hwnas.errors import HwnasError, MissingPackageError, StudyError
from hwnas.processes import namespace, started
from hwnas.search import lease
from hwnas.search.journal import HealingJournal

OWNER = "owner"
# seconds from making a trial to signing it, on the slowest machine; then its process must be gone
_UNOWNED_GRACE_S = 60.0
_ELSEWHERE_GRACE_S = 3600.0  # of a trial in another container of this machine, whose processes cannot be seen
_SQLITE_WAIT_S = 60.0
_ATTEMPTS = 12  # within some 15 seconds
_CONNECT_S = 10
# what databases and Optuna say of a conflict or of a server that restarts, in lower case; anything else is no reason to
# try again
_SIGNS = (
    *("locked", "busy", "already exists", "unique constraint", "duplicate", "deadlock", "another study"),
    *("server closed the connection", "terminating connection", "starting up", "shutting down"),
)
_T = TypeVar("_T")
# a process may search twice: its id alone would not tell a trial of the first call from one of the second
_live_sessions: set[str] = set()


def open_storage(storage: str | Path | None) -> optuna.storages.BaseStorage:
    """An Optuna storage.

    Args:
        storage: None for memory, a path for a journal file (made if absent), or a database URL.

    Raises:
        StudyError: the journal or database cannot be read.
        ConfigError: the journal is a symbolic link, or no regular file.
    """
    if storage is None:
        return optuna.storages.InMemoryStorage()
    if is_url(str(storage)):
        with told(storage):
            return patiently(lambda: _database(str(storage)))
    path = Path(storage)
    with told(storage):
        # outside the `try` below: an error here is the folder's, not the journal's
        path.parent.mkdir(parents=True, exist_ok=True)
        journal = HealingJournal(path)
    try:
        return optuna.storages.JournalStorage(journal)
    except (ValueError, KeyError, AssertionError) as e:
        raise StudyError(
            f"{path} is damaged and cannot be read as a study journal ({e}); restore it, or move it away: the next "
            f"search begins it anew, and a run measures no accuracy again that it knows"
        ) from e


@contextlib.contextmanager
def opened(storage: str | Path | None, *, new: bool = True) -> Iterator[optuna.storages.BaseStorage]:
    """As `open_storage`; no connection to a database stays open after the context.

    Args:
        storage: see there.
        new: whether it may be made. Opening a journal would make it, and looking must leave nothing behind.

    Raises:
        StudyError: see there, or there is none, and it may not be made.
    """
    if not new and not is_url(str(storage)) and not Path(str(storage)).is_file():
        raise StudyError(f"there is no study storage {storage}")
    found = open_storage(storage)
    try:
        yield found
    finally:
        database = getattr(found, "_backend", None)
        if isinstance(database, optuna.storages.RDBStorage):
            database.remove_session()
            database.engine.dispose()


def _database(url: str) -> optuna.storages.BaseStorage:
    if url.startswith("redis"):
        return optuna.storages.get_storage(url)
    import sqlalchemy

    parsed = sqlalchemy.make_url(url)
    options: dict[str, Any] = {}
    if parsed.drivername.startswith("sqlite"):
        # a writer waits for the others instead of giving up after five seconds
        options = {"connect_args": {"timeout": _SQLITE_WAIT_S}}
    elif parsed.drivername in ("postgres", "postgresql", "postgresql+psycopg"):
        _require_psycopg()
        parsed = parsed.set(drivername="postgresql+psycopg")
        options = {
            "connect_args": {} if "connect_timeout" in parsed.query else {"connect_timeout": _CONNECT_S},
            "pool_pre_ping": True,  # the server may have been restarted since a connection was used
            "pool_events": [(_in_utc, "connect")],
        }
    with warnings.catch_warnings():
        # Optuna's leases may change; the pinned version is what we run
        warnings.simplefilter("ignore", optuna.exceptions.ExperimentalWarning)
        database = _patient_database()(
            parsed.render_as_string(hide_password=False),
            engine_kwargs=options,
            heartbeat_interval=lease.BEAT_S,
            grace_period=lease.LEASE_S,
        )
    return optuna.storages.get_storage(database)


def _in_utc(connection: Any, record: object) -> None:
    """Leases are compared as local times: in one zone, whatever each machine's is."""
    with connection.cursor() as cursor:
        cursor.execute("SET TIME ZONE 'UTC'")
    connection.commit()


def _require_psycopg() -> None:
    try:
        import psycopg  # noqa: F401 - only asks whether it is there
    except ImportError as e:
        raise MissingPackageError("psycopg", "postgresql", needed_for="a study in PostgreSQL") from e


@functools.cache
def _patient_database() -> type[optuna.storages.RDBStorage]:
    """Optuna's database storage, of which every access is tried again while other processes are in its way.

    A transaction that reads and then writes is refused at once where another wrote in between, however long a writer
    would wait; it was rolled back, so it can be begun anew.
    """

    def patient(method: Callable[..., Any]) -> Callable[..., Any]:
        @functools.wraps(method)
        def call(*arguments: Any, **options: Any) -> Any:
            return patiently(lambda: method(*arguments, **options))

        return call

    own = vars(optuna.storages.RDBStorage).items()
    methods = {name: patient(f) for name, f in own if isinstance(f, types.FunctionType) and not name.startswith("__")}
    # it has heartbeats, which Optuna would warn of: it expects them to be its own (see `lease`)
    methods["get_heartbeat_interval"] = lambda self: None
    return type("PatientDatabase", (optuna.storages.RDBStorage,), methods)


def shown(storage: str | Path | None) -> str:
    """A storage as it may be shown: without the password, if there is one."""
    return without_password(str(storage))


@contextlib.contextmanager
def told(storage: str | Path | None) -> Iterator[None]:
    """What a storage raises, whatever its kind, as one error of ours.

    Raises:
        StudyError: names the storage and what it said.
    """
    try:
        yield
    except HwnasError:  # says already what was wrong, and what to do
        raise
    except _storage_errors() as e:
        # SQLAlchemy adds the statement, its parameters and a link on further lines
        said = str(e).strip().partition("\n")[0] or type(e).__name__
        raise StudyError(
            f"the study storage {shown(storage)!r} cannot be used: {without_password(said)}; name another, or mend "
            "this one"
        ) from e


@contextlib.contextmanager
def told_of_database(storage: str | Path | None) -> Iterator[None]:
    """As `told`, of what only a database raises: while networks are evaluated other errors are not the storage's."""
    try:
        yield
    except _contention() as e:
        with told(storage):
            raise e


def patiently(work: Callable[[], _T]) -> _T:
    """What some work on a database gives, tried again while other processes are in its way.

    Processes that start together all find a database without tables, or a study that is not there, and all make it; all
    but one are told that it exists, and find it when they look again.
    """
    for attempt in range(_ATTEMPTS - 1):
        try:
            return work()
        except _contention() as e:
            # a full disk or a wrong password stays wrong, however often it is tried
            if not any(sign in str(e).lower() for sign in _SIGNS):
                raise
            # doubled up to 2 s, and random: processes that met once would meet again in step
            time.sleep(random.uniform(0.5, 1.0) * min(2.0, 0.05 * 2**attempt))
    return work()


def _contention() -> tuple[type[Exception], ...]:
    # imported late: a search on a journal needs no SQLAlchemy
    import sqlalchemy.exc

    return (
        sqlalchemy.exc.SQLAlchemyError,
        optuna.exceptions.StorageInternalError,
        optuna.exceptions.DuplicatedStudyError,
    )


def _storage_errors() -> tuple[type[Exception], ...]:
    import sqlalchemy.exc

    return (
        sqlalchemy.exc.SQLAlchemyError,
        optuna.exceptions.OptunaError,
        ImportError,
        RuntimeError,
        ValueError,
        OSError,
    )


# ---------------------------------------------------------------- who runs a trial


@contextlib.contextmanager
def session() -> Iterator[dict[str, str]]:
    """The identity under which one call of `search` owns its trials; gone when the call ends."""
    token = uuid.uuid4().hex
    _live_sessions.add(token)
    try:
        yield {**_this_process(), "session": token}
    finally:
        _live_sessions.discard(token)


def fail_abandoned(study: optuna.Study) -> int:
    """Mark running trials whose process is gone as failed; they may be evaluated again.

    Processes of this machine are looked at. Those of another one are judged by their lease, where the storage keeps
    leases (`hwnas.search.lease`); else their trials are left alone, and those of another container of this machine for
    an hour.

    Returns:
        How many there were.
    """
    running = study.get_trials(deepcopy=False, states=(TrialState.RUNNING,))
    expired = lease.expired(study) if running else None
    abandoned = [t for t in running if _is_abandoned(t, expired=None if expired is None else t._trial_id in expired)]
    for trial in abandoned:
        finish_failed(study, trial.number)
    return len(abandoned)


def can_be_judged(study: optuna.Study, trial: FrozenTrial) -> bool:
    """Whether a running trial is sure to end: its process is seen from here, or its lease runs out."""
    owner, here = trial.user_attrs.get(OWNER), _this_process()
    return owner is not None and (lease.storage_with_leases(study) is not None or _is_of_this_machine(owner, here))


def finish_failed(study: optuna.Study, number: int) -> None:
    """Mark a trial as failed unless somebody else has just finished it."""
    # between the look and the mark another process may have finished it
    with contextlib.suppress(optuna.exceptions.UpdateFinishedTrialError):
        study.tell(number, state=TrialState.FAIL, skip_if_finished=True)


def _is_abandoned(trial: FrozenTrial, *, expired: bool | None = None) -> bool:
    """Whether nobody evaluates a running trial any more.

    Args:
        trial: that runs.
        expired: whether its lease ran out; None if there are no leases.
    """
    owner = trial.user_attrs.get(OWNER)
    if owner is None:  # killed between making the trial and signing it, or not signed yet
        begun = trial.datetime_start or datetime.datetime.min
        return (datetime.datetime.now() - begun).total_seconds() > _UNOWNED_GRACE_S
    here = _this_process()
    # before the names of hosts: machines that share a database may be called alike
    if expired is not None and not _is_of_this_machine(owner, here):
        return expired
    # process ids and boots of another machine mean nothing here
    if owner["host"] != here["host"]:
        return False
    # no process outlives a boot
    if owner["boot"] != here["boot"]:
        return True
    if owner.get("namespace", here["namespace"]) != here["namespace"]:  # the same number is another process there
        begun = trial.datetime_start or datetime.datetime.min
        return (datetime.datetime.now() - begun).total_seconds() > _ELSEWHERE_GRACE_S
    if owner["pid"] == here["pid"] and owner["started"] == here["started"]:
        return str(owner["session"]) not in _live_sessions
    # ids are used again: only id and starting time together name a process
    return started(int(owner["pid"])) != str(owner["started"])


def _is_of_this_machine(owner: Mapping[str, str], here: Mapping[str, str]) -> bool:
    """Whether an owner is a process whose number means the same here; an earlier version did not tell the namespace."""
    return all(owner.get(name, here[name]) == here[name] for name in ("host", "boot", "namespace"))


def _this_process() -> dict[str, str]:
    boot = Path("/proc/sys/kernel/random/boot_id")
    return {
        "host": socket.gethostname(),
        # absent where there is no /proc: then all boots look alike, and the starting time decides
        "boot": boot.read_text(encoding="utf-8").strip() if boot.exists() else "",
        "namespace": namespace(),
        "pid": str(os.getpid()),
        "started": started(os.getpid()),
    }
