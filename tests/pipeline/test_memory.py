"""Batches that no step could be made of are refused before any memory is taken."""

from __future__ import annotations

from pathlib import Path

import pytest

from hwnas import pipeline
from hwnas.errors import ConfigError
from hwnas.pipeline import memory
from hwnas.pipeline.memory import refuse_too_large, telling_memory
from hwnas.testing.run import tiny_config
from hwnas.workspace import Workspace
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
    monkeypatch.setattr(memory, "available_memory", lambda: 20_000_000)
    with pytest.raises(ConfigError, match=r"keeps at least 0\.0 GB.*give at most \d+"):
        refuse_too_large(work)
    monkeypatch.setattr(memory, "available_memory", lambda: 200_000_000)
    refuse_too_large(work)


def test_torch_without_memory_is_told_in_our_words() -> None:
    with pytest.raises(ConfigError, match=r"does not suffice for train.batch_size 64 \(CUDA out of memory. Tried"):  # noqa: SIM117
        with telling_memory(64):
            raise RuntimeError("CUDA out of memory. Tried to allocate 9 GiB.\nmore")
    with pytest.raises(RuntimeError, match="shapes"), telling_memory(64):
        raise RuntimeError("shapes")
