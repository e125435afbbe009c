"""Which networks the strategies train."""

from __future__ import annotations

import dataclasses
import json

import numpy as np
import pytest

from hwnas import registry
from hwnas.spaces.presets import mobilenet_tiny, vit_tiny
from hwnas.supernet.strategies import (
    BestUp,
    Compound,
    ProbabilityShift,
    ProgressiveShrinking,
    WorstUp,
    attentive,
    shifting,
)
from hwnas.supernet.strategies.sizes import of_all_sizes
from hwnas.types import LearningStrategy, TrainTarget
from tests.supernet.test_training import SETTINGS, make_trainer, weights

SPACE = mobilenet_tiny().restrict(precisions=("fp32",))
NAMES = [c.name for c in SPACE.choices]
LAST = np.array([len(c.options) - 1 for c in SPACE.choices])


def sizes(encodings):
    """As many as the choices are large: good enough to tell sizes apart, and nothing has to be traced."""
    return np.asarray(encodings, dtype=float).sum(axis=1)


def make(name: str, space=SPACE):
    strategy = registry.load("strategies", name)
    return strategy(space, **registry.taken_by(strategy, {"n_random": 2, "steps": 100, "sizes": sizes}))


@pytest.mark.parametrize("name", registry.names("strategies"))
@pytest.mark.parametrize("space", [SPACE, vit_tiny()], ids=["mobilenet", "transformer"])
def test_every_strategy_draws_networks_of_the_space_by_nothing_but_the_step(name: str, space) -> None:
    one, other = make(name, space), make(name, space)
    for step in (0, 30, 50, 99):
        targets = one.architectures(step, np.random.default_rng(step))
        again = other.architectures(step, np.random.default_rng(step))
        assert np.array_equal(targets[0].encoding, space.largest())
        assert targets[0].teacher is None
        for target, same in zip(targets, again, strict=True):
            assert np.array_equal(target.encoding, space.canonical(target.encoding))
            assert np.array_equal(target.encoding, same.encoding)
            assert (target.teacher, target.images) == (same.teacher, same.images)
        assert all(t.teacher == 0 for t in targets[1:])


def test_what_is_elastic_becomes_so_by_and_by(rng) -> None:
    strategy = ProgressiveShrinking(SPACE, steps=100, n_random=4)
    assert len(strategy.architectures(24, rng)) == 1
    seen: dict[int, set[str]] = {}
    for step in (25, 45, 70):
        drawn = [t.encoding for _ in range(30) for t in strategy.architectures(step, rng)[1:]]
        differ = (np.stack(drawn) != SPACE.largest()).any(axis=0)
        active = SPACE.active(np.stack(drawn)).all(axis=0)
        seen[step] = {n.rpartition(".")[2] for n, d, a in zip(NAMES, differ, active, strict=True) if d and a}
    assert seen[25] == {"resolution", "kernel_size"}
    assert seen[45] == {"resolution", "kernel_size", "depth"}
    assert seen[70] == {"resolution", "kernel_size", "depth", "expand_ratio"}


def test_kernel_sizes_are_drawn_alike_in_all_blocks(rng) -> None:
    strategy = ProgressiveShrinking(SPACE, steps=100, n_random=4)
    drawn = np.stack([t.encoding for _ in range(150) for t in strategy.architectures(30, rng)[1:]])
    for i, name in enumerate(NAMES):
        if name.endswith("kernel_size"):
            shares = np.bincount(drawn[:, i], minlength=LAST[i] + 1) / len(drawn)
            assert np.allclose(shares, 1 / (LAST[i] + 1), atol=0.1), name


def test_parts_of_a_stage_are_small_together(rng) -> None:
    drawn = [t.encoding for _ in range(50) for t in Compound(SPACE, n_random=2).architectures(0, rng)[1:-1]]
    for encoding in drawn:
        active = SPACE.active(encoding)
        for stage in range(4):
            of_stage = [i for i, n in enumerate(NAMES) if n.startswith(f"stages.{stage}.") and active[i]]
            shares = {encoding[i] / LAST[i] for i in of_stage if LAST[i] == 2}
            assert len(shares) == 1
    assert len({e.tobytes() for e in drawn}) > 10


def test_networks_of_all_sizes_are_drawn(rng) -> None:
    drawn = sizes(of_all_sizes(SPACE, 400, rng)) / sizes(SPACE.largest()[None])
    uniform = sizes(SPACE.sample(400, rng, over="encodings")) / sizes(SPACE.largest()[None])
    assert drawn.std() > 1.5 * uniform.std()


@pytest.mark.parametrize(("strategy", "sign"), [(BestUp, -1), (WorstUp, 1)])
def test_networks_are_chosen_by_the_losses_that_were_seen(strategy, sign, rng) -> None:
    """Wide networks are made to be bad for their size: one strategy leaves them alone, the other trains them."""
    wide = np.array([n.endswith("expand_ratio") for n in NAMES])

    def width(encodings) -> float:
        return float(np.asarray(encodings)[:, wide].sum(axis=1).mean())

    taught, untaught = strategy(SPACE, sizes=sizes), strategy(SPACE, sizes=sizes)
    for step in range(100):
        targets = taught.architectures(step, rng)
        taught.observe(targets, [1.0, *(1.0 + 0.1 * width(t.encoding[None]) for t in targets[1:])])
    found = {}
    for name, s in (("taught", taught), ("untaught", untaught)):
        found[name] = [t.encoding for step in range(101, 161) for t in s.architectures(step, rng)[1:-1]]
    assert sign * (width(found["taught"]) - width(found["untaught"])) > 0.5


def test_sizes_are_drawn_where_losses_fall(rng) -> None:
    strategy = ProbabilityShift(SPACE, sizes=sizes)
    assert np.allclose(strategy.probabilities(), 1 / 8)
    edge = sizes(SPACE.largest()[None])[0] / 4
    for _ in range(200):
        targets = [
            TrainTarget(encoding=SPACE.largest()),
            *(TrainTarget(encoding=e) for e in of_all_sizes(SPACE, 4, rng)),
        ]
        losses = [1.0, *(2.0 if sizes(t.encoding[None])[0] < edge else 1.2 for t in targets[1:])]
        strategy.observe(targets, losses)
    found = strategy.probabilities()
    assert found.sum() == pytest.approx(1)
    assert found[:2].sum() > 0.5
    assert found.min() >= 0.25 / 8 - 1e-9


@pytest.mark.parametrize("name", ["best-up", "probability-shift"])
def test_what_a_strategy_has_learned_is_kept_with_the_checkpoint(name: str, space, tmp_path, monkeypatch) -> None:
    """A stopped training ends with the bits of an uninterrupted one."""

    monkeypatch.setattr(attentive, "_ENOUGH", 4)
    monkeypatch.setattr(shifting, "_CLASSES", 3)

    def trainer(path):
        made = make_trainer(space, path, settings=dataclasses.replace(SETTINGS, steps=24))
        made.strategy = make(name, space)
        return made

    whole = trainer(tmp_path / "whole.safetensors")
    whole.run()
    trainer(tmp_path / "parts.safetensors").run(until=12)
    resumed = trainer(tmp_path / "parts.safetensors")
    assert resumed.resume() == 12
    resumed.run()
    assert isinstance(resumed.strategy, LearningStrategy)
    assert resumed.strategy.state() == whole.strategy.state()
    assert json.loads(json.dumps(whole.strategy.state())) == whole.strategy.state()
    a, b = weights(tmp_path / "whole.safetensors"), weights(tmp_path / "parts.safetensors")
    assert all((a[k] == b[k]).all() for k in a)
    assert whole.strategy.state() != make(name, space).state()
    forgetful = trainer(tmp_path / "forgetful.safetensors")
    forgetful.run(until=12)
    forgetful.strategy = make(name, space)
    forgetful.run()
    c = weights(tmp_path / "forgetful.safetensors")
    assert any((a[k] != c[k]).any() for k in a)  # what was learned decides what is trained
