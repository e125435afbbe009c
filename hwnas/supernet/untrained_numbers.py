"""What a supernet of a given network computes with beside its parameters, by names for files.

    order.<dimension>        its units, the most important first: which ones smaller networks keep
    fixed.<buffer>           of the given network: statistics of normalisation, tables of indices

Both are of the network as it was given and ranked; no training changes them.
"""

from __future__ import annotations

from collections.abc import Mapping
from typing import TYPE_CHECKING

import torch

from hwnas.errors import CheckpointError

if TYPE_CHECKING:
    from torch import Tensor

    from hwnas.supernet.adapted import AdaptedSupernet

_ORDER, _FIXED = "order.", "fixed."


def orders_of(supernet: AdaptedSupernet) -> dict[str, Tensor]:
    """Name -> (units,) the order of each dimension of the given network."""
    dims = supernet.space.network.dependencies.dims
    return {f"{_ORDER}{dim.name}": supernet.order_tensor(i) for i, dim in enumerate(dims)}


def take_orders_(supernet: AdaptedSupernet, tensors: Mapping[str, Tensor]) -> None:
    """Let smaller networks keep the units that a file says.

    Args:
        supernet: changed in place.
        tensors: as `orders_of` gives them, among others.

    Raises:
        CheckpointError: an order is missing, or no permutation of the units.
    """
    try:
        for i, dim in enumerate(supernet.space.network.dependencies.dims):
            supernet.set_order_(i, tensors[f"{_ORDER}{dim.name}"].numpy())
    except (KeyError, ValueError, TypeError) as e:
        raise CheckpointError(f"the weights of {supernet.space_name!r} say no order of units ({e})") from e


def fixed_of(supernet: AdaptedSupernet) -> dict[str, Tensor]:
    """Name -> each buffer of the given network, not copied."""
    return {f"{_FIXED}{name}": tensor for name, tensor in supernet.fixed_numbers().items()}


@torch.no_grad()
def take_fixed_(supernet: AdaptedSupernet, tensors: Mapping[str, Tensor]) -> None:
    """Give a supernet the buffers that a file says.

    Args:
        supernet: changed in place.
        tensors: as `fixed_of` gives them, among others.

    Raises:
        CheckpointError: one is missing, or of another shape or type.
    """
    for name, buffer in fixed_of(supernet).items():
        found = tensors.get(name)
        if found is None or (found.shape, found.dtype) != (buffer.shape, buffer.dtype):
            raise CheckpointError(
                f"the weights of {supernet.space_name!r} do not fit its network (first difference: {name})"
            )
        buffer.copy_(found)
