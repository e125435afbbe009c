"""Operators as ONNX files: what ONNX Runtime computes is what torch does."""

from __future__ import annotations

from collections import Counter

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


@pytest.mark.parametrize("precision", ["fp32", "int8"])
def test_series_are_images_of_one_row_between_the_ends(precision, tmp_path):
    """What leads there and to the pool's image is one Unsqueeze; a runtime's kernels for images do the rest."""
    path = tmp_path / "file.onnx"
    model = (quantized if precision == "int8" else module_of)(ALONG["a separable block"], SERIES)
    OnnxExporter().export(model, images(1, SERIES), path, precision=precision)
    graph = onnx.load(path).graph
    found = Counter(node.op_type for node in graph.node)
    assert (found["Unsqueeze"], found["Squeeze"], found["Reshape"], found["Transpose"]) == (1, 0, 0, 0)
    kernels = [list(a.ints) for n in graph.node if n.op_type == "Conv" for a in n.attribute if a.name == "kernel_shape"]
    assert sorted(kernels) == [[1, 1], [1, 1], [1, 5]]
    assert [len(v.type.tensor_type.shape.dim) for v in graph.input] == [3]


def test_series_that_something_else_reads_too_stay_series_for_it(tmp_path):
    """The softmax along the series, and the convolution behind it, get what they want."""
    path = tmp_path / "file.onnx"
    OnnxExporter().export(module_of(ALONG["softmax of positions"], SERIES), images(1, SERIES), path, precision="fp32")
    assert [n.op_type for n in onnx.load(path).graph.node] == ["Unsqueeze", "Conv", "Squeeze", "Softmax"]


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
