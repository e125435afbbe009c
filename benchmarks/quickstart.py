"""The quick start, timed: `hwnas run` in an empty folder, from nothing to a verified deployment.

Of the supernet that ships, or with `--digits` of the digits, which are trained first. Knows the command and the
document it prints, nothing else.
"""

from __future__ import annotations

import argparse
import json
import tempfile
import time
from collections.abc import Sequence
from pathlib import Path

from _common import SMOKE, Benchmark, Figure, hwnas, script

from hwnas.errors import HwnasError


def main(argv: Sequence[str] | None = None) -> int:
    """Run the program; returns its exit status."""
    parser = argparse.ArgumentParser(description=__doc__)
    parser.add_argument("--digits", action="store_true", help="hwnas run --data digits")
    bench = Benchmark("quickstart", parser, argv)
    of_digits = bench.options.digits
    changes = ["--data", "digits"] if of_digits else []
    if bench.smoke:
        changes = [f"--set={key}={json.dumps(value)}" for key, value in SMOKE.items()]
    with tempfile.TemporaryDirectory(prefix="hwnas-quickstart-") as folder:
        began = time.monotonic()
        status, result = hwnas("run", *changes, cwd=Path(folder))
        seconds = time.monotonic() - began
    if status:
        raise HwnasError(f"hwnas run ended with status {status}; its messages are above")
    manifest = result["manifest"]
    accuracy, latency, gain = manifest["accuracy"], manifest["measured"]["latency_ms"], manifest.get("precision_gain")
    return bench.publish(
        [
            Figure(name="wall_time_s", value=round(seconds, 1), at_most=300 if of_digits else 120),
            Figure(
                name="test_accuracy_int8_percent",
                value=100 * accuracy["test_runtime"],
                at_least=97 if of_digits else None,
            ),
            Figure(name="test_accuracy_fp32_percent", value=100 * accuracy["test_fp32"]),
            Figure(name="test_images", value=accuracy["n_test"]),
            Figure(name="latency_ms", value=latency["fastest"], at_most=manifest["limits"]["latency_ms"]),
            Figure(name="top1_agreement_percent", value=100 * manifest["parity"]["top1_agreement"], at_least=99.5),
            Figure(
                name="speedup_of_int8", value=gain["speedup"] if gain else None, at_least=None if of_digits else 1.3
            ),
            Figure(name="size_bytes", value=manifest["artefact"]["size_bytes"]),
            Figure(name="candidates_rejected", value=len(manifest["rejected"])),
        ],
        details={"stage_seconds": result["seconds"], "manifest": manifest},
    )


if __name__ == "__main__":
    script(main)
