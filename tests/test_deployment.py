"""What a manifest and the files it names must be like to be read."""

from __future__ import annotations

import json
from collections.abc import Callable
from pathlib import Path
from typing import Any

import pytest
from hypothesis import HealthCheck, given, settings
from hypothesis import strategies as st

from hwnas.deployment import MANIFEST, PROGRAM, SCHEMA, Latency, Manifest, check_files, checked_artefact
from hwnas.errors import ArtefactError
from hwnas.files import read_document
from hwnas.types import Statistic
from tests.runs import FinishedRun, rewrite_manifest


def test_a_manifest_is_read_as_it_was_written(finished: FinishedRun, tmp_path: Path) -> None:
    manifest = Manifest.read(finished.deployment)
    manifest.write(tmp_path)
    assert Manifest.read(tmp_path) == manifest
    assert (tmp_path / MANIFEST).read_bytes() == (finished.deployment / MANIFEST).read_bytes()


def test_keys_of_blocks_of_an_earlier_version_are_those_of_today(finished: FinishedRun, tmp_path: Path) -> None:
    manifest = Manifest.read(finished.deployment)
    head = manifest.blocks[[key.startswith("head") for key in manifest.blocks].index(True)]
    older = manifest.model_copy(update={"blocks": (head.replace("hidden_channels", "features=0,hidden_channels"),)})
    older.write(tmp_path)
    assert Manifest.read(tmp_path).blocks == (head,)


def test_a_folder_without_a_manifest_is_no_deployment(tmp_path: Path) -> None:
    with pytest.raises(ArtefactError, match=r"is no deployment: it has no manifest.json.*hwnas export"):
        Manifest.read(tmp_path)


@settings(deadline=None, max_examples=60, suppress_health_check=[HealthCheck.function_scoped_fixture])
@given(share=st.floats(0, 1, exclude_max=True))
def test_a_manifest_cut_off_at_any_byte_is_refused(share: float, finished: FinishedRun, tmp_path: Path) -> None:
    whole = (finished.deployment / MANIFEST).read_bytes()
    cut = int(share * (len(whole) - 1))  # without its last byte, a newline, it is whole
    (tmp_path / MANIFEST).write_bytes(whole[:cut])
    with pytest.raises(ArtefactError, match=r"is damaged.*export the network again"):
        Manifest.read(tmp_path)


@settings(deadline=None, max_examples=60, suppress_health_check=[HealthCheck.function_scoped_fixture])
@given(content=st.binary(max_size=40) | st.text(max_size=40).map(str.encode))
def test_a_file_that_is_something_else_is_refused(content: bytes, tmp_path: Path) -> None:
    (tmp_path / MANIFEST).write_bytes(content)
    with pytest.raises(ArtefactError):
        Manifest.read(tmp_path)


@pytest.mark.parametrize("schema", [0, SCHEMA + 1, "1", True, None])
def test_another_schema_is_refused(schema: object, deployment: Path) -> None:
    rewrite_manifest(deployment, lambda m: m.update(schema_number=schema))
    with pytest.raises(ArtefactError, match=f"has schema {schema!r}; this version reads 1 and {SCHEMA}"):
        Manifest.read(deployment)


@pytest.mark.parametrize(
    ("change", "where"),
    [
        (lambda m: m.pop("limits"), "limits"),
        (lambda m: m.update(colour="red"), "colour"),
        (lambda m: m["limits"].update(latency_ms="fast"), "limits.latency_ms"),
        (lambda m: m["measured"]["latency_ms"].pop("drift"), "measured.latency_ms.drift"),
    ],
)
def test_a_wrong_value_is_named(change: Callable[[dict[str, Any]], object], where: str, deployment: Path) -> None:
    rewrite_manifest(deployment, change)
    with pytest.raises(ArtefactError, match=where):
        Manifest.read(deployment)


def test_a_limit_that_anything_would_keep_is_refused(deployment: Path) -> None:
    value = read_document(deployment / MANIFEST)
    value["limits"]["latency_ms"] = float("nan")
    (deployment / MANIFEST).write_text(json.dumps(value))
    with pytest.raises(ArtefactError, match="NaN is no JSON number"):
        Manifest.read(deployment)


@pytest.mark.parametrize("name", ["model.onnx", "reference.onnx", "samples.safetensors", "model.pt2"])
def test_a_manifest_signs_for_every_file(name: str, deployment: Path) -> None:
    manifest = Manifest.read(deployment)
    check_files(deployment, manifest)
    data = bytearray((deployment / name).read_bytes())
    data[len(data) // 2] ^= 1
    (deployment / name).write_bytes(data)
    with pytest.raises(ArtefactError, match=f"{name} is not the file that was verified"):
        check_files(deployment, manifest)
    (deployment / name).unlink()
    with pytest.raises(ArtefactError, match=f"lacks .*{name}"):
        check_files(deployment, manifest)


def test_a_deployment_from_before_torch_programs_is_whole_without(deployment: Path) -> None:
    rewrite_manifest(deployment, lambda m: m.pop("program"))
    (deployment / PROGRAM).unlink()
    manifest = Manifest.read(deployment)
    assert manifest.program is None
    check_files(deployment, manifest)


def test_the_device_of_a_manifest_is_the_one_it_was_made_with(finished: FinishedRun) -> None:
    device = Manifest.read(finished.deployment).described_device()
    assert (device.name, device.runtime, device.threads) == ("fake", "fake", 1)
    assert device.options == {"noise": 0.01, "drift": 0.2, "seed": 0}


def test_a_latency_keeps_what_the_clock_said() -> None:
    latency = Latency.of(Statistic(minimum=1.9, median=2.0, p90=2.2, n=31, cv=0.01, drift=1.5))
    assert latency.raw_median == pytest.approx(3.0)


# ---------------------------------------------------------------- files


def test_a_file_of_the_manifest_is_found(finished: FinishedRun) -> None:
    manifest = Manifest.read(finished.deployment)
    artefact = checked_artefact(finished.deployment, manifest.artefact, precision=manifest.precision)
    assert artefact.path == finished.deployment / "model.onnx"
    assert artefact.size_bytes == artefact.path.stat().st_size == manifest.artefact.size_bytes


def test_a_missing_file_is_named(deployment: Path) -> None:
    manifest = Manifest.read(deployment)
    (deployment / "model.onnx").unlink()
    with pytest.raises(ArtefactError, match=r"lacks model\.onnx"):
        checked_artefact(deployment, manifest.artefact, precision="int8")


def test_one_changed_byte_is_noticed(deployment: Path) -> None:
    manifest = Manifest.read(deployment)
    data = bytearray((deployment / "model.onnx").read_bytes())
    data[len(data) // 2] ^= 1
    (deployment / "model.onnx").write_bytes(data)
    with pytest.raises(ArtefactError, match="is not the file that was verified"):
        checked_artefact(deployment, manifest.artefact, precision="int8")
