"""`hwnas adapt`: what is typed becomes a run's configuration."""

from __future__ import annotations

import json
from pathlib import Path

import pytest
from typer.testing import CliRunner

from hwnas.cli import app
from hwnas.config import load_config
from tests.pipeline.test_adapting import NET

TYPED = ("adapt", "python:nets:make", "--input", "1x16x16", "--output", "run", "--json")


@pytest.fixture(autouse=True)
def _net(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    (tmp_path / "nets.py").write_text(NET)
    monkeypatch.chdir(tmp_path)


def said(*arguments: str) -> tuple[int, str]:
    result = CliRunner().invoke(app, arguments)
    return result.exit_code, result.output


def test_a_function_becomes_a_run_that_trains_a_little() -> None:
    status, output = said(*TYPED)
    assert status == 0, output
    told = json.loads(output[output.index("{") :])
    assert told["slots"] == ["stem", "layer1.0", "layer1.1", "head"]
    config = load_config("run")
    assert config.model is not None
    assert (config.train.epochs, config.train.learning_rate) == (3.0, 0.01)
    assert said(*TYPED, "--output", "other", "--set", "train.optimizer=adamw")[0] == 0
    assert load_config("other").train.learning_rate == 5e-5  # what AdamW takes is a fraction of what SGD takes


def test_no_training_is_written_down() -> None:
    status, output = said(*TYPED, "--no-training")
    assert status == 0, output
    assert load_config("run").train.steps == 0


def test_a_run_can_be_adapted_again_with_other_wishes() -> None:
    assert said(*TYPED)[0] == 0
    status, output = said("adapt", "run", "--set", "model.elastic.depth=false", "--json")
    assert status == 0, output
    assert "layer1.depth" not in json.loads(output[output.index("{") :])["choices"]


def test_what_a_run_was_adapted_with_is_what_it_was_last_used_with() -> None:
    assert said(*TYPED)[0] == 0
    status, output = said("adapt", "run")
    assert (status, "last used" in output, "last_used" in output) == (0, False, False)
    status, output = said("adapt", "run", "--set", "train.seed=3")
    assert (status, "train.seed is 3 and was 0 when this run was last used" in " ".join(output.split())) == (0, True)


@pytest.mark.parametrize(
    ("arguments", "message"),
    [
        (("adapt", "python:nets:make"), "model.input"),
        (("adapt", "python:nets:nothing", "--input", "1x16x16"), "has no 'nothing'"),
        (("adapt", "python:nets:make", "--input", "1x16"), "cannot be traced"),
        (("adapt", "python:nets:make", "--input", "banana"), "banana"),
        (("adapt", "python:nets:make", "--input", "1x16x16", "--set", "model.input=[1, 8, 8]"), "given by an option"),
        (("adapt", "nets.toml"), "nets.toml"),
        (("adapt", "onnx:net.onnx"), "net.onnx cannot be read: No such file"),
        (("adapt", "onnx:net.onnx", "--weights", "w.pth"), "the weights of an ONNX file are in it"),
        (("adapt", "python:nets:make", "--input", "3x16x16"), "cannot be traced"),
        (("adapt", "python:nets:of_colours", "--input", "3x16x16", "--data", "digits"), "takes 3 channels"),
    ],
)
def test_wrong_input_is_told(arguments: tuple[str, ...], message: str) -> None:
    status, output = said(*arguments)
    assert status == 2, output
    assert message in output
    assert not Path("runs").exists()


def test_what_was_said_of_searches_is_kept() -> None:
    assert said(*TYPED, "--no-training", "--set", "search.n_trials=123")[0] == 0
    assert load_config("run").search.n_trials == 123
    assert said(*TYPED[:4], "--output", "other", "--no-training")[0] == 0
    assert load_config("other").search.n_trials < 123, "slices that nobody trained are soon worth nothing"
