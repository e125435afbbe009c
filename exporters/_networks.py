"""Networks with random weights, made only to be timed, as they would ship.

This module knows networks by their operators, not kinds of block, file formats, devices or search.
"""

from __future__ import annotations

from collections.abc import Iterator, Sequence
from contextlib import contextmanager

import numpy as np
import torch
from torch import nn

from hwnas.precisions import is_quantized
from hwnas.spaces.kinds import block_graph
from hwnas.supernet.quantization import fold_batchnorm, quantize
from hwnas.supernet.subnetwork import SubNetwork
from hwnas.types import Block


def random_network(blocks: list[Block], rng: np.random.Generator) -> SubNetwork:
    """A network with weights of the size training leaves them at, from `rng` alone."""
    with torch.random.fork_rng(devices=[]):  # building draws weights we do not use from the global generator
        network = SubNetwork(blocks).eval()
    positive = {  # what batch normalisation divides by, and multiplies with
        f"blocks.{i}.{weight.name}"
        for i, block in enumerate(blocks)
        for op in block_graph(block).ops
        if op.kind == "batch_norm"
        for role, weight in op.weights
        if role in ("weight", "running_var")
    }
    for name, value in network.state_dict().items():
        if not value.is_floating_point():
            continue
        if value.dim() > 1:  # He et al. (2015): keeps the size of activations
            drawn = rng.standard_normal(value.shape) * (2.0 / value[0].numel()) ** 0.5
        elif name in positive:
            drawn = rng.uniform(0.5, 1.5, value.shape)
        else:
            drawn = rng.standard_normal(value.shape) * 0.1
        value.copy_(torch.from_numpy(drawn.astype(np.float32)))
    return network


def deployable(network: SubNetwork, *, precision: str, rng: np.random.Generator, symmetric: bool = False) -> nn.Module:
    """The network as it would ship: BatchNorm folded, quantized blocks quantized by one random image."""
    if not is_quantized(precision):
        return fold_batchnorm(network)
    images = torch.from_numpy(rng.standard_normal((1, *network.in_shape)).astype(np.float32))
    with _one_thread():  # sums in another order would give other ranges, and so another file
        return quantize(network, [images], symmetric=symmetric)


def sample(
    blocks: Sequence[Block], *, precision: str, seed: int, symmetric: bool = False
) -> tuple[nn.Module, tuple[int, ...]]:
    """A network of these blocks with random weights as it would ship, and the shape (C, H, W) of its input."""
    rng = np.random.default_rng(seed)
    network = random_network(list(blocks), rng)
    return deployable(network, precision=precision, rng=rng, symmetric=symmetric), network.in_shape


@contextmanager
def _one_thread() -> Iterator[None]:
    threads = torch.get_num_threads()
    torch.set_num_threads(1)
    try:
        yield
    finally:
        torch.set_num_threads(threads)
