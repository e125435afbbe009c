"""Numbers and labels in the kernel's files, with errors that say what to do.

Knows files of one value; not what the values mean.
"""

from __future__ import annotations

from pathlib import Path

from hwnas.errors import MeasurementError


def read_number(path: Path, *, advice: str = "") -> int:
    """The whole number in a file.

    Args:
        path: of the file.
        advice: what to do where reading is not allowed.

    Raises:
        MeasurementError: it cannot be read, or holds something else.
    """
    try:
        return int(path.read_text(encoding="utf-8"))
    except PermissionError as e:
        allow = advice or f"allow it with: sudo chmod a+r {path}"
        raise MeasurementError(f"this user may not read {path}; {allow}") from e
    except OSError as e:
        raise MeasurementError(f"cannot read the energy meter's file {path}: {e.strerror}") from e
    except ValueError as e:
        raise MeasurementError(f"{path} holds no whole number: {e}") from e


def read_label(path: Path) -> str:
    """The text in a file, stripped; "" if there is none."""
    try:
        return path.read_text(encoding="utf-8", errors="replace").strip()
    except OSError:
        return ""
