"""Tiny ONNX models, written by hand: the tests of measuring need no exporter."""

from __future__ import annotations

from pathlib import Path

import numpy as np
import onnx
from onnx import TensorProto, helper, numpy_helper

from hwnas.measure.artefacts import artefact_from_file
from hwnas.types import Artefact


def write_model(path: Path, *, precision: str = "fp32", size: int = 1, batch: int | str = 1) -> Artefact:
    """`size` convolutions in a row. fp32: float in and out; int8: QDQ inside, uint8 in and out."""
    build = _float_graph if precision == "fp32" else _int8_graph
    model = helper.make_model(build(size, batch), opset_imports=[helper.make_opsetid("", 17)], ir_version=8)
    onnx.checker.check_model(model)
    path.parent.mkdir(parents=True, exist_ok=True)
    path.write_bytes(model.SerializeToString())
    return artefact_from_file(path, format="onnx", precision=precision)


def _float_graph(size: int, batch: int | str) -> onnx.GraphProto:
    rng = np.random.default_rng(0)
    nodes, weights, last = [], [], "x"
    for i in range(size):
        w = (rng.normal(size=(8, 3 if i == 0 else 8, 3, 3)) / 5).astype(np.float32)
        weights.append(numpy_helper.from_array(w, f"w{i}"))
        nodes.append(helper.make_node("Conv", [last, f"w{i}"], [f"c{i}"], name=f"conv{i}", pads=[1, 1, 1, 1]))
        last = "y" if i == size - 1 else f"r{i}"
        nodes.append(helper.make_node("Relu", [f"c{i}"], [last], name=f"relu{i}"))
    x = helper.make_tensor_value_info("x", TensorProto.FLOAT, [batch, 3, 8, 8])
    y = helper.make_tensor_value_info("y", TensorProto.FLOAT, [batch, 8, 8, 8])
    return helper.make_graph(nodes, "g", [x], [y], weights)


def _int8_graph(size: int, batch: int | str) -> onnx.GraphProto:
    rng = np.random.default_rng(0)
    constants: dict[str, object] = {"s": np.float32(0.05), "z": np.uint8(0), "ws": np.float32(0.01), "wz": np.int8(0)}
    nodes, last = [], "x"
    for i in range(size):
        constants[f"w{i}"] = rng.integers(-127, 127, size=(8, 3 if i == 0 else 8, 3, 3), dtype=np.int8)
        out = "y" if i == size - 1 else f"q{i}"
        nodes += [
            helper.make_node("DequantizeLinear", [last, "s", "z"], [f"d{i}"], name=f"dq{i}"),
            helper.make_node("DequantizeLinear", [f"w{i}", "ws", "wz"], [f"dw{i}"], name=f"dqw{i}"),
            helper.make_node("Conv", [f"d{i}", f"dw{i}"], [f"c{i}"], name=f"conv{i}", pads=[1, 1, 1, 1]),
            helper.make_node("Relu", [f"c{i}"], [f"r{i}"], name=f"relu{i}"),
            helper.make_node("QuantizeLinear", [f"r{i}", "s", "z"], [out], name=f"q{i}"),
        ]
        last = out
    x = helper.make_tensor_value_info("x", TensorProto.UINT8, [batch, 3, 8, 8])
    y = helper.make_tensor_value_info("y", TensorProto.UINT8, [batch, 8, 8, 8])
    initializers = [numpy_helper.from_array(np.asarray(v), k) for k, v in constants.items()]
    return helper.make_graph(nodes, "g", [x], [y], initializers)
