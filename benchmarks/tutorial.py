"""The tutorial as its reader would do it: every command of `docs/tutorial.md` is run, and what it says put on the page.

Files that the page shows are written, commands behind a `$` are run in their order, and the output below each is
replaced. Of progress the last line stays; of a long text the page says how many lines were left out.
"""

from __future__ import annotations

import argparse
import os
import re
import subprocess
import sys
import tempfile
import time
from collections.abc import Sequence
from pathlib import Path
from shutil import copy

from _common import ROOT, Benchmark, Figure, script

from hwnas.errors import HwnasError

PAGE = ROOT / "docs" / "tutorial.md"
_FILE = re.compile(r"<!-- file: (?P<name>[\w.]+) -->\n```\w+\n(?P<text>.*?)```", re.DOTALL)
_CONSOLE = re.compile(r"```console\n(?P<text>.*?)```", re.DOTALL)
_PROGRESS = re.compile(r"^([\w ,-]+): \d+/\d+ \(")
_MOST_LINES, _COLUMNS = 48, 120
_N_PHOTOS = {"train": 10_000, "test": 2_000}


def main(argv: Sequence[str] | None = None) -> int:
    """Run the program; returns its exit status."""
    parser = argparse.ArgumentParser(description=__doc__)
    parser.add_argument("--data", type=Path, metavar="FILE", help="CIFAR-10 as npz: x_train, y_train, x_test, y_test")
    parser.add_argument("--weights", type=Path, metavar="FILE", help="of MLPerf Tiny's ResNet8 (safetensors)")
    parser.add_argument("--folder", type=Path, metavar="FOLDER", help="to work in; a temporary one if left out")
    parser.add_argument("--page", type=Path, default=PAGE, help="(docs/tutorial.md)")
    bench = Benchmark("tutorial", parser, argv)
    o = bench.options
    with tempfile.TemporaryDirectory(prefix="hwnas-tutorial-") as scratch:
        folder = o.folder or Path(scratch)
        folder.mkdir(parents=True, exist_ok=True)
        page = o.page.read_text("utf-8")
        for found in _FILE.finditer(page):
            (folder / found["name"]).write_text(found["text"], "utf-8")
        if bench.smoke:
            commands = [c for block in _CONSOLE.finditer(page) for c in commands_of(block["text"])]
            return bench.publish([Figure(name="commands", value=len(commands))])
        if o.data is None or o.weights is None:
            raise HwnasError("name --data and --weights, or try --smoke")
        write_photos(o.data, folder / "photos")
        copy(o.weights, folder / "resnet8.safetensors")
        seconds: list[float] = []
        page = _CONSOLE.sub(lambda block: f"```console\n{told(block['text'], folder, seconds)}```", page)
        o.page.write_text(page, "utf-8")
    return bench.publish([Figure(name="commands", value=len(seconds)), Figure(name="minutes", value=sum(seconds) / 60)])


def commands_of(block: str) -> list[str]:
    """What is typed in a block of a console."""
    return [line.removeprefix("$ ") for line in block.splitlines() if line.startswith("$ ")]


def told(block: str, folder: Path, seconds: list[float]) -> str:
    """A block of a console with what its commands say now.

    Args:
        block: commands behind `$ `, and an output of before.
        folder: to run them in.
        seconds: the time of each is added.

    Raises:
        HwnasError: a command fails.
    """
    text = ""
    bin_folder = Path(sys.executable).parent
    env = {**os.environ, "PATH": f"{bin_folder}{os.pathsep}{os.environ['PATH']}", "COLUMNS": str(_COLUMNS)}
    for command in commands_of(block):
        began = time.monotonic()
        done = subprocess.run(
            ["bash", "-c", command],
            cwd=folder,
            env=env,
            stdout=subprocess.PIPE,
            stderr=subprocess.STDOUT,
            text=True,
            check=False,
        )
        seconds.append(time.monotonic() - began)
        if done.returncode:
            raise HwnasError(f"`{command}` ended with status {done.returncode}: {done.stdout[-2000:]}")
        text += f"$ {command}\n" + "".join(f"{line}\n" for line in shown(done.stdout, folder))
    return text


def shown(output: str, folder: Path) -> list[str]:
    """The lines of an output as the page has them."""
    lines: list[str] = []
    for line in output.replace(f"{folder.resolve()}{os.sep}", "").splitlines():
        found = _PROGRESS.match(line)
        if found and lines and lines[-1].startswith(f"{found[1]}: "):
            lines.pop()
        lines.append(line.rstrip())
    if len(lines) <= _MOST_LINES:
        return lines
    head = _MOST_LINES // 4
    left_out = f"... {len(lines) - _MOST_LINES} more lines ..."
    return [*lines[:head], left_out, *lines[head - _MOST_LINES :]]


def write_photos(data: Path, folder: Path) -> None:
    """CIFAR-10 as a folder of parts, classes and PNG files."""
    import numpy as np
    from PIL import Image

    names = ["airplane", "automobile", "bird", "cat", "deer", "dog", "frog", "horse", "ship", "truck"]
    with np.load(data) as arrays:
        for part, n in _N_PHOTOS.items():
            numbers = dict.fromkeys(names, 0)
            for pixels, label in zip(arrays[f"x_{part}"][:n], arrays[f"y_{part}"][:n].tolist(), strict=True):
                name = names[label]
                path = folder / part / name / f"{numbers[name]}.png"
                path.parent.mkdir(parents=True, exist_ok=True)
                Image.fromarray(pixels).save(path)
                numbers[name] += 1


if __name__ == "__main__":
    script(main)
