"""Walks a torch module and writes each operator graph in it: the whole file.

This module knows which graphs are written how, not what operators look like, nor devices, tables or search.
"""

from __future__ import annotations

from collections.abc import Iterator, Sequence

from torch import nn

from hwnas.errors import ExportError
from hwnas.supernet.graph_module import GraphInterpreter, OpGraphModule
from hwnas.supernet.quantization import QuantizedNetwork, fold_batchnorm
from hwnas.supernet.quantization.modules import Quantizer
from hwnas.supernet.quantization.region import QuantizedRegion
from hwnas.supernet.subnetwork import SubNetwork
from hwnas.types import Ends, TensorSpec

from . import _tflite_float, _tflite_int8
from . import _tflite_operators as ops
from ._tflite_context import Writing
from ._tflite_graph import Graph, QuantizationParameters, Value

_NOTHING = (nn.Identity, nn.Dropout)  # in eval mode


def to_tflite(
    model: nn.Module,
    shape: Sequence[int],
    ends: Ends,
) -> tuple[bytes, TensorSpec, TensorSpec]:
    """The file of a module, and what its input and output look like.

    Args:
        model: is not changed; batch normalisation is folded in a copy.
        shape: of one sample: (C, H, W) or (features,).
        ends: integers if the module begins and ends with them, and images as (1, H, W, C), where they say nothing.

    Raises:
        ExportError: something in the module has no operator here; names it. Or an end is to have integers, or floats,
            and the module has others there.
    """
    layout = ends.input_layout or "NHWC"
    parts = list(_parts(model, ""))
    for name, part in parts:
        if not isinstance(part, OpGraphModule | QuantizedRegion):
            raise ExportError(
                f"module {name!r} ({type(part).__name__}) of {type(model).__name__} cannot be written as TFLite; "
                "written are networks of operator graphs: SubNetwork, QuantizedNetwork, OpGraphModule"
            )
    quantization = None
    if ends.integer_input is not False and parts and isinstance(first := parts[0][1], QuantizedRegion) and first.enters:
        entry = first.result(first.plan[0])
        assert isinstance(entry, Quantizer)
        quantization = _tflite_int8.parameters(entry)
        parts.pop(0)
    if ends.integer_output is not False and parts and isinstance(last := parts[-1][1], QuantizedRegion) and last.leaves:
        parts.pop()
    graph = Graph()
    x = entered = _entrance(graph, "input", shape, layout=layout, quantization=quantization)
    for name, part in parts:
        # folding copies, so that refreshing the weights' scales does not touch the caller's module either
        x = _written(graph, fold_batchnorm(part), x, name=name)
    if x is entered:
        raise ExportError(f"{type(model).__name__} computes nothing: its file would have no operator")
    if parts and len(x.shape) == 4 and len(_result_shape(parts[-1][1])) == 1:
        prefix = f"{parts[-1][0]}." if parts[-1][0] else ""
        x = ops.reshape(graph, x, (1, x.shape[3]), name=f"{prefix}{ends.output_name}")
    for end, asked, found in (
        ("input", ends.integer_input, quantization),
        ("output", ends.integer_output, x.quantization),
    ):
        if asked is not None and asked != (found is not None):
            raise ExportError(
                f"the {end} of {type(model).__name__} is to have {'integers' if asked else 'floats'}, but the module "
                f"has {'floats' if asked else 'integers'} there"
            )
    return (
        graph.to_bytes({ends.output_name: x}),
        _specification(shape, layout, quantization),
        _specification(x.shape[1:], "NHWC", x.quantization),
    )


def _written(graph: Graph, module: nn.Module, x: Value, *, name: str) -> Value:
    assert isinstance(module, GraphInterpreter)
    writing = Writing(graph=graph, module=module, prefix=f"{name}." if name else "")
    write = _tflite_int8.write if isinstance(module, QuantizedRegion) else _tflite_float.write
    results = write(writing, [x])
    if len(results) != 1:
        raise ExportError(f"{name or type(module).__name__} gives {len(results)} tensors; written is one")
    return results[0]


def _result_shape(module: nn.Module) -> tuple[int, ...]:
    assert isinstance(module, GraphInterpreter)
    graph = module.op_graph
    return graph.by_name[graph.outputs[0]].shape


def _parts(module: nn.Module, name: str) -> Iterator[tuple[str, nn.Module]]:
    """The modules that are written one after the other, with their paths."""
    if isinstance(module, SubNetwork | QuantizedNetwork | nn.Sequential):
        inside = module if isinstance(module, nn.Sequential) else module.blocks
        prefix = f"{name}." if name else ""
        prefix += "" if isinstance(module, nn.Sequential) else "blocks."
        for child_name, child in inside.named_children():
            yield from _parts(child, prefix + child_name)
    elif not isinstance(module, _NOTHING):
        yield name, module


def _entrance(
    graph: Graph, name: str, shape: Sequence[int], *, layout: str, quantization: QuantizationParameters | None
) -> Value:
    """The input, images as (1, H, W, C) whatever they come as."""
    if len(shape) != 3:
        return graph.input(name, (1, *shape), quantization=quantization)
    channels, height, width = shape
    if layout == "NHWC":
        return graph.input(name, (1, height, width, channels), quantization=quantization)
    x = graph.input(name, (1, channels, height, width), quantization=quantization)
    return ops.transpose(graph, x, (0, 2, 3, 1), name="channels_last")


def _specification(shape: Sequence[int], layout: str, quantization: QuantizationParameters | None) -> TensorSpec:
    layout = layout if len(shape) == 3 else "NCHW"  # (a vector has none)
    if quantization is None:
        return TensorSpec(layout=layout)
    return TensorSpec(layout=layout, dtype="int8", scale=quantization.scale, zero_point=quantization.zero_point)
