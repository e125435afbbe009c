"""What follows from weights alone, as tables of positions do: computed once, here, and written as its numbers.

This module knows graphs and their modules, not operators one by one, devices or search.
"""

from __future__ import annotations

from collections.abc import Callable, Iterator

import numpy as np
import torch
from torch import Tensor, nn

from hwnas.graph import Op, OpGraph
from hwnas.supernet.graph_module import GraphInterpreter
from hwnas.supernet.operators import FUNCTIONS, MODULES
from hwnas.supernet.quantization.modules import Quantizer, output_quantizer
from hwnas.supernet.quantization.region import QuantizedRegion

from ._tflite_context import Writing, array, stored_numbers
from ._tflite_graph import QuantizationParameters, Value


def follows_from_weights(graph: OpGraph, op: Op) -> bool:
    """Whether an operator gives the same whatever the network is shown."""
    return not any(value.batched for value in graph.output_values(op))


def written_constants(
    w: Writing, *, parameters: Callable[[Quantizer], QuantizationParameters] | None = None
) -> dict[str, Value]:
    """Value -> its numbers in the file, of those that follow from weights alone and are read by what does not.

    Args:
        w: the file and the module.
        parameters: of a quantizer; None: of a module of floats.
    """
    graph = w.module.op_graph
    read = {name for op in graph.ops if not follows_from_weights(graph, op) for name in op.inputs}
    found: dict[str, Value] = {}
    with torch.no_grad():
        for name, numbers, quantizer in _computed(w):
            if name not in read | set(graph.outputs):
                continue
            stored = stored_numbers(array(numbers))
            if quantizer is None or parameters is None:
                kept = stored.astype(np.int32) if stored.dtype.kind == "i" else stored.astype(np.float32)
                found[name] = w.graph.constant(f"{w.prefix}{name}", kept)
                continue
            q = parameters(quantizer)
            integers = np.rint(stored / np.float32(q.scale)).astype(np.int32) + q.zero_point
            found[name] = w.graph.constant(f"{w.prefix}{name}", integers.astype(np.int8), quantization=q)
    return found


def _computed(w: Writing) -> Iterator[tuple[str, Tensor, Quantizer | None]]:
    """(value, its numbers, what rounded them), in the graph's order."""
    module, graph = w.module, w.module.op_graph
    values: dict[str, Tensor] = {}
    rounded: dict[str, Quantizer | None] = {}
    items = (
        [(item.op, item.computes, module.result_of(item), item.outputs, item.has_scale) for item in module.op_plan]
        if isinstance(module, QuantizedRegion)
        else [(op, True, None, op.outputs, False) for op in graph.ops]
    )
    for op, computes, result, outputs, has_scale in items:
        if not follows_from_weights(graph, op):
            continue
        given = [values[name] for name in op.inputs]
        results = _results(w, op, given) if computes else given
        quantizer = rounded[op.inputs[0]] if has_scale and op.inputs and result is None else None
        if result is not None:
            results, quantizer = [result(y) for y in results], output_quantizer(result)
        for name, y in zip(outputs, results, strict=True):
            values[name], rounded[name] = y, quantizer
            yield name, y, quantizer


def _results(w: Writing, op: Op, given: list[Tensor]) -> list[Tensor]:
    own = _module_of(w.module, op)
    if own is not None:
        return [own(*given)]
    weights = {role: _held(w.module, weight.name) for role, weight in op.weights}
    results = FUNCTIONS[op.kind](w.call(op), given, weights)
    return [results] if isinstance(results, Tensor) else list(results)


def _module_of(module: GraphInterpreter, op: Op) -> nn.Module | None:
    """The module that computes an operator; None where a function does."""
    return module.get_submodule(op.name) if op.kind in MODULES and module.keeps(op) else None


def _held(module: nn.Module, path: str) -> Tensor:
    *names, last = path.split(".")
    found = getattr(module.get_submodule(".".join(names)), last)
    assert isinstance(found, Tensor)
    return found
