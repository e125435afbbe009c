"""Tasks by the names that configurations have."""

from __future__ import annotations

from dataclasses import dataclass
from pathlib import Path

import pytest

from hwnas.errors import ConfigError, UnknownNameError
from hwnas.row_parts import RowPart
from hwnas.tasks import make_task
from hwnas.tasks.classification import Classification
from hwnas.tasks.regression import Regression

OWN = """
from hwnas.tasks.regression import Regression

class Halves(Regression):
    name, metric = "halves", "score"

    def measures(self, means):
        return {"score": super().measures(means)["r2"] / 2}

def make() -> Halves:
    return Halves()

def wrong() -> Halves:
    return 7

def broken() -> Halves:
    raise KeyError("x")
"""


@pytest.fixture
def here(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> Path:
    (tmp_path / "own_task.py").write_text(OWN)
    monkeypatch.chdir(tmp_path)
    return tmp_path


def test_a_task_of_ones_own(here: Path) -> None:
    told: list[str] = []
    task = make_task("python:own_task:make", tell=told.append)
    assert isinstance(task, Regression)
    assert (task.name, task.metric) == ("halves", "score")
    assert told == [f"task: the function make of {here / 'own_task.py'} is run"]


@pytest.mark.parametrize(
    ("function", "says"),
    [("wrong", "is a int, but must be a hwnas.tasks.Task"), ("broken", "the task function own_task:broken failed")],
)
def test_what_is_no_task_is_refused(here: Path, function: str, says: str) -> None:
    with pytest.raises(ConfigError, match=says):
        make_task(f"python:own_task:{function}")


def test_an_unknown_name_lists_the_known() -> None:
    with pytest.raises(UnknownNameError, match="classification, multi_label, outputs, regression, segmentation"):
        make_task("detection")


def test_what_a_task_has_not_is_refused() -> None:
    with pytest.raises(ConfigError, match="the task 'regression' has no class_weights"):
        make_task("regression", settings={"class_weights": "balanced"})


def test_weights_are_one_a_class() -> None:
    import numpy as np

    from hwnas.data.arrays import ArrayDataset

    labels = ArrayDataset(inputs=np.zeros((4, 1), np.float32), targets=np.array([0, 1, 2, 2]))
    task = make_task("classification", settings={"class_weights": (1.0, 2.0)})
    with pytest.raises(ConfigError, match="give 'balanced', or 3 numbers, one a class"):
        task.fitted(labels)


def documented() -> list[str]:
    """The programs of the page about tasks."""
    text = (Path(__file__).parents[2] / "docs" / "tasks.md").read_text()
    return [part.partition("```")[0] for part in text.split("```python\n")[1:]]


def test_the_documented_task_of_several_outputs_learns_both_and_is_ranked_by_one(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    import torch

    from hwnas.row_parts import RowPart
    from hwnas.tasks import score_of

    (tmp_path / "my_two.py").write_text(documented()[1])
    monkeypatch.chdir(tmp_path)
    task = make_task("python:my_two:make")
    assert task.takes_several
    task.parts = (RowPart(name="classes", shape=(2,)), RowPart(name="boxes", shape=(4,)))
    assert task.fits((6,), n_outputs=2)
    assert not task.fits((6,), n_outputs=6)
    rows = torch.randn(8, 6, generator=torch.Generator().manual_seed(0))
    assert score_of(task, [(rows, rows[:, :2].argmax(1))]).value == 1
    off = rows.clone()
    off[:, 2:] += 1
    assert float(task.distill(off, rows)) == pytest.approx(float(task.distill(rows, rows)) + 1)


def test_the_task_of_the_documentation_is_as_it_says(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    import torch

    from hwnas.tasks import score_of

    (tmp_path / "my_task.py").write_text(documented()[0])
    monkeypatch.chdir(tmp_path)
    task = make_task("python:my_task:make")
    logits = torch.tensor([[2.0, 1.0], [2.0, 1.0], [1.0, 2.0], [2.0, 1.0]])
    found = score_of(task, [(logits, torch.tensor([0, 1, 1, 0]))])
    assert found.value == pytest.approx(1 - 10 / 22)
    assert 0.01 < found.standard_error < 0.5


def test_a_task_of_ones_own_may_be_frozen_and_stays_as_it_is() -> None:
    @dataclass(frozen=True)
    class Frozen(Classification):
        cost: float = 2.0

    task, parts = Frozen(), (RowPart(name="a", shape=(2,)), RowPart(name="b", shape=(3,)))
    assert task.with_parts(()) is task
    assert (task.with_parts(parts).parts, task.with_parts(parts).cost, task.parts) == (parts, 2.0, ())
