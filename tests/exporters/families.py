"""What tests of families of networks in files share: random networks of a space, through a device's runtime."""

from __future__ import annotations

from collections.abc import Iterator
from dataclasses import replace
from importlib.util import find_spec
from pathlib import Path

import numpy as np
import pytest
import torch

from hwnas import registry
from hwnas.devices import load_device
from hwnas.measure.interface import from_artefact, to_artefact
from hwnas.precisions import is_quantized
from hwnas.spaces import Space
from hwnas.supernet.quantization import quantize
from hwnas.supernet.subnetwork import SubNetwork
from hwnas.testing.exporter_suite import sample_network
from hwnas.types import Block
from tests.here import INTEGERS

FORMATS = {"onnxruntime": "onnx", "litert": "tflite", "openvino": "openvino-onnx"}
_EXTRAS = {"cpu-litert": ("ai_edge_litert", "litert"), "cpu-openvino": ("openvino", "openvino")}
DEVICES = ("cpu", *_EXTRAS)


def require(device: str) -> None:
    """Skip a test of a device whose runtime is not installed."""
    package, extra = _EXTRAS.get(device, ("", ""))
    if package and find_spec(package) is None:  # looked for, not imported: OpenVINO would report that
        pytest.skip(f"the extra {extra!r} is not installed")


def networks(space: Space, *precisions: str, count: int = 3) -> Iterator[list[Block]]:
    """Blocks of random networks, the largest and the smallest among them."""
    part = space.restrict(precisions=precisions) if len(precisions) == 1 else space
    drawn = part.sample(count, np.random.default_rng(0))
    for encoding in (part.smallest(), part.largest(), *drawn):
        yield [b for _, b in part.named_blocks(encoding)]


def images_for(network: SubNetwork, count: int) -> torch.Tensor:
    """Noise in the shape that a network takes."""
    return torch.randn(count, *network.in_shape, generator=torch.Generator().manual_seed(1))


def outputs(
    device_name: str, model: torch.nn.Module, images: torch.Tensor, path: Path, *, precision: str
) -> np.ndarray:
    """What the runtime of a device makes of a network, image by image if its files want that."""
    device = load_device(device_name)
    exporter = registry.load("exporters", FORMATS[device.runtime])()
    artefact = exporter.export(model, images[:1], path, precision=precision)
    parts = images.split(1 if artefact.batch == 1 else len(images))
    with registry.load("runtimes", device.runtime)().load(artefact, device) as session:
        found = [session.run([to_artefact(part.numpy(), artefact.input)])[0] for part in parts]
    return np.concatenate([from_artefact(f, artefact.output) for f in found])


def float_difference(device: str, space: Space, folder: Path) -> float:
    """The largest difference of an output in fp32, between a device and torch, over random networks."""
    worst = 0.0
    for i, blocks in enumerate(networks(space, "fp32")):
        network = sample_network(blocks)
        images = images_for(network, 8)
        with torch.inference_mode():
            expected = network(images).numpy()
        found = outputs(device, network, images, folder / str(i), precision="fp32")
        worst = max(worst, float(np.abs(found - expected).max()))
    return worst


def integer_differences(device: str, space: Space, *precisions: str, folder: Path) -> tuple[float, float]:
    """The largest difference in steps of the outputs' scale, and the smallest share of outputs equal to the step.

    The share counts networks alone that end with integers; 1 without one.
    """
    integers = "int8" if device == "cpu-litert" else INTEGERS  # as its kernels compute on this machine
    worst, same = 0.0, 1.0
    for i, blocks in enumerate(networks(space, *precisions)):
        renamed = [replace(b, precision=integers) if is_quantized(b.precision) else b for b in blocks]
        network = sample_network(renamed)
        images = images_for(network, 32)
        model = quantize(network, [images])
        with torch.inference_mode():
            expected = model(images).numpy()
        found = outputs(device, model, images, folder / str(i), precision=integers)
        steps = np.abs(found - expected) / (float(np.ptp(expected)) / 255)
        worst = max(worst, float(steps.max()))
        if is_quantized(renamed[-1].precision):
            same = min(same, float((steps < 0.01).mean()))
    return worst, same
