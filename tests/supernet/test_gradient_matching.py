from __future__ import annotations

import numpy as np
import pytest
import torch
from torch import nn

from hwnas.supernet.gradient_matching import N_DRAWN, best_division, compared_networks, least_agreeing


def test_options_are_parted_where_they_agree_least() -> None:
    agreements = np.array([[1.0, 0.1, 0.2], [0.1, 1.0, 0.9], [0.2, 0.9, 1.0]])
    found = best_division(7, agreements)
    assert (found.choice, found.second) == (7, (1, 2))
    assert found.agreement == pytest.approx(0.15)


def test_any_group_of_options_may_be_parted_from_the_others() -> None:
    """Also one that is no range: the cut is the minimum over all."""
    agreements = np.array([[1, -1, 1, -1], [-1, 1, -1, 1], [1, -1, 1, -1], [-1, 1, -1, 1]], dtype=float)
    assert best_division(0, agreements).second == (1, 3)


def test_of_two_options_each_is_a_part() -> None:
    found = best_division(0, np.array([[1.0, 0.3], [0.3, 1.0]]))
    assert (found.second, found.agreement) == ((1,), pytest.approx(0.3))


def test_compared_networks_differ_in_their_choice_alone(space) -> None:
    choices = [i for i, c in enumerate(space.choices) if c.name in ("resolution", "stages.1.blocks.0.kernel_size")]
    found = dict(compared_networks(space, choices, np.random.default_rng(0)))
    again = dict(compared_networks(space, choices, np.random.default_rng(0)))
    for choice, networks in found.items():
        n_options = len(space.choices[choice].options)
        assert networks.shape == (N_DRAWN, n_options, len(space.choices))
        assert np.array_equal(networks[..., choice], np.tile(np.arange(n_options), (N_DRAWN, 1)))
        others = np.delete(networks, choice, axis=2)
        assert (others == others[:, :1]).all()
        assert np.array_equal(networks, again[choice])
    assert list(found) == choices


def test_the_choice_is_found_whose_options_pull_apart() -> None:
    """Choice 1 pulls the weights three ways, its first option against the others; choice 0 one way only."""
    weight, other = nn.Parameter(torch.ones(2)), nn.Parameter(torch.ones(1))
    directions = torch.tensor([[1.0, 0.1], [-1.0, 0.1], [-1.0, 0.2]])

    def networks():
        for choice, n in ((0, 2), (1, 3)):
            encodings = np.zeros((2, n, 2), dtype=np.int64)
            encodings[:, :, choice] = np.arange(n)
            yield choice, encodings

    def loss(encoding: np.ndarray, draw: int) -> torch.Tensor:
        pull = (weight * directions[encoding[1]]).sum() * (1 + draw + encoding[0])
        return pull + other.sum() if encoding[1] == 2 else pull  # a weight that one option alone uses is no matter

    found = least_agreeing(networks(), [weight, other], loss=loss)
    assert (found.choice, found.second) == (1, (1, 2))
    assert found.agreement < -0.9
    assert weight.grad is None
