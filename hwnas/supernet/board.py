"""What TensorBoard shows of a training. Knows numbers and a folder; never spaces, devices or search."""

from __future__ import annotations

import contextlib
import time
from collections.abc import Mapping
from pathlib import Path
from typing import Any

from hwnas.errors import MissingPackageError

_PREFIX = "events"


class Board:
    """Curves of a training as TensorBoard's event files: `tensorboard --logdir FOLDER` draws them.

    They are for people: where they cannot be written, as on a full disk, the training goes on without.

    Args:
        folder: of the files; each start of a training adds one.
        until: the step that the training is at; what earlier starts wrote beyond it is not shown any more.

    Raises:
        MissingPackageError: tensorboardX, which writes them, is not installed.
        OSError: the folder cannot be made, or no file in it.
    """

    def __init__(self, folder: Path, *, until: int) -> None:
        try:
            # not its SummaryWriter: that writes from a thread, which a full disk ends without a word, and then waits
            from tensorboardX.event_file_writer import EventsWriter
            from tensorboardX.proto.event_pb2 import Event, SessionLog
        except ImportError as e:
            raise MissingPackageError("tensorboardX", "tensorboard", needed_for="train.tensorboard") from e
        folder.mkdir(parents=True, exist_ok=True)
        # its own names tell seconds, in which two starts may lie
        self._writer: Any = EventsWriter(str(folder / _PREFIX), filename_suffix=f".{time.time_ns()}")
        self._event = Event
        self._put(step=until + 1, session_log=SessionLog(status=SessionLog.START))  # later points are forgotten

    def add(self, step: int, values: Mapping[str, float]) -> None:
        """Add a point to each curve.

        Args:
            step: of the training.
            values: name of a curve -> its value.
        """
        self._put(step=step, summary={"value": [{"tag": k, "simple_value": v} for k, v in values.items()]})

    def write(self) -> None:
        """Put on disk what was added."""
        if self._writer is not None:
            try:
                self._writer.flush()
            except OSError:
                self.close()

    def close(self) -> None:
        """Put on disk what was added, and let go of the file."""
        writer, self._writer = self._writer, None
        if writer is not None:
            with contextlib.suppress(OSError):
                writer.close()

    def _put(self, **content: Any) -> None:
        if self._writer is not None:
            try:
                self._writer.write_event(self._event(wall_time=time.time(), **content))
            except OSError:
                self.close()
