"""Quoting for the shell on a board, which puts a command's arguments together again and splits them itself."""

from __future__ import annotations

import shlex
from collections.abc import Sequence


def shell_line(arguments: Sequence[str]) -> str:
    """One line for a POSIX shell; every argument arrives as it is, but for a program in the home folder there."""
    program, *rest = arguments
    quoted = f'"$HOME"/{shlex.quote(program[2:])}' if program.startswith("~/") else shlex.quote(program)
    return " ".join(["exec", quoted, *map(shlex.quote, rest)])
