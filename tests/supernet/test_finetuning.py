from __future__ import annotations

import pytest
import torch

from hwnas.errors import DivergenceError
from hwnas.supernet.finetuning import finetune
from hwnas.supernet.subnetwork import SubNetwork
from tests.supernet.test_training import make_stream


def tuned(space, *, steps: int = 3, learning_rate: float = 0.05) -> list[torch.Tensor]:
    torch.manual_seed(0)
    network = SubNetwork(b for _, b in space.named_blocks(space.smallest()))
    before = [p.detach().clone() for p in network.parameters()]
    torch.manual_seed(torch.seed())  # what torch's own generator holds must not matter
    finetune(network, make_stream(), resolution=network.in_shape[1:], steps=steps, learning_rate=learning_rate)
    after = [p.detach() for p in network.parameters()]
    assert not all(torch.equal(a, b) for a, b in zip(after, before, strict=True))
    return after


def test_fine_tuning_again_gives_the_same_bits(space) -> None:
    assert all(torch.equal(a, b) for a, b in zip(tuned(space), tuned(space), strict=True))


def test_the_learning_rate_is_the_one_asked_for(space) -> None:
    """It stands in the schedule alone: the optimiser's own must not take part."""
    slow, fast = (tuned(space, steps=1, learning_rate=r) for r in (1e-6, 1e-2))
    network = tuned(space, steps=1, learning_rate=2e-6)
    start = [2 * a - b for a, b in zip(slow, network, strict=True)]  # one step is linear in the rate
    moved = [sum(float((p - q).norm()) for p, q in zip(w, start, strict=True)) for w in (slow, fast)]
    assert moved[1] / moved[0] == pytest.approx(1e4, rel=0.2)


def test_a_loss_that_is_not_finite_stops_it(space) -> None:
    with pytest.raises(DivergenceError):
        tuned(space, steps=20, learning_rate=1e30)
