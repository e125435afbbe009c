"""From `hwnas adapt` to the first verified int8 file of a network as somebody brings it: the commands, timed.

MobileNetV2 with ImageNet's weights at 224 px, photographs without labels, no training, a limit on latency. The
photographs are crops of the two that come with scikit-learn, so that everybody has them; what the network makes of them
is compared with itself alone. `_pretrained.py` says where the network comes from. Knows the commands and the documents
that they print, nothing else.
"""

from __future__ import annotations

import argparse
import json
import os
import tempfile
import time
from collections.abc import Sequence
from pathlib import Path
from typing import Any

from _common import ROOT, SMOKE, Benchmark, Figure, children_cpu_s, hwnas, script
from _photographs import as_files

from hwnas.errors import HwnasError

NETWORKS = ("mobilenet_v2", "lite0")
_SIDE = 224
_MOST_S = 180.0


def main(argv: Sequence[str] | None = None) -> int:
    """Run the program; returns its exit status."""
    parser = argparse.ArgumentParser(description=__doc__)
    parser.add_argument("--network", choices=NETWORKS, default=NETWORKS[0], help="of `_pretrained.py` (mobilenet_v2)")
    parser.add_argument("--share", type=float, default=0.8, help="latency at most, of the fp32 network's (0.8)")
    parser.add_argument("--photos", type=int, default=500, help="how many there are (500)")
    bench = Benchmark("adapt_first_file", parser, argv)
    options = bench.options
    # where the commands find the networks' functions
    os.environ["PYTHONPATH"] = os.pathsep.join(filter(None, [str(ROOT / "benchmarks"), os.environ.get("PYTHONPATH")]))
    with tempfile.TemporaryDirectory(prefix="hwnas-first-file-") as temporary:
        folder = Path(temporary)
        side = 16 if bench.smoke else _SIDE
        as_files(folder / "photos", 40 if bench.smoke else options.photos, side=side)
        network, more = _network(options.network, smoke=bench.smoke)
        began, cpu = time.monotonic(), children_cpu_s()
        adapted = _ran(
            *["adapt", *network, "--input", f"3x{side}x{side}", "--labels", "network", "--no-training"],
            *["--data", f"folder:{folder / 'photos'}?size={side}&classes=none", "--output", f"{folder / 'run'}", *more],
        )
        elastic, elastic_cpu = time.monotonic(), children_cpu_s()
        # a simulated device is no faster in int8
        share = 1.2 if bench.smoke else options.share
        result = _ran("run", f"{folder / 'run'}", "--limit", f"latency_fraction={share}")
        ended, ended_cpu = time.monotonic(), children_cpu_s()
    manifest = result["manifest"]
    figures = [
        Figure(name="adapt_s", value=round(elastic - began, 1)),
        Figure(name="run_s", value=round(ended - elastic, 1)),
        Figure(name="first_file_s", value=round(ended - began, 1), at_most=_MOST_S),
        Figure(name="adapt_cpu_s", value=round(elastic_cpu - cpu, 1)),
        Figure(name="first_file_cpu_s", value=round(ended_cpu - cpu, 1)),
        *(Figure(name=f"{stage}_s", value=round(s, 1)) for stage, s in result["seconds"].items()),
        Figure(name="agreement_percent", value=100 * manifest["accuracy"]["test_runtime"]),
        Figure(name="latency_ms", value=manifest["measured"]["latency_ms"]["fastest"]),
        Figure(name="latency_limit_ms", value=manifest["limits"]["latency_ms"]),
        Figure(name="size_bytes", value=manifest["artefact"]["size_bytes"]),
        Figure(name="same_class_as_torch_int8_percent", value=100 * manifest["parity"]["top1_agreement"]),
        Figure(name="error_over_torch_int8", value=manifest["parity"]["error_ratio"], at_most=1.25),
    ]
    return bench.publish(figures, details={"adapt": adapted, "manifest": manifest})


def _network(name: str, *, smoke: bool) -> tuple[list[str], list[str]]:
    """What of the command names the network, and what else is said."""
    if smoke:
        kept = {k: v for k, v in SMOKE.items() if k.partition(".")[0] in ("profile", "search", "deploy")}
        kept |= {"space.precisions": ["int8"], "model.elastic.residual": [1.0], "model.elastic.width": [0.5, 1.0]}
        changes = [f"--set={key}={json.dumps(value)}" for key, value in kept.items()]
        return ["python:_tiny_networks:ResNet8"], ["--device", "fake", *changes]
    import _pretrained

    return [f"python:_pretrained:{name}", "--weights", str(_pretrained.weights(name).resolve())], []


def _ran(*arguments: str) -> dict[str, Any]:
    """What a command prints.

    Raises:
        HwnasError: it failed.
    """
    status, result = hwnas(*arguments)
    if status:
        raise HwnasError(f"hwnas {arguments[0]} ended with status {status}; its messages are above")
    return result


if __name__ == "__main__":
    script(main)
