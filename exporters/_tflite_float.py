"""Float modules as TFLite operators: BatchNorm is folded already, relu and relu6 ride on the operator before.

This module knows the plain modules (`hwnas.supernet.plain`), not files, quantization, devices or search.
"""

from __future__ import annotations

import numpy as np
from torch import Tensor, nn

from hwnas.errors import ExportError
from hwnas.supernet.plain import ConvNormAct, Head, InvertedResidual, SqueezeExcite, Stem
from hwnas.types import Array

from . import _tflite_operators as ops
from ._tflite_graph import Graph, Value

_FUSED: dict[type[nn.Module], str] = {nn.Identity: "", nn.ReLU: "relu", nn.ReLU6: "relu6"}


def stem(graph: Graph, module: Stem, x: Value, *, name: str) -> Value:
    """Block kind `conv`."""
    return conv_norm_act(graph, module.conv, x, name=f"{name}.conv")


def inverted_residual(graph: Graph, module: InvertedResidual, x: Value, *, name: str) -> Value:
    """Block kind `mbconv`."""
    y = x if module.expand is None else conv_norm_act(graph, module.expand, x, name=f"{name}.expand")
    y = conv_norm_act(graph, module.depthwise, y, name=f"{name}.depthwise")
    if module.se is not None:
        y = squeeze_excite(graph, module.se, y, name=f"{name}.se")
    y = conv_norm_act(graph, module.project, y, name=f"{name}.project")
    return ops.add(graph, x, y, name=f"{name}.sum") if module.residual else y


def squeeze_excite(graph: Graph, module: SqueezeExcite, x: Value, *, name: str) -> Value:
    """Channel attention."""
    s = ops.mean(graph, x, name=f"{name}.pool", keep_dims=True)
    s = ops.convolution(graph, s, _weights(module.reduce, f"{name}.reduce"), name=f"{name}.reduce", act="relu")
    s = ops.convolution(graph, s, _weights(module.expand, f"{name}.expand"), name=f"{name}.expand")
    return ops.multiply(graph, x, ops.logistic(graph, s, name=f"{name}.gate"), name=f"{name}.scaled")


def head(graph: Graph, module: Head, x: Value, *, name: str) -> Value:
    """Block kind `head`: (1, H, W, C) -> (1, classes)."""
    y = conv_norm_act(graph, module.conv, x, name=f"{name}.conv")
    y = ops.mean(graph, y, name=f"{name}.pool", keep_dims=False)
    if module.mix is not None:
        act = fused(module.act)
        y = ops.linear(graph, y, *_matrix(module.mix), name=f"{name}.mix", act=act or "")
        if act is None:
            y = activation(graph, module.act, y, name=f"{name}.act")
    return ops.linear(graph, y, *_matrix(module.classifier), name=f"{name}.classifier")


def conv_norm_act(graph: Graph, module: ConvNormAct, x: Value, *, name: str) -> Value:
    """Convolution with folded BatchNorm, and an activation."""
    act = fused(module.act)
    y = ops.convolution(graph, x, _weights(module.conv, name), name=name, act=act or "")
    return activation(graph, module.act, y, name=f"{name}.act") if act is None else y


def fused(module: nn.Module) -> str | None:
    """The activation as an operator's option; None if it is an operator of its own."""
    return _FUSED.get(type(module))


def activation(graph: Graph, module: nn.Module, x: Value, *, name: str) -> Value:
    """An activation that is an operator of its own."""
    match module:
        case nn.Hardswish():
            return ops.hard_swish(graph, x, name=name)
        case nn.SiLU():
            return ops.multiply(graph, x, ops.logistic(graph, x, name=f"{name}.gate"), name=name)
    raise ExportError(
        f"activation {name!r} ({type(module).__name__}) cannot be written as TFLite; known: hswish, relu, relu6, silu"
    )


def stride_and_groups(conv: nn.Module, kernel: Array, name: str) -> tuple[int, bool]:
    """Stride, and whether it is depthwise, of a convolution (float or quantized) that TFLite can express.

    Raises:
        ExportError: another grouping, unequal strides, or padding that is not kernel // 2.
    """
    stride, padding, groups = (getattr(conv, key) for key in ("stride", "padding", "groups"))
    channels, per_group, *size = kernel.shape
    depthwise = groups > 1 and groups == channels and per_group == 1
    if (groups > 1 and not depthwise) or len(set(stride)) > 1 or list(padding) != [k // 2 for k in size]:
        raise ExportError(
            f"convolution {name!r} has stride {stride}, padding {padding} and {groups} groups; written as TFLite are "
            "equal strides, padding kernel // 2, and 1 group or one for each channel"
        )
    return stride[0], depthwise


def array(tensor: Tensor) -> Array:
    """A parameter's numbers."""
    values: Array = tensor.detach().cpu().numpy()
    return values


def _weights(conv: nn.Conv2d, name: str) -> ops.Weights:
    kernel = array(conv.weight)
    stride, depthwise = stride_and_groups(conv, kernel, name)
    bias = np.zeros(len(kernel), np.float32) if conv.bias is None else array(conv.bias)
    return ops.Weights(kernel=kernel, bias=bias, depthwise=depthwise, stride=stride)


def _matrix(linear: nn.Linear) -> tuple[Array, Array]:
    return array(linear.weight), array(linear.bias)
