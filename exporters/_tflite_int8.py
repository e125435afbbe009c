"""Quantized modules as TFLite's int8 operators: the same integers as torch's, so the same results.

torch has uint8 activations; level 0 ... 255 there is -128 ... 127 here, on the same scale. Clipping to the output's
grid is the ReLU. This module knows quantized modules (`hwnas.supernet.quantization`), not files, devices or search.
"""

from __future__ import annotations

import numpy as np
import torch
from torch import nn

from hwnas.errors import ExportError
from hwnas.supernet.quantization.blocks import (
    QuantizedConvAct,
    QuantizedHead,
    QuantizedInvertedResidual,
    QuantizedSqueezeExcite,
    QuantizedStem,
)
from hwnas.supernet.quantization.modules import (
    QuantizedHardswish,
    QuantizedLinear,
    QuantizedSiLU,
    QuantizedWeights,
    Quantizer,
)

from . import _tflite_operators as ops
from ._tflite_float import array, stride_and_groups
from ._tflite_graph import Graph, Grid, Value

OFFSET = 128  # a uint8 level less this is the int8 level


def grid(quantizer: Quantizer) -> Grid:
    """A quantizer's grid in int8.

    Raises:
        ExportError: the network was quantized symmetrically, which leaves parts of it float.
    """
    if quantizer.scheme.symmetric:
        raise ExportError("TFLite's int8 operators want zero points; quantize the network with symmetric=False")
    return Grid(scales=(float(quantizer.scale),), zero_point=int(quantizer.zero_point) - OFFSET)


def stem(graph: Graph, module: QuantizedStem, x: Value, *, name: str) -> Value:
    """Block kind `conv`."""
    return conv_act(graph, module.conv, x, name=f"{name}.conv")


def inverted_residual(graph: Graph, module: QuantizedInvertedResidual, x: Value, *, name: str) -> Value:
    """Block kind `mbconv`."""
    y = x if module.expand is None else conv_act(graph, module.expand, x, name=f"{name}.expand")
    y = conv_act(graph, module.depthwise, y, name=f"{name}.depthwise")
    if module.se is not None:
        y = squeeze_excite(graph, module.se, y, name=f"{name}.se")
    y = conv_act(graph, module.project, y, name=f"{name}.project")
    return y if module.sum is None else ops.add(graph, x, y, name=f"{name}.sum", grid=grid(module.sum))


def squeeze_excite(graph: Graph, module: QuantizedSqueezeExcite, x: Value, *, name: str) -> Value:
    """Channel attention."""
    s = ops.mean(graph, x, name=f"{name}.pool", keep_dims=True, grid=grid(module.pooled))
    s = _weighted(graph, module.reduce, s, name=f"{name}.reduce", output=module.reduced)
    s = _weighted(graph, module.expand, s, name=f"{name}.expand", output=module.expanded)
    gate = ops.logistic(graph, s, name=f"{name}.gate", grid=grid(module.gate))
    return ops.multiply(graph, x, gate, name=f"{name}.scaled", grid=grid(module.scaled))


def head(graph: Graph, module: QuantizedHead, x: Value, *, name: str) -> Value:
    """Block kind `head`: (1, H, W, C) -> (1, classes)."""
    y = conv_act(graph, module.conv, x, name=f"{name}.conv")
    y = ops.mean(graph, y, name=f"{name}.pool", keep_dims=True, grid=grid(module.pooled))
    if module.mix is not None and module.act is not None:
        y = _with_activation(graph, module.mix, module.act, y, name=f"{name}.mix")
    y = _weighted(graph, module.classifier, y, name=f"{name}.classifier", output=module.logits)
    return ops.reshape(graph, y, (1, y.shape[3]), name=f"{name}.logits")


def conv_act(graph: Graph, module: QuantizedConvAct, x: Value, *, name: str) -> Value:
    """Convolution and activation."""
    return _with_activation(graph, module.conv, module.act, x, name=name)


def _with_activation(graph: Graph, weights: QuantizedWeights, act: nn.Module, x: Value, *, name: str) -> Value:
    match act:
        case Quantizer():
            return _weighted(graph, weights, x, name=name, output=act)
        case QuantizedHardswish():
            y = _weighted(graph, weights, x, name=name, output=act.before)
            return _hard_swish(graph, act, y, name=f"{name}.act")
        case QuantizedSiLU():
            y = _weighted(graph, weights, x, name=name, output=act.before)
            gate = ops.logistic(graph, y, name=f"{name}.act.gate", grid=grid(act.gate))
            return ops.multiply(graph, y, gate, name=f"{name}.act", grid=grid(act.after))
    raise ExportError(f"activation of {name!r} ({type(act).__name__}) has no int8 form in TFLite")


def _hard_swish(graph: Graph, module: QuantizedHardswish, x: Value, *, name: str) -> Value:
    """Hard-swish as x * clip(x / 6 + 1 / 2, 0, 1), by operators every runtime has fast kernels for.

    The native operator leaves XNNPACK, and rounds otherwise than torch. On the grid of `HardswishQuantizer` (scale
    3 / n, zero point n) the first two steps change no level: x / 6 has the levels of x, and adding n of them moves
    the zero point to the lowest one.
    """
    scale, n = float(module.before.scale), int(module.before.zero_point)
    sixth = Grid(scales=(float(np.float32(scale / 6)),), zero_point=n - OFFSET)
    gate = Grid(scales=sixth.scales, zero_point=-OFFSET)
    one = graph.constant("one_sixth", np.ones((1, 1, 1, 1), np.int8), grid=Grid(scales=(float(np.float32(1 / 6)),)))
    half = graph.constant(f"{name}.half", np.full((1, 1, 1, 1), n - OFFSET, np.int8), grid=gate)
    y = ops.multiply(graph, x, one, name=f"{name}.sixth", grid=sixth)
    y = ops.add(graph, y, half, name=f"{name}.gate", act="relu_n1_to_1", grid=gate)
    return ops.multiply(graph, x, y, name=name, grid=grid(module.after))


def _weighted(graph: Graph, module: QuantizedWeights, x: Value, *, name: str, output: Quantizer) -> Value:
    """A convolution, or a linear layer as a 1x1 one on (1, 1, 1, C).

    FULLY_CONNECTED has a scale for each channel only since its version 12, which old boards' runtimes and small
    ones do not load; XNNPACK makes the same kernel of both.
    """
    weight, bias = module.parameters_on_grid()
    scales = module.weight_scale
    levels = torch.round(weight / scales.view(-1, *[1] * (weight.dim() - 1)))
    bias_levels = torch.round(bias.double() / (module.input_scale * scales).double())
    kernel = array(levels.reshape(*levels.shape, *[1] * (4 - levels.dim())).to(torch.int8))
    stride, depthwise = (1, False) if isinstance(module, QuantizedLinear) else stride_and_groups(module, kernel, name)
    weights = ops.Weights(
        kernel=kernel,
        bias=array(bias_levels.to(torch.int32)),
        scales=tuple(scales.tolist()),
        depthwise=depthwise,
        stride=stride,
    )
    return ops.convolution(graph, x, weights, name=name, grid=grid(output))
