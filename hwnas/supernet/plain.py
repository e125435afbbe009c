"""Plain torch modules, one for each kind of block: what a sub-network is once it is extracted.

Exporters write these, tables are measured on these, so that what is measured is what ships.
This module knows blocks, not spaces, weights' origin, devices or search.
"""

from __future__ import annotations

from collections.abc import Iterable

import torch
from torch import Tensor, nn

from hwnas.errors import SpaceError
from hwnas.spaces.kinds import attributes_of
from hwnas.types import Block

ACTIVATIONS: dict[str, type[nn.Module]] = {
    "relu": nn.ReLU,
    "relu6": nn.ReLU6,
    "hswish": nn.Hardswish,
    "silu": nn.SiLU,
}


def activation(name: str) -> nn.Module:
    """A new activation module.

    Raises:
        SpaceError: the name is unknown.
    """
    if name not in ACTIVATIONS:
        raise SpaceError(f"unknown activation {name!r}; known: {', '.join(sorted(ACTIVATIONS))}")
    return ACTIVATIONS[name]()


class ConvNormAct(nn.Module):
    """Convolution without bias, BatchNorm, and an activation if one is named. Padding keeps ceil(H/stride)."""

    def __init__(
        self,
        in_channels: int,
        out_channels: int,
        *,
        kernel_size: int = 1,
        stride: int = 1,
        groups: int = 1,
        act: str = "",
    ) -> None:
        super().__init__()
        self.conv = nn.Conv2d(
            in_channels, out_channels, kernel_size, stride, kernel_size // 2, groups=groups, bias=False
        )
        self.bn = nn.BatchNorm2d(out_channels)
        self.act = activation(act) if act else nn.Identity()

    def forward(self, x: Tensor) -> Tensor:
        return self.act(self.bn(self.conv(x)))  # type: ignore[no-any-return]


class SqueezeExcite(nn.Module):
    """Channel attention (Hu et al., 2018): pool, two 1x1 convolutions, a sigmoid gate."""

    def __init__(self, channels: int, squeezed: int) -> None:
        super().__init__()
        self.pool = nn.AdaptiveAvgPool2d(1)
        self.reduce = nn.Conv2d(channels, squeezed, 1)
        self.act = nn.ReLU()
        self.expand = nn.Conv2d(squeezed, channels, 1)
        self.gate = nn.Sigmoid()

    def forward(self, x: Tensor) -> Tensor:
        s = self.pool(x)  # (N, C, H, W) -> (N, C, 1, 1)
        return x * self.gate(self.expand(self.act(self.reduce(s))))  # type: ignore[no-any-return]


class Stem(nn.Module):
    """Block kind `conv`: the first convolution."""

    def __init__(self, block: Block) -> None:
        super().__init__()
        self.block = block
        attributes = attributes_of(block)
        self.conv = ConvNormAct(
            block.in_shape[0],
            block.out_shape[0],
            kernel_size=int(attributes["kernel_size"]),
            stride=int(attributes["stride"]),
            act=str(attributes["activation"]),
        )

    def forward(self, x: Tensor) -> Tensor:
        return self.conv(x)  # type: ignore[no-any-return]


class InvertedResidual(nn.Module):
    """Block kind `mbconv` (Sandler et al., 2018): expand, depthwise, squeeze-and-excite, project.

    Attributes of the block: hidden_channels, kernel_size, stride, activation, se_channels (0: none).
    `expand` is absent when hidden_channels equals the input's channels. The input is added to the
    output when stride is 1 and both have as many channels.
    """

    def __init__(self, block: Block) -> None:
        super().__init__()
        self.block = block
        attributes = attributes_of(block)
        cin, cout, hidden = block.in_shape[0], block.out_shape[0], int(attributes["hidden_channels"])
        act, stride = str(attributes["activation"]), int(attributes["stride"])
        squeezed = int(attributes["se_channels"])
        self.expand = ConvNormAct(cin, hidden, act=act) if hidden != cin else None
        self.depthwise = ConvNormAct(
            hidden, hidden, kernel_size=int(attributes["kernel_size"]), stride=stride, groups=hidden, act=act
        )
        self.se = SqueezeExcite(hidden, squeezed) if squeezed else None
        self.project = ConvNormAct(hidden, cout)
        self.residual = stride == 1 and cin == cout

    def forward(self, x: Tensor) -> Tensor:
        y = self.expand(x) if self.expand is not None else x
        y = self.depthwise(y)
        if self.se is not None:
            y = self.se(y)
        y = self.project(y)
        return x + y if self.residual else y  # type: ignore[no-any-return]


class Head(nn.Module):
    """Block kind `head`: 1x1 convolution, global pool, an optional hidden layer, classifier.

    Attributes of the block: hidden_channels, features (0: no hidden layer), activation.
    """

    def __init__(self, block: Block) -> None:
        super().__init__()
        self.block = block
        attributes = attributes_of(block)
        hidden, features, classes = int(attributes["hidden_channels"]), int(attributes["features"]), block.out_shape[0]
        self.conv = ConvNormAct(block.in_shape[0], hidden, act=str(attributes["activation"]))
        self.pool = nn.AdaptiveAvgPool2d(1)
        self.mix = nn.Linear(hidden, features) if features else None
        self.act = activation(str(attributes["activation"]))
        self.dropout = nn.Dropout(0.0)
        self.classifier = nn.Linear(features or hidden, classes)

    def forward(self, x: Tensor) -> Tensor:
        y = torch.flatten(self.pool(self.conv(x)), 1)  # (N, C, H, W) -> (N, hidden)
        if self.mix is not None:
            y = self.act(self.mix(y))
        return self.classifier(self.dropout(y))  # type: ignore[no-any-return]


class Boundary(nn.Module):
    """Block kinds `quantize` and `dequantize`: where the precision changes. Identity until quantized."""

    def __init__(self, block: Block) -> None:
        super().__init__()
        self.block = block

    def forward(self, x: Tensor) -> Tensor:
        return x


_KINDS: dict[str, type[nn.Module]] = {
    "conv": Stem,
    "mbconv": InvertedResidual,
    "head": Head,
    "quantize": Boundary,
    "dequantize": Boundary,
}


def build_block(block: Block) -> nn.Module:
    """A new module for a block, with torch's default initialisation.

    Raises:
        SpaceError: the block's kind has no module.
    """
    if block.kind not in _KINDS:
        raise SpaceError(f"no module for block kind {block.kind!r}; known: {', '.join(sorted(_KINDS))}")
    return _KINDS[block.kind](block)


class PlainNetwork(nn.Module):
    """A sub-network on its own: its blocks in order. `(N, C, H, W) -> (N, classes)`."""

    def __init__(self, blocks: Iterable[Block]) -> None:
        super().__init__()
        self.blocks = nn.ModuleList(build_block(b) for b in blocks)

    def forward(self, x: Tensor) -> Tensor:
        for block in self.blocks:
            x = block(x)
        return x

    @property
    def in_shape(self) -> tuple[int, ...]:
        """Shape of one input sample: (C, H, W)."""
        first: Block = self.blocks[0].block  # type: ignore[assignment]
        return first.in_shape
