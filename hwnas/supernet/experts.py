"""Experts: weights that are mixed for each network, by shares which its architecture decides.

Jawahar et al. (2024), "Mixture-of-Supernets: Improving Weight-Sharing Supernet Training with Architecture-Routed
Mixture-of-Experts" (ACL Findings), layer-wise. Here a slot takes the place of a layer, and the router is linear.

Knows numbers; never blocks or spaces.
"""

from __future__ import annotations

from collections.abc import Sequence

import torch
from torch import Tensor, nn


class Router(nn.Module):
    """From an architecture to each slot's shares of the experts.

    It begins with small random weights: each architecture leans to other experts, which is what sets these apart.

    Args:
        slots: their names.
        n_experts: of each.
        n_features: of an architecture.
    """

    def __init__(self, slots: Sequence[str], *, n_experts: int, n_features: int) -> None:
        super().__init__()
        self._slots = tuple(slots)
        self.weight = nn.Parameter(torch.empty(len(self._slots), n_experts, n_features))
        nn.init.normal_(self.weight, std=max(1, n_features) ** -0.5)

    def forward(self, features: Sequence[float]) -> dict[str, Tensor]:
        """Name of a slot -> (experts,) shares that sum to 1.

        Args:
            features: of the architecture, from 0 to 1.
        """
        given = 2 * torch.tensor(features, dtype=self.weight.dtype, device=self.weight.device) - 1  # around 0
        # a sum of products: as a product of matrices autocast would compute it in bfloat16, other than extraction does
        logits = (self.weight * given).sum(-1)  # (slots, experts, features) -> (slots, experts)
        return dict(zip(self._slots, logits.softmax(-1).unbind(), strict=True))


def mixed(weights: Sequence[Tensor], shares: Sequence[Tensor]) -> Tensor:
    """The sum of some weights of one shape, each times its share.

    Args:
        weights: one of each expert.
        shares: () of each.
    """
    total = weights[0] * shares[0]
    for weight, share in zip(weights[1:], shares[1:], strict=True):
        total = torch.addcmul(total, weight, share)
    return total
