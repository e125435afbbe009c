"""A short training of one network on its own: quantization-aware fine-tuning after extraction.

Knows modules and batches; must never know spaces, devices or search.
"""

from __future__ import annotations

import math

import torch
from torch import nn
from torch.nn import functional as F

from hwnas.data.tensors import resize
from hwnas.errors import DivergenceError
from hwnas.supernet.batches import BatchStream
from hwnas.supernet.schedules import cosine_rate, follow
from hwnas.supernet.subnetwork import SubNetwork
from hwnas.supernet.training import soft_cross_entropy
from hwnas.types import ProgressCallback, ignore_progress


def finetune(
    network: nn.Module,
    stream: BatchStream,
    *,
    resolution: tuple[int, int],
    steps: int,
    learning_rate: float = 0.005,
    teacher: SubNetwork | None = None,
    progress: ProgressCallback = ignore_progress,
) -> nn.Module:
    """Train a network in place with SGD and a cosine schedule; its BatchNorm statistics stay fixed.

    Args:
        network: any module on (N, C, *resolution) images; left in evaluation mode.
        stream: training batches; steps count from 0.
        resolution: (H, W) the network takes; the teacher sees the same images at its own.
        teacher: gives soft targets, mixed half and half with the labels (Hinton et al., 2015), best the supernet's
            largest network; None: labels only.

    Raises:
        DivergenceError: a loss is not finite.
    """
    network.eval()  # with the statistics it will ship with; gradients flow all the same
    parameters = [p for p in network.parameters() if p.requires_grad]
    optimizer = torch.optim.SGD(parameters, momentum=0.9, nesterov=True)
    scheduler = follow(optimizer, lambda step: cosine_rate(step, peak=learning_rate, steps=steps))
    for step, (images, labels) in enumerate(stream.batches(0, steps)):
        logits = network(resize(images, resolution))
        loss = F.cross_entropy(logits, labels)
        if teacher is not None:
            with torch.no_grad():
                soft = teacher(resize(images, teacher.in_shape[1:]))
            loss = 0.5 * loss + 0.5 * soft_cross_entropy(logits, soft)
        if not math.isfinite(loss.item()):
            raise DivergenceError(step, loss.item(), None)
        optimizer.zero_grad(set_to_none=True)
        loss.backward()  # type: ignore[no-untyped-call]
        nn.utils.clip_grad_norm_(parameters, 1.0)
        optimizer.step()
        scheduler.step()
        progress(step + 1, steps, f"loss {loss.item():.3f}")
    return network.eval()
