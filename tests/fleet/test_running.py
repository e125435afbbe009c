"""One supernet for several fake devices: what is shared, what a failure leaves, how a run goes on."""

from __future__ import annotations

import json
import shutil
from collections.abc import Mapping
from dataclasses import dataclass
from pathlib import Path
from typing import Any

import numpy as np
import pytest

from hwnas import fleet, pipeline
from hwnas.config import Config, load_config
from hwnas.deployment import Manifest, check_files
from hwnas.errors import CheckpointError, ConfigError, UnknownNameError
from hwnas.files import read_document
from hwnas.fleet.member import Member
from hwnas.fleet.record import FleetRecord
from hwnas.pipeline import deploying
from hwnas.pipeline.evaluating import EvaluationCounts
from hwnas.search import load_study
from hwnas.testing.run import describe_fake_device, tiny_config
from hwnas.types import Option
from hwnas.workspace import Workspace
from tests.runs import ONE_PRECISION, ReadConsole, contents
from tests.sealed import change_lines

DEVICES: Mapping[str, Mapping[str, Option]] = {
    "board": {"speed": 0.3},
    "broken": {"fail_on": "reference"},
    "server": {"speed": 4.0, "seed": 1},
}
BUDGETS = [{"latency_fraction": 0.8}, {"latency_fraction": 0.95}, {"latency_ms": 1e-5, "device": "server"}]


def fleet_config(folder: Path, changes: Mapping[str, object] | None = None) -> Config:
    """The run of all DEVICES with all BUDGETS, their descriptions beside it."""
    names = [describe_fake_device(folder, options, name=name) for name, options in DEVICES.items()]
    several = {"device.name": None, "device.names": names, "limits.latency_fraction": None, "budgets": BUDGETS}
    return tiny_config(folder / "run", {**ONE_PRECISION, **several, **(changes or {})})


@dataclass(frozen=True)
class FleetRun:
    """A run of a fleet, its result, and what was said."""

    config: Config
    result: fleet.FleetResult
    said: str

    @property
    def folder(self) -> Path:
        return Path(self.config.output.folder)

    def rows(self, device: str) -> list[dict[str, Any]]:
        return [row for row in self.result.fleet["rows"] if row["device"] == device]


def run(config: Config) -> FleetRun:
    console = ReadConsole()
    result = fleet.run_all(config, console=console)
    return FleetRun(config=config, result=result, said=console.said)


@pytest.fixture(scope="module")
def made(tmp_path_factory: pytest.TempPathFactory) -> FleetRun:
    """A finished run, not to be changed."""
    return run(fleet_config(tmp_path_factory.mktemp("fleet")))


@pytest.fixture(autouse=True)
def no_figures(made: FleetRun, monkeypatch: pytest.MonkeyPatch) -> None:
    """Pages without pictures, from `made` on, which has them: matplotlib takes longer than all else tried here."""
    for page in ("hwnas.report.page", "hwnas.report.fleet"):
        monkeypatch.setattr(f"{page}.inline_svg", lambda figure, *, name, label: f"<svg id='{name}'/>")


@pytest.fixture
def config(made: FleetRun, tmp_path: Path) -> Config:
    """The configuration of a copy of the finished run."""
    shutil.copytree(made.folder, tmp_path / "run")
    copied = fleet_config(tmp_path)
    (tmp_path / "run" / "config.toml").write_text(copied.to_toml())
    return copied


@pytest.fixture
def profiled(config: Config) -> Config:
    """The configuration of a run that is trained and profiled, and no more."""
    folder = Path(config.output.folder)
    for path in (folder / "search", folder / "deployments"):
        shutil.rmtree(path)
    (folder / "fleet.json").unlink()
    return config


def deployments(folder: Path) -> dict[str, bytes]:
    return contents(folder / "deployments")


# ---------------------------------------------------------------- what a run leaves


def test_every_device_has_a_row_for_each_of_its_budgets(made: FleetRun) -> None:
    found = [(row["device"], tuple(row["budget"].items())) for row in made.result.fleet["rows"]]
    everywhere = [(("latency_fraction", 0.8),), (("latency_fraction", 0.95),)]
    assert found == [(d, b) for d in DEVICES for b in everywhere] + [("server", (("latency_ms", 1e-5),))]
    assert len(made.result.shown.rows) == len(found)
    assert all(len(row) == len(made.result.shown.columns) for row in made.result.shown.rows)


@pytest.mark.parametrize("device", ["board", "server"])
def test_a_deployment_keeps_its_budget_on_its_device(device: str, made: FleetRun) -> None:
    for row in made.rows(device)[:2]:
        manifest = Manifest.read(made.folder / row["deployment"])
        assert manifest.device.name == device
        assert row["latency_ms"] == manifest.measured.latency_ms.minimum <= row["limits"]["latency_ms"]
        assert row["accuracy"] == manifest.accuracy.test_runtime
        assert row["size_bytes"] == manifest.artefact.size_bytes
        assert (made.folder / row["deployment"] / "report.html").is_file()


def test_a_fraction_is_one_of_each_devices_own_largest_network(made: FleetRun) -> None:
    board, server = (made.rows(d)[0]["limits"]["latency_ms"] for d in ("board", "server"))
    assert board / server == pytest.approx(4.0 / 0.3, rel=0.05)


def test_a_budget_nobody_can_keep_is_a_row_with_the_smallest_reachable_value(made: FleetRun) -> None:
    row = made.rows("server")[2]
    assert not row["deployment"]
    assert row["exit_status"] == 3
    assert row["reachable"]["latency_ms"] > row["limits"]["latency_ms"] == 1e-5
    assert "smallest" in row["problem"]


def test_a_device_that_fails_says_why_and_the_others_go_on(made: FleetRun) -> None:
    assert all("refuses fake-fp32.reference" in row["problem"] for row in made.rows("broken"))
    assert all(row["deployment"] for row in [*made.rows("board"), *made.rows("server")[:2]])
    assert "warning: broken: the simulated runtime refuses" in made.said
    assert sum(note.startswith("broken: the simulated runtime refuses") for note in made.result.shown.notes) == 1


def test_the_exit_status_is_that_of_the_first_failure(made: FleetRun) -> None:
    assert made.result.exit_status == made.rows("broken")[0]["exit_status"] == 1


def test_every_device_has_tables_and_a_study_of_its_own(made: FleetRun) -> None:
    studies = {d: load_study(made.folder / "search" / d / "study.safetensors") for d in ("board", "server")}
    for device, study in studies.items():
        assert (made.folder / "latency_tables" / device / "fake-fp32.jsonl").is_file()
        assert len(study) == made.config.search.n_trials
        assert study.limits["latency_ms"] == made.rows(device)[1]["limits"]["latency_ms"]  # the loosest
    assert not (made.folder / "search" / "study.safetensors").exists()


def test_the_whole_configuration_lies_beside_the_results(made: FleetRun) -> None:
    assert load_config(made.folder) == made.config


def test_the_record_is_what_the_command_gives(made: FleetRun) -> None:
    assert read_document(made.folder / "fleet.json") == made.result.fleet


def test_picture_and_page_are_written_and_lead_to_the_deployments(made: FleetRun) -> None:
    assert (made.folder / "fleet.png").read_bytes().startswith(b"\x89PNG")
    assert b"<svg" in (made.folder / "fleet.svg").read_bytes()
    page = (made.folder / "fleet.html").read_text()
    for row in made.result.fleet["rows"]:
        assert not row["deployment"] or f'href="{row["deployment"]}/report.html"' in page


# ---------------------------------------------------------------- what is shared


def test_accuracies_are_measured_once_for_all_devices(profiled: Config, evaluated: list[object]) -> None:
    made = run(profiled)
    devices = {d["name"]: d for d in made.result.fleet["devices"]}
    n = made.config.search.n_trials
    assert devices["board"]["measured"] == n
    assert devices["server"]["reused"] > 0
    assert devices["server"]["measured"] + devices["server"]["reused"] == n
    assert len(evaluated) == n + devices["server"]["measured"] == made.result.evaluations.measured
    assert made.result.evaluations.reused == devices["server"]["reused"]


def test_networks_that_are_shared_have_one_accuracy(made: FleetRun) -> None:
    by_encoding: dict[bytes, set[float]] = {}
    for device in ("board", "server"):
        study = load_study(made.folder / "search" / device / "study.safetensors")
        for encoding, accuracy in zip(study.encodings, study.values["accuracy"], strict=True):
            by_encoding.setdefault(encoding.tobytes(), set()).add(float(accuracy))
    assert all(len(accuracies) == 1 for accuracies in by_encoding.values())


def test_a_fleet_of_one_device_finds_what_a_run_for_it_finds(profiled: Config, tmp_path: Path) -> None:
    board = profiled.device.all[0]
    shutil.copytree(profiled.output.folder, tmp_path / "alone")
    limit = {"limits.latency_fraction": 0.8, "budgets": None}
    several = profiled.replaced({**limit, "device.names": [board]})
    alone = several.replaced({"device.names": None, "device.name": board, "output.folder": str(tmp_path / "alone")})
    (row,) = run(several).rows("board")
    single = pipeline.run_all(alone, console=ReadConsole()).manifest
    one, other = load_study(Workspace(alone).study), load_study(Workspace(several.part(board)).study)
    assert np.array_equal(one.encodings, other.encodings)
    assert one.values["accuracy"].tolist() == other.values["accuracy"].tolist()
    assert Manifest.read(Path(several.output.folder) / row["deployment"]).architecture == single.architecture


def test_several_budgets_of_one_device_leave_its_study_where_it_was(profiled: Config) -> None:
    changes = {"device.names": None, "device.name": profiled.device.all[0], "budgets": BUDGETS[:2]}
    made = run(profiled.replaced(changes))
    assert made.result.exit_status == 0
    assert (made.folder / "search" / "study.safetensors").is_file()
    assert len(made.rows("board")) == 2


# ---------------------------------------------------------------- going on


def test_the_tables_of_each_device_are_read_once_however_many_budgets_it_has(
    config: Config, table_readings: list[object]
) -> None:
    shutil.rmtree(Path(config.output.folder) / "deployments")
    fleet.run_all(config, console=ReadConsole())
    assert len(table_readings) == 2  # of three: one cannot be measured


def test_a_second_run_evaluates_and_deploys_nothing_again(
    made: FleetRun, config: Config, evaluated: list[object]
) -> None:
    before = deployments(Path(config.output.folder))
    again = run(config)
    assert not evaluated
    assert again.result.evaluations == EvaluationCounts()
    assert again.result.fleet["devices"] == made.result.fleet["devices"]
    assert deployments(Path(config.output.folder)) == before
    assert again.said.count("is deployed already") == 4
    assert again.result.exit_status == 1  # what could not be done still cannot


def test_a_run_that_was_interrupted_between_devices_goes_on(
    made: FleetRun, profiled: Config, monkeypatch: pytest.MonkeyPatch
) -> None:
    config = profiled
    export = deploying.export

    def interrupted(config: Config, **more: Any) -> pipeline.ExportResult:
        if config.device.all[0].endswith("server.toml"):
            raise KeyboardInterrupt
        return export(config, **more)

    with monkeypatch.context() as patch:
        patch.setattr(deploying, "export", interrupted)
        with pytest.raises(KeyboardInterrupt):
            run(config)
    first = deployments(Path(config.output.folder))
    assert first
    assert all(name.startswith("board_") for name in first)
    resumed = run(config)
    assert resumed.result.fleet["devices"] == made.result.fleet["devices"]
    after = deployments(Path(config.output.folder))
    assert {name: after[name] for name in first} == first
    for row, complete in zip(resumed.result.fleet["rows"], made.result.fleet["rows"], strict=True):
        assert (row["device"], row["trial"], row["accuracy"]) == (
            complete["device"],
            complete["trial"],
            complete["accuracy"],
        )


def test_a_device_that_was_mended_joins_the_others(config: Config, tmp_path: Path) -> None:
    before = deployments(Path(config.output.folder))
    describe_fake_device(tmp_path, {}, name="broken")
    again = run(config)
    assert all(row["deployment"] and not row["problem"] for row in again.rows("broken"))
    assert again.result.exit_status == 3  # of the budget that cannot be kept
    after = deployments(Path(config.output.folder))
    assert {name: after[name] for name in before} == before


def test_a_device_that_is_away_keeps_the_deployments_it_has(config: Config, tmp_path: Path) -> None:
    before = deployments(Path(config.output.folder))
    table = tmp_path / "run" / "latency_tables" / "board" / "fake-fp32.jsonl"
    whole = table.read_bytes()
    change_lines(table, lambda v: {**v, "hardware": "another"} if v["kind"] == "context" else v)
    away = run(config)
    assert all(row["deployment"] and "another" in row["problem"] for row in away.rows("board"))
    assert away.result.exit_status == 2
    assert "from before" in str(away.result.shown.rows)
    table.write_bytes(whole)
    back = run(config)
    assert not any(row["problem"] or row["exit_status"] for row in back.rows("board"))
    assert deployments(Path(config.output.folder)) == before


@pytest.mark.parametrize("name", ["model.onnx", "reference.onnx", "samples.safetensors", "manifest.json"])
@pytest.mark.parametrize("damage", ["deleted", "one bit"])
def test_a_row_is_not_done_while_its_deployment_is_not_whole(name: str, damage: str, config: Config) -> None:
    folder = Path(config.output.folder)
    member = Member(config, config.device.all[0], console=ReadConsole())
    row = next(r for r in FleetRecord(config).rows if r.device == member.name and r.deployment)
    assert member.is_deployed(row, row.fingerprint)
    path = folder / row.deployment / name
    if damage == "deleted":
        path.unlink()
    else:
        data = bytearray(path.read_bytes())
        data[len(data) // 2] ^= 1
        path.write_bytes(data)
    assert not member.is_deployed(row, row.fingerprint)


def test_a_run_makes_a_deployment_again_that_lacks_a_file(config: Config) -> None:
    folder = Path(config.output.folder)
    row = next(r for r in FleetRecord(config).rows if r.device == "board" and r.deployment)
    (folder / row.deployment / "samples.safetensors").unlink()
    again = run(config)
    check_files(folder / row.deployment, Manifest.read(folder / row.deployment))
    assert "samples.safetensors" in again.said


def test_another_way_of_deploying_deploys_again(config: Config) -> None:
    again = run(config.replaced({"deploy.test_samples": 50}))
    assert [row["n_test"] for row in again.rows("board")] == [50, 50]


def test_a_deployment_whose_file_was_changed_is_made_again(config: Config, made: FleetRun) -> None:
    folder = Path(config.output.folder) / made.rows("board")[0]["deployment"]
    (folder / "model.onnx").write_bytes(b"")
    run(config)
    assert (folder / "model.onnx").stat().st_size == made.rows("board")[0]["size_bytes"]


def test_one_device_is_worked_on_and_the_others_rows_stay(config: Config, made: FleetRun) -> None:
    config = config.replaced({"deploy.test_samples": 50})
    one = run(config.only("server"))
    assert [row["n_test"] for row in one.rows("server")] == [50, 50, 0]
    assert [row["n_test"] for row in one.rows("board")] == [row["n_test"] for row in made.rows("board")]
    assert {row[0] for row in one.result.shown.rows} == {"server"}
    assert one.result.exit_status == 3
    assert load_config(config.output.folder).device == config.device


def test_a_budget_that_is_no_longer_asked_for_leaves_the_table(config: Config) -> None:
    fewer = run(config.replaced({"budgets": BUDGETS[:1]}))
    assert [len(fewer.rows(d)) for d in DEVICES] == [1, 1, 1]


# ---------------------------------------------------------------- stages


def test_profiling_gives_a_row_for_each_device(config: Config) -> None:
    result = fleet.profile(config, console=ReadConsole())
    assert [row[0] for row in result.shown.rows] == list(DEVICES)
    assert result.exit_status == 1
    assert [row[-1] == "failed" for row in result.shown.rows] == [False, True, False]
    assert result.shown.notes[0].startswith("broken: the simulated runtime refuses")
    assert result.shown.notes[1].startswith("server, latency at most")


def test_searching_gives_the_studies_by_device(config: Config) -> None:
    result = fleet.search(config, console=ReadConsole())
    assert set(result.studies) == {"board", "server"}
    assert [row[0] for row in result.shown.rows] == list(DEVICES)


def test_exporting_without_a_study_says_what_makes_one(profiled: Config) -> None:
    result = fleet.export(profiled, console=ReadConsole())
    assert result.exit_status == 2
    assert "`hwnas search` writes one" in str(result.shown.notes)


def test_exporting_without_a_supernet_ends_with_what_makes_one(config: Config) -> None:
    Workspace(config).checkpoint.unlink()
    with pytest.raises(CheckpointError, match="hwnas train"):
        fleet.export(config, console=ReadConsole())


def test_training_is_the_same_for_one_device_or_several(config: Config) -> None:
    checkpoint = Workspace(config).checkpoint
    before = checkpoint.read_bytes()
    checkpoint.unlink()
    pipeline.train(config, console=ReadConsole())
    assert checkpoint.read_bytes() == before


def test_other_limits_are_exported_for_every_device_beside_the_configured(config: Config, made: FleetRun) -> None:
    result = fleet.export(config.with_limits({"latency_fraction": 0.9}), console=ReadConsole())
    assert [row[0] for row in result.shown.rows] == list(DEVICES)
    kept = json.loads((Path(config.output.folder) / "fleet.json").read_text())["rows"]
    assert len(kept) == len(made.result.fleet["rows"]) + len(DEVICES)


def test_reporting_writes_all_pages_again(config: Config, made: FleetRun) -> None:
    folder = Path(config.output.folder)
    pages = [folder / "fleet.html", *folder.glob("deployments/*/report.html")]
    assert len(pages) == 5
    for page in pages:
        page.unlink()
    fleet.report(config, console=ReadConsole())
    assert all(page.is_file() for page in pages)


def test_a_report_on_nothing_says_what_makes_something(tmp_path: Path) -> None:
    with pytest.raises(ConfigError, match="hwnas run"):
        fleet.report(fleet_config(tmp_path), console=ReadConsole())


# ---------------------------------------------------------------- what ends the run


def test_a_device_nobody_described_is_wrong_input_before_any_work(tmp_path: Path) -> None:
    config = fleet_config(tmp_path).replaced({"device.names": ["fake", "phone"], "budgets": None})
    with pytest.raises(UnknownNameError, match="'phone'"):
        fleet.run_all(config, console=ReadConsole())
    assert not (tmp_path / "run").exists()


def test_the_supernet_of_another_run_ends_it_for_all(config: Config) -> None:
    before = contents(Path(config.output.folder))
    with pytest.raises(CheckpointError, match="belongs to another run"):
        fleet.run_all(config.replaced({"train.steps": 11}), console=ReadConsole())
    assert contents(Path(config.output.folder)) == before


def test_nothing_is_trained_for_budgets_nobody_can_keep(profiled: Config) -> None:
    checkpoint = Workspace(profiled).checkpoint
    checkpoint.unlink()
    made = run(profiled.replaced({"budgets": [{"latency_ms": 1e-5}]}))
    assert not checkpoint.exists()
    assert [row["exit_status"] for row in made.result.fleet["rows"]] == [3, 1, 3]


def test_a_damaged_record_says_what_to_do(config: Config) -> None:
    record = Path(config.output.folder) / "fleet.json"
    whole = record.read_text()
    for damaged in ("{", whole.replace('"exit_status": 3', '"exit_status": 0'), whole.replace('"sha256"', '"sha255"')):
        assert damaged != whole
        record.write_text(damaged)
        with pytest.raises(ConfigError, match=r"fleet\.json is damaged .*delete it"):
            fleet.report(config, console=ReadConsole())


def test_a_record_without_a_checksum_is_read(config: Config) -> None:
    record = Path(config.output.folder) / "fleet.json"
    values = read_document(record)
    record.write_text(json.dumps({**values, "schema": 1}))
    assert FleetRecord(config).to_json()["rows"] == values["rows"]
