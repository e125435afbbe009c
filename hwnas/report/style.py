"""The look of every page: the palette as CSS variables, for light and dark, and the style sheet. Knows no page."""

from __future__ import annotations

from collections.abc import Mapping
from functools import cache
from pathlib import Path

from hwnas.report.palette import DARK, LIGHT


@cache
def stylesheet() -> str:
    """The whole of it, as a page that is served loads it."""
    dark = f"@media screen and (prefers-color-scheme: dark) {{\n{_variables(DARK)}\n}}"
    return f"{_variables(LIGHT)}\n{dark}\n{(Path(__file__).parent / 'report.css').read_text('utf-8')}"


def _variables(colours: Mapping[str, str]) -> str:
    return f":root {{ {' '.join(f'--{name}: {colour};' for name, colour in colours.items())} }}"
