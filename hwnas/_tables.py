"""Tables as lines of text: no word is broken, whatever the width, and none is wrapped where programs read.

A column that is named as a metric (`latency_ms`, `size_bytes (estimated)`) is shown under the metric's name for people,
its numbers with their units. Knows texts and widths, not where they are written.
"""

from __future__ import annotations

from collections.abc import Mapping, Sequence

from rich.cells import cell_len

from hwnas.foreign import printable
from hwnas.quantities import NBSP, is_metric, metric_name, percent, quantity

_INDENT, _GAP = "  ", "  "
_MINUS = "−"


def format_value(value: object) -> str:
    """A value for a table: four significant digits, thousands apart, lists joined."""
    if isinstance(value, bool):
        return "yes" if value else "no"
    if isinstance(value, int):
        return f"{value:,}" if abs(value) < 10**12 else f"about 10^{len(str(abs(value))) - 1}"
    if isinstance(value, float):
        return f"{value:,.0f}" if abs(value) >= 10_000 and value.is_integer() else f"{value:.4g}"
    if value is None:
        return "-"
    if isinstance(value, Mapping):
        return ", ".join(f"{k} {format_value(v)}" for k, v in value.items())
    if isinstance(value, Sequence) and not isinstance(value, str):
        return ", ".join(format_value(v) for v in value)
    return str(value)


def format_table(
    columns: Sequence[str], rows: Sequence[Sequence[object]], *, width: int | None = None, rule: str = "─"
) -> list[str]:
    """The lines of a table.

    Columns that do not fit are wrapped between words; where even that does not suffice, each row becomes lines of
    `column: value`. A word longer than the width, such as a path, stays whole.

    Args:
        columns: their names; without them no heading is shown.
        rows: as many values each as there are columns.
        width: characters of a line; None: each row is one line, for programs.
        rule: the character between heading and rows.
    """
    if not rows:
        return []
    heading = [_heading(column) for column in columns]
    names = [*columns, *[""] * (len(rows[0]) - len(columns))]
    cells = [[_cell(value, of=name) for value, name in zip(row, names, strict=True)] for row in rows]
    table = [heading, *cells] if heading else cells
    widths = [max(map(cell_len, column)) for column in zip(*table, strict=True)]
    if width is not None:
        room = width - len(_INDENT) - len(_GAP) * (len(widths) - 1)
        if sum(widths) > room:
            least = [max(map(_least_width, column)) for column in zip(*table, strict=True)]
            if sum(least) > room and heading:
                return [line for row in cells for line in _record(heading, row, width=width)]
            if sum(least) > room:  # names with values: a long word of a value reaches beyond the width
                least[-1] = max(1, room - sum(least[:-1]))
            _shrink(widths, least, room)
    lines = [line for row in table for line in _row(row, widths)]
    if heading:
        n = len(_row(heading, widths))
        lines.insert(n, f"{_INDENT}{rule * (sum(widths) + len(_GAP) * (len(widths) - 1))}")
    return lines


def wrap(text: str, *, width: int, indent: str = "") -> list[str]:
    """The lines of a text, broken between words alone; what follows the first is indented."""
    lines: list[str] = []
    for word in text.split(" "):
        if lines and cell_len(lines[-1]) + 1 + cell_len(word) <= width:
            lines[-1] += f" {word}"
        elif word or not lines:
            lines.append(f"{indent if lines else ''}{word}")
    return lines


def _heading(column: str) -> str:
    metric, space, rest = column.partition(" ")
    return printable(f"{metric_name(metric)}{space}{rest}" if is_metric(metric) else column)


def _cell(value: object, *, of: str) -> str:
    """A value in its column; line breaks stay, for texts of several lines."""
    metric = of.partition(" ")[0]
    if isinstance(value, int | float) and not isinstance(value, bool) and is_metric(metric):
        shown = quantity(metric, value)
        shown = percent(value, decimals=2) if shown.endswith("%") else shown
        return shown.replace(_MINUS, "-")  # as it is typed, to be searched for; a text keeps its own dashes
    return "\n".join(map(printable, format_value(value).split("\n")))


def _least_width(text: str) -> int:
    """Of the longest word, behind what its lines are indented by."""
    return _indent(text) + max(map(cell_len, text.split(" ")), default=0)


def _indent(text: str) -> int:
    return len(text) - len(text.lstrip(" "))


def _shrink(widths: list[int], least: Sequence[int], room: int) -> None:
    """Take from the widest column, a character at a time, until all fit or none can give."""
    while sum(widths) > room:
        able = [i for i, w in enumerate(widths) if w > least[i]]
        if not able:
            return
        widths[max(able, key=lambda i: widths[i])] -= 1


def _row(row: Sequence[str], widths: Sequence[int]) -> list[str]:
    """The lines of one row."""
    parts = [
        [line for text in cell.split("\n") for line in _wrap_cell(text, w)] for cell, w in zip(row, widths, strict=True)
    ]
    lines = []
    for i in range(max(map(len, parts))):
        texts = [part[i] if i < len(part) else "" for part in parts]
        padded = (text + " " * (w - cell_len(text)) for text, w in zip(texts, widths, strict=True))
        # a number and its unit had to stay together until the lines were broken; what is copied has ordinary spaces
        lines.append(f"{_INDENT}{_GAP.join(padded)}".rstrip().replace(NBSP, " "))
    return lines


def _wrap_cell(text: str, width: int) -> list[str]:
    if cell_len(text) <= width:
        return [text]
    indent = _indent(text)
    return [" " * indent + line for line in wrap(text.strip(" "), width=width - indent)]


def _record(heading: Sequence[str], row: Sequence[str], *, width: int) -> list[str]:
    """A row as lines of its own, under its first value."""
    first, *others = row
    lines = [_INDENT + line for line in wrap(first, width=width - len(_INDENT))]
    for name, value in zip(heading[1:], others, strict=True):
        told = wrap(f"{name}: {value}", width=width - 2 * len(_INDENT), indent=_INDENT)
        lines += [2 * _INDENT + line for line in told]
    return [line.rstrip().replace(NBSP, " ") for line in lines]
