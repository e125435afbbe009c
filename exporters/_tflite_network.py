"""Walks a torch module and writes each part with the operators that compute it: the whole file.

This module knows which module is written how, not what the operators look like, nor devices, tables or search.
"""

from __future__ import annotations

from collections.abc import Callable, Iterator, Sequence

from torch import nn

from hwnas.errors import ExportError
from hwnas.supernet.plain import Boundary, ConvNormAct, Head, InvertedResidual, PlainNetwork, SqueezeExcite, Stem
from hwnas.supernet.quantization import QuantizedNetwork, fold_batchnorm
from hwnas.supernet.quantization.blocks import (
    QuantizeBoundary,
    QuantizedConvAct,
    QuantizedHead,
    QuantizedInvertedResidual,
    QuantizedSqueezeExcite,
    QuantizedStem,
)
from hwnas.types import TensorSpec

from . import _tflite_float, _tflite_int8
from . import _tflite_operators as ops
from ._tflite_graph import Graph, Grid, Value


def _quantize(graph: Graph, module: QuantizeBoundary, x: Value, *, name: str) -> Value:
    return ops.quantize(graph, x, name=name, grid=_tflite_int8.grid(module.quantizer))


def _boundary(graph: Graph, module: Boundary, x: Value, *, name: str) -> Value:
    """In a network that was not quantized, boundaries are nothing."""
    return x if x.grid is None else ops.dequantize(graph, x, name=name)


def _leaves_integers(module: nn.Module) -> bool:
    return isinstance(module, Boundary) and module.block.kind == "dequantize"


_WRITERS: dict[type[nn.Module], Callable[..., Value]] = {
    Stem: _tflite_float.stem,
    InvertedResidual: _tflite_float.inverted_residual,
    SqueezeExcite: _tflite_float.squeeze_excite,
    Head: _tflite_float.head,
    ConvNormAct: _tflite_float.conv_norm_act,
    QuantizedStem: _tflite_int8.stem,
    QuantizedInvertedResidual: _tflite_int8.inverted_residual,
    QuantizedSqueezeExcite: _tflite_int8.squeeze_excite,
    QuantizedHead: _tflite_int8.head,
    QuantizedConvAct: _tflite_int8.conv_act,
    QuantizeBoundary: _quantize,
    Boundary: _boundary,
}

_CONTAINERS = (PlainNetwork, QuantizedNetwork, nn.Sequential)
_NOTHING = (nn.Identity, nn.Dropout)  # in eval mode


def to_tflite(
    model: nn.Module,
    shape: Sequence[int],
    *,
    names: tuple[str, str],
    layout: str = "NHWC",
    integer_input: bool = True,
    integer_output: bool = True,
) -> tuple[bytes, TensorSpec, TensorSpec]:
    """The file of a module, and what its input and output look like.

    Args:
        model: is not changed; BatchNorm is folded in a copy.
        shape: of one sample: (C, H, W) or (features,).
        names: of the input and the output.
        layout: of an image that comes in.
        integer_input: a module that begins with a `quantize` boundary takes int8, and has no operator for it.
        integer_output: likewise for one that ends with a `dequantize` boundary.

    Raises:
        ExportError: something in the module has no operator here; names it.
    """
    parts = list(_parts(model, ""))
    for name, part in parts:
        if type(part) not in _WRITERS:
            raise ExportError(
                f"module {name!r} ({type(part).__name__}) of {type(model).__name__} cannot be written as TFLite; "
                f"modules that can: {', '.join(sorted(kind.__name__ for kind in _WRITERS))}"
            )
    grid = None
    if integer_input and parts and isinstance(first := parts[0][1], QuantizeBoundary):
        grid = _tflite_int8.grid(first.quantizer)
        parts.pop(0)
    if integer_output and parts and _leaves_integers(parts[-1][1]):
        parts.pop()
    graph = Graph()
    x = entered = _entrance(graph, names[0], shape, layout=layout, grid=grid)
    for name, part in parts:
        # folding copies, so that refreshing the weights' scales does not touch the caller's module either
        folded = fold_batchnorm(part)  # type: ignore[arg-type]  # any module does
        x = _WRITERS[type(part)](graph, folded, x, name=name)
    if x is entered:
        raise ExportError(f"{type(model).__name__} computes nothing: its file would have no operator")
    return (
        graph.to_bytes({names[1]: x}),
        _specification(shape, layout, grid),
        _specification(x.shape[1:], "NHWC", x.grid),
    )


def _parts(module: nn.Module, name: str) -> Iterator[tuple[str, nn.Module]]:
    """The modules that are written one after the other, with their paths."""
    if isinstance(module, _CONTAINERS):
        inside = module if isinstance(module, nn.Sequential) else module.blocks
        prefix = f"{name}." if name else ""
        prefix += "" if isinstance(module, nn.Sequential) else "blocks."
        for child_name, child in inside.named_children():
            yield from _parts(child, prefix + child_name)
    elif not isinstance(module, _NOTHING):
        yield name or type(module).__name__.lower(), module


def _entrance(graph: Graph, name: str, shape: Sequence[int], *, layout: str, grid: Grid | None) -> Value:
    """The input, images as (1, H, W, C) whatever they come as."""
    if len(shape) != 3:
        return graph.input(name, (1, *shape), grid=grid)
    channels, height, width = shape
    if layout == "NHWC":
        return graph.input(name, (1, height, width, channels), grid=grid)
    x = graph.input(name, (1, channels, height, width), grid=grid)
    return ops.transpose(graph, x, (0, 2, 3, 1), name="channels_last")


def _specification(shape: Sequence[int], layout: str, grid: Grid | None) -> TensorSpec:
    layout = layout if len(shape) == 3 else "NCHW"  # (a vector has none)
    if grid is None:
        return TensorSpec(layout=layout)
    return TensorSpec(layout=layout, dtype="int8", scale=grid.scale, zero_point=grid.zero_point)
