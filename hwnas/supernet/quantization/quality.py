"""How much a quantized network differs from the one it was made from. Knows tensors and modules only."""

from __future__ import annotations

import math

import torch
from torch import Tensor

from hwnas.supernet.plain import PlainNetwork
from hwnas.supernet.quantization.calibration import QuantizedNetwork


def sqnr_db(reference: Tensor, approximation: Tensor) -> float:
    """Signal-to-quantization-noise ratio in decibels; infinite if both are equal. Higher is better."""
    noise = (reference - approximation).square().sum().item()
    signal = reference.square().sum().item()
    if noise == 0:
        return math.inf
    return 10 * math.log10(signal / noise) if signal else -math.inf


def top1_agreement(a: Tensor, b: Tensor) -> float:
    """Share of samples, 0 to 1, for which two (N, classes) outputs name the same class."""
    return (a.argmax(1) == b.argmax(1)).float().mean().item()


@torch.no_grad()
def block_sqnr_db(network: PlainNetwork, quantized: QuantizedNetwork, images: Tensor) -> tuple[float, ...]:
    """The signal-to-noise ratio after each block, in order: where a network loses its accuracy.

    Args:
        network: in eval mode.
        quantized: made from it, in eval mode.
        images: (N, C, H, W).
    """
    ratios = []
    x = y = images
    for plain, block in zip(network.blocks, quantized.blocks, strict=True):
        x, y = plain(x), block(y)
        ratios.append(sqnr_db(x, y))
    return tuple(ratios)
