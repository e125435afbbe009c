"""Walks a torch module and writes each operator graph in it: the whole file.

This module knows which graphs are written how, not what operators look like, nor devices, tables or search.
"""

from __future__ import annotations

from collections.abc import Iterator, Sequence

from torch import nn

from hwnas.errors import ExportError
from hwnas.graph import OpGraph
from hwnas.precisions import DEQUANTIZE, is_conversion
from hwnas.supernet.graph_module import GraphInterpreter, OpGraphModule
from hwnas.supernet.parting import parted_module, parts_of
from hwnas.supernet.quantization import QuantizedNetwork, fold_batchnorm
from hwnas.supernet.quantization.modules import Quantizer
from hwnas.supernet.quantization.region import QuantizedRegion
from hwnas.supernet.subnetwork import SubNetwork
from hwnas.types import Ends, TensorSpec

from . import _tflite_float, _tflite_int8
from . import _tflite_operators as ops
from ._tflite_context import Writing, is_read_as_series, is_series
from ._tflite_graph import Graph, QuantizationParameters, Value

_NOTHING = (nn.Identity, nn.Dropout)  # in eval mode


def to_tflite(
    model: nn.Module,
    shape: Sequence[int],
    ends: Ends,
) -> tuple[bytes, TensorSpec, list[TensorSpec], bool]:
    """The file of a module, what its input and its outputs look like, and whether it has several of these.

    Args:
        model: is not changed; batch normalisation is folded in a copy.
        shape: of one sample: (C, H, W), (C, L) or (features,).
        ends: integers if the module begins and ends with them, and images as (1, H, W, C) and series as (1, L, C),
            where they say nothing.

    Raises:
        ExportError: something in the module has no operator here; names it. Or an end is to have integers, or floats,
            and the module has others there.
    """
    parts = list(_parts(model, ""))
    several = parts_of(model)
    for name, part in parts:
        if not isinstance(part, OpGraphModule | QuantizedRegion):
            raise ExportError(
                f"module {name!r} ({type(part).__name__}) of {type(model).__name__} cannot be written as TFLite; "
                "written are networks of operator graphs: SubNetwork, QuantizedNetwork, OpGraphModule"
            )
    quantization = None
    if ends.integer_input is not False and parts and isinstance(first := parts[0][1], QuantizedRegion) and first.enters:
        entry = first.result_of(first.op_plan[0])
        assert isinstance(entry, Quantizer)
        quantization = _tflite_int8.parameters(entry)
        parts.pop(0)
    if ends.integer_output is not False and parts and isinstance(last := parts[-1][1], QuantizedRegion) and last.leaves:
        parts.pop()
    # behind several outputs, as integers or in the float form of a network that has them
    leaves = bool(several) and {op.kind for op in _graph_of(parts[-1][1]).ops} == {DEQUANTIZE} and bool(parts.pop())
    if several:
        name, part = parts[-1]
        assert isinstance(part, GraphInterpreter)
        parts[-1] = name, parted_module(part)
    graph, graphs = Graph(), [_graph_of(part) for _, part in parts]
    has_layout = len(shape) == 3 or _begins_with_series(graphs)
    layout = (ends.input_layout or "NHWC") if has_layout else "NCHW"  # (what is no image and no series has none)
    given, x = _entrance(
        graph, "input", shape, layout=layout, quantization=quantization, whole_numbers=_takes_whole_numbers(graphs)
    )
    entered = x
    found: tuple[Value, ...] = (x,)
    for name, part in parts:
        # folding copies, so that refreshing the weights' scales does not touch the caller's module either
        found = _written(graph, fold_batchnorm(part), found[0], name=name)
    if found[0] is entered:
        raise ExportError(f"{type(model).__name__} computes nothing: its file would have no operator")
    prefix = f"{parts[-1][0]}." if parts[-1][0] else ""
    names = [part.name for part in several] or [ends.output_name]
    if len(found) != len(names):
        raise ExportError(f"{type(model).__name__} gives {len(found)} tensors; written are {len(names)}")
    if leaves:
        found = tuple(
            y if y.quantization is None else ops.dequantize(graph, y, name=f"{prefix}{n}.floats")
            for n, y in zip(names, found, strict=True)
        )
    shapes = [graphs[-1].by_name[name].shape for name in graphs[-1].outputs]
    results = [_as_told(graph, y, shape, name=f"{prefix}{n}") for n, y, shape in zip(names, found, shapes, strict=True)]
    for end, asked, quantized in (
        ("input", ends.integer_input, [quantization]),
        ("output", ends.integer_output, [y.quantization for y, _ in results]),
    ):
        for q in quantized:
            if asked is not None and asked != (q is not None):
                raise ExportError(
                    f"the {end} of {type(model).__name__} is to have {'integers' if asked else 'floats'}, but the "
                    f"module has {'floats' if asked else 'integers'} there"
                )
    return (
        graph.to_bytes({n: y for n, (y, _) in zip(names, results, strict=True)}),
        _specification(given, layout),
        [_specification(y, told) for y, told in results],
        bool(several),
    )


def _as_told(graph: Graph, x: Value, shape: tuple[int, ...], *, name: str) -> tuple[Value, str]:
    """An output as a file gives it, and its layout: series without their row, vectors without positions."""
    series = is_series(x, shape)
    if series or (len(x.shape) == 4 and len(shape) == 1):
        x = ops.reshape(graph, x, (1, *shape[::-1]), name=name)  # (1, 1, L, C) -> (1, L, C), or (1, 1, 1, C) -> (1, C)
    return x, "NHWC" if series or len(shape) == 3 else "NCHW"


def _written(graph: Graph, module: nn.Module, x: Value, *, name: str) -> tuple[Value, ...]:
    assert isinstance(module, GraphInterpreter)
    writing = Writing(graph=graph, module=module, prefix=f"{name}." if name else "")
    write = _tflite_int8.write if isinstance(module, QuantizedRegion) else _tflite_float.write
    return write(writing, [x])


def _graph_of(module: nn.Module) -> OpGraph:
    assert isinstance(module, GraphInterpreter)
    return module.op_graph


def _takes_whole_numbers(graphs: Sequence[OpGraph]) -> bool:
    """Whether what a network takes are positions or tokens: int64 in torch, int32 in a file."""
    return bool(graphs) and not graphs[0].by_name[graphs[0].inputs[0]].dtype.startswith("float")


def _begins_with_series(graphs: Sequence[OpGraph]) -> bool:
    """Whether what a network takes is read by convolutions along a series, first of all or behind conversions."""
    for graph in graphs:
        if is_read_as_series(graph, graph.inputs[0]):
            return True
        if any(not is_conversion(op.kind) for op in graph.ops):
            return False
    return False


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
    graph: Graph,
    name: str,
    shape: Sequence[int],
    *,
    layout: str,
    quantization: QuantizationParameters | None,
    whole_numbers: bool,
) -> tuple[Value, Value]:
    """The input, and what the first operator reads: images as (1, H, W, C), series as (1, 1, L, C), whatever comes."""
    channels_last = (*shape[1:], shape[0]) if layout == "NHWC" else tuple(shape)
    given = graph.input(name, (1, *channels_last), quantization=quantization, whole_numbers=whole_numbers)
    if layout == "NHWC" and len(shape) == 2:
        return given, ops.reshape(graph, given, (1, *given.shape), name="series")
    if layout == "NCHW" and len(shape) == 3:
        return given, ops.transpose(graph, given, (0, 2, 3, 1), name="channels_last")
    return given, given


def _specification(end: Value, layout: str) -> TensorSpec:
    if end.quantization is None:
        return TensorSpec(layout=layout, dtype=end.dtype.name)
    return TensorSpec(layout=layout, dtype="int8", scale=end.quantization.scale, zero_point=end.quantization.zero_point)
