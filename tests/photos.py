"""Photos, and deployments for them that no run has made."""

from __future__ import annotations

from pathlib import Path

import numpy as np
from PIL import Image

from hwnas import registry
from hwnas.data import Preprocessing
from hwnas.data.decoding import DecodingRule
from hwnas.deployment import ArtefactInfo
from hwnas.spaces.presets import mobilenet_tiny
from hwnas.supernet.untrained import untrained_network
from hwnas.types import Exporter
from tests.report import made_up

CLASSES = ("a cat", "ein Kätzchen", '"quoted"', "猫", "🐈")


def deployed(folder: Path, *, precision: str = "fp32", runtime: str = "onnxruntime", format: str = "onnx") -> Path:
    """A deployment of a network with random weights for photos, as `hwnas export` writes one."""
    space = mobilenet_tiny(3, len(CLASSES)).restrict(precisions=[precision], resolutions=[24])
    blocks = [block for _, block in space.named_blocks(space.largest())]
    exporter: Exporter = registry.load("exporters", format)()
    artefact = untrained_network(blocks, precision=precision).write(exporter, folder / f"model.{format}")
    rule = DecodingRule(channels=3, size=32)
    steps = Preprocessing.of(
        rule, shape=(32, 32, 3), mean=(0.485, 0.456, 0.406), std=(0.229, 0.224, 0.225), resolution=(24, 24)
    )
    found = made_up.manifest(
        artefact=ArtefactInfo.of(artefact, path=artefact.path.name),
        device=made_up.manifest().device.model_dump() | {"runtime": runtime, "options": {}},
        runtime=runtime,
        precision=precision,
        input={"shape": (3, 24, 24)},
        preprocessing=steps,
        classes=CLASSES,
    )
    found.write(folder)
    return folder


def photograph(path: Path, *, height: int = 61, width: int = 90, channels: int = 3, seed: int = 0) -> Path:
    """A photo as raw pixels (PPM or PGM), of edges and noise."""
    rng = np.random.default_rng(seed)
    pixels = rng.integers(0, 256, (height, width, channels), dtype=np.uint8)
    pixels[height // 3 :, width // 4 :] //= 4
    Image.fromarray(pixels if channels == 3 else pixels[..., 0]).save(path, "PPM")
    return path
