"""What is particular to ONNX Runtime: threads, providers, operators, free dimensions."""

from dataclasses import replace
from pathlib import Path

import numpy as np
import onnx
import onnxruntime as ort
import pytest
from onnx import TensorProto, helper

from hwnas.devices import load_device
from hwnas.devices.onnxruntime import OnnxRuntime
from hwnas.errors import MeasurementError
from hwnas.measure.artefacts import artefact_from_file
from tests.measure.onnx_models import write_model

CPU = load_device("cpu")


@pytest.mark.parametrize("threads", [1, 2])
def test_the_devices_threads_are_the_sessions_threads(tmp_path: Path, threads: int) -> None:
    device = replace(CPU, threads=threads)
    with OnnxRuntime().load(write_model(tmp_path / "m.onnx"), device) as session:
        assert session.info()["threads"] == str(threads)


def test_info_counts_the_operators_that_run_after_fusion(tmp_path: Path) -> None:
    with OnnxRuntime().load(write_model(tmp_path / "m.onnx", precision="int8", size=3), CPU) as session:
        operators = dict(pair.rsplit(" ", 1) for pair in session.info()["operators"].split(", "))
    assert operators["QLinearConv"] == "3"
    assert "Conv" not in operators


def test_info_leaves_no_files_behind(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.chdir(tmp_path)
    with OnnxRuntime().load(write_model(tmp_path / "m.onnx"), CPU) as session:
        session.info()
    assert [p.name for p in tmp_path.iterdir()] == ["m.onnx"]


def test_a_provider_that_is_not_in_this_build_is_refused_and_the_others_named(tmp_path: Path) -> None:
    device = replace(CPU, options={"provider": "QuantumExecutionProvider"})
    with pytest.raises(MeasurementError, match=r"QuantumExecutionProvider.*CPUExecutionProvider"):
        OnnxRuntime().load(write_model(tmp_path / "m.onnx"), device)


@pytest.mark.skipif(
    "AzureExecutionProvider" not in ort.get_available_providers(),
    reason="this build of ONNX Runtime has no provider that takes no nodes",
)
def test_a_provider_that_falls_back_silently_is_refused_and_what_ran_named(tmp_path: Path) -> None:
    device = replace(CPU, options={"provider": "AzureExecutionProvider"})
    with pytest.raises(MeasurementError, match=r"AzureExecutionProvider, but .*runs it on CPUExecutionProvider"):
        OnnxRuntime().load(write_model(tmp_path / "m.onnx"), device)


def test_a_free_batch_dimension_is_timed_at_one_and_runs_at_any(tmp_path: Path) -> None:
    with OnnxRuntime().load(write_model(tmp_path / "m.onnx", batch="batch"), CPU) as session:
        assert session.time_ns(iterations=1) > 0
        assert session.run([np.zeros((7, 3, 8, 8), np.float32)])[0].shape == (7, 8, 8, 8)


def test_another_free_dimension_cannot_be_timed_and_is_named(tmp_path: Path) -> None:
    x = helper.make_tensor_value_info("pixels", TensorProto.FLOAT, [1, 3, "height", 8])
    y = helper.make_tensor_value_info("y", TensorProto.FLOAT, [1, 3, "height", 8])
    graph = helper.make_graph([helper.make_node("Relu", ["pixels"], ["y"])], "g", [x], [y])
    path = tmp_path / "free.onnx"
    onnx.save(helper.make_model(graph, opset_imports=[helper.make_opsetid("", 17)], ir_version=8), str(path))
    with (
        OnnxRuntime().load(artefact_from_file(path, format="onnx", precision="fp32"), CPU) as session,
        pytest.raises(MeasurementError, match=r"pixels.*height"),
    ):
        session.time_ns(iterations=1)


def test_an_operator_the_runtime_does_not_know_is_a_measurement_error(tmp_path: Path) -> None:
    x = helper.make_tensor_value_info("x", TensorProto.FLOAT, [1])
    graph = helper.make_graph([helper.make_node("Teleport", ["x"], ["y"], domain="elsewhere")], "g", [x], [])
    graph.output.append(helper.make_tensor_value_info("y", TensorProto.FLOAT, [1]))
    opsets = [helper.make_opsetid("", 17), helper.make_opsetid("elsewhere", 1)]
    path = tmp_path / "teleport.onnx"
    path.write_bytes(helper.make_model(graph, opset_imports=opsets, ir_version=8).SerializeToString())
    with pytest.raises(MeasurementError, match="Teleport"):
        OnnxRuntime().load(artefact_from_file(path, format="onnx", precision="fp32"), CPU)


def test_context_names_version_provider_and_threads() -> None:
    context = OnnxRuntime().context(replace(CPU, threads=2))
    assert context["runtime_version"] == ort.__version__
    assert context["provider"] == "CPUExecutionProvider"
    assert context["threads"] == "2"
