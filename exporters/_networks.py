"""Networks with random weights, made only to be timed: blocks on their own and the drift reference.

This module knows blocks and torch modules, not file formats, devices or search.
"""

from __future__ import annotations

from collections.abc import Iterator, Sequence
from contextlib import contextmanager

import numpy as np
import torch
from torch import nn

from hwnas.precisions import DEQUANTIZE, QUANTIZE, gives_integers, is_quantized, simulated_as, takes_integers
from hwnas.supernet.quantization import fold_batchnorm, quantize
from hwnas.supernet.subnetwork import SubNetwork
from hwnas.types import Block


def boundary(kind: str, shape: tuple[int, ...], *, precision: str) -> Block:
    """A `quantize` or `dequantize` block for tensors of that shape, to or from this quantized precision."""
    return Block(kind=kind, in_shape=shape, out_shape=shape, precision=precision)


def between_neighbours(block: Block) -> list[Block]:
    """A block with the boundaries that make integers of what enters it, and values of the integers that leave it.

    What an exporter cuts off again, so that the block alone takes and gives what it does in a network.
    """
    blocks = [block]
    if takes_integers(block):
        blocks.insert(0, boundary(QUANTIZE, block.in_shape, precision=block.precision))
        if gives_integers(block):
            blocks.append(boundary(DEQUANTIZE, block.out_shape, precision=block.precision))
    return blocks


# (channels, size in pixels) of the drift reference after its stem, one inverted residual each
_REFERENCE = ((24, 32), (24, 32), (32, 16), (32, 16), (32, 16), (64, 8), (64, 8), (64, 8))


def reference_blocks(precision: str) -> list[Block]:
    """The drift reference: never change it, or every table's reference time loses its meaning.

    Raises:
        UnknownNameError: the precision is not known.
    """
    precision = simulated_as(precision)
    act = ("activation", "relu6")
    blocks = [
        Block(
            kind="conv",
            in_shape=(3, 64, 64),
            out_shape=(24, 32, 32),
            precision=precision,
            attributes=(act, ("kernel_size", 3), ("stride", 2)),
        )
    ]
    for channels, size in _REFERENCE:
        before = blocks[-1].out_shape
        shape = (("hidden_channels", 4 * before[0]), ("kernel_size", 3), ("se_channels", 0))
        stride = ("stride", before[1] // size)
        blocks.append(
            Block(
                kind="mbconv",
                in_shape=before,
                out_shape=(channels, size, size),
                precision=precision,
                attributes=(act, *shape, stride),
            )
        )
    head = (act, ("features", 0), ("hidden_channels", 192))
    blocks.append(
        Block(kind="head", in_shape=blocks[-1].out_shape, out_shape=(10,), precision=precision, attributes=head)
    )
    if is_quantized(precision):
        ends = (
            boundary(QUANTIZE, blocks[0].in_shape, precision=precision),
            boundary(DEQUANTIZE, (10,), precision=precision),
        )
        return [ends[0], *blocks, ends[1]]
    return blocks


def random_network(blocks: list[Block], rng: np.random.Generator) -> SubNetwork:
    """A network with weights of the size training leaves them at, from `rng` alone."""
    with torch.random.fork_rng(devices=[]):  # building draws weights we do not use from the global generator
        network = SubNetwork(blocks).eval()
    state = network.state_dict()
    for name, value in state.items():
        if not value.is_floating_point():
            continue
        if value.dim() > 1:  # He et al. (2015): keeps the size of activations
            drawn = rng.standard_normal(value.shape) * (2.0 / value[0].numel()) ** 0.5
        elif name.endswith(("running_var", "bn.weight")):
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
