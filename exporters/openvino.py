"""Writes torch modules as ONNX files for OpenVINO, which then computes what torch does.

The files are those of exporters/onnx.py, which OpenVINO reads too, but for two things it would spoil:

- Where the result of a convolution is quantized, added to another tensor and quantized again, OpenVINO fuses all of
  it into the convolution and leaves the first rounding out. Torch does not, so sums come out off by one, and with
  them some predictions. A LeakyRelu of slope 1 behind the convolution, which changes no number, keeps the rounding;
  it is fused as well.
- An int8 block alone takes uint8 images (1, H, W, C), and a Transpose leads to its first convolution. OpenVINO
  looks for the DequantizeLinear right behind the input; behind the Transpose it overlooks it, and computes that
  convolution in float. So the two change places.

This module knows ONNX graphs, not devices, tables or search.
"""

from __future__ import annotations

from pathlib import Path
from typing import TYPE_CHECKING

from hwnas.onnx_names import DEQUANTIZE, QUANTIZE, is_dequantize
from hwnas.types import Artefact

from .onnx import OnnxExporter

if TYPE_CHECKING:
    import onnx


_MOVES = ("Unsqueeze", "Transpose")


class OpenVinoExporter(OnnxExporter):
    """Exporter for format `openvino-onnx`: ONNX that any reader of ONNX understands."""

    format = "openvino-onnx"

    def _write(self, proto: onnx.ModelProto, path: Path, *, precision: str) -> Artefact:
        keep_roundings(proto.graph)
        dequantize_first(proto.graph)
        return super()._write(proto, path, precision=precision)


def keep_roundings(graph: onnx.GraphProto) -> None:
    """Puts a LeakyRelu of slope 1 behind every convolution whose quantized result only goes into a sum."""
    from onnx import helper

    made_by = {name: node for node in graph.node for name in node.output}
    readers = _readers(graph)
    for addition in [n for n in graph.node if n.op_type == "Add"]:
        for name in addition.input:
            chain = _chain_up(made_by, name, (DEQUANTIZE, QUANTIZE, "Conv"))
            if not chain or any(readers[node.output[0]] != 1 for node in chain):
                continue  # OpenVINO fuses no sum into a result that is needed elsewhere
            _, quantize, conv = chain
            kept = f"{conv.output[0]}_rounded"
            identity = helper.make_node("LeakyRelu", [conv.output[0]], [kept], name=f"{conv.name}_rounded", alpha=1.0)
            graph.node.insert(list(graph.node).index(quantize), identity)
            quantize.input[0] = kept


def dequantize_first(graph: onnx.GraphProto) -> None:
    """Puts the DequantizeLinear that alone follows a Transpose of the graph's input in front of it.

    And in front of what makes an image of a series before.
    """
    entry = graph.input[0].name
    readers = _readers(graph)
    following = {node.input[0]: node for node in graph.node if node.op_type in _MOVES or is_dequantize(node)}
    chain = [following[entry]] if entry in following and readers[entry] == 1 else []
    while chain and not is_dequantize(chain[-1]):
        after = chain[-1].output[0]
        if readers[after] != 1 or after not in following:
            return
        chain.append(following[after])
    *moves, dequantize = chain or [None]
    if dequantize is None or not moves:
        return
    quantized = moves[-1].output[0]
    dequantize.input[0], moves[-1].output[0] = entry, dequantize.output[0]
    dequantize.output[0] = moves[0].input[0] = f"{quantized}_values"
    graph.node.remove(dequantize)  # what it reads besides the input are constants: it may stand anywhere before
    graph.node.insert(list(graph.node).index(moves[0]), dequantize)


def _readers(graph: onnx.GraphProto) -> dict[str, int]:
    """How often each tensor is read, as an output of the graph too."""
    counts: dict[str, int] = {}
    for name in [*(name for node in graph.node for name in node.input), *(o.name for o in graph.output)]:
        counts[name] = counts.get(name, 0) + 1
    return counts


def _chain_up(made_by: dict[str, onnx.NodeProto], name: str, kinds: tuple[str, ...]) -> tuple[onnx.NodeProto, ...]:
    """The nodes of these kinds, from the one that makes a tensor upwards by first inputs; empty: others are there."""
    chain: list[onnx.NodeProto] = []
    for kind in kinds:
        node = made_by.get(name)
        if node is None or node.op_type != kind:
            return ()
        chain.append(node)
        name = node.input[0]
    return tuple(chain)
