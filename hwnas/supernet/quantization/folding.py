"""Batch normalisation folded into the convolution or linear layer before it. Knows graphs, not blocks or precision."""

from __future__ import annotations

import copy
from collections.abc import Iterator
from dataclasses import replace
from typing import TypeVar

import torch
from torch import Tensor, nn

from hwnas.graph import Op, OpGraph, Value, Weight
from hwnas.graph.costs import call_of
from hwnas.graph.patterns import common_name, follower
from hwnas.supernet.graph_module import OpGraphModule
from hwnas.supernet.subnetwork import BlockModule

Network = TypeVar("Network", bound=nn.Module)
_FOLDABLE = ("conv2d", "conv1d", "linear")


def fold_batchnorm(network: Network) -> Network:
    """A copy of a network that computes the same in eval mode without the batch normalisations behind convolutions.

    Every convolution or linear layer keeps its place and names and gets a bias; what is no operator graph, or follows
    something else, stays. The copy is in the mode of the original.

    Raises:
        ValueError: a batch normalisation has no running statistics.
    """
    if isinstance(network, OpGraphModule):
        return _fold_module(network)  # type: ignore[return-value]
    # copied already, as far as copying is concerned: what is made anew is not copied first
    copies: dict[int, object] = {id(m): _fold_module(m) for m in network.modules() if isinstance(m, OpGraphModule)}
    return copy.deepcopy(network, copies)


def _fold_module(module: OpGraphModule) -> OpGraphModule:
    graph, state = module.op_graph, dict(module.state_dict())
    pairs = list(_pairs(module))
    for layer, norm in pairs:
        _fold_(state, layer, norm, eps=call_of(graph, norm)["eps"])
    graph = _without(graph, pairs)
    with torch.device("meta"):  # its numbers are there already: none is drawn
        found = BlockModule(module.slot_block, graph=graph) if isinstance(module, BlockModule) else OpGraphModule(graph)
    found.load_state_dict({name: tensor.clone() for name, tensor in state.items()}, assign=True)
    found.op_labels = {**module.op_labels, **{layer.name: common_name(layer.name, norm.name) for layer, norm in pairs}}
    for name, part in module.named_modules():
        if name in dict(found.named_modules()):
            found.get_submodule(name).training = part.training
    return found


def _pairs(module: OpGraphModule) -> Iterator[tuple[Op, Op]]:
    """(layer, normalisation): neighbours whose weights nobody shares."""
    for op in module.op_graph.ops:
        norm = follower(module.op_graph, op, ("batch_norm",)) if op.kind in _FOLDABLE else None
        if norm is not None and module.keeps(op) and module.keeps(norm):
            yield op, norm


@torch.no_grad()
def _fold_(state: dict[str, Tensor], layer: Op, norm: Op, *, eps: float) -> None:
    weight, mean, variance = (f"{layer.name}.weight", f"{norm.name}.running_mean", f"{norm.name}.running_var")
    if mean not in state:
        raise ValueError("a BatchNorm without running statistics cannot be folded; give it some first")
    factor = state.get(f"{norm.name}.weight", torch.ones_like(state[mean])) / torch.sqrt(state[variance] + eps)  # (C,)
    state[weight] = state[weight] * factor.view(-1, *(1,) * (state[weight].dim() - 1))
    shift = state.get(f"{norm.name}.bias", torch.zeros_like(factor)) - state[mean] * factor
    bias = f"{layer.name}.bias"
    state[bias] = shift + state[bias] * factor if bias in state else shift
    for name in [name for name in state if name.startswith(f"{norm.name}.")]:
        del state[name]


def _without(graph: OpGraph, pairs: list[tuple[Op, Op]]) -> OpGraph:
    """The graph with each layer giving what its normalisation gave."""
    norms = {norm.name for _, norm in pairs}
    changed = {layer.name: replace(with_bias(layer), outputs=norm.outputs) for layer, norm in pairs}
    gone = {layer.outputs[0] for layer, _ in pairs}
    values: tuple[Value, ...] = tuple(v for v in graph.values if v.name not in gone)
    ops = tuple(changed.get(op.name, op) for op in graph.ops if op.name not in norms)
    return replace(graph, values=values, ops=ops)


def with_bias(layer: Op) -> Op:
    """A convolution or linear layer with a bias, be it the one it has."""
    weights = dict(layer.weights)
    axis = 1 if layer.kind == "conv_transpose2d" else 0  # of the output channels, of one group
    shape = (weights["weight"].shape[axis],)
    weights.setdefault("bias", Weight(name=f"{layer.name}.bias", shape=shape))
    return replace(layer, weights=tuple(weights.items()))
