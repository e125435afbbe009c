"""What a mean IoU hides."""

from __future__ import annotations

import numpy as np
import pytest
import torch

from hwnas.deployment import ByPixel
from hwnas.tasks import score_of_statistics, statistics_of
from hwnas.tasks.segmentation import Segmentation

NAMES = ("background", "cat", "dog")


def counted(said: list[int], so: list[int], n_classes: int = 3) -> ByPixel:
    """Of one image of a row of pixels."""
    task = Segmentation()
    outputs = torch.nn.functional.one_hot(torch.tensor(said), n_classes).float().T[None, :, None]
    statistics = statistics_of(task, outputs, torch.tensor(so, dtype=torch.uint8)[None, None])
    found = ByPixel.of(task.by_class(statistics), class_names=NAMES)
    score = score_of_statistics(task, [statistics])
    assert found.mean_iou == pytest.approx(score.value)
    assert found.pixel_accuracy == pytest.approx(score.measures["pixel_accuracy"])
    return found


def test_each_class_has_its_iou() -> None:
    found = counted([0, 0, 0, 1, 1, 2, 0], [0, 0, 1, 1, 1, 0, 255])
    assert [(c.name, c.n, c.said, c.found, c.iou) for c in found.classes] == [
        ("background", 3, 3, 2, 0.5), ("cat", 3, 2, 2, pytest.approx(2 / 3)), ("dog", 0, 1, 0, 0.0)
    ]  # fmt: skip
    assert (found.majority, found.majority_share, found.majority_iou) == ("background", 0.5, 0.25)
    assert found.warnings() == []


def test_a_class_that_is_neither_there_nor_said_has_none() -> None:
    assert counted([0, 1], [0, 1]).classes[2].iou is None


def test_background_everywhere_is_told_as_such() -> None:
    guessing, missed = counted([0] * 10, [0] * 8 + [1, 2]).warnings()
    assert guessing == (
        "a mean IoU of 26.67 % is not above what naming the largest class for every pixel gives: 26.67 %, 80.00 % of "
        "the pixels are of 'background'"
    )
    assert missed == "not one test pixel is found of 'cat' (0 of 1), 'dog' (0 of 1)"


def test_one_class_alone_is_no_guess() -> None:
    assert counted([0, 0], [0, 0]).warnings() == []


def test_outputs_without_a_name_are_told_by_number() -> None:
    assert [c.name for c in counted([0, 3], [0, 3], n_classes=5).classes] == [*NAMES, "class 3", "class 4"]


def test_a_manifest_keeps_it() -> None:
    found = counted([0, 1, 1], [0, 1, 0])
    assert ByPixel.model_validate_json(found.model_dump_json()) == found
    assert np.isclose(found.majority_iou, 1 / 3)
