"""The whole way with a supernet that was trained for integers as well."""

from __future__ import annotations

from pathlib import Path

import pytest
import torch

from hwnas import pipeline
from hwnas.config import Config
from hwnas.errors import CheckpointError
from hwnas.pipeline.workers import make_evaluator
from hwnas.supernet import finetuning, quantization
from hwnas.supernet.quantization.modules import Quantizer
from hwnas.testing.run import tiny_config
from hwnas.workspace import Workspace
from tests.runs import ReadConsole


@pytest.fixture(scope="module")
def config(tmp_path_factory: pytest.TempPathFactory) -> Config:
    """Trained, profiled and searched."""
    folder = tmp_path_factory.mktemp("quantized") / "run"
    config = tiny_config(
        folder,
        {"train.quantized_fraction": 0.5, "space.precisions": ["int8"], "limits.latency_fraction": 1.3},
    )
    for stage in (pipeline.train, pipeline.profile, pipeline.search):
        stage(config, console=ReadConsole())
    return config


def test_what_ships_has_learned_ranges_and_none_is_calibrated(config: Config, monkeypatch: pytest.MonkeyPatch) -> None:
    quantize, calibrate = quantization.quantize, Quantizer.calibrate
    calibrated: list[Quantizer] = []
    of_networks: list[int] = []

    def watched(self: Quantizer) -> None:
        calibrated.append(self)
        calibrate(self)

    def quantized(network, *args, **keywords):
        before = len(calibrated)
        found = quantize(network, *args, **keywords)
        if network.ranges is not None:  # others have random weights, and are only timed
            of_networks.append(sum(type(q) is Quantizer for q in calibrated[before:]))
        return found

    monkeypatch.setattr(Quantizer, "calibrate", watched)
    monkeypatch.setattr(quantization, "quantize", quantized)
    manifest = pipeline.export(config, console=ReadConsole()).manifest
    assert manifest.precision == "int8"
    assert manifest.parity.top1_agreement == 1.0
    assert of_networks
    assert not any(of_networks)


def test_a_network_that_is_trained_by_itself_forgets_the_ranges_of_the_supernet(
    config: Config, monkeypatch: pytest.MonkeyPatch
) -> None:
    seen: list[object] = []
    train_alone = finetuning.train_alone

    def watched(network, *args, **keywords):
        seen.append(network.ranges)
        return train_alone(network, *args, **keywords)

    monkeypatch.setattr(finetuning, "train_alone", watched)
    pipeline.export(config.replaced({"deploy.train_steps": 1}), console=ReadConsole())
    assert seen == [None]
    work = Workspace(config)
    blocks = work.space.named_blocks(work.space.smallest())
    assert make_evaluator(work).extract(blocks).ranges is not None


def test_ranges_are_those_of_the_checkpoint_whatever_the_configuration_says_by_now(config: Config) -> None:
    work = Workspace(config.replaced({"train.quantized_fraction": 0.0}))
    blocks = work.space.named_blocks(work.space.smallest())
    found = make_evaluator(work).extract(blocks)
    there = make_evaluator(Workspace(config)).extract(blocks)
    assert found.ranges is not None
    assert found.ranges == there.ranges


def test_what_integers_are_compared_with_is_the_network_in_floats(config: Config) -> None:
    work = Workspace(config)
    evaluator = make_evaluator(work)
    integers, floats = (
        evaluator.extract(work.training_space.restrict(precisions=(p,)).named_blocks(e))
        for p in ("int8", "fp32")
        for e in [work.training_space.restrict(precisions=(p,)).smallest()]
    )
    mine, theirs = (
        [v for k, v in network.named_buffers() if k.endswith(("running_mean", "running_var"))]
        for network in (integers, floats)
    )
    assert mine
    assert all(torch.equal(a, b) for a, b in zip(mine, theirs, strict=True))
    ships = evaluator.quantize(integers)
    assert all(torch.equal(a, b) for a, b in zip(mine, theirs, strict=True))  # which has statistics of its own
    assert ships is not integers


def test_another_share_of_quantized_steps_is_another_training(config: Config) -> None:
    with pytest.raises(CheckpointError, match=r"quantized_fraction was 0\.5, now 0\.25"):
        pipeline.train(config.replaced({"train.quantized_fraction": 0.25}), console=ReadConsole())


def test_a_run_of_an_older_version_goes_on(tmp_path: Path) -> None:
    """Checkpoints that do not say it were trained in floats."""
    config = tiny_config(tmp_path / "run")
    pipeline.train(config.replaced({"train.steps": 10}), console=ReadConsole())
    with pytest.raises(CheckpointError, match=r"quantized_fraction was 0\.0, now 0\.5"):
        pipeline.train(config.replaced({"train.quantized_fraction": 0.5}), console=ReadConsole())
