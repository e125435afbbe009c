"""From an ONNX file to a torch module.

It joins reading, cleaning and the network. It knows no runtime: whether a runtime computes the same, others ask.
"""

from __future__ import annotations

from collections.abc import Callable, Sequence
from pathlib import Path

import torch

from hwnas.errors import ConfigError, ModelError
from hwnas.given_inputs import InputShape
from hwnas.supernet.importing.cleaning import clean
from hwnas.supernet.importing.file import read_onnx
from hwnas.supernet.importing.network import OnnxNetwork
from hwnas.supernet.importing.nodes import OnnxGraph


def load_onnx(
    path: str | Path, *, inputs: Sequence[InputShape] | None = None, tell: Callable[[str], None]
) -> OnnxNetwork:
    """The network of an ONNX file.

    Args:
        path: of the file.
        inputs: as the user says; None: as the file says.
        tell: is told what is other than in the file.

    Returns:
        In evaluation mode; `inputs` are those of the file where it says them.

    Raises:
        ConfigError: the file leaves sizes of an input open, and nobody says them, or another number of inputs.
        ModelError: the file cannot be read, is quantized, or holds what has no rule.
    """
    graph = read_onnx(path)
    axis = _without_softmax(graph)
    channels_last = clean(graph)
    if channels_last:
        tell("model: the file takes its image with the channels last; here it takes them first, as all networks do")
    if axis is not None:
        tell("model: the file ends with a softmax; it is taken without, for training and search begin with logits")
    graph.shapes = _inputs(graph, inputs)
    network = OnnxNetwork(graph, channels_last=channels_last, softmax_axis=axis).eval()
    examples = [torch.zeros(1, *s.shape, dtype=getattr(torch, s.dtype)) for s in network.inputs]
    try:
        network.record_(*examples)
    except (RuntimeError, ValueError, IndexError, TypeError) as e:
        if isinstance(e, ModelError):
            raise
        sizes = ", ".join(map(str, network.inputs))
        raise ModelError(f"the ONNX file does not run on samples of {sizes}: {str(e).splitlines()[0]}") from e
    return network


def _without_softmax(graph: OnnxGraph) -> int | None:
    """Leave out the softmax that a classifier ends with; its axis if there was one."""
    made = graph.producers().get(graph.outputs[0])
    if len(graph.outputs) != 1 or made is None or made.kind != "Softmax":
        return None
    axis = int(made.attributes.get("axis", -1 if graph.opset >= 13 else 1))
    if axis not in {-1, 1}:
        return None
    graph.nodes.remove(made)
    graph.outputs = (made.inputs[0],)
    return axis


def _inputs(graph: OnnxGraph, said: Sequence[InputShape] | None) -> tuple[InputShape, ...]:
    """Of the file where it has sizes, else of the user."""
    if said is not None and len(said) != len(graph.inputs):
        raise ConfigError(
            f"the ONNX file takes {len(graph.inputs)} inputs ({', '.join(graph.inputs)}), and [model] input says "
            f"{len(said)}"
        )
    found = []
    for i, (name, shape) in enumerate(zip(graph.inputs, graph.shapes, strict=True)):
        if shape is None and said is None:
            raise ConfigError(
                f"the ONNX file leaves sizes of its input {name!r} open; say them: --input 3x224x224, or "
                "input = [3, 224, 224] in [model]"
            )
        found.append(shape if shape is not None or said is None else said[i])
    return tuple(s for s in found if s is not None)
