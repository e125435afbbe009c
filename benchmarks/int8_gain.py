"""What int8 gains over fp32 on each runtime: the same random networks in both precisions, in the same rounds.

Tiny networks and networks of a phone's size, because the cost of a call and of each layer is the same in both
precisions and hides the gain where there is little work. Knows spaces, exporters and the measuring process; trains
nothing: latency does not depend on weights.
"""

from __future__ import annotations

import argparse
import tempfile
from collections.abc import Mapping, Sequence
from pathlib import Path
from typing import TYPE_CHECKING, Any

from _common import Benchmark, Figure, script, spread

from hwnas.config import Config
from hwnas.errors import MeasurementError

if TYPE_CHECKING:
    from hwnas._console import Console

_LARGE: dict[str, object] = {
    "space.preset": "mobilenet-v3-large",
    "space.activation": "relu6",
    "space.se": False,
    "space.resolutions": [224],
}
# name -> configuration of the space, and the target if there is one
SPACES: Mapping[str, tuple[dict[str, object], float | None]] = {
    "mobilenet-tiny": ({}, None),
    "mobilenet-small": ({"space.preset": "mobilenet-small"}, 1.3),
    "mobilenet-v3-large": (_LARGE, 1.3),
    "mobilenet-v3-large_kernels_3_5": ({**_LARGE, "space.kernel_sizes": [3, 5]}, 1.3),  # XNNPACK is slow at 7 x 7
}
_DEVICES = ("cpu", "cpu-litert", "cpu-openvino")


def main(argv: Sequence[str] | None = None) -> int:
    """Run the program; returns its exit status."""
    parser = argparse.ArgumentParser(description=__doc__)
    parser.add_argument(
        "--device", action="append", help=f"see `hwnas devices`; may be repeated ({' '.join(_DEVICES)})"
    )
    parser.add_argument("--networks", type=int, default=5, help="of each space (5)")
    parser.add_argument("--seed", type=int, default=3000, help="of the networks (3000)")
    bench = Benchmark("int8_gain", parser, argv)
    o = bench.options
    devices = o.device or (["fake"] if bench.smoke else list(_DEVICES))
    spaces: Mapping[str, tuple[dict[str, object], float | None]] = SPACES
    if bench.smoke:
        spaces = {"test-tiny": ({"space.preset": "test-tiny"}, None)}
    figures, details = [], {}
    for space, (values, target) in spaces.items():
        for device in devices:
            bench.console.note(f"-- {space}, {device}")
            config = Config().replaced({"device.name": device, **values})
            rows = compare(config, 2 if bench.smoke else o.networks, seed=o.seed, console=bench.console)
            gains = spread([row["fp32_ms"] / row["int8_ms"] for row in rows])
            details[f"{space} {device}"] = rows
            figures.append(Figure(name=f"{space}_{device}_gain_median", value=gains["median"], at_least=target))
            figures.append(Figure(name=f"{space}_{device}_gain_least", value=gains["min"]))
            figures.append(Figure(name=f"{space}_{device}_gain_most", value=gains["max"]))
    return bench.publish(figures, details=details)


def compare(config: Config, n: int, *, seed: int, console: Console) -> list[dict[str, Any]]:
    """Milliseconds of n random networks of the space in both precisions."""
    import numpy as np

    from hwnas.measure import Worker
    from hwnas.pipeline.verdict import VERDICT
    from hwnas.supernet.untrained import untrained_network
    from hwnas.types import MeasurementFailure
    from hwnas.workspace import Workspace

    work = Workspace(config)
    suffix = work.exporter.format
    encodings = {
        p: work.space.restrict(precisions=(p,)).sample(n, np.random.default_rng(seed), over="encodings")
        for p in ("fp32", "int8")
    }
    assert np.array_equal(*encodings.values())  # the same networks: the precision is no choice of either space
    with tempfile.TemporaryDirectory(prefix="hwnas-gain-") as folder, Worker(work.device) as worker:
        artefacts = {}
        for p, rows in encodings.items():
            space = work.space.restrict(precisions=(p,))
            for i, row in enumerate(rows):
                blocks = [b for _, b in space.named_blocks(row)]
                path = Path(folder, f"{p}-{i}.{suffix}")
                network = untrained_network(blocks, precision=p, symmetric=work.symmetric)
                artefacts[f"{p} {i}"] = network.write(work.exporter, path)
        with console.progress("networks") as progress:
            found = worker.measure(artefacts, settings=VERDICT, progress=progress)
    for key, result in found.items():
        if isinstance(result, MeasurementFailure):
            raise MeasurementError(f"{key} could not be measured: {result.reason}")
    return [{f"{p}_ms": found[f"{p} {i}"].minimum for p in encodings} for i in range(n)]  # type: ignore[union-attr]


if __name__ == "__main__":
    script(main)
