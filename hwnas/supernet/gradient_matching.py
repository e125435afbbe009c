"""By which choice networks are parted: by that whose options agree least on how to change the weights they share.

Hu et al. (2022), "Generalizing Few-Shot NAS with Gradient Matching" (ICLR), section 3: options whose gradients on
shared weights point elsewhere do not share weights any more. An option's gradient is that of the task's loss, summed
over a few networks with it that are otherwise random, the same for all options of a choice. Options are compared by the
cosine of their gradients on the numbers which all of them use, and parted where the mean of these over the cut is
least. Here networks are parted once, in two, and by a choice that all of them have; both parts go on from the same
weights, as in Zhao et al. (2021), while Hu et al. begin anew.

Knows spaces and gradients; never data, devices or search.
"""

from __future__ import annotations

import itertools
from collections.abc import Callable, Iterator, Sequence
from dataclasses import dataclass

import numpy as np
import torch
from torch import Tensor, nn

from hwnas.types import FloatArray, IntArray, SearchSpace

N_DRAWN = 4  # networks, each on a batch of its own, whose gradients are summed for each option


@dataclass(frozen=True, slots=True, kw_only=True)
class Division:
    """Two groups of a choice's options.

    Attributes:
        choice: its index.
        second: indices of the options that are not of the first one's group.
        agreement: mean cosine between gradients of one group's options and of the other's.
    """

    choice: int
    second: tuple[int, ...]
    agreement: float


def compared_networks(
    space: SearchSpace, choices: Sequence[int], rng: np.random.Generator
) -> Iterator[tuple[int, IntArray]]:
    """Each choice, and its networks: (draws, options, D), which differ in it alone from option to option.

    Args:
        space: of the networks.
        choices: indices of such as every network has.
        rng: of what is random in them, which is the same for all choices.
    """
    sizes = np.array([len(c.options) for c in space.choices])
    drawn = rng.integers(0, sizes, size=(N_DRAWN, len(sizes)))
    for choice in choices:
        with_each = np.repeat(drawn[:, None], sizes[choice], axis=1)
        with_each[:, :, choice] = np.arange(sizes[choice])
        canonical = space.canonical(with_each.reshape(-1, len(sizes)))
        yield choice, canonical.reshape(with_each.shape)


def least_agreeing(
    networks: Iterator[tuple[int, IntArray]],
    weights: Sequence[nn.Parameter],
    *,
    loss: Callable[[IntArray, int], Tensor],
) -> Division:
    """The choice whose options agree least, and how they are best parted.

    Args:
        networks: as `compared_networks` gives them; at least one choice, of at least two options each.
        weights: that networks share.
        loss: (encoding, draw) -> () loss of a network on the batch of a draw.
    """
    divisions = (best_division(choice, _agreements(encodings, weights, loss=loss)) for choice, encodings in networks)
    return min(divisions, key=lambda d: d.agreement)


def _agreements(
    encodings: IntArray, weights: Sequence[nn.Parameter], *, loss: Callable[[IntArray, int], Tensor]
) -> FloatArray:
    """(options, options) cosines of the gradients of a choice's options."""
    n_draws, n_options, _ = encodings.shape
    gradients = []
    for option in range(n_options):
        total = torch.zeros(sum(p.numel() for p in weights), device=weights[0].device)
        for draw in range(n_draws):
            found = torch.autograd.grad(loss(encodings[draw, option], draw), weights, materialize_grads=True)
            total += torch.cat([g.flatten() for g in found])
        gradients.append(total)
    each = torch.stack(gradients)  # (options, weights)
    used = (each != 0).all(0)
    of_used = nn.functional.normalize(each[:, used], dim=1)
    found_agreements: FloatArray = (of_used @ of_used.T).double().cpu().numpy()
    return found_agreements


def best_division(choice: int, agreements: FloatArray) -> Division:
    """The two groups of options between which the mean agreement is least: a minimum cut, by trying all.

    Args:
        choice: its index.
        agreements: (options, options) of pairs of options, symmetric.
    """
    n = len(agreements)

    def across(second: tuple[int, ...]) -> float:
        first = [i for i in range(n) if i not in second]
        return float(agreements[np.ix_(first, list(second))].mean())

    groups = [g for size in range(1, n) for g in itertools.combinations(range(1, n), size)]
    best = min(groups, key=across)
    return Division(choice=choice, second=best, agreement=across(best))
