"""A graph in a few numbers for people: how channels change along its main path, and what is beside that path.

The main path leads from the output back to the input: through a product along the larger factor (the other is a gate),
through a sum along the longer branch (the other is a short cut); never to what follows from weights alone. Knows
operators; no kind of block.
"""

from __future__ import annotations

import math
from collections.abc import Container
from dataclasses import dataclass

from hwnas.graph.types import Op, OpGraph, Value

_LAYERS = ("conv1d", "conv2d", "linear")
_ACTIVATIONS = ("relu", "relu6", "hardswish", "silu", "gelu", "leaky_relu", "elu", "prelu", "mish", "tanh")


@dataclass(frozen=True, slots=True, kw_only=True)
class Summary:
    """What distinguishes a graph.

    Attributes:
        between: channels of the layers on the main path but the last; a depthwise one behind another does not count.
        enters: channels that the first layer on the main path reads: of (C, H, W) the first axis, of (positions,
            features) the last; 0 without a layer.
        leaves: channels that the last one gives, likewise.
        kernel_size: the largest on the main path; 0 without a convolution that looks at neighbours.
        axes: along which its convolutions move: 2 over images, 1 over series, 0 without one.
        stride: of the main path as a whole.
        activations: kinds of activations on the main path, each once.
        gates: for each gate, channels of its first layer: of squeeze-and-excitation those it squeezes to.
        residual: whether the graph's input is added to what the main path made of it.
    """

    between: tuple[int, ...]
    enters: int
    leaves: int
    kernel_size: int
    axes: int
    stride: int
    activations: tuple[str, ...]
    gates: tuple[int, ...]
    residual: bool


def summary(graph: OpGraph) -> Summary:
    """The few numbers; of several outputs the first counts."""
    path, side = _main_path(graph)
    layers = [op for op in path if op.kind in _LAYERS]
    channels = [_channels(graph, op) for i, op in enumerate(layers) if i == 0 or not is_depthwise(graph, op)]
    # `channels` ends with those of the last layer, unless that is a depthwise one, which was left out just now
    last = not layers or not (len(layers) > 1 and is_depthwise(graph, layers[-1]))
    kernels = [max(op.weights[0][1].shape[2:], default=1) for op in layers]  # the weight itself comes before a bias
    strides = [_stride(op) for op in path]
    on_path = {name for op in path for name in op.outputs}
    gates = [_first_layer(graph, name, begins=on_path) for op, name in side if op.kind == "mul"]
    shortcuts = [name for op, name in side if op.kind == "add"]
    return Summary(
        between=tuple(channels[:-1] if last else channels),
        enters=_channels_of(layers[0], graph.input_values(layers[0])[0]) if layers else 0,
        leaves=_channels(graph, layers[-1]) if layers else 0,
        kernel_size=k if (k := max(kernels, default=1)) > 1 else 0,
        axes=max((len(op.weights[0][1].shape) - 2 for op in layers), default=0),
        stride=int(math.prod(strides)),
        activations=tuple(dict.fromkeys(op.kind for op in path if op.kind in _ACTIVATIONS)),
        gates=tuple(_channels(graph, op) for op in gates if op is not None),
        residual=any(name in graph.inputs for name in shortcuts),
    )


def _main_path(graph: OpGraph) -> tuple[list[Op], list[tuple[Op, str]]]:
    """The operators from input to output, and what enters them from the side."""
    depth: dict[str, int] = dict.fromkeys(graph.inputs, 0)
    for op in graph.ops:
        for name in op.outputs:
            depth[name] = 1 + max((depth[n] for n in op.inputs), default=0)
    path: list[Op] = []
    side: list[tuple[Op, str]] = []
    name = graph.outputs[0]
    while name in graph.producers:
        op = graph.producers[name]
        path.append(op)
        if not op.inputs:
            break
        # a gate has one number a channel, so its factor is the smaller; of a sum both have one size, and depth decides
        size = {n: math.prod(graph.by_name[n].shape) for n in op.inputs}
        name = max(op.inputs, key=lambda n: (graph.by_name[n].batched, size[n], depth[n]))
        side += [(op, n) for n in op.inputs if n != name]
    return path[::-1], side[::-1]


def _stride(op: Op) -> int:
    """By how much an operator shrinks its positions; a pool of no stride by its kernel's size."""
    attributes = dict(op.attributes)
    steps = attributes.get("stride") or attributes.get("kernel_size")
    return max(map(int, steps)) if isinstance(steps, tuple) else 1


def _channels(graph: OpGraph, op: Op) -> int:
    return _channels_of(op, graph.output_values(op)[0])


def _channels_of(op: Op, value: Value) -> int:
    """Of what an operator reads or gives."""
    return value.shape[-1] if op.kind == "linear" else value.shape[0]  # (..., features), or (C, H, W)


def is_depthwise(graph: OpGraph, op: Op) -> bool:
    """Whether an operator is a convolution of each channel by itself."""
    groups = dict(op.attributes).get("groups", 1)
    return groups != 1 and groups == graph.input_values(op)[0].shape[0] == _channels(graph, op)


def _first_layer(graph: OpGraph, name: str, *, begins: Container[str]) -> Op | None:
    """The first layer on the way to a value, along first inputs, from where that way begins."""
    found = None
    while name not in begins and name in graph.producers and graph.producers[name].inputs:
        op = graph.producers[name]
        found = op if op.kind in _LAYERS else found
        name = op.inputs[0]
    return found
