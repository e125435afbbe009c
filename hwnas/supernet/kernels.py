"""Smaller kernels: the centre of larger ones times a learned matrix (Cai et al., 2020, "Once-for-All", section 3.3).

Kernels are as long along each of their axes: k of a series' convolution, k x k of an image's.
"""

from __future__ import annotations

from collections.abc import Mapping, Sequence

import torch
from torch import Tensor, nn


class KernelTransforms(nn.Module):
    """One matrix for each step from a kernel size of a convolution to the next smaller one; at first the identity.

    Args:
        sizes: name of a convolution -> its kernel sizes, ascending.
        axes: name of a convolution -> the axes of its kernel.
    """

    def __init__(self, sizes: Mapping[str, Sequence[int]], *, axes: Mapping[str, int]) -> None:
        super().__init__()
        self._sizes = {name: tuple(s) for name, s in sizes.items()}
        self.matrices = nn.ParameterDict(
            {
                _key(name, k): nn.Parameter(torch.eye(k ** axes[name]))
                for name, all_ in self._sizes.items()
                for k in all_[:-1]
            }
        )

    def forward(self, name: str, weight: Tensor, kernel_size: int) -> Tensor:
        """(C, c, K, ...) -> (C, c, k, ...), see `shrink_kernel`.

        Args:
            name: of the convolution.
            weight: at its full kernel size.
            kernel_size: one of the convolution's.
        """
        matrices = {k: self.matrices[_key(name, k)] for k in self._sizes[name][:-1]}
        return shrink_kernel(weight, kernel_size, matrices=matrices)


def shrink_kernel(weight: Tensor, kernel_size: int, *, matrices: Mapping[int, Tensor]) -> Tensor:
    """(C, c, K) -> (C, c, k), or (C, c, K, K) -> (C, c, k, k): step by step through the kernel sizes in between.

    Args:
        weight: of a convolution.
        kernel_size: k.
        matrices: kernel size -> (n, n) what the n numbers of the centre of the next larger kernel are multiplied with.
    """
    axes = weight.dim() - 2
    for k in sorted((k for k in matrices if kernel_size <= k < weight.shape[-1]), reverse=True):
        margin = (weight.shape[-1] - k) // 2
        centre = weight[(slice(None), slice(None), *(slice(margin, margin + k),) * axes)]
        # (C, c, k, k) -> (C c, k k), each row times one matrix
        weight = (centre.reshape(-1, k**axes) @ matrices[k].T).reshape(centre.shape)
    return weight


def _key(name: str, size: int) -> str:
    return f"{name.replace('.', '/')}/{size}"
