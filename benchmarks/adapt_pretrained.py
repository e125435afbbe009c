"""Networks as people bring them, with ImageNet's weights and no images: what they become in the first minutes.

EfficientNet-Lite0 and torchvision's MobileNetV2 at 224 px (`_pretrained.py` says how to get them) are made elastic: the
time, whether the largest network is the given one, how many networks there are, and how much faster the smallest one is
on the device in int8. Sizes of files and latencies do not depend on weights, so networks are calibrated on noise; both
are timed in the same rounds.
"""

from __future__ import annotations

import argparse
import tempfile
import time
from collections.abc import Sequence
from pathlib import Path
from typing import TYPE_CHECKING, Any

from _common import Benchmark, Figure, script

from hwnas.errors import MeasurementError

if TYPE_CHECKING:
    from torch import nn

    from hwnas.spaces.adapted import AdaptedSpace

NETWORKS = ("lite0", "mobilenet_v2")  # functions of `_pretrained.py`
_SHAPE = (3, 224, 224)
_SAMPLES = 4
_LEAST_NETWORKS = 1e9
_LEAST_GAIN = 3.0  # of the smallest network over the given one
_EQUAL = 1e-5  # of outputs, relative to the largest


def main(argv: Sequence[str] | None = None) -> int:
    """Run the program; returns its exit status."""
    parser = argparse.ArgumentParser(description=__doc__)
    parser.add_argument("--networks", nargs="+", choices=NETWORKS, default=list(NETWORKS))
    parser.add_argument("--device", default="cpu", help="see `hwnas devices` (cpu)")
    bench = Benchmark("adapt_pretrained", parser, argv)
    names = ["mlperf_resnet8"] if bench.smoke else bench.options.networks
    figures, details = [], {}
    for name in names:
        found = Subject(name, smoke=bench.smoke).tried("fake" if bench.smoke else bench.options.device)
        details[name] = found
        figures += [
            Figure(name=f"{name}_elastic_s", value=found["elastic_s"]),
            Figure(name=f"{name}_elastic_cpu_s", value=found["elastic_cpu_s"], at_most=5),
            Figure(name=f"{name}_largest_differs", value=found["largest_differs"], at_most=_EQUAL),
            Figure(name=f"{name}_networks", value=found["networks"], at_least=_LEAST_NETWORKS),
            Figure(name=f"{name}_largest_int8_ms", value=found["largest_ms"]),
            Figure(name=f"{name}_smallest_int8_ms", value=found["smallest_ms"]),
            Figure(
                name=f"{name}_smallest_faster", value=found["largest_ms"] / found["smallest_ms"], at_least=_LEAST_GAIN
            ),
        ]
    return bench.publish(figures, details=details)


class Subject:
    """One network.

    Args:
        name: one of NETWORKS.
        smoke: a small one without trained weights in its place.
    """

    def __init__(self, name: str, *, smoke: bool) -> None:
        self.name, self.smoke = name, smoke
        self.shape = (3, 32, 32) if smoke else _SHAPE

    def module(self) -> nn.Module:
        """The network with its weights, as `hwnas adapt` takes it."""
        import _pretrained

        from hwnas.supernet.given import load_given

        if self.smoke:
            return load_given("python:_tiny_networks:ResNet8")
        return load_given(f"python:_pretrained:{self.name}", weights=_pretrained.weights(self.name))

    def tried(self, device: str) -> dict[str, Any]:
        """All that is measured of it."""
        import torch
        from _adapt_networks import Network
        from _adapt_sweep import traced

        from hwnas.precisions import EXACT
        from hwnas.spaces.adapted.wishes import Wishes, adapt
        from hwnas.supernet.adapted import AdaptedSupernet

        module = self.module()
        network = Network(name=self.name, family="", make=lambda: module, shape=self.shape)
        began, cpu = time.perf_counter(), time.process_time()
        graph, numbers, as_it_trains = traced(network, module)
        space = adapt(self.name, [graph], Wishes())
        supernet = AdaptedSupernet(space, numbers)
        found: dict[str, Any] = {
            "elastic_s": round(time.perf_counter() - began, 2),
            "elastic_cpu_s": round(time.process_time() - cpu, 2),
            "as_it_trains": as_it_trains,
            "networks": float(space.count()),
            "slots": len(space.slots),
            "choices": len(space.choices),
        }
        x = torch.randn(_SAMPLES, *self.shape, generator=torch.Generator().manual_seed(0))
        with torch.no_grad():
            expected = module.eval()(x)
            largest = supernet.extract(_blocks(space, "largest", EXACT)).eval()
            found["largest_differs"] = float((largest(x) - expected).abs().max() / expected.abs().max())
        return {**found, **self._timed(space, supernet, device)}

    def _timed(self, space: AdaptedSpace, supernet: Any, name: str) -> dict[str, float]:
        """Milliseconds of the largest and the smallest network in int8."""
        import torch
        from _adapt_sweep import shipped_int8

        from hwnas import registry
        from hwnas.devices import load_device
        from hwnas.measure import Worker
        from hwnas.pipeline.verdict import VERDICT
        from hwnas.precisions import INTEGERS, computed_in
        from hwnas.types import MeasurementFailure

        device = load_device(name)
        runtime: Any = registry.load("runtimes", device.runtime)()
        format = next(f for f in registry.names("exporters") if f in runtime.formats)
        exporter: Any = registry.load("exporters", format)()
        x = torch.randn(_SAMPLES, *self.shape, generator=torch.Generator().manual_seed(1))
        with tempfile.TemporaryDirectory(prefix="hwnas-pretrained-") as folder, Worker(device) as worker:
            computed = computed_in(runtime, device, worker.context())[INTEGERS]
            artefacts = {}
            for which in ("largest", "smallest"):
                blocks = _blocks(space, which, INTEGERS)
                network = shipped_int8(supernet, blocks, x, computed, runtime.quantization)
                artefacts[which] = exporter.export(
                    network, x[:1], Path(folder, f"{which}.{format}"), precision=computed
                )
            results = worker.measure(artefacts, settings=VERDICT)
        times = {}
        for which, result in results.items():
            if isinstance(result, MeasurementFailure):
                raise MeasurementError(f"{which} could not be measured: {result.reason}")
            times[f"{which}_ms"] = result.minimum
            times[f"{which}_bytes"] = artefacts[which].size_bytes
        return times


def _blocks(space: AdaptedSpace, which: str, precision: str) -> Any:
    from _adapt_sweep import with_precision

    return with_precision(space, space.largest() if which == "largest" else space.smallest(), precision)


if __name__ == "__main__":
    script(main)
