"""Smaller networks of traced modules: what is left computes what the whole computes when the rest gives nothing."""

from __future__ import annotations

import numpy as np
import pytest
import torch
from torch import Tensor
from torch.utils._pytree import tree_leaves

from hwnas.graph import OpGraph
from hwnas.graph.elasticity.dependencies import Dependencies
from hwnas.graph.elasticity.specialise import specialise
from hwnas.supernet.graph_module import OpGraphModule
from hwnas.supernet.tracing import trace
from hwnas.types import IntArray

from .networks import NETWORKS, network


def computed(graph: OpGraph, numbers: dict[str, Tensor], inputs: tuple[Tensor, ...]) -> list[Tensor]:
    made = OpGraphModule(graph)
    made.load_state_dict({k: v for k, v in numbers.items() if k in made.state_dict()}, strict=False)
    with torch.no_grad():
        found: list[Tensor] = tree_leaves(made.eval()(*inputs))
    return found


def _removed(found: Dependencies, units: list[IntArray | None], weight: str, axis: int) -> IntArray:
    gone = np.zeros(len(found.units_along(weight, axis, 0)) if found.dims else 0, dtype=np.bool_)
    for dim, chosen in enumerate(units):
        if chosen is not None:
            along = found.units_along(weight, axis, dim)
            gone |= (along >= 0) & ~np.isin(along, chosen)
    return np.flatnonzero(gone)


@pytest.mark.parametrize("name", NETWORKS)
def test_a_smaller_network_is_the_whole_one_with_the_rest_at_zero(name: str) -> None:
    module, inputs = network(name)
    graph = trace(module, inputs)
    found = Dependencies.of(graph)
    # what is normalised over channels is another number among fewer: those dimensions keep their size here
    normed = {w.name for op in graph.ops if op.kind in ("layer_norm", "group_norm") for _, w in op.weights}
    coupled = set().union(*(found.dims_of(w, is_weight=True) for w in normed))
    rng = np.random.default_rng(0)
    units: list[IntArray | None] = [
        None if i in coupled else np.sort(rng.permutation(d.size)[: max(1, d.size // 2)])
        for i, d in enumerate(found.dims)
    ]
    kept = np.array([d.size if u is None else len(u) for d, u in zip(found.dims, units, strict=True)])
    numbers = {k: v.detach() for k, v in module.state_dict(keep_vars=True).items()}
    sliced, zeroed = {}, {}
    for weight in graph.weights():
        small, whole = numbers[weight.name], numbers[weight.name].clone()
        for axis in range(whole.dim()):
            positions = found.kept_positions(weight.name, axis, units)
            if positions is not None:
                small = small.index_select(axis, torch.from_numpy(positions))
            if weight.name.rpartition(".")[2] != "running_var":
                whole.index_fill_(axis, torch.from_numpy(_removed(found, units, weight.name, axis)), 0)
        sliced[weight.name], zeroed[weight.name] = small, whole
    smaller = specialise(graph, found, kept)
    assert (smaller is graph) == all(u is None for u in units)
    for y, z in zip(computed(smaller, sliced, inputs), computed(graph, zeroed, inputs), strict=True):
        torch.testing.assert_close(y, z, rtol=1e-4, atol=1e-5)


UNITS = {
    "residual": {"stem.0": 8, "body.0.0": 8},
    "inception": {"d.0": 2, "a.0": 4, "b.0": 6, "c.0.0": 2, "c.1.0": 4},
    "squeeze-excite": {"stem.0": 8, "reduce": 2},
    "vit": {"patch": 8, "attention.qkv": 2, "mlp.0": 16},
    "windows": {"attention.qkv": 2},
    "u-net": {"down.0": 4, "deep.0": 6, "deeper.0": 6, "up": 4},
    "two-in-two-out": {"image.0": 4, "numbers": 4},
    "shared": {"mix": 8},
    "waves": {"stem.0": 8, "mix.0": 8},
    "one-kernel": {"stem.0": 8},
    "sequence-first": {"layer.self_attn": 2, "layer.linear1": 16},
}


@pytest.mark.parametrize("name", NETWORKS)
def test_channels_and_heads_between_layers_can_shrink(name: str) -> None:
    module, inputs = network(name)
    dims = Dependencies.of(trace(module, inputs)).dims
    assert {d.name: d.size for d in dims} == UNITS.get(name, {})  # elsewhere all is the network's input or output
