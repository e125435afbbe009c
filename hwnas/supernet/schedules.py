"""Learning rates as functions of the step alone, and torch's scheduler that sets them.

Knows optimisers; nothing of networks or batches.
"""

from __future__ import annotations

import math
from collections.abc import Callable

from torch.optim import Optimizer
from torch.optim.lr_scheduler import LambdaLR


def cosine_rate(step: int, *, peak: float, steps: int, warmup: int = 0) -> float:
    """The learning rate of a step: a linear rise to the peak, then a cosine to zero (Loshchilov & Hutter, 2017).

    Args:
        step: from 0; at `steps` the rate is zero.
        peak: the highest rate.
        steps: in all.
        warmup: steps that rise; 0 begins at the peak.
    """
    if step < warmup:
        return peak * (step + 1) / warmup
    return peak * 0.5 * (1 + math.cos(math.pi * (step - warmup) / max(1, steps - warmup)))


def follow(optimizer: Optimizer, rate: Callable[[int], float], *, first_step: int = 0) -> LambdaLR:
    """Let an optimiser follow a schedule, from any step on and without a state of its own.

    Args:
        optimizer: all its groups get the same rate; the rate it was made with is not used.
        rate: step -> learning rate.
        first_step: the step whose rate is set at once; `step()` of what is returned sets the next one's.
    """
    # SequentialLR of LinearLR and CosineAnnealingLR was tried: each multiplies the rate of the step before, so that a
    # resumed run needs that rate in its checkpoint, and most rates differ from `cosine_rate` in their last bits.
    for group in optimizer.param_groups:
        group["initial_lr"] = group["lr"] = 1.0  # LambdaLR multiplies by it: by 1, so that a rate keeps its bits
    return LambdaLR(optimizer, rate, last_epoch=first_step - 1)
