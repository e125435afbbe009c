"""Every runtime passes the shipped suite."""

from dataclasses import replace
from importlib.util import find_spec
from pathlib import Path

import numpy as np
import pytest

from hwnas.devices import load_device
from hwnas.devices._tensorrt_cuda import Cuda, NoGpuError
from hwnas.devices._tensorrt_library import find_library
from hwnas.errors import MissingPackageError
from hwnas.exporters.tensorrt import TensorRtExporter
from hwnas.supernet.untrained import untrained_network
from hwnas.testing.fake import fake_device
from hwnas.testing.runtime_suite import RuntimeSuite
from hwnas.types import Artefact, Device
from tests.devices import tflite_models
from tests.devices.ethosu_tools import require_tools
from tests.devices.made_up_tensorrt import deep_blocks
from tests.measure.onnx_models import write_model


class OnnxFiles(RuntimeSuite):
    def artefact(self, folder: Path, *, precision: str, size: int = 1) -> Artefact:
        return write_model(folder / f"{precision}-{size}.onnx", precision=precision, size=size)


class TestOnnxRuntime(OnnxFiles):
    def device(self) -> Device:
        return load_device("cpu")


class TestOpenVino(OnnxFiles):
    @pytest.fixture(autouse=True)
    def installed(self) -> None:
        if find_spec("openvino") is None:  # (importing it here would report that over the network)
            pytest.skip("the extra 'openvino' is not installed")

    def device(self) -> Device:
        return load_device("cpu-openvino")

    def artefact(self, folder: Path, *, precision: str, size: int = 1) -> Artefact:
        return replace(super().artefact(folder, precision=precision, size=size), format="openvino-onnx")


class TestFakeRuntime(OnnxFiles):
    def device(self) -> Device:
        return fake_device()


class TestLiteRt(RuntimeSuite):
    @pytest.fixture(autouse=True)
    def installed(self) -> None:
        pytest.importorskip("ai_edge_litert", reason="the extra 'litert' is not installed")

    def device(self) -> Device:
        return load_device("cpu-litert")

    def artefact(self, folder: Path, *, precision: str, size: int = 1) -> Artefact:
        return tflite_models.write_tflite(folder / f"{precision}-{size}.tflite", precision=precision, size=size)

    def inputs(self, precision: str) -> np.ndarray:
        return tflite_models.inputs(precision)


class TestEthosU(RuntimeSuite):
    @pytest.fixture(autouse=True)
    def installed(self) -> None:
        require_tools()

    def device(self) -> Device:
        return load_device("ethos-u55-128")

    def artefact(self, folder: Path, *, precision: str, size: int = 1) -> Artefact:
        path = folder / f"{precision}-{size}.tflite"
        return tflite_models.write_tflite(path, precision=precision, size=size, layout="NHWC")

    def inputs(self, precision: str) -> np.ndarray:
        return np.ascontiguousarray(tflite_models.inputs(precision).transpose(0, 2, 3, 1))


class TestTensorRt(RuntimeSuite):
    """Where there is a GPU; what can be tried without one is in test_tensorrt.py."""

    @pytest.fixture(autouse=True)
    def gpu(self, tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
        monkeypatch.setenv("XDG_CACHE_HOME", str(tmp_path))
        try:
            Cuda()
            find_library()
        except (NoGpuError, MissingPackageError) as e:
            pytest.skip(str(e))

    def device(self) -> Device:
        return Device(name="gpu", runtime="tensorrt")

    def artefact(self, folder: Path, *, precision: str, size: int = 1) -> Artefact:
        folder.mkdir(parents=True, exist_ok=True)
        path = folder / f"{precision}-{size}.onnx"
        return untrained_network(deep_blocks(precision, depth=size), precision=precision, symmetric=True).write(
            TensorRtExporter(), path
        )

    def inputs(self, precision: str) -> np.ndarray:
        return super().inputs("fp32")  # int8 networks have float ends
