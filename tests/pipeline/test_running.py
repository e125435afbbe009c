"""The whole way: once by the command line, then going on from what is there."""

from __future__ import annotations

import json
import shutil
from collections.abc import Sequence
from pathlib import Path
from typing import Any

import pytest

from hwnas import pipeline
from hwnas.config import Config, load_config
from hwnas.deployment import Manifest
from hwnas.errors import CheckpointError, InfeasibleError
from hwnas.files import read_document
from hwnas.testing.run import tiny_config
from tests.runs import ONE_PRECISION, FinishedRun, ReadConsole, contents

STAGES = ("profile", "train", "search", "export")
# stage -> what it leaves in the folder
MADE_BY = {
    "profile": ("latency_tables",),
    "train": ("checkpoint.safetensors",),
    "search": ("search",),
    "export": ("deployments", "report.html"),
}


def remove_what_follows(stage: str, folder: Path) -> None:
    for later in STAGES[STAGES.index(stage) + 1 :]:
        for name in MADE_BY[later]:
            path = folder / name
            shutil.rmtree(path) if path.is_dir() else path.unlink()


# ---------------------------------------------------------------- the command line


def test_the_command_prints_one_json_document(finished: FinishedRun) -> None:
    document = json.loads(finished.stdout)
    assert document["title"].startswith("Deployed: ")
    assert set(document["seconds"]) == set(STAGES)


def test_progress_and_the_tables_of_stages_go_to_standard_error(finished: FinishedRun) -> None:
    for said in ("-- profile", "largest network, fp32", "blocks, int8", "train: 10/10", "Front: ", "candidate 1"):
        assert said in finished.stderr


def test_the_deployment_is_complete(finished: FinishedRun) -> None:
    names = {p.name for p in finished.deployment.iterdir()}
    made = {"model.onnx", "model.pt2", "reference.onnx", "samples.safetensors", "manifest.json", "report.html"}
    assert names == made


def test_the_document_holds_the_manifest(finished: FinishedRun) -> None:
    assert finished.document["manifest"] == read_document(finished.deployment / "manifest.json")


def test_the_configuration_that_was_used_lies_beside_the_results(finished: FinishedRun) -> None:
    assert load_config(finished.folder) == finished.given


def test_the_deployed_network_keeps_its_limit_when_measured(finished: FinishedRun) -> None:
    manifest = Manifest.read(finished.deployment)
    assert manifest.measured.latency_ms.minimum <= manifest.limits["latency_ms"]


def test_prediction_and_measurement_agree(finished: FinishedRun) -> None:
    manifest = Manifest.read(finished.deployment)
    assert manifest.measured.latency_ms.minimum == pytest.approx(manifest.predicted["latency_ms"], rel=0.1)
    assert manifest.artefact.size_bytes == pytest.approx(manifest.predicted["size_bytes"], rel=0.1)


def test_the_runtime_computes_what_torch_does(finished: FinishedRun) -> None:
    manifest = Manifest.read(finished.deployment)
    assert manifest.parity.n == manifest.accuracy.n_test == finished.given.deploy.test_samples
    assert manifest.parity.top1_agreement >= 0.995
    assert manifest.accuracy.test_runtime == pytest.approx(manifest.accuracy.test_torch, abs=0.01)


def test_a_latency_fraction_is_one_of_the_largest_fp32_network(finished: FinishedRun, config: Config) -> None:
    largest = pipeline.profile(config, console=ReadConsole()).largest_ms
    limit = Manifest.read(finished.deployment).limits["latency_ms"]
    assert finished.given.limits.latency_fraction == pytest.approx(limit / largest)


# ---------------------------------------------------------------- going on


def test_a_second_run_measures_trains_and_evaluates_nothing_again(config: Config, evaluated: list[object]) -> None:
    before = contents(Path(config.output.folder))
    pipeline.run_all(config, console=ReadConsole())
    after = contents(Path(config.output.folder))
    assert not evaluated
    for name, content in before.items():
        if name == "search/journal.log":
            assert after[name].startswith(content)  # Optuna notes that it was opened
        elif not name.startswith(("deployments", "report")):  # made again: they hold dates and times
            assert after[name] == content, name


def test_all_stages_of_a_run_share_what_was_read_of_the_tables_once(
    config: Config, table_readings: list[object]
) -> None:
    pipeline.run_all(config, console=ReadConsole())
    assert len(table_readings) == 1


@pytest.mark.parametrize("stage", STAGES[:-1])
def test_a_run_that_ended_after_a_stage_comes_to_the_same_network(
    stage: str, finished: FinishedRun, config: Config
) -> None:
    remove_what_follows(stage, Path(config.output.folder))
    result = pipeline.run_all(config, console=ReadConsole())
    first, second = Manifest.read(finished.deployment), result.manifest
    tables = [contents(folder / "latency_tables") for folder in (finished.folder, Path(config.output.folder))]
    assert tables[0] == tables[1]  # they were complete
    assert second.architecture == first.architecture
    assert second.artefact == first.artefact
    assert second.accuracy == first.accuracy


def test_an_unreachable_limit_is_told_before_the_training(tmp_path: Path) -> None:
    config = tiny_config(tmp_path, {**ONE_PRECISION, "limits.latency_fraction": 0.01})
    console = ReadConsole()
    with pytest.raises(InfeasibleError, match="smallest") as caught:
        pipeline.run_all(config, console=console)
    assert caught.value.metric == "latency_ms"
    assert caught.value.reachable is not None
    assert caught.value.limit < caught.value.reachable
    assert not (tmp_path / "checkpoint.safetensors").exists()
    assert "-- train" not in console.said


def test_the_checkpoint_of_another_run_is_refused_before_anything_is_written(config: Config) -> None:
    before = contents(Path(config.output.folder))
    with pytest.raises(CheckpointError, match=r"belongs to another run.*name another output folder"):
        pipeline.run_all(config.replaced({"train.steps": 11}), console=ReadConsole())
    assert contents(Path(config.output.folder)) == before


# ---------------------------------------------------------------- results


@pytest.mark.parametrize(
    ("stage", "keys"),
    [
        ("profile", {"correction", "largest_ms", "largest_precision", "latency_ms_bounds", "seconds", "tables"}),
        ("train", {"checkpoint", "data", "steps", "seconds"}),
        ("search", {"columns", "notes", "study", "limits", "n_trials", "evaluations", "seconds", "front"}),
        ("export", {"notes", "deployment", "manifest"}),
    ],
)
def test_a_stage_gives_a_table_and_what_programs_need(stage: str, keys: Sequence[str], config: Config) -> None:
    result: dict[str, Any] = getattr(pipeline, stage)(config, console=ReadConsole()).to_json()
    assert set(result) >= {"title", "rows", *keys}
    width = len(result["columns"]) if "columns" in result else 2
    assert result["rows"]
    assert all(len(row) == width for row in result["rows"])
    json.dumps(result, allow_nan=False)


def test_a_report_names_its_files(config: Config) -> None:
    result = pipeline.report(config, console=ReadConsole())
    assert set(result.to_json()) >= {"files", "notes"}
    assert result.files
    assert all(path.is_file() for path in result.files.values())
