"""Operators as TFLite files: what LiteRT computes is what torch does, in float32 and in int8, or a refusal by name."""

from __future__ import annotations

from dataclasses import replace

import pytest
import torch
from torch import nn

pytest.importorskip("ai_edge_litert", reason="the extra 'litert' is not installed")

from hwnas.devices import load_device
from hwnas.devices.litert import LiteRtRuntime
from hwnas.errors import ExportError, MeasurementError
from hwnas.exporters.litert import LiteRtExporter
from hwnas.graph import OPERATORS
from hwnas.measure.interface import from_artefact, to_artefact

from .operator_cases import BOTH, FLOAT, ONNX, Build, images, module_of, operator, quantized

CPU = load_device("cpu-litert")
UNWRITTEN: dict[str, tuple[Build, str]] = {
    "mish": (operator("mish"), r"operator op \(mish\) cannot be written as TFLite: there is no rule"),
    "attention": (lambda g, x: g.op("attention", x, x, x, name="op", causal=True), "causal"),
    "conv1d": (ONNX["conv1d"], r"\(conv1d\) cannot be written as TFLite: there is no rule"),
    "max_pool2d": (operator("max_pool2d", kernel_size=(2, 2), dilation=(2, 2)), "dilation"),
    "max_pool2d in ceil mode": (operator("max_pool2d", kernel_size=(4, 4), stride=(4, 4), ceil_mode=True), "in torch"),
    "slice": (operator("slice", axis=1, start=0, stop=6, step=2), "every 2th"),
    "adaptive_avg_pool2d": (operator("adaptive_avg_pool2d", output_size=(4, 4)), "equal windows"),
    "softmax": (operator("softmax", axis=1), "along channels"),
    "pad": (operator("pad", amounts=(0, 0, 1, 1, 1, 1), mode="reflect"), "zeros"),
    "resize": (operator("resize", size=(9, 9), mode="bicubic"), "bilinearly"),
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


@pytest.mark.parametrize("name", [*BOTH, *FLOAT])
def test_float_operators_compute_what_torch_does(name, tmp_path):
    module, x = module_of({**BOTH, **FLOAT}[name]), images(2)
    found = _run(module, tmp_path / "file", "fp32", x)
    torch.testing.assert_close(found, module(x).detach(), atol=1e-5, rtol=1e-4)


@pytest.mark.parametrize("name", BOTH)
def test_int8_operators_compute_what_torch_does(name, tmp_path):
    """To two steps of the result; what is left in float is told, and computes between dequantize and quantize."""
    model, x = quantized(BOTH[name]), images(4)
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


@pytest.mark.parametrize(("name", "kind"), [("conv1d", "conv1d"), ("take", "take")])
def test_integers_of_an_operator_without_a_rule_are_refused_by_name_too(name, kind, tmp_path):
    with pytest.raises(ExportError, match=rf"\({kind}\) cannot be written as TFLite"):
        LiteRtExporter().export(quantized(ONNX[name]), images(1), tmp_path / "file", precision="int8")


def test_operators_without_an_integer_form_are_told_with_their_places():
    assert quantized(operator("tanh")).left_in_float == ("tanh ('op') of 1",)
    assert quantized(BOTH["a block of a ResNet"]).left_in_float == ()


def test_every_case_is_of_an_operator():
    assert {name.split(" ")[0] for name in [*BOTH, *FLOAT, *UNWRITTEN]} - {"a"} <= OPERATORS.keys()
