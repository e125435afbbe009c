"""Whether a process still lives that left something behind. Knows process numbers and marks; never what was left."""

from __future__ import annotations

import os
from pathlib import Path


def started(pid: int) -> str:
    """A mark of a living process that a later one with its number does not share; empty if there is none."""
    try:
        os.kill(pid, 0)
    except PermissionError:
        pass  # it lives, under another user
    except (OSError, OverflowError):
        return ""
    try:  # field 22 of proc(5): the start time in clock ticks; the name before it may hold spaces
        return Path(f"/proc/{pid}/stat").read_text(encoding="utf-8", errors="replace").rpartition(")")[2].split()[19]
    except (OSError, IndexError):
        return "alive"


def namespace() -> str:
    """What process numbers are counted in: a container counts its own; empty where the system has no such thing."""
    try:
        return os.readlink("/proc/self/ns/pid").strip("pid:[]")
    except OSError:
        return ""
