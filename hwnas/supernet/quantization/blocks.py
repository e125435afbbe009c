"""The int8 form of each kind of block, made from its plain form with BatchNorm folded.

A block takes a tensor that is on a uint8 grid and gives one that is. This module knows blocks and
quantized layers, not networks, calibration data or files.
"""

from __future__ import annotations

from collections.abc import Callable

import torch
from torch import Tensor, nn

from hwnas.errors import SpaceError
from hwnas.precisions import is_quantized
from hwnas.spaces.kinds import attributes_of
from hwnas.supernet.plain import Boundary, ConvNormAct, Head, InvertedResidual, SqueezeExcite, Stem
from hwnas.supernet.quantization.modules import (
    QuantizedConv2d,
    QuantizedLinear,
    Quantizer,
    UnitQuantizer,
    output_grid,
    quantized_activation,
)
from hwnas.types import Block


class QuantizedConvAct(nn.Module):
    """Convolution with folded BatchNorm, activation, uint8 grid."""

    def __init__(self, plain: ConvNormAct, act: str) -> None:
        super().__init__()
        self.conv = QuantizedConv2d(plain.conv)
        self.act = quantized_activation(act)

    def forward(self, x: Tensor) -> Tensor:
        return self.act(self.conv(x))  # type: ignore[no-any-return]

    def connect(self, source: Quantizer) -> Quantizer:
        """Take the input's scale; returns the quantizer of the output. Likewise in every class here."""
        self.conv.connect(source)
        return output_grid(self.act)


class QuantizedSqueezeExcite(nn.Module):
    """Channel attention with every tensor on a uint8 grid."""

    def __init__(self, plain: SqueezeExcite) -> None:
        super().__init__()
        self.pool = nn.AdaptiveAvgPool2d(1)
        self.pooled = Quantizer()
        self.reduce = QuantizedConv2d(plain.reduce)
        self.reduced = Quantizer(lower=0.0)  # also the ReLU
        self.expand = QuantizedConv2d(plain.expand)
        self.expanded = Quantizer()
        self.gate = UnitQuantizer()
        self.scaled = Quantizer()

    def forward(self, x: Tensor) -> Tensor:
        s = self.pooled(self.pool(x))  # (N, C, H, W) -> (N, C, 1, 1)
        s = self.expanded(self.expand(self.reduced(self.reduce(s))))
        return self.scaled(x * self.gate(torch.sigmoid(s)))  # type: ignore[no-any-return]

    def connect(self, source: Quantizer) -> Quantizer:
        self.reduce.connect(self.pooled)
        self.expand.connect(self.reduced)
        return self.scaled


class QuantizedStem(nn.Module):
    """Block kind `conv`, int8."""

    def __init__(self, plain: Stem) -> None:
        super().__init__()
        self.block = plain.block
        self.conv = QuantizedConvAct(plain.conv, str(attributes_of(plain.block)["activation"]))

    def forward(self, x: Tensor) -> Tensor:
        return self.conv(x)  # type: ignore[no-any-return]

    def connect(self, source: Quantizer) -> Quantizer:
        return self.conv.connect(source)


class QuantizedInvertedResidual(nn.Module):
    """Block kind `mbconv`, int8."""

    def __init__(self, plain: InvertedResidual) -> None:
        super().__init__()
        self.block = plain.block
        act = str(attributes_of(plain.block)["activation"])
        self.expand = None if plain.expand is None else QuantizedConvAct(plain.expand, act)
        self.depthwise = QuantizedConvAct(plain.depthwise, act)
        self.se = None if plain.se is None else QuantizedSqueezeExcite(plain.se)
        self.project = QuantizedConvAct(plain.project, "")
        self.sum = Quantizer() if plain.residual else None

    def forward(self, x: Tensor) -> Tensor:
        y = self.expand(x) if self.expand is not None else x
        y = self.depthwise(y)
        if self.se is not None:
            y = self.se(y)
        y = self.project(y)
        return y if self.sum is None else self.sum(x + y)  # type: ignore[no-any-return]

    def connect(self, source: Quantizer) -> Quantizer:
        for stage in (self.expand, self.depthwise, self.se, self.project):
            if stage is not None:
                source = stage.connect(source)
        return source if self.sum is None else self.sum


class QuantizedHead(nn.Module):
    """Block kind `head`, int8: the logits lie on a uint8 grid too."""

    def __init__(self, plain: Head) -> None:
        super().__init__()
        self.block = plain.block
        act = str(attributes_of(plain.block)["activation"])
        self.conv = QuantizedConvAct(plain.conv, act)
        self.pool = nn.AdaptiveAvgPool2d(1)
        self.pooled = Quantizer()
        self.mix = None if plain.mix is None else QuantizedLinear(plain.mix)
        self.act = None if plain.mix is None else quantized_activation(act)
        self.dropout = nn.Dropout(plain.dropout.p)
        self.classifier = QuantizedLinear(plain.classifier)
        self.logits = Quantizer()

    def forward(self, x: Tensor) -> Tensor:
        y = torch.flatten(self.pooled(self.pool(self.conv(x))), 1)  # (N, C, H, W) -> (N, hidden)
        if self.mix is not None and self.act is not None:
            y = self.act(self.mix(y))
        return self.logits(self.classifier(self.dropout(y)))  # type: ignore[no-any-return]

    def connect(self, source: Quantizer) -> Quantizer:
        self.conv.connect(source)
        source = self.pooled
        if self.mix is not None and self.act is not None:
            self.mix.connect(source)
            source = output_grid(self.act)
        self.classifier.connect(source)
        return self.logits


class QuantizeBoundary(nn.Module):
    """Block kind `quantize`: a float tensor enters the integers."""

    def __init__(self, plain: Boundary) -> None:
        super().__init__()
        self.block = plain.block
        self.quantizer = Quantizer()

    def forward(self, x: Tensor) -> Tensor:
        return self.quantizer(x)  # type: ignore[no-any-return]


QuantizedBlock = QuantizedStem | QuantizedInvertedResidual | QuantizedHead
_INT8_FORMS: dict[type[nn.Module], Callable[..., QuantizedBlock]] = {
    Stem: QuantizedStem,
    InvertedResidual: QuantizedInvertedResidual,
    Head: QuantizedHead,
}


def quantized_block(plain: nn.Module) -> nn.Module:
    """The module to put in a plain block's place: its quantized form if its precision says so, else itself.

    Raises:
        SpaceError: the block is quantized and of a kind without an int8 form.
    """
    block = plain.block
    assert isinstance(block, Block)
    if isinstance(plain, Boundary):
        return QuantizeBoundary(plain) if block.kind == "quantize" else plain
    if not is_quantized(block.precision):
        return plain
    form = _INT8_FORMS.get(type(plain))
    if form is None:
        known = ", ".join(sorted(t.__name__ for t in _INT8_FORMS))
        raise SpaceError(f"block {block.key!r} has no {block.precision} form; modules that have an int8 form: {known}")
    return form(plain)
