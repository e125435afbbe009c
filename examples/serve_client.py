"""Budgets asked over HTTP: a server is started for a finished run, asked, and stopped.

    python examples/serve_client.py [RUN] [--output FOLDER] [--tiny]

It needs `pip install 'hwnas[serve]'`. RUN is the folder of any finished run. Without one a run is made first: a
supernet that ships is profiled and searched on this machine's processor, which takes a minute or two; with --tiny a
tiny one on a simulated device, in seconds. Then it prints where the server listens, the best network within the middle
of the known latencies, and what the server answers to a budget that no network keeps.
"""

from __future__ import annotations

import argparse
import json
import re
import signal
import subprocess
import sys
import urllib.error
import urllib.request
from collections.abc import Iterator, Sequence
from contextlib import contextmanager
from pathlib import Path
from typing import Any

TINY = ["space.preset=test-tiny", "space.resolutions=[8]", "device.name=fake", "train.steps=4", "search.n_trials=8"]
TINY += ["profile.n_networks=4", "limits.latency_fraction=1.2", "deploy.test_samples=50"]
TINY += ["deploy.torch_program=false", "deploy.finetune_steps=1"]
HWNAS = (sys.executable, "-m", "hwnas")


@contextmanager
def served(run: Path) -> Iterator[str]:
    """The address of a server for a run, on a port that is free; it is stopped as Ctrl-C stops it."""
    with subprocess.Popen([*HWNAS, "serve", run, "--port=0"], stderr=subprocess.PIPE, text=True) as server:
        try:
            # what it says goes on to the terminal, up to the line that tells the address
            for line in server.stderr or ():
                print(line, end="", file=sys.stderr)
                if told := re.search(r"serving on (http://\S+)", line):
                    yield told[1]
                    return
            raise SystemExit("the server did not start")
        finally:
            server.send_signal(signal.SIGINT)


def ask(address: str, question: dict[str, Any] | None = None) -> dict[str, Any]:
    """What the server answers, or the error with which it refuses, which is JSON likewise."""
    body = None if question is None else json.dumps(question).encode()
    request = urllib.request.Request(address, data=body, headers={"Content-Type": "application/json"})
    try:
        with urllib.request.urlopen(request) as response:
            answer: dict[str, Any] = json.load(response)
    except urllib.error.HTTPError as e:
        answer = json.load(e)
    return answer


def main(argv: Sequence[str] | None = None) -> None:
    parser = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    parser.add_argument("run", nargs="?", type=Path, metavar="RUN")
    parser.add_argument("--output", type=Path, default="runs/serve-client", metavar="FOLDER")
    parser.add_argument("--tiny", action="store_true")
    options = parser.parse_args(argv)
    if options.run is None:
        settings = [f"--set={each}" for each in TINY] if options.tiny else []
        subprocess.run([*HWNAS, "run", f"--output={options.output}", *settings], check=True)

    with served(options.run or options.output) as address:
        print(f"serving on {address}")
        device = ask(f"{address}api/run")["devices"][0]
        (latency,) = (m for m in device["metrics"] if m["metric"] == "latency_ms")
        print(f"{device['name']}: {device['evaluated']} networks, {latency['min_text']} to {latency['max_text']}")

        budget = (latency["min"] + latency["max"]) / 2
        (best,) = ask(f"{address}api/query", {"device": device["name"], "limits": {"latency_ms": budget}})["answers"]
        texts = best["texts"]
        print(f"within {budget:.4f} ms: {best['label']}; at most {texts['latency_ms']['upper']}. {best['why']}")

        refused = ask(f"{address}api/query", {"device": device["name"], "limits": {"latency_ms": latency["min"] / 2}})
        print(f"within {latency['min'] / 2:.4f} ms: {refused['error']['message']}")
    print("stopped")


if __name__ == "__main__":
    main()
