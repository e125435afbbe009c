"""Trainings that begin with a trained supernet."""

from __future__ import annotations

from pathlib import Path

import numpy as np
import pytest

from hwnas import pipeline
from hwnas.config import Config
from hwnas.data import load_data
from hwnas.errors import CheckpointError, ConfigError
from hwnas.pipeline.packing import Packing, pack
from hwnas.pipeline.workers import make_evaluator
from hwnas.supernet.checkpoint import load_checkpoint
from hwnas.testing.run import tiny_config
from hwnas.workspace import Workspace
from tests.runs import ReadConsole


@pytest.fixture(scope="module")
def made(tmp_path_factory: pytest.TempPathFactory) -> Path:
    """The digits below five by their names, as an archive; and a run that has learned them."""
    folder = tmp_path_factory.mktemp("growing")
    data = load_data("digits", seed=0)
    names = np.array(["zero", "one", "two", "three", "four", "five", "six", "seven", "eight", "nine"])
    for file, wanted in (("few.npz", [3, 1, 0, 4, 2]), ("all.npz", list(range(10)))):
        arrays = {}
        for part, short in ((data.train, "train"), (data.validation, "val"), (data.test, "test")):
            rows = np.isin(part.targets, wanted)
            arrays[f"x_{short}"] = np.asarray(part.inputs)[rows]
            arrays[f"y_{short}"] = np.array([wanted.index(t) for t in part.targets[rows]])
        np.savez(folder / file, **arrays, class_names=names[wanted])
    pipeline.train(config_of(folder, "few"), console=ReadConsole())
    return folder


def config_of(folder: Path, name: str, **changes: object) -> Config:
    config = tiny_config(folder / name, {"data.source": f"npz:{folder / 'few.npz'}", "train.steps": 120})
    return config.replaced({"train.learning_rate": 0.1, "train.ema_decay": 0.9, **changes})


def accuracy(config: Config) -> float:
    work = Workspace(config)
    space = work.training_space.restrict(precisions=("fp32",))
    return make_evaluator(work)(space.named_blocks(space.largest())).value


def test_more_classes_are_learned_in_a_few_steps_from_a_supernet_that_knows_some(made: Path) -> None:
    assert accuracy(config_of(made, "few")) > 0.8
    short = {"data.source": f"npz:{made / 'all.npz'}", "train.steps": 30}
    console = ReadConsole()
    pipeline.train(config_of(made, "anew", **short), console=console)
    assert "begins with" not in console.said
    grown = config_of(made, "grown", **short, **{"train.start_from": str(made / "few")})
    pipeline.train(grown, console=console)
    assert f"the supernet begins with {made / 'few'}: " in console.said
    assert "and it knows 5 of the 10 classes" in console.said
    assert accuracy(grown) > accuracy(config_of(made, "anew", **short)) + 0.05


def test_a_stopped_training_goes_on_and_does_not_begin_again(made: Path) -> None:
    grown = config_of(made, "stopped", **{"train.start_from": str(made / "few"), "train.checkpoint_every_s": 1e-9})
    with pytest.raises(KeyboardInterrupt):
        pipeline.train(grown, console=ReadConsole(interrupt_after=("train", 20)))
    console = ReadConsole()
    pipeline.train(grown, console=console)
    assert "is at step 1" in console.said or "is at step 2" in console.said
    assert "begins with" not in console.said


def test_what_a_training_began_with_may_go(made: Path, tmp_path: Path) -> None:
    """Stopped, it ends with the bits of one that was not, though what it began with is gone."""
    import shutil

    shutil.copytree(made / "few", tmp_path / "old")
    changes = {"train.start_from": str(tmp_path / "old"), "train.steps": 20, "train.checkpoint_every_s": 1e-9}
    whole, parts = (config_of(tmp_path, n, **changes, **{"data.source": f"npz:{made / 'few.npz'}"}) for n in "ab")
    pipeline.train(whole, console=ReadConsole())
    with pytest.raises(KeyboardInterrupt):
        pipeline.train(parts, console=ReadConsole(interrupt_after=("train", 8)))
    shutil.rmtree(tmp_path / "old")
    pipeline.train(parts, console=ReadConsole())
    a, b = (load_checkpoint(tmp_path / n / "checkpoint.safetensors").tensors for n in "ab")
    assert all((a[k] == b[k]).all() for k in a)


def test_another_beginning_is_another_run(made: Path) -> None:
    with pytest.raises(CheckpointError, match="start_from was ''"):
        pipeline.train(config_of(made, "few", **{"train.start_from": str(made / "few")}), console=ReadConsole())


def test_a_packed_supernet_is_a_beginning_too(made: Path) -> None:
    pack(config_of(made, "few"), made / "packed", packing=Packing(n_images=(20, 20, 20)), console=ReadConsole())
    console = ReadConsole()
    config = config_of(made, "of-packed", **{"train.start_from": str(made / "packed"), "train.steps": 2})
    pipeline.train(config, console=console)
    assert "and it knows 5 of the 5 classes" in console.said


def test_what_cannot_be_begun_with_is_told(made: Path, tmp_path: Path) -> None:
    with pytest.raises(ConfigError, match="there is no such folder; give the folder of a run, or zoo:NAME"):
        pipeline.train(config_of(made, "x", **{"train.start_from": str(tmp_path / "no")}), console=ReadConsole())
    with pytest.raises(CheckpointError, match="there is no trained supernet in"):
        pipeline.train(config_of(made, "x", **{"train.start_from": str(tmp_path)}), console=ReadConsole())
    half = config_of(made, "half", **{"train.checkpoint_every_s": 1e-9})
    with pytest.raises(KeyboardInterrupt):
        pipeline.train(half, console=ReadConsole(interrupt_after=("train", 20)))
    with pytest.raises(CheckpointError, match=r"is at step \d+ of 120; finish its training"):
        pipeline.train(config_of(made, "x", **{"train.start_from": str(made / "half")}), console=ReadConsole())
    with pytest.raises(CheckpointError, match="there is no trained supernet in"):  # before anything is measured
        pipeline.run_all(config_of(made, "y", **{"train.start_from": str(tmp_path)}), console=ReadConsole())
    assert not (made / "y").exists()
    other = {"train.start_from": str(made / "few"), "space.preset": "vit-tiny"}
    with pytest.raises(CheckpointError, match="less than half of that one's"):
        pipeline.train(config_of(made, "x", **other), console=ReadConsole())
    assert not (made / "x" / "checkpoint.safetensors").exists()
