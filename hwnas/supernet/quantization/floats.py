"""The way back: a quantized network in floats again, with the weights it has by now. Knows networks, not why."""

from __future__ import annotations

import copy
from collections.abc import Iterator
from dataclasses import replace

import torch
from torch import nn

from hwnas.graph import Op
from hwnas.supernet.quantization.calibration import QuantizedNetwork
from hwnas.supernet.quantization.folding import with_bias
from hwnas.supernet.quantization.region import QuantizedBlock
from hwnas.supernet.subnetwork import BlockModule, BlockSequence


def without_rounding(network: QuantizedNetwork) -> BlockSequence:
    """A copy of a quantized network that rounds nothing: what was trained through the quantizers, in full precision.

    Its layers have the biases that batch normalisation was folded into. It is in the mode of the original.
    """
    blocks = (_float_block(p) if isinstance(p, QuantizedBlock) else copy.deepcopy(p) for p in network.blocks)
    return BlockSequence(blocks).train(network.training)


def _float_block(quantized: QuantizedBlock) -> nn.Module:
    state = quantized.state_dict()
    graph = replace(quantized.op_graph, ops=tuple(_float_ops(quantized)))
    with torch.device("meta"):  # its numbers are there already: none is drawn
        block = BlockModule(quantized.slot_block, graph=graph)
    block.load_state_dict({name: state[name].clone() for name in block.state_dict()}, assign=True)
    block.op_labels = quantized.op_labels
    return block


def _float_ops(quantized: QuantizedBlock) -> Iterator[Op]:
    # a layer with int8 weights always has a bias, which may have been trained
    layers = {item.op.name for item in quantized.op_plan if quantized.layer_of(item) is not None}
    for op in quantized.op_graph.ops:
        yield with_bias(op) if op.name in layers else op
