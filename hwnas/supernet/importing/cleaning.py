"""A file's graph without what does nothing, and with one form for what ONNX's versions write in several.

It knows nodes and constants; never torch.
"""

from __future__ import annotations

import math

import numpy as np

from hwnas.given_inputs import InputShape
from hwnas.supernet.importing.attention import fuse_attention
from hwnas.supernet.importing.folding import fold
from hwnas.supernet.importing.nodes import Node, OnnxGraph, ordered
from hwnas.supernet.importing.patterns import fuse

_FLOAT = 1  # ONNX's number of float32
_FIRST = [0, 3, 1, 2]  # the order that puts the channels of an image first
_MOST_CHANNELS = 4


def clean(graph: OnnxGraph) -> bool:
    """Fold, fuse and simplify, in place.

    Returns:
        Whether the input became (channels, height, width), where the file has the channels last.
    """
    graph.nodes = list(ordered(graph.nodes, [*graph.inputs, *graph.constants]))
    _settle_dropout(graph)
    _bypass(graph)
    fold(graph)
    for node in graph.nodes:
        _clip(graph, node)
        _slopes(graph, node)
    graph.prune()
    fuse(graph)
    fuse_attention(graph)
    return _channels_first(graph)


def _settle_dropout(graph: OnnxGraph) -> None:
    """A dropout is nothing here: a file that was exported for inference has none that is meant."""
    read = {name for node in graph.nodes for name in node.inputs}.union(graph.outputs)
    for node in graph.nodes:
        if node.kind == "Dropout" and not read.intersection(node.outputs[1:]):  # its mask
            node.kind, node.inputs, node.outputs = "Identity", node.inputs[:1], node.outputs[:1]


def _bypass(graph: OnnxGraph) -> None:
    """Leave out what gives its input as it is."""
    floats = _floats(graph)
    same: dict[str, str] = {}
    kept = []
    for node in graph.nodes:
        node.inputs = [same.get(n, n) for n in node.inputs]
        nothing = node.kind == "Identity" or (
            node.kind == "Cast" and node.attributes.get("to") == _FLOAT and node.inputs[0] in floats
        )
        if nothing:
            same[node.outputs[0]] = node.inputs[0]
        else:
            kept.append(node)
    graph.nodes = kept
    graph.renamed(same)


def _floats(graph: OnnxGraph) -> set[str]:
    """Values that are float32 for certain: inputs, constants, and what layers make."""
    found = {n for n, a in graph.constants.items() if a.dtype == np.float32}
    found |= {n for n, s in zip(graph.inputs, graph.shapes, strict=True) if s is not None and s.dtype == "float32"}
    found |= {o for n in graph.nodes if n.kind in {"Conv", "Gemm", "BatchNormalization", "Relu"} for o in n.outputs}
    return found


def _clip(graph: OnnxGraph, node: Node) -> None:
    """Bounds as attributes, whether the file has them so or as inputs; under their names where they have some."""
    if node.kind != "Clip":
        return
    bounds = []
    for i, key, default in ((1, "min", -math.inf), (2, "max", math.inf)):
        if node.input(i) and not graph.is_scalar(node.input(i)):
            return
        bounds.append(graph.scalar(node.input(i)) if node.input(i) else float(node.attributes.get(key, default)))
    low, high = bounds
    if high >= np.finfo(np.float32).max:
        high = math.inf
    node.kind = {(0.0, 6.0): "Relu6", (0.0, math.inf): "Relu"}.get((low, high), "Clip")
    node.inputs = node.inputs[:1]
    node.attributes = {"min": low, "max": high} if node.kind == "Clip" else {}


def _slopes(graph: OnnxGraph, node: Node) -> None:
    """One number for each channel as torch keeps them: (C, 1, 1) -> (C,)."""
    slopes = graph.constants.get(node.input(1)) if node.kind == "PRelu" else None
    if slopes is not None and slopes.ndim > 1 and slopes.shape[-3:-2] == (slopes.size,):
        made = f"{node.inputs[1]}.flat"
        graph.constants[made] = slopes.reshape(-1)
        node.inputs[1] = made


def _channels_first(graph: OnnxGraph) -> bool:
    """Take an image as (channels, height, width) where a file takes it otherwise, and turns it around at once."""
    if len(graph.inputs) != 1 or graph.inputs[0] in graph.outputs:
        return False
    (name,), (shape,) = graph.inputs, graph.shapes
    readers = [n for n in graph.nodes if name in n.inputs]
    turned = all(n.kind == "Transpose" and list(n.attributes.get("perm", [])) == _FIRST for n in readers)
    if not readers or not turned:
        return False
    if shape is not None and (len(shape.shape) != 3 or shape.shape[2] > _MOST_CHANNELS):
        return False
    graph.nodes = [n for n in graph.nodes if n not in readers]
    graph.renamed({n.outputs[0]: name for n in readers})
    if shape is not None:
        height, width, channels = shape.shape
        graph.shapes = (InputShape((channels, height, width), shape.dtype),)
    return True
