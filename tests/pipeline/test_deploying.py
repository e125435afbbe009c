"""Exporting: the best candidate that keeps its limits when measured, or an error that says why there is none."""

from __future__ import annotations

import dataclasses
import re
from collections.abc import Callable, Sequence
from pathlib import Path
from types import SimpleNamespace
from typing import Any

import numpy as np
import pytest
import torch

from hwnas import pipeline
from hwnas.accuracy import SubnetEvaluator
from hwnas.config import Config, load_config
from hwnas.deployment import PROGRAM, Manifest, PrecisionSpeedup, SlowBlock
from hwnas.errors import (
    ArtefactError,
    ConfigError,
    ExportError,
    InfeasibleError,
    StudyError,
    TableContextError,
    VerificationError,
)
from hwnas.measure import Worker
from hwnas.measure.connection import boards_of
from hwnas.pipeline import _candidate, _tuning, deploying, verdict
from hwnas.pipeline._candidate import Bench, Candidate
from hwnas.pipeline._deployment_summary import speedup_rows
from hwnas.pipeline._manifest import _describe_device
from hwnas.pipeline.workers import make_evaluator
from hwnas.query import query
from hwnas.search import Study, load_study
from hwnas.supernet.quantization import quantize
from hwnas.tasks import Score
from hwnas.tasks.classification import binomial_error
from hwnas.testing.exporter_suite import sample_blocks, sample_images, sample_network
from hwnas.testing.fake import FakeRuntime, fake_device
from hwnas.testing.run import describe_fake_device
from hwnas.types import Array, Artefact, Device, Option, Statistic
from hwnas.workspace import Workspace
from tests.runs import FinishedRun, ReadConsole, contents

Measure = Callable[..., Statistic]


@pytest.fixture(autouse=True)
def no_page(monkeypatch: pytest.MonkeyPatch) -> None:
    """The page is tested elsewhere, and takes as long to draw as all the rest."""
    monkeypatch.setattr(deploying, "write_deployment_report", lambda *_, **__: None)


@pytest.fixture
def slow(monkeypatch: pytest.MonkeyPatch) -> Callable[[Sequence[int]], None]:
    """Lets the measurements with these numbers, from 0, come out at twice what was predicted.

    Each is doubted, so the one after it is of the same network.
    """

    def install(which: Sequence[int]) -> None:
        measure: Measure = verdict.measure_latency
        monkeypatch.setattr(verdict, "_PAUSE_S", 0.0)
        calls = iter(range(1000))

        def measure_or_exaggerate(*arguments: object, **options: object) -> Statistic:
            statistic = measure(*arguments, **options)
            return dataclasses.replace(statistic, minimum=2 * statistic.minimum) if next(calls) in which else statistic

        monkeypatch.setattr(verdict, "measure_latency", measure_or_exaggerate)

    return install


def best_trials(config: Config, finished: FinishedRun) -> list[int]:
    limits = finished.document["manifest"]["limits"]
    return [a.number for a in query(load_study(Workspace(config).study), limits=limits, top=3)]


def study_images(study: Study) -> int:
    """How many images its accuracies were measured on, as it says itself."""
    return int(study.sources["accuracy"].split()[2])


# ---------------------------------------------------------------- candidates


def test_the_cheapest_network_within_one_standard_error_of_the_best_is_deployed(
    finished: FinishedRun, config: Config
) -> None:
    manifest = Manifest.read(finished.deployment)
    study = load_study(Workspace(config).study)
    assert manifest.provenance["trial"] == best_trials(config, finished)[0]
    best = max(study.values["accuracy"])
    within = study.keeps(manifest.limits) & (
        study.values["accuracy"] >= best - binomial_error(best, study_images(study)) - 1e-9
    )
    assert manifest.predicted["latency_ms"] == min(study.values["latency_ms"][within])
    assert f"trial {manifest.provenance['trial']} has " in manifest.provenance["chosen"]
    assert f"Chosen: {manifest.provenance['chosen']}." in finished.document["notes"]
    assert manifest.accuracy.validation_torch == pytest.approx(manifest.predicted["accuracy"], abs=0.15)
    assert not manifest.rejected


def test_without_tolerance_the_most_accurate_network_is_deployed(config: Config) -> None:
    study = load_study(Workspace(config).study)
    result = pipeline.export(config.replaced({"deploy.tolerance": 0.0}), console=ReadConsole())
    # one that missed its limit when it was measured is no answer, however accurate
    missed = [rejected["trial"] for rejected in result.manifest.rejected]
    within = study.keeps(result.manifest.limits) & ~np.isin(study.numbers, missed)
    assert result.manifest.predicted["accuracy"] == max(study.values["accuracy"][within])


def test_a_candidate_that_misses_its_limit_when_measured_is_told_and_the_next_is_tried(
    config: Config, finished: FinishedRun, slow: Callable[[Sequence[int]], None]
) -> None:
    slow([0, 1])
    console = ReadConsole()
    result = pipeline.export(config, console=console)
    first, second, _ = best_trials(config, finished)
    manifest = Manifest.read(result.deployment)
    assert manifest.provenance["trial"] == second
    assert [r["trial"] for r in manifest.rejected] == [first]
    assert manifest.rejected[0]["reason"].startswith("latency_ms is ")
    assert "above its prediction" in manifest.rejected[0]["reason"]
    assert (manifest.measured.looks, manifest.measured.doubts, manifest.latency_warnings()) == (1, (), ())
    assert "rejected when measured: latency_ms is " in console.said
    assert ("candidates rejected before", 1) in result.shown.rows


def test_the_file_that_would_ship_is_measured_too(
    config: Config, finished: FinishedRun, slow: Callable[[Sequence[int]], None]
) -> None:
    slow([1, 2])  # the first candidate is fine before it is fine-tuned, and misses its limit in the end
    result = pipeline.export(config, console=ReadConsole())
    assert [r["trial"] for r in result.manifest.rejected] == best_trials(config, finished)[:1]


@pytest.mark.parametrize(("shares", "rejected"), [((0.96, 0.99), 0), ((0.99, 0.96), 1), ((0.96, 1.01), 1)])
def test_what_repeating_may_differ_by_is_asked_for_once(
    config: Config,
    finished: FinishedRun,
    monkeypatch: pytest.MonkeyPatch,
    shares: tuple[float, float],
    rejected: int,
) -> None:
    """What was trained for an hour since it kept its limit with room is not lost to noise within the limit."""
    limit, asked = finished.document["manifest"]["limits"]["latency_ms"], iter(shares)

    def reach(*arguments: object, **options: object) -> verdict.Verdict:
        found: verdict.Verdict = verdict.reach_verdict(*arguments, **options)  # type: ignore[arg-type]
        share = next(asked, 0.5)
        return dataclasses.replace(found, statistic=dataclasses.replace(found.statistic, minimum=share * limit))

    monkeypatch.setattr(_candidate, "reach_verdict", reach)
    result = pipeline.export(config, console=ReadConsole())
    assert len(result.manifest.rejected) == rejected


def test_one_time_that_is_far_from_its_prediction_rejects_nobody(
    config: Config, finished: FinishedRun, slow: Callable[[Sequence[int]], None]
) -> None:
    slow([0])
    result = pipeline.export(config, console=ReadConsole())
    assert result.manifest.rejected == ()
    assert result.manifest.provenance["trial"] == best_trials(config, finished)[0]


def test_a_deployment_whose_time_stays_far_from_its_prediction_says_so(
    config: Config, slow: Callable[[Sequence[int]], None]
) -> None:
    slow(range(1000))
    console = ReadConsole()
    result = pipeline.export(config.with_limits({"latency_ms": 1e3}), console=console)
    manifest = Manifest.read(Path(result.deployment))
    assert (manifest.measured.looks, manifest.measured.doubts) == (2, ("far_from_prediction",))
    assert manifest.latency_warnings()[0].replace("\u00a0", " ") in console.said


def test_no_more_candidates_are_tried_than_allowed(config: Config, slow: Callable[[Sequence[int]], None]) -> None:
    slow(range(1000))
    before = contents(Path(config.output.folder))
    console = ReadConsole()
    with pytest.raises(
        InfeasibleError, match=r"none of the 2 best .* when measured: latency_ms is .*deploy.candidates"
    ):
        pipeline.export(config.replaced({"deploy.candidates": 2}), console=console)
    assert "candidate 2 of at most 2" in console.said
    assert "candidate 3" not in console.said
    assert contents(Path(config.output.folder)) == before


# ---------------------------------------------------------------- limits


def test_one_study_answers_other_limits(config: Config, finished: FinishedRun) -> None:
    study = load_study(Workspace(config).study)
    limit = float(np.median(study.upper["latency_ms"])) * 1.05
    result = pipeline.export(config.with_limits({"latency_ms": limit, "size_bytes": 1e6}), console=ReadConsole())
    manifest = Manifest.read(result.deployment)
    assert manifest.limits == {"latency_ms": limit, "size_bytes": 1e6}
    assert manifest.measured.latency_ms.minimum <= limit
    assert len(list((Path(config.output.folder) / "deployments").iterdir())) == 2


def test_limits_that_no_network_of_the_study_keeps_are_refused(config: Config) -> None:
    with pytest.raises(InfeasibleError, match="study") as caught:
        pipeline.export(config.with_limits({"size_bytes": 100}), console=ReadConsole())
    assert caught.value.reachable is not None
    assert caught.value.reachable > 100


def test_without_a_study_the_command_that_makes_one_is_named(config: Config) -> None:
    Workspace(config).study.unlink()
    with pytest.raises(StudyError, match="hwnas search"):
        pipeline.export(config, console=ReadConsole())


def test_a_table_of_another_machine_is_refused(config: Config, tmp_path: Path) -> None:
    """Its drift correction would turn this machine's times into those of the other."""
    options: dict[str, Option] = {"noise": 0.01, "drift": 0.2, "seed": 0, "hardware": "another processor"}
    other = config.replaced({"device.name": describe_fake_device(tmp_path / "devices", options)})
    with pytest.raises(TableContextError, match="hardware: table has 'simulated processor', here it is 'another"):
        pipeline.export(other, console=ReadConsole())


def test_two_exports_in_one_folder_are_refused(config: Config) -> None:
    with Workspace(config).alone("exporting"), pytest.raises(ConfigError, match="another process is exporting"):
        pipeline.export(config, console=ReadConsole())


# ---------------------------------------------------------------- what is written


def test_a_deployment_that_a_killed_process_had_set_aside_is_put_back(config: Config, finished: FinishedRun) -> None:
    folder = Path(config.output.folder) / "deployments" / finished.deployment.name
    folder.rename(folder.with_name(f".{folder.name}.old"))
    with pytest.raises(InfeasibleError):
        pipeline.export(config.replaced({"limits.latency_fraction": 1e-6}), console=ReadConsole())
    assert Manifest.read(folder) == Manifest.read(finished.deployment)


def test_a_runtime_that_computes_something_else_is_no_deployment(
    config: Config, monkeypatch: pytest.MonkeyPatch
) -> None:
    before = contents(Path(config.output.folder))
    predict = Worker.predict

    def reversed_logits(self: Worker, artefact: Artefact, images: Array) -> Array:
        return -predict(self, artefact, images)

    monkeypatch.setattr(Worker, "predict", reversed_logits)
    with pytest.raises(VerificationError, match=r"trial \d+: fake does not compute what torch does: "):
        pipeline.export(config.replaced({"deploy.candidates": 2}), console=ReadConsole())
    assert contents(Path(config.output.folder)) == before


def test_a_candidate_that_the_runtime_computes_wrong_is_told_and_the_next_is_tried(
    config: Config, monkeypatch: pytest.MonkeyPatch
) -> None:
    predict, calls = Worker.predict, iter(range(100))

    def wrong_at_first(self: Worker, artefact: Artefact, images: Array) -> Array:
        return predict(self, artefact, images) * (-1 if next(calls) == 0 else 1)

    monkeypatch.setattr(Worker, "predict", wrong_at_first)
    console = ReadConsole()
    manifest = pipeline.export(config, console=console).manifest
    assert "rejected when tested: fake does not compute what torch does" in console.said
    (rejected,) = manifest.rejected
    assert rejected["trial"] != manifest.provenance["trial"]
    assert rejected["reason"].startswith("fake does not compute what torch does: ")


def test_an_fp32_network_is_deployed_too(config: Config) -> None:
    fp32 = config.replaced({"space.precisions": ["fp32"], "search.n_trials": 2})
    pipeline.search(fp32, console=ReadConsole())
    manifest = pipeline.export(fp32, console=ReadConsole()).manifest
    assert manifest.precision == "fp32"
    assert manifest.parity.max_abs_diff < 1e-4
    assert manifest.accuracy.test_torch == manifest.accuracy.test_fp32


# on 100 images the standard error of 0.5 is 0.05
@pytest.mark.parametrize(("after", "kept"), [(0.6, True), (0.46, True), (0.44, False)])
@pytest.mark.parametrize(("steps", "told"), [("train_steps", "trained"), ("finetune_steps", "fine-tuned")])
def test_what_is_trained_by_itself_is_kept_unless_it_does_harm_on_validation_images(
    after: float,
    kept: bool,
    steps: str,
    told: str,
    config: Config,
    finished: FinishedRun,
    monkeypatch: pytest.MonkeyPatch,
) -> None:
    found = iter([0.5, after])

    def score(*_: object, in_shape: tuple[int, ...]) -> Score:
        value = next(found, 0.5)
        return Score(value=value, standard_error=binomial_error(value, 100), measures={"accuracy": value}, n=100)

    monkeypatch.setattr(SubnetEvaluator, "score", score)
    console = ReadConsole()
    tuning = config.replaced({f"deploy.{steps}": 1, "deploy.finetune_learning_rate": 0.1})
    result = pipeline.export(tuning, console=console)
    said = console.said.replace("\u00a0", " ")
    assert f"validation accuracy 50.00 % calibrated, {100 * after:.2f} % {told}" in said
    calibrated = finished.document["manifest"]["artefact"]["sha256"]
    assert (result.manifest.artefact.sha256 != calibrated) is kept


@pytest.mark.parametrize("steps", ["train_steps", "finetune_steps"])
def test_what_was_trained_by_itself_is_not_trained_again(config: Config, steps: str) -> None:
    tuning = config.replaced({f"deploy.{steps}": 2, "train.checkpoint_every_s": 0.001})
    told = []
    for _ in range(2):
        console = ReadConsole()
        pipeline.export(tuning, console=console)
        told.append("is at step 2 of 2" in console.said.replace("\n", " "))
    other = ReadConsole()
    pipeline.export(
        tuning.replaced({"deploy.train_learning_rate": 0.3, "deploy.finetune_learning_rate": 0.3}), console=other
    )
    assert told == [False, True]
    assert "is at step" not in other.said  # nor what was trained in another way
    assert len(list(Path(config.output.folder, "alone").iterdir())) == 2


def test_another_resolution_of_the_same_weights_is_another_training(config: Config) -> None:
    work = Workspace(config)

    def kept(side: int) -> Path:
        candidate: Any = SimpleNamespace(
            answer=SimpleNamespace(architecture={"resolution": side}), in_shape=(1, side, side)
        )
        return _tuning._kept(work, candidate, {"begins": "alike"}, console=ReadConsole()).path

    assert kept(16) == kept(16)
    assert kept(16) != kept(24)


def test_provenance_names_what_the_network_was_made_of(finished: FinishedRun) -> None:
    from hwnas.files import sha256_file

    found = Manifest.read(finished.deployment).provenance
    assert found["checkpoint_sha256"] == sha256_file(finished.folder / "checkpoint.safetensors")
    assert set(found["tables_sha256"]) == {"fake-fp32.jsonl", "fake-int8.jsonl", "fake-mixed.jsonl"}
    for name, digest in found["tables_sha256"].items():
        assert sha256_file(finished.folder / "latency_tables" / "fake" / name) == digest
    assert found["seeds"] == {"data": 0, "train": 0, "search": 0}
    assert set(found["versions"]) >= {"hwnas", "python", "torch"}


def test_what_a_makers_compiler_makes_ships_with_the_artefact_and_is_checked(
    config: Config, monkeypatch: pytest.MonkeyPatch
) -> None:
    def compile_for_board(self: FakeRuntime, artefact: Artefact, device: Device, folder: Path) -> tuple[Path, ...]:
        path = folder / "compiled.bin"
        path.write_bytes(artefact.sha256.encode())
        return (path,)

    monkeypatch.setattr(FakeRuntime, "compile_for_board", compile_for_board, raising=False)
    folder = pipeline.export(config, console=ReadConsole()).deployment
    (made,) = Manifest.read(folder).compiled
    assert (made.path, made.size_bytes) == ("compiled.bin", 64)
    pipeline.verify(folder, console=ReadConsole())
    (folder / made.path).write_bytes(b"another")
    with pytest.raises(ArtefactError, match=r"compiled\.bin is not the file that was verified"):
        pipeline.verify(folder, console=ReadConsole())


# ---------------------------------------------------------------- the network in torch


def test_the_deployed_network_ships_as_a_torch_program_too(finished: FinishedRun) -> None:
    program = Manifest.read(finished.deployment).program
    assert program is not None
    path = finished.deployment / PROGRAM
    assert (program.path, program.size_bytes, program.batch) == (PROGRAM, path.stat().st_size, "any")
    work = Workspace(load_config(finished.folder))
    blocks = work.space.named_blocks(work.space.encode(Manifest.read(finished.deployment).architecture))
    network = make_evaluator(work).extract(blocks)
    x = torch.randn(3, *network.in_shape, generator=torch.Generator().manual_seed(0))
    torch.testing.assert_close(torch.export.load(path).module()(x), network(x), rtol=0, atol=1e-5)


def test_the_page_about_deployments_goes_on_with_it(finished: FinishedRun) -> None:
    page = (Path(__file__).parents[2] / "docs" / "deployments.md").read_text()
    use, switch = re.findall(r"```python\n(import torch\n\nnetwork.*?|def set_training.*?)```", page, flags=re.DOTALL)
    manifest = Manifest.read(finished.deployment)
    names: dict[str, Any] = {"IN_SHAPE": manifest.input.shape}
    exec(use.replace("runs/mine/deployments/cpu_best", str(finished.deployment)), names)
    assert names["logits"].shape == (3, len(manifest.classes))
    exec(switch, names)
    network = names["network"]
    x = torch.randn(8, *manifest.input.shape, generator=torch.Generator().manual_seed(0))
    before, means = network(x), {n: b.clone() for n, b in network.named_buffers() if n.endswith("running_mean")}
    names["set_training"](network, True)
    assert not torch.allclose(network(x), before, atol=1e-3)
    assert not any(torch.equal(network.get_buffer(n), mean) for n, mean in means.items())
    names["set_training"](network, False)
    assert torch.equal(network(x), network(x))


def test_what_was_fine_tuned_ships_in_torch_as_it_was_tuned(finished: FinishedRun) -> None:
    calibrated = quantize(sample_network(sample_blocks("iiii")), [sample_images(16)])
    (answer,) = query(load_study(Workspace(load_config(finished.folder)).study), limits={}, top=1)
    candidate = Candidate(
        answer=answer, blocks=(), subnetwork=sample_network(sample_blocks("ffff")), network=calibrated
    )
    assert candidate.float_network is candidate.subnetwork
    tuned = quantize(sample_network(sample_blocks("iiii"), seed=1), [sample_images(16)])
    x = sample_images(3)
    for network, expected in (
        (tuned, sample_network(sample_blocks("ffff"), seed=1)),  # quantization-aware
        (candidate.subnetwork, candidate.subnetwork),  # in floats
    ):
        found = candidate.with_finetuned(network).float_network
        torch.testing.assert_close(found(x), expected(x), rtol=0, atol=1e-5)


def test_a_network_that_torch_cannot_export_is_deployed_all_the_same(
    config: Config, monkeypatch: pytest.MonkeyPatch
) -> None:
    def refuse(self: Candidate, folder: Path) -> None:
        raise ExportError("Branches is no torch program: too many branches")

    monkeypatch.setattr(Candidate, "write_program", refuse)
    console = ReadConsole()
    result = pipeline.export(config, console=console)
    assert "the deployment has no model.pt2: Branches is no torch program: too many branches" in console.said
    assert result.manifest.program is None
    pipeline.verify(result.deployment, console=ReadConsole())


def test_the_torch_program_can_be_left_out(config: Config) -> None:
    result = pipeline.export(config.replaced({"deploy.torch_program": False}), console=ReadConsole())
    assert result.manifest.program is None
    assert not (result.deployment / PROGRAM).exists()


# ---------------------------------------------------------------- in short


def test_the_speedup_of_a_precision_is_told_in_short(finished: FinishedRun) -> None:
    manifest = Manifest.read(finished.deployment)
    key = "mbconv|in=8x4x4|out=8x4x4|kernel_size=7|int8"
    slow = SlowBlock(block=key, count=1, latency_ms=0.2, float_latency_ms=0.1)
    comparison = PrecisionSpeedup(float_latency_ms=0.9, latency_ms=1.0, speedup=0.9, slow_blocks=(slow,))
    rows = dict(speedup_rows(manifest.model_copy(update={"precision": "int8", "precision_speedup": comparison})))
    assert rows == {"int8 against fp32": "0.90 times as fast (fp32: 0.900\u00a0ms)"}


def test_of_several_boards_the_manifest_names_the_one_that_it_was_measured_on() -> None:
    whole = dataclasses.replace(
        fake_device(), connection={"transport": "ssh", "hosts": ("pi@a", "pi@b"), "python": "python3"}
    )
    worker = SimpleNamespace(context=dict, device=boards_of(whole)[1])
    bench = Bench(work=SimpleNamespace(device=whole), worker=worker, costs=None, limits={}, study="")  # type: ignore[arg-type]
    assert _describe_device(bench).connection == {"transport": "ssh", "host": "pi@b", "python": "python3"}
