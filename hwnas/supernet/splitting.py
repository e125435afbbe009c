"""The step at which the networks of a supernet are parted, and what is trained from then on.

Both parts begin as what was trained so far: weights, averages and what the optimiser remembers are copied. Then the
networks of a step are of one part and of the other by turns, in the next step the other way round. So every step trains
both, each part is given its own largest and smallest network in every second step, and a step costs what it did. The
largest network of a step teaches the others as before, though some are of the other part.

Knows supernets, their gradients and optimisers; never data, devices or search.
"""

from __future__ import annotations

from collections.abc import Callable, Mapping, Sequence
from dataclasses import replace

import numpy as np
import torch
from torch import Tensor, nn

from hwnas.supernet.copies import copied_parameters
from hwnas.supernet.elastic import Supernet
from hwnas.supernet.gradient_matching import compared_networks, least_agreeing
from hwnas.supernet.parts import N_PARTS, Parts
from hwnas.supernet.processes import take_from_first_
from hwnas.types import IntArray, TrainTarget


def split_(
    supernet: Supernet, parts: Parts, *, loss: Callable[[IntArray, int], Tensor], rng: np.random.Generator
) -> None:
    """Part the networks of a supernet, in all processes alike.

    Args:
        supernet: in training mode.
        parts: its own; changed in place.
        loss: (encoding, draw) -> () loss of a network on the batch of a draw, of `gradient_matching.N_DRAWN`.
        rng: decides which networks are compared.
    """
    parameters = dict(supernet.named_parameters())
    shared = [parameters[first] for first in copied_parameters(parameters).values()]
    networks = compared_networks(parts.space, parts.candidates, rng)
    division = least_agreeing(networks, shared, loss=loss)
    parts.divide_(division.choice, division.second)
    take_from_first_(parts.table)


@torch.no_grad()
def copy_trained_(
    parameters: Mapping[str, nn.Parameter], averages: Mapping[str, Tensor], optimizer: torch.optim.Optimizer
) -> None:
    """Let copies of weights be what the first ones have become, with all that is remembered of these.

    Args:
        parameters: of the supernet, by name; changed in place.
        averages: of them, likewise.
        optimizer: of them, likewise.
    """
    for name, first in copied_parameters(parameters).items():
        parameters[name].copy_(parameters[first])
        averages[name].copy_(averages[first])
        remembered = optimizer.state.get(parameters[first], {})
        optimizer.state[parameters[name]] = {
            key: value.clone() if isinstance(value, Tensor) else value for key, value in remembered.items()
        }
    for name, p in parameters.items():
        if not p.requires_grad:  # the table of the parts, which is no mean of what it was and is
            averages[name].copy_(p)


def of_both_parts(targets: Sequence[TrainTarget], parts: Parts, step: int) -> list[TrainTarget]:
    """The networks of a step, moved to one part and the other by turns.

    Args:
        targets: as a strategy gives them.
        parts: that the networks are of.
        step: from 0.
    """
    return [replace(t, encoding=parts.moved(t.encoding, (step + i) % N_PARTS)) for i, t in enumerate(targets)]
