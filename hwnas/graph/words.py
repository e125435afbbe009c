"""Operators in words, and by which of them one graph differs from another. Knows operators; no kind of block."""

from __future__ import annotations

from hwnas.graph.summary import is_depthwise
from hwnas.graph.types import Op, OpGraph


def operator_words(graph: OpGraph, op: Op) -> str:
    """`conv2d 7x7 depthwise`, `max_pool2d 3x3`, `hardswish`."""
    attributes = dict(op.attributes)
    words = [op.kind]
    # (out, in, *window) for convolutions; what has two axes or fewer, as a linear layer's, leaves nothing
    window = op.weights[0][1].shape[2:] if op.weights else attributes.get("kernel_size", ())
    if isinstance(window, tuple) and window:
        words.append("x".join(map(str, window)))
    if is_depthwise(graph, op):
        words.append("depthwise")
    elif attributes.get("groups", 1) != 1:
        words.append(f"of {attributes['groups']} groups")
    for name in ("stride", "dilation"):
        steps = attributes.get(name, ())
        if isinstance(steps, tuple) and max(steps, default=1) > 1:
            words.append(f"{name} {max(steps)}")
    return " ".join(words)


def graph_words(graph: OpGraph) -> tuple[str, ...]:
    """All operators of a graph, each once, in order."""
    return tuple(dict.fromkeys(operator_words(graph, op) for op in graph.ops))


def operators_beside(graph: OpGraph, base: OpGraph) -> tuple[str, ...]:
    """The operators of a graph, in words, that another has not; none where only numbers of channels differ."""
    known = graph_words(base)
    return tuple(words for words in graph_words(graph) if words not in known)
