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
from hwnas.types import NETWORK_ENDS


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
        def export(self, model, example, path, **how):
            for p in model.parameters():
                p.data = p.data * 1.01
            return super().export(model, example, path, **how)

    _broken(exporter_suite.check_network_unchanged, Halves(), tmp_path)


def test_suite_finds_another_file_for_the_same_block(tmp_path):
    class Moody(OnnxExporter):
        calls = 0

        def export(self, model, example, path, *, precision, ends=NETWORK_ENDS):
            self.calls += 1
            ends = replace(ends, output_name=f"output{self.calls}")
            return super().export(model, example, path, precision=precision, ends=ends)

    _broken(exporter_suite.check_deterministic, Moody(), tmp_path)


def test_suite_finds_float_ends_of_int8_blocks(tmp_path):
    class Floats(OnnxExporter):
        def export(self, model, example, path, *, precision, ends=NETWORK_ENDS):
            ends = replace(ends, integer_input=False, integer_output=False)
            return super().export(model, example, path, precision=precision, ends=ends)

    _broken(exporter_suite.check_blocks_run, Floats(), tmp_path)
    _broken(exporter_suite.check_ends, Floats(), tmp_path)


def test_suite_finds_another_scale_than_that_of_the_integers(tmp_path):
    class Forgetful(OnnxExporter):
        def export(self, model, example, path, **how):
            artefact = super().export(model, example, path, **how)
            return replace(artefact, input=replace(artefact.input, scale=1.0))

    _broken(exporter_suite.check_ends, Forgetful(), tmp_path)


def test_suite_finds_a_layout_that_is_not_what_was_asked_for(tmp_path):
    class Stubborn(OnnxExporter):
        def export(self, model, example, path, *, precision, ends=NETWORK_ENDS):
            return super().export(model, example, path, precision=precision, ends=replace(ends, input_layout=None))

    _broken(exporter_suite.check_ends, Stubborn(), tmp_path)


def test_suite_finds_integers_that_no_module_has(tmp_path):
    class Careless(OnnxExporter):
        def export(self, model, example, path, *, precision, ends=NETWORK_ENDS):
            return super().export(model, example, path, precision=precision)

    _broken(exporter_suite.check_integers_of_floats_are_refused, Careless(), tmp_path)
