"""Rewrites of graphs, on graphs made by hand."""

import numpy as np
import onnx
import pytest
from onnx import TensorProto, helper, numpy_helper
from onnx.reference import ReferenceEvaluator

from hwnas.errors import ExportError
from hwnas.exporters import _qdq

SCALE, ZERO = np.array(0.5, np.float32), np.array(10, np.uint8)


def _model(nodes, *, shape=(1, 2, 3, 4), out_shape=None, **initializers):
    graph = helper.make_graph(
        nodes,
        "g",
        [helper.make_tensor_value_info("input", TensorProto.FLOAT, shape)],
        [helper.make_tensor_value_info("output", TensorProto.FLOAT, out_shape or shape)],
        [numpy_helper.from_array(v, k) for k, v in {"s": SCALE, "z": ZERO, **initializers}.items()],
    )
    return helper.make_model(graph, opset_imports=[helper.make_opsetid("", 19)], ir_version=9)


def _pair(x, y, qparams=("s", "z")):
    return [
        helper.make_node("QuantizeLinear", [x, *qparams], [f"{y}_q"]),
        helper.make_node("DequantizeLinear", [f"{y}_q", *qparams], [y]),
    ]


def _run(model, x):
    _qdq.check(model)
    return ReferenceEvaluator(model).run(None, {"input": x})[0]


def _kinds(model):
    return [n.op_type for n in model.graph.node]


X = np.linspace(-4, 40, 24, dtype=np.float32).reshape(1, 2, 3, 4)


def test_weights_become_int8_per_channel():
    weight = np.random.default_rng(0).normal(size=(2, 2, 1, 1)).astype(np.float32)
    nodes = [
        helper.make_node("QuantizeLinear", ["w", "ws", "wz"], ["wq"], axis=0),
        helper.make_node("DequantizeLinear", ["wq", "ws", "wz"], ["wd"], axis=0),
        helper.make_node("Conv", ["input", "wd"], ["output"]),
    ]
    model = _model(nodes, w=weight, ws=np.array([0.01, 0.02], np.float32), wz=np.zeros(2, np.int8))
    before = _run(model, X)
    _qdq.tidy(model.graph)
    assert _kinds(model) == ["DequantizeLinear", "Conv"]
    assert {t.name for t in model.graph.initializer} == {"wq", "ws", "wz"}
    np.testing.assert_array_equal(_run(model, X), before)


def test_quantizing_twice_on_one_grid_is_once():
    model = _model([*_pair("input", "a"), *_pair("a", "output")])
    before = _run(model, X)
    _qdq.tidy(model.graph)
    assert _kinds(model) == ["QuantizeLinear", "DequantizeLinear"]
    np.testing.assert_array_equal(_run(model, X), before)


def test_quantizing_on_another_grid_stays():
    model = _model([*_pair("input", "a"), *_pair("a", "output", ("t", "z"))], t=np.array(0.25, np.float32))
    _qdq.tidy(model.graph)
    assert _kinds(model).count("QuantizeLinear") == 2


def test_dequantize_sinks_below_shapes():
    nodes = [
        *_pair("input", "a"),
        helper.make_node("Flatten", ["a"], ["b"]),
        helper.make_node("Unsqueeze", ["b", "axes"], ["c"]),
        helper.make_node("Relu", ["c"], ["output"]),
    ]
    model = _model(nodes, out_shape=(1, 24, 1), axes=np.array([2]))
    before = _run(model, X)
    _qdq.tidy(model.graph)
    assert _kinds(model) == ["QuantizeLinear", "Flatten", "Unsqueeze", "DequantizeLinear", "Relu"]
    np.testing.assert_array_equal(_run(model, X), before)


def test_dequantize_with_two_readers_stays():
    nodes = [
        *_pair("input", "a"),
        helper.make_node("Flatten", ["a"], ["b"]),
        helper.make_node("ReduceMax", ["a"], ["m"], keepdims=0),
        helper.make_node("Sub", ["b", "m"], ["output"]),
    ]
    model = _model(nodes, out_shape=(1, 24))
    _qdq.tidy(model.graph)
    assert _kinds(model)[1] == "DequantizeLinear"


def test_ends_become_uint8_and_channels_last():
    model = _model([*_pair("input", "a"), helper.make_node("Relu", ["a"], ["r"]), *_pair("r", "output")])
    before = _run(model, X)
    _qdq.quantize_input(model.graph)
    _qdq.quantize_output(model.graph)
    quantized = np.clip(np.rint(X / SCALE) + ZERO, 0, 255).astype(np.uint8)
    result = _run(model, quantized.transpose(0, 2, 3, 1))
    assert result.dtype == np.uint8
    np.testing.assert_allclose((result.transpose(0, 3, 1, 2).astype(np.float32) - ZERO) * SCALE, before)


def test_vectors_keep_their_layout():
    model = _model([*_pair("input", "a"), helper.make_node("Relu", ["a"], ["r"]), *_pair("r", "output")], shape=(1, 5))
    _qdq.quantize_input(model.graph)
    _qdq.quantize_output(model.graph)
    assert "Transpose" not in _kinds(model)
    assert _run(model, np.arange(5, dtype=np.uint8)[None]).shape == (1, 5)


@pytest.mark.parametrize("cut", [_qdq.quantize_input, _qdq.quantize_output])
def test_float_ends_cannot_be_cut_off(cut):
    with pytest.raises(ExportError, match="Relu"):
        cut(_model([helper.make_node("Relu", ["input"], ["output"])]).graph)


def test_unused_nodes_and_constants_go():
    nodes = [helper.make_node("Relu", ["input"], ["output"]), helper.make_node("Sigmoid", ["input"], ["idle"])]
    model = _model(nodes)
    _qdq.drop_unused(model.graph)
    assert _kinds(model) == ["Relu"]
    assert not model.graph.initializer


def test_invalid_graph_is_an_export_error():
    with pytest.raises(ExportError, match="not valid ONNX"):
        _qdq.check(_model([helper.make_node("NoSuchOperator", ["input"], ["output"])]))


def test_checked_model_is_what_onnx_loads(tmp_path):
    model = _model([helper.make_node("Relu", ["input"], ["output"])])
    _qdq.check(model)
    onnx.save(model, tmp_path / "m.onnx")
    assert onnx.load(tmp_path / "m.onnx") == model
