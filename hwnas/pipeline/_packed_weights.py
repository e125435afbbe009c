"""What of a supernet's numbers an entry of the zoo keeps, and how exactly. Knows tensors; never runs or folders."""

from __future__ import annotations

from typing import TYPE_CHECKING

if TYPE_CHECKING:
    from torch import Tensor

    from hwnas.supernet.kinds import AnySupernet

_MOST_LOST = 2**-10  # of a tensor's largest number; rounding to 11 significant bits loses half of that


def packed_weights(supernet: AnySupernet) -> bytes:
    """The file of an entry's weights.

    Matrices take 2 bytes a weight, of what was trained in 4. What is one number a channel stays as it is: it is
    little, and ranges and statistics hang on it. So do buffers of a given network, whose statistics and indices are
    exact, and tensors that half precision has no numbers for.

    Args:
        supernet: with its averaged weights.
    """
    import safetensors.torch

    from hwnas.supernet.adapted import AdaptedSupernet
    from hwnas.supernet.untrained_numbers import fixed_of, orders_of

    tensors = {name: _halved(p.detach()) for name, p in supernet.named_parameters()}
    if isinstance(supernet, AdaptedSupernet):
        tensors |= fixed_of(supernet) | orders_of(supernet)
    return bytes(safetensors.torch.save({name: t.cpu().contiguous() for name, t in tensors.items()}))


def _halved(tensor: Tensor) -> Tensor:
    """At half precision, where that is exact enough: its range ends at 65,504, and at 6e-5 its full precision."""
    if tensor.dim() < 2 or tensor.numel() == max(tensor.shape):
        return tensor
    halved = tensor.half()
    lost = (halved.float() - tensor).abs().max()
    return halved if bool(lost <= _MOST_LOST * tensor.abs().max()) else tensor
