"""From a network to a quantized one: which blocks change, and what their scales are.

Calibration is one forward pass in full precision for each batch, and one in integers for the first. This module knows
networks and tensors, not data sets, files or runtimes.
"""

from __future__ import annotations

from collections.abc import Iterable, Mapping, Sequence
from contextlib import nullcontext
from itertools import islice

import torch
from torch import Tensor, nn

from hwnas.errors import DataError, SpaceError
from hwnas.precisions import is_quantized, precision
from hwnas.supernet.quantization.bias_correction import BiasCorrection
from hwnas.supernet.quantization.folding import fold_batchnorm
from hwnas.supernet.quantization.modules import QuantizedWeights, Quantizer
from hwnas.supernet.quantization.region import QuantizedBlock
from hwnas.supernet.quantization.schemes import ASYMMETRIC, SYMMETRIC
from hwnas.supernet.subnetwork import BlockModule, BlockSequence, SubNetwork
from hwnas.types import Block


class QuantizedNetwork(BlockSequence):
    """A network whose int8 blocks compute as the deployed integers will. `(N, C, H, W) -> (N, classes)`.

    It trains like any module: weights' scales follow the weights, activations' scales stay.
    """

    @property
    def left_in_float(self) -> tuple[str, ...]:
        """Operators of int8 blocks that have no integer form, each with its place."""
        return tuple(
            f"{operator} of {name}"
            for name, part in self.blocks.named_children()
            if isinstance(part, QuantizedBlock)
            for operator in part.left_in_float
        )

    @property
    def output_quantizer(self) -> Quantizer | None:
        """What rounds the outputs last, before they are dequantized; None where a float block gives them."""
        parts = [p for p in self.blocks if not isinstance(p, QuantizedBlock) or not p.leaves]
        return parts[-1].output_quantizer if parts and isinstance(parts[-1], QuantizedBlock) else None


@torch.no_grad()
def _connect_(network: QuantizedNetwork) -> None:
    """Give every operator the scale of what it reads."""
    source: Quantizer | None = None
    for part in network.blocks:
        if not isinstance(part, QuantizedBlock) or part.leaves:
            source = None
            continue
        (source,) = part.connect(source)
        source.needed = True  # between blocks tensors are integers, whoever reads them


def quantize(
    network: SubNetwork,
    calibration: Iterable[Tensor],
    *,
    max_batches: int | None = 4,
    symmetric: bool = False,
    correct_biases: bool = True,
) -> QuantizedNetwork:
    """A quantized copy of a network, in eval mode, with scales from calibration batches.

    Batch normalisation is folded; blocks of a quantized precision become fake-quantized modules, with weights in the
    format the precision has; other blocks stay as they are. What rounding adds to the means of layers goes out of
    their biases again (bias_correction.py). The network is not changed.

    Args:
        network: trained, its BatchNorm statistics up to date.
        calibration: batches (N, C, H, W) as the network will see them; a few hundred samples do.
        max_batches: batches used at most, None for all; the rest is not even read. Where all ranges were learned, none
            is read but one to correct biases by.
        symmetric: activations in int8 with zero point 0, and only those that weights meet or that a block passes on;
            float biases: what a runtime of `quantization` "symmetric" computes (schemes.py).
        correct_biases: by the first batch, which costs another pass; of no use to who only wants to time the network.

    Raises:
        SpaceError: an int8 block gets a float tensor, or a float block a quantized one, because a conversion is
            missing.
        ValueError: `max_batches` is out of range.
        DataError: no calibration batch, or activations that are not finite.
    """
    if max_batches is not None and max_batches < 1:
        raise ValueError(f"max_batches is {max_batches}, but must be 1 or more")
    folded = fold_batchnorm(network).eval()
    quantized = QuantizedNetwork(_quantize_block(block) for block in folded.blocks).eval()
    _check_conversions(quantized)
    for part in quantized.blocks:
        block: Block = part.slot_block  # type: ignore[assignment]
        for module in part.modules():
            if isinstance(module, QuantizedWeights):
                module.take_format_(precision(block.precision).weights)
            if isinstance(module, QuantizedWeights | Quantizer):
                module.scheme = SYMMETRIC if symmetric else ASYMMETRIC
    _calibrate_(quantized, islice(calibration, max_batches), correct_biases=correct_biases, learned=network.ranges)
    return quantized


def _quantize_block(block: nn.Module) -> nn.Module:
    """What stands in a block's place: its int8 form if its precision says so, else itself."""
    assert isinstance(block, BlockModule)
    return QuantizedBlock(block) if is_quantized(block.slot_block.precision) else block


def _check_conversions(network: QuantizedNetwork) -> None:
    integers = False
    for part in network.blocks:
        assert isinstance(part, BlockModule | QuantizedBlock)
        wants = isinstance(part, QuantizedBlock) and not part.enters
        if wants != integers:
            missing, have = ("quantize", "a float") if wants else ("dequantize", "a quantized")
            raise SpaceError(f"block {part.slot_block.key!r} gets {have} tensor; put a {missing!r} block before it")
        integers = isinstance(part, QuantizedBlock) and not part.leaves


@torch.no_grad()
def _calibrate_(
    network: QuantizedNetwork,
    calibration: Iterable[Tensor],
    *,
    correct_biases: bool,
    learned: Sequence[Mapping[str, tuple[float, float]]] | None,
) -> None:
    """Fix all ranges: as learned, where they were, else by what batches show."""
    known = {f"{i}.{path}": ends for i, block in enumerate(learned or ()) for path, ends in block.items()}
    asked = [
        (name, module)
        for name, module in network.blocks.named_modules()
        if isinstance(module, Quantizer) and name not in known
    ]
    by_batches = any(module.has_range for _, module in asked)
    biases, first = BiasCorrection(network), None
    if by_batches or correct_biases:
        _set_observing_(network, True)
        for batch in calibration:
            sees = correct_biases and first is None
            first = batch if first is None else first
            with biases.seeing() if sees else nullcontext():
                network(batch)
            if not by_batches:
                break
        _set_observing_(network, False)
        if first is None:
            raise DataError("calibration has no batches; give at least one batch of images")
    for name, module in asked:
        try:
            module.calibrate()
        except DataError as e:
            raise DataError(f"blocks.{name}: {e}") from e
    for name, (low, high) in known.items():
        quantizer = network.blocks.get_submodule(name)
        assert isinstance(quantizer, Quantizer)
        quantizer.forget()
        # it stands for the activation too: what that never gives must not be in its range, whatever was learned
        quantizer.set_range(max(low, min(0.0, quantizer.lower)), min(high, quantizer.upper))
    _connect_(network)
    if correct_biases:
        with biases.correcting_():
            network(first)


def _set_observing_(network: nn.Module, on: bool) -> None:
    for module in network.modules():
        if isinstance(module, Quantizer | QuantizedWeights):
            module.observing = on
