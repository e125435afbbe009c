"""Measure the accuracy of networks and of a supernet's sub-networks."""

from __future__ import annotations

import math
from collections.abc import Iterable
from typing import TYPE_CHECKING

from hwnas.precisions import is_quantized
from hwnas.types import Block

if TYPE_CHECKING:
    from torch import Tensor, nn

    from hwnas.supernet.batches import BatchStream
    from hwnas.supernet.elastic import NamedBlocks
    from hwnas.supernet.kinds import AnySupernet
    from hwnas.supernet.subnetwork import SubNetwork


# told apart in what is kept of accuracies; another with every change of what is measured for the same network
EVALUATION = "equal batches, corrected biases"


def top1(network: nn.Module, batches: Iterable[tuple[Tensor, Tensor]], *, resolution: tuple[int, ...]) -> float:
    """Share of images whose highest logit is their label, in [0, 1].

    Args:
        network: in evaluation mode.
        batches: (N, C, H, W) preprocessed images with (N,) labels; resized to `resolution`, (H, W).

    Raises:
        ValueError: there is no image.
    """
    import torch

    from hwnas.data.tensors import resize

    right = n = 0
    # no gradients are kept, which would fill memory over a whole validation set
    with torch.inference_mode():
        for x, y in batches:
            right += int((network(resize(x, resolution)).argmax(1) == y).sum())
            n += len(y)
    if n == 0:
        raise ValueError("there is no image to evaluate on")
    return right / n


def standard_error(accuracy: float, n: int) -> float:
    """By how much an accuracy measured on n images may be off: one binomial standard error, never less than an image.

    Without the floor an accuracy of 1 would count as exact.

    Args:
        accuracy: in [0, 1].
        n: at least 1.
    """
    return max(math.sqrt(accuracy * (1 - accuracy) / n), 1 / n)


class SubnetEvaluator:
    """Accuracy of sub-networks on validation images, each at the precision it ships in.

    A sub-network is extracted, its BatchNorm recalibrated, its int8 blocks quantized with calibrated
    ranges, and evaluated; the supernet is never changed.

    Args:
        supernet: trained, on the CPU.
        train: where BatchNorm and range calibration take their images from (never augmented).
        validation: where accuracy is measured.
        recalibration_samples, calibration_samples, validation_samples: how many images each uses; None: all.
        symmetric: the runtime's int8 activations have zero point 0 (`Runtime.quantization`).
    """

    def __init__(
        self,
        supernet: AnySupernet,
        *,
        train: BatchStream,
        validation: BatchStream,
        recalibration_samples: int = 1024,
        calibration_samples: int = 256,
        validation_samples: int | None = None,
        symmetric: bool = False,
    ) -> None:
        self.supernet = supernet
        self.symmetric = symmetric
        # held once: every sub-network sees the same images
        self._recalibration = [x for x, _ in train.unaugmented(recalibration_samples)]
        self._calibration = [x for x, _ in train.unaugmented(calibration_samples)]
        self._validation = list(validation.unaugmented(validation_samples))

    @property
    def n_validation(self) -> int:
        """How many images an accuracy is measured on."""
        return sum(len(y) for _, y in self._validation)

    def extract(self, blocks: NamedBlocks) -> SubNetwork:
        """The fp32 sub-network, recalibrated.

        Of the whole of a given network there are two, as it was given and as it was trained: the better one on the
        validation images.
        """
        found = self.recalibrate(self.supernet.extract(blocks))
        given = self.supernet.extract_given(blocks)
        if given is None:
            return found
        given, resolution = self.recalibrate(given), found.in_shape[1:]
        better = self.accuracy(given, resolution=resolution) >= self.accuracy(found, resolution=resolution)
        return given if better else found

    def recalibrate(self, network: SubNetwork) -> SubNetwork:
        """An extracted network with statistics of BatchNorm of its own, in place."""
        from hwnas.supernet.recalibration import recalibrate

        return recalibrate(network, self._recalibration)

    def quantize(self, network: SubNetwork) -> nn.Module:
        """The network at the precision of its blocks; the network itself when none is quantized."""
        from hwnas.data.tensors import fit
        from hwnas.supernet.quantization import quantize

        blocks: list[Block] = [b.block for b in network.blocks]  # type: ignore[misc]
        # nothing to calibrate, which costs a pass over the images
        if not any(is_quantized(b.precision) for b in blocks):
            return network
        # at the network's own resolution: ranges of activations differ with it
        batches = [fit(x, network.in_shape) for x in self._calibration]
        return quantize(network, batches, max_batches=len(batches), symmetric=self.symmetric)

    def accuracy(self, network: nn.Module, *, resolution: tuple[int, ...]) -> float:
        """Top-1 of any network on the validation images, in [0, 1]."""
        return top1(network, self._validation, resolution=resolution)

    def __call__(self, blocks: NamedBlocks) -> float:
        """Top-1 of a sub-network at its blocks' precisions, in [0, 1]."""
        network = self.extract(blocks)
        return self.accuracy(self.quantize(network), resolution=network.in_shape[1:])
