"""Pieces of Markdown. Knows texts, not what they are about."""

from __future__ import annotations

import re
from collections.abc import Iterable, Sequence


def anchor(name: str) -> str:
    """The anchor of a name: `train.steps` and `hwnas devices new` as `train.steps` and `hwnas-devices-new`."""
    return re.sub(r"[^\w.]+", "-", name.strip().lower()).strip("-")


def heading(level: int, name: str, *, code: bool = True) -> str:
    """A heading with an anchor that follows from its name alone.

    Args:
        level: from 1.
        name: shown.
        code: whether it is a name in code.
    """
    shown = f"`{name}`" if code else name
    return f"{'#' * level} {shown} {{#{anchor(name)}}}"


def table(head: Sequence[str], rows: Iterable[Sequence[str]]) -> str:
    """A table; what would end a cell is escaped."""
    lines = [head, ["---"] * len(head), *rows]
    return "\n".join("| " + " | ".join(_cell(text) for text in line) + " |" for line in lines)


def _cell(text: str) -> str:
    return re.sub(r"\s*\n\s*", " ", text.strip()).replace("|", r"\|")


def defined(term: str, *paragraphs: str) -> str:
    """One entry of a list of definitions: it is as wide as its reader's screen, which a table may not be.

    Args:
        term: what is defined.
        paragraphs: about it; empty ones are left out.
    """
    body = "\n\n".join("    " + text.strip().replace("\n", "\n    ") for text in paragraphs if text.strip())
    return f"{term}\n:   {body.lstrip() or '&nbsp;'}\n"


def fenced(text: str, language: str = "") -> str:
    """A block of code."""
    return f"```{language}\n{text.strip()}\n```"


def sentence(text: str) -> str:
    """A text with the full stop that comments and first lines of help may lack."""
    text = text.strip()
    return text if not text or text[-1] in ".!?:" else f"{text}."


def joined(parts: Iterable[str]) -> str:
    """Paragraphs and blocks as one text; empty ones are left out."""
    return "\n\n".join(part.strip("\n") for part in parts if part.strip()) + "\n"
