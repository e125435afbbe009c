"""Writes torch modules as ONNX files for TensorRT: float operators, or int8 ones by explicit quantization.

TensorRT reads QuantizeLinear/DequantizeLinear pairs on int8 with zero point 0, one scale a tensor for activations
and one a channel for weights, and wants them where convolutions and linear layers read; biases stay float, as it
adds them before it rounds. `quantize(..., symmetric=True)` computes just that in torch. Batches are fixed at 1: an
engine is built for the shape it is timed at. This module knows ONNX graphs, not devices, tables or search.

An int8 block takes and gives int8 tensors, as it does between its neighbours: TensorRT fuses QuantizeLinear with what
makes the tensor and DequantizeLinear with what reads it, so nothing float passes between blocks. Which of its layouts
a tensor has, TensorRT chooses for each engine; the adapter lets it choose at a block's ends too.
"""

from __future__ import annotations

from pathlib import Path
from typing import TYPE_CHECKING

from hwnas.errors import ExportError
from hwnas.onnx_names import is_dequantize, is_quantize
from hwnas.types import Artefact

from .onnx import OnnxExporter

if TYPE_CHECKING:
    import onnx


class TensorRtExporter(OnnxExporter):
    """Exporter for format `tensorrt-onnx`."""

    format = "tensorrt-onnx"
    _any_batch = False
    _channels_last = False

    def _write(self, proto: onnx.ModelProto, path: Path, *, precision: str) -> Artefact:
        """Write the file if TensorRT can read its quantization.

        Raises:
            ExportError: something is quantized otherwise.
        """
        _check_symmetric(proto.graph)
        return super()._write(proto, path, precision=precision)


def _check_symmetric(graph: onnx.GraphProto) -> None:
    from onnx import TensorProto, numpy_helper

    values = {t.name: t for t in graph.initializer}
    for node in graph.node:
        if not (is_quantize(node) or is_dequantize(node)):
            continue
        zero = values.get(node.input[2]) if len(node.input) > 2 else None
        if zero is None or zero.data_type != TensorProto.INT8 or numpy_helper.to_array(zero).any():
            raise ExportError(
                f"TensorRT quantizes to int8 with zero point 0, and tensor {node.input[0]!r} has another; "
                "quantize the network with `quantize(..., symmetric=True)`"
            )
