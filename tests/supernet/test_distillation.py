"""What a given network teaches: its answers, and what its regions hand on."""

from __future__ import annotations

import numpy as np
import pytest
import torch
from torch import Tensor

from hwnas.data.arrays import ArrayDataset
from hwnas.errors import ConfigError
from hwnas.spaces.adapted import AdaptedSpace
from hwnas.supernet.adapted import AdaptedSupernet
from hwnas.supernet.batches import BatchStream
from hwnas.supernet.distillation import Teacher, feature_loss
from hwnas.supernet.settings import TrainSettings
from hwnas.supernet.strategies import SandwichRule
from hwnas.supernet.training import Trainer

from .test_adapted import adapted, given, of


@pytest.fixture
def mobile() -> tuple[AdaptedSpace, AdaptedSupernet]:
    return adapted(given(), torch.randn(4, 3, 16, 16))


def teacher_of(space: AdaptedSpace, supernet: AdaptedSupernet) -> Teacher:
    blocks = space.named_blocks(space.largest())
    return Teacher(supernet.extract(blocks), slots=[name for name, _ in blocks])


def trained(
    space: AdaptedSpace, supernet: AdaptedSupernet, teacher: Teacher, *, weight: float, steps: int = 1
) -> AdaptedSupernet:
    pixels = np.random.default_rng(0).integers(0, 256, (32, 16, 16, 3), dtype=np.uint8)
    data = ArrayDataset(inputs=pixels, targets=np.zeros(32, dtype=np.int64))
    trainer = Trainer(
        supernet,
        BatchStream(data, batch_size=16, mean=(0.5,) * 3, std=(0.25,) * 3),
        strategy=SandwichRule(space, n_random=0),
        named_blocks=space.named_blocks,
        settings=TrainSettings(steps=steps, learning_rate=0.02, weight_decay=0.0, feature_weight=weight),
    )
    trainer.learn_from(teacher)
    trainer.run()
    return supernet


def test_it_is_the_squared_difference_in_units_of_the_teachers_mean_square() -> None:
    theirs = {"a": torch.full((2, 3, 4, 4), 2.0), "b": torch.full((2, 3, 4, 4), 10.0)}
    mine = {"a": torch.full((2, 3, 4, 4), 1.0), "b": torch.full((2, 3, 4, 4), 10.0)}
    assert float(feature_loss(mine, theirs)) == pytest.approx((1 / 4 + 0) / 2)
    scaled = {k: 100 * v for k, v in theirs.items()}
    assert float(feature_loss({k: 100 * v for k, v in mine.items()}, scaled)) == pytest.approx((1 / 4 + 0) / 2)


def test_other_channels_are_not_compared_and_lower_resolutions_at_theirs() -> None:
    theirs = {"a": torch.randn(2, 3, 8, 8), "b": torch.randn(2, 5, 8, 8), "c": torch.randn(2, 7, 16)}
    halved = theirs["a"].reshape(2, 3, 4, 2, 4, 2).mean((3, 5))
    mine = {"a": halved, "b": torch.randn(2, 4, 8, 8), "c": torch.randn(2, 6, 16)}
    assert float(feature_loss(mine, theirs)) == pytest.approx(0.0, abs=1e-12)
    assert float(feature_loss({"b": mine["b"]}, theirs)) == 0.0


def test_each_slot_after_the_first_is_compared_by_what_it_is_given(
    mobile: tuple[AdaptedSpace, AdaptedSupernet],
) -> None:
    space, supernet = mobile
    x = torch.randn(4, 3, 16, 16)
    taught = teacher_of(space, supernet).of(x, with_features=True)
    assert list(taught.handed_on) == [s.name for s in space.slots][1:]
    found: dict[str, Tensor] = {}
    with torch.no_grad():
        supernet.eval()
        supernet.freeze_statistics_()  # by which the largest one is the given one in every mode
        supernet(x, space.named_blocks(space.largest()), handed_on=found)
        assert float(feature_loss(found, taught.handed_on)) == pytest.approx(0.0, abs=1e-10)
        fewer: dict[str, Tensor] = {}
        supernet(x, space.named_blocks(of(space, blocks__depth=0)), handed_on=fewer)
    assert list(fewer) == ["head"]  # what is left out hands nothing on, and what comes next is compared
    assert float(feature_loss(fewer, taught.handed_on)) > 0


@pytest.mark.parametrize(("weight", "moves"), [(0.0, False), (1.0, True)])
def test_features_alone_move_what_no_answer_depends_on(
    mobile: tuple[AdaptedSpace, AdaptedSupernet], weight: float, moves: bool
) -> None:
    space, supernet = mobile
    teacher = teacher_of(space, supernet)
    with torch.no_grad():
        supernet.weights["head/weight"].zero_()  # then the gradient of all answers ends at the head
    before = supernet.numbers()["stem.0.weight"].clone()
    after = trained(space, supernet, teacher, weight=weight).numbers()["stem.0.weight"]
    assert torch.equal(after, before) is not moves


def test_features_come_nearer_to_the_teachers() -> None:
    apart = {}
    for weight in (0.0, 20.0):
        space, supernet = adapted(given(), torch.randn(4, 3, 16, 16))
        teacher = teacher_of(space, supernet)
        trained(space, supernet, teacher, weight=weight, steps=30)
        x, found = torch.randn(16, 3, 16, 16, generator=torch.Generator().manual_seed(1)), {}
        with torch.no_grad():
            supernet(x, space.named_blocks(space.smallest()), handed_on=found)
        apart[weight] = float(feature_loss(found, teacher.of(x, with_features=True).handed_on))
    assert apart[20.0] < 0.9 * apart[0.0]


def test_without_a_weight_nothing_but_answers_is_asked_for(
    mobile: tuple[AdaptedSpace, AdaptedSupernet], monkeypatch: pytest.MonkeyPatch
) -> None:
    space, supernet = mobile
    teacher = teacher_of(space, supernet)
    asked: list[object] = []
    forward, says = supernet.forward, teacher.of

    def forward_only(x: Tensor, blocks: object, **others: object) -> Tensor:
        asked.append(others)
        return forward(x, blocks)  # type: ignore[arg-type]

    monkeypatch.setattr(supernet, "forward", forward_only)
    monkeypatch.setattr(teacher, "of", lambda x, **how: asked.append(how) or says(x, **how))
    trained(space, supernet, teacher, weight=0.0)
    assert asked == [{"with_features": False}, {}, {}]


def test_without_labels_the_largest_learns_from_answers_alone(
    mobile: tuple[AdaptedSpace, AdaptedSupernet],
) -> None:
    """By any label but the teacher's own answer it would be led away; labels that are none would be an error."""
    space, supernet = mobile
    teacher = teacher_of(space, supernet)
    pixels = np.random.default_rng(0).integers(0, 256, (16, 16, 16, 3), dtype=np.uint8)
    data = ArrayDataset(inputs=pixels, targets=np.full(16, -1))
    trainer = Trainer(
        supernet,
        BatchStream(data, batch_size=16, mean=(0.5,) * 3, std=(0.25,) * 3),
        strategy=SandwichRule(space, n_random=0),
        named_blocks=space.named_blocks,
        settings=TrainSettings(steps=1, learning_rate=0.02),
    )
    trainer.learn_from(teacher)
    trainer.run()
    assert trainer.step == 1


def test_a_weight_below_zero_is_refused() -> None:
    with pytest.raises(ConfigError, match="feature_weight is -1; it must be at least 0"):
        TrainSettings(steps=1, feature_weight=-1)
