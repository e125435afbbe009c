"""Tiny TFLite models: convolutions in a row, written by our exporter."""

from __future__ import annotations

from dataclasses import replace
from pathlib import Path

import numpy as np

from hwnas.exporters.litert import LiteRtExporter
from hwnas.precisions import is_quantized
from hwnas.supernet.untrained import untrained_network
from hwnas.types import Artefact, Block, Ends


def write_tflite(path: Path, *, precision: str = "fp32", size: int = 1, layout: str = "NCHW") -> Artefact:
    """`size` convolutions in a row, 3 x 8 x 8 -> 8 x 8 x 8. fp32: float in and out; int8: int8 in and out."""
    blocks = [_convolution(3 if i == 0 else 8, precision) for i in range(size)]
    if is_quantized(precision):
        blocks = [_boundary("quantize", 3, precision), *blocks, _boundary("dequantize", 8, precision)]
    path.parent.mkdir(parents=True, exist_ok=True)
    network = replace(untrained_network(blocks, precision=precision), ends=Ends(input_layout=layout))
    return network.write(LiteRtExporter(), path)


def inputs(precision: str) -> np.ndarray:
    """(1, 3, 8, 8), the same each time."""
    rng = np.random.default_rng(0)
    if is_quantized(precision):
        return rng.integers(-128, 127, size=(1, 3, 8, 8), dtype=np.int8, endpoint=True)
    return rng.standard_normal((1, 3, 8, 8)).astype(np.float32)


def _convolution(channels: int, precision: str) -> Block:
    return Block(
        kind="conv",
        in_shape=(channels, 8, 8),
        out_shape=(8, 8, 8),
        precision=precision,
        attributes=(("activation", "relu"), ("kernel_size", 3), ("stride", 1)),
    )


def _boundary(kind: str, channels: int, precision: str) -> Block:
    return Block(kind=kind, in_shape=(channels, 8, 8), out_shape=(channels, 8, 8), precision=precision)
