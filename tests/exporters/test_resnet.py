"""Residual networks in files: what the runtimes compute is what torch computes, and integers stay integers."""

from __future__ import annotations

from collections import Counter
from dataclasses import replace

import numpy as np
import onnx
import onnxruntime as ort
import pytest
import torch

from hwnas import registry
from hwnas.devices import load_device
from hwnas.measure.interface import from_artefact, to_artefact
from hwnas.spaces import StageSpec
from hwnas.spaces.resnet import ResNetSpace, ResNetSpec
from hwnas.supernet.quantization import quantize
from hwnas.supernet.subnetwork import SubNetwork
from hwnas.testing.exporter_suite import sample_network
from hwnas.types import Block
from tests.here import INTEGERS

SPACE = ResNetSpace(
    "files",
    ResNetSpec(
        in_channels=2,
        n_classes=5,
        resolutions=(9, 12),  # a side that strides do not divide, too
        stem_channels=8,
        stages=[
            StageSpec(channels=8, stride=1, depths=(1,), kernel_sizes=(3,), expand_ratios=(1,), activations=("relu",)),
            StageSpec(
                channels=16,
                stride=2,
                depths=(1, 2),
                kernel_sizes=(3, 5),
                expand_ratios=(0.5, 1),
                activations=("relu", "hswish"),
            ),
        ],
    ),
)
STEPS = 4  # of the outputs' scale, as for all networks


def networks(*precisions: str, count: int = 3) -> list[list[Block]]:
    """Blocks of random networks, the largest and the smallest among them."""
    space = SPACE.restrict(precisions=precisions) if len(precisions) == 1 else SPACE
    drawn = space.sample(count, np.random.default_rng(0))
    return [[b for _, b in space.named_blocks(e)] for e in (space.smallest(), space.largest(), *drawn)]


def outputs(device_name: str, model: torch.nn.Module, images: torch.Tensor, path, *, precision: str) -> np.ndarray:
    """What the runtime of a device makes of a network, image by image if its files want that."""
    device = load_device(device_name)
    exporter = registry.load("exporters", "tflite" if "litert" in device_name else "onnx")()
    artefact = exporter.export(model, images[:1], path, precision=precision)
    parts = images.split(1 if artefact.batch == 1 else len(images))
    with registry.load("runtimes", device.runtime)().load(artefact, device) as session:
        found = [session.run([to_artefact(part.numpy(), artefact.input)])[0] for part in parts]
    return np.concatenate([from_artefact(f, artefact.output) for f in found])


def images_for(network: SubNetwork, count: int) -> torch.Tensor:
    return torch.randn(count, *network.in_shape, generator=torch.Generator().manual_seed(1))


@pytest.mark.parametrize("device", ["cpu", "cpu-litert"])
def test_floats_are_those_of_torch(device, tmp_path):
    if device == "cpu-litert":
        pytest.importorskip("ai_edge_litert", reason="the extra 'litert' is not installed")
    for i, blocks in enumerate(networks("fp32")):
        network = sample_network(blocks)
        images = images_for(network, 8)
        with torch.inference_mode():
            expected = network(images).numpy()
        found = outputs(device, network, images, tmp_path / str(i), precision="fp32")
        assert np.abs(found - expected).max() <= 1e-4


@pytest.mark.parametrize("precisions", [("int8",), ("int8", "fp32")], ids=["integers", "mixed"])
@pytest.mark.parametrize("device", ["cpu", "cpu-litert"])
def test_integers_are_those_of_torch(device, precisions, tmp_path):
    if device == "cpu-litert":
        pytest.importorskip("ai_edge_litert", reason="the extra 'litert' is not installed")
    integers = INTEGERS if device == "cpu" else "int8"
    worst, same = 0.0, []
    for i, blocks in enumerate(networks(*precisions)):
        renamed = [b if b.precision == "fp32" else replace(b, precision=integers) for b in blocks]
        network = sample_network(renamed)
        images = images_for(network, 32)
        model = quantize(network, [images])
        with torch.inference_mode():
            expected = model(images).numpy()
        found = outputs(device, model, images, tmp_path / str(i), precision=integers)
        last = renamed[-2] if renamed[-1].kind == "dequantize" else renamed[-1]
        step = float(np.ptp(expected)) / 255
        worst = max(worst, float(np.abs(found - expected).max() / step))
        if last.precision != "fp32":
            same.append(float((np.abs(found - expected) < 0.01 * step).mean()))
    assert worst <= STEPS + 0.5
    assert min(same, default=1.0) >= 0.95


def test_an_integer_network_has_integer_operators_only(tmp_path):
    space = SPACE.restrict(precisions=["int8"])
    architecture = space.decode(space.largest()) | {"stages.1.activation": "relu"}
    network = sample_network(
        [replace(b, precision=INTEGERS) for _, b in space.named_blocks(space.encode(architecture))]
    )
    model = quantize(network, [images_for(network, 16)])
    path, optimised = tmp_path / "network.onnx", tmp_path / "optimised.onnx"
    registry.load("exporters", "onnx")().export(model, images_for(network, 1), path, precision=INTEGERS)
    options = ort.SessionOptions()
    options.log_severity_level = 3  # it warns that the file is for this machine only
    options.optimized_model_filepath = str(optimised)
    ort.InferenceSession(str(path), options, providers=["CPUExecutionProvider"])
    found = Counter(node.op_type for node in onnx.load(optimised).graph.node)
    assert found["QLinearConv"] == 1 + 3 * 2 + 1  # stem, three blocks, one projection
    assert found["QLinearAdd"] == 3
    assert {"Conv", "Add", "Relu", "Clip", "Gemm", "MatMul"}.isdisjoint(found)
    assert (found["QuantizeLinear"], found["DequantizeLinear"]) == (1, 1)
