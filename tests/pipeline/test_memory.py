"""Batches that no step could be made of are refused before any memory is taken."""

from __future__ import annotations

from pathlib import Path

import pytest

from hwnas import pipeline
from hwnas.errors import ConfigError
from hwnas.pipeline import memory
from hwnas.pipeline.memory import free_bytes, refuse_too_large, telling_memory
from hwnas.pipeline.workspace import Workspace
from hwnas.testing.run import tiny_config
from tests.runs import ReadConsole


@pytest.mark.parametrize("stage", ["train", "run_all"])
def test_a_batch_larger_than_the_data_set_is_refused_before_any_work(stage: str, tmp_path: Path) -> None:
    config = tiny_config(tmp_path / "run", {"train.batch_size": 1_000_000})
    with pytest.raises(ConfigError, match=r"train.batch_size is 1,000,000, but there are 1,294 training images"):
        getattr(pipeline, stage)(config, console=ReadConsole())
    assert not (tmp_path / "run").exists()


def test_fewer_images_than_the_default_batch_are_no_mistake(tmp_path: Path) -> None:
    refuse_too_large(Workspace(tiny_config(tmp_path, {"train.batch_size": 128, "data.test_fraction": 0.95})))


def test_a_step_that_does_not_fit_is_told_with_what_would(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    work = Workspace(tiny_config(tmp_path, {"train.batch_size": 1000}))
    monkeypatch.setattr(memory, "free_bytes", lambda: 20_000_000)
    with pytest.raises(ConfigError, match=r"keeps at least 0\.0 GB.*give at most \d+"):
        refuse_too_large(work)
    monkeypatch.setattr(memory, "free_bytes", lambda: 200_000_000)
    refuse_too_large(work)


def test_a_container_has_less_than_its_machine(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    (tmp_path / "meminfo").write_text("MemTotal: 9 kB\nMemAvailable:    4000 kB\n")
    most, now = tmp_path / "most", tmp_path / "now"
    monkeypatch.setattr(memory, "_MEMINFO", tmp_path / "meminfo")
    monkeypatch.setattr(memory, "_CONTAINER", ((most, now),))
    assert free_bytes() == 4_096_000
    most.write_text("max\n")
    now.write_text("1000\n")
    assert free_bytes() == 4_096_000
    most.write_text("5000\n")
    assert free_bytes() == 4000


def test_torch_without_memory_is_told_in_our_words() -> None:
    with pytest.raises(ConfigError, match=r"does not suffice for train.batch_size 64 \(CUDA out of memory. Tried"):  # noqa: SIM117
        with telling_memory(64):
            raise RuntimeError("CUDA out of memory. Tried to allocate 9 GiB.\nmore")
    with pytest.raises(RuntimeError, match="shapes"), telling_memory(64):
        raise RuntimeError("shapes")


def test_where_nothing_tells_the_memory_nothing_is_refused(monkeypatch: pytest.MonkeyPatch, tmp_path: Path) -> None:
    monkeypatch.setattr(memory, "_MEMINFO", tmp_path / "none")
    monkeypatch.setattr(memory, "_CONTAINER", ())
    assert free_bytes() is None
