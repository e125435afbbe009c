"""Convolutions on a GPU for networks whose shapes change at every step.

cuDNN makes a plan for each shape that it meets, forward and twice backward, which takes a processor tens of
milliseconds; a supernet's slices have thousands of shapes. A pointwise convolution is a product of matrices where
channels lie last in memory, which needs no plan, a dense one of few channels the same of shifted images, and torch has
a kernel of its own for depthwise ones. So skeletons compute as these say, and cuDNN is switched off meanwhile.

Only networks of such convolutions are computed so: a dense convolution of many channels as shifted images would take
their memory many times over.

Knows graphs and modules of torch; never blocks or spaces.
"""

from __future__ import annotations

import contextlib
from collections.abc import Iterable, Iterator

import torch
import torch.nn.functional as F
from torch import Tensor, nn

from hwnas.graph import Op, OpGraph

_FEW = 4  # channels of images


class _Pointwise(nn.Conv2d):
    def forward(self, x: Tensor) -> Tensor:
        return product(x, self.weight.flatten(1), self.bias) if x.is_cuda else super().forward(x)


class _Shifted(nn.Conv2d):
    def forward(self, x: Tensor) -> Tensor:
        return shifted_convolution(self, x) if x.is_cuda else super().forward(x)


def shifted_convolution(conv: nn.Conv2d, x: Tensor) -> Tensor:
    """What a dense convolution makes of images, as one product with all its shifts beside each other."""
    assert isinstance(conv.padding, tuple)  # no padding by name: see `without_plans_`
    (height, width), (above, left) = conv.kernel_size, conv.padding
    padded = F.pad(x, (left, left, above, above))
    rows = (padded.shape[2] - height) // conv.stride[0] + 1
    columns = (padded.shape[3] - width) // conv.stride[1] + 1
    shifts = [
        padded[:, :, i : i + rows * conv.stride[0] : conv.stride[0], j : j + columns * conv.stride[1] : conv.stride[1]]
        for i in range(height)
        for j in range(width)
    ]
    weight = conv.weight.permute(0, 2, 3, 1).flatten(1)  # (C_out, kh * kw * C_in): as the shifts follow each other
    return product(torch.cat(shifts, 1), weight, conv.bias)


def product(x: Tensor, weight: Tensor, bias: Tensor | None) -> Tensor:
    """What a pointwise convolution makes of images.

    Args:
        x: (N, C_in, H, W), best with channels last in memory.
        weight: (C_out, C_in).
        bias: (C_out,), if there is one.

    Returns:
        (N, C_out, H, W), channels last in memory.
    """
    return F.linear(x.permute(0, 2, 3, 1), weight, bias).permute(0, 3, 1, 2)


def needs_no_plans(graphs: Iterable[OpGraph]) -> bool:
    """Whether all convolutions are such that there is another way, which is no worse."""
    convolutions = [op for graph in graphs for op in graph.ops if op.kind.startswith("conv")]
    return all(_is_simple(op) for op in convolutions)


def _is_simple(op: Op) -> bool:
    weight = op.weight("weight")
    if op.kind != "conv2d" or weight is None:
        return False
    _, per_group, *kernel = weight.shape
    groups = dict(op.attributes).get("groups", 1)
    if groups != 1:
        return per_group == 1
    return kernel == [1, 1] or per_group <= _FEW


def without_plans_(module: nn.Module) -> None:
    """Let a module's convolutions compute without plans on a GPU; those of other kinds stay."""
    for part in module.modules():
        if type(part) is not nn.Conv2d or part.groups != 1 or part.dilation != (1, 1) or isinstance(part.padding, str):
            continue
        if part.kernel_size == (1, 1) and part.stride == (1, 1) and part.padding == (0, 0):
            part.__class__ = _Pointwise
        else:
            part.__class__ = _Shifted


@contextlib.contextmanager
def plans_off(device: torch.device) -> Iterator[None]:
    """No plan of cuDNN is made, forward or backward, while this lasts on a GPU."""
    if device.type != "cuda":
        yield
        return
    before = torch.backends.cudnn.enabled
    torch.backends.cudnn.enabled = False
    try:
        yield
    finally:
        torch.backends.cudnn.enabled = before
