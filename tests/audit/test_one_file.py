"""`hwnas audit FILE.tflite`: what is told of a file, without a device and on one."""

from __future__ import annotations

import json
from collections.abc import Mapping
from pathlib import Path
from typing import Any

import pytest
from typer.testing import CliRunner

pytest.importorskip("ai_edge_litert", reason="the extra 'litert' is not installed")

from hwnas.audit import audit_file
from hwnas.cli import app
from hwnas.errors import ConfigError
from hwnas.exporters.litert import LiteRtExporter
from hwnas.measure import Worker
from hwnas.supernet.quantization import quantize
from hwnas.testing.exporter_suite import sample_blocks, sample_images, sample_network
from hwnas.types import Artefact, MeasurementFailure, Statistic
from tests.runs import ReadConsole


@pytest.fixture(scope="module")
def file(tmp_path_factory: pytest.TempPathFactory) -> Path:
    path = tmp_path_factory.mktemp("audited") / "net.tflite"
    model = quantize(sample_network(sample_blocks("iiii")), [sample_images(8)])
    LiteRtExporter().export(model, sample_images(1), path, precision="int8")
    return path


def test_without_a_device_operators_and_memory_are_told(file: Path) -> None:
    result = audit_file(str(file), console=ReadConsole())
    assert result.timed is None
    rows = {row[0]: row for row in result.shown.rows}
    assert rows["CONV_2D"][1] == "int8"
    assert sum(int(str(row[2])) for row in result.shown.rows) == len(result.operators)
    assert any("activations take" in note for note in result.shown.notes)
    assert any("--device" in note for note in result.shown.notes)


def _statistic(ms: float) -> Statistic:
    return Statistic(minimum=ms, median=ms, p90=ms, n=9, cv=0.0)


def test_on_a_device_each_operator_has_a_time_and_the_slowest_are_named(
    file: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    def measured(
        self: Worker, artefacts: Mapping[str, Artefact], **_: Any
    ) -> dict[str, Statistic | MeasurementFailure]:
        """Each operator as slow as its file is large, and the first refused: this test is no measurement."""
        first, *_rest = artefacts
        times: dict[str, Statistic | MeasurementFailure] = {
            key: _statistic(a.size_bytes * 1e-6) for key, a in artefacts.items()
        }
        return {**times, first: MeasurementFailure(reason="the runtime refused it")}

    monkeypatch.setattr(Worker, "measure", measured)
    monkeypatch.setattr(Worker, "measure_anchor", lambda self, anchor: _statistic(0.5))
    result = audit_file(str(file), device="cpu-litert", console=ReadConsole())
    timed = result.timed
    assert timed is not None
    assert (timed.whole_ms, timed.source) == (0.5, "measured")
    assert len(timed.operators_ms) + len(timed.failures) == len(result.operators)
    assert set(timed.failures.values()) == {"the runtime refused it"}
    shares = [float(str(row[6]).split()[0].rstrip("%")) for row in result.shown.rows if row[6]]
    assert sum(shares) == pytest.approx(100, abs=0.5)
    slowest = next(note for note in result.shown.notes if note.startswith("Slowest"))
    longest = max(timed.operators_ms, key=lambda i: timed.operators_ms[i])
    assert result.operators[longest].name in slowest
    assert any("could not be timed alone" in note for note in result.shown.notes)
    assert "operators_on_xnnpack" in timed.info


def test_a_device_that_reads_other_files_is_refused(file: Path) -> None:
    with pytest.raises(ConfigError, match=r"runtime 'onnxruntime', which reads onnx; name one that reads .tflite"):
        audit_file(str(file), device="cpu", console=ReadConsole())


def test_the_command_tells_programs_every_operator(file: Path) -> None:
    result = CliRunner().invoke(app, ["audit", str(file), "--json"])
    assert result.exit_code == 0, result.output
    told = json.loads(result.output)
    assert {"kind", "macs", "weight_bytes", "name"} <= told["operators"][0].keys()
    assert told["peak_memory_bytes"] > 0


@pytest.mark.parametrize(
    ("name", "message"),
    [("net.onnx", "is no .tflite file; an ONNX file is looked at by"), ("none.tflite", "cannot be read: No such file")],
)
def test_other_files_are_refused(name: str, message: str) -> None:
    result = CliRunner().invoke(app, ["audit", name])
    assert result.exit_code == 2
    assert message in " ".join(result.output.split())
