"""What a share of right predictions hides."""

from __future__ import annotations

import numpy as np
import pytest

from hwnas.deployment import ByClass, guessing_note
from hwnas.deployment.mistakes import worst_mistakes

NAMES = ("good", "scratched", "dented")


def counted(labels: list[int], predicted: list[int]) -> ByClass:
    return ByClass.of(np.array(labels), np.array(predicted), class_names=NAMES)


def test_each_class_has_its_recall_and_all_of_them_a_mean() -> None:
    found = counted([0, 0, 0, 0, 1, 1, 2], [0, 0, 0, 1, 1, 0, 0])
    assert [(c.name, c.n, c.found, c.recall) for c in found.classes] == [
        ("good", 4, 3, 0.75), ("scratched", 2, 1, 0.5), ("dented", 1, 0, 0.0)
    ]  # fmt: skip
    assert found.balanced_accuracy == pytest.approx((0.75 + 0.5 + 0.0) / 3)
    assert (found.majority, found.majority_share) == ("good", pytest.approx(4 / 7))


def test_confusions_are_counted_the_most_frequent_first() -> None:
    found = counted([0, 0, 1, 1, 1, 2], [1, 0, 0, 0, 2, 2])
    assert [(c.true, c.predicted, c.count) for c in found.confusions] == [
        ("scratched", "good", 2), ("good", "scratched", 1), ("scratched", "dented", 1)
    ]  # fmt: skip


def test_a_class_without_images_has_no_recall_and_does_not_count() -> None:
    found = counted([0, 0, 1], [0, 0, 1])
    assert found.classes[2].recall is None
    assert found.balanced_accuracy == 1.0
    assert found.confusions == ()


def test_a_majority_classes_accuracy_is_told_as_such() -> None:
    found = counted([0] * 96 + [1] * 4, [0] * 100)
    guessing, missed = found.warnings()
    assert "96.00 % on 100 images is not above what naming the largest class for every image gives" in guessing
    assert missed == "not one test image is found of 'scratched' (0 of 4)"


def test_good_networks_are_not_warned_of() -> None:
    assert counted([0] * 50 + [1] * 30 + [2] * 20, [0] * 48 + [1] * 32 + [2] * 20).warnings() == []


@pytest.mark.parametrize(("accuracy", "told"), [(0.5, True), (0.59, True), (0.61, False)])
def test_noise_is_no_better_than_guessing(accuracy: float, told: bool) -> None:
    assert bool(guessing_note(accuracy, majority="good", share=0.5, n=100)) is told


def test_of_many_classes_the_frequent_confusions_are_kept() -> None:
    labels = np.repeat(np.arange(200), 5)
    names = [f"class {i}" for i in range(200)]
    found = ByClass.of(labels, np.random.default_rng(0).integers(0, 200, len(labels)), class_names=names)
    assert len(found.confusions) == 400
    assert found.confusions[0].count >= found.confusions[-1].count


def test_the_worst_mistakes_are_those_the_network_was_surest_of() -> None:
    images = np.arange(4 * 8 * 8, dtype=np.uint8).reshape(4, 8, 8, 1)
    labels = np.array([0, 0, 0, 1])
    logits = np.array([[0.0, 1.0, 0.0], [0.0, 3.0, 0.0], [2.0, 0.0, 0.0], [0.0, 5.0, 0.0]])
    by_class = ByClass.of(labels, logits.argmax(1), class_names=NAMES)
    found = worst_mistakes(images, labels, logits, by_class=by_class, class_names=NAMES)
    assert [(m.true, m.predicted) for m in found] == [("good", "scratched")] * 2
    np.testing.assert_array_equal(found[0].image, images[1])


def test_large_mistakes_are_kept_small() -> None:
    images = np.zeros((1, 300, 200, 3), np.uint8)
    logits = np.array([[0.0, 1.0, 0.0]])
    by_class = ByClass.of(np.array([0]), np.array([1]), class_names=NAMES)
    (mistake,) = worst_mistakes(images, np.array([0]), logits, by_class=by_class, class_names=NAMES)
    assert mistake.image.shape == (64, 43, 3)
