"""From nothing to the first verified deployment on a new device, with a supernet that is trained already.

Links the supernet of a finished run into an empty folder, then times the stages as a user would start them: profile,
search, export, and `hwnas verify` in a process of its own. Knows the commands only.
"""

from __future__ import annotations

import argparse
import tempfile
import time
from collections.abc import Sequence
from pathlib import Path

from _common import Benchmark, Figure, hwnas, run_folder, script

from hwnas.config import CONFIG_FILE, load_config
from hwnas.errors import HwnasError

_TARGET_S = 180.0


def main(argv: Sequence[str] | None = None) -> int:
    """Run the program; returns its exit status."""
    parser = argparse.ArgumentParser(description=__doc__)
    parser.add_argument("run", type=Path, nargs="?", metavar="RUN_FOLDER", help="of a run with a trained supernet")
    parser.add_argument("--device", default="cpu-litert", help="see `hwnas devices` (cpu-litert)")
    parser.add_argument("--fraction", type=float, default=0.5, help="of the largest network's latency (0.5)")
    parser.add_argument("--trials", type=int, default=100, help="networks whose accuracy is measured (100)")
    bench = Benchmark("new_device", parser, argv)
    o = bench.options
    with (
        run_folder(o.run, smoke=bench.smoke) as run,
        tempfile.TemporaryDirectory(prefix="hwnas-new-device-") as temporary,
    ):
        folder = Path(temporary)
        (folder / "checkpoint.safetensors").symlink_to((run / "checkpoint.safetensors").resolve())
        changes = {"limits.latency_fraction": o.fraction, "device.name": o.device, "search.n_trials": o.trials}
        config = load_config(run)
        if not bench.smoke:
            config = config.with_limits({}).replaced({**changes, "deploy.finetune_steps": 0})
        (folder / CONFIG_FILE).write_text(config.replaced({"output.folder": temporary}).to_toml())
        seconds = {stage: _timed(stage, folder) for stage in ("profile", "search", "export")}
        (deployment,) = (folder / "deployments").iterdir()
        seconds["verify"] = _timed("verify", deployment)
    figures = [Figure(name="whole_s", value=round(sum(seconds.values()), 1), at_most=_TARGET_S)]
    figures += [Figure(name=f"{stage}_s", value=round(s, 1)) for stage, s in seconds.items()]
    return bench.publish(figures)


def _timed(stage: str, subject: Path) -> float:
    """Seconds of one command, the start of its process included."""
    began = time.monotonic()
    status, found = hwnas(stage, subject)
    if status:
        raise HwnasError(f"hwnas {stage} ended with {status}: {found.get('error', {}).get('message', '')}")
    return time.monotonic() - began


if __name__ == "__main__":
    script(main)
