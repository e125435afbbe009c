"""Costs of a block in closed form: operations, parameters, size in a file, activation memory.

All follow from the block's operator graph (`hwnas.spaces.kinds.block_graph`) by rules for operators. This module must
never know a kind of block, spaces, devices or torch.
"""

from __future__ import annotations

import math
from dataclasses import dataclass, replace
from functools import lru_cache

from hwnas import graph as graphs
from hwnas.errors import SpaceError
from hwnas.graph import Op, OpGraph, Value
from hwnas.graph.costs import NORMALISATIONS, trained_activations
from hwnas.precisions import EXACT, KNOWN, QUANTIZE, Precision, is_conversion
from hwnas.spaces.kinds import block_graph
from hwnas.types import Block

_NODE_BYTES = 130  # one ONNX node or initialiser: its names, operator and attributes
_FLOAT_BYTES = 4  # in a file, whatever a runtime computes in
_SCALE_BYTES, _ZERO_POINT_BYTES, _BIAS_BYTES = 4, 1, 4
# what is quantized with a scale for each output channel -> the axis of these in its weight
_WEIGHTED = {"conv1d": 0, "conv2d": 0, "conv_transpose2d": 1, "linear": 0}
_FOLDABLE = ("conv1d", "conv2d", "linear")  # what takes up a normalisation behind it
_KEPT = 4096  # costs of a large space's distinct blocks


@dataclass(frozen=True, slots=True, kw_only=True)
class _Stored:
    """What a graph's file holds, batch normalisation folded into the layer before it.

    Attributes:
        layers: convolutions and fully connected layers.
        weights: their numbers.
        channels: their output channels, all together.
        biases: numbers of their biases, those that folding makes included.
        others: operators with weights of another kind.
        loose: numbers of their weights.
        tensors: their weights.
        conversions: operators that quantize or dequantize.
    """

    layers: int = 0
    weights: int = 0
    channels: int = 0
    biases: int = 0
    others: int = 0
    loose: int = 0
    tensors: int = 0
    conversions: int = 0


@dataclass(frozen=True, slots=True, kw_only=True)
class _Costs:
    """What is the same in every precision.

    Attributes:
        macs: multiply-accumulates.
        parameters: trained numbers.
        trained: numbers that a training step keeps.
        alive: most numbers alive at once.
        stored: what the file holds.
    """

    macs: int
    parameters: int
    trained: int
    alive: int
    stored: _Stored


def macs(block: Block) -> int:
    """Multiply-accumulates of one sample (see `hwnas.graph.costs`).

    Raises:
        SpaceError: the block's kind is unknown, or its attributes make no sense.
    """
    return _costs(block).macs


def parameters(block: Block) -> int:
    """Trainable numbers: weights, biases, and the two of each BatchNorm channel.

    Raises:
        SpaceError: as `macs`.
    """
    return _costs(block).parameters


def size_bytes(block: Block) -> int:
    """Bytes the block adds to an ONNX file, BatchNorm folded into weights and biases: an estimate.

    Integers: weights of as many bits as the precision stores, int32 biases, a scale and a zero point for each channel,
    group or tensor of weights and each activation tensor (QDQ). A fixed overhead stands for each node and initialiser.

    Raises:
        SpaceError: as `macs`, or its precision is unknown.
    """
    stored, precision = _costs(block).stored, _precision(block)
    size = _FLOAT_BYTES * stored.loose + _NODE_BYTES * (stored.others + stored.tensors)
    size += stored.conversions * (_SCALE_BYTES + _ZERO_POINT_BYTES + _NODE_BYTES * 3)  # node, scale, zero point
    kept = precision.weights
    scales = kept.scales_of(stored.weights, channels=stored.channels, tensors=stored.layers)
    size += kept.bytes_of(stored.weights) if precision.rounds else _FLOAT_BYTES * stored.weights
    size += (_SCALE_BYTES + _ZERO_POINT_BYTES) * scales
    if (
        not precision.quantized
    ):  # node, activation, weight, bias; rounded weights are dequantized by a node of their own
        return size + _FLOAT_BYTES * stored.biases + _NODE_BYTES * (7 if precision.rounds else 4) * stored.layers
    # a bias is int32, with a scale for each of the weights'
    of_biases = kept.scales_of(stored.biases, channels=stored.biases, tensors=stored.layers)
    return size + _BIAS_BYTES * stored.biases + _SCALE_BYTES * of_biases + _NODE_BYTES * 12 * stored.layers


def training_bytes(block: Block) -> int:
    """Activations that a training step keeps for its way back, at least, for one image in fp32.

    What the block takes, and what each BatchNorm reads and writes; activation functions may keep more.

    Raises:
        SpaceError: as `macs`.
    """
    return _FLOAT_BYTES * _costs(block).trained


def peak_memory_bytes(block: Block) -> int:
    """The largest set of activation tensors alive at once inside the block, at batch 1 (see `hwnas.graph.costs`).

    The peak of a network is the largest of its blocks, because only one tensor crosses from block to block.

    Raises:
        SpaceError: as `macs`, or its precision is unknown.
    """
    costs, width = _costs(block), _precision(block).activations.bytes_of(1)
    if not costs.stored.conversions:
        return width * costs.alive
    # only blocks with conversions mix widths; all others scale with the width and come from the cache
    graph = block_graph(block)
    # a conversion has floats on one side and integers on the other, so its tensors differ in width
    floats = {
        name
        for op in graph.ops
        if is_conversion(op.kind)
        for name in (op.inputs if op.kind == QUANTIZE else op.outputs)
    }

    def element_bytes(value: Value) -> int:
        return _FLOAT_BYTES if value.name in floats else width

    return graphs.peak_memory_bytes(graph, element_bytes=element_bytes)


def _precision(block: Block) -> Precision:
    if block.precision not in KNOWN:
        raise SpaceError(f"block {block.key!r} has an unknown precision; known: {', '.join(KNOWN)}")
    return KNOWN[block.precision]


def _costs(block: Block) -> _Costs:
    # macs and numbers of weights do not depend on the precision: one cache entry serves all of them
    return _costs_of(replace(block, precision=EXACT))


@lru_cache(maxsize=_KEPT)
def _costs_of(block: Block) -> _Costs:
    graph = block_graph(block)
    return _Costs(
        macs=graphs.macs(graph),
        parameters=graphs.parameters(graph),
        trained=trained_activations(graph),
        # with one byte a number, bytes are numbers
        alive=graphs.peak_memory_bytes(graph, element_bytes=1),
        stored=_stored(graph),
    )


def _stored(graph: OpGraph) -> _Stored:
    counts = dict.fromkeys(_Stored.__dataclass_fields__, 0)
    seen: set[str] = set()  # a weight that several operators share is stored once
    for op in graph.ops:
        counts["conversions"] += is_conversion(op.kind)
        if not op.weights:
            continue
        fresh = {role: w for role, w in op.weights if w.name not in seen}
        seen.update(w.name for w in fresh.values())
        # an operator whose weight was counted before shares it: only what is new adds to the file
        if _is_quantized_by_channel(op) and "weight" in fresh:
            shape = fresh["weight"].shape
            counts["layers"] += 1
            counts["weights"] += math.prod(shape)
            channels = shape[_WEIGHTED[op.kind]]
            counts["channels"] += channels
            # folding normalisation into a layer without a bias gives it one
            folds = op.kind in _FOLDABLE and _is_normalised(graph, op)
            counts["biases"] += channels if "bias" in fresh or folds else 0
        elif fresh and not _is_folded(graph, op):
            counts["others"] += 1
            counts["tensors"] += len(fresh)
            counts["loose"] += sum(math.prod(w.shape) for w in fresh.values())
    return _Stored(**counts)


def _is_quantized_by_channel(op: Op) -> bool:
    """In groups a transposed convolution has its output channels on two axes of the weight: it stays in float."""
    return op.kind in _WEIGHTED and (op.kind != "conv_transpose2d" or dict(op.attributes).get("groups", 1) == 1)


def _is_normalised(graph: OpGraph, op: Op) -> bool:
    """Whether normalisation can be folded into a layer: nothing else reads what it gives."""
    (output,) = op.outputs
    readers = graph.consumers[output]
    return len(readers) == 1 and readers[0].kind in NORMALISATIONS and output not in graph.outputs


def _is_folded(graph: OpGraph, op: Op) -> bool:
    source = graph.producers.get(op.inputs[0]) if op.kind in NORMALISATIONS else None
    return source is not None and source.kind in _FOLDABLE and _is_normalised(graph, source)
