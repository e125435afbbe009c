"""BatchNorm folded into the convolution before it. Knows plain modules, not precision."""

from __future__ import annotations

import copy

import torch
from torch import nn

from hwnas.supernet.plain import ConvNormAct, PlainNetwork


def fold_batchnorm(network: PlainNetwork) -> PlainNetwork:
    """A copy of the network that computes the same in eval mode without any BatchNorm.

    Every `ConvNormAct` keeps its place and names: `conv` gets a bias, `bn` becomes an identity. A
    network that is already folded is copied as it is. The copy is in the mode of the original.
    """
    folded = copy.deepcopy(network)
    for module in folded.modules():
        if isinstance(module, ConvNormAct) and isinstance(module.bn, nn.BatchNorm2d):
            _fold_(module, module.bn)
    return folded


@torch.no_grad()
def _fold_(module: ConvNormAct, bn: nn.BatchNorm2d) -> None:
    conv = module.conv
    if bn.running_mean is None or bn.running_var is None:
        raise ValueError("a BatchNorm without running statistics cannot be folded; give it some first")
    gain = bn.weight / torch.sqrt(bn.running_var + bn.eps)  # (C,)
    conv.weight.mul_(gain.view(-1, 1, 1, 1))
    shift = bn.bias - bn.running_mean * gain
    conv.bias = nn.Parameter(shift if conv.bias is None else shift + conv.bias * gain)
    module.bn = nn.Identity()  # type: ignore[assignment]
