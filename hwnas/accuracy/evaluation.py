"""Measure how good networks and a supernet's sub-networks are at their task."""

from __future__ import annotations

import copy
from collections.abc import Iterable
from typing import TYPE_CHECKING

from hwnas.precisions import is_quantized
from hwnas.tasks import Score, Task, make_task, score_of
from hwnas.types import Block

if TYPE_CHECKING:
    from torch import Tensor, nn

    from hwnas.supernet.batches import BatchStream
    from hwnas.supernet.elastic import NamedBlocks
    from hwnas.supernet.kinds import AnySupernet
    from hwnas.supernet.subnetwork import SubNetwork


# told apart in what is kept of accuracies; another with every change of what is measured for the same network
EVALUATION = "equal batches, corrected biases, drawn samples"


class SubnetEvaluator:
    """How good sub-networks are on validation samples, each at the precision it ships in.

    A sub-network is extracted, its BatchNorm recalibrated, its int8 blocks quantized with ranges that were learned
    with the weights or else are calibrated, and evaluated; the supernet is never changed.

    Args:
        supernet: trained, on the CPU.
        train: where BatchNorm and range calibration take their images from (never augmented).
        validation: what is measured on.
        task: by which is measured; None: classification.
        recalibration_samples, calibration_samples, validation_samples: how many samples each uses; None: all.
        symmetric: the runtime's int8 activations have zero point 0 (`Runtime.quantization`).
    """

    def __init__(
        self,
        supernet: AnySupernet,
        *,
        train: BatchStream,
        validation: BatchStream,
        task: Task | None = None,
        recalibration_samples: int = 1024,
        calibration_samples: int = 256,
        validation_samples: int | None = None,
        symmetric: bool = False,
    ) -> None:
        self.supernet = supernet
        self.symmetric = symmetric
        self.task = make_task("classification") if task is None else task
        # the same ones for every sub-network
        self._recalibration = train.kept(recalibration_samples, shuffled=True)
        self._calibration = train.kept(calibration_samples, shuffled=True)
        self._validation = validation.kept(validation_samples)
        self._n_validation = validation.n if validation_samples is None else min(validation_samples, validation.n)

    @property
    def n_validation(self) -> int:
        """How many samples are measured on."""
        return self._n_validation

    def extract(self, blocks: NamedBlocks) -> SubNetwork:
        """The fp32 sub-network, recalibrated.

        Of the whole of a given network there are two, as it was given and as it was trained: the better one on the
        validation images.
        """
        found = self.recalibrate(self.supernet.extract(blocks))
        given = self.supernet.extract_given(blocks)
        if given is None:
            return found
        given, shape = self.recalibrate(given), found.in_shape
        better = self.score(given, in_shape=shape).value >= self.score(found, in_shape=shape).value
        return given if better else found

    def recalibrate(self, network: SubNetwork) -> SubNetwork:
        """An extracted network with statistics of BatchNorm of its own, in place."""
        from hwnas.supernet.recalibration import recalibrate

        return recalibrate(network, (x for x, _ in self._recalibration))

    def quantize(self, network: SubNetwork) -> nn.Module:
        """The network at the precision of its blocks; the network itself when none is quantized.

        With ranges that were learned nothing is calibrated, and biases stay as they were trained through the rounding;
        BatchNorm is recalibrated once more, of the rounded network.
        """
        from hwnas.data.tensors import fit
        from hwnas.supernet.quantization import quantize
        from hwnas.supernet.recalibration import recalibrate

        blocks: list[Block] = [b.slot_block for b in network.blocks]  # type: ignore[misc]
        # nothing to calibrate, which costs a pass over the images
        if not any(is_quantized(b.precision) for b in blocks):
            return network
        # at the network's own resolution: ranges of activations differ with it
        batches = (fit(x, network.in_shape) for x, _ in self._calibration)
        calibrated = network.ranges is None
        if not calibrated:
            network = recalibrate(copy.deepcopy(network), (x for x, _ in self._recalibration), as_rounded=True)
        return quantize(network, batches, max_batches=None, symmetric=self.symmetric, correct_biases=calibrated)

    def score(self, network: nn.Module, *, in_shape: tuple[int, ...]) -> Score:
        """How good any network is on the validation samples.

        Args:
            network: in evaluation mode.
            in_shape: of one of its inputs; images are brought to its size.
        """
        return score(network, self._validation, task=self.task, in_shape=in_shape)

    def __call__(self, blocks: NamedBlocks) -> Score:
        """How good a sub-network is at its blocks' precisions."""
        network = self.supernet.extract(blocks)
        if network.ranges is None or not any(is_quantized(b.precision) for _, b in blocks):
            network = self.extract(blocks)  # else `quantize` recalibrates it
        return self.score(self.quantize(network), in_shape=network.in_shape)


def score(
    network: nn.Module, batches: Iterable[tuple[Tensor, Tensor]], *, task: Task, in_shape: tuple[int, ...]
) -> Score:
    """How good a network is.

    Args:
        network: in evaluation mode.
        batches: (N, ...) preprocessed inputs with their targets.
        task: what it is for.
        in_shape: of one of its inputs; images are brought to its size.

    Raises:
        ValueError: there is no sample.
    """
    import torch

    from hwnas.data.tensors import fit

    # no gradients are kept, which would fill memory over a whole validation set
    with torch.inference_mode():
        return score_of(task, ((network(fit(x, in_shape)), y) for x, y in batches))
