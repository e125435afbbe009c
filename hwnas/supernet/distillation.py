"""What a network that was given trained teaches its sub-networks: its answers, and what its regions hand on.

Regions hand on tensors whose channels are the given network's own wherever a sub-network keeps all of them, as residual
streams mostly are. There the two can be compared without the layer between them that FitNets train for it (Romero et
al., 2015, "FitNets: Hints for Thin Deep Nets", section 2.2).

Knows modules and batches; must never know spaces, devices or search.
"""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from dataclasses import dataclass

import torch
from torch import Tensor
from torch.nn import functional as F

from hwnas.data.tensors import fit
from hwnas.supernet.subnetwork import SubNetwork

_LEAST = 1e-12  # of a mean square: what is nothing but zeros has no scale


@dataclass(frozen=True, slots=True, kw_only=True)
class Taught:
    """What a given network makes of a batch.

    Attributes:
        outputs: (N, ...) of the network.
        handed_on: name of a slot -> (N, ...) what it is given; without the first one, which is given the images.
    """

    outputs: Tensor
    handed_on: Mapping[str, Tensor]

    def part(self, images: slice) -> Taught:
        """What it makes of some images of the batch."""
        return Taught(outputs=self.outputs[images], handed_on={k: v[images] for k, v in self.handed_on.items()})


class Teacher:
    """A given network, from which all networks of a step learn.

    Args:
        network: frozen in place.
        slots: names of its blocks, in order.
    """

    def __init__(self, network: SubNetwork, *, slots: Sequence[str]) -> None:
        self.network = network.requires_grad_(False).eval()
        self._slots = tuple(slots)

    def to(self, device: torch.device) -> Teacher:
        """The same on a device."""
        self.network.to(device)
        return self

    @torch.no_grad()
    def of(self, images: Tensor, *, with_features: bool) -> Taught:
        """What the network makes of a batch.

        Args:
            images: (N, C, H, W) of any resolution, or (N, ...) of another kind.
            with_features: keep what regions hand on, which takes memory.
        """
        x = fit(images, self.network.in_shape)
        if not with_features:
            return Taught(outputs=self.network(x).float(), handed_on={})
        handed_on = {}
        for i, (slot, block) in enumerate(zip(self._slots, self.network.blocks, strict=True)):
            if i:
                handed_on[slot] = x
            x = block(x)
        return Taught(outputs=x.float(), handed_on=handed_on)


def feature_loss(handed_on: Mapping[str, Tensor], teacher: Mapping[str, Tensor]) -> Tensor:
    """Mean squared difference from what the teacher hands on, in units of its mean square; the mean over the regions.

    Regions that are left out are compared by what the next one is given. Images of a lower resolution are compared with
    the teacher's at theirs; what has other channels than the teacher's is not compared.

    Args:
        handed_on: name of a slot -> (N, ...) what it is given in the sub-network.
        teacher: likewise in the teacher.

    Returns:
        A scalar; 0 where nothing can be compared.
    """
    terms = []
    for slot, x in handed_on.items():
        found = teacher.get(slot)
        if found is None or found.shape[:2] != x.shape[:2] or found.dim() != x.dim():
            continue
        mine, theirs = x.float(), found.float()  # squares of bfloat16 have 8 significant bits
        if x.dim() == 4 and x.shape != found.shape:
            theirs = F.adaptive_avg_pool2d(theirs, (x.shape[2], x.shape[3]))
        if mine.shape == theirs.shape:
            terms.append(F.mse_loss(mine, theirs) / theirs.square().mean().clamp_min(_LEAST))
    if not terms:
        return next(iter(handed_on.values())).new_zeros(()) if handed_on else torch.zeros(())
    return torch.stack(terms).mean()
