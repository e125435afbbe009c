"""Budgets kept: random reachable latency limits, a deployment for each, each measured again in a fresh process.

Knows the pipeline's `export`, the command `hwnas verify`, and manifests; nothing below them.
"""

from __future__ import annotations

import argparse
from collections.abc import Sequence
from pathlib import Path
from typing import Any

from _common import Benchmark, Figure, borrowed_run, hwnas, run_folder, script, spread

from hwnas._console import Console
from hwnas.config import Config
from hwnas.errors import InfeasibleError, VerificationError


def main(argv: Sequence[str] | None = None) -> int:
    """Run the program; returns its exit status."""
    parser = argparse.ArgumentParser(description=__doc__)
    parser.add_argument("run", type=Path, nargs="?", metavar="RUN_FOLDER", help="of a run with a finished search")
    parser.add_argument("--device", action="append", help="of the run; all if left out; may be repeated")
    parser.add_argument("--budgets", type=int, default=20, help="how many for each device (20)")
    parser.add_argument("--seed", type=int, default=0, help="of the budgets and of the order of verification (0)")
    parser.add_argument("--candidates", type=int, default=10, help="networks tried at most for each (10)")
    parser.add_argument("--test-samples", type=int, default=2000, help="test images run for each (2000)")
    bench = Benchmark("budgets", parser, argv)
    n = 2 if bench.smoke else bench.options.budgets
    rows: list[dict[str, Any]] = []
    with run_folder(bench.options.run, smoke=bench.smoke) as folder, borrowed_run(folder) as borrowed:
        # nobody goes on in torch with what is thrown away
        changes = {"finetune_steps": 0, "candidates": bench.options.candidates, "torch_program": False}
        changes["test_samples"] = 50 if bench.smoke else bench.options.test_samples
        config = borrowed.replaced({f"deploy.{key}": value for key, value in changes.items()})
        # all are made before the first is verified, so that time passes between the two measurements
        for device in bench.options.device or config.device.all:
            for budget in random_budgets(config.part(device), n, seed=bench.options.seed):
                rows.append(deploy(config, device, budget, console=bench.console))
        verify_again(rows, seed=bench.options.seed)
    return bench.publish(_figures(rows), details={"deployments": rows})


def random_budgets(config: Config, n: int, *, seed: int) -> list[float]:
    """Latency limits in milliseconds, uniform between the smallest and largest upper bound among the study's trials."""
    import numpy as np

    from hwnas.search import load_study
    from hwnas.workspace import Workspace

    upper = load_study(Workspace(config).study).upper["latency_ms"]
    rng = np.random.default_rng(seed)
    return [float(x) for x in rng.uniform(np.nanmin(upper), np.nanmax(upper), size=n)]


def deploy(config: Config, device: str, budget: float, *, console: Console) -> dict[str, Any]:
    """Export for one budget; what was promised and measured, or why nothing was."""
    from hwnas import pipeline

    console.note(f"-- {device}, budget {budget:.4f} ms")
    row: dict[str, Any] = {"device": device, "budget_ms": budget, "kept": False}
    try:
        result = pipeline.export(config.part(device, {"latency_ms": budget}), console=console).to_json()
    except (InfeasibleError, VerificationError) as e:
        return {**row, "refused": str(e)}
    manifest = result["manifest"]
    latency, predicted = manifest["measured"]["latency_ms"], manifest["predicted"]
    return {
        **row,
        "deployment": result["deployment"],
        "trial": manifest["provenance"]["trial"],
        "predicted_ms": predicted["latency_ms"],
        "predicted_upper_ms": predicted.get("latency_ms_upper", predicted["latency_ms"]),
        "exported_ms": latency["fastest"],
        "exported_raw_ms": latency["median"] * latency["drift"],
        "test_accuracy": manifest["accuracy"]["test_runtime"],
        "rejected": manifest["rejected"],
    }


def verify_again(rows: Sequence[dict[str, Any]], *, seed: int) -> None:
    """Measure every deployment in a process of its own, in random order; adds what was found to the rows."""
    import numpy as np

    for i in np.random.default_rng([seed, 1]).permutation(len(rows)):
        row = rows[int(i)]
        if "deployment" not in row:
            continue
        status, found = hwnas("verify", row.pop("deployment"))
        row["kept"] = status == 0
        if status:
            row["failure"] = found.get("error", {}).get("message", f"exit status {status}")
            continue
        latency = found["latency_ms"]
        row |= {"verified_ms": latency["fastest"], "verified_raw_ms": latency["median"] * latency["drift"]}
        row |= {"drift": latency["drift"], "margin_percent": 100 * (1 - latency["fastest"] / row["budget_ms"])}


def _figures(rows: Sequence[dict[str, Any]]) -> list[Figure]:
    kept = [row for row in rows if row["kept"]]
    figures = [
        Figure(name="budgets", value=len(rows)),
        Figure(name="deployed", value=sum("refused" not in row for row in rows), at_least=len(rows)),
        Figure(name="kept_in_a_fresh_process", value=len(kept), at_least=len(rows)),
        Figure(name="kept_without_drift_correction", value=sum(r["verified_raw_ms"] <= r["budget_ms"] for r in kept)),
        *(
            Figure(name=f"kept_on_{device}", value=sum(r["kept"] for r in rows if r["device"] == device))
            for device in dict.fromkeys(row["device"] for row in rows)
        ),
        Figure(name="candidates_rejected", value=sum(len(row.get("rejected", ())) for row in rows)),
    ]
    if kept:
        margins = spread([row["margin_percent"] for row in kept])
        figures += [Figure(name=f"margin_percent_{name}", value=value) for name, value in margins.items()]
        again = spread([100 * abs(row["verified_ms"] / row["exported_ms"] - 1) for row in kept])
        figures += [Figure(name=f"repeated_within_percent_{name}", value=again[name]) for name in ("median", "max")]
        figures.append(Figure(name="largest_drift", value=max(row["drift"] for row in kept)))
    return figures


if __name__ == "__main__":
    script(main)
