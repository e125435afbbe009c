"""How much the outputs of a quantized network differ from those of the one it was made from."""

from __future__ import annotations

import math

from torch import Tensor


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
