"""Which classes are taken for which, on the page."""

from __future__ import annotations

import numpy as np

from hwnas.deployment import ByClass, Mistake
from hwnas.report import render_report
from hwnas.report.confusions import matrix, worst_confusions
from tests.report import made_up


def test_few_classes_give_the_whole_matrix() -> None:
    by_class = made_up.by_class(wrong=0.1)
    found = matrix(by_class)
    assert found.part == 0
    assert len(found.rows) == len(found.names) == 10
    for row, c in zip(found.rows, by_class.classes, strict=True):
        assert sum(cell.count for cell in row.cells) == row.n == c.n
        assert row.elsewhere == 0
        assert next(cell.count for cell in row.cells if cell.right) == c.found


def test_of_many_classes_the_worst_confused_are_shown() -> None:
    labels = np.repeat(np.arange(50), 10)
    predicted = np.where((labels == 7) & (np.arange(500) % 2 == 0), 9, labels)
    names = [f"class {i}" for i in range(50)]
    found = matrix(ByClass.of(labels, predicted, class_names=names))
    assert (found.part, found.names) == (50, ("class 7", "class 9"))
    assert [cell.count for cell in found.rows[0].cells] == [5, 5]


def test_the_page_tells_what_accuracy_hides() -> None:
    labels, names = np.array([0] * 96 + [1] * 4), ["good", "<b>faulty</b>"]
    accuracy = made_up.manifest().accuracy.model_copy(
        update={"by_class": ByClass.of(labels, np.zeros(100, int), class_names=names)}
    )
    mistake = Mistake(image=np.zeros((8, 8, 1), np.uint8), true=names[1], predicted="good")
    manifest = made_up.manifest().model_copy(update={"accuracy": accuracy})
    page = render_report(made_up.inputs(manifest=manifest, mistakes=[mistake]))
    assert "naming the largest class for every image gives" in page
    assert "Not one test image is found of" in page
    assert 'src="data:image/png;base64,' in page
    assert "<b>faulty</b>" not in page


def test_a_deployment_that_knows_nothing_by_class_has_no_such_section() -> None:
    accuracy = made_up.manifest().accuracy.model_copy(update={"by_class": None})
    manifest = made_up.manifest().model_copy(update={"accuracy": accuracy})
    assert "Class by class" not in render_report(made_up.inputs(manifest=manifest))


def test_confusions_without_images_are_left_to_the_matrix() -> None:
    assert worst_confusions(made_up.by_class(wrong=0.2), ()) == ()
