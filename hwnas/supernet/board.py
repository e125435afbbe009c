"""What TensorBoard shows of a training. Knows numbers and a folder; never spaces, devices or search."""

from __future__ import annotations

from collections.abc import Mapping
from pathlib import Path

from hwnas.errors import MissingPackageError


class Board:
    """Curves of a training as TensorBoard's event files: `tensorboard --logdir FOLDER` draws them.

    Args:
        folder: of the files; each start of a training adds one.
        until: the step that the training is at; what earlier starts wrote beyond it is not shown any more.

    Raises:
        MissingPackageError: tensorboardX, which writes them, is not installed.
    """

    def __init__(self, folder: Path, *, until: int) -> None:
        try:
            from tensorboardX import SummaryWriter
        except ImportError as e:
            raise MissingPackageError("tensorboardX", "tensorboard", needed_for="train.tensorboard") from e
        self._writer = SummaryWriter(str(folder), purge_step=until + 1 if until else None)

    def add(self, step: int, values: Mapping[str, float]) -> None:
        """Add a point to each curve.

        Args:
            step: of the training.
            values: name of a curve -> its value.
        """
        for name, value in values.items():
            self._writer.add_scalar(name, value, step)

    def write(self) -> None:
        """Put on disk what was added."""
        self._writer.flush()
