"""BatchNorm statistics of one extracted network, from training images it is shown (Yu & Huang, 2019, section 3.3)."""

from __future__ import annotations

from collections.abc import Iterable

import torch
from torch import Tensor, nn

from hwnas.data.tensors import fit
from hwnas.supernet.graph_module import Part
from hwnas.supernet.quantization.rounding import rounded
from hwnas.supernet.subnetwork import BlockSequence, SubNetwork


def forget_statistics_(module: nn.Module) -> None:
    """Let every BatchNorm of a module normalise by the batch it sees, in either mode: statistics are one network's."""
    for m in module.modules():
        if isinstance(m, nn.modules.batchnorm._BatchNorm):
            m.track_running_stats = False
            m.running_mean = m.running_var = m.num_batches_tracked = None


def keep_statistics_(module: nn.Module) -> None:
    """Let every BatchNorm of a module normalise by the statistics that it has, until the module's mode is set again."""
    for m in module.modules():
        if isinstance(m, nn.modules.batchnorm._BatchNorm):
            m.training = False
        elif isinstance(m, Part) and m.takes("batch_norm"):  # norms without a module of their own follow its mode
            m.training = False  # its children have modes of their own


def count_no_batches_(module: nn.Module) -> None:
    """Take from every BatchNorm of a module its count of batches, which no sub-network has a share of."""
    for m in module.modules():
        if isinstance(m, nn.modules.batchnorm._BatchNorm):
            m.num_batches_tracked = None


@torch.no_grad()
def recalibrate(network: SubNetwork, batches: Iterable[Tensor], *, as_rounded: bool = False) -> SubNetwork:
    """Set every BatchNorm's running mean and variance to their average over the batches, in place.

    Those of a network whose statistics hold already stay (`SubNetwork.statistics_hold`).

    Args:
        network: an extracted network; left in evaluation mode.
        batches: (N, ...) preprocessed training data, not augmented; images are resized to the network's input.
        as_rounded: of what blocks in integers normalise as they round it to the ranges that were learned, instead of
            what floats would be.

    Raises:
        ValueError: there is no batch.
    """
    if network.statistics_hold:
        return network.eval()
    runs = rounded(network) if as_rounded else network
    _take_statistics_(runs, batches, in_shape=network.in_shape)
    if runs is not network:
        found = dict(runs.named_buffers())
        for name, buffer in network.named_buffers():
            buffer.copy_(found[name])
    return network.eval()


def _take_statistics_(network: BlockSequence, batches: Iterable[Tensor], *, in_shape: tuple[int, ...]) -> None:
    # of images, of sequences and of plain features: a kind of block may normalise behind a linear layer
    norms = [m for m in network.modules() if isinstance(m, nn.modules.batchnorm._BatchNorm)]
    momenta = [m.momentum for m in norms]
    network.eval()  # all but the norms: dropout must not change what they see
    for m in norms:
        m.reset_running_stats()
        m.momentum = None  # cumulative average
        m.train()
    seen = 0
    for x in batches:
        network(fit(x, in_shape))
        seen += 1
    for m, momentum in zip(norms, momenta, strict=True):
        m.momentum = momentum
    if not seen:
        raise ValueError("recalibration needs at least one batch of training images")
