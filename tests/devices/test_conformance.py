"""Every runtime passes the shipped suite."""

from dataclasses import replace
from pathlib import Path

import numpy as np
import pytest

from hwnas.devices import load_device
from hwnas.testing.fake import fake_device
from hwnas.testing.runtime_suite import RuntimeSuite
from hwnas.types import Artefact, Device
from tests.devices import tflite_models
from tests.devices.ethosu_tools import require_tools
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
        pytest.importorskip("openvino", reason="the extra 'openvino' is not installed")

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
