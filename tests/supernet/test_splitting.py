from __future__ import annotations

import dataclasses
from pathlib import Path

import numpy as np
import pytest
import torch

from hwnas import registry
from hwnas.errors import CheckpointError, ConfigError
from hwnas.supernet.checkpoint import load_checkpoint
from hwnas.supernet.copies import copied_parameters
from hwnas.supernet.elastic import Supernet
from hwnas.supernet.identity import EARLIER
from hwnas.supernet.parts import Parts
from hwnas.supernet.settings import TrainSettings
from hwnas.supernet.splitting import of_both_parts
from hwnas.supernet.strategies import SandwichRule
from hwnas.supernet.training import Keeping, Trainer, load_averaged
from hwnas.types import TrainTarget
from tests.supernet.test_training import SETTINGS, make_stream, make_trainer, weights

SPLIT = dataclasses.replace(SETTINGS, steps=6, split_fraction=0.5)  # before step 3


def make(space, path: Path | None, *, seed: int = 0, rounded: bool = False, **changes: object) -> Trainer:
    torch.manual_seed(seed)
    return Trainer(
        Supernet(space, rounded=rounded, parted=True),
        make_stream(),
        strategy=SandwichRule(space, n_random=1),
        named_blocks=space.named_blocks,
        settings=dataclasses.replace(SPLIT, **changes),
        keeping=None if path is None else Keeping(path=path),
    )


@pytest.fixture(scope="module", params=["sgd", "adamw"])
def whole(request, space, tmp_path_factory: pytest.TempPathFactory) -> tuple[Path, dict[str, object], list[str]]:
    """The checkpoint that an uninterrupted training ends with, its settings, and what it told."""
    path = tmp_path_factory.mktemp(request.param) / "whole.safetensors"
    changes = {"optimizer": request.param, "learning_rate": 0.05 if request.param == "sgd" else 1e-3}
    told: list[str] = []
    make(space, path, **changes).run(tell=told.append)
    return path, changes, told


@pytest.mark.parametrize("cut", [2, 3, 4])
def test_an_interrupted_training_ends_with_the_same_weights_before_and_after_the_split(
    space, whole, tmp_path, cut
) -> None:
    path, changes, told = whole
    pieces = tmp_path / "pieces.safetensors"
    make(space, pieces, **changes).run(until=cut)
    again = make(space, pieces, seed=99, **changes)
    assert again.resume() == cut
    assert (again.parted_by is not None) == (cut > 3)
    more: list[str] = []
    again.run(tell=more.append)
    assert more == (told if cut <= 3 else [])
    assert again.parted_by == told[0]
    a, b = weights(path), weights(pieces)
    assert a.keys() == b.keys()
    assert all(torch.equal(a[k], b[k]) for k in a)


def test_networks_are_parted_and_rounded_from_one_step_on_and_a_training_goes_on_behind_it(space, tmp_path) -> None:
    whole, pieces = tmp_path / "whole.safetensors", tmp_path / "pieces.safetensors"
    asked = {"rounded": True, "quantized_fraction": 0.5}
    make(space, whole, **asked).run()
    make(space, pieces, **asked).run(until=4)
    again = make(space, pieces, seed=99, **asked)
    again.resume()
    again.run()
    a, b = weights(whole), weights(pieces)
    assert all(torch.equal(a[k], b[k]) for k in a)


@pytest.mark.parametrize("name", sorted(registry.names("strategies")))
@pytest.mark.parametrize("more", [{"experts": 2}, {"parted": True}])
def test_every_strategy_trains_more_than_one_set_of_weights(space, name, more) -> None:
    make_strategy = registry.load("strategies", name)
    options = {"n_random": 1, "steps": 2, "sizes": lambda encodings: np.asarray(encodings, dtype=float).sum(1)}
    supernet = Supernet(space, **more)
    before = {n: p.detach().clone() for n, p in supernet.named_parameters()}
    settings = dataclasses.replace(SETTINGS, steps=2, warmup_fraction=0.0)
    shared = {"split_fraction": 0.5} if "parted" in more else {"experts": 2}
    trainer = Trainer(
        supernet,
        make_stream(),
        strategy=make_strategy(space, **registry.taken_by(make_strategy, options)),
        named_blocks=space.named_blocks,
        settings=dataclasses.replace(settings, **shared),
    )
    trainer.run()
    after = dict(supernet.named_parameters())
    changed = {n for n, p in after.items() if not torch.equal(p, before[n])}
    pairs = copied_parameters(after).items()
    assert any(n in changed and not torch.equal(after[n], after[first]) for n, first in pairs)


def test_the_split_is_told_once_in_one_line(whole) -> None:
    _, _, told = whole
    assert len(told) == 1
    assert told[0].startswith("the networks are parted by ")
    assert "} and {" in told[0]
    assert "\n" not in told[0]


def test_until_the_split_the_training_is_the_one_without(space, tmp_path) -> None:
    parted, plain = tmp_path / "parted.safetensors", tmp_path / "plain.safetensors"
    make(space, parted).run(until=3)
    make_trainer(space, plain, settings=dataclasses.replace(SPLIT, split_fraction=0.0)).run(until=3)
    a, b = weights(parted), weights(plain)
    assert all(torch.equal(a[k], b[k]) for k in b)
    assert {k for k in a.keys() - b.keys() if "copies" not in k} == {"model.parts.table", "ema.parts.table"}


def test_both_parts_begin_with_what_was_trained_and_part(space) -> None:
    trainer = make(space, None)
    trainer.run(until=3)
    parameters = dict(trainer.supernet.named_parameters())
    pairs = copied_parameters(parameters)
    trainer._split(3)
    assert all(torch.equal(parameters[name], parameters[first]) for name, first in pairs.items())
    assert all(torch.equal(trainer.averages()[n], trainer.averages()[first]) for n, first in pairs.items())
    state = trainer._optimizer.state
    assert all(
        torch.equal(state[parameters[n]]["momentum_buffer"], state[parameters[first]]["momentum_buffer"])
        for n, first in pairs.items()
        if "momentum_buffer" in state[parameters[first]]
    )
    assert trainer.supernet.parts.table.any()
    trainer.run(until=4)
    changed = [name for name, first in pairs.items() if not torch.equal(parameters[name], parameters[first])]
    assert len(changed) > len(pairs) / 2


def test_averages_know_which_network_is_of_which_part(space, whole) -> None:
    path, _, told = whole
    supernet = load_averaged(Supernet(space, parted=True), load_checkpoint(path))
    assert supernet.parts.told == told[0]
    assert set(supernet.parts.table.tolist()) == {0.0, 1.0}
    of = {supernet.parts.of(space.named_blocks(e)) for e in space.sample(64, np.random.default_rng(0))}
    assert of == {0, 1}


def test_every_step_trains_both_parts_and_each_has_its_ends_in_every_second(space) -> None:
    parts = Parts(space)
    choice = next(i for i, c in enumerate(space.choices) if c.name == "stages.1.blocks.0.kernel_size")
    parts.divide_(choice, (1, 2))
    targets = [
        TrainTarget(encoding=space.largest()),
        TrainTarget(encoding=space.smallest(), teacher=0, name="smallest"),
    ]
    seen = []
    for step in range(2):
        found = of_both_parts(targets, parts, step)
        assert [(t.teacher, t.name) for t in found] == [(t.teacher, t.name) for t in targets]
        seen += [parts.of(space.named_blocks(t.encoding)) for t in found]
    assert seen == [0, 1, 1, 0]


@pytest.mark.parametrize(
    ("steps", "share", "split"), [(6, 0.5, 3), (6, 0.0, None), (10, 0.99, 9), (1, 0.5, 0), (1600, 0.25, 400)]
)
def test_the_split_is_before_a_step_of_the_training(steps, share, split) -> None:
    assert dataclasses.replace(SPLIT, steps=steps, split_fraction=share).split_step == split


def test_a_training_with_another_split_is_another_run(space, tmp_path) -> None:
    path = tmp_path / "c.safetensors"
    make_trainer(space, path, settings=dataclasses.replace(SPLIT, split_fraction=0.0)).run(until=1)
    with pytest.raises(CheckpointError, match=r"split_fraction was 0\.0, now 0\.5"):
        make(space, path).resume()
    assert EARLIER["split_fraction"] == TrainSettings(steps=1).split_fraction


def test_experts_and_parts_are_not_trained_together() -> None:
    with pytest.raises(ConfigError, match=r"experts is 2 and split_fraction 0\.5"):
        dataclasses.replace(SPLIT, experts=2)


def test_a_supernet_of_one_set_of_weights_is_not_parted(space) -> None:
    with pytest.raises(ConfigError, match=r"train\.split_fraction is above 0, but this supernet"):
        make_trainer(space, None, settings=SPLIT)
