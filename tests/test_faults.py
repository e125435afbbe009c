"""What goes wrong, tried on purpose: afterwards everything can be read, and the same call goes on."""

from __future__ import annotations

import errno
import json
import os
import resource
import signal
import stat
from collections.abc import Iterator, Mapping
from contextlib import contextmanager
from pathlib import Path
from typing import Any

import numpy as np
import pytest

from hwnas import pipeline
from hwnas.config import Config
from hwnas.cost.table import LatencyTable
from hwnas.deployment import Manifest
from hwnas.errors import CheckpointError, DataError, DivergenceError, MissingEntryError
from hwnas.measure._child import Child
from hwnas.pipeline._watching import LOG_FILE
from hwnas.pipeline.costs import table_path
from hwnas.search import load_study
from hwnas.supernet.checkpoint import load_checkpoint
from hwnas.testing.run import describe_fake_device, tiny_config
from hwnas.workspace import Workspace
from tests.runs import ONE_PRECISION, ReadConsole, contents, hwnas

EVERY_STEP = {"train.checkpoint_every_s": 1e-9}


def shorten(path: Path, share: float) -> None:
    """Cut a file off, as a copy that was broken off leaves it."""
    whole = path.read_bytes()
    path.write_bytes(whole[: int(share * len(whole))])


def fp32_table(config: Config) -> LatencyTable:
    return LatencyTable.open(table_path(Workspace(config), "fp32"))


# ---------------------------------------------------------------- limits


def test_a_budget_that_cannot_be_kept_exits_with_3_and_names_the_smallest(config: Config) -> None:
    done = hwnas("search", config.output.folder, "--limit", "latency_ms=1e-4", "--json")
    assert done.returncode == 3
    document = json.loads(done.stdout)
    error = document["error"]
    assert (document["exit_status"], error["metric"], error["limit"]) == (3, "latency_ms", 1e-4)
    assert error["architecture"]["stages.0.depth"] == 1
    assert f"{error['reachable']:.3g}"[:4] in error["message"]
    assert "Traceback" not in done.stderr


# ---------------------------------------------------------------- half-written files


@pytest.mark.parametrize("share", [0.01, 0.5, 0.999])
def test_a_table_that_is_cut_off_is_completed(share: float, config: Config, measured: list[str]) -> None:
    complete = fp32_table(config)
    shorten(complete.path, share)
    kept = dict(fp32_table(config).entries) if share > 0.01 else {}  # else the first line is gone too
    pipeline.profile(config, console=ReadConsole())
    again = fp32_table(config)
    assert set(again.entries) == set(complete.entries)
    assert {n.blocks for n in again.networks} == {n.blocks for n in complete.networks}
    assert kept.items() <= again.entries.items()
    assert not set(measured) & set(kept)


@pytest.fixture
def half_trained(tmp_path: Path) -> Config:
    """A training that was interrupted in its fifth step; there are two checkpoints."""
    config = tiny_config(tmp_path / "half", EVERY_STEP)
    with pytest.raises(KeyboardInterrupt):
        pipeline.train(config, console=ReadConsole(interrupt_after=("train", 5)))
    return config


@pytest.mark.parametrize("share", [0.0, 0.001, 0.5, 0.9999])
def test_a_checkpoint_that_is_cut_off_is_replaced_by_the_one_before(
    share: float, half_trained: Config, config: Config
) -> None:
    shorten(Workspace(half_trained).checkpoint, share)
    console = ReadConsole()
    pipeline.train(half_trained, console=console)
    assert "is at step 3 of 10" in console.said
    uninterrupted = Workspace(config).checkpoint.read_bytes()
    assert Workspace(half_trained).checkpoint.read_bytes() == uninterrupted


def test_if_no_checkpoint_can_be_read_it_says_what_to_do(half_trained: Config) -> None:
    folder = Path(half_trained.output.folder)
    for path in folder.glob("checkpoint*"):
        shorten(path, 0.5)
    with pytest.raises(CheckpointError, match="Delete them to start anew"):
        pipeline.train(half_trained, console=ReadConsole())


# ---------------------------------------------------------------- a disk that fills up


@contextmanager
def files_of_at_most(n_bytes: int) -> Iterator[None]:
    """The system itself breaks off writes beyond a size, as it does when a disk is full."""
    soft, hard = resource.getrlimit(resource.RLIMIT_FSIZE)
    resource.setrlimit(resource.RLIMIT_FSIZE, (n_bytes, hard))
    try:
        yield
    finally:
        resource.setrlimit(resource.RLIMIT_FSIZE, (soft, hard))


@contextmanager
def full_disk_for(name: str, *, after: int = 0) -> Iterator[None]:
    """Writes to files with this text in their name break off half-way, and syncs fail, but for the first few."""
    write, sync = os.write, os.fsync
    count = 0

    def is_full(fd: int) -> bool:
        nonlocal count
        if not stat.S_ISREG(os.fstat(fd).st_mode) or name not in os.readlink(f"/proc/self/fd/{fd}"):
            return False
        count += 1
        return count > after

    def failing_write(fd: int, data: bytes) -> int:
        if is_full(fd):
            write(fd, data[: len(data) // 2])
            raise OSError(errno.ENOSPC, os.strerror(errno.ENOSPC))
        return write(fd, data)

    def failing_sync(fd: int) -> None:
        if is_full(fd):
            raise OSError(errno.ENOSPC, os.strerror(errno.ENOSPC))
        sync(fd)

    with pytest.MonkeyPatch.context() as patch:
        patch.setattr(os, "write", failing_write)
        patch.setattr(os, "fsync", failing_sync)
        yield


@pytest.mark.parametrize(
    ("name", "after"),
    [("fake-fp32.jsonl", 0), ("fake-fp32.jsonl", 8)],
    ids=["the first line", "a network"],
)
def test_a_profile_goes_on_when_there_is_space_again(
    name: str, after: int, tmp_path: Path, measured: list[str]
) -> None:
    config = tiny_config(tmp_path, ONE_PRECISION)
    with full_disk_for(name, after=after), pytest.raises(OSError, match="No space left"):
        pipeline.profile(config, console=ReadConsole())
    path = table_path(Workspace(config), "fp32")
    kept = dict(LatencyTable.open(path).entries) if after else {}
    assert not list(tmp_path.rglob("*.tmp"))
    measured.clear()
    pipeline.profile(config, console=ReadConsole())
    assert kept.items() <= fp32_table(config).entries.items()
    assert not set(kept) & set(measured)


def test_a_training_goes_on_when_there_is_space_again(half_trained: Config, config: Config) -> None:
    work = Workspace(half_trained)
    before = contents(work.folder)
    with files_of_at_most(50_000), pytest.raises(OSError, match="File too large"):
        pipeline.train(half_trained, console=ReadConsole())
    # lines of the steps that are lost are written, and taken away again when these steps are trained anew
    assert contents(work.folder) | {LOG_FILE: b""} == before | {LOG_FILE: b""}
    pipeline.train(half_trained, console=ReadConsole())
    steps = [line.partition(",")[0] for line in (work.folder / LOG_FILE).read_text().splitlines()[1:]]
    assert steps == [str(i + 1) for i in range(len(steps))]
    assert work.checkpoint.read_bytes() == Workspace(config).checkpoint.read_bytes()


@pytest.mark.parametrize("n_bytes", [20_000, 30_001])
def test_a_search_goes_on_when_there_is_space_again(n_bytes: int, config: Config, evaluated: list[object]) -> None:
    work = Workspace(config)
    for path in work.study.parent.iterdir():
        path.unlink()
    with files_of_at_most(n_bytes), pytest.raises(OSError, match="File too large"):
        pipeline.search(config, console=ReadConsole())
    done = len(evaluated)
    assert 0 < done < config.search.n_trials
    pipeline.search(config, console=ReadConsole())
    assert len(load_study(work.study)) == config.search.n_trials
    assert len(evaluated) <= config.search.n_trials + 1  # the one whose result could not be written


def test_the_study_that_cannot_be_saved_leaves_the_one_before(config: Config) -> None:
    path = Workspace(config).study
    before = path.read_bytes()
    more = config.replaced({"search.n_trials": config.search.n_trials + 1})
    with full_disk_for("study.safetensors"), pytest.raises(OSError, match="No space left"):
        pipeline.search(more, console=ReadConsole())
    assert path.read_bytes() == before
    assert pipeline.search(more, console=ReadConsole()).n_trials == config.search.n_trials + 1


@pytest.mark.parametrize("name", ["model.onnx", "samples.safetensors", "manifest.json"])
def test_an_export_that_finds_no_space_leaves_the_deployment_before(name: str, config: Config) -> None:
    before = contents(Path(config.output.folder))
    with full_disk_for(f".new/.{name}"), pytest.raises(OSError, match="No space left"):
        pipeline.export(config, console=ReadConsole())
    assert contents(Path(config.output.folder)) == before


def test_an_export_that_finds_no_space_for_the_anchor_leaves_the_deployment_before(config: Config) -> None:
    before = contents(Path(config.output.folder))
    with files_of_at_most(100_000), pytest.raises(OSError, match="File too large"):
        pipeline.export(config, console=ReadConsole())
    assert contents(Path(config.output.folder)) == before


def test_a_deployment_whose_page_cannot_be_written_is_complete_but_for_it(config: Config) -> None:
    with full_disk_for("report.html"), pytest.raises(OSError, match="No space left"):
        pipeline.export(config, console=ReadConsole())
    (folder,) = (Path(config.output.folder) / "deployments").iterdir()
    Manifest.read(folder)
    assert not (folder / "report.html").exists()
    pipeline.report(config, console=ReadConsole())
    assert (folder / "report.html").exists()


# ---------------------------------------------------------------- measuring


def kill_child_before(operation: str, number: int) -> Any:
    """Let the measuring process be killed just before it is asked for something for the n-th time."""
    request = Child.request
    count = 0

    def killing(self: Child, op: str, arguments: Mapping[str, Any], *, timeout_s: float) -> Any:
        nonlocal count
        count += op == operation
        if op == operation and count == number:
            os.kill(self.pid, signal.SIGKILL)
        return request(self, op, arguments, timeout_s=timeout_s)

    return killing


@pytest.mark.parametrize("request_number", [2, 9])  # of the anchor's eight repetitions, and of the blocks
def test_a_child_that_is_killed_while_it_measures_costs_nothing(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch, request_number: int
) -> None:
    config = tiny_config(tmp_path, ONE_PRECISION)
    monkeypatch.setattr(Child, "request", kill_child_before("time", request_number))
    console = ReadConsole()
    pipeline.profile(config, console=console)
    assert not fp32_table(config).failures
    assert "failed" not in console.said


def test_what_a_killed_child_was_loading_is_measured_the_next_time(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch, measured: list[str]
) -> None:
    config = tiny_config(tmp_path, ONE_PRECISION)
    with monkeypatch.context() as patch:
        patch.setattr(Child, "request", kill_child_before("load", 5))
        with pytest.raises(MissingEntryError, match="died of SIGKILL"):
            pipeline.profile(config, console=ReadConsole())
    (failed,) = fp32_table(config).failures
    measured.clear()
    pipeline.profile(config, console=ReadConsole())
    assert measured == [failed]


def test_a_block_that_crashes_the_runtime_is_named_and_the_rest_is_measured(tmp_path: Path) -> None:
    device = describe_fake_device(tmp_path / "devices", {"crash_on": "13.onnx"})  # the last of 14 blocks
    config = tiny_config(tmp_path / "run", {**ONE_PRECISION, "device.name": device})
    console = ReadConsole()
    with pytest.raises(MissingEntryError):
        pipeline.profile(config, console=console)
    assert "1 block could not be measured; the reasons are in the tables" in console.said
    table = fp32_table(config)
    ((key, reason),) = table.failures.items()
    assert "simulated crash on 13.onnx" in reason
    assert len(table.entries) == 13
    assert len(table.networks) == config.profile.n_networks + 1
    with pytest.raises(MissingEntryError, match=r"measuring it failed: .*SIGABRT.*hwnas profile") as caught:
        pipeline.search(config, console=ReadConsole())
    assert caught.value.key == key


# ---------------------------------------------------------------- training


def test_a_loss_that_is_not_a_number_ends_the_training_with_its_step_and_the_last_good_checkpoint(
    tmp_path: Path,
) -> None:
    config = tiny_config(tmp_path, {**EVERY_STEP, "train.learning_rate": 1e9, "train.steps": 50})
    with pytest.raises(DivergenceError, match=r"became (nan|inf) at step \d+; the last good checkpoint is") as caught:
        pipeline.train(config, console=ReadConsole())
    assert caught.value.checkpoint == str(tmp_path / "checkpoint.safetensors")
    good = load_checkpoint(Path(caught.value.checkpoint))
    assert good.meta["step"] == caught.value.step > 0
    assert all(bool(t.isfinite().all()) for t in good.tensors.values())


def test_data_of_one_class_is_refused_before_anything_is_written(tmp_path: Path) -> None:
    images = np.zeros((40, 8, 8), np.uint8)
    np.savez(tmp_path / "one.npz", x_train=images, y_train=np.zeros(40, np.int64))
    config = tiny_config(tmp_path / "run", {"data.source": f"npz:{tmp_path / 'one.npz'}"})
    with pytest.raises(DataError, match="there is one class only"):
        pipeline.run_all(config, console=ReadConsole())
    assert not (tmp_path / "run").exists()
