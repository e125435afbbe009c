"""A simulated cost for an ONNX graph, so that tests have a device whose times and energies are known.

Knows operators and shapes of a graph; neither clocks nor devices.
"""

from __future__ import annotations

import math
from dataclasses import dataclass
from pathlib import Path
from typing import TYPE_CHECKING

from hwnas.onnx_names import is_dequantize

if TYPE_CHECKING:
    import onnx

# Nanoseconds, roughly one core of a small processor. The ratios matter, not the values: int8 is cheaper where it
# multiplies, data movement costs something, every node and every call costs something.
_RUN_NS = 4000.0
_NODE_NS = 300.0
_MAC_NS = {"floats": 0.12, "integers": 0.05}
_ELEMENT_NS = 0.2
_MULTIPLYING = ("Conv", "Gemm", "MatMul", "QLinearConv", "QLinearMatMul")
# Watts above the idle level. Multiplying takes more than moving, so that an energy is not just a time by another name.
_POWER_W = {"floats": 5.0, "integers": 3.0, "other": 1.5}


@dataclass(frozen=True, slots=True, kw_only=True)
class SimulatedCosts:
    """What one run of a graph costs.

    Attributes:
        multiplying_ns: nanoseconds of its multiplications.
        other_ns: of everything else: the call, the nodes, the data moved.
        energy_mj: millijoules above the idle level.
    """

    multiplying_ns: float
    other_ns: float
    energy_mj: float


def simulated_cost_ns(path: Path) -> float:
    """Nanoseconds of one run at batch 1: a constant, and a sum over the nodes of the graph.

    Because it is a sum over nodes, a network costs what its blocks cost alone, but for the constant of each call:
    an ideal table plus a correction predicts it exactly.

    Args:
        path: an ONNX file; free dimensions count as 1.

    Raises:
        ValueError: it is not an ONNX file.
    """
    costs = simulated_costs(path)
    return costs.multiplying_ns + costs.other_ns


def simulated_energy_mj(path: Path) -> float:
    """Millijoules of one run at batch 1 above the idle level; a sum like `simulated_cost_ns`, and as ideal.

    Args:
        path: as there.

    Raises:
        ValueError: it is not an ONNX file.
    """
    return simulated_costs(path).energy_mj


def simulated_costs(path: Path) -> SimulatedCosts:
    """What one run costs: `simulated_cost_ns` in two parts and `simulated_energy_mj`, of a file read once.

    Args:
        path: as there.

    Raises:
        ValueError: it is not an ONNX file.
    """
    ns_of = _cost_by_kind(path)
    return SimulatedCosts(
        multiplying_ns=sum(ns for kind, ns in ns_of.items() if kind != "other"),
        other_ns=ns_of["other"],
        energy_mj=1e-6 * sum(_POWER_W[kind] * ns for kind, ns in ns_of.items()),
    )


def _cost_by_kind(path: Path) -> dict[str, float]:
    """Nanoseconds of one run: multiplying in fp32 and in int8, and all other."""
    import onnx
    from google.protobuf.message import DecodeError  # type: ignore[import-untyped]

    try:
        model = onnx.load(str(path))
        onnx.checker.check_model(model)
        graph = onnx.shape_inference.infer_shapes(model).graph
    except (DecodeError, onnx.checker.ValidationError, onnx.shape_inference.InferenceError) as e:
        raise ValueError(f"{path} is not an ONNX model: {e}") from e
    constants = {t.name: tuple(t.dims) for t in graph.initializer}
    shapes = {v.name: _dims(v) for v in (*graph.input, *graph.output, *graph.value_info)} | constants
    dequantized = _dequantized(graph)
    constant_values = set(constants) | {o for n in graph.node if n.op_type == "Constant" for o in n.output}
    cost = {"floats": 0.0, "integers": 0.0, "other": _RUN_NS}
    for node in graph.node:
        if node.op_type == "Constant" or all(name in constant_values for name in node.input if name):
            constant_values.update(node.output)  # folded when the model is loaded: costs nothing at run time
            continue
        out_elements = math.prod(shapes.get(node.output[0], ()))
        cost["other"] += _NODE_NS + _ELEMENT_NS * out_elements
        if node.op_type in _MULTIPLYING:
            numbers = "integers" if node.op_type.startswith("QLinear") or node.input[0] in dequantized else "floats"
            cost[numbers] += _MAC_NS[numbers] * out_elements * _macs_per_output(node, shapes)
    return cost


def _macs_per_output(node: onnx.NodeProto, shapes: dict[str, tuple[int, ...]]) -> int:
    """How many multiplications one output element takes: the weights of one filter, or the inner dimension."""
    if node.op_type == "Conv":
        return math.prod(shapes.get(node.input[1], (1,))[1:])
    if node.op_type == "QLinearConv":
        return math.prod(shapes.get(node.input[3], (1,))[1:])
    return (shapes.get(node.input[0], ()) or (1,))[-1]


def _dequantized(graph: onnx.GraphProto) -> set[str]:
    """Tensors that come straight out of a DequantizeLinear."""
    return {node.output[0] for node in graph.node if is_dequantize(node)}


def _dims(value: onnx.ValueInfoProto) -> tuple[int, ...]:
    return tuple(d.dim_value or 1 for d in value.type.tensor_type.shape.dim)
