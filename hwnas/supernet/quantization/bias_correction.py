"""What rounding adds to the mean of a layer's outputs, taken out of its bias (Nagel et al., 2019, "DFQ", section 4.2).

Rounded weights move the mean of what a layer gives wherever its inputs have one: most of all in depthwise layers, whose
few weights do not average it out. The mean that it had in full precision is known from the same images, so the
difference goes beside the bias, layer after layer, each behind those that were corrected before. In MobileNetV2 with
ImageNet's weights that is 2 dB of the logits' signal to noise (`benchmarks/int8_biases.py`). Knows layers and tensors,
not networks.
"""

from __future__ import annotations

from collections.abc import Callable, Iterator
from contextlib import contextmanager

import torch
from torch import Tensor, nn

from hwnas.supernet.quantization.modules import QuantizedLinear, QuantizedWeights

_FEWEST = 64  # values of a channel that a mean is worth something of


class BiasCorrection:
    """Means of layers' outputs in full precision, and biases by which the rounded ones have them too.

    Args:
        network: whose quantized layers are meant.
    """

    def __init__(self, network: nn.Module) -> None:
        self._layers = [m for m in network.modules() if isinstance(m, QuantizedWeights)]
        self._means: dict[int, Tensor] = {}  # place of a layer -> (C,)

    @contextmanager
    def seeing(self) -> Iterator[None]:
        """Whatever the network is given in this context, in full precision, its layers' means are those of."""

        def see(i: int, output: Tensor) -> None:
            self._means[i] = _mean(self._layers[i], output)

        with self._hooked(see):
            yield

    @contextmanager
    def correcting_(self) -> Iterator[None]:
        """Given the same once in this context, rounded, the network's layers shift their biases, each as it is met."""

        def correct(i: int, output: Tensor) -> Tensor | None:
            layer, wanted = self._layers[i], self._means.pop(i, None)
            if wanted is None or output.numel() < _FEWEST * len(wanted):
                return None
            shift = wanted - _mean(layer, output)
            shift = torch.where(shift.isfinite(), shift, 0.0)  # of what rounds to no number nothing is learned
            layer.bias_shift.add_(shift)
            return output + shift.view(-1, *(1,) * (output.dim() - 1 - _axis(layer, output)))

        with torch.no_grad(), self._hooked(correct):
            yield

    @contextmanager
    def _hooked(self, met: Callable[[int, Tensor], Tensor | None]) -> Iterator[None]:
        handles = []
        for i, layer in enumerate(self._layers):

            def hook(module: nn.Module, inputs: object, output: Tensor, *, i: int = i) -> Tensor | None:
                return met(i, output)

            handles.append(layer.register_forward_hook(hook))
        try:
            yield
        finally:
            for handle in handles:
                handle.remove()


def _axis(layer: QuantizedWeights, output: Tensor) -> int:
    """Of the output's channels."""
    return output.dim() - 1 if isinstance(layer, QuantizedLinear) else 1


def _mean(layer: QuantizedWeights, output: Tensor) -> Tensor:
    """(C,) of each channel, over samples and positions."""
    axis = _axis(layer, output)
    return output.mean([d for d in range(output.dim()) if d != axis])
