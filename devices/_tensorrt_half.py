"""A parsed network rewritten to compute in half precision what it computed in single.

Networks are strongly typed, so nothing computes in half unless the network says so. Integers stay, and so do the
scales of quantization: they are what torch promised, in half as in single. A network's ends stay single too; a
block's, between its neighbours, do not. Knows TensorRT's network, not files or engines.
"""

from __future__ import annotations

from typing import Any

import numpy as np

from hwnas.errors import MeasurementError

from ._tensorrt_layouts import is_between_blocks


def compute_in_half(network: Any, trt: Any) -> list[Any]:
    """Change every float constant, weight and tensor to half.

    Args:
        network: parsed, strongly typed; changed in place.
        trt: the module.

    Returns:
        The new weights, which TensorRT reads when it builds: the caller keeps them until then.

    Raises:
        MeasurementError: a weight is larger than half precision can say.
    """
    kept: list[Any] = []
    layers = [network.get_layer(i) for i in range(network.num_layers)]
    scales = {
        layer.get_input(i).name
        for layer in layers
        if layer.type in (trt.LayerType.QUANTIZE, trt.LayerType.DEQUANTIZE)
        for i in range(1, layer.num_inputs)
    }
    for layer in layers:
        if layer.type == trt.LayerType.CONSTANT:
            is_float = layer.get_output(0).dtype == trt.DataType.FLOAT
            if is_float and layer.get_output(0).name not in scales:
                layer.__class__ = trt.IConstantLayer  # the bindings give the base class; this is their own way down
                layer.weights = _half(layer.weights, layer.name, trt, kept)
        elif layer.type == trt.LayerType.CONVOLUTION:
            layer.__class__ = trt.IConvolutionLayer
            if layer.kernel.size:  # else it is a tensor: dequantized
                layer.kernel = _half(layer.kernel, layer.name, trt, kept)
            if layer.bias.size:
                layer.bias = _half(layer.bias, layer.name, trt, kept)
        elif layer.type == trt.LayerType.DEQUANTIZE:
            layer.__class__ = trt.IDequantizeLayer
            layer.to_type = trt.DataType.HALF
            layer.set_input(0, layer.get_input(0))  # TensorRT-RTX 1.7 derives the types of tensors anew after this
    _cast_inputs(network, layers, trt)
    _cast_outputs(network, trt)
    return kept


def _half(weights: Any, name: str, trt: Any, kept: list[Any]) -> Any:
    single = np.asarray(weights)
    if single.size and np.abs(single).max() > np.finfo(np.float16).max:
        raise MeasurementError(
            f"the weights of {name!r} go up to {np.abs(single).max():g}, beyond half precision; set the device's "
            'option float_type = "fp32"'
        )
    kept.append(np.ascontiguousarray(single, dtype=np.float16))
    return trt.Weights(kept[-1])


def _cast_inputs(network: Any, layers: list[Any], trt: Any) -> None:
    for entry in [network.get_input(i) for i in range(network.num_inputs)]:
        if entry.dtype != trt.DataType.FLOAT:
            continue
        name, between = entry.name, is_between_blocks(tuple(entry.shape))
        if between:  # an input's type cannot be changed
            entry.name = f"{name}_single"
            half = network.add_input(name, trt.DataType.HALF, entry.shape)
        else:
            half = network.add_cast(entry, trt.DataType.HALF).get_output(0)
        for layer in layers:
            for i in range(layer.num_inputs):
                if layer.get_input(i) is not None and layer.get_input(i).name == entry.name:
                    layer.set_input(i, half)
        if between:
            network.remove_tensor(entry)


def _cast_outputs(network: Any, trt: Any) -> None:
    for result in [network.get_output(i) for i in range(network.num_outputs)]:
        if result.dtype != trt.DataType.HALF or is_between_blocks(tuple(result.shape)):
            continue
        name = result.name
        network.unmark_output(result)
        result.name = f"{name}_half"
        single = network.add_cast(result, trt.DataType.FLOAT).get_output(0)
        single.name = name
        network.mark_output(single)
