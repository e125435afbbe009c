"""Tasks by the names that configurations have."""

from __future__ import annotations

from pathlib import Path

import pytest

from hwnas.errors import ConfigError, UnknownNameError
from hwnas.tasks import make_task
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
    with pytest.raises(UnknownNameError, match="classification, multi_label, regression, segmentation"):
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


def test_the_task_of_the_documentation_is_as_it_says(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    import torch

    from hwnas.tasks import score_of

    text = (Path(__file__).parents[2] / "docs" / "tasks.md").read_text()
    (code,) = [part.partition("```")[0] for part in text.split("```python\n")[1:]]
    (tmp_path / "my_task.py").write_text(code)
    monkeypatch.chdir(tmp_path)
    task = make_task("python:my_task:make")
    logits = torch.tensor([[2.0, 1.0], [2.0, 1.0], [1.0, 2.0], [2.0, 1.0]])
    found = score_of(task, [(logits, torch.tensor([0, 1, 1, 0]))])
    assert found.value == pytest.approx(1 - 10 / 22)
    assert 0.01 < found.standard_error < 0.5
