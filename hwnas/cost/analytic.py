"""Costs of a block in closed form: operations, parameters, size in a file, activation memory.

Conventions: one multiply-accumulate (MAC) is one operation, counted for convolutions and fully
connected layers only (as in Sandler et al., 2018; Cai et al., 2020). All four follow from the list of
a block's layers, which mirrors the modules of `hwnas.supernet.plain`; this module must never import
torch, and knows nothing of spaces or devices.
"""

from __future__ import annotations

import math
from dataclasses import dataclass

from hwnas.errors import SpaceError
from hwnas.precisions import KNOWN, is_quantized
from hwnas.types import Block

_NODE_BYTES = 130  # one ONNX node or initialiser: its names, operator and attributes
_KINDS = ("conv", "mbconv", "head", "quantize", "dequantize")
_FLOAT_BYTES = 4  # in a file, whatever a runtime computes in


@dataclass(frozen=True, slots=True, kw_only=True)
class _Layer:
    """A convolution or fully connected layer.

    Attributes:
        fan_in: weights for each output channel.
        channels: output channels.
        positions: output pixels.
        normalised: followed by BatchNorm (no bias of its own), else it has a bias.
    """

    fan_in: int
    channels: int
    positions: int = 1
    normalised: bool = True


def _int(block: Block, name: str) -> int:
    return int(block[name])


def _check_kind(block: Block) -> None:
    if block.kind not in _KINDS or block.precision not in KNOWN:
        raise SpaceError(
            f"no closed forms for block {block.key!r}; known kinds: {', '.join(_KINDS)}; "
            f"known precisions: {', '.join(KNOWN)}"
        )


def _layers(block: Block) -> tuple[_Layer, ...]:
    _check_kind(block)
    if block.kind in ("quantize", "dequantize"):
        return ()
    channels, pixels = block.in_shape[0], math.prod(block.in_shape[1:])
    if block.kind == "conv":
        fan_in = channels * _int(block, "kernel_size") ** 2
        return (_Layer(fan_in=fan_in, channels=block.out_shape[0], positions=math.prod(block.out_shape[1:])),)
    hidden = _int(block, "hidden_channels")
    if block.kind == "head":
        features = _int(block, "features")
        conv = _Layer(fan_in=channels, channels=hidden, positions=pixels)
        mix = _Layer(fan_in=hidden, channels=features, normalised=False)
        classifier = _Layer(fan_in=features or hidden, channels=block.out_shape[0], normalised=False)
        return (conv, mix, classifier) if features else (conv, classifier)
    pixels_out, squeezed = math.prod(block.out_shape[1:]), _int(block, "se_channels")
    layers = [_Layer(fan_in=_int(block, "kernel_size") ** 2, channels=hidden, positions=pixels_out)]
    if hidden != channels:
        layers.insert(0, _Layer(fan_in=channels, channels=hidden, positions=pixels))
    if squeezed:
        layers.append(_Layer(fan_in=hidden, channels=squeezed, normalised=False))
        layers.append(_Layer(fan_in=squeezed, channels=hidden, normalised=False))
    layers.append(_Layer(fan_in=hidden, channels=block.out_shape[0], positions=pixels_out))
    return tuple(layers)


def macs(block: Block) -> int:
    """Multiply-accumulates of one sample, of convolutions and fully connected layers.

    Raises:
        SpaceError: the block's kind is unknown.
    """
    return sum(layer.fan_in * layer.channels * layer.positions for layer in _layers(block))


def parameters(block: Block) -> int:
    """Trainable numbers: weights, biases, and the two of each BatchNorm channel.

    Raises:
        SpaceError: the block's kind is unknown.
    """
    return sum((layer.fan_in + (2 if layer.normalised else 1)) * layer.channels for layer in _layers(block))


def size_bytes(block: Block) -> int:
    """Bytes the block adds to an ONNX file, BatchNorm folded into weights and biases: an estimate.

    int8: one byte a weight, int32 biases, a scale and a zero point for each weight channel and each
    activation tensor (QDQ). A fixed overhead stands for each node and each initialiser.

    Raises:
        SpaceError: the block's kind is unknown.
    """
    layers = _layers(block)
    weights = sum(layer.fan_in * layer.channels for layer in layers)
    channels = sum(layer.channels for layer in layers)
    if not is_quantized(block.precision):
        return _FLOAT_BYTES * (weights + channels) + _NODE_BYTES * 4 * len(layers)  # node, activation, weight, bias
    if not layers:
        return 4 + 1 + _NODE_BYTES * 3  # node, scale, zero point
    # a layer's weight has scale and zero point by channel, its bias int32 and scale by channel
    per_channel = 4 + 1 + 4 + 4
    return weights + per_channel * channels + _NODE_BYTES * 12 * len(layers)


def training_bytes(block: Block) -> int:
    """Activations that a training step keeps for its way back, at least, for one image in fp32.

    What each convolution reads, and what each BatchNorm reads and writes; activation functions may keep more.

    Raises:
        SpaceError: the block's kind is unknown.
    """
    kept = sum(2 * layer.channels * layer.positions for layer in _layers(block) if layer.normalised)
    return _FLOAT_BYTES * (math.prod(block.in_shape) + kept)


def peak_memory_bytes(block: Block) -> int:
    """The largest set of activation tensors alive at once inside the block, at batch 1.

    An operator's inputs and outputs are alive while it runs, activation functions work in place, and
    the input of a residual block stays alive until it is added. Weights are not counted. The peak of a
    network is the largest of its blocks, because only one tensor crosses from block to block.

    Raises:
        SpaceError: the block's kind is unknown.
    """
    _check_kind(block)
    before, after = math.prod(block.in_shape), math.prod(block.out_shape)
    if block.kind in ("quantize", "dequantize"):
        return (_FLOAT_BYTES + 1) * before
    width = KNOWN[block.precision].activations.bytes
    if block.kind == "conv":
        return width * (before + after)
    hidden = _int(block, "hidden_channels")
    if block.kind == "head":
        expanded = hidden * math.prod(block.in_shape[1:])
        features = _int(block, "features")
        tail = max(hidden + features, features + after) if features else hidden + after
        return width * max(before + expanded, expanded + hidden, tail)
    expanded = hidden * math.prod(block.in_shape[1:]) if hidden != block.in_shape[0] else 0
    filtered = hidden * math.prod(block.out_shape[1:])
    residual = before if block["stride"] == 1 and block.in_shape[0] == block.out_shape[0] else 0
    live = [
        before + expanded,
        # without expansion the depthwise layer reads the block's input itself
        expanded + filtered + residual if expanded else before + filtered,
        filtered + after + residual,
    ]
    if _int(block, "se_channels"):
        live.append(2 * filtered + hidden + residual)  # gate (hidden, 1, 1) times the features
    if residual:
        live.append(before + 2 * after)  # x + y -> sum
    return width * max(live)
