"""The quick start as a picture that moves: `hwnas run` in an empty folder, what it says and when, as an animated SVG.

What is shown is what the command wrote, line by line; progress replaces the line before it, as on a terminal. The time
runs faster than it did, at one speed; how long it really took stands below. No script is in the file, and whoever asks
the browser for less motion sees the end.
"""

from __future__ import annotations

import argparse
import re
import subprocess
import sys
import tempfile
import textwrap
import time
from collections.abc import Sequence
from dataclasses import dataclass
from html import escape
from pathlib import Path

from _common import ROOT, Benchmark, Figure, script

from hwnas.errors import HwnasError
from hwnas.report.palette import DARK

PICTURE = ROOT / "docs" / "images" / "quickstart.svg"
_COLUMNS, _ROWS = 96, 28
_LINE, _LETTER, _MARGIN = 17.0, 7.8, 14.0  # pixels
_PLAYS_S, _HOLDS_S = 16.0, 8.0  # how long the whole takes on the page, and how long its end stays
_FONT = 'ui-monospace, "DejaVu Sans Mono", Menlo, Consolas, monospace'
_PROGRESS = re.compile(r"^([\w ,-]+): \d+/\d+ \(")


@dataclass(frozen=True, kw_only=True)
class Line:
    """What stands in a row from a moment on.

    Attributes:
        at_s: seconds after the command began.
        row: from 0, of the whole output.
        text: of the line.
    """

    at_s: float
    row: int
    text: str


def main(argv: Sequence[str] | None = None) -> int:
    """Run the program; returns its exit status."""
    parser = argparse.ArgumentParser(description=__doc__)
    parser.add_argument("--picture", type=Path, metavar="FILE", default=PICTURE, help="(docs/images/quickstart.svg)")
    bench = Benchmark("draw_quickstart", parser, argv)
    with tempfile.TemporaryDirectory(prefix="hwnas-draw-quickstart-") as folder:
        command = ["spaces"] if bench.smoke else ["run"]
        lines, seconds = listened(command, Path(folder))
        picture = Path(folder, "picture.svg") if bench.smoke else bench.options.picture
        picture.parent.mkdir(parents=True, exist_ok=True)
        picture.write_text(drawn(lines, seconds, command=" ".join(["hwnas", *command])), "utf-8")
        size = picture.stat().st_size
    return bench.publish([Figure(name="seconds", value=round(seconds, 1)), Figure(name="kilobytes", value=size / 1e3)])


def listened(command: Sequence[str], folder: Path) -> tuple[list[Line], float]:
    """What a command of hwnas writes and when, and how long it takes.

    Raises:
        HwnasError: it fails.
    """
    began = time.monotonic()
    lines: list[Line] = []
    row, doing = 0, ""
    with subprocess.Popen(
        [sys.executable, "-u", "-m", "hwnas", *command],
        cwd=folder,
        stdout=subprocess.PIPE,
        stderr=subprocess.STDOUT,
        text=True,
        encoding="utf-8",
    ) as process:
        assert process.stdout is not None
        for text in process.stdout:
            at_s = time.monotonic() - began
            found = _PROGRESS.match(text)
            if found and found[1] == doing:
                row -= 1
            doing = found[1] if found else ""
            for part in textwrap.wrap(text.rstrip(), _COLUMNS, drop_whitespace=False, subsequent_indent="  ") or [""]:
                lines.append(Line(at_s=at_s, row=row, text=part))
                row += 1
    if process.returncode:
        raise HwnasError(f"hwnas {' '.join(command)} ended with status {process.returncode}")
    return lines, time.monotonic() - began


def drawn(lines: Sequence[Line], seconds: float, *, command: str) -> str:
    """The SVG.

    Args:
        lines: in the order they were written.
        seconds: the command took.
        command: shown on the first row.
    """
    whole = _PLAYS_S + _HOLDS_S
    width, height = 2 * _MARGIN + _COLUMNS * _LETTER, 2 * _MARGIN + (_ROWS + 1) * _LINE
    begins = [_PLAYS_S * line.at_s / seconds / whole for line in lines]  # share of the animation
    styles, texts = [], [_text(0, f"$ {command}", "prompt")]
    for i, (line, begin) in enumerate(zip(lines, begins, strict=True)):
        ends = next((b for other, b in zip(lines[i + 1 :], begins[i + 1 :], strict=True) if other.row == line.row), 1.0)
        if ends == begin:
            continue  # replaced at once
        styles.append(_shown(i, begin, ends))
        texts.append(_text(line.row + 1, line.text, f"l l{i}" if ends == 1.0 else f"l past l{i}"))
    scrolled = _scrolled(lines, begins)
    took = f"{seconds:.0f} seconds, shown in {_PLAYS_S:.0f}"
    label = f'role="img" aria-label="{escape(command)}: {took}"'
    return f"""<svg xmlns="http://www.w3.org/2000/svg" viewBox="0 0 {width:.0f} {height:.0f}" {label}>
<style>
text {{ font: 13px {_FONT}; fill: {DARK["ink"]}; white-space: pre; }}
.prompt {{ fill: {DARK["good"]}; }} .took {{ fill: {DARK["muted"]}; }} .past {{ opacity: 0; }}
.all {{ transform: translateY(-{_offset(lines[-1].row):.0f}px); }}
@media (prefers-reduced-motion: no-preference) {{
.l {{ opacity: 0; animation: {whole:.0f}s step-end infinite; }} .all {{ animation: s {whole:.0f}s step-end infinite; }}
{scrolled}
{"".join(styles)}}}
</style>
<rect width="100%" height="100%" rx="8" fill="{DARK["background"]}"/>
<svg x="{_MARGIN}" y="{_MARGIN}" width="{_COLUMNS * _LETTER:.0f}" height="{_ROWS * _LINE:.0f}"><g class="all">
{"".join(texts)}</g></svg>
<text class="took" x="{_MARGIN}" y="{height - _MARGIN:.0f}">{took}</text>
</svg>
"""


def _text(row: int, text: str, names: str) -> str:
    return f'<text class="{names}" x="0" y="{(row + 0.75) * _LINE:.0f}">{escape(text)}</text>\n' if text else ""


def _shown(i: int, begin: float, end: float) -> str:
    hidden = f"{100 * end:.2f}%{{opacity:0}}" if end < 1 else ""
    return f".l{i}{{animation-name:k{i}}}@keyframes k{i}{{0%{{opacity:0}}{100 * begin:.2f}%{{opacity:1}}{hidden}}}\n"


def _offset(row: int) -> float:
    """How far the text has gone up when a row is the last one."""
    return max(0, row + 2 - _ROWS) * _LINE


def _scrolled(lines: Sequence[Line], begins: Sequence[float]) -> str:
    last, frames = -1.0, []
    for line, begin in zip(lines, begins, strict=True):
        if (offset := _offset(line.row)) > last:
            frames.append(f"{100 * begin:.2f}%{{transform:translateY(-{offset:.0f}px)}}")
            last = offset
    return f"@keyframes s{{{''.join(frames)}}}"


if __name__ == "__main__":
    script(main)
