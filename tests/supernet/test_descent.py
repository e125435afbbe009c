"""Optimisers by name: what suits them, what they leave undecayed, and that a training goes on as if never stopped."""

from __future__ import annotations

import dataclasses

import pytest
import torch
from torch import nn

from hwnas import registry
from hwnas.config import Config
from hwnas.errors import CheckpointError, ConfigError
from hwnas.supernet.descent import Descent
from hwnas.workspace import Workspace
from tests.supernet.test_training import SETTINGS, make_trainer

ADAMW = dataclasses.replace(SETTINGS, optimizer="adamw", learning_rate=0.003, weight_decay=0.05)


def test_what_is_left_out_suits_the_optimizer() -> None:
    assert Descent.of("sgd") == Descent()
    assert Descent.of("adamw") == Descent(optimizer="adamw", learning_rate=5e-4, weight_decay=0.05)
    assert Descent.of("adamw", weight_decay=0.0).weight_decay == 0.0
    with pytest.raises(ConfigError, match=r"there is no optimiser 'lion'; there are sgd, adamw"):
        Descent.of("lion")


@pytest.mark.parametrize("optimizer", ["sgd", "adamw"])
def test_biases_and_norms_do_not_decay(optimizer) -> None:
    module = nn.Sequential(nn.Linear(2, 2), nn.BatchNorm1d(2))
    made = Descent.of(optimizer, learning_rate=0.1, weight_decay=0.5).make(module.parameters())
    before = [p.detach().clone() for p in module.parameters()]
    for p in module.parameters():
        p.grad = torch.zeros_like(p)
    for group in made.param_groups:
        group["lr"] = 0.1
    made.step()
    moved = [not torch.equal(p, b) for p, b in zip(module.parameters(), before, strict=True)]
    assert moved == [True, False, False, False]


def test_a_training_by_adamw_goes_on_with_the_same_bits(space, tmp_path) -> None:
    whole, stopped = tmp_path / "whole.safetensors", tmp_path / "stopped.safetensors"
    make_trainer(space, whole, settings=ADAMW).run()
    make_trainer(space, stopped, settings=ADAMW).run(until=3)
    trainer = make_trainer(space, stopped, settings=ADAMW)
    assert trainer.resume() == 3
    trainer.run()
    assert stopped.read_bytes() == whole.read_bytes()
    by_sgd = make_trainer(space, stopped)
    with pytest.raises(CheckpointError, match=r"optimizer was 'adamw', now 'sgd'"):
        by_sgd.resume()


def test_transformers_are_trained_by_adamw_unless_something_else_is_asked_for() -> None:
    assert registry.load("spaces", "vit-tiny")(1, 10).optimizer == "adamw"
    vit = Config().replaced({"space.preset": "vit-tiny", "data.source": "digits"})
    assert Workspace(vit).descent == Descent.of("adamw")
    assert Workspace(Config().replaced({"data.source": "digits"})).descent == Descent.of("sgd")
    asked = Workspace(vit.replaced({"train.optimizer": "sgd", "train.learning_rate": 0.01})).descent
    assert asked == Descent(learning_rate=0.01)
