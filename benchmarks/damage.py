"""Damage files of a finished run, one at a time, and see that whoever reads them notices.

A tiny run for two budgets is made on the simulated device. Then one of its files after the other is damaged in one of
eleven ways (a flipped bit, another byte, another digit, a cut, a block of NUL bytes, a line lost, doubled or swapped,
emptied, gone, garbage at its end) and read by the functions that the commands read it with. What follows is one of

    refused     an error of hwnas that says what to do
    told        read as it was before, or what is left is true, and the user is told or the rest is made again
    harmless    what is read equals what was written
    SILENT      something else is read and nobody is told
    TRACEBACK   an exception that is not hwnas's
    UNHELPFUL   an error that does not say what to do
    LOST        something that the damage did not touch is gone

With `--commands N` the whole command is run, as a process, on N damaged copies.
"""

from __future__ import annotations

import argparse
import json
import random
import re
import subprocess
import sys
import tempfile
import time
import traceback
from collections import Counter
from collections.abc import Iterator, Sequence
from contextlib import contextmanager
from pathlib import Path
from typing import Any

from _common import SMOKE, Benchmark, Figure, script
from _damages import DAMAGES, GONE, flip_bit
from _readers import KINDS, Kind, LostError, Readers, Run

from hwnas._console import Console
from hwnas.errors import HwnasError

GOOD, BAD = ("refused", "told", "harmless"), ("SILENT", "TRACEBACK", "UNHELPFUL", "LOST")
_WHAT_TO_DO = re.compile(
    r"hwnas|delete|restore|export the network again|make (it|them) again|same command again|name an"
)
_LIMIT_S = 300.0  # of a command


def make_run(folder: Path, *, precisions: Sequence[str]) -> Run:
    """A run for two budgets, with an audit beside its tables, on a simulated device of some precisions."""
    from hwnas import fleet
    from hwnas.audit.auditing import audit
    from hwnas.config import Config
    from hwnas.testing.run import describe_fake_device

    device = describe_fake_device(folder.with_name("devices"), precisions=precisions)
    changes = {
        **SMOKE,
        "device.name": device,
        "space.precisions": precisions,
        "limits.latency_fraction": None,
        "budgets": [{"latency_fraction": 1.2}, {"latency_fraction": 1.5}],
        "train.checkpoint_every_s": 0.001,
        "output.folder": str(folder),
    }
    config = Config().replaced(changes)
    fleet.run_all(config, console=Console())
    # of the kinds of block of the run's space alone: a damage does not care how many a file tells of
    audit(
        device,
        space=str(SMOKE["space.preset"]),
        output=str(folder / "latency_tables" / "fake" / "audit"),
        console=Console(),
    )
    return Run(folder)


@contextmanager
def damaged(run: Run, name: Path, how: str, rng: random.Random) -> Iterator[Path]:
    """The run with one file damaged, put right afterwards."""
    path = run.folder / name
    try:
        if how == GONE:
            path.unlink()
        else:
            whole = run.files[name]
            damage = next(d for d in DAMAGES if d.__name__ == how)
            data = next((d for _ in range(100) if (d := damage(whole, rng)) != whole), flip_bit(whole, rng))
            path.write_bytes(data)
        yield path
    finally:
        run.restore()


def judge(readers: Readers, kind: Kind, path: Path, before: Any) -> tuple[str, str]:
    """What follows of the damage, and the words that go with it."""
    try:
        found, told = kind.read(readers, path)
    except HwnasError as e:
        said = str(e)
        return ("refused" if _WHAT_TO_DO.search(said) else "UNHELPFUL"), said
    except LostError as e:
        return "LOST", str(e)
    except Exception:  # noqa: BLE001  that is what is looked for
        return "TRACEBACK", traceback.format_exc()
    if found == before:
        return "harmless", "; ".join(told)
    if told or (kind.partial is not None and kind.partial(found, before)):
        return "told", "; ".join(told)
    return "SILENT", ""


def try_all(run: Run, n: int, *, rng: random.Random) -> list[dict[str, str]]:
    """Damage a file n times, every kind in turn, every way in turn."""
    readers = Readers(run)
    ways = [*(d.__name__ for d in DAMAGES), GONE]
    kinds = [(k, files) for k in KINDS if (files := run.matching(k.pattern))]
    before = {}
    for kind, files in kinds:
        for name in files:
            before[name] = kind.read(readers, run.folder / name)[0]
            run.restore()
    found = []
    for i in range(n):
        kind, files = kinds[i % len(kinds)]
        name, how = rng.choice(files), ways[(i // len(kinds)) % len(ways)]
        with damaged(run, name, how, rng) as path:
            outcome, said = judge(readers, kind, path, before[name])
        found.append({"kind": kind.name, "file": str(name), "damage": how, "outcome": outcome, "said": said})
    return found


# ---------------------------------------------------------------- whole commands


def command_of(kind: Kind, run: Run, name: Path) -> list[str]:
    """A command that reads such a file."""
    if "deployments" in name.parts:
        return ["verify", str(run.folder / name.parent)]
    return ["run", str(run.folder)]


def try_commands(run: Run, n: int, *, rng: random.Random) -> list[dict[str, str]]:
    """Run the whole command, as a process, on n damaged copies: it ends well, or in one line with what to do."""
    kinds = [(k, files) for k in KINDS if (files := run.matching(k.pattern))]
    found = []
    for kind, files in rng.sample(kinds, min(n, len(kinds))):
        name, how = rng.choice(files), rng.choice(DAMAGES[:-2]).__name__
        with damaged(run, name, how, rng):
            program = [sys.executable, "-c", "from hwnas.cli import main; main()", *command_of(kind, run, name)]
            done = subprocess.run(program, capture_output=True, text=True, check=False, timeout=_LIMIT_S)
        said = done.stderr.strip().splitlines()
        last = said[-1] if said else ""
        outcome = "told" if done.returncode == 0 else "refused" if done.returncode in (1, 2) else "UNHELPFUL"
        if outcome == "refused" and not _WHAT_TO_DO.search(done.stderr):
            outcome = "UNHELPFUL"
        if "Traceback" in done.stderr:
            outcome, last = "TRACEBACK", done.stderr
        found.append({"kind": kind.name, "file": str(name), "damage": how, "outcome": outcome, "said": last})
    return found


def main(argv: Sequence[str] | None = None) -> int:
    """Make a run, damage it, and count what follows."""
    parser = argparse.ArgumentParser(description=(__doc__ or "").partition("\n")[0])
    parser.add_argument("--damages", type=int, default=1000, help="how many (1000)")
    parser.add_argument("--commands", type=int, default=8, help="how many whole commands (8)")
    parser.add_argument("--seed", type=int, default=0)
    bench = Benchmark("damage", parser, argv)
    n, n_commands = (20, 0) if bench.smoke else (bench.options.damages, bench.options.commands)
    rng = random.Random(bench.options.seed)
    with tempfile.TemporaryDirectory(prefix="hwnas-damage-") as scratch:
        # a kind of file is the same in one precision and in two
        run = make_run(Path(scratch, "run"), precisions=["fp32"] if bench.smoke else ["fp32", "int8"])
        began = time.monotonic()
        found = try_all(run, n, rng=rng)
        seconds = time.monotonic() - began
        commands = try_commands(run, n_commands, rng=rng)
    count = Counter(f["outcome"] for f in found)
    of_commands = Counter(f["outcome"] for f in commands)
    wrong = [f for f in [*found, *commands] if f["outcome"] in BAD]
    for f in wrong[:20]:
        bench.console.warn(f"{f['outcome']}: {f['file']}, {f['damage']}: {f['said']}")
    kinds = {k.name: dict(Counter(f["outcome"] for f in found if f["kind"] == k.name)) for k in KINDS}
    return bench.publish(
        [
            Figure(name="damages", value=len(found), at_least=n),
            *(Figure(name=outcome, value=count[outcome]) for outcome in GOOD),
            *(Figure(name=outcome.lower(), value=count[outcome], at_most=0) for outcome in BAD),
            Figure(name="commands", value=len(commands)),
            Figure(name="commands_that_ended_badly", value=sum(of_commands[o] for o in BAD), at_most=0),
            Figure(name="seconds_of_damages", value=round(seconds, 1)),
        ],
        details={
            "by_kind": kinds,
            "by_damage": {
                w: dict(Counter(f["outcome"] for f in found if f["damage"] == w))
                for w in sorted({f["damage"] for f in found})
            },
            "wrong": json.loads(json.dumps(wrong)),
            "commands": commands,
            "examples": {
                k.name: next((f["said"] for f in found if f["kind"] == k.name and f["said"]), "") for k in KINDS
            },
        },
    )


if __name__ == "__main__":
    script(main)
