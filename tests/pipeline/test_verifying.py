"""A deployment against its promises, with the runtime alone."""

from __future__ import annotations

import json
import os
import shutil
from collections.abc import Callable, Mapping
from pathlib import Path
from typing import Any, ClassVar

import pytest

from hwnas import pipeline
from hwnas.allowed import Between
from hwnas.deployment import MANIFEST, SAMPLES, Parity
from hwnas.errors import ArtefactError, ConfigError, DataError, MeasurementError, VerificationError
from hwnas.pipeline.parity import WRONG_SHARE
from hwnas.pipeline.verifying import allowed_share, limit_problems, metrics_among
from hwnas.testing.fake import FakeRuntime
from hwnas.types import Device
from tests.runs import FinishedRun, ReadConsole, as_of_the_first_schema, hwnas, rewrite_manifest, rewrite_samples


@pytest.fixture(scope="module")
def without_torch(tmp_path_factory: pytest.TempPathFactory) -> dict[str, str]:
    """An environment in which importing torch, or what trains and searches, fails in every process."""
    folder = tmp_path_factory.mktemp("without_torch")
    for name in ("torch", "optuna", "sklearn"):
        (folder / name).mkdir()
        (folder / name / "__init__.py").write_text(f"raise ModuleNotFoundError({name!r}, name={name!r})\n")
    return {"PYTHONPATH": str(folder)}


def test_the_runtime_alone_is_enough(deployment: Path, without_torch: dict[str, str]) -> None:
    done = hwnas("verify", deployment, "--json", environment=without_torch)
    assert done.returncode == 0, done.stderr
    document = json.loads(done.stdout)
    assert document["title"] == f"{deployment}: verified"
    assert document["same_context"] is True
    assert document["latency_ms"]["median"] <= document["limits"]["latency_ms"]


def test_torch_is_really_missing_there(without_torch: dict[str, str], finished: FinishedRun) -> None:
    done = hwnas("train", finished.folder, environment=without_torch)
    assert done.returncode != 0
    assert "torch" in done.stderr


def test_a_promise_that_is_not_kept_exits_with_4(deployment: Path) -> None:
    rewrite_manifest(deployment, lambda m: m["limits"].update(latency_ms=0.9 * m["measured"]["latency_ms"]["median"]))
    done = hwnas("verify", deployment, "--json")
    assert done.returncode == 4
    document = json.loads(done.stdout)
    assert document["error"]["type"] == "VerificationError"
    assert "does not keep its promises: latency_ms is " in document["error"]["message"]


def test_the_result_says_what_was_promised_and_found(deployment: Path) -> None:
    result = pipeline.verify(deployment, console=ReadConsole()).to_json()
    assert set(result) >= {
        "title", "rows", "latency_ms", "looks", "doubts", "costs", "source", "max_abs_diff", "top1_agreement",
        "same_context", "limits",
    }  # fmt: skip
    assert result["top1_agreement"] == 1.0
    json.dumps(result, allow_nan=False)


def test_verifying_changes_nothing(deployment: Path) -> None:
    before = {p.name: p.read_bytes() for p in deployment.iterdir()}
    pipeline.verify(deployment, console=ReadConsole())
    assert {p.name: p.read_bytes() for p in deployment.iterdir()} == before


# ---------------------------------------------------------------- another machine, a slower one


def test_a_machine_that_is_slow_for_now_is_corrected_for(deployment: Path) -> None:
    """The drift anchor in the same rounds is as slow: it is drift."""
    usual = pipeline.verify(deployment, console=ReadConsole()).latency_ms
    rewrite_manifest(deployment, lambda m: m["device"]["options"].update(speed=0.5))
    console = ReadConsole()
    result = pipeline.verify(deployment, console=console)
    slow = result.latency_ms
    assert slow.drift == pytest.approx(2.0 * usual.drift, rel=0.1)
    assert slow.phase_drift == pytest.approx(2.0, rel=0.1)
    assert slow.minimum == pytest.approx(usual.minimum, rel=0.1)
    assert (result.looks, result.doubts) == (2, ("large_drift",))
    assert "the corrected latency may be wrong" in console.said


def test_a_machine_with_slow_phases_verifies_by_its_fast_ones(deployment: Path) -> None:
    usual = pipeline.verify(deployment, console=ReadConsole()).latency_ms
    phases = {"drift": 0.0, "slow_share": 0.7, "slow_period_s": 0.4}
    rewrite_manifest(deployment, lambda m: m["device"]["options"].update(phases))
    result = pipeline.verify(deployment, console=ReadConsole())
    assert result.latency_ms.minimum == pytest.approx(usual.minimum, rel=0.03)
    assert result.latency_ms.phase_drift == pytest.approx(1.0, abs=0.05)
    assert result.latency_ms.drift > 1.3


def test_a_slower_device_misses_the_limit(deployment: Path) -> None:
    rewrite_manifest(deployment, lambda m: m["device"]["options"].update(speed=0.5, hardware="a slower processor"))
    console = ReadConsole()
    with pytest.raises(VerificationError, match=r"latency_ms is .*, the limit "):
        pipeline.verify(deployment, console=console)
    assert "this is not the machine or runtime the deployment was made on" in console.said


def test_a_faster_device_keeps_it_by_its_own_clock(deployment: Path) -> None:
    rewrite_manifest(deployment, lambda m: m["device"]["options"].update(speed=2.0, hardware="a faster processor"))
    made = json.loads((deployment / MANIFEST).read_text())["measured"]["latency_ms"]["median"]
    result = pipeline.verify(deployment, console=ReadConsole())
    assert result.same_context is False
    assert result.latency_ms.drift == 1.0
    assert result.latency_ms.median == pytest.approx(made / 2, rel=0.25)  # its drift is up to 20 %


def test_all_that_fails_is_told(deployment: Path) -> None:
    rewrite_manifest(deployment, lambda m: m["limits"].update(latency_ms=1e-6, size_bytes=10))
    with pytest.raises(VerificationError, match=r"latency_ms is .*; size_bytes is .*, the limit 10"):
        pipeline.verify(deployment, console=ReadConsole())


# ---------------------------------------------------------------- damaged deployments


def cut(name: str) -> Callable[[Path], None]:
    def damage(folder: Path) -> None:
        data = (folder / name).read_bytes()
        (folder / name).write_bytes(data[: len(data) // 2])

    return damage


def remove(name: str) -> Callable[[Path], None]:
    return lambda folder: (folder / name).unlink()


@pytest.mark.parametrize("name", ["model.onnx", "reference.onnx", "samples.safetensors", "model.pt2", "manifest.json"])
@pytest.mark.parametrize("damage", [cut, remove])
def test_a_damaged_deployment_is_told_from_one_that_fails(
    damage: Callable[[str], Callable[[Path], None]], name: str, deployment: Path
) -> None:
    damage(name)(deployment)
    with pytest.raises(ArtefactError, match=name):
        pipeline.verify(deployment, console=ReadConsole())


def test_a_damaged_deployment_exits_with_2(deployment: Path, without_torch: dict[str, str]) -> None:
    cut("model.onnx")(deployment)
    done = hwnas("verify", deployment, environment=without_torch)
    assert done.returncode == 2
    assert "is not the file that was verified" in done.stderr


@pytest.mark.parametrize("name", ["model.onnx", "reference.onnx", "samples.safetensors", "model.pt2", "manifest.json"])
@pytest.mark.parametrize("where", [0.02, 0.3, 0.6, 0.97])
def test_one_flipped_bit_of_any_file_is_noticed(
    deployment: Path, contacted: list[Mapping[str, Any]], name: str, where: float
) -> None:
    path = deployment / name
    data = bytearray(path.read_bytes())
    data[int(where * len(data))] ^= 1
    path.write_bytes(data)
    with pytest.raises(ArtefactError, match=rf"{name} is (damaged|not the file that was verified).*export the network"):
        pipeline.verify(deployment, console=ReadConsole())
    assert contacted == []


@pytest.mark.parametrize(
    "change",
    [
        lambda m: m["limits"].update(latency_ms=9.9),
        lambda m: next(s for s in m["preprocessing"] if s["step"] == "normalise").update(mean=[0.9]),
        lambda m: m["classes"].__setitem__(0, m["classes"][1]),
        lambda m: m["measured"]["latency_ms"].update(fastest=1e-6),
    ],
)
def test_a_changed_limit_mean_class_or_time_of_a_manifest_is_noticed(
    deployment: Path, change: Callable[[dict[str, Any]], object]
) -> None:
    path = deployment / MANIFEST
    value = json.loads(path.read_text())
    change(value)
    path.write_text(json.dumps(value, indent=2) + "\n")
    with pytest.raises(ArtefactError, match=r"manifest\.json is damaged \(its content does not match its checksum"):
        pipeline.verify(deployment, console=ReadConsole())


def test_a_deployment_of_the_first_schema_is_verified_as_far_as_it_goes(deployment: Path) -> None:
    as_of_the_first_schema(deployment)
    console = ReadConsole()
    assert "verified" in pipeline.verify(deployment, console=console).shown.title
    assert "without checksums and without every step" in console.said


@pytest.mark.parametrize(
    ("step", "change"),
    [("pixels", {"height": 9}), ("normalise", {"mean": [0.31]}), ("normalise", {"std": [0.4]})],
)
def test_a_changed_step_of_the_preprocessing_fails(step: str, change: dict[str, object], deployment: Path) -> None:
    def changed(manifest: dict[str, Any]) -> None:
        next(s for s in manifest["preprocessing"] if s["step"] == step).update(change)

    rewrite_manifest(deployment, changed)
    with pytest.raises((VerificationError, DataError), match=r"preprocessing|the network was trained on"):
        pipeline.verify(deployment, console=ReadConsole())


def test_samples_of_another_shape_are_damage(deployment: Path) -> None:
    rewrite_samples(deployment, lambda stored: {**stored, "outputs": stored["outputs"][:-1].copy()})
    with pytest.raises(ArtefactError, match="holds other arrays than expected"):
        pipeline.verify(deployment, console=ReadConsole())


def test_outputs_that_torch_did_not_compute_fail(deployment: Path) -> None:
    rewrite_samples(deployment, lambda stored: {**stored, "outputs": -stored["outputs"]})
    with pytest.raises(VerificationError, match=r"predictions are others than torch's|outputs differ"):
        pipeline.verify(deployment, console=ReadConsole())


def test_a_folder_that_is_no_deployment_is_refused(tmp_path: Path) -> None:
    with pytest.raises(ArtefactError, match="is no deployment"):
        pipeline.verify(tmp_path, console=ReadConsole())


def test_a_deployment_may_be_moved(deployment: Path, tmp_path: Path) -> None:
    shutil.move(deployment, tmp_path / "elsewhere")
    assert "verified" in pipeline.verify(tmp_path / "elsewhere", console=ReadConsole()).shown.title


# ---------------------------------------------------------------- verdicts


def test_only_what_was_measured_can_miss_a_limit() -> None:
    limits = {"latency_ms": 2.0, "macs": 1.0}
    assert limit_problems({"latency_ms": 2.0, "size_bytes": 1e9}, limits) == []
    assert limit_problems({"latency_ms": 2.1}, limits) == ["latency_ms is 2.1, the limit 2"]


def test_a_margin_is_kept_in_latency_alone() -> None:
    limits = {"latency_ms": 2.0, "size_bytes": 100.0}
    assert limit_problems({"latency_ms": 1.9, "size_bytes": 100.0}, limits, margin=0.03) == []
    assert limit_problems({"latency_ms": 1.99}, limits, margin=0.03) == ["latency_ms is 1.99, the limit 2 less 3%"]


def test_a_limit_from_below_is_missed_by_what_is_less_and_its_margin_lies_above() -> None:
    limits = {"latency_ms": Between(at_least=1.0, at_most=2.0), "accuracy": Between(at_least=0.9)}
    assert limit_problems({"latency_ms": 1.5, "accuracy": 0.9}, limits, margin=0.03) == []
    assert limit_problems({"latency_ms": 1.01}, limits, margin=0.03) == [
        "latency_ms is 1.01, the least allowed 1 and 3%"
    ]
    assert limit_problems({"latency_ms": 2.1, "accuracy": 0.8}, limits) == [
        "latency_ms is 2.1, the limit 2",
        "accuracy is 0.8, the least allowed 0.9",
    ]


# ---------------------------------------------------------------- deployments from elsewhere

BOARD = {"transport": "ssh", "host": "pi@board", "python": "~/venv/bin/python"}


@pytest.fixture
def contacted(monkeypatch: pytest.MonkeyPatch) -> list[Mapping[str, Any]]:
    """The connections of the processes that were started; none is."""
    asked: list[Mapping[str, Any]] = []

    def worker(device: Device, *, tell: object) -> None:
        asked.append(device.connection)
        raise MeasurementError("started")

    monkeypatch.setattr("hwnas.pipeline.verifying.first_reachable", worker)
    return asked


def test_no_board_is_contacted_that_the_user_has_not_confirmed(
    deployment: Path, contacted: list[Mapping[str, Any]]
) -> None:
    rewrite_manifest(deployment, lambda m: m["device"].update(connection=BOARD))
    with pytest.raises(ConfigError, match=r"contact a board \(transport ssh, host pi@board.*--device.*--trust.*--here"):
        pipeline.verify(deployment, console=ReadConsole())
    assert contacted == []


def test_a_manifest_that_is_trusted_leads_to_its_board(deployment: Path, contacted: list[Mapping[str, Any]]) -> None:
    rewrite_manifest(deployment, lambda m: m["device"].update(connection=BOARD))
    with pytest.raises(MeasurementError, match="started"):
        pipeline.verify(deployment, console=ReadConsole(), trust=True)
    assert contacted == [BOARD]


def test_the_users_own_description_takes_the_place_of_the_manifests_connection(
    deployment: Path, contacted: list[Mapping[str, Any]], tmp_path: Path
) -> None:
    rewrite_manifest(deployment, lambda m: m["device"].update(connection=BOARD))
    own = tmp_path / "mine.toml"
    own.write_text('schema = 1\nruntime = "fake"\n[connection]\ntransport = "adb"\nserial = "S1"\n')
    with pytest.raises(MeasurementError, match="started"):
        pipeline.verify(deployment, console=ReadConsole(), device=str(own))
    assert contacted == [{"transport": "adb", "serial": "S1"}]


@pytest.mark.parametrize(
    ("key", "value", "words"),
    [
        ("connection", {"transport": "ssh", "host": "b", "jump": "$(touch x)"}, "jump is"),
        ("connection", {"transport": "ssh", "host": "-oProxyCommand=x"}, "host is"),
        ("connection", {"transport": "ssh", "host": "b", "config_file": "./evil"}, "config_file is"),
        ("connection", {"transport": "os.system"}, "unknown transport"),
        ("runtime", "os:system", "unknown runtime"),
        ("options", {"provider.backend_path": "./evil.so"}, "unknown option"),
        ("meter", "../evil", "unknown energy meter"),
        ("name", "../../x", "cannot name a device"),
    ],
)
def test_what_a_manifest_says_of_its_device_is_checked_even_if_it_is_trusted(
    deployment: Path, contacted: list[Mapping[str, Any]], key: str, value: object, words: str
) -> None:
    rewrite_manifest(deployment, lambda m: m["device"].update({key: value}))
    with pytest.raises(ConfigError, match=words):
        pipeline.verify(deployment, console=ReadConsole(), trust=True)
    assert contacted == []


@pytest.mark.parametrize("file", ["artefact", "reference"])
@pytest.mark.parametrize("how", ["absolute", "parent", "link", "through a linked folder", "device"])
def test_a_manifest_leads_to_no_file_outside_its_folder(
    deployment: Path, contacted: list[Mapping[str, Any]], tmp_path: Path, file: str, how: str
) -> None:
    name = json.loads((deployment / MANIFEST).read_text())[file]["path"]
    outside = tmp_path / "outside" / name
    outside.parent.mkdir()
    (deployment / name).rename(outside)
    (deployment / "folder").symlink_to(outside.parent)
    named = {
        "absolute": str(outside),
        "parent": f"../{outside.relative_to(deployment.parent)}",
        "link": name,
        "through a linked folder": f"folder/{name}",
        "device": "/dev/zero",
    }[how]
    if how == "link":
        (deployment / name).symlink_to(outside)
    rewrite_manifest(deployment, lambda m: m[file].update(path=named))
    with pytest.raises(ArtefactError, match=r"out of the folder|symbolic link|damaged"):
        pipeline.verify(deployment, console=ReadConsole())
    assert contacted == []


@pytest.mark.parametrize("name", [MANIFEST, SAMPLES])
def test_a_file_of_a_deployment_that_is_a_link_or_a_pipe_is_refused(
    deployment: Path, contacted: list[Mapping[str, Any]], tmp_path: Path, name: str
) -> None:
    (deployment / name).rename(tmp_path / name)
    (deployment / name).symlink_to(tmp_path / name)
    with pytest.raises(ArtefactError, match="symbolic link"):
        pipeline.verify(deployment, console=ReadConsole())
    (deployment / name).unlink()
    os.mkfifo(deployment / name)
    with pytest.raises(ArtefactError, match="no regular file"):
        pipeline.verify(deployment, console=ReadConsole())
    assert contacted == []


@pytest.mark.parametrize("text", ["[" * 100_000, '{"schema_number": ' + "9" * 5000 + "}", "[1]", "\udcff"])
def test_a_manifest_that_is_no_document_is_refused(deployment: Path, text: str) -> None:
    (deployment / MANIFEST).write_bytes(text.encode(errors="surrogateescape"))
    with pytest.raises(ArtefactError, match=r"damaged|schema|checksum"):
        pipeline.verify(deployment, console=ReadConsole())


def test_what_a_runtime_declares_is_a_metric_and_how_an_energy_was_found_is_none() -> None:
    class Telling(FakeRuntime):
        metrics: ClassVar[Mapping[str, str]] = {"flash_bytes": "the compiled file"}

    costs = {"energy_mj": 1.0, "energy_idle_w": 2.0, "memory_bytes": 3.0, "flash_bytes": 4.0}
    assert metrics_among(costs, Telling()) == {"energy_mj": 1.0, "memory_bytes": 3.0, "flash_bytes": 4.0}
    assert metrics_among(costs, FakeRuntime()) == {"energy_mj": 1.0, "memory_bytes": 3.0}


@pytest.mark.parametrize(
    ("same_context", "error_ratio", "share"),
    [
        (False, 1.0, 0.13),
        (True, 1.0, WRONG_SHARE),  # the same processor rounds as it did
        (False, 1.3, WRONG_SHARE),  # further from the floats than a rounding
        (False, None, WRONG_SHARE),  # a manifest that does not know
    ],
)
def test_more_predictions_may_be_others_where_another_machine_rounds_the_network(
    same_context: bool, error_ratio: float | None, share: float
) -> None:
    parity = Parity(max_abs_diff=1.0, top1_agreement=0.85, n=100, step=0.1, near_ties=2, error_ratio=error_ratio)
    assert allowed_share(parity, same_context=same_context) == pytest.approx(share)
