"""Profiled tables that ship: `<device>/<runtime>-<precision>.jsonl`, each with its reference model beside it.

Data only. A run of a device of that name begins with them, if its context (hardware, runtime version, threads,
options) is the one they were measured in.
"""

from __future__ import annotations

from pathlib import Path


def folder() -> Path:
    """Where the tables lie."""
    return Path(__file__).parent
