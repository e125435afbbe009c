"""Operators as TFLite files: what LiteRT computes is what torch does, in float32 and in int8, or a refusal by name."""

from __future__ import annotations

from collections import Counter
from dataclasses import replace

import pytest
import torch
from torch import nn

pytest.importorskip("ai_edge_litert", reason="the extra 'litert' is not installed")

from hwnas.devices import load_device
from hwnas.devices.litert import LiteRtRuntime
from hwnas.errors import ExportError, MeasurementError
from hwnas.exporters.litert import LiteRtExporter
from hwnas.exporters.tflite_file import read_tflite
from hwnas.graph import OPERATORS, GraphBuilder, Weight
from hwnas.measure.interface import from_artefact, to_artefact
from hwnas.supernet.graph_module import OpGraphModule
from hwnas.types import Ends

from .operator_cases import (
    ALONG,
    BOTH,
    FLOAT,
    FLOAT_ALONG,
    IMAGE,
    ONNX,
    SERIES,
    Build,
    images,
    module_of,
    operator,
    quantized,
)

CPU = load_device("cpu-litert")
UNWRITTEN: dict[str, tuple[Build, str]] = {
    "mish": (operator("mish"), r"operator op \(mish\) cannot be written as TFLite: there is no rule"),
    "conv_transpose2d": (ONNX["conv_transpose2d of groups"], "neither groups nor dilation"),
    "max_pool2d": (operator("max_pool2d", kernel_size=(2, 2), dilation=(2, 2)), "dilation"),
    "max_pool2d in ceil mode": (operator("max_pool2d", kernel_size=(4, 4), stride=(4, 4), ceil_mode=True), "in torch"),
    "slice": (operator("slice", axis=1, start=0, stop=6, step=2), "every 2th"),
    "adaptive_avg_pool2d": (operator("adaptive_avg_pool2d", output_size=(4, 4)), "equal windows"),
    "softmax": (operator("softmax", axis=1), "along channels"),
    "pad": (operator("pad", amounts=(0, 0, 1, 1, 1, 1), mode="reflect"), "zeros"),
    "resize": (operator("resize", size=(9, 9), mode="bicubic"), "or linearly"),
}


def _run(model: nn.Module, path, precision: str, given: torch.Tensor) -> torch.Tensor:
    artefact = LiteRtExporter().export(model, given[:1], path, precision=precision)
    try:
        session = LiteRtRuntime().load(artefact, CPU)
    except MeasurementError:  # an operator alone that XNNPACK has not
        session = LiteRtRuntime().load(artefact, replace(CPU, options={"xnnpack": False}))
    with session:
        found = [session.run([to_artefact(x[None].numpy(), artefact.input)])[0] for x in given]
    return torch.cat([torch.from_numpy(from_artefact(y, artefact.output)) for y in found])


FLOAT_CASES = {IMAGE: {**BOTH, **FLOAT}, SERIES: {**ALONG, **FLOAT_ALONG}}
INT8_CASES = {IMAGE: BOTH, SERIES: ALONG}


@pytest.mark.parametrize(("shape", "name"), [(shape, name) for shape, cases in FLOAT_CASES.items() for name in cases])
def test_float_operators_compute_what_torch_does(shape, name, tmp_path):
    module, x = module_of(FLOAT_CASES[shape][name], shape), images(2, shape)
    found = _run(module, tmp_path / "file", "fp32", x)
    torch.testing.assert_close(found, module(x).detach(), atol=1e-5, rtol=1e-4)


@pytest.mark.parametrize(("shape", "name"), [(shape, name) for shape, cases in INT8_CASES.items() for name in cases])
def test_int8_operators_compute_what_torch_does(shape, name, tmp_path):
    """To two steps of the result; what is left in float is told, and computes between dequantize and quantize."""
    model, x = quantized(INT8_CASES[shape][name], shape), images(4, shape)
    expected = model(x).detach()
    quantizer = model.output_quantizer or model.blocks[0].quantize
    steps = (_run(model, tmp_path / "file", "int8", x) - expected).abs() / quantizer.scale
    assert steps.max() < 2.01
    assert (steps < 0.01).float().mean() > 0.9  # means of windows often lie between two integers


@pytest.mark.parametrize("name", UNWRITTEN)
def test_what_tflite_cannot_say_is_refused_by_name(name, tmp_path):
    build, message = UNWRITTEN[name]
    with pytest.raises(ExportError, match=message):
        LiteRtExporter().export(module_of(build), images(1), tmp_path / "file", precision="fp32")


@pytest.mark.parametrize(("name", "kind"), [("conv_transpose2d of groups", "conv_transpose2d"), ("take", "take")])
def test_integers_of_an_operator_without_a_rule_are_refused_by_name_too(name, kind, tmp_path):
    with pytest.raises(ExportError, match=rf"\({kind}\) cannot be written as TFLite"):
        LiteRtExporter().export(quantized(ONNX[name]), images(1), tmp_path / "file", precision="int8")


def _operators(path) -> Counter[str]:
    return Counter(op.kind for op in read_tflite(path).operators)


@pytest.mark.parametrize("precision", ["fp32", "int8"])
def test_series_stay_images_of_one_row_from_end_to_end(precision, tmp_path):
    """Nothing is transposed, and what is reshaped are the file's two ends."""
    model = (quantized if precision == "int8" else module_of)(ALONG["a separable block"], SERIES)
    artefact = LiteRtExporter().export(model, images(1, SERIES), tmp_path / "file", precision=precision)
    assert artefact.input.layout == "NHWC"
    found = _operators(tmp_path / "file")
    assert found["TRANSPOSE"] == 0
    assert found["RESHAPE"] <= 2
    assert found["CONV_2D"] + found["FULLY_CONNECTED"] == 3
    assert found["DEPTHWISE_CONV_2D"] == 1


def test_series_come_channels_first_where_that_is_asked_for(tmp_path):
    module, x = module_of(ALONG["conv1d strided"], SERIES), images(2, SERIES)
    given = LiteRtExporter().export(module, x[:1], tmp_path / "file", precision="fp32", ends=Ends(input_layout="NCHW"))
    assert given.input.layout == "NCHW"
    with LiteRtRuntime().load(given, CPU) as session:
        (found,) = session.run([x.numpy()])
    torch.testing.assert_close(
        torch.from_numpy(from_artefact(found, given.output)), module(x).detach(), atol=1e-5, rtol=1e-4
    )


def test_tokens_are_rows_of_a_table(tmp_path):
    """Read as they are, by a convolution along them, as in TextCNN (Kim, 2014)."""
    g = GraphBuilder()
    ids = g.input((7,), dtype="int64")
    rows = g.op("embedding", ids, name="table", weights={"weight": Weight(name="table.weight", shape=(11, 4))})
    y = g.conv1d(g.op("permute", rows, name="series", order=(1, 0)), 3, kernel_size=3, name="conv", bias=True)
    torch.manual_seed(0)
    module = OpGraphModule(g.build(g.op("max", y, name="op", axes=(1,)))).eval()
    x = torch.randint(0, 11, (5, 7), generator=torch.Generator().manual_seed(1))
    artefact = LiteRtExporter().export(module, x[:1], tmp_path / "file", precision="fp32")
    assert (artefact.input.dtype, artefact.input.layout) == ("int32", "NCHW")
    assert _operators(tmp_path / "file")["TRANSPOSE"] == 0
    torch.testing.assert_close(_run(module, tmp_path / "file", "fp32", x), module(x).detach(), atol=1e-5, rtol=1e-4)


def test_moves_in_a_row_are_one_and_those_that_undo_each_other_none(tmp_path):
    LiteRtExporter().export(module_of(BOTH["permute and reshape"]), images(1), tmp_path / "file", precision="fp32")
    assert [op.kind for op in read_tflite(tmp_path / "file").operators] == ["RESHAPE", "RELU6"]


def test_operators_without_an_integer_form_are_told_with_their_places():
    assert quantized(operator("tanh")).left_in_float == ("tanh ('op') of 1",)
    assert quantized(BOTH["a block of a ResNet"]).left_in_float == ()


def test_the_hard_sigmoid_of_integers_is_computed_in_integers(tmp_path):
    model = quantized(BOTH["hardsigmoid"])
    assert model.left_in_float == ()
    LiteRtExporter().export(model, images(1), tmp_path / "file", precision="int8")
    assert _operators(tmp_path / "file") == {"ADD": 1, "MUL": 1}


def test_every_case_is_of_an_operator():
    named = [*BOTH, *FLOAT, *ALONG, *FLOAT_ALONG, *UNWRITTEN]
    assert {name.split(" ")[0] for name in named} - {"a"} <= OPERATORS.keys()
