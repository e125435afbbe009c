"""The names are those of the ONNX standard."""

from __future__ import annotations

import pytest
from onnx import defs, helper

from hwnas.onnx_names import DEQUANTIZE, QUANTIZE, is_dequantize, is_quantize


@pytest.mark.parametrize("name", [QUANTIZE, DEQUANTIZE])
def test_the_standard_has_an_operator_of_that_name(name: str) -> None:
    assert defs.has(name)


@pytest.mark.parametrize(
    ("name", "found"), [(QUANTIZE, (True, False)), (DEQUANTIZE, (False, True)), ("Conv", (False, False))]
)
def test_nodes_are_told_apart(name: str, found: tuple[bool, bool]) -> None:
    node = helper.make_node(name, ["x", "scale", "zero"], ["y"])
    assert (is_quantize(node), is_dequantize(node)) == found
