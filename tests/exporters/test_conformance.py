"""Every exporter passes the shipped suite with the runtime that loads its files."""

from dataclasses import replace
from importlib.util import find_spec

import onnxruntime as ort
import pytest

from hwnas.devices import load_device
from hwnas.devices.litert import LiteRtRuntime
from hwnas.devices.onnxruntime import OnnxRuntime
from hwnas.devices.openvino import OpenVinoRuntime
from hwnas.exporters.litert import LiteRtExporter
from hwnas.exporters.onnx import OnnxExporter
from hwnas.exporters.openvino import OpenVinoExporter
from hwnas.exporters.tensorrt import TensorRtExporter
from hwnas.testing import exporter_suite
from hwnas.testing.exporter_suite import ExporterCase


class StandsInForTensorRt(OnnxRuntime):
    """ONNX Runtime without its fusions, which quantize biases: what the file says, to be computed anywhere."""

    formats = frozenset({"tensorrt-onnx"})
    quantization = "symmetric"

    def load(self, artefact, device):
        return _AsWritten(artefact.path)


class _AsWritten:
    def __init__(self, path):
        options = ort.SessionOptions()
        options.graph_optimization_level = ort.GraphOptimizationLevel.ORT_DISABLE_ALL
        self._session = ort.InferenceSession(str(path), options, providers=["CPUExecutionProvider"])

    def run(self, inputs):
        names = [i.name for i in self._session.get_inputs()]
        return tuple(self._session.run(None, dict(zip(names, inputs, strict=True))))

    def time_ns(self, *, iterations):
        return iterations

    def __enter__(self):
        return self

    def __exit__(self, *exc):
        pass


# format -> exporter, a runtime and a device that load its files, a package without which there is nothing to try
EXPORTERS = {
    "onnx": (OnnxExporter, OnnxRuntime, "cpu", "onnxruntime"),
    "openvino-onnx": (OpenVinoExporter, OpenVinoRuntime, "cpu-openvino", "openvino"),
    "tensorrt-onnx": (TensorRtExporter, StandsInForTensorRt, "cpu", "onnxruntime"),
    "tflite": (LiteRtExporter, LiteRtRuntime, "cpu-litert", "ai_edge_litert"),
}


@pytest.mark.parametrize("check", exporter_suite.CHECKS, ids=lambda check: check.__name__)
@pytest.mark.parametrize("exporter", EXPORTERS)
def test_conformance(exporter, check, tmp_path):
    make_exporter, make_runtime, device, package = EXPORTERS[exporter]
    if find_spec(package) is None:  # (importing it here would be more than asking: OpenVINO reports imports)
        pytest.skip(f"the package {package!r} is not installed")
    check(ExporterCase(exporter=make_exporter(), runtime=make_runtime(), device=load_device(device), folder=tmp_path))


def _broken(check, exporter, folder):
    case = ExporterCase(exporter=exporter, runtime=OnnxRuntime(), device=load_device("cpu"), folder=folder)
    with pytest.raises(AssertionError):
        check(case)


def test_suite_finds_an_exporter_that_loses_precision(tmp_path):
    class Halves(OnnxExporter):
        def export(self, model, example, path, *, precision):
            for p in model.parameters():
                p.data = p.data * 1.01
            return super().export(model, example, path, precision=precision)

    _broken(exporter_suite.check_network_unchanged, Halves(), tmp_path)


def test_suite_finds_another_file_for_the_same_block(tmp_path):
    class Moody(OnnxExporter):
        calls = 0

        def export_block(self, block, path, *, seed=0):
            self.calls += 1
            return super().export_block(block, path, seed=self.calls)

    _broken(exporter_suite.check_deterministic, Moody(), tmp_path)


def test_suite_finds_float_ends_of_int8_blocks(tmp_path):
    class Floats(OnnxExporter):
        def export_block(self, block, path, *, seed=0):
            plain = replace(block, precision="fp32")
            return super().export_block(plain if block.kind == "conv" else block, path, seed=seed)

    _broken(exporter_suite.check_blocks_run, Floats(), tmp_path)
