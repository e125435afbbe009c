from __future__ import annotations

import itertools

import pytest
import torch

from hwnas.supernet.schedules import cosine_rate, follow


def make_optimizer() -> torch.optim.SGD:
    weights = [torch.nn.Parameter(torch.zeros(1)) for _ in range(2)]
    return torch.optim.SGD([{"params": [w]} for w in weights], lr=0.3)


def rate(step: int) -> float:
    return cosine_rate(step, peak=0.07, steps=40, warmup=7)


@pytest.mark.parametrize("first_step", [0, 5, 7, 23])
def test_an_optimizer_has_the_very_bits_of_the_schedule_from_any_step_on(first_step) -> None:
    optimizer = make_optimizer()
    scheduler = follow(optimizer, rate, first_step=first_step)
    for step in range(first_step, 40):
        assert [g["lr"] for g in optimizer.param_groups] == [rate(step)] * 2
        optimizer.step()
        scheduler.step()


def test_an_optimizer_may_follow_anew_from_another_step() -> None:
    optimizer = make_optimizer()
    follow(optimizer, rate)
    follow(optimizer, rate, first_step=9)
    assert optimizer.param_groups[0]["lr"] == rate(9)


def test_the_rate_rises_to_its_peak_and_falls_to_zero() -> None:
    rates = [rate(s) for s in range(41)]
    assert rates[:7] == pytest.approx([0.01 * (s + 1) for s in range(7)])
    assert rates[7] == max(rates) == 0.07
    assert rates[40] == pytest.approx(0.0)
    assert all(a > b for a, b in itertools.pairwise(rates[7:]))


def test_without_warmup_it_begins_at_the_peak() -> None:
    assert cosine_rate(0, peak=0.07, steps=3) == 0.07
