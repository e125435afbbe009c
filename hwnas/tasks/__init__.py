"""What a network is for: which targets it learns from, by which loss, and how good its answers are.

    task = make_task("segmentation").fitted(data.train)
    task.loss(outputs, targets), task.measures(...)  # {"mean_iou": 0.71, "pixel_accuracy": 0.93}

Knows tensors, arrays and targets; must never know devices, tables or spaces.
"""

from hwnas.tasks.base import Score, Task, score_of, score_of_statistics, statistics_of
from hwnas.tasks.making import make_task, task_identity

__all__ = ["Score", "Task", "make_task", "score_of", "score_of_statistics", "statistics_of", "task_identity"]
