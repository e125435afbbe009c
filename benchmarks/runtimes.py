"""One supernet on four runtimes: three budgets each, deployed, verified, and drawn as one picture.

Goes on from what it finds in the run's folder. The supernet is that of a finished run (`fashion_mnist.py`): its
checkpoint is linked. Knows the command `hwnas run` for several devices and the manifests it leaves.
"""

from __future__ import annotations

import argparse
import contextlib
import json
import tempfile
from collections.abc import Sequence
from pathlib import Path
from typing import Any

from _common import ROOT, SMOKE, Benchmark, Figure, script

from hwnas.config import load_config
from hwnas.files import write_whole

CONFIG = Path(__file__).with_suffix(".toml")
PICTURE = ROOT / "docs" / "images" / "fleet.png"
_ENOUGH = 1.3  # times as fast as fp32; else the report must say what stops it
_CHECKPOINT = "checkpoint.safetensors"


def main(argv: Sequence[str] | None = None) -> int:
    """Run the program; returns its exit status."""
    parser = argparse.ArgumentParser(description=__doc__)
    parser.add_argument("run", type=Path, nargs="?", metavar="RUN_FOLDER", help="of a run with a trained supernet")
    parser.add_argument("--output", metavar="FOLDER", help="of this run; as the configuration has it if left out")
    bench = Benchmark("runtimes", parser, argv)
    with contextlib.ExitStack() as stack:
        config = load_config(CONFIG)
        picture = PICTURE
        if bench.smoke:
            temporary = stack.enter_context(tempfile.TemporaryDirectory(prefix="hwnas-runtimes-"))
            changes = {"device.names": ["fake"], "device.name": None, "limits.latency_fraction": None}
            config = config.replaced({**SMOKE, **changes, "output.folder": f"{temporary}/run"})
            config = config.replaced({"budgets": [{"latency_fraction": 1.2}]})
            picture = Path(temporary, "fleet.png")
        if bench.options.output:
            config = config.replaced({"output.folder": bench.options.output})
        folder = Path(config.output.folder)
        if bench.options.run is not None and not bench.smoke and not (folder / _CHECKPOINT).exists():
            folder.mkdir(parents=True, exist_ok=True)
            (folder / _CHECKPOINT).symlink_to((bench.options.run / _CHECKPOINT).resolve())
        from hwnas import fleet

        result = fleet.run_all(config, console=bench.console)
        write_whole(picture, (folder / "fleet.png").read_bytes())
        manifests = {row["deployment"]: _manifest(folder, row) for row in _rows(folder) if row["deployment"]}
        rows = _rows(folder)
    figures = [figure for row in rows for figure in _figures(row, manifests.get(row["deployment"]))]
    figures.append(Figure(name="run_s", value=result.seconds))
    return bench.publish(figures, details={"rows": rows, "manifests": manifests})


def _rows(folder: Path) -> list[dict[str, Any]]:
    rows: list[dict[str, Any]] = json.loads((folder / "fleet.json").read_text())["rows"]
    return rows


def _manifest(folder: Path, row: dict[str, Any]) -> dict[str, Any]:
    found: dict[str, Any] = json.loads((folder / row["deployment"] / "manifest.json").read_text())
    return found


def _figures(row: dict[str, Any], manifest: dict[str, Any] | None) -> list[Figure]:
    at = f"{row['device']}_at_{100 * row['budget']['latency_fraction']:.0f}_percent"
    if manifest is None:
        return [Figure(name=f"{at}_deployed", value=0, at_least=1)]
    latency, limit = manifest["measured"]["latency_ms"]["fastest"], manifest["limits"]["latency_ms"]
    gain = manifest["precision_gain"]
    figures = [
        Figure(name=f"{at}_test_accuracy", value=100 * manifest["accuracy"]["test_runtime"]),
        Figure(name=f"{at}_latency_ms", value=latency, at_most=limit),
        Figure(name=f"{at}_top1_agreement_percent", value=100 * manifest["parity"]["top1_agreement"], at_least=99),
    ]
    if gain is not None:
        explained = gain["speedup"] >= _ENOUGH or bool(gain["slow_blocks"])
        figures.append(Figure(name=f"{at}_int8_speedup", value=gain["speedup"]))
        figures.append(Figure(name=f"{at}_int8_fast_or_explained", value=int(explained), at_least=1))
    return figures


if __name__ == "__main__":
    script(main)
