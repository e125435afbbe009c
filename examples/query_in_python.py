"""Budgets asked in Python: the best network of a finished run within each of several latencies.

    python examples/query_in_python.py [RUN] [--output FOLDER] [--tiny]

RUN is the folder of any finished run. Without one a run is made first: a supernet that ships is profiled and searched
on this machine's processor, which takes a minute or two; with --tiny a tiny one on a simulated device, in seconds. The
answers themselves take milliseconds: nothing is trained, evaluated or measured for them. It prints a table with a row
for each budget: accuracy, latency, size and trial of the best network within it; then the last network's choices.
"""

from __future__ import annotations

import argparse
import subprocess
import sys
from collections.abc import Sequence
from pathlib import Path

import numpy as np

from hwnas.config import load_config
from hwnas.errors import InfeasibleError
from hwnas.query import query
from hwnas.search import Study, load_study
from hwnas.workspace import Workspace

TINY = ["space.preset=test-tiny", "space.resolutions=[8]", "device.name=fake", "train.steps=4", "search.n_trials=8"]
TINY += ["profile.n_networks=4", "limits.latency_fraction=1.2", "deploy.test_samples=50"]
TINY += ["deploy.torch_program=false", "deploy.finetune_steps=1"]


def print_answers(study: Study) -> None:
    """A row for each budget: one that no network keeps, and five up to the slowest network's."""
    latencies, metric = study.upper["latency_ms"], study.ranked_by
    print(f"{'within':>11}  {metric:>16}  {'at most':>11}  {'size':>9}  trial")
    for budget in (0.9 * latencies.min(), *np.linspace(latencies.min(), latencies.max(), 5)):
        try:
            (best,) = query(study, limits={"latency_ms": budget})
        except InfeasibleError as e:
            print(f"{budget:8.4f} ms  {e}")
            continue
        value = f"{best.values[metric]:.1%} ± {best.standard_errors[metric]:.1%}"
        size = f"{best.values['size_bytes'] / 1000:.1f} kB"
        print(f"{budget:8.4f} ms  {value:>16}  {best.upper['latency_ms']:8.4f} ms  {size:>9}  {best.number:>5}")
    print("\nthe last one:", *(f"  {choice} = {option}" for choice, option in best.architecture.items()), sep="\n")


def main(argv: Sequence[str] | None = None) -> None:
    parser = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    parser.add_argument("run", nargs="?", type=Path, metavar="RUN")
    parser.add_argument("--output", type=Path, default="runs/query-in-python", metavar="FOLDER")
    parser.add_argument("--tiny", action="store_true")
    options = parser.parse_args(argv)
    if options.run is None:
        settings = [f"--set={each}" for each in TINY] if options.tiny else []
        subprocess.run([sys.executable, "-m", "hwnas", "run", f"--output={options.output}", *settings], check=True)
    # the study is what the last search of the run evaluated
    print_answers(load_study(Workspace(load_config(options.run or options.output)).study))


if __name__ == "__main__":
    main()
