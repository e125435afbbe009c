"""What keeping freed memory saves where tensors are large: passes over images, and training steps, at 224 px.

The largest network of a preset with random weights, in a process of its own each time, with and without
`hwnas.torch_process.keep_freed_memory`, in turns: processor time, and the most memory. Knows networks and processes;
never files or devices.
"""

from __future__ import annotations

import argparse
import json
import statistics
import subprocess
import sys
from collections.abc import Sequence
from typing import Any

from _common import Benchmark, Figure, script

_PROGRAM = """
import json, resource, sys, time
import numpy as np, torch
from hwnas.named_spaces import make_space
from hwnas.supernet.untrained import random_network
from hwnas.torch_process import keep_freed_memory

preset, train, kept, batch, passes = json.loads(sys.argv[1])
torch.set_num_threads(1)
if kept:
    keep_freed_memory()
space = make_space(preset, style={}, in_channels=3, n_classes=10)
network = random_network([b for _, b in space.named_blocks(space.largest())], np.random.default_rng(0)).train(train)
x = torch.randn(batch, *network.in_shape).contiguous(memory_format=torch.channels_last)
network.to(memory_format=torch.channels_last)
for i in range(passes + 1):
    if i == 1:  # the first one makes what is kept
        began = time.process_time()
    with torch.set_grad_enabled(train):
        y = network(x)
    if train:
        y.square().mean().backward()
seconds = (time.process_time() - began) / (passes * batch)
print(json.dumps({"ms": 1000 * seconds, "peak_mb": resource.getrusage(resource.RUSAGE_SELF).ru_maxrss / 1024}))
"""


def main(argv: Sequence[str] | None = None) -> int:
    """Run the program; returns its exit status."""
    parser = argparse.ArgumentParser(description=__doc__)
    parser.add_argument("--space", default="mobilenet-v3-large", help="a preset, see `hwnas spaces`")
    parser.add_argument("--batch", type=int, default=32, help="images (32)")
    parser.add_argument("--passes", type=int, default=4, help="timed in a process (4)")
    parser.add_argument("--turns", type=int, default=3, help="processes of each kind (3)")
    bench = Benchmark("pass_time", parser, argv)
    options = bench.options
    space = "test-tiny" if bench.smoke else options.space
    turns, passes = (1, 1) if bench.smoke else (options.turns, options.passes)
    figures, details = [], {}
    for train in (False,) if bench.smoke else (False, True):
        found: dict[bool, list[dict[str, float]]] = {False: [], True: []}
        for _ in range(turns):
            for kept, rows in found.items():
                rows.append(_process([space, train, kept, options.batch, passes]))
        name = "training" if train else "evaluation"
        details[name] = {"kept": found[True], "as_it_is": found[False]}
        for key, unit in (("ms", "cpu_ms_per_image"), ("peak_mb", "peak_mb")):
            kept, plain = (statistics.median(row[key] for row in found[k]) for k in (True, False))
            figures += [
                Figure(name=f"{name}_{unit}", value=plain),
                Figure(name=f"{name}_{unit}_kept", value=kept),
                Figure(name=f"{name}_{unit}_ratio", value=kept / plain),
            ]
    return bench.publish(figures, details=details)


def _process(settings: list[Any]) -> dict[str, float]:
    command = [sys.executable, "-c", _PROGRAM, json.dumps(settings)]
    done = subprocess.run(command, stdout=subprocess.PIPE, text=True, check=True)
    result: dict[str, float] = json.loads(done.stdout)
    return result


if __name__ == "__main__":
    script(main)
