from __future__ import annotations

import dataclasses
from pathlib import Path

import numpy as np
import pytest
import torch

from hwnas.errors import CheckpointError, ConfigError
from hwnas.supernet.elastic import Supernet
from hwnas.supernet.experts import Router, mixed
from hwnas.supernet.identity import EARLIER
from hwnas.supernet.settings import TrainSettings
from hwnas.supernet.strategies import SandwichRule
from hwnas.supernet.training import Keeping, Trainer
from tests.supernet.test_training import SETTINGS, make_stream, make_trainer, weights


def with_experts(space, n: int = 3, *, rounded: bool = False) -> Supernet:
    """All weights random, norms and router first, so that nothing is what it begins as."""
    torch.manual_seed(0)
    supernet = Supernet(space, experts=n, rounded=rounded)
    with torch.no_grad():
        for name, p in supernet.named_parameters():
            if not name.endswith(("scale", "zero_point")):
                p.add_(torch.randn_like(p) * 0.2)
    return supernet


def test_shares_sum_to_1_and_depend_on_the_architecture_alone() -> None:
    router = Router(["a", "b"], n_experts=3, n_features=4)
    one, again, other = (router(x) for x in ([0.0, 1.0, 0.5, 1.0], [0.0, 1.0, 0.5, 1.0], [1.0, 1.0, 0.5, 0.0]))
    assert list(one) == ["a", "b"]
    assert all(shares.sum().item() == pytest.approx(1.0) for shares in one.values())
    assert all(torch.equal(one[slot], again[slot]) for slot in one)
    assert not torch.allclose(one["a"], other["a"])
    assert not torch.allclose(one["a"], one["b"])


def test_a_mixture_is_the_sum_of_weights_times_their_shares() -> None:
    found = mixed([torch.tensor([2.0, 0.0]), torch.tensor([0.0, 4.0])], torch.tensor([0.25, 0.75]).unbind())
    assert found.tolist() == [0.5, 3.0]


def test_without_experts_a_supernet_has_the_parameters_it_always_had(space) -> None:
    torch.manual_seed(0)
    plain = dict(Supernet(space).named_parameters())
    torch.manual_seed(0)
    asked = dict(Supernet(space, experts=1).named_parameters())
    assert {k: tuple(p.shape) for k, p in plain.items()} == {k: tuple(p.shape) for k, p in asked.items()}
    assert all(torch.equal(p, asked[k]) for k, p in plain.items())
    assert not any("copies" in k or "router" in k for k in plain)


def test_experts_begin_as_the_weights_without_them_and_a_little_beside(space) -> None:
    torch.manual_seed(0)
    plain = dict(Supernet(space).named_parameters())
    torch.manual_seed(0)
    found = dict(Supernet(space, experts=2).named_parameters())
    assert all(torch.equal(p, found[k]) for k, p in plain.items())
    first, other = (found[f"slots.stem.{at}weights.conv/conv/weight"] for at in ("", "copies.0."))
    assert 0.05 < float((other - first).detach().std() / first.detach().std()) < 0.15
    assert torch.equal(*(found[f"slots.stem.{at}weights.conv/bn/weight"] for at in ("", "copies.0.")))


def test_an_extracted_network_equals_the_active_one(space, rng) -> None:
    supernet = with_experts(space)
    for encoding in [space.smallest(), space.largest(), *space.sample(6, rng, over="encodings")]:
        blocks = space.named_blocks(encoding)
        x = torch.randn(6, 2, *blocks[0][1].in_shape[1:])
        with torch.no_grad():
            found = supernet.extract(blocks)
            torch.testing.assert_close(found.train()(x), supernet.train()(x, blocks), rtol=0, atol=1e-6)
        plain = Supernet(space).extract(blocks)
        assert {k: p.shape for k, p in found.named_parameters()} == {k: p.shape for k, p in plain.named_parameters()}


def test_experts_that_are_alike_mix_to_what_they_are(space) -> None:
    torch.manual_seed(0)
    supernet = Supernet(space, experts=2)
    with torch.no_grad():
        for slot in supernet.slots.values():
            for name, p in slot.copies[0].weights.items():
                p.copy_(slot.weights[name])
    torch.manual_seed(0)
    plain, blocks = Supernet(space), space.named_blocks(space.largest())
    x = torch.randn(6, 2, 12, 12)
    with torch.no_grad():
        torch.testing.assert_close(supernet.train()(x, blocks), plain.train()(x, blocks), rtol=0, atol=1e-5)


def test_gradients_reach_all_experts_and_the_router(space, rng) -> None:
    supernet, x = with_experts(space, 2).train(), torch.randn(4, 2, 12, 12)
    for e in [space.largest(), space.smallest(), *space.sample(64, rng, over="encodings")]:
        supernet(x, space.named_blocks(e)).square().sum().backward()
    untouched = [n for n, p in supernet.named_parameters() if p.grad is None or not p.grad.abs().sum() > 0]
    assert untouched == []


def test_networks_in_integers_share_the_ranges_and_mix_the_same(space) -> None:
    supernet = with_experts(space, 2, rounded=True)
    assert not any("copies" in name and "ranges" in name for name, _ in supernet.named_parameters())
    blocks = space.named_blocks(space.largest())
    before = supernet.extract(blocks)
    supernet.rounds = True
    assert all(
        torch.equal(a, b) for a, b in zip(before.parameters(), supernet.extract(blocks).parameters(), strict=True)
    )


def test_two_networks_have_other_weights_where_they_share_all_numbers_otherwise(space) -> None:
    """A choice far from the stem changes the stem's weights: they are of the whole architecture."""
    supernet = with_experts(space, 2)
    one = space.largest()
    other = one.copy()
    at = next(i for i, c in enumerate(space.choices) if c.name == "stages.1.blocks.0.kernel_size")
    other[at] = 0
    first, second = (dict(supernet.extract(space.named_blocks(e)).blocks[0].named_parameters()) for e in (one, other))
    assert not torch.allclose(first["conv.conv.weight"], second["conv.conv.weight"])
    plain = Supernet(space)
    first, second = (dict(plain.extract(space.named_blocks(e)).blocks[0].named_parameters()) for e in (one, other))
    assert torch.equal(first["conv.conv.weight"], second["conv.conv.weight"])


def test_the_router_is_deterministic(space) -> None:
    supernet, x = with_experts(space).train(), torch.randn(4, 2, 12, 12)
    blocks = space.named_blocks(space.sample(1, np.random.default_rng(1), over="encodings")[0])
    with torch.no_grad():
        assert torch.equal(supernet(x, blocks), supernet(x, blocks))


# ---------------------------------------------------------------- training

TRAINED = dataclasses.replace(SETTINGS, experts=2)


def make(space, path: Path | None, *, seed: int = 0, rounded: bool = False, **changes: object) -> Trainer:
    """A trainer of a supernet with two experts."""
    torch.manual_seed(seed)
    return Trainer(
        Supernet(space, experts=2, rounded=rounded),
        make_stream(),
        strategy=SandwichRule(space, n_random=1),
        named_blocks=space.named_blocks,
        settings=dataclasses.replace(TRAINED, **changes),
        keeping=None if path is None else Keeping(path=path),
    )


@pytest.mark.parametrize("quantized_fraction", [0.0, 0.5])
def test_an_interrupted_training_ends_with_the_weights_of_an_uninterrupted_one(
    space, tmp_path, quantized_fraction
) -> None:
    whole, pieces = tmp_path / "whole.safetensors", tmp_path / "pieces.safetensors"
    asked = {"quantized_fraction": quantized_fraction, "rounded": quantized_fraction > 0}
    make(space, whole, **asked).run()
    make(space, pieces, **asked).run(until=3)
    again = make(space, pieces, seed=99, **asked)
    assert again.resume() == 3
    again.run()
    a, b = weights(whole), weights(pieces)
    assert a.keys() == b.keys()
    assert all(torch.equal(a[k], b[k]) for k in a)
    assert "momentum.router.weight" in a
    assert "ema.slots.stem.copies.0.weights.conv/conv/weight" in a


def test_a_training_with_another_number_of_experts_is_another_run(space, tmp_path) -> None:
    path = tmp_path / "c.safetensors"
    make_trainer(space, path).run(until=1)
    with pytest.raises(CheckpointError, match="experts was 1, now 2"):
        make(space, path).resume()


def test_a_checkpoint_that_does_not_say_it_has_one_set_of_weights() -> None:
    assert EARLIER["experts"] == TrainSettings(steps=1).experts


def test_a_supernet_without_experts_is_not_trained_as_one_with_them(space) -> None:
    with pytest.raises(ConfigError, match=r"train\.experts is 2, but this supernet holds its weights once"):
        make_trainer(space, None, settings=TRAINED)


def test_experts_part_and_learn(space) -> None:
    trainer = make(space, None, steps=30)
    stem = trainer.supernet.slots["stem"]
    before = (stem.copies[0].weights["conv/conv/weight"] - stem.weights["conv/conv/weight"]).detach().clone()
    router = trainer.supernet.router.weight.detach().clone()
    trainer.run()
    after = (stem.copies[0].weights["conv/conv/weight"] - stem.weights["conv/conv/weight"]).detach()
    assert not torch.allclose(after, before, atol=1e-3)
    assert not torch.allclose(trainer.supernet.router.weight, router, atol=1e-4)
