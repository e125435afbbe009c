"""What is particular to LiteRT: XNNPACK and what it leaves, batches, threads, files that are not models."""

import sys
from dataclasses import replace
from pathlib import Path
from types import ModuleType

import numpy as np
import pytest

pytest.importorskip("ai_edge_litert", reason="the extra 'litert' is not installed")

from ai_edge_litert.compiled_model import CompiledModel

from hwnas.devices import load_device
from hwnas.devices.litert import LiteRtRuntime
from hwnas.errors import ArtefactError, ConfigError, MeasurementError, MissingPackageError
from hwnas.exporters._tflite_graph import Graph, QuantizationParameters
from hwnas.measure.artefacts import artefact_from_file
from tests.devices.tflite_models import inputs, write_tflite

CPU = load_device("cpu-litert")
DEFAULT = replace(CPU, options={})
BUILT_IN = replace(CPU, options={"xnnpack": False})
HALF = QuantizationParameters(scales=(0.5,))


def _load(artefact, device=CPU):
    return LiteRtRuntime().load(artefact, device)


def _write(graph, outputs, path):
    path.write_bytes(graph.to_bytes(outputs))
    return artefact_from_file(path, format="tflite", precision="int8")


def _partly_accelerated(path):
    """Hard-swish on int8, which XNNPACK has not, between two additions, which it has."""
    graph = Graph()
    x = graph.input("x", (1, 4, 4, 8), quantization=HALF)
    y = graph.operator("ADD", [x, x], name="y", shape=x.shape, quantization=HALF, version=2)
    z = graph.operator("HARD_SWISH", [y], name="z", shape=x.shape, quantization=HALF)
    return _write(
        graph, {"sum": graph.operator("ADD", [z, z], name="s", shape=x.shape, quantization=HALF, version=2)}, path
    )


# ---------------------------------------------------------------- what runs


@pytest.mark.parametrize("precision", ["fp32", "int8"])
def test_info_says_that_all_runs_on_xnnpack(precision, tmp_path: Path) -> None:
    with _load(write_tflite(tmp_path / "m", precision=precision, size=3)) as session:
        info = session.info()
    assert (info["provider"], info["fully_accelerated"], info["operators_left"]) == ("XNNPACK", "yes", "none")
    assert info["operators"] == info["operators_on_xnnpack"] == "CONV_2D 3, TRANSPOSE 1"


def test_info_names_the_operators_that_xnnpack_leaves(tmp_path: Path) -> None:
    artefact = _partly_accelerated(tmp_path / "m")
    with _load(artefact) as session:
        info = session.info()
    assert info["fully_accelerated"] == "no"
    assert info["operators_left"] == "HARD_SWISH 1"
    assert info["operators_on_xnnpack"] == "ADD 2"


@pytest.mark.parametrize("whole", [True, False])
def test_acceleration_is_what_the_runtime_itself_reports(whole, tmp_path: Path) -> None:
    write = (lambda path: write_tflite(path, precision="int8")) if whole else _partly_accelerated
    artefact = write(tmp_path / "m")
    with _load(artefact) as session:
        assert (session.info()["fully_accelerated"] == "yes") is whole
    assert CompiledModel.from_file(str(artefact.path)).is_fully_accelerated() is whole


def test_xnnpack_can_be_switched_off_and_computes_the_same(tmp_path: Path) -> None:
    artefact = write_tflite(tmp_path / "m")
    with _load(artefact) as fast, _load(artefact, BUILT_IN) as plain:
        assert plain.info()["provider"] == "built-in kernels"
        assert plain.info()["operators_on_xnnpack"] == "none"
        np.testing.assert_allclose(fast.run([inputs("fp32")])[0], plain.run([inputs("fp32")])[0], atol=1e-5)


def test_a_model_of_which_xnnpack_runs_nothing_is_refused_where_it_was_asked_for(tmp_path: Path) -> None:
    graph = Graph()
    x = graph.input("x", (1, 4, 4, 8), quantization=HALF)
    y = graph.operator("HARD_SWISH", [x], name="y", shape=x.shape, quantization=HALF)
    artefact = _write(graph, {"y": y}, tmp_path / "m")
    with pytest.raises(MeasurementError, match=r"was to run on XNNPACK.*leave 'xnnpack' out"):
        _load(artefact)
    with _load(artefact, DEFAULT) as session:
        assert session.info()["operators_left"] == "HARD_SWISH 1"


@pytest.mark.skipif(not Path("/proc/self/task").exists(), reason="this system does not tell a process's threads")
@pytest.mark.parametrize("threads", [1, 3])
def test_the_devices_threads_are_the_sessions_threads(threads, tmp_path: Path) -> None:
    before = len(list(Path("/proc/self/task").iterdir()))
    with _load(write_tflite(tmp_path / "m"), replace(CPU, threads=threads)) as session:
        session.time_ns(iterations=1)
        assert len(list(Path("/proc/self/task").iterdir())) - before == threads - 1
        assert session.info()["threads"] == str(threads)


def test_context_names_the_package_and_the_provider() -> None:
    for device, provider in ((CPU, "XNNPACK"), (BUILT_IN, "built-in kernels"), (DEFAULT, "default")):
        context = LiteRtRuntime().context(device)
        assert (context["package"], context["provider"]) == ("ai_edge_litert", provider)


def test_xnnpack_is_true_or_false() -> None:
    with pytest.raises(ConfigError, match="'maybe'; it must be true or false"):
        LiteRtRuntime().context(replace(CPU, options={"xnnpack": "maybe"}))


# ---------------------------------------------------------------- running


def test_a_model_of_batch_one_runs_once_for_each_sample(tmp_path: Path) -> None:
    x = np.random.default_rng(0).standard_normal((5, 3, 8, 8)).astype(np.float32)
    with _load(write_tflite(tmp_path / "m")) as session:
        (together,) = session.run([x])
        alone = [session.run([x[i : i + 1]])[0] for i in range(5)]
    assert together.shape == (5, 8, 8, 8)
    np.testing.assert_array_equal(together, np.concatenate(alone))


def test_a_model_of_a_larger_batch_takes_that_batch_only(tmp_path: Path) -> None:
    graph = Graph()
    x = graph.input("x", (2, 3))
    artefact = _write(graph, {"y": graph.operator("ADD", [x, x], name="y", shape=x.shape)}, tmp_path / "m")
    with _load(artefact) as session:
        np.testing.assert_array_equal(session.run([np.ones((2, 3), np.float32)])[0], np.full((2, 3), 2.0))
        with pytest.raises(MeasurementError, match=r"takes float32 \(2, 3\), but float32 \(4, 3\)"):
            session.run([np.ones((4, 3), np.float32)])


@pytest.mark.parametrize("count", [2, 0])
def test_inputs_with_other_counts_of_samples_are_refused(count, tmp_path: Path) -> None:
    graph = Graph()
    x, y = graph.input("x", (1, 3)), graph.input("y", (1, 3))
    artefact = _write(graph, {"z": graph.operator("ADD", [x, y], name="z", shape=x.shape)}, tmp_path / "m")
    with _load(artefact) as session, pytest.raises(MeasurementError):
        session.run([np.ones((1, 3), np.float32), np.ones((count, 3), np.float32)])


def test_results_are_not_overwritten_by_the_next_run(tmp_path: Path) -> None:
    x = inputs("fp32")
    with _load(write_tflite(tmp_path / "m")) as session:
        (first,) = session.run([x])
        kept = first.copy()
        session.run([x + 1])
    np.testing.assert_array_equal(first, kept)


# ---------------------------------------------------------------- files


@pytest.mark.parametrize("kept", [4, 100, 0.5, 0.99])
def test_a_file_that_was_cut_off_is_an_artefact_error(kept, tmp_path: Path) -> None:
    whole = write_tflite(tmp_path / "m", precision="int8", size=2).path.read_bytes()
    path = tmp_path / "cut"
    path.write_bytes(whole[: kept if isinstance(kept, int) else int(kept * len(whole))])
    with pytest.raises(ArtefactError, match="cut"):
        _load(artefact_from_file(path, format="tflite", precision="int8"))


@pytest.mark.parametrize("seed", range(8))
def test_a_damaged_file_never_takes_the_process_with_it(seed, tmp_path: Path) -> None:
    rng = np.random.default_rng(seed)
    content = bytearray(write_tflite(tmp_path / "m", precision="int8", size=2).path.read_bytes())
    for position in rng.integers(8, len(content), size=10):
        content[position] = rng.integers(256)
    path = tmp_path / "damaged"
    path.write_bytes(content)
    try:
        with _load(artefact_from_file(path, format="tflite", precision="int8"), DEFAULT) as session:
            session.time_ns(iterations=1)
    except (ArtefactError, MeasurementError):
        pass  # (where only weights were hit, it runs)


def test_an_operator_newer_than_the_runtime_is_a_measurement_error(tmp_path: Path) -> None:
    graph = Graph()
    x = graph.input("x", (1, 3))
    artefact = _write(graph, {"y": graph.operator("ADD", [x, x], name="y", shape=(1, 3), version=99)}, tmp_path / "m")
    with pytest.raises(MeasurementError, match=r"LiteRT refuses .*ADD"):
        _load(artefact)


def test_the_predecessor_does_where_there_is_no_litert(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    """Its interpreter has the same interface; a module that stands in for it is LiteRT's under another name."""
    from ai_edge_litert import interpreter

    artefact = write_tflite(tmp_path / "m")
    package, module = ModuleType("tflite_runtime"), ModuleType("tflite_runtime.interpreter")
    vars(package).update(__version__="2.14.0", interpreter=module)
    vars(module).update(Interpreter=interpreter.Interpreter, OpResolverType=interpreter.OpResolverType)
    monkeypatch.setitem(sys.modules, "tflite_runtime", package)
    monkeypatch.setitem(sys.modules, "tflite_runtime.interpreter", module)
    monkeypatch.setitem(sys.modules, "ai_edge_litert", None)
    with _load(artefact) as session:
        assert session.run([inputs("fp32")])[0].shape == (1, 8, 8, 8)
        assert session.info()["version"] == "tflite_runtime 2.14.0"
    assert LiteRtRuntime().context(CPU)["package"] == "tflite_runtime"


def test_without_either_package_the_extra_is_named(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    artefact = write_tflite(tmp_path / "m")
    monkeypatch.setitem(sys.modules, "tflite_runtime", None)
    monkeypatch.setitem(sys.modules, "ai_edge_litert", None)
    with pytest.raises(MissingPackageError, match=r"runtime 'litert' needs .*hwnas\[litert\]"):
        _load(artefact)
