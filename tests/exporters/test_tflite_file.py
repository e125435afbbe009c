"""TFLite files, read: what operators cost, and that each computes by itself what it does in the file."""

from __future__ import annotations

from pathlib import Path

import numpy as np
import pytest

pytest.importorskip("ai_edge_litert", reason="the extra 'litert' is not installed")

from ai_edge_litert.interpreter import Interpreter

from hwnas.errors import ArtefactError
from hwnas.exporters._tflite_graph import IDENTIFIER
from hwnas.exporters.litert import LiteRtExporter
from hwnas.exporters.tflite_file import TfliteFile, read_tflite
from hwnas.graph import GraphBuilder, macs
from hwnas.supernet.graph_module import OpGraphModule
from hwnas.supernet.quantization import quantize
from hwnas.testing.exporter_suite import sample_blocks, sample_images, sample_network


@pytest.fixture(scope="module")
def files(tmp_path_factory: pytest.TempPathFactory) -> dict[str, Path]:
    """The same network in floats and in integers."""
    folder = tmp_path_factory.mktemp("tflite")
    found = {p: folder / f"{p}.tflite" for p in ("fp32", "int8")}
    for precision, pattern in (("fp32", "ffff"), ("int8", "iiii")):
        network = sample_network(sample_blocks(pattern))
        model = quantize(network, [sample_images(8)]) if precision == "int8" else network
        LiteRtExporter().export(model, sample_images(1), found[precision], precision=precision)
    return found


def run(content, inputs):
    interpreter = Interpreter(model_content=content)
    interpreter.allocate_tensors()
    for detail, value in zip(interpreter.get_input_details(), inputs, strict=True):
        interpreter.set_tensor(detail["index"], value)
    interpreter.invoke()
    return [interpreter.get_tensor(d["index"]) for d in interpreter.get_output_details()]


@pytest.mark.parametrize("precision", ["fp32", "int8"])
def test_operators_that_are_cut_out_compute_together_what_the_file_does(files, precision):
    found = read_tflite(files[precision])
    ((dtype, shape),) = found.inputs
    rng = np.random.default_rng(0)
    x = rng.normal(size=shape).astype(dtype) if precision == "fp32" else rng.integers(-128, 128, shape, dtype)
    (expected,) = run(files[precision].read_bytes(), [x])
    graph = found._graph
    values = {int(graph.inputs[0]): x}
    for op, described in zip(graph.operators, found.operators, strict=True):
        given = [values[t] for t in dict.fromkeys(map(int, op.inputs)) if t in values]
        values |= dict(zip(map(int, op.outputs), run(found.cut(described.index), given), strict=True))
    made = values[int(graph.outputs[0])]
    # in floats XNNPACK fuses what stands together; integers have no such freedom
    np.testing.assert_allclose(made.astype(np.float32), expected.astype(np.float32), rtol=1e-4, atol=1e-5)


def test_costs_are_those_of_the_graph_it_was_written_from(tmp_path):
    g = GraphBuilder()
    x = g.input((3, 8, 8))
    y = g.conv2d(x, 8, kernel_size=3, stride=2, name="conv")
    y = g.conv2d(y, 8, kernel_size=3, groups=8, name="depthwise")
    y = g.op("mean", y, axes=(1, 2), name="pool")
    graph = g.build(g.linear(y, 5, name="head"))
    path = tmp_path / "net.tflite"
    example = sample_images(1)[:, :1, :8, :8].expand(1, 3, 8, 8)
    LiteRtExporter().export(OpGraphModule(graph).eval(), example, path, precision="fp32")
    found = read_tflite(path)
    assert sum(op.macs for op in found.operators) == macs(graph)
    by_kind = {op.kind: op for op in found.operators}
    assert by_kind["CONV_2D"].macs == 4 * 4 * 8 * 27
    assert by_kind["DEPTHWISE_CONV_2D"].macs == 4 * 4 * 8 * 9
    assert by_kind["FULLY_CONNECTED"].macs == 40
    assert by_kind["CONV_2D"].weight_bytes == 4 * 8 * (27 + 1)
    assert by_kind["CONV_2D"].precision == "fp32"


def test_peak_memory_is_that_of_more_than_one_tensor_and_smaller_in_integers(files):
    floats, integers = read_tflite(files["fp32"]), read_tflite(files["int8"])
    assert floats.peak_bytes > max(4 * int(np.prod(op.shape)) for op in floats.operators)
    assert integers.peak_bytes < floats.peak_bytes
    assert {op.precision for op in integers.operators} == {"int8"}


@pytest.mark.parametrize("content", [b"", b"0000" + IDENTIFIER, b"\xff" * 4 + IDENTIFIER + b"\xff" * 64])
def test_what_is_no_model_is_refused(content):
    with pytest.raises(ArtefactError, match=r"here is not a TFLite model"):
        TfliteFile(content, where="here")


def test_a_damaged_file_is_read_or_refused(files):
    content = files["int8"].read_bytes()
    rng = np.random.default_rng(0)
    refused = 0
    for _ in range(40):
        damaged = np.frombuffer(content, np.uint8).copy()
        damaged[rng.integers(8, len(content), 200)] = 255
        try:
            TfliteFile(damaged.tobytes(), where="here")
        except ArtefactError:
            refused += 1
    assert refused


def test_a_file_that_is_not_there_is_told(tmp_path):
    with pytest.raises(ArtefactError, match="cannot be read: No such file"):
        read_tflite(tmp_path / "net.tflite")
