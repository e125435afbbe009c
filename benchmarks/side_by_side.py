"""Two checkouts side by side: the same benchmark programs in turns on one machine, their figures in one table.

    python benchmarks/side_by_side.py TREE --run "train_step.py --threads 1" --run "parity.py RUN" --folder runs/digits

What stands in TREE is called "there", this checkout "here". Each has its own environment (`.venv`) and runs its own
programs, so that what is compared is what a user of each would have seen. The word RUN in a command becomes a copy of
the folder of a run, one for each checkout: what it holds may be converted by whoever reads it.

Must never know what any program measures.
"""

from __future__ import annotations

import argparse
import json
import shlex
import shutil
import statistics
import subprocess
import sys
import tempfile
from collections.abc import Mapping, Sequence
from dataclasses import dataclass, field
from pathlib import Path
from typing import Any

from _common import ROOT, Benchmark, Figure, script

from hwnas.errors import ConfigError, HwnasError
from hwnas.results import Result, Shown

_SMOKE = ("house.py --smoke",)
Side = str  # "there" or "here"


def main(argv: Sequence[str] | None = None) -> int:
    """Run the program; returns its exit status."""
    parser = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    parser.add_argument("tree", type=Path, nargs="?", metavar="TREE", help="another checkout, with its own .venv")
    parser.add_argument("--run", action="append", metavar="COMMAND", help="a program and its options; may be repeated")
    parser.add_argument("--folder", type=Path, metavar="RUN_FOLDER", help="what RUN stands for in the commands")
    parser.add_argument("--rounds", type=int, default=1, help="of all commands, each once in each checkout (1)")
    bench = Benchmark("side_by_side", parser, argv)
    options = bench.options
    there = ROOT if bench.smoke and options.tree is None else options.tree
    commands = options.run or (list(_SMOKE) if bench.smoke else [])
    if there is None or not commands:
        raise ConfigError('name another checkout and what to run in both: TREE --run "train_step.py --threads 1"')
    theirs = Path(sys.executable) if there == ROOT else there.resolve() / ".venv" / "bin" / "python"
    trees = {"there": Tree(there.resolve(), theirs), "here": Tree(ROOT, Path(sys.executable))}
    rows: dict[tuple[str, str], Row] = {}
    with tempfile.TemporaryDirectory(prefix="hwnas-side-by-side-") as folder:
        copies = {side: Path(folder, side) for side in trees}
        if options.folder is not None:
            for copy in copies.values():
                shutil.copytree(options.folder, copy)
        for number in range(options.rounds):
            # there, here, here, there: a machine that slows down steadily favours neither
            for side in ("there", "here") if number % 2 == 0 else ("here", "there"):
                for command in commands:
                    bench.console.note(f"-- round {number + 1} of {options.rounds}, {side}: {command}")
                    found = trees[side].figures(command, run=copies[side])
                    for name, figure in found.items():
                        rows.setdefault((command, name), Row()).add(side, figure)
    bench.console.result(Compared(rows=rows))
    return bench.publish(
        [
            Figure(name="commands", value=len(commands)),
            Figure(name="figures", value=len(rows)),
            *(
                Figure(name=f"targets_missed_{side}", value=sum(r.missed(side) for r in rows.values()))
                for side in trees
            ),
        ],
        details={
            "commits": {side: tree.commit for side, tree in trees.items()},
            "commands": {c: {n: r.to_json() for (of, n), r in rows.items() if of == c} for c in commands},
        },
    )


class Tree:
    """A checkout whose programs are run.

    Args:
        root: of the repository.
        python: of the environment in which its packages are installed.

    Raises:
        ConfigError: it has no programs, or no environment.
    """

    def __init__(self, root: Path, python: Path) -> None:
        self.root, self._python = root, python
        for needed in (root / "benchmarks", python):
            if not needed.exists():
                raise ConfigError(f"there is no {needed}: name a checkout with an environment (`make` makes it there)")

    @property
    def commit(self) -> str:
        """That is checked out."""
        shown = ["git", "rev-parse", "--short", "HEAD"]
        return subprocess.run(shown, cwd=self.root, capture_output=True, text=True, check=True).stdout.strip()

    def figures(self, command: str, *, run: Path) -> dict[str, dict[str, Any]]:
        """What a program showed: figure -> its value, its target, and whether that was reached.

        Raises:
            HwnasError: it ended without a result; what it said is above.
        """
        program, *arguments = (str(run) if word == "RUN" else word for word in shlex.split(command))
        with tempfile.TemporaryDirectory(prefix="hwnas-side-") as results:
            line: list[str | Path] = [self._python, f"benchmarks/{program}", *arguments, "--results", results]
            # its table goes to the terminal, where both sides can be read; a target that it missed is no error here
            status = subprocess.run(line, cwd=self.root, check=False).returncode
            written = list(Path(results).glob("*.json"))
            if not written:
                raise HwnasError(f"{command} in {self.root} ended with status {status} and wrote no result")
            result = json.loads(written[0].read_text())
        seconds = {"value": result["seconds"], "target": "", "reached": None}
        return {**result["figures"], "program_took_s": seconds}


@dataclass(slots=True)
class Row:
    """One figure on both sides, over the rounds."""

    values: dict[Side, list[Any]] = field(default_factory=dict)
    reached: dict[Side, list[bool | None]] = field(default_factory=dict)
    target: str = ""

    def add(self, side: Side, figure: Mapping[str, Any]) -> None:
        """One more round of one side."""
        self.values.setdefault(side, []).append(figure["value"])
        self.reached.setdefault(side, []).append(figure["reached"])
        self.target = figure["target"] or self.target

    def missed(self, side: Side) -> int:
        """In how many rounds the target was."""
        return sum(reached is False for reached in self.reached.get(side, ()))

    def median(self, side: Side) -> Any:
        """Over the rounds; the first of values that are no numbers; None where the side has no such figure."""
        values = self.values.get(side, [])
        numbers = [v for v in values if isinstance(v, int | float) and not isinstance(v, bool)]
        return statistics.median(numbers) if numbers else next(iter(values), None)

    def to_json(self) -> dict[str, Any]:
        """All rounds."""
        return {"target": self.target, "values": self.values, "median": {s: self.median(s) for s in self.values}}


@dataclass(frozen=True, slots=True, kw_only=True)
class Compared(Result):
    """The table: every figure of every command, there and here."""

    rows: Mapping[tuple[str, str], Row]

    @property
    def shown(self) -> Shown:
        """A row for each figure; medians over the rounds."""
        found = []
        for (command, name), row in self.rows.items():
            there, here = row.median("there"), row.median("here")
            numbers = all(isinstance(v, int | float) for v in (there, here))
            ratio = here / there if numbers and there else None
            found.append((command.split()[0].removesuffix(".py"), name, row.target, there, here, ratio))
        columns = ["program", "figure", "target", "there", "here", "here / there"]
        return Shown(title="side by side", columns=columns, rows=found, notes=())


if __name__ == "__main__":
    script(main)
