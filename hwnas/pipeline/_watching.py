"""What is seen of a training while it goes on. Knows runs and evaluation; never devices or search."""

from __future__ import annotations

from typing import TYPE_CHECKING

import numpy as np

from hwnas.precisions import EXACT
from hwnas.workspace import Workspace

if TYPE_CHECKING:
    from hwnas.supernet.training import Trainer
    from hwnas.supernet.watching import Log, Watch

LOG_FILE = "training.csv"
BOARD_FOLDER = "tensorboard"
_WATCHED = 500  # images


def open_log(work: Workspace, trainer: Trainer) -> Log:
    """Where losses and accuracies are written, as far as the training has come.

    Raises:
        MissingPackageError: they are asked for as TensorBoard has them, and what writes that is not installed.
    """
    from hwnas.supernet.board import Board
    from hwnas.supernet.watching import Log

    is_asked = work.config.train.tensorboard and trainer.step < trainer.settings.steps
    board = Board(work.folder / BOARD_FOLDER, until=trainer.step) if is_asked else None
    return Log(work.folder / LOG_FILE, until=trainer.step, board=board)


def watch(work: Workspace, trainer: Trainer) -> Watch | None:
    """Looks at the smallest, a middle and the largest network, in floats, on some validation images."""
    import torch

    from hwnas.accuracy import SubnetEvaluator
    from hwnas.supernet.watching import Watch

    share = work.config.train.watch_share
    if not share or trainer.step >= trainer.settings.steps:
        return None
    if EXACT not in work.training_space.precisions:  # its networks are not looked at in floats
        return None
    space = work.training_space.restrict(precisions=(EXACT,))
    middle = space.canonical(np.array([len(c.options) // 2 for c in space.choices]))
    encodings = {"smallest": space.smallest(), "middle": middle, "largest": space.largest()}
    made: list[SubnetEvaluator] = []

    def look() -> dict[str, float]:
        if not made:  # when it is first asked for: a short training needs no second copy of the weights
            with torch.random.fork_rng(devices=[]):
                supernet = work.new_supernet()
            supernet.is_given = False
            made.append(
                SubnetEvaluator(
                    supernet.eval(),
                    train=work.stream("train"),
                    validation=work.stream("validation"),
                    task=work.task,
                    recalibration_samples=min(_WATCHED, work.config.search.recalibration_samples),
                    validation_samples=_WATCHED,
                )
            )
        (evaluator,) = made
        with torch.no_grad():
            for name, p in evaluator.supernet.named_parameters():
                p.copy_(trainer.averages()[name])
        found = {}
        for name, encoding in encodings.items():
            network = evaluator.recalibrate(evaluator.supernet.extract(space.named_blocks(encoding)))
            found[name] = evaluator.score(network, in_shape=network.in_shape).value
        return found

    return Watch(look, share=share)
