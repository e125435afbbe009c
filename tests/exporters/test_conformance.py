"""Every exporter passes the shipped suite with the runtime that loads its files."""

import pytest

from hwnas.devices import load_device
from hwnas.devices.onnxruntime import OnnxRuntime
from hwnas.exporters.onnx import OnnxExporter
from hwnas.testing import exporter_suite
from hwnas.testing.exporter_suite import ExporterCase

EXPORTERS = {"onnx": OnnxExporter}


@pytest.mark.parametrize("check", exporter_suite.CHECKS, ids=lambda check: check.__name__)
@pytest.mark.parametrize("exporter", EXPORTERS)
def test_conformance(exporter, check, tmp_path):
    case = ExporterCase(
        exporter=EXPORTERS[exporter](), runtime=OnnxRuntime(), device=load_device("cpu"), folder=tmp_path
    )
    check(case)


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
            from hwnas.types import Block

            plain = Block.from_key(block.key.replace("int8", "fp32"))
            return super().export_block(plain if block.kind == "conv" else block, path, seed=seed)

    _broken(exporter_suite.check_blocks_run, Floats(), tmp_path)
