"""Further copies of a slot's shared weights: how they begin and what they are called. Knows tensors and names."""

from __future__ import annotations

import re
from collections.abc import Iterable

import torch
from torch import Tensor, nn

_COPY = re.compile(r"\.copies\.\d+\.")  # as in `slots.stem.copies.0.weights.conv/conv/weight`


class WeightsCopy(nn.Module):
    """Weights, and matrices between kernel sizes, beside the first ones of a slot, as which they begin.

    Args:
        weights: the first ones.
        transforms: likewise.
        noise: added to each weight, in standard deviations of it: what begins constant stays so. The matrices have
            none.
    """

    def __init__(self, weights: nn.ParameterDict, transforms: nn.ParameterDict, *, noise: float) -> None:
        super().__init__()
        self.weights = nn.ParameterDict({k: nn.Parameter(_noisy(p.detach(), noise)) for k, p in weights.items()})
        self.transforms = nn.ParameterDict({k: nn.Parameter(p.detach().clone()) for k, p in transforms.items()})


def _noisy(p: Tensor, noise: float) -> Tensor:
    return p + noise * p.std(correction=0) * torch.randn_like(p) if noise else p.clone()


def copied_parameters(names: Iterable[str]) -> dict[str, str]:
    """Name of a copy's parameter -> that of the first ones' which it is a copy of.

    Args:
        names: of a supernet's parameters; those of no copy are left out.
    """
    return {name: _COPY.sub(".", name) for name in names if _COPY.search(name)}
