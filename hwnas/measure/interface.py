"""Between images and logits as people have them and an artefact's own tensors: layout, type, quantization.

The canonical form is float32, images (N, C, H, W), series (N, C, L), logits (N, classes). Knows arrays and
specifications only; it needs numpy and nothing else, so that a board can use it.
"""

from __future__ import annotations

from collections.abc import Sequence

import numpy as np

from hwnas.types import Array, Artefact, TensorSpec


def to_artefact(images: Array, spec: TensorSpec) -> Array:
    """(N, C, H, W) or (N, C, L) float32 -> what the artefact's input takes.

    Integers are reached by division and rounding, ties to even, as ONNX QuantizeLinear and the TFLite
    QUANTIZE operator do.
    """
    laid_out = np.moveaxis(images, 1, -1) if spec.layout == "NHWC" and images.ndim > 2 else images
    dtype = np.dtype(spec.dtype)
    if dtype.kind == "f":
        return np.ascontiguousarray(laid_out, dtype=dtype)
    limits = np.iinfo(dtype)
    quantized = np.rint(laid_out / np.float32(spec.scale)) + spec.zero_point
    return np.ascontiguousarray(np.clip(quantized, limits.min, limits.max).astype(dtype))


def from_artefact(outputs: Array, spec: TensorSpec) -> Array:
    """What the artefact's output gives -> float32; channels behind the batch: (N, H, W, C) -> (N, C, H, W)."""
    dtype = np.dtype(spec.dtype)
    if dtype.kind == "f":
        values = outputs.astype(np.float32)
    else:
        values = (outputs.astype(np.float32) - np.float32(spec.zero_point)) * np.float32(spec.scale)
    return np.moveaxis(values, -1, 1) if spec.layout == "NHWC" and values.ndim > 2 else values


def answers(outputs: Sequence[Array], artefact: Artefact) -> Array:
    """All that an artefact gives -> (N, ...) float32: its output, or its several side by side in one row, (N, sum).

    See `hwnas.row_parts` for what is where.
    """
    if not artefact.outputs:
        (only,) = outputs
        return from_artefact(only, artefact.output)
    pairs = zip(outputs, artefact.outputs, strict=True)
    return np.concatenate([from_artefact(o, spec).reshape(len(o), -1) for o, spec in pairs], 1)
