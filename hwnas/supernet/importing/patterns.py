"""Operators that exporters write as several, found again: GELU by erf, layer normalisation step by step, layers.

A pattern is an operator with what it reads: a text stands for any value (the same one each time), a number for a
constant of that number, a `Const` for any constant, a list for alternatives. It knows nodes and constants; never torch.
"""

from __future__ import annotations

import math
from collections.abc import Callable, Mapping, Sequence
from dataclasses import dataclass
from typing import Any

import numpy as np

from hwnas.supernet.importing.nodes import Node, OnnxGraph

_COMMUTES = frozenset({"Add", "Mul"})
_CLOSE = 1e-3  # relative: exporters round 1 / sqrt(2), sqrt(2 / pi) and 1 / 6


@dataclass(frozen=True, slots=True)
class Const:
    """Any constant, under a name."""

    name: str


Found = dict[str, Any]  # names of values by the texts of a pattern; nodes by the places that are named with `@`


class Matcher:
    """Looks for patterns in a graph.

    Args:
        graph: as it is now; another one is needed once it was changed.
    """

    def __init__(self, graph: OnnxGraph) -> None:
        self.graph = graph
        self.producers = graph.producers()

    def match(self, value: str, pattern: Any, found: Found | None = None) -> Found | None:
        """What the pattern's names stand for if a value is made so; else None."""
        found = {} if found is None else found
        if isinstance(pattern, list):
            return next((m for p in pattern if (m := self.match(value, p, dict(found))) is not None), None)
        if isinstance(pattern, Const):
            return {**found, pattern.name: value} if value in self.graph.constants else None
        if isinstance(pattern, str):
            return None if found.get(pattern, value) != value else {**found, pattern: value}
        if isinstance(pattern, int | float):
            graph = self.graph
            near = graph.is_scalar(value) and math.isclose(graph.scalar(value), pattern, rel_tol=_CLOSE)
            return found if near else None
        return self._node(value, pattern, found)

    def _node(self, value: str, pattern: Sequence[Any], found: Found) -> Found | None:
        kind, _, label = pattern[0].partition("@")
        node = self.producers.get(value)
        if node is None or node.kind != kind or node.outputs[0] != value:
            return None
        if label:
            found = {**found, label: node}
        operands = pattern[1:]
        orders = [operands, operands[::-1]] if kind in _COMMUTES else [operands]
        for order in orders:
            made: Found | None = found
            for i, operand in enumerate(order):
                made = self.match(node.input(i), operand, made) if made is not None else None
            if made is not None:
                return made
        return None


# ---------------------------------------------------------------- activations

_SHIFTED = ("Relu6", ("Add", "x", 3.0))  # of hard swish (Howard et al., 2019)
_ERF = ("Add", ("Erf", [("Div", "x", math.sqrt(2)), ("Mul", "x", math.sqrt(0.5))]), 1.0)
_CUBE = [("Pow", "x", 3.0), ("Mul", "x", ("Mul", "x", "x")), ("Mul", "x", ("Pow", "x", 2.0))]
_TANH = ("Add", ("Tanh", ("Mul", ("Add", "x", ("Mul", _CUBE, 0.044715)), math.sqrt(2 / math.pi))), 1.0)


def _gelu(gate: Any) -> list[Any]:
    """0.5 x gate, multiplied in any order."""
    return [
        ("Mul", ("Mul", "x", gate), 0.5),
        ("Mul", "x", ("Mul", gate, 0.5)),
        ("Mul", ("Mul", "x", 0.5), gate),
        ("Div", ("Mul", "x", gate), 2.0),
    ]


_HARD_SIGMOID = [("Mul", _SHIFTED, 1 / 6), ("Div", _SHIFTED, 6.0)]
_ACTIVATIONS: Sequence[tuple[str, Mapping[str, Any], Any]] = (
    ("Gelu", {}, _gelu(_ERF)),
    ("Gelu", {"approximate": "tanh"}, _gelu(_TANH)),
    ("Silu", {}, ("Mul", "x", ("Sigmoid", "x"))),
    ("Mish", {}, ("Mul", "x", ("Tanh", ("Softplus", "x")))),
    ("HardSwish", {}, ("Mul", "x", [("HardSigmoid@sixth", "x"), *_HARD_SIGMOID])),
    ("HardSwish", {}, [("Mul", ("Mul", "x", _SHIFTED), 1 / 6), ("Div", ("Mul", "x", _SHIFTED), 6.0)]),
    ("HardSigmoid", {"alpha": 1 / 6}, _HARD_SIGMOID),
)


def is_sixth(node: Node) -> bool:
    """Whether a HardSigmoid is torch's: relu6(x + 3) / 6; ONNX's own default is steeper."""
    return is_sixth_of(node.attributes.get("alpha", 0.2), node.attributes.get("beta", 0.5))


def is_sixth_of(alpha: float, beta: float) -> bool:
    """The same of its numbers."""
    return math.isclose(alpha, 1 / 6, rel_tol=_CLOSE) and math.isclose(beta, 0.5, rel_tol=_CLOSE)


def _activation(m: Matcher, node: Node) -> Node | None:
    for kind, attributes, pattern in _ACTIVATIONS:
        found = m.match(node.outputs[0], pattern)
        if found is not None and ("sixth" not in found or is_sixth(found["sixth"])):
            return _instead(node, kind, [found["x"]], dict(attributes))
    return None


# ---------------------------------------------------------------- normalisations and layers

_CENTRED = ("Sub@centre", "x", ("ReduceMean@mean", "x"))
_VARIANCE = ("ReduceMean", [("Pow", _CENTRED, 2.0), ("Mul", _CENTRED, _CENTRED)])
_NORMAL = ("Div", _CENTRED, ("Sqrt", ("Add", _VARIANCE, Const("eps"))))
_LAYER_NORM = ("Add", ("Mul", _NORMAL, Const("weight")), Const("bias"))


def _layer_norm(m: Matcher, node: Node) -> Node | None:
    """Over the last axis, with weight and bias."""
    found = m.match(node.outputs[0], _LAYER_NORM) if node.kind == "Add" else None
    if found is None or not m.graph.is_scalar(found["eps"]):
        return None
    mean: Node = found["mean"]
    axes = _numbers(m.graph, mean, 1, "axes")
    weights = [m.graph.constants[found[role]] for role in ("weight", "bias")]
    if axes != [-1] or any(w.ndim != 1 for w in weights):
        return None
    attributes = {"axis": -1, "epsilon": m.graph.scalar(found["eps"])}
    return _instead(node, "LayerNormalization", [found["x"], found["weight"], found["bias"]], attributes)


_GROUPS = ("InstanceNormalization@norm", ("Reshape", "x", Const("groups")), Const("one"), Const("zero"))
_GROUP_NORM = ("Add", ("Mul", ("Reshape", _GROUPS, "shape"), Const("weight")), Const("bias"))


def _group_norm(m: Matcher, node: Node) -> Node | None:
    """Over groups of channels, as torch's older exporter writes it: by instances, of which each is a group."""
    found = m.match(node.outputs[0], _GROUP_NORM) if node.kind == "Add" else None
    if found is None:
        return None
    groups, one, zero, weight, bias = (m.graph.constants[found[k]] for k in ("groups", "one", "zero", "weight", "bias"))
    per_channel = all(a.ndim > 1 and a.size == a.shape[-3 if a.ndim > 2 else 0] for a in (weight, bias))
    if groups.shape != (3,) or groups[0] != 0 or groups[2] != -1 or (one != 1).any() or zero.any() or not per_channel:
        return None
    channels = max(weight.size, bias.size)  # a network without one of them has a single 1, or 0
    flat = [f"{found[role]}.of_{channels}" for role in ("weight", "bias")]
    for name, numbers in zip(flat, (weight, bias), strict=True):
        m.graph.constants[name] = np.ascontiguousarray(np.broadcast_to(numbers.reshape(-1), (channels,)))
    norm: Node = found["norm"]
    attributes = {"num_groups": int(groups[1]), "epsilon": norm.attributes.get("epsilon", 1e-5)}
    return _instead(norm, "GroupNormalization", [found["x"], *flat], attributes, outputs=node.outputs)


def _linear(m: Matcher, node: Node) -> Node | None:
    """A Gemm of a constant, or a product with a constant matrix, as the layer that torch has for it."""
    graph = m.graph
    if node.kind == "Gemm":
        weight, bias = graph.constants.get(node.input(1)), graph.constants.get(node.input(2))
        plain = not node.attributes.get("transA") and node.attributes.get("alpha", 1.0) == 1.0
        if weight is None or not plain or (node.input(2) and (bias is None or node.attributes.get("beta", 1.0) != 1.0)):
            return None
        if bias is not None and bias.size not in {1, weight.shape[0 if node.attributes.get("transB") else 1]}:
            return None  # one for each row
        name = node.input(1) if node.attributes.get("transB") else _transposed(graph, node.input(1))
        return _instead(node, "Linear", [node.input(0), name, *_vector(graph, node.input(2), of=name)], {})
    if node.kind != "MatMul" or graph.constants.get(node.input(1), np.zeros(0)).ndim != 2:
        return None
    return _instead(node, "Linear", [node.input(0), _transposed(graph, node.input(1))], {})


def _with_bias(m: Matcher, node: Node) -> Node | None:
    """What is added to each channel of a layer alone becomes its bias."""
    if node.kind != "Add":
        return None
    graph = m.graph
    for layer, added in (node.inputs, node.inputs[::-1]):
        below, bias = m.producers.get(layer), graph.constants.get(added)
        if below is None or bias is None or below.input(2) or below.kind not in {"Linear", "Conv"}:
            continue
        channels = graph.constants[below.input(1)].shape[0] if below.input(1) in graph.constants else -1
        behind = 0 if below.kind == "Linear" else graph.constants.get(below.input(1), np.zeros(0)).ndim - 2
        fits = bias.size == channels and bias.ndim <= behind + 2 and bias.shape[bias.ndim - behind - 1 :] == (
            channels, *(1,) * behind
        )  # fmt: skip
        alone = sum(n.inputs.count(layer) for n in graph.nodes) == 1 and layer not in graph.outputs
        if fits and alone:
            flat = f"{added}.flat" if bias.ndim > 1 else added
            graph.constants[flat] = bias.reshape(-1)
            node.name, node.scope = below.name, below.scope  # it is the layer that has a name
            return _instead(node, below.kind, [*below.inputs[:2], flat], below.attributes)
    return None


def _picked(m: Matcher, node: Node) -> Node | None:
    """One position of an axis, cut out as a part of size 1 that is squeezed then."""
    below = m.producers.get(node.input(0)) if node.kind == "Squeeze" else None
    axes = _numbers(m.graph, node, 1, "axes")
    if below is None or axes is None or len(axes) != 1:
        return None
    if below.kind == "Split":
        sizes = _numbers(m.graph, below, 1, "split") or [1] * below.attributes.get("num_outputs", 0)
        axis, position = below.attributes.get("axis", 0), below.outputs.index(node.input(0))
        whole = all(n == 1 for n in sizes)
    elif below.kind == "Slice":
        starts, ends, along, steps = (_numbers(m.graph, below, i, key) for i, key in enumerate(_SLICE, start=1))
        if starts is None or along is None or len(along) != 1:
            return None
        axis, position, whole = along[0], starts[0], ends == [starts[0] + 1] and steps in (None, [1]) and starts[0] >= 0
    else:
        return None
    if not whole or axis != axes[0]:
        return None
    index = f"{node.outputs[0]}.position"
    m.graph.constants[index] = np.array(position)
    return _instead(node, "Gather", [below.input(0), index], {"axis": axis})


def _strided(m: Matcher, node: Node) -> Node | None:
    """All numbers in their order: what torch's newer exporter makes of a view with strides, behind a pool above all."""
    below = m.producers.get(node.input(0)) if node.kind == "Gather" else None
    rows = m.graph.constants.get(node.input(1))
    if below is None or rows is None or below.kind != "Reshape" or _numbers(m.graph, below, 1, "shape") != [-1]:
        return None
    if node.attributes.get("axis", 0) != 0 or not np.array_equal(rows.reshape(-1), np.arange(rows.size)):
        return None
    shape = f"{node.outputs[0]}.shape"
    m.graph.constants[shape] = np.array(rows.shape)
    return _instead(node, "Reshape", [below.input(0), shape], {})


def _numbers(graph: OnnxGraph, node: Node, i: int, attribute: str) -> list[int] | None:
    """A constant input, or the attribute that older versions have for it."""
    if name := node.input(i):
        return [int(n) for n in graph.constants[name].reshape(-1)] if name in graph.constants else None
    given = node.attributes.get(attribute)
    return None if given is None else list(given)


def _transposed(graph: OnnxGraph, name: str) -> str:
    made = f"{name}.transposed"
    graph.constants[made] = np.ascontiguousarray(graph.constants[name].T)
    return made


def _vector(graph: OnnxGraph, name: str, *, of: str) -> list[str]:
    """A bias with one number for each row of a weight."""
    if not name:
        return []
    rows = graph.constants[of].shape[0]
    made = f"{name}.of_{rows}"
    graph.constants[made] = np.ascontiguousarray(np.broadcast_to(graph.constants[name].reshape(-1), (rows,)))
    return [made if graph.constants[name].shape != (rows,) else name]


_SLICE = ("starts", "ends", "axes", "steps")

# ---------------------------------------------------------------- the whole graph

_REWRITES: Sequence[Callable[[Matcher, Node], Node | None]] = (
    _layer_norm,
    _group_norm,
    _activation,
    _linear,
    _with_bias,
    _picked,
    _strided,
)


def fuse(graph: OnnxGraph) -> None:
    """Put one operator in the place of several, in place."""
    for rewrite in _REWRITES:
        matcher = Matcher(graph)
        for i, node in enumerate(graph.nodes):
            made = rewrite(matcher, node)
            if made is not None:
                graph.nodes[i] = made
                matcher.producers |= {made.outputs[0]: made}
        graph.prune()


def _instead(
    node: Node, kind: str, inputs: list[str], attributes: dict[str, Any], *, outputs: Sequence[str] = ()
) -> Node:
    return Node(
        kind=kind,
        name=node.name,
        scope=node.scope,
        inputs=inputs,
        outputs=list(outputs or node.outputs[:1]),
        attributes=attributes,
    )
