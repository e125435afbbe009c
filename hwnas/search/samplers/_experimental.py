"""Use what Optuna calls experimental. Knows Optuna's warnings, never a sampler."""

from __future__ import annotations

import contextlib
import warnings
from collections.abc import Iterator

import optuna


@contextlib.contextmanager
def experiments_allowed() -> Iterator[None]:
    """Optuna warns of interfaces that may change; the pinned version is what we run."""
    with warnings.catch_warnings():
        warnings.simplefilter("ignore", optuna.exceptions.ExperimentalWarning)
        yield
