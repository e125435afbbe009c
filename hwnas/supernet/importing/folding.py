"""What follows from constants and sizes alone, computed by ONNX's reference implementation. It never knows torch."""

from __future__ import annotations

from collections.abc import Sequence

import numpy as np

from hwnas.errors import ModelError
from hwnas.supernet.importing.nodes import Node, OnnxGraph
from hwnas.types import Array

SIZES = frozenset({"Shape", "Size"})  # what they give is known where a tensor's shape is
_CHANCE = ("Random", "Multinomial", "Bernoulli")
_MOST = 1 << 26  # numbers in a constant that is made of others


def fold(graph: OnnxGraph) -> None:
    """Compute what depends on constants alone, in place."""
    kept = []
    for node in graph.nodes:
        names = [n for n in node.inputs if n]
        if all(n in graph.constants for n in names) and not node.kind.startswith(_CHANCE):
            results = evaluate(node, [graph.constants[n] if n else None for n in node.inputs], opset=graph.opset)
            graph.constants |= {n: a for n, a in zip(node.outputs, results, strict=False) if n}
        else:
            kept.append(node)
    graph.nodes = kept


def of_sizes(graph: OnnxGraph) -> set[str]:
    """Values that follow from sizes and constants alone; they are numbers before any tensor is."""
    found: set[str] = set()
    for node in graph.nodes:
        names = [n for n in node.inputs if n and n not in graph.constants]
        if node.kind in SIZES or (names and found.issuperset(names) and not node.kind.startswith(_CHANCE)):
            found.update(node.outputs)
    return found


def evaluate(node: Node, inputs: Sequence[Array | None], *, opset: int) -> list[Array]:
    """What a node makes of arrays.

    Raises:
        ModelError: ONNX's reference implementation cannot compute it.
    """
    from onnx import AttributeProto, NodeProto, TensorProto, helper, numpy_helper
    from onnx.reference import ReferenceEvaluator

    if node.kind == "Constant" and isinstance(node.attributes.get("value"), np.ndarray):
        return [np.asarray(node.attributes["value"])]
    names = [f"i{k}" if a is not None else "" for k, a in enumerate(inputs)]
    made = [f"o{k}" if n else "" for k, n in enumerate(node.outputs)]
    proto: NodeProto = helper.make_node(node.kind, names, made)
    for name, value in node.attributes.items():
        given = numpy_helper.from_array(value) if isinstance(value, np.ndarray) else value
        attribute: AttributeProto = helper.make_attribute(name, given)
        proto.attribute.append(attribute)
    feeds = {name: a for name, a in zip(names, inputs, strict=True) if a is not None}
    infos = [
        helper.make_tensor_value_info(n, helper.np_dtype_to_tensor_dtype(a.dtype), a.shape) for n, a in feeds.items()
    ]
    results = [helper.make_tensor_value_info(n, TensorProto.UNDEFINED, None) for n in made if n]
    model = helper.make_model(
        helper.make_graph([proto], "one", infos, results), opset_imports=[helper.make_opsetid("", opset)]
    )
    try:
        found = ReferenceEvaluator(model).run(None, feeds)
    except Exception as e:  # it raises whatever numpy does
        raise ModelError(f"the ONNX operator {node} cannot be computed of {[*map(_told, inputs)]}: {e}") from e
    by_name = dict(zip((n for n in made if n), map(np.asarray, found), strict=True))
    if any(a.size > _MOST for a in by_name.values()):
        raise ModelError(f"the ONNX operator {node} makes more than {_MOST:,} numbers of none of the input's")
    return [by_name[n] if n else np.zeros(0) for n in made]


def _told(array: Array | None) -> str:
    return "nothing" if array is None else f"{array.dtype} {array.shape}"
