"""Leases on trials: a search that lives says so to the database, so that trials of a machine that vanished are free.

A database tells the time to all, so that clocks of machines need not agree. A journal has no leases: processes of one
machine are seen directly. Knows Optuna's storages; never what a trial is about.
"""

from __future__ import annotations

import contextlib
import threading
from collections.abc import Iterator
from typing import Any

import optuna

from hwnas.errors import HwnasError

BEAT_S = 15  # whole seconds, as Optuna wants them
# without a beat, then a trial is free: some beats may be lost while a database is restarted
LEASE_S = 60


def storage_with_leases(study: optuna.Study) -> Any:
    """The study's storage, if it keeps leases; else None."""
    storage: Any = study._storage
    return storage if hasattr(storage, "record_heartbeat") else None


def expired(study: optuna.Study) -> set[int] | None:
    """Ids of running trials whose lease ran out; None if the storage keeps no leases.

    A trial that never had one, of an earlier version, is not among them.
    """
    storage = storage_with_leases(study)
    return None if storage is None else set(storage._get_stale_trial_ids(study._study_id))


class Leases:
    """Keeps the leases of some trials, from a thread of its own.

    Args:
        study: of the trials.
    """

    def __init__(self, study: optuna.Study) -> None:
        self._storage = storage_with_leases(study)
        self._held: set[int] = set()
        self._lock = threading.Lock()
        self._over = threading.Event()

    def take(self, trial: optuna.Trial) -> None:
        """Begin the lease of a trial."""
        if self._storage is not None:
            self._storage.record_heartbeat(trial._trial_id)
            with self._lock:
                self._held.add(trial._trial_id)

    def end(self, trial: optuna.Trial) -> None:
        """Let go of a trial; one that was not leased is passed over."""
        with self._lock:
            self._held.discard(trial._trial_id)

    @contextlib.contextmanager
    def kept(self) -> Iterator[None]:
        """Renew all leases while the context lasts."""
        if self._storage is None:
            yield
            return
        thread = threading.Thread(target=self._renew, daemon=True)
        thread.start()
        try:
            yield
        finally:
            self._over.set()
            thread.join()

    def _renew(self) -> None:
        import sqlalchemy.exc

        while not self._over.wait(BEAT_S):
            with self._lock:
                held = sorted(self._held)
            for trial_id in held:
                # a database that is away for longer than a lease is told by the search itself
                with contextlib.suppress(sqlalchemy.exc.SQLAlchemyError, optuna.exceptions.OptunaError, HwnasError):
                    self._storage.record_heartbeat(trial_id)
