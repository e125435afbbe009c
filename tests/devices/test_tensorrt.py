"""TensorRT: engines are really built, for GPUs that are not there; they are run on a made-up GPU only."""

from __future__ import annotations

import os
import sys
from collections import Counter
from dataclasses import replace
from pathlib import Path

import numpy as np
import pytest
from onnx import TensorProto, helper

from hwnas.devices import _tensorrt_engine as engines
from hwnas.devices import load_device
from hwnas.devices import tensorrt as adapter
from hwnas.devices._tensorrt_cuda import Cuda, NoGpuError
from hwnas.devices._tensorrt_engine import BuildSettings, Engine, build_engine, cache_folder
from hwnas.devices._tensorrt_layers import Layer, from_json, layers_from_inspector, summary, to_json
from hwnas.devices._tensorrt_layouts import (
    FLOAT_FORMATS,
    HALF_FORMATS,
    INT8_FORMATS,
    free_formats,
    pack,
    packed_shape,
    unpack,
)
from hwnas.devices._tensorrt_library import Library, find_library
from hwnas.devices._tensorrt_session import TensorRtSession
from hwnas.devices.tensorrt import CheckedEngine, TensorRtRuntime
from hwnas.errors import ArtefactError, ConfigError, HwnasError, MeasurementError, MissingPackageError
from hwnas.exporters.tensorrt import TensorRtExporter
from hwnas.measure.artefacts import artefact_from_file
from hwnas.measure.client import Worker
from hwnas.precisions import computed_in
from hwnas.supernet.quantization import quantize
from hwnas.supernet.untrained import drift_anchor, untrained_block, untrained_network
from hwnas.testing.exporter_suite import sample_blocks, sample_images, sample_network
from hwnas.types import Artefact, Device, Ends
from tests.devices.made_up_tensorrt import (
    LAUNCH_MS,
    RUN_MS,
    MadeUpDriver,
    MadeUpEngine,
    MadeUpRtxEngine,
    MadeUpTensorRt,
    deep_blocks,
)

TARGET = "sm_86"


def _installed() -> bool:
    try:
        find_library()
    except HwnasError:
        return False
    return True


def _has_gpu() -> bool:
    try:
        Cuda()
    except NoGpuError:
        return False
    return True


needs_tensorrt = pytest.mark.skipif(not _installed(), reason="neither TensorRT nor TensorRT-RTX is installed")
needs_rtx = pytest.mark.skipif(
    not _installed() or not find_library().cross_builds, reason="only TensorRT-RTX builds for a GPU that is not there"
)
without_gpu = pytest.mark.skipif(_has_gpu(), reason="this machine has a GPU")


@pytest.fixture(autouse=True)
def cache(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> Path:
    monkeypatch.setenv("XDG_CACHE_HOME", str(tmp_path / "cache"))
    return tmp_path / "cache" / "hwnas" / "tensorrt"


def _device(**options: str | int | bool) -> Device:
    return Device(name="gpu", runtime="tensorrt", options=options)


def built(artefact: Artefact, *, target: str, float_type: str = "fp32") -> Engine:
    """The engine of a file for a GPU that is not there, from the adapter."""
    device = _device(target=target, float_type=float_type)
    with TensorRtRuntime().load(artefact, device) as session:
        assert isinstance(session, CheckedEngine)
        return session.engine


def _network(path: Path, *, act: str = "relu6", se: int = 0, pattern: str = "iiii") -> Artefact:
    blocks = sample_blocks(pattern, act=act, se_channels=se, features=16)
    model = quantize(sample_network(blocks), [sample_images(8)], symmetric=True)
    return TensorRtExporter().export(model, sample_images(1), path, precision="int8")


@pytest.fixture
def artefact(tmp_path: Path) -> Artefact:
    return _network(tmp_path / "network.onnx")


# ---------------------------------------------------------------- what TensorRT makes of our files


@needs_rtx
@pytest.mark.parametrize("target", ["sm_80", "sm_86", "sm_89", "sm_120"])
def test_every_convolution_and_matrix_product_computes_in_int8(artefact: Artefact, target: str) -> None:
    weighted = [layer for layer in built(artefact, target=target).layers if layer.weighted]
    assert len(weighted) == 1 + 2 + 3 + 1 + 2
    assert all(layer.multiplies == "Int8" for layer in weighted)


@needs_rtx
@pytest.mark.parametrize(("act", "se"), [("relu", 0), ("relu6", 4), ("hswish", 0), ("silu", 4)])
def test_one_kernel_does_all_between_two_layers_with_weights(tmp_path: Path, act: str, se: int) -> None:
    """Bias, activation, residual sum and the pair of Q and DQ are one kernel: what our placement is for."""
    layers = built(_network(tmp_path / "network.onnx", act=act, se=se), target=TARGET).layers
    done_by: dict[str, list[int]] = {}
    for i, layer in enumerate(layers):
        for operator in layer.operators:
            done_by.setdefault(operator, []).append(i)
    sums = [name for name in done_by if name.endswith("/Add")]
    assert len(sums) == 1
    quantize = next(name for name in done_by if name.endswith("/sum/QuantizeLinear"))
    assert done_by[sums[0]] == done_by[quantize]  # the sum is quantized where it is made
    if not se:  # squeeze-and-excitation has a pool and a product of its own
        others = [layer for layer in layers if not layer.weighted]
        assert len(others) <= len(layers) - len(others) + 1


@needs_rtx
def test_float_blocks_of_a_mixed_network_stay_float(tmp_path: Path) -> None:
    layers = built(_network(tmp_path / "network.onnx", pattern="iffi"), target=TARGET).layers
    convolutions = Counter(layer.multiplies for layer in layers if layer.kind == "correlation")
    assert convolutions == {"Int8": 1 + 1, "Float": 2 + 3}


@needs_rtx
def test_every_block_builds_and_int8_blocks_keep_their_integers(tmp_path: Path) -> None:
    for letter in "fi":
        for block in sample_blocks(letter * 4, act="hswish", se_channels=4, features=16):
            artefact = untrained_block(block, symmetric=True).write(TensorRtExporter(), tmp_path / "block")
            layers = built(artefact, target=TARGET).layers
            weighted = [layer for layer in layers if layer.weighted]
            assert all(layer.multiplies == ("Int8" if letter == "i" else "Float") for layer in weighted), block.key
            assert layers[0].inputs[:1] == ("Int8" if letter == "i" and block.kind != "quantize" else "Float",)


@needs_rtx
def test_the_references_build(tmp_path: Path) -> None:
    for precision in ("fp32", "int8"):
        reference = drift_anchor(precision, symmetric=True).write(TensorRtExporter(), tmp_path / precision)
        weighted = [layer for layer in built(reference, target=TARGET).layers if layer.weighted]
        assert {layer.multiplies for layer in weighted} == {"Int8" if precision == "int8" else "Float"}


# ---------------------------------------------------------------- half precision


@needs_rtx
@pytest.mark.parametrize("act", ["relu6", "hswish", "silu"])
def test_in_half_precision_float_layers_multiply_halves_between_float_ends(tmp_path: Path, act: str) -> None:
    model = sample_network(sample_blocks("ffff", act=act, se_channels=4, features=16))
    single, half = (
        built(
            TensorRtExporter().export(model, sample_images(1), tmp_path / "m.onnx", precision=t),
            target=TARGET,
            float_type=t,
        )
        for t in ("fp32", "fp16")
    )
    assert {layer.multiplies for layer in single.layers if layer.weighted} == {"Float"}
    assert {layer.multiplies for layer in half.layers if layer.weighted} == {"Half"}
    assert (half.layers[0].inputs[0], half.layers[-1].outputs[0]) == ("Float", "Float")
    assert len(half.layers) <= len(single.layers) + 1  # no conversions in between


@needs_rtx
def test_in_half_precision_integers_stay_integers(tmp_path: Path) -> None:
    layers = built(_network(tmp_path / "m.onnx", pattern="iffi"), target=TARGET, float_type="fp16").layers
    assert Counter(x.multiplies for x in layers if x.kind == "correlation") == {"Int8": 1 + 1, "Half": 2 + 3}


@needs_rtx
def test_weights_beyond_half_precision_are_refused(tmp_path: Path) -> None:
    model = sample_network(sample_blocks("ffff"))
    next(model.parameters()).data.mul_(1e6)
    artefact = TensorRtExporter().export(model, sample_images(1), tmp_path / "m.onnx", precision="fp16")
    with pytest.raises(MeasurementError, match="beyond half precision"):
        built(artefact, target=TARGET, float_type="fp16")


# ---------------------------------------------------------------- engines are kept


@needs_rtx
def test_the_same_engine_is_built_once(artefact: Artefact) -> None:
    first, second = (built(artefact, target=TARGET) for _ in range(2))
    assert (first.reused, second.reused) == (False, True)
    assert (first.plan, first.layers) == (second.plan, second.layers)


@needs_rtx
@pytest.mark.parametrize(
    "changed",
    [
        BuildSettings(target="sm_89"),
        BuildSettings(target=TARGET, workspace_mib=64),
        BuildSettings(target=TARGET, gpu="x"),
        BuildSettings(target=TARGET, float_type="tf32"),
    ],
    ids=["target", "workspace", "gpu", "float_type"],
)
def test_other_settings_are_another_engine(artefact: Artefact, changed: BuildSettings) -> None:
    library = find_library()
    build_engine(artefact.path, library, BuildSettings(target=TARGET))
    assert not build_engine(artefact.path, library, changed).reused
    assert build_engine(artefact.path, library, BuildSettings(target=TARGET)).reused


@needs_rtx
def test_another_version_of_tensorrt_is_another_engine(artefact: Artefact) -> None:
    library, settings = find_library(), BuildSettings(target=TARGET)
    build_engine(artefact.path, library, settings)
    assert not build_engine(artefact.path, replace(library, version="0.1"), settings).reused


def test_what_was_not_used_for_longest_is_forgotten_first(cache: Path) -> None:
    cache.mkdir(parents=True)
    for age, name in enumerate(("newest", "middle", "oldest")):
        (cache / f"{name}.json").write_text("[]")
        (cache / f"{name}.engine").write_bytes(b"12345678")
        os.utime(cache / f"{name}.engine", (1000 - age, 1000 - age))
    engines._forget_oldest(16)
    assert {p.name for p in cache.iterdir()} == {"newest.json", "newest.engine", "middle.json", "middle.engine"}


@needs_rtx
def test_using_an_engine_makes_it_new(artefact: Artefact, cache: Path) -> None:
    built(artefact, target=TARGET)
    (plan,) = cache.glob("*.engine")
    os.utime(plan, (1000, 1000))
    assert built(artefact, target=TARGET).reused
    assert plan.stat().st_mtime > 1000


@needs_rtx
def test_a_damaged_engine_is_built_anew(artefact: Artefact, cache: Path) -> None:
    built(artefact, target=TARGET)
    for path in cache.glob("*.json"):
        path.write_text("[{")
    assert not built(artefact, target=TARGET).reused
    assert built(artefact, target=TARGET).reused


@needs_rtx
def test_a_full_disk_costs_no_result(artefact: Artefact, monkeypatch: pytest.MonkeyPatch) -> None:
    def full(fd: int) -> None:
        raise OSError(28, "No space left on device")

    monkeypatch.setattr("os.fsync", full)
    assert built(artefact, target=TARGET).plan


@needs_rtx
@pytest.mark.filterwarnings("ignore:.*Timing cache:DeprecationWarning")  # TensorRT-RTX has the calls, and no timings
def test_the_full_tensorrt_keeps_the_times_of_kernels(artefact: Artefact, cache: Path) -> None:
    library = replace(find_library(), name="TensorRT")
    for settings in (BuildSettings(target=TARGET), BuildSettings(target=TARGET, workspace_mib=64)):
        build_engine(artefact.path, library, settings)
        assert len(list(cache.glob("*.timings"))) == 1


def test_the_cache_is_below_home_unless_told(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.delenv("XDG_CACHE_HOME")
    assert cache_folder() == Path.home() / ".cache" / "hwnas" / "tensorrt"


# ---------------------------------------------------------------- without a GPU


@needs_tensorrt
@without_gpu
def test_without_a_gpu_measuring_says_what_can_be_done(artefact: Artefact) -> None:
    with pytest.raises(MeasurementError, match=r"cannot be measured here.*connection.*target"):
        TensorRtRuntime().load(artefact, _device())


@needs_rtx
def test_a_checked_engine_tells_its_layers_and_refuses_to_run(artefact: Artefact) -> None:
    with TensorRtRuntime().load(artefact, _device(target=TARGET)) as session:
        info = session.info()
        assert info["products"] == "Int8 9"
        assert info["target"] == "sm_86, built and not run"
        assert session.costs() == {}
        for use in (lambda: session.run([np.zeros((1, 2, 12, 12), np.float32)]), lambda: session.time_ns(iterations=1)):
            with pytest.raises(MeasurementError, match="to be checked"):
                use()


@needs_rtx
def test_a_worker_reports_that_a_checked_engine_cannot_be_timed(artefact: Artefact) -> None:
    with Worker(_device(target=TARGET)) as worker:
        assert worker.context()["hardware"] == "none, built for sm_86"
        with pytest.raises(MeasurementError, match="to be checked"):
            worker.run(artefact, [np.zeros((1, 2, 12, 12), np.float32)])


@needs_tensorrt
@without_gpu
def test_the_context_says_that_there_is_no_gpu() -> None:
    context = TensorRtRuntime().context(_device())
    assert context["hardware"].startswith("none: ")
    assert context["runtime_version"].startswith("TensorRT")


@needs_rtx
def test_an_unknown_target_lists_the_known_ones(artefact: Artefact) -> None:
    with pytest.raises(ConfigError, match=r"no target 'sm_87'; known: .*sm_86"):
        built(artefact, target="sm_87")


@needs_rtx
def test_the_full_tensorrt_says_that_it_cannot_build_for_another_gpu(artefact: Artefact) -> None:
    library = replace(find_library(), cross_builds=False)
    with pytest.raises(MeasurementError, match="TensorRT-RTX"):
        build_engine(artefact.path, library, BuildSettings(target=TARGET))


def test_without_tensorrt_the_extra_is_named(monkeypatch: pytest.MonkeyPatch) -> None:
    for name in ("tensorrt", "tensorrt_rtx", "tensorrt_rtx_bindings"):
        monkeypatch.setitem(sys.modules, name, None)
    with pytest.raises(MissingPackageError, match=r"hwnas\[tensorrt\]"):
        find_library()


def test_a_tensorrt_that_chooses_precisions_itself_is_refused(monkeypatch: pytest.MonkeyPatch) -> None:
    class Old:
        __version__ = "8.6.2"

        class NetworkDefinitionCreationFlag:
            EXPLICIT_BATCH = 0

    monkeypatch.setitem(sys.modules, "tensorrt", Old)
    with pytest.raises(MeasurementError, match=r"8\.6\.2.*TensorRT 10"):
        find_library()


# ---------------------------------------------------------------- wrong files and settings


@needs_rtx
@pytest.mark.parametrize(
    "content", [b"this is no model" * 10, b"", b"\xff\xfe\x00" * 50], ids=["text", "empty", "bytes"]
)
def test_a_file_that_is_no_model_is_an_artefact_error(tmp_path: Path, content: bytes) -> None:
    path = tmp_path / "garbage"
    path.write_bytes(content)
    artefact = artefact_from_file(path, format="tensorrt-onnx", precision="fp32")
    with pytest.raises(ArtefactError, match="garbage is not an ONNX model"):
        built(artefact, target=TARGET)


@needs_rtx
def test_an_operator_tensorrt_lacks_is_refused_in_its_own_words(tmp_path: Path) -> None:
    x, y = (helper.make_tensor_value_info(name, TensorProto.FLOAT, [1]) for name in "xy")
    graph = helper.make_graph([helper.make_node("Teleport", ["x"], ["y"], "beam", domain="elsewhere")], "g", [x], [y])
    opsets = [helper.make_opsetid("", 17), helper.make_opsetid("elsewhere", 1)]
    path = tmp_path / "teleport.onnx"
    path.write_bytes(helper.make_model(graph, opset_imports=opsets, ir_version=8).SerializeToString())
    with pytest.raises(MeasurementError, match=r"TensorRT-RTX refuses .*teleport\.onnx"):
        built(artefact_from_file(path, format="tensorrt-onnx", precision="fp32"), target=TARGET)


@needs_rtx
def test_a_build_that_failed_does_not_spoil_the_next_one(artefact: Artefact) -> None:
    """TensorRT-RTX 1.7 has no float matrix products for sm_75, and then makes one engine more for it."""
    try:
        built(artefact, target="sm_75")
    except MeasurementError as e:
        assert "cannot build" in str(e)  # noqa: PT017  newer ones may take it
    assert all(x.multiplies == "Int8" for x in built(artefact, target=TARGET).layers if x.weighted)


@needs_rtx
def test_int32_biases_are_what_tensorrt_refuses(tmp_path: Path) -> None:
    """Why the format has float biases: with those of the `onnx` format there is no engine."""
    from hwnas.exporters.onnx import OnnxExporter

    model = quantize(sample_network(sample_blocks("iiii")), [sample_images(8)])
    written = OnnxExporter().export(
        model, sample_images(1), tmp_path / "m", precision="int8", ends=Ends(fixed_batch=True)
    )
    with pytest.raises(MeasurementError):
        built(replace(written, format="tensorrt-onnx"), target=TARGET)


def test_a_changed_file_is_refused(artefact: Artefact) -> None:
    artefact.path.write_bytes(artefact.path.read_bytes() + b"\0")
    with pytest.raises(ArtefactError, match="changed"):
        TensorRtRuntime().load(artefact, _device(target=TARGET))


@pytest.mark.parametrize(
    ("option", "allowed"),
    [
        ({"no_such_option": 1}, "knows: target, gpu"),
        ({"gpu": "first"}, "a whole number from 0"),
        ({"workspace_mib": -1}, "a whole number from 0"),
        ({"cuda_graph": 1}, "true or false"),
        ({"target": 86}, "a text"),
        ({"float_type": "int8"}, "fp32, tf32, fp16"),
    ],
)
def test_a_wrong_option_is_refused_and_the_allowed_ones_named(artefact: Artefact, option: dict, allowed: str) -> None:
    with pytest.raises(ConfigError, match=allowed):
        TensorRtRuntime().load(artefact, _device(**option))


# ---------------------------------------------------------------- layouts


@pytest.mark.parametrize("layout", sorted({*INT8_FORMATS, *HALF_FORMATS, *FLOAT_FORMATS}))
@pytest.mark.parametrize("channels", [1, 4, 5, 33])
def test_packing_and_unpacking_gives_the_same(layout: str, channels: int) -> None:
    array = np.random.default_rng(0).integers(-128, 127, (2, channels, 3, 4), dtype=np.int8)
    packed = pack(array, layout)
    assert packed.shape == packed_shape(array.shape, layout)
    assert packed.flags.c_contiguous
    np.testing.assert_array_equal(unpack(packed, array.shape, layout), array)


def test_packed_bytes_are_where_tensorrt_wants_them() -> None:
    array = np.arange(5 * 2 * 3, dtype=np.int8).reshape(1, 5, 2, 3)
    c, h, w = 4, 1, 2  # its documentation: CHW4 is [C/4][H][W][4], HWC16 is [H][W][(C+15)/16*16]
    assert pack(array, "CHW4").reshape(-1)[((c // 4 * 2 + h) * 3 + w) * 4 + c % 4] == array[0, c, h, w]
    assert pack(array, "HWC16").reshape(-1)[(h * 3 + w) * 16 + c] == array[0, c, h, w]


@pytest.mark.parametrize(
    ("shape", "dtype", "formats"),
    [
        ((1, 3, 32, 32), "FLOAT", ("LINEAR",)),  # people's images
        ((1, 10), "FLOAT", ("LINEAR",)),  # logits
        ((1, 10), "INT8", ("LINEAR",)),
        ((1, 3, 32, 32), "INT8", INT8_FORMATS),  # between `quantize` and the first convolution
        ((1, 24, 16, 16), "FLOAT", FLOAT_FORMATS),
        ((1, 24, 16, 16), "HALF", HALF_FORMATS),
    ],
)
def test_only_tensors_between_blocks_may_lie_as_tensorrt_likes(
    shape: tuple[int, ...], dtype: str, formats: tuple[str, ...]
) -> None:
    assert free_formats(shape, dtype) == formats


@needs_rtx
@pytest.mark.parametrize(
    ("precision", "float_type", "more"), [("fp32", "fp32", 0), ("fp16", "fp16", 0), ("int8", "fp32", 0.2)]
)
def test_blocks_have_as_many_kernels_as_their_network(
    tmp_path: Path, precision: str, float_type: str, more: float
) -> None:
    """What times add up from. With linear ends every float block would have two kernels more."""
    exporter, blocks = TensorRtExporter(), deep_blocks(precision, depth=3)

    def kernels(artefact: Artefact) -> int:
        return len(built(artefact, target=TARGET, float_type=float_type).layers)

    network = kernels(untrained_network(blocks, precision=precision, symmetric=True).write(exporter, tmp_path / "m"))
    assert (
        0
        <= sum(kernels(untrained_block(b, symmetric=True).write(exporter, tmp_path / "m")) for b in blocks) - network
        <= more * network
    )


def test_a_vector_keeps_its_layout_and_an_unknown_one_is_refused() -> None:
    assert packed_shape((1, 10), "LINEAR") == (1, 10)
    with pytest.raises(MeasurementError, match="DHWC8"):
        packed_shape((1, 8, 2, 2), "DHWC8")


# ---------------------------------------------------------------- layers


def test_layers_survive_a_file() -> None:
    layers = (Layer(name="a", kind="gemm", inputs=("Int8",), operators=("/Gemm",)), Layer(name="b", kind="kgen"))
    assert from_json(to_json(layers)) == layers


def test_layers_with_weights_are_counted_by_the_type_they_multiply() -> None:
    layers = [
        Layer(name="a", kind="correlation", inputs=("Half",), constants=("Half",)),
        Layer(name="b", kind="correlation", inputs=("Int8",), constants=("Int8", "Float")),
        Layer(name="c", kind="kgen", inputs=("Int8",)),
    ]
    assert summary(layers) == {"layers": "correlation 2, kgen 1", "products": "Half 1, Int8 1"}


def test_an_inspector_that_tells_names_alone_is_understood() -> None:
    assert layers_from_inspector('{"Layers": ["conv1"]}') == (Layer(name="conv1", kind="unknown"),)


# ---------------------------------------------------------------- running, on a made-up GPU


def _session(driver: MadeUpDriver, *, cuda_graph: bool = True, plan: bytes = b"plan", engine: type = MadeUpEngine):
    library = Library(module=MadeUpTensorRt(driver, engine=engine), name="TensorRT", version="1", cross_builds=False)
    built = Engine(plan=plan, layers=(), reused=False)
    cuda, settings = Cuda(library=driver), BuildSettings(gpu="Made-up GPU")
    return TensorRtSession(built, library, cuda, Path("m.onnx"), settings=settings, cuda_graph=cuda_graph)


def _images(count: int = 1) -> np.ndarray:
    return np.random.default_rng(0).integers(-128, 127, (count, 5, 2, 3), dtype=np.int8)


@pytest.mark.parametrize("count", [1, 3])
def test_runs_each_sample_through_the_engines_layouts(count: int) -> None:
    with _session(MadeUpDriver()) as session:
        (result,) = session.run([_images(count)])
    np.testing.assert_array_equal(result, 2.0 * _images(count))


@pytest.mark.parametrize(("cuda_graph", "expected_ms"), [(True, RUN_MS), (False, RUN_MS + LAUNCH_MS)])
def test_time_is_what_lies_between_two_events_of_the_stream(cuda_graph: bool, expected_ms: float) -> None:
    with _session(MadeUpDriver(), cuda_graph=cuda_graph) as session:
        for iterations in (1, 8):
            assert session.time_ns(iterations=iterations) == pytest.approx(iterations * expected_ms * 1e6, rel=1e-5)


def test_timing_leaves_the_outputs_alone_and_a_run_the_times() -> None:
    with _session(MadeUpDriver()) as session:
        first = session.time_ns(iterations=4)
        np.testing.assert_array_equal(session.run([_images()])[0], 2.0 * _images())
        assert session.time_ns(iterations=4) == pytest.approx(first, rel=1e-5)
        np.testing.assert_array_equal(session.run([_images()])[0], 2.0 * _images())


def test_leaving_a_session_frees_everything_once() -> None:
    driver = MadeUpDriver()
    session = _session(driver)
    session.time_ns(iterations=1)
    assert driver.memory
    for _ in range(2):
        session.__exit__(None, None, None)
    assert driver.left == []
    with pytest.raises(MeasurementError, match="closed"):
        session.run([_images()])


def test_info_and_costs_come_from_the_loaded_engine() -> None:
    with _session(MadeUpDriver()) as session:
        info = session.info()
        assert session.costs() == {"memory_bytes": 4096.0}
    assert info["gpu"] == "Made-up GPU (sm_87)"
    assert info["layouts"] == "input HWC16, output LINEAR"
    assert info["products"] == "Int8 1"
    assert info["float_type"] == "fp32"


def test_half_ends_of_a_block_are_float32_to_people() -> None:
    class Half(MadeUpEngine):
        def get_tensor_dtype(self, name: str) -> type:
            return {"input": np.int8, "output": np.float16}[name]

    with _session(MadeUpDriver(), engine=Half) as session:
        (result,) = session.run([_images()])
    assert result.dtype == np.float32
    np.testing.assert_array_equal(result, 2.0 * _images())


def test_wrong_inputs_are_a_measurement_error_that_says_what_is_taken() -> None:
    x = _images()
    with _session(MadeUpDriver()) as session:
        for wrong in ([], [x, x], [x[:, :2]], [x.astype(np.float64)], [x[:0]]):
            with pytest.raises(MeasurementError, match=r"takes input int8 \(1, 5, 2, 3\)"):
                session.run(wrong)


def test_an_engine_that_does_not_load_is_refused_in_tensorrts_words_and_leaves_nothing() -> None:
    driver = MadeUpDriver()
    with pytest.raises(MeasurementError, match="the plan is for another GPU"):
        _session(driver, plan=b"another")
    assert driver.left == []


def test_a_gpu_without_memory_is_a_measurement_error_and_leaves_nothing() -> None:
    driver = MadeUpDriver()
    driver.fail = "cuMemAlloc_v2"
    with pytest.raises(MeasurementError, match=r"cuMemAlloc_v2 failed: out of memory \(2\)"):
        _session(driver)
    assert driver.left == []


def test_an_engine_that_cannot_be_captured_names_the_option() -> None:
    driver = MadeUpDriver()
    driver.fail = "cuStreamEndCapture"
    with _session(driver) as session, pytest.raises(MeasurementError, match="cuda_graph = false"):
        session.time_ns(iterations=1)


def test_an_open_batch_is_refused() -> None:
    class Open(MadeUpEngine):
        shape = (-1, 5, 2, 3)

    with pytest.raises(MeasurementError, match="fixed batch"):
        _session(MadeUpDriver(), engine=Open)


def test_a_gpu_is_described_by_its_driver() -> None:
    cuda = Cuda(library=MadeUpDriver())
    assert (cuda.name, cuda.target, cuda.driver_version) == ("Made-up GPU", "sm_87", "12.6")


@pytest.mark.parametrize(("gpus", "index", "words"), [(0, 0, "no CUDA-capable device"), (1, 1, "no GPU 1.*has 1")])
def test_an_absent_gpu_is_named(gpus: int, index: int, words: str) -> None:
    with pytest.raises(NoGpuError, match=words):
        Cuda(index=index, library=MadeUpDriver(gpus=gpus))


def test_tensorrt_rtx_keeps_the_kernels_it_compiled_for_the_next_process(cache: Path) -> None:
    class Engine(MadeUpRtxEngine):
        pass

    with _session(MadeUpDriver(), engine=Engine):
        assert Engine.given is None
    (kept,) = cache.glob("*.kernels")
    assert kept.read_bytes() == b"kernels"
    with _session(MadeUpDriver(), engine=Engine):
        assert Engine.given == b"kernels"


def test_loading_builds_for_the_gpu_that_is_there(artefact: Artefact, monkeypatch: pytest.MonkeyPatch) -> None:
    driver, asked = MadeUpDriver(), []
    library = Library(module=MadeUpTensorRt(driver), name="TensorRT", version="1", cross_builds=False)

    def build(path: Path, library: Library, settings: BuildSettings) -> Engine:
        asked.append(settings)
        return Engine(plan=b"plan", layers=(), reused=True)

    monkeypatch.setattr(adapter, "find_library", lambda: library)
    monkeypatch.setattr(adapter, "Cuda", lambda *, index: Cuda(index=index, library=driver))
    monkeypatch.setattr(adapter, "build_engine", build)
    device = _device(float_type="fp16", workspace_mib=64)
    with TensorRtRuntime().load(replace(artefact, precision="fp16"), device) as session:
        np.testing.assert_array_equal(session.run([_images()])[0], 2.0 * _images())
        assert session.info()["engine"] == "reused"
    assert asked == [BuildSettings(gpu="Made-up GPU", float_type="fp16", workspace_mib=64)]
    context = TensorRtRuntime().context(device)
    assert (context["hardware"], context["driver"]) == ("Made-up GPU (sm_87)", "12.6")
    assert (context["float_type"], context["runtime_version"]) == ("fp16", "TensorRT 1")


@pytest.mark.parametrize("name", ["fp32", "tf32", "fp16"])
def test_what_floats_are_computed_in_is_their_precision(name: str) -> None:
    assert computed_in(TensorRtRuntime(), _device(float_type=name), {}) == {"fp32": name, "int8": "int8"}


def test_floats_of_another_precision_than_the_device_computes_are_refused(artefact: Artefact) -> None:
    with pytest.raises(MeasurementError, match=r"is fp32, but device 'gpu' computes floats in fp16 \(its option"):
        TensorRtRuntime().load(replace(artefact, precision="fp32"), _device(float_type="fp16"))


def test_a_build_that_fails_on_the_gpu_leaves_nothing_there(
    artefact: Artefact, monkeypatch: pytest.MonkeyPatch
) -> None:
    driver = MadeUpDriver()
    library = Library(module=MadeUpTensorRt(driver), name="TensorRT", version="1", cross_builds=False)

    def refuse(path: Path, library: Library, settings: BuildSettings) -> Engine:
        assert driver.contexts == 1  # the GPU is current before TensorRT looks for one
        raise MeasurementError("refused")

    monkeypatch.setattr(adapter, "find_library", lambda: library)
    monkeypatch.setattr(adapter, "Cuda", lambda *, index: Cuda(index=index, library=driver))
    monkeypatch.setattr(adapter, "build_engine", refuse)
    with pytest.raises(MeasurementError, match="refused"):
        TensorRtRuntime().load(artefact, _device())
    assert driver.left == []


@needs_rtx
@pytest.mark.parametrize("precision", ["fp32", "int8"])
def test_the_networks_of_the_conformance_suite_build(tmp_path: Path, precision: str) -> None:
    """It needs a GPU; its networks do not."""
    path, blocks = tmp_path / "m.onnx", deep_blocks(precision, depth=2)
    engine = built(
        untrained_network(blocks, precision=precision, symmetric=True).write(TensorRtExporter(), path), target=TARGET
    )
    assert {x.multiplies for x in engine.layers if x.kind == "correlation"} == {
        "Int8" if precision == "int8" else "Float"
    }


# ---------------------------------------------------------------- the description


def test_jetson_orin_is_described_with_what_is_not_known() -> None:
    device = load_device("jetson-orin-tensorrt")
    assert device.runtime == "tensorrt"
    assert device.known
    assert device.unknown
    assert adapter._check_options(device)["workspace_mib"] == 512
