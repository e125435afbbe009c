"""What is particular to OpenVINO: threads, devices, float types, batches, and that it sends nothing."""

import subprocess
import sys
from dataclasses import replace
from importlib.util import find_spec
from pathlib import Path

import numpy as np
import onnx
import pytest
from onnx import TensorProto, helper

from hwnas.devices import load_device
from hwnas.devices._openvino_model import core_with
from hwnas.devices.openvino import OpenVinoRuntime
from hwnas.errors import ArtefactError, ConfigError, MeasurementError, MissingPackageError
from hwnas.measure.artefacts import artefact_from_file
from hwnas.types import Artefact
from tests.measure.onnx_models import write_model

# Looked for, not imported: OpenVINO would report that over the network.
pytestmark = pytest.mark.skipif(find_spec("openvino") is None, reason="needs OpenVINO; extra `openvino`")
DEVICE = load_device("cpu-openvino")


def _with(**options):
    return replace(DEVICE, options={**DEVICE.options, **options})


def _artefact(path: Path, **how) -> Artefact:
    return replace(write_model(path, **how), format="openvino-onnx")


def _saved(path: Path, graph: onnx.GraphProto, *opsets: onnx.OperatorSetIdProto) -> Artefact:
    model = helper.make_model(graph, opset_imports=[helper.make_opsetid("", 17), *opsets], ir_version=8)
    path.write_bytes(model.SerializeToString())
    return artefact_from_file(path, format="openvino-onnx", precision="fp32")


def test_the_devices_threads_are_the_models_threads(tmp_path):
    with OpenVinoRuntime().load(_artefact(tmp_path / "m.onnx"), DEVICE) as session:
        assert session.info()["threads"] == "1"


def test_fewer_threads_than_asked_for_are_an_error(tmp_path):
    with pytest.raises(MeasurementError, match="4096 were asked for"):
        OpenVinoRuntime().load(_artefact(tmp_path / "m.onnx"), replace(DEVICE, threads=4096))


def test_float_networks_compute_in_f32_unless_something_else_is_asked_for(tmp_path):
    with OpenVinoRuntime().load(_artefact(tmp_path / "m.onnx"), DEVICE) as session:
        info = session.info()
    assert "Convolution_f32 1" in info["layers"]
    assert info["inference_precision"] == "f32"
    assert "float_convolutions" not in info


def test_info_counts_the_layers_of_an_int8_network_that_run_in_integers(tmp_path):
    with OpenVinoRuntime().load(_artefact(tmp_path / "m.onnx", precision="int8", size=3), DEVICE) as session:
        info = session.info()
    assert "Convolution_i8 3" in info["layers"]
    assert info["float_convolutions"] == "none"


def test_info_names_the_convolutions_of_an_int8_network_that_run_in_float(tmp_path):
    artefact = replace(_artefact(tmp_path / "m.onnx"), precision="int8")
    with OpenVinoRuntime().load(artefact, DEVICE) as session:
        assert session.info()["float_convolutions"].startswith("conv0")


@pytest.mark.parametrize("batch", ["batch", 1])
def test_many_samples_run_one_by_one(tmp_path, batch):
    x = np.random.default_rng(0).standard_normal((7, 3, 8, 8)).astype(np.float32)
    with OpenVinoRuntime().load(_artefact(tmp_path / "m.onnx", batch=batch), DEVICE) as session:
        together = session.run([x])[0]
        one_by_one = np.concatenate([session.run([x[i : i + 1]])[0] for i in range(7)])
    assert together.shape == (7, 8, 8, 8)
    np.testing.assert_array_equal(together, one_by_one)


def test_a_larger_fixed_batch_takes_multiples_of_it(tmp_path):
    x = np.random.default_rng(0).standard_normal((6, 3, 8, 8)).astype(np.float32)
    with OpenVinoRuntime().load(_artefact(tmp_path / "m.onnx", batch=3), DEVICE) as session:
        assert session.run([x])[0].shape == (6, 8, 8, 8)
        with pytest.raises(MeasurementError, match=r"\(3, 3, 8, 8\)"):
            session.run([x[:4]])


def test_inputs_that_are_not_contiguous_are_read_right(tmp_path):
    x = np.random.default_rng(0).standard_normal((1, 8, 8, 3)).astype(np.float32).transpose(0, 3, 1, 2)
    with OpenVinoRuntime().load(_artefact(tmp_path / "m.onnx"), DEVICE) as session:
        np.testing.assert_array_equal(session.run([x])[0], session.run([np.ascontiguousarray(x)])[0])


def test_no_samples_are_refused(tmp_path):
    with (
        OpenVinoRuntime().load(_artefact(tmp_path / "m.onnx"), DEVICE) as session,
        pytest.raises(MeasurementError, match=r"given: float32 of shape \(0, 3, 8, 8\)"),
    ):
        session.run([np.zeros((0, 3, 8, 8), np.float32)])


def test_outputs_stay_what_they_were_when_the_session_runs_again(tmp_path):
    rng = np.random.default_rng(0)
    first, second = (rng.standard_normal((1, 3, 8, 8)).astype(np.float32) for _ in range(2))
    with OpenVinoRuntime().load(_artefact(tmp_path / "m.onnx"), DEVICE) as session:
        output = session.run([first])[0]
        kept = output.copy()
        session.run([second])
    np.testing.assert_array_equal(output, kept)


def test_a_free_dimension_besides_the_batch_is_refused_and_named(tmp_path):
    x = helper.make_tensor_value_info("pixels", TensorProto.FLOAT, [1, 3, "height", 8])
    y = helper.make_tensor_value_info("y", TensorProto.FLOAT, [1, 3, "height", 8])
    graph = helper.make_graph([helper.make_node("Relu", ["pixels"], ["y"])], "g", [x], [y])
    with pytest.raises(MeasurementError, match="pixels"):
        OpenVinoRuntime().load(_saved(tmp_path / "free.onnx", graph), DEVICE)


def test_an_operator_the_runtime_does_not_know_is_a_measurement_error(tmp_path):
    x, y = (helper.make_tensor_value_info(name, TensorProto.FLOAT, [1]) for name in "xy")
    graph = helper.make_graph([helper.make_node("Teleport", ["x"], ["y"], domain="elsewhere")], "g", [x], [y])
    with pytest.raises(MeasurementError, match="Teleport"):
        OpenVinoRuntime().load(_saved(tmp_path / "t.onnx", graph, helper.make_opsetid("elsewhere", 1)), DEVICE)


def test_a_damaged_file_is_a_refusal_whatever_bytes_it_has(tmp_path):
    path = tmp_path / "m.onnx"
    whole = _artefact(path).path.read_bytes()
    rng = np.random.default_rng(0)
    refused = 0
    for _ in range(30):
        damaged = bytearray(whole)
        for place in rng.integers(len(whole), size=20):
            damaged[place] = rng.integers(256)
        path.write_bytes(bytes(damaged))
        artefact = artefact_from_file(path, format="openvino-onnx", precision="fp32")
        try:
            OpenVinoRuntime().load(artefact, DEVICE)
        except (ArtefactError, MeasurementError):
            refused += 1
    assert refused > 0


@pytest.mark.parametrize("keep", [0, 100, -50])
def test_a_file_cut_short_is_an_artefact_error(tmp_path, keep):
    path = tmp_path / "m.onnx"
    whole = _artefact(path).path.read_bytes()
    path.write_bytes(whole[:keep])
    with pytest.raises(ArtefactError, match="not an ONNX model"):
        OpenVinoRuntime().load(artefact_from_file(path, format="openvino-onnx", precision="fp32"), DEVICE)


def test_a_device_that_is_not_there_is_refused_and_the_others_named(tmp_path):
    with pytest.raises(MeasurementError, match=r"no device 'GPU\.7' here; there are: .*CPU"):
        OpenVinoRuntime().load(_artefact(tmp_path / "m.onnx"), _with(device_name="GPU.7"))
    with pytest.raises(MeasurementError, match=r"there are: .*CPU"):
        OpenVinoRuntime().context(_with(device_name="GPU.7"))


@pytest.mark.parametrize("name", ["AUTO", "AUTO:GPU,CPU", "MULTI:CPU", "HETERO:GPU,CPU"])
def test_a_device_that_chooses_for_itself_is_refused(tmp_path, name):
    with pytest.raises(ConfigError, match=r"decides by itself .* as CPU, GPU or NPU"):
        OpenVinoRuntime().load(_artefact(tmp_path / "m.onnx"), _with(device_name=name))


@pytest.mark.parametrize(
    ("option", "value", "allowed"),
    [
        ("inference_precision", "f8", "f32, f16, bf16"),
        ("cpu_pinning", "yes", "true or false"),
        ("device_name", 1, "a text"),
    ],
)
def test_a_value_that_is_not_allowed_is_refused_and_the_allowed_named(tmp_path, option, value, allowed):
    with pytest.raises(ConfigError, match=f"{option} is {value!r}; allowed: {allowed}"):
        OpenVinoRuntime().load(_artefact(tmp_path / "m.onnx"), _with(**{option: value}))


def test_context_tells_apart_what_changes_a_time():
    contexts = [
        OpenVinoRuntime().context(device)
        for device in (DEVICE, replace(DEVICE, threads=2), _with(inference_precision="bf16"), _with(cpu_pinning=True))
    ]
    assert all(a != b for i, a in enumerate(contexts) for b in contexts[:i])
    assert contexts[0]["provider"] == "OpenVINO CPU"


def test_without_its_package_the_extra_that_brings_it_is_named(monkeypatch):
    monkeypatch.setitem(sys.modules, "openvino", None)
    with pytest.raises(MissingPackageError, match=r"pip install 'hwnas\[openvino\]'"):
        OpenVinoRuntime().context(DEVICE)


_SILENT = """
import sys, time
seen = []
watched = ("socket.", "os.fork", "os.posix_spawn", "subprocess.Popen")
sys.addaudithook(lambda event, args: seen.append(event) if event.startswith(watched) else None)
{imports}
time.sleep({wait})
print(seen)
"""
_LOADS = """
from pathlib import Path
from hwnas.devices import load_device
from hwnas.devices.openvino import OpenVinoRuntime
from hwnas.measure.artefacts import artefact_from_file
artefact = artefact_from_file(Path({path!r}), format="openvino-onnx", precision="fp32")
OpenVinoRuntime().load(artefact, load_device("cpu-openvino")).time_ns(iterations=1)
"""


def test_nothing_is_sent_over_the_network(tmp_path):
    path = str(_artefact(tmp_path / "m.onnx").path)
    script = _SILENT.format(imports=_LOADS.format(path=path), wait=0.2)
    done = subprocess.run([sys.executable, "-c", script], capture_output=True, text=True, check=True)
    assert done.stdout.strip() == "[]"


def test_the_telemetry_package_can_be_imported_afterwards():
    pytest.importorskip("openvino_telemetry", reason="OpenVINO was installed without it")
    script = "import hwnas.devices._openvino_model as m, sys; m.import_openvino(); import openvino_telemetry"
    done = subprocess.run([sys.executable, "-c", script], capture_output=True, text=True, check=False)
    assert done.returncode == 0, done.stderr


@pytest.mark.parametrize(("wanted", "precision"), [("f16", "fp16"), ("bf16", "bf16")])
def test_half_precision_is_computed_or_refused_and_never_single_by_its_name(
    wanted: str, precision: str, tmp_path: Path
) -> None:
    device = _with(inference_precision=wanted)
    artefact = replace(write_model(tmp_path / "m.onnx"), format="openvino-onnx", precision=precision)
    if precision.upper() in core_with("CPU").get_property("CPU", "OPTIMIZATION_CAPABILITIES"):
        with OpenVinoRuntime().load(artefact, device) as session:
            assert session.info()["inference_precision"] == wanted
        return
    with pytest.raises(MeasurementError, match=f"compute in b?f(16|32) here, .* inference_precision asks for {wanted}"):
        OpenVinoRuntime().load(artefact, device)
