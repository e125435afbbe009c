"""A training that is killed with -9 again and again ends with the bits of one that nobody disturbed.

The digits, for integers as well from step 30 of 100 on, by a strategy that learns on the way; checkpoints are written
all the time, so that kills also come while one is written. Each part is a process of its own, killed at some moment.
"""

from __future__ import annotations

import argparse
import itertools
import random
import subprocess
import sys
import tempfile
import time
from collections.abc import Sequence
from pathlib import Path

from _common import SMOKE, Benchmark, Figure, script

from hwnas.config import Config

_RECIPE: dict[str, object] = {
    "data.source": "digits",
    "space.resolutions": [16],
    "train.steps": 100,
    "train.batch_size": 32,
    "train.strategy": "best-up",
    "train.quantized_fraction": 0.7,  # from step 30 on, which a third of the parts come to
    "train.threads": 1,
    "train.checkpoint_every_s": 0.01,
}


def main(argv: Sequence[str] | None = None) -> int:
    """Run the program; returns its exit status."""
    parser = argparse.ArgumentParser(description=__doc__)
    parser.add_argument("--kills", type=int, default=20, help="how often it is killed (20)")
    parser.add_argument("--seed", type=int, default=0, help="of the moments (0)")
    bench = Benchmark("train_kills", parser, argv)
    kills = 1 if bench.smoke else bench.options.kills
    recipe = {**SMOKE, "train.quantized_fraction": 0.5, "space.precisions": None} if bench.smoke else _RECIPE
    rng = random.Random(bench.options.seed)
    with tempfile.TemporaryDirectory(prefix="hwnas-train-kills-") as scratch:
        whole, parts = (Config().replaced({**recipe, "output.folder": f"{scratch}/{n}"}) for n in ("whole", "parts"))
        begun = time.monotonic()
        _start(whole).wait()
        undisturbed = time.monotonic() - begun
        steps, while_written = [], 0
        with bench.console.progress("kills") as progress:
            for i in range(kills):
                before = _step(parts)
                process = _start(parts)
                # when it has come further, after a random while: a process needs seconds before its first step
                while process.poll() is None and _step(parts) <= before:
                    time.sleep(0.01)
                time.sleep(rng.uniform(0.0, 0.6))
                process.kill()
                process.wait()
                steps.append(_step(parts))
                while_written += any(Path(parts.output.folder).glob("*.new")) or any(
                    Path(parts.output.folder).glob(".*.tmp*")
                )
                progress(i + 1, kills, f"step {steps[-1]}")
        end = _start(parts).wait()
        different = _different(whole, parts)
        goes_on = sum(b > a for a, b in itertools.pairwise(steps))
    figures = [
        Figure(name="kills", value=kills),
        Figure(name="parts_that_came_further", value=goes_on),
        Figure(name="killed_while_a_file_was_written", value=while_written),
        Figure(name="exit_status_of_the_last_part", value=end, at_most=0),
        Figure(name="different_tensors", value=different, at_most=0),
        Figure(name="undisturbed_s", value=undisturbed),
    ]
    return bench.publish(
        figures, details={"step_at_each_kill": steps, "configuration": Config().replaced(recipe).to_toml()}
    )


def _start(config: Config) -> subprocess.Popen[bytes]:
    folder = Path(config.output.folder)
    file = folder.with_suffix(".toml")
    if not file.exists():
        file.write_text(config.to_toml())
    command = [sys.executable, "-c", "from hwnas.cli import main; main()", "train", str(file)]
    return subprocess.Popen(command, stdout=subprocess.DEVNULL, stderr=subprocess.DEVNULL)


def _step(config: Config) -> int:
    """Of the newest checkpoint; 0 before the first."""
    import json
    import struct

    try:
        with open(Path(config.output.folder, "checkpoint.safetensors"), "rb") as file:
            (n,) = struct.unpack("<Q", file.read(8))
            meta = json.loads(file.read(n))["__metadata__"]["hwnas"]
    except FileNotFoundError:
        return 0
    found: int = json.loads(meta)["step"]
    return found


def _different(whole: Config, parts: Config) -> int:
    """Tensors of the two checkpoints that are not the same bits, and those that only one has."""
    import torch

    from hwnas.supernet.checkpoint import load_checkpoint

    a, b = (load_checkpoint(Path(c.output.folder, "checkpoint.safetensors")).tensors for c in (whole, parts))
    return len(a.keys() ^ b.keys()) + sum(not torch.equal(a[k], b[k]) for k in a.keys() & b.keys())


if __name__ == "__main__":
    script(main)
