"""What it saves that ONNX files compute series as images of one row: the same networks written either way.

The largest networks of the spaces of 1-D networks, timed in the same rounds. Knows spaces, exporters and the measuring
process; trains nothing: latency does not depend on weights.
"""

from __future__ import annotations

import argparse
import tempfile
from collections.abc import Sequence
from pathlib import Path
from typing import TYPE_CHECKING
from unittest.mock import patch

from _common import Benchmark, Figure, script

from hwnas import registry
from hwnas.config import Config
from hwnas.errors import MeasurementError

if TYPE_CHECKING:
    from hwnas._console import Console

SPACES = ("conv1d-keyword", "conv1d-sensor")
PRECISIONS = ("fp32", "int8")
_DEVICES = ("cpu", "cpu-openvino")
_AS_IMAGES = "hwnas.exporters._onnx_series.series_as_images"


def main(argv: Sequence[str] | None = None) -> int:
    """Run the program; returns its exit status."""
    parser = argparse.ArgumentParser(description=__doc__)
    parser.add_argument(
        "--device", action="append", help=f"whose files are ONNX; may be repeated ({' '.join(_DEVICES)})"
    )
    bench = Benchmark("series", parser, argv)
    devices = bench.options.device or (["fake"] if bench.smoke else list(_DEVICES))
    figures, details = [], {}
    for space in SPACES[:1] if bench.smoke else SPACES:
        for device in devices:
            bench.console.note(f"-- {space}, {device}")
            times = compare(space, device, console=bench.console)
            details[f"{space} {device}"] = times
            for p in PRECISIONS:
                figures.append(Figure(name=f"{space}_{device}_{p}_ms", value=times[f"{p} images"]))
                ratio = times[f"{p} series"] / times[f"{p} images"]
                figures.append(Figure(name=f"{space}_{device}_{p}_speedup", value=ratio))
    return bench.publish(figures, details=details)


def compare(preset: str, device: str, *, console: Console) -> dict[str, float]:
    """Milliseconds of the largest network, as `<precision> images` and as `<precision> series`."""
    from hwnas.measure import Worker
    from hwnas.pipeline.verdict import VERDICT
    from hwnas.supernet.untrained import untrained_network
    from hwnas.types import MeasurementFailure
    from hwnas.workspace import Workspace

    work = Workspace(Config().replaced({"device.name": device}))
    whole = registry.load("spaces", preset)()  # of the channels and classes that it is for
    with tempfile.TemporaryDirectory(prefix="hwnas-series-") as folder, Worker(work.device) as worker:
        artefacts = {}
        for p in PRECISIONS:
            space = whole.restrict(precisions=(p,)).computed_in(work.computed)
            blocks = [b for _, b in space.named_blocks(space.largest())]
            network = untrained_network(blocks, precision=work.computed.get(p, p), symmetric=work.symmetric)
            artefacts[f"{p} images"] = network.write(work.exporter, Path(folder, f"{p}-images"))
            with patch(_AS_IMAGES, lambda model: None):
                artefacts[f"{p} series"] = network.write(work.exporter, Path(folder, f"{p}-series"))
        with console.progress("networks") as progress:
            found = worker.measure(artefacts, settings=VERDICT, progress=progress)
    for key, result in found.items():
        if isinstance(result, MeasurementFailure):
            raise MeasurementError(f"{key} could not be measured: {result.reason}")
    return {key: result.minimum for key, result in found.items()}  # type: ignore[union-attr]


if __name__ == "__main__":
    script(main)
