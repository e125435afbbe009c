from __future__ import annotations

import copy
from collections.abc import Callable
from dataclasses import replace
from pathlib import Path
from typing import Any

import pytest
import torch

from hwnas.errors import CheckpointError, DivergenceError
from hwnas.supernet.descent import Descent
from hwnas.supernet.finetuning import Kept, digest_of_tensors, finetune, train_alone
from hwnas.supernet.subnetwork import SubNetwork
from tests.supernet.test_training import make_stream

DESCENT = Descent(learning_rate=0.05, weight_decay=0.0)


def tuned(space, *, steps: int = 3, learning_rate: float = 0.05) -> list[torch.Tensor]:
    torch.manual_seed(0)
    network = SubNetwork(b for _, b in space.named_blocks(space.smallest()))
    before = [p.detach().clone() for p in network.parameters()]
    torch.manual_seed(torch.seed())  # what torch's own generator holds must not matter
    finetune(network, make_stream(), in_shape=network.in_shape, steps=steps, learning_rate=learning_rate)
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


# ---------------------------------------------------------------- in floats


def trained(space, *, steps: int = 3, teacher: SubNetwork | None = None) -> SubNetwork:
    torch.manual_seed(0)
    network = SubNetwork(b for _, b in space.named_blocks(space.smallest()))
    return train_alone(network, make_stream(), steps=steps, descent=DESCENT, teacher=teacher)


def norms_of(network: torch.nn.Module) -> list[torch.nn.BatchNorm2d]:
    return [m for m in network.modules() if isinstance(m, torch.nn.BatchNorm2d)]


def test_training_again_gives_the_same_bits(space) -> None:
    again = [dict(trained(space).state_dict()) for _ in range(2)]
    assert all(torch.equal(again[0][k], again[1][k]) for k in again[0])


def test_normalisation_is_alive_while_it_trains_and_rests_afterwards(space) -> None:
    network = trained(space)
    assert norms_of(network)
    assert all(int(m.num_batches_tracked) == 3 for m in norms_of(network))
    assert not any(m.training for m in network.modules())


def test_statistics_of_a_given_network_hold_no_longer_once_it_was_trained(space) -> None:
    network = SubNetwork(b for _, b in space.named_blocks(space.smallest()))
    network.statistics_hold = True
    assert not train_alone(network, make_stream(), steps=1, descent=DESCENT).statistics_hold


def test_frozen_statistics_stay_when_a_network_is_trained(space) -> None:
    network = SubNetwork(b for _, b in space.named_blocks(space.smallest()))
    network.has_frozen_statistics = network.statistics_hold = True
    before = [m.running_mean.clone() for m in norms_of(network)]
    assert train_alone(network, make_stream(), steps=2, descent=DESCENT).statistics_hold
    assert all(torch.equal(m.running_mean, b) for m, b in zip(norms_of(network), before, strict=True))
    assert not any(m.training for m in network.modules())


def test_what_a_teacher_says_counts(space) -> None:
    teacher = SubNetwork(b for _, b in space.named_blocks(space.largest())).eval()
    alone, taught = trained(space), trained(space, teacher=teacher)
    assert not all(torch.equal(a, b) for a, b in zip(alone.parameters(), taught.parameters(), strict=True))
    assert all(p.grad is None for p in teacher.parameters())


def test_training_stops_at_a_loss_that_is_not_finite(space) -> None:
    network = SubNetwork(b for _, b in space.named_blocks(space.smallest()))
    with pytest.raises(DivergenceError):
        train_alone(network, make_stream(), steps=20, descent=Descent(learning_rate=1e30))


# ---------------------------------------------------------------- where it is kept


class StoppedError(Exception):
    """Somebody presses Ctrl-C."""


def stop_after(steps: int) -> Callable[[int, int, str], None]:
    def progress(done: int, total: int, note: str) -> None:
        if done == steps:
            raise StoppedError

    return progress


@pytest.mark.parametrize("optimizer", ["sgd", "adamw"])
def test_a_stopped_training_goes_on_to_the_same_bits(space, tmp_path: Path, optimizer: str) -> None:
    descent = Descent.of(optimizer, learning_rate=0.01)
    kept = Kept(path=tmp_path / "alone" / "a.safetensors", every_s=0.0)
    told: list[str] = []

    def run(**given: Any) -> SubNetwork:
        torch.manual_seed(0)
        network = SubNetwork(b for _, b in space.named_blocks(space.smallest()))
        return train_alone(network, make_stream(), steps=4, descent=descent, **given)

    with pytest.raises(StoppedError):
        run(kept=kept, progress=stop_after(3))
    resumed = run(kept=replace(kept, tell=told.append)).state_dict()
    assert told == [f"{kept.path} is at step 2 of 4"]
    assert all(torch.equal(v, resumed[k]) for k, v in run().state_dict().items())


def test_a_finished_training_is_not_done_again(space, tmp_path: Path) -> None:
    torch.manual_seed(0)
    network = SubNetwork(b for _, b in space.named_blocks(space.smallest()))
    start, kept = copy.deepcopy(network), Kept(path=tmp_path / "a.safetensors")
    shape = network.in_shape
    first = finetune(network, make_stream(), in_shape=shape, steps=2, kept=kept).state_dict()
    steps: list[int] = []
    again = finetune(
        start, make_stream(), in_shape=shape, steps=2, kept=kept, progress=lambda done, total, note: steps.append(done)
    )
    assert not steps
    assert all(torch.equal(v, first[k]) for k, v in again.state_dict().items())
    assert [p.name for p in tmp_path.iterdir()] == ["a.safetensors"]


def test_a_file_under_the_name_of_another_training_is_refused(space, tmp_path: Path) -> None:
    network = SubNetwork(b for _, b in space.named_blocks(space.smallest()))
    first, other = (Kept(path=tmp_path / f"{name}.safetensors") for name in "ab")
    train_alone(copy.deepcopy(network), make_stream(), steps=1, descent=DESCENT, kept=first)
    first.path.rename(other.path)
    with pytest.raises(CheckpointError, match="was kept as a; delete it"):
        train_alone(network, make_stream(), steps=1, descent=DESCENT, kept=other)


def test_names_of_trainings_tell_networks_apart() -> None:
    a, b = torch.zeros(2, 3), torch.zeros(3, 2)
    digests = [digest_of_tensors(t) for t in ([("w", a)], [("v", a)], [("w", b)], [("w", a + 1)], [("w", a.double())])]
    assert len(set(digests)) == len(digests)
    assert digest_of_tensors([("w", a.T)]) == digest_of_tensors([("w", b)])
