"""What the shared weights of a slot begin with, by what their operators do. Knows graphs; never blocks or training."""

from __future__ import annotations

from collections.abc import Collection, Iterable
from typing import TYPE_CHECKING

from torch import Tensor, nn

if TYPE_CHECKING:
    from hwnas.graph import Op, OpGraph

CONVOLUTIONS = ("conv1d", "conv2d", "conv_transpose2d")
# Operator -> what its weight begins with, however many axes that has; a prelu of slope 1 would be no activation.
_BEGIN = {"batch_norm": 1.0, "layer_norm": 1.0, "group_norm": 1.0, "prelu": 0.25}
_LEARNED_STD = 0.2  # of a tensor that is learned itself, as positions are: about what patches begin with


class InitialWeights:
    """He for convolutions (He et al., 2015, by fan-out), 0.01 for linear layers, as in torch or 1 for the rest.

    A normalisation whose result is added to what went around it begins with 0: networks of any depth begin as
    shallow ones, and deep ones do not shout down the others (Goyal et al., 2017, section 5.1; Yu et al., 2020,
    "BigNAS", section 3.1).

    Linear layers inside a network of positions keep the size of what they are given (LeCun et al., 1998, by
    fan-in), as the sums that they are added to want it. Positions begin about as large as the patches that they are
    added to: a network that hardly sees where a patch lies learns slowly.

    Args:
        graphs: of all variants of the slot.
    """

    def __init__(self, graphs: Collection[OpGraph]) -> None:
        self._constants = {
            op.weights[0][1].name: _BEGIN[op.kind] for g in graphs for op in g.ops if op.weights and op.kind in _BEGIN
        }
        self._of_positions = {
            w.name
            for g in graphs
            for op in g.ops
            if op.kind == "linear"
            for _, w in op.weights
            if _has_positions(g, op)
        }
        self._ends_of_branches = _ends_of_branches(graphs)
        self._learned = {w.name for g in graphs for op in g.ops if op.kind == "weight" for _, w in op.weights}
        self._patches = {
            w.name
            for g in graphs
            if all(op.kind != "batch_norm" for op in g.ops)
            for op in g.ops
            if op.kind in CONVOLUTIONS and "groups" not in dict(op.attributes)
            for _, w in op.weights
        }

    def fill_(self, weight: Tensor, name: str) -> None:
        """Let one weight begin, with torch's generator.

        Args:
            weight: changed in place.
            name: of it in the graphs.
        """
        if name.endswith("bias") or name in self._ends_of_branches:
            nn.init.zeros_(weight)
        elif name in self._constants:
            nn.init.constant_(weight, self._constants[name])
        elif name in self._learned:
            nn.init.normal_(weight, std=_LEARNED_STD)
        elif weight.dim() == 1:
            nn.init.ones_(weight)
        elif weight.dim() == 2:
            nn.init.normal_(weight, std=weight.shape[1] ** -0.5 if name in self._of_positions else 0.01)
        else:
            # By fan-out, a group at a time: each depthwise kernel has one output channel. The kernel of a stem that
            # sees grey images has the shape of a depthwise one and begins larger than meant; the normalisation
            # behind it takes the factor out again, and other numbers would change every run of an old seed. Patches
            # have none behind them.
            sees_one = weight.shape[1] == 1 and weight.shape[-1] > 1 and name not in self._patches
            groups = weight.shape[0] if sees_one else 1
            nn.init.normal_(weight, std=(2.0 * groups / (weight.shape[0] * weight[0, 0].numel())) ** 0.5)


def _ends_of_branches(graphs: Iterable[OpGraph]) -> frozenset[str]:
    """Scales of batch normalisations whose result is added to what is none, and read by nobody else, in all graphs."""
    ends: set[str] = set()
    others: set[str] = set()
    for graph in graphs:
        for op in (op for op in graph.ops if op.kind == "batch_norm"):
            scale = op.weight("weight")
            if scale is not None:
                (ends if _ends_a_branch(graph, op) else others).add(scale.name)
    return frozenset(ends - others)


def _ends_a_branch(graph: OpGraph, norm: Op) -> bool:
    (result,) = norm.outputs
    readers = graph.consumers.get(result, ())
    if len(readers) != 1 or readers[0].kind != "add" or result in graph.outputs:
        return False
    # a projected shortcut is normalised too: with 0 for both nothing would pass
    added = [graph.producers.get(name) for name in readers[0].inputs if name != result]
    return bool(added) and all(op is None or op.kind != "batch_norm" for op in added)


def _has_positions(graph: OpGraph, op: Op) -> bool:
    """Whether an operator reads features of several positions, and not one vector."""
    return len(graph.input_values(op)[0].shape) > 1
