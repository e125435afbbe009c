"""From a plain network to a quantized one: which blocks change, and what their scales are.

Calibration is one forward pass in full precision for each batch. This module knows networks and
tensors, not data sets, files or runtimes.
"""

from __future__ import annotations

from collections.abc import Iterable
from itertools import islice

import torch
from torch import Tensor, nn

from hwnas.errors import DataError, SpaceError
from hwnas.precisions import precision
from hwnas.supernet.plain import Boundary, PlainNetwork
from hwnas.supernet.quantization.blocks import QuantizeBoundary, QuantizedBlock, quantized_block
from hwnas.supernet.quantization.folding import fold_batchnorm
from hwnas.supernet.quantization.modules import QuantizedWeights, Quantizer
from hwnas.supernet.quantization.schemes import ASYMMETRIC, SYMMETRIC
from hwnas.types import Block


class QuantizedNetwork(nn.Module):
    """A network whose int8 blocks compute as the deployed integers will. `(N, C, H, W) -> (N, classes)`.

    It trains like any module: weights' scales follow the weights, activations' scales stay.
    """

    def __init__(self, blocks: Iterable[nn.Module]) -> None:
        super().__init__()
        self.blocks = nn.ModuleList(blocks)

    def forward(self, x: Tensor) -> Tensor:
        for block in self.blocks:
            x = block(x)
        return x

    @property
    def in_shape(self) -> tuple[int, ...]:
        """Shape of one input sample: (C, H, W)."""
        first: Block = self.blocks[0].block  # type: ignore[assignment]
        return first.in_shape


def quantize(
    network: PlainNetwork,
    calibration: Iterable[Tensor],
    *,
    max_batches: int = 4,
    symmetric: bool = False,
) -> QuantizedNetwork:
    """A quantized copy of a network, in eval mode, with scales from calibration batches.

    BatchNorm is folded everywhere; blocks of a quantized precision and `quantize` boundaries become fake-quantized
    modules, with weights of as many bits as the precision has; other blocks stay as they are. The network is not
    changed.

    Args:
        network: trained, its BatchNorm statistics up to date.
        calibration: batches (N, C, H, W) as the network will see them; a few hundred samples do.
        max_batches: batches used at most; the rest is not even read.
        symmetric: activations on int8 grids with zero point 0, and only those that weights meet or that a block
            passes on; float biases: what a runtime of `quantization` "symmetric" computes (schemes.py).

    Raises:
        SpaceError: an int8 block gets a float tensor, or a float block a quantized one, because a
            boundary is missing; or a block has no int8 form.
        ValueError: `max_batches` is out of range.
        DataError: no calibration batch, or activations that are not finite.
    """
    if max_batches < 1:
        raise ValueError(f"max_batches is {max_batches}, but must be 1 or more")
    folded = fold_batchnorm(network).eval()
    quantized = QuantizedNetwork(quantized_block(b) for b in folded.blocks).eval()
    _check_boundaries(quantized)
    for part in quantized.blocks:
        block: Block = part.block  # type: ignore[assignment]
        for module in part.modules():
            if isinstance(module, QuantizedWeights):
                module.limit = precision(block.precision).largest_weight
    for module in quantized.modules():
        if isinstance(module, QuantizedWeights | Quantizer):
            module.scheme = SYMMETRIC if symmetric else ASYMMETRIC
    _calibrate_(quantized, islice(calibration, max_batches))
    return quantized


def _check_boundaries(network: QuantizedNetwork) -> None:
    on_grid = False
    for module in network.blocks:
        block: Block = module.block  # type: ignore[assignment]
        wants_grid = isinstance(module, QuantizedBlock) or block.kind == "dequantize"
        if wants_grid != on_grid:
            missing, have = ("quantize", "a float") if wants_grid else ("dequantize", "a quantized")
            raise SpaceError(f"block {block.key!r} gets {have} tensor; put a {missing!r} block before it")
        on_grid = isinstance(module, QuantizedBlock | QuantizeBoundary)


@torch.no_grad()
def _calibrate_(network: QuantizedNetwork, calibration: Iterable[Tensor]) -> None:
    _set_observing_(network, True)
    batches = 0
    for batch in calibration:
        network(batch)
        batches += 1
    _set_observing_(network, False)
    if not batches:
        raise DataError("calibration has no batches; give at least one batch of images")
    for name, module in network.named_modules():
        if isinstance(module, Quantizer):
            try:
                module.calibrate()
            except DataError as e:
                raise DataError(f"{name}: {e}") from e
    _connect_(network)


def _set_observing_(network: nn.Module, on: bool) -> None:
    for module in network.modules():
        if isinstance(module, Quantizer | QuantizedWeights):
            module.observing = on


def _connect_(network: QuantizedNetwork) -> None:
    source: Quantizer | None = None
    for module in network.blocks:
        if isinstance(module, QuantizeBoundary):
            source = module.quantizer
        elif isinstance(module, Boundary):
            source = None
        elif isinstance(module, QuantizedBlock):
            assert source is not None  # _check_boundaries
            source = module.connect(source)
        if source is not None:
            source.needed = True  # between blocks tensors are integers, whoever reads them
