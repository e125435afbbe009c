"""Operators as ONNX files: what ONNX Runtime computes is what torch does."""

from __future__ import annotations

import onnx
import onnxruntime as ort
import pytest
import torch

from hwnas.exporters.onnx import OnnxExporter

from .operator_cases import ALONG, BOTH, IMAGE, ONNX, SERIES, images, module_of, quantized

CASES = {IMAGE: {**BOTH, **ONNX}, SERIES: ALONG}
NAMED = [(shape, name) for shape, cases in CASES.items() for name in cases]

ROUNDED_TWICE = ("relu", "relu6")  # alone, behind a rounding: ONNX Runtime makes one of both


def _run(path, x: torch.Tensor) -> torch.Tensor:
    session = ort.InferenceSession(str(path), providers=["CPUExecutionProvider"])
    return torch.from_numpy(session.run(None, {"input": x.numpy()})[0])


@pytest.mark.parametrize(("shape", "name"), NAMED)
def test_float_operators_compute_what_torch_does(shape, name, tmp_path):
    module, x, path = module_of(CASES[shape][name], shape), images(2, shape), tmp_path / "file.onnx"
    OnnxExporter().export(module, x, path, precision="fp32")
    torch.testing.assert_close(_run(path, x), module(x).detach(), atol=1e-5, rtol=1e-4)


@pytest.mark.parametrize(("shape", "name"), [case for case in NAMED if case[1] not in ROUNDED_TWICE])
def test_int8_operators_compute_what_torch_does(shape, name, tmp_path):
    # weights of 7 bits: some processors saturate on those of 8
    model, x = quantized(CASES[shape][name], shape, precision="int8-w7"), images(4, shape)
    path = tmp_path / "file.onnx"
    OnnxExporter().export(model, x, path, precision="int8")
    quantizer = model.output_quantizer or model.blocks[0].quantize
    steps = (_run(path, x) - model(x).detach()).abs() / quantizer.scale
    assert steps.max() < 1.01
    assert (steps < 0.01).float().mean() > 0.85  # means of windows often lie between two integers


def test_integers_lie_on_both_sides_of_what_only_moves_them(tmp_path):
    """A pool between two quantizations is computed on integers, and so is what reads it."""
    path = tmp_path / "file.onnx"
    OnnxExporter().export(quantized(BOTH["max_pool2d"]), images(1), path, precision="int8")
    graph = onnx.load(path).graph
    assert [n.op_type for n in graph.node] == [
        "QuantizeLinear",
        "DequantizeLinear",
        "MaxPool",
        "QuantizeLinear",
        "DequantizeLinear",
    ]


def test_transposed_convolutions_have_integer_weights_of_one_group_alone():
    assert quantized(BOTH["conv_transpose2d"]).left_in_float == ()
    assert quantized(ONNX["conv_transpose2d of groups"]).left_in_float == ("conv_transpose2d ('op') of 1",)
