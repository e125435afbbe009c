"""Small ONNX files for tests, written in ONNX's own text."""

from __future__ import annotations

from pathlib import Path
from typing import Any

import numpy as np
import onnx
import onnx.parser
from onnx import numpy_helper

from hwnas.types import Array

IMAGE = "float[N, 4, 6, 6] x"


def written(
    path: Path, body: str, *, given: str = IMAGE, opset: int = 18, names: bool = True, **constants: Any
) -> Path:
    """A file of these operators.

    Args:
        path: of the file.
        body: one operator a line, `y = Relu(x)`; the last gives the output `y`.
        given: the input, with type and shape.
        opset: of the operators.
        names: name the nodes after their operators.
        constants: initializers; `_` in their names stands for `.`.
    """
    text = f'<ir_version: 8, opset_import: ["" : {opset}]>\ntest ({given}) => (float[N] y) {{ {body} }}'.replace(
        "'", '"'
    )
    model = onnx.parser.parse_model(text)
    model.graph.output[0].type.tensor_type.ClearField("shape")
    for name, value in constants.items():
        array = np.asarray(value)
        array = array.astype(np.float32) if array.dtype == np.float64 else array
        model.graph.initializer.append(numpy_helper.from_array(array, name.replace("_", ".")))
        for node in model.graph.node:
            node.input[:] = [name.replace("_", ".") if n == name else n for n in node.input]
    for i, node in enumerate(model.graph.node):
        node.name = f"/part/{node.op_type}_{i}" if names else ""
    onnx.save_model(model, path)
    return path


def normal(*shape: int, seed: int = 0) -> Array:
    """Random numbers for a weight."""
    numbers: Array = np.random.default_rng(seed).normal(size=shape).astype(np.float32)
    return numbers
