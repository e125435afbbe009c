"""What tasks measure, against other people's code or what is known by hand."""

from __future__ import annotations

import numpy as np
import pytest
import torch
from sklearn.metrics import f1_score, jaccard_score, mean_absolute_error, r2_score
from torch import Tensor

from hwnas.data.arrays import ArrayDataset
from hwnas.errors import ConfigError
from hwnas.tasks import Score, Task, make_task, score_of
from hwnas.tasks.regression import Regression

RNG = np.random.default_rng(0)


def scored(task: Task, outputs: Tensor, targets: Tensor, *, batch: int = 7) -> Score:
    return score_of(task, zip(outputs.split(batch), targets.split(batch), strict=True))


def samples(targets: np.ndarray) -> ArrayDataset:
    return ArrayDataset(inputs=np.zeros((len(targets), 1), np.float32), targets=targets)


# ---------------------------------------------------------------- classification


def test_accuracy_and_top5() -> None:
    logits = torch.tensor([[6.0, 5, 4, 3, 2, 1], [1, 2, 3, 4, 5, 6], [6, 5, 4, 3, 2, 1], [6, 5, 4, 3, 2, 1]])
    found = scored(make_task("classification"), logits.repeat(4, 1), torch.tensor([0, 0, 1, 4] * 4))
    assert found.measures == {"accuracy": 0.25, "top5": 0.75}
    assert (found.value, found.n) == (0.25, 16)
    assert found.standard_error == pytest.approx((0.25 * 0.75 / 16) ** 0.5)


def test_five_classes_have_no_top5() -> None:
    found = scored(make_task("classification"), torch.eye(5), torch.arange(5))
    assert found.measures == {"accuracy": 1.0}
    assert found.standard_error == 1 / 5  # never exact


def test_balanced_weights_make_errors_of_rare_classes_count() -> None:
    labels = np.array([0] * 90 + [1] * 10)
    task = make_task("classification", settings={"class_weights": "balanced"}).fitted(samples(labels))
    logits = torch.zeros(100, 2)
    logits[:, 0] = 5.0  # the frequent class for everybody
    plain = make_task("classification").loss(logits, torch.from_numpy(labels))
    assert task.loss(logits, torch.from_numpy(labels)) > 3 * plain


# ---------------------------------------------------------------- labels


def test_macro_f1_is_scikit_learns() -> None:
    targets = RNG.integers(0, 2, (40, 3))
    outputs = RNG.normal(size=(40, 3)) + targets
    found = scored(make_task("multi_label"), torch.from_numpy(outputs), torch.from_numpy(targets.astype(np.uint8)))
    said = outputs > 0
    assert found.value == pytest.approx(f1_score(targets, said, average="macro"))
    assert found.measures["exact_match"] == pytest.approx((said == targets).all(1).mean())
    assert found.measures["label_accuracy"] == pytest.approx((said == targets).mean())


def test_a_label_that_never_occurs_and_is_never_said_does_not_count() -> None:
    outputs, targets = torch.tensor([[1.0, -1.0], [-1.0, -1.0]]), torch.tensor([[1, 0], [0, 0]], dtype=torch.uint8)
    assert scored(make_task("multi_label"), outputs, targets).value == 1.0


# ---------------------------------------------------------------- values


@pytest.mark.parametrize("given", [False, True])
def test_r2_and_errors_are_scikit_learns_in_the_targets_units(given: bool) -> None:
    targets = (RNG.normal(size=(50, 2)) * [3.0, 400.0] + [1e6, -5.0]).astype(np.float32)
    task = Regression().fitted(samples(targets), given=given)
    foretold = targets + RNG.normal(size=(50, 2)) * [1.0, 100.0]
    outputs = foretold if given else (foretold - np.asarray(task.mean)) / np.asarray(task.std)
    found = scored(task, torch.from_numpy(outputs), torch.from_numpy(targets))
    assert found.value == pytest.approx(r2_score(targets, foretold), abs=1e-6)
    assert found.measures["mae"] == pytest.approx(mean_absolute_error(targets, foretold), rel=1e-6)
    assert found.measures["rmse"] == pytest.approx(((targets - foretold) ** 2).mean() ** 0.5, rel=1e-6)


def test_a_value_that_is_the_same_for_all_samples_says_nothing() -> None:
    targets = RNG.normal(size=(60, 2)).astype(np.float32)
    task = Regression().fitted(samples(targets), given=True)
    seen = targets.copy()
    seen[:, 1] = 0.0
    seen[:2, 1] = 3.0  # of which a resample may have none
    found = scored(task, torch.from_numpy(seen + 0.1), torch.from_numpy(seen))
    assert found.standard_error < 1
    seen[:, 1] = 0.0
    only = scored(task, torch.from_numpy(seen + 0.1), torch.from_numpy(seen)).value
    assert only == pytest.approx(r2_score(seen[:, 0], seen[:, 0] + 0.1), abs=1e-5)
    with pytest.raises(ConfigError, match="measured r2 as nan on 60 samples"):
        scored(task, torch.zeros(60, 2), torch.zeros(60, 2))


def test_no_value_outweighs_another_by_its_unit() -> None:
    targets = (RNG.normal(size=(50, 2)) * [1.0, 1000.0]).astype(np.float32)
    task = Regression().fitted(samples(targets))
    outputs = torch.zeros(50, 2, requires_grad=True)
    task.loss(outputs, torch.from_numpy(targets)).backward()
    assert outputs.grad is not None
    first, second = outputs.grad.abs().mean(0)
    assert 0.5 < first / second < 2


# ---------------------------------------------------------------- masks


def test_mean_iou_is_scikit_learns_where_pixels_are_known() -> None:
    targets = RNG.integers(0, 3, (9, 4, 6)).astype(np.uint8)
    targets[0, :2] = 255
    outputs = torch.from_numpy(RNG.normal(size=(9, 3, 4, 6)))
    found = scored(make_task("segmentation"), outputs, torch.from_numpy(targets), batch=4)
    known = targets != 255
    said = outputs.argmax(1).numpy()
    assert found.value == pytest.approx(jaccard_score(targets[known], said[known], average="macro"))
    assert found.measures["pixel_accuracy"] == pytest.approx((targets == said)[known].mean())


def test_outputs_of_another_size_are_brought_to_the_masks() -> None:
    task = make_task("segmentation")
    outputs, targets = torch.zeros(2, 2, 4, 4), torch.ones(2, 8, 8, dtype=torch.uint8)
    outputs[:, 1] = 9.0
    assert scored(task, outputs, targets).value == 1.0
    assert task.loss(outputs, targets) < 1e-3


def test_a_class_without_a_training_pixel_has_a_weight_too() -> None:
    masks = np.zeros((4, 2, 2), np.uint8)
    masks[0, 0] = 1
    task = make_task("segmentation", settings={"class_weights": "balanced"})
    task.fitted(ArrayDataset(inputs=np.zeros((4, 2, 2, 1), np.uint8), targets=masks), n_outputs=3)
    assert torch.isfinite(task.loss(torch.zeros(4, 3, 2, 2), torch.from_numpy(masks)))
    unknown = torch.full((4, 2, 2), 255, dtype=torch.uint8)
    assert float(task.loss(torch.zeros(4, 3, 2, 2), unknown)) == 0.0


def test_pixels_that_nobody_knows_teach_nothing() -> None:
    outputs = torch.randn(2, 3, 4, 4, requires_grad=True)
    targets = torch.full((2, 4, 4), 255, dtype=torch.uint8)
    targets[0, 0, 0] = 1
    make_task("segmentation").loss(outputs, targets).backward()
    assert outputs.grad is not None
    assert int((outputs.grad.abs().sum(1) > 0).sum()) == 1


# ---------------------------------------------------------------- all of them


TASKS = {
    "classification": (torch.randn(30, 4), torch.randint(0, 4, (30,))),
    "multi_label": (torch.randn(30, 4), torch.randint(0, 2, (30, 4), dtype=torch.uint8)),
    "regression": (torch.randn(30, 4), torch.randn(30, 4)),
    "segmentation": (torch.randn(30, 4, 3, 3), torch.randint(0, 4, (30, 3, 3), dtype=torch.uint8)),
}


@pytest.mark.parametrize("name", TASKS)
def test_a_teacher_is_met_where_outputs_are_its_own(name: str) -> None:
    task, (outputs, _) = make_task(name), TASKS[name]
    other = torch.randn_like(outputs)
    assert task.divergence(outputs, outputs) == pytest.approx(0.0, abs=1e-12)
    assert task.divergence(other, outputs) > 1e-3


@pytest.mark.parametrize("name", TASKS)
def test_a_network_taken_at_its_word_is_perfect(name: str) -> None:
    task, (outputs, _) = make_task(name), TASKS[name]
    assert scored(task, outputs, task.answers(outputs)).value == pytest.approx(1.0)


@pytest.mark.parametrize("name", TASKS)
def test_batches_of_any_size_give_the_same(name: str) -> None:
    task, (outputs, targets) = make_task(name), TASKS[name]
    assert scored(task, outputs, targets, batch=30).measures == pytest.approx(
        scored(task, outputs, targets, batch=4).measures
    )


@pytest.mark.parametrize("name", TASKS)
def test_the_standard_error_is_the_spread_over_other_samples(name: str) -> None:
    task = make_task(name)
    rows = torch.from_numpy(RNG.permutation(1200))
    outputs, targets = (torch.cat([x] * 40)[rows] for x in TASKS[name])
    parts = [scored(task, o, t) for o, t in zip(outputs.split(60), targets.split(60), strict=True)]
    spread = float(np.std([p.value for p in parts], ddof=1))
    told = float(np.mean([p.standard_error for p in parts]))
    assert 0.5 < told / spread < 2


@pytest.mark.parametrize("name", TASKS)
def test_learning_by_its_loss_makes_it_better(name: str) -> None:
    task, (outputs, targets) = make_task(name), TASKS[name]
    free = outputs.clone().requires_grad_()
    optimizer = torch.optim.Adam([free], lr=0.1)
    before = scored(task, outputs, targets).value
    for _ in range(100):
        optimizer.zero_grad()
        task.loss(free, targets, label_smoothing=0.05).backward()
        optimizer.step()
    assert scored(task, free.detach(), targets).value > max(before, 0.9)


def test_without_a_sample_nothing_is_measured() -> None:
    with pytest.raises(ValueError, match="no sample"):
        score_of(make_task("classification"), [])
