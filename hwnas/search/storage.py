"""Where trials live: Optuna storages, opened so that killed and simultaneous searches do no harm.

A journal heals its half-written last line, a lock dies with its process, and trials whose process is
gone are told from trials that run elsewhere. Knows Optuna and files, never spaces or samplers.
"""

from __future__ import annotations

import contextlib
import datetime
import json
import os
import socket
import uuid
from collections.abc import Iterator
from pathlib import Path
from typing import Any

import optuna
from optuna.storages.journal import JournalFileBackend, JournalFileOpenLock
from optuna.storages.journal._file import BaseJournalFileLock  # the type of `lock_obj`; not exported
from optuna.trial import FrozenTrial, TrialState

from hwnas.errors import StudyError
from hwnas.files import open_own
from hwnas.processes import started

OWNER = "owner"
_UNOWNED_GRACE_S = 60.0
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
    if "://" in str(storage):
        try:
            return optuna.storages.get_storage(str(storage))
        except (ImportError, RuntimeError, ValueError, OSError) as e:
            raise StudyError(f"the study storage {storage} cannot be opened: {e}") from e
        except optuna.exceptions.OptunaError as e:
            raise StudyError(f"the study storage {storage} cannot be opened: {e}") from e
    path = Path(storage)
    path.parent.mkdir(parents=True, exist_ok=True)
    journal = HealingJournal(path)
    try:
        return optuna.storages.JournalStorage(journal)
    except (ValueError, KeyError, AssertionError) as e:
        raise StudyError(
            f"{path} is damaged before its last line and cannot be read as a study journal ({e!r}); "
            f"name another storage, or restore the file"
        ) from e


class HealingJournal(JournalFileBackend):  # type: ignore[misc, unused-ignore]
    """Optuna's journal file, which also survives a writer that was killed in the middle of a line.

    Optuna reads past a half-written last line, but then appends to it, after which the file cannot be
    read any more. Here every append first mends the tail: a whole record gets its line end, part of
    one is cut off, since nobody can have read it. Only finished trials are synced to the disk: a killed
    process loses nothing that it wrote, and records of a running trial are worth little after a power cut.
    """

    def __init__(self, path: Path) -> None:
        self._path = Path(path)
        os.close(open_own(self._path, create=True))  # Optuna would make what a dangling link points to
        self._file_lock: BaseJournalFileLock = _FileLock(self._path)
        super().__init__(str(path), lock_obj=self._file_lock)

    def append_logs(self, logs: list[dict[str, Any]]) -> None:
        """Append records, one a line, under the lock."""
        data = "".join(json.dumps(log, separators=(",", ":")) + "\n" for log in logs).encode()
        self._file_lock.acquire()
        try:
            with open(self._path, "r+b") as f:
                _mend_tail(f)
                f.write(data)
                f.flush()
                if any("state" in log for log in logs):
                    os.fsync(f.fileno())
        finally:
            self._file_lock.release()


def _mend_tail(f: Any) -> None:
    """Leave a journal open for update at its end, with its last line whole."""
    end = f.seek(0, os.SEEK_END)
    if not end:
        return
    f.seek(end - 1)
    if f.read(1) == b"\n":
        return
    start, tail = end, b""
    while start and b"\n" not in tail:
        step = min(start, 1 << 16)
        start -= step
        f.seek(start)
        tail = f.read(step) + tail
    cut = start + tail.rfind(b"\n") + 1  # rfind is -1 where the first line itself is cut
    try:
        json.loads(tail[tail.rfind(b"\n") + 1 :])
    except ValueError:
        f.truncate(cut)
        f.seek(cut)
    else:
        f.seek(end)
        f.write(b"\n")


class _FileLock(BaseJournalFileLock):  # type: ignore[misc, unused-ignore]
    """An advisory lock on the journal itself; the system frees it when its process dies.

    Optuna's own locks are files that a killed process leaves behind for 30 seconds. They are used
    where the system has no `flock`.
    """

    def __init__(self, path: Path) -> None:
        self._path = path
        self._fd = -1
        self._fallback: BaseJournalFileLock | None = None
        try:
            import fcntl  # noqa: F401 - only asks whether it exists
        except ImportError:  # pragma: no cover - not on this system
            self._fallback = JournalFileOpenLock(str(path))

    def acquire(self) -> bool:
        if self._fallback is not None:  # pragma: no cover
            return self._fallback.acquire()
        import fcntl

        fd = open_own(self._path, create=True)
        try:
            fcntl.flock(fd, fcntl.LOCK_EX)
        except BaseException:
            os.close(fd)
            raise
        self._fd = fd
        return True

    def release(self) -> None:
        if self._fallback is not None:  # pragma: no cover
            self._fallback.release()
            return
        fd, self._fd = self._fd, -1
        os.close(fd)  # closing frees the lock


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

    A trial that another machine runs cannot be judged from here and is left alone.

    Returns:
        How many there were.
    """
    abandoned = [t for t in study.get_trials(deepcopy=False, states=(TrialState.RUNNING,)) if _is_abandoned(t)]
    for trial in abandoned:
        finish_failed(study, trial.number)
    return len(abandoned)


def finish_failed(study: optuna.Study, number: int) -> None:
    """Mark a trial as failed unless somebody else has just finished it."""
    with contextlib.suppress(optuna.exceptions.UpdateFinishedTrialError):
        study.tell(number, state=TrialState.FAIL, skip_if_finished=True)


def _is_abandoned(trial: FrozenTrial) -> bool:
    owner = trial.user_attrs.get(OWNER)
    if owner is None:  # killed between making the trial and signing it, or not signed yet
        begun = trial.datetime_start or datetime.datetime.min
        return (datetime.datetime.now() - begun).total_seconds() > _UNOWNED_GRACE_S
    here = _this_process()
    if owner["host"] != here["host"]:
        return False
    if owner["boot"] != here["boot"]:
        return True
    if owner["pid"] == here["pid"] and owner["started"] == here["started"]:
        return str(owner["session"]) not in _live_sessions
    return started(int(owner["pid"])) != str(owner["started"])


def _this_process() -> dict[str, str]:
    boot = Path("/proc/sys/kernel/random/boot_id")
    return {
        "host": socket.gethostname(),
        "boot": boot.read_text().strip() if boot.exists() else "",
        "pid": str(os.getpid()),
        "started": started(os.getpid()),
    }
