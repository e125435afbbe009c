"""What quantization is called in ONNX graphs, for those who write such graphs and those who read them.

Knows the names of ONNX operators and nothing else: never torch, onnx or a runtime.
"""

from __future__ import annotations

from typing import Protocol

QUANTIZE = "QuantizeLinear"  # (value, scale, zero point) -> integers
DEQUANTIZE = "DequantizeLinear"  # (integers, scale, zero point) -> value


class Node(Protocol):
    """What is asked of an operator; `onnx.NodeProto` has it."""

    op_type: str


def is_quantize(node: Node) -> bool:
    """Whether a node leads from values to integers."""
    return node.op_type == QUANTIZE


def is_dequantize(node: Node) -> bool:
    """Whether a node leads from integers back to values."""
    return node.op_type == DEQUANTIZE
