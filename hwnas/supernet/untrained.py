"""Networks and single blocks with random weights, made only to be timed: as they would ship, and how their files look.

A latency does not depend on weights, so tables, corrections and audits are measured on these, and an exporter writes
them as it writes what ships. This module knows networks by their operators, not kinds of block, file formats, devices
or search.
"""

from __future__ import annotations

from collections.abc import Iterator, Sequence
from contextlib import contextmanager
from dataclasses import dataclass, replace
from pathlib import Path

import numpy as np
import torch
from torch import Tensor, nn

from hwnas.precisions import gives_integers, is_quantized, takes_integers
from hwnas.spaces.drift_anchor import anchor_blocks, between_neighbours
from hwnas.spaces.kinds import block_graph
from hwnas.supernet.quantization import fold_batchnorm, quantize
from hwnas.supernet.subnetwork import SubNetwork
from hwnas.types import NETWORK_ENDS, Artefact, Block, Ends, Exporter


@dataclass(frozen=True, slots=True, kw_only=True)
class Untrained:
    """A module with random weights, and what an exporter is told of it.

    Attributes:
        model: as it would ship: BatchNorm folded, or quantized.
        example: one input, (1, ...).
        precision: that its file counts as.
        ends: of its file.
    """

    model: nn.Module
    example: Tensor
    precision: str
    ends: Ends = NETWORK_ENDS

    def write(self, exporter: Exporter, path: Path) -> Artefact:
        """Its file.

        Raises:
            ExportError: it cannot be written in the exporter's format.
        """
        return exporter.export(self.model, self.example, path, precision=self.precision, ends=self.ends)


def untrained_block(block: Block, *, symmetric: bool = False, seed: int = 0) -> Untrained:
    """One block alone; see `untrained_part`."""
    return untrained_part([block], symmetric=symmetric, seed=seed)


def untrained_part(part: Sequence[Block], *, symmetric: bool = False, seed: int = 0) -> Untrained:
    """Neighbouring blocks without the rest of their network, with ends as they have them in it.

    An int8 block takes and gives integers, as between its neighbours in a running network. A `quantize` block leads
    from floats there, a `dequantize` block back: a change of layout belongs to the change of precision.

    Args:
        part: of any registered kinds, of one precision.
        symmetric: quantized activations have zero point 0, as the runtime wants them (`Runtime.quantization`).
        seed: of the weights.

    Raises:
        SpaceError: there is no module for a block's kind.
        UnknownNameError: the precision is not known.
    """
    ends = Ends(
        integer_input=takes_integers(part[0]),
        integer_output=gives_integers(part[-1]),
        fixed_batch=True,  # latency is that of one image
        output_name="output",
    )
    whole = untrained_network(between_neighbours(part), precision=part[0].precision, symmetric=symmetric, seed=seed)
    return replace(whole, ends=ends)


def untrained_network(blocks: Sequence[Block], *, precision: str, symmetric: bool = False, seed: int = 0) -> Untrained:
    """A whole network.

    Args:
        blocks: of the network, in order, conversions between precisions included.
        precision: that its file counts as: the quantized one as soon as one block is.
        symmetric: as for `untrained_block`.
        seed: of the weights.

    Raises:
        SpaceError: there is no module for a block's kind, or a conversion is missing.
        UnknownNameError: a precision is not known.
    """
    rng = np.random.default_rng(seed)
    network = random_network(list(blocks), rng)
    model = _deployable(network, precision=precision, rng=rng, symmetric=symmetric)
    return Untrained(model=model, example=torch.zeros(1, *network.in_shape), precision=precision)


def drift_anchor(precision: str, *, symmetric: bool = False) -> Untrained:
    """The fixed network whose time tells how fast a machine is at the moment, of batch 1.

    The same weights every time; an exporter's file has the same bytes on the same versions of torch and the format.

    Raises:
        UnknownNameError: the precision is not known.
    """
    anchor = untrained_network(anchor_blocks(precision), precision=precision, symmetric=symmetric)
    return replace(anchor, ends=Ends(fixed_batch=True))


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


def _deployable(network: SubNetwork, *, precision: str, rng: np.random.Generator, symmetric: bool) -> nn.Module:
    """The network as it would ship: BatchNorm folded, quantized blocks quantized by one random image."""
    if not is_quantized(precision):
        return fold_batchnorm(network)
    images = torch.from_numpy(rng.standard_normal((1, *network.in_shape)).astype(np.float32))
    with _one_thread():  # sums in another order would give other ranges, and so another file
        return quantize(network, [images], symmetric=symmetric, correct_biases=False)


@contextmanager
def _one_thread() -> Iterator[None]:
    threads = torch.get_num_threads()
    torch.set_num_threads(1)
    try:
        yield
    finally:
        torch.set_num_threads(threads)
