"""What is particular to ONNX Runtime: threads, providers, operators, free dimensions."""

from __future__ import annotations

from dataclasses import replace
from pathlib import Path
from types import SimpleNamespace

import numpy as np
import onnx
import onnxruntime as ort
import pytest
from onnx import TensorProto, helper

from hwnas.devices import load_device
from hwnas.devices._onnx_providers import provider_of
from hwnas.devices.onnxruntime import OnnxRuntime, OnnxSession
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
    with pytest.raises(
        MeasurementError, match=r"AzureExecutionProvider, but .*runs 2 of 2 operators on CPUExecutionProvider"
    ):
        OnnxRuntime().load(write_model(tmp_path / "m.onnx"), device)


@pytest.mark.skipif(
    "AzureExecutionProvider" not in ort.get_available_providers(),
    reason="this build of ONNX Runtime has no provider that takes no nodes",
)
def test_a_fallback_that_is_allowed_runs_and_info_names_it(tmp_path: Path) -> None:
    device = replace(CPU, options={"provider": "azure", "allow_cpu_fallback": True})
    with OnnxRuntime().load(write_model(tmp_path / "m.onnx"), device) as session:
        assert session.time_ns(iterations=1) > 0
        assert session.info()["left_to_others"] == "Conv 1, Relu 1"


def test_a_provider_is_known_by_its_short_name_too(tmp_path: Path) -> None:
    contexts = [OnnxRuntime().context(replace(CPU, options={"provider": p})) for p in ("cpu", "CPUExecutionProvider")]
    assert contexts[0]["provider"] == contexts[1]["provider"] == "CPUExecutionProvider"
    with OnnxRuntime().load(write_model(tmp_path / "m.onnx"), replace(CPU, options={"provider": "CPU"})) as session:
        assert session.info()["provider"] == "CPUExecutionProvider"


def test_context_tells_a_providers_options() -> None:
    device = replace(CPU, options={"provider": "CUDA", "provider.device_id": 1})
    assert OnnxRuntime().context(device)["provider_options"] == "device_id=1, use_tf32=0"
    assert "provider_options" not in OnnxRuntime().context(CPU)


class _Accelerator:
    """Stands in for a session on a GPU and its binding: notes what it is asked for, in order."""

    def __init__(self) -> None:
        self.calls: list[str] = []

    def get_inputs(self) -> list[SimpleNamespace]:
        return [SimpleNamespace(name="x", shape=["batch", 4], type="tensor(float)")]

    def get_outputs(self) -> list[SimpleNamespace]:
        return [SimpleNamespace(name="y")]

    def run(self, names: None, feeds: dict[str, np.ndarray]) -> list[np.ndarray]:
        return [np.zeros((1, 2), np.float32)]

    def io_binding(self) -> _Accelerator:
        return self

    def bind_ortvalue_input(self, name: str, value: str) -> None:
        self.calls.append(f"input {name} in {value}")

    def bind_ortvalue_output(self, name: str, value: str) -> None:
        self.calls.append(f"output {name} in {value}")

    def synchronize_inputs(self) -> None:
        self.calls.append("inputs there")

    def run_with_iobinding(self, binding: _Accelerator) -> None:
        self.calls.append("run")

    def synchronize_outputs(self) -> None:
        self.calls.append("done")


@pytest.mark.parametrize(
    ("name", "memory"), [("CUDA", "cuda 1"), ("TensorRT", "cuda 1"), ("DirectML", "dml 1"), ("CoreML", "cpu 1")]
)
def test_timed_tensors_lie_in_the_providers_memory(monkeypatch: pytest.MonkeyPatch, name: str, memory: str) -> None:
    monkeypatch.setattr(ort.OrtValue, "ortvalue_from_numpy", lambda array, kind, device_id: f"{kind} {device_id}")
    fake, device = _Accelerator(), replace(CPU, options={"provider": name, "provider.device_id": 1})
    with OnnxSession(fake, Path("m.onnx"), provider_of(device)) as session:
        session.time_ns(iterations=1)
    assert fake.calls[:2] == [f"input x in {memory}", f"output y in {memory}"]


def test_every_timed_run_on_a_gpu_is_waited_for(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(ort.OrtValue, "ortvalue_from_numpy", lambda array, kind, device_id: kind)
    fake = _Accelerator()
    with OnnxSession(fake, Path("m.onnx"), provider_of(replace(CPU, options={"provider": "CUDA"}))) as session:
        session.time_ns(iterations=2)
    assert fake.calls[2:] == ["inputs there", "run", "done", "run", "done"]


def test_memory_that_a_provider_cannot_take_is_a_measurement_error(monkeypatch: pytest.MonkeyPatch) -> None:
    def refuse(array: np.ndarray, kind: str, device_id: int) -> None:
        raise RuntimeError("no such device")

    monkeypatch.setattr(ort.OrtValue, "ortvalue_from_numpy", refuse)
    provider = provider_of(replace(CPU, options={"provider": "CUDA", "provider.device_id": 9}))
    with (
        OnnxSession(_Accelerator(), Path("m.onnx"), provider) as session,
        pytest.raises(MeasurementError, match=r"cuda memory of device 9: no such device"),
    ):
        session.time_ns(iterations=1)


def test_a_provider_that_fails_is_not_replaced_by_another(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    tried = []

    def fail(self: ort.InferenceSession, providers: list[str], options: list[dict[str, str]], *rest: object) -> None:
        tried.append(list(providers))
        raise RuntimeError("libcudnn is missing")

    monkeypatch.setattr(ort.InferenceSession, "_create_inference_session", fail)
    with pytest.raises(MeasurementError, match="libcudnn is missing"):
        OnnxRuntime().load(write_model(tmp_path / "m.onnx"), CPU)
    assert len(tried) == 1


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
