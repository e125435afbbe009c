"""Every runtime passes the shipped suite."""

from pathlib import Path

from hwnas.devices import load_device
from hwnas.testing.fake import fake_device
from hwnas.testing.runtime_suite import RuntimeSuite
from hwnas.types import Artefact, Device
from tests.measure.onnx_models import write_model


class OnnxFiles(RuntimeSuite):
    def artefact(self, folder: Path, *, precision: str, size: int = 1) -> Artefact:
        return write_model(folder / f"{precision}-{size}.onnx", precision=precision, size=size)


class TestOnnxRuntime(OnnxFiles):
    def device(self) -> Device:
        return load_device("cpu")


class TestFakeRuntime(OnnxFiles):
    def device(self) -> Device:
        return fake_device()
