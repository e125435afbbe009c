"""Series as images of one row in ONNX graphs: convolutions along one axis become those of images.

Runtimes have their fast kernels for images: ONNX Runtime's blocked layout of floats (NCHWc) is for tensors of four
axes alone, and without it a depthwise convolution is a product of matrices for each channel. So a Conv of (N, C, L)
reads and gives (N, C, 1, L), and so does what stands between two of them and computes number by number; at the borders
of such a stretch stand Unsqueeze and Squeeze, which move no number. This module knows ONNX graphs, not torch, devices
or runtimes.
"""

from __future__ import annotations

from collections.abc import Iterable, Mapping, Sequence

import numpy as np
import onnx
from onnx import GraphProto, ModelProto, NodeProto, helper, numpy_helper

from hwnas.onnx_names import DEQUANTIZE, QUANTIZE

from ._qdq import ROW_AXES

_ROW = 2  # the axis that a series has not: (N, C, L) -> (N, C, 1, L)
_OF_ONE = frozenset(
    {"BatchNormalization", "Clip", "Elu", "Erf", "Exp", "Gelu", "HardSigmoid", "HardSwish", "Identity", "LeakyRelu"}
    | {"Relu", "Sigmoid", "Softplus", "Sqrt", "Tanh", QUANTIZE, DEQUANTIZE}
)
_OF_TWO = frozenset({"Add", "Sub", "Mul", "Div"})
Shape = tuple[int, ...]  # 0 of an axis of any size


def series_as_images(model: ModelProto) -> None:
    """Let convolutions along series compute as those of images, in place."""
    graph = model.graph
    weights = _weights(graph)
    convolutions = [n for n in graph.node if n.op_type == "Conv" and len(weights.get(n.input[1], ())) == 3]
    if not convolutions:
        return
    shapes = _shapes(model)
    stretch = _stretch(graph, convolutions, shapes)
    _widen_weights_(graph, {n.input[1] for n in convolutions})
    for node in convolutions:
        _widen_attributes_(node)
    _connect_(graph, stretch, shapes)


# ---------------------------------------------------------------- what becomes an image


def _weights(graph: GraphProto) -> dict[str, Shape]:
    """Shapes of what is stored, and of what is dequantized from it."""
    found = {t.name: tuple(t.dims) for t in graph.initializer}
    found |= {n.output[0]: found[n.input[0]] for n in graph.node if n.op_type == DEQUANTIZE and n.input[0] in found}
    return found


def _shapes(model: ModelProto) -> dict[str, Shape]:
    inferred = onnx.shape_inference.infer_shapes(model).graph
    return {
        v.name: tuple(d.dim_value for d in v.type.tensor_type.shape.dim)
        for v in (*inferred.input, *inferred.value_info, *inferred.output)
    }


class _Stretch:
    """The tensors (N, C, L) that become images, and the nodes that read and give them as such.

    Attributes:
        tensors: their shapes by their names.
        inside: the nodes, by the names of their first outputs.
    """

    def __init__(self, tensors: Mapping[str, Shape], inside: Iterable[str]) -> None:
        self.tensors = dict(tensors)
        self.inside = frozenset(inside)

    def has(self, node: NodeProto) -> bool:
        """Whether a node computes on images."""
        return node.output[0] in self.inside


def _stretch(graph: GraphProto, convolutions: Sequence[NodeProto], shapes: Mapping[str, Shape]) -> _Stretch:
    names = {name for n in convolutions for name in (n.input[0], n.output[0])}
    inside = {n.output[0] for n in convolutions}
    stored = {t.name: len(t.dims) for t in graph.initializer}
    ends = {v.name for v in (*graph.input, *graph.output)}
    grown = True
    while grown:  # each round takes in a node at least
        grown = False
        for node in graph.node:
            data = _data(node, stored)
            if not data or node.output[0] in inside or names.isdisjoint((*data, node.output[0])):
                continue
            # what leads from the file's floats to integers stays at the file's end, where it can be cut off
            converts = node.op_type in (QUANTIZE, DEQUANTIZE) and not ends.isdisjoint((*data, node.output[0]))
            if converts or any(len(shapes.get(name, ())) != 3 for name in (*data, node.output[0])):
                continue
            names |= {*data, node.output[0]}
            inside.add(node.output[0])
            grown = True
    return _Stretch({name: shapes.get(name, ()) for name in names}, inside)


def _data(node: NodeProto, stored: Mapping[str, int]) -> list[str]:
    """The tensors that a node computes number by number on; none of a node that does not."""
    if node.op_type in _OF_ONE:
        return [node.input[0]] if node.input[0] not in stored else []
    if node.op_type not in _OF_TWO:
        return []
    return [name for name in node.input if stored.get(name) != 0]  # a number for all meets images as it meets series


# ---------------------------------------------------------------- the change


def _widen_weights_(graph: GraphProto, names: set[str]) -> None:
    """(out, in, K) -> (out, in, 1, K), of floats or of integers before they are dequantized."""
    stored = names | {n.input[0] for n in graph.node if n.op_type == DEQUANTIZE and n.output[0] in names}
    for tensor in graph.initializer:
        if tensor.name in stored and len(tensor.dims) == 3:
            out, channels, kernel = tensor.dims
            tensor.dims[:] = [out, channels, 1, kernel]


def _widen_attributes_(node: NodeProto) -> None:
    fill = {"kernel_shape": 1, "strides": 1, "dilations": 1}
    for attribute in node.attribute:
        if attribute.name in fill:
            attribute.ints[:] = [fill[attribute.name], *attribute.ints]
        elif attribute.name == "pads":
            before, after = attribute.ints
            attribute.ints[:] = [0, before, 0, after]


def _connect_(graph: GraphProto, stretch: _Stretch, shapes: Mapping[str, Shape]) -> None:
    """Give every node what it reads, as an image inside of the stretch and as a series outside."""
    made_inside = {name for n in graph.node if stretch.has(n) for name in n.output}
    read_outside = {name for n in graph.node if not stretch.has(n) for name in n.input}
    ends = {v.name for v in (*graph.input, *graph.output)}
    # under its own name each tensor is what its maker gives; the graph's own ends are series
    keeps_image = {t for t in stretch.tensors if t in made_inside and t not in ends}
    image = {t: t if t in keeps_image else f"{t}_image" for t in stretch.tensors}
    series = {t: f"{t}_series" if t in keeps_image else t for t in stretch.tensors}
    same: dict[str, str] = {}  # images under another name: a reshape that only leaves the row out, or puts it in
    nodes = [_node("Unsqueeze", v.name, image[v.name]) for v in graph.input if v.name in stretch.tensors]
    for node in graph.node:
        given, made = node.input[0] if node.input else "", node.output[0]
        if node.op_type == "Reshape" and made not in ends:
            if given in stretch.tensors and _with_row(stretch.tensors[given]) == shapes.get(made):
                same[made] = image[given]
                continue
            if made in stretch.tensors and _with_row(stretch.tensors[made]) == shapes.get(given):
                image[made] = same.get(given, given)
                if made not in read_outside:
                    continue
        names = image if stretch.has(node) else series
        node.input[:] = [names.get(name, same.get(name, name)) for name in node.input]
        node.output[:] = [names.get(name, name) for name in node.output]
        nodes.append(node)
    del graph.node[:]
    graph.node.extend(nodes)
    _put_borders_(graph, {image[t]: series[t] for t in stretch.tensors})


def _with_row(shape: Shape) -> Shape:
    return (*shape[:_ROW], 1, *shape[_ROW:])


def _put_borders_(graph: GraphProto, pairs: Mapping[str, str]) -> None:
    """Unsqueeze and Squeeze where one form of a tensor is made and the other one is read."""
    read = {name for n in graph.node for name in n.input} | {v.name for v in graph.output}
    made = {name for n in graph.node for name in n.output} | {v.name for v in graph.input}
    other = {**pairs, **{series: image for image, series in pairs.items()}}
    nodes: list[NodeProto] = []
    for node in graph.node:
        nodes.append(node)
        for name in node.output:
            if name in other and other[name] in read and other[name] not in made:
                nodes.append(_node("Squeeze" if name in pairs else "Unsqueeze", name, other[name]))
    del graph.node[:]
    graph.node.extend(nodes)
    graph.initializer.append(numpy_helper.from_array(np.array([_ROW], np.int64), ROW_AXES))


def _node(kind: str, before: str, after: str) -> NodeProto:
    return helper.make_node(kind, [before, ROW_AXES], [after], name=after)
