"""Operator graphs: what a network computes and costs, as data.

Everything else follows from them by one rule for each operator: costs, elasticity, quantization, file formats,
drawings. This package must never know torch, a runtime, spaces or kinds of block.
"""

from hwnas.graph.builder import GraphBuilder, Ref
from hwnas.graph.costs import liveness, macs, op_macs, parameters, peak_memory_bytes, unknown_operators
from hwnas.graph.operators import OPERATORS, Operator, operator
from hwnas.graph.types import Op, OpGraph, Value, Weight

__all__ = [
    "OPERATORS",
    "GraphBuilder",
    "Op",
    "OpGraph",
    "Operator",
    "Ref",
    "Value",
    "Weight",
    "liveness",
    "macs",
    "op_macs",
    "operator",
    "parameters",
    "peak_memory_bytes",
    "unknown_operators",
]
