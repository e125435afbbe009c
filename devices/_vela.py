"""Arm's Vela and tflite-micro in a process of their own: asked here, answered by `_vela_server.py`.

Both need packages that clash with ours, so they live in an environment that is made on demand. This module knows
processes and their last words; not what is asked of the tools.
"""

from __future__ import annotations

import atexit
import os
import tempfile
import threading
from collections.abc import Mapping, Sequence
from functools import cache
from pathlib import Path
from typing import IO, Any

from hwnas.errors import ConfigError, MeasurementError, MeasurementTimeoutError, WorkerCrashedError
from hwnas.measure._child import Child

from ._environments import ToolEnvironment, ToolEnvironmentError

ENVIRONMENT = ToolEnvironment(
    name="ethos-u",
    requirements=(
        "ethos-u-vela==5.2.0",
        "tflite-micro==0.dev20261023182759",
        "flatbuffers==25.12.19",
        "numpy==2.4.6",
        "PyYAML==6.0.3",
    ),
)
_SERVER = Path(__file__).with_name("_vela_server.py")
_START_S = 120.0  # to import the tools, on a slow disk
_LIMIT_S = 300.0  # for one answer
_GRACE_S = 30.0  # after which a process whose parent is gone ends itself, even if the tool hangs
_WORDS_SHOWN = 1500


class VelaTools:
    """The process with the tools. It starts with the first question and is replaced if it died. Thread-safe."""

    def __init__(self, command: Sequence[str] | None = None, *, limit_s: float = _LIMIT_S) -> None:
        """Describe the process.

        Args:
            command: starts a server; the path of a file for the tools' words is added. By default ours, in the
                tools' environment.
            limit_s: for one answer, or for one step of it.
        """
        self._command = command
        self._limit_s = limit_s
        self._lock = threading.Lock()
        self._child: Child | None = None
        self._words: IO[bytes] | None = None
        self._versions: dict[str, str] = {}

    def versions(self) -> dict[str, str]:
        """Versions of the tools: `vela`, `tflite_micro`.

        Raises:
            ToolEnvironmentError: the environment cannot be made or has not the tools.
        """
        with self._lock:
            self._running()
            return dict(self._versions)

    def ask(self, op: str, arguments: Mapping[str, Any], *, about: str, steps: int = 1) -> Any:
        """The answer to one question.

        Args:
            op: the operation's name.
            arguments: JSON values.
            about: what it is about, for messages: a file's path.
            steps: how often the time for one answer is allowed.

        Raises:
            ToolEnvironmentError: as for `versions`.
            ConfigError: the tools do not know a setting.
            ArtefactError: a file has changed or is not there any more.
            MeasurementError: a tool refused, crashed on or took too long over what it was asked; has its words.
        """
        with self._lock:
            child = self._running()
            start = self._words_said()
            limit_s = int(self._limit_s + _GRACE_S)
            try:
                return child.request(op, {**arguments, "limit_s": limit_s}, timeout_s=self._limit_s * steps)
            except (WorkerCrashedError, MeasurementTimeoutError) as e:
                # Not as what they are: to the measuring process' parent they would mean that process, which lives.
                how = str(e).replace("the measuring process", "its process")
                said = self._words_since(start)
                raise MeasurementError(
                    f"Vela or tflite-micro failed on {about}: {how}{f'; its last words: {said}' if said else ''}"
                ) from e
            except (ConfigError, MeasurementError) as e:
                raise type(e)(f"{about}: {e}") from e

    def close(self) -> None:
        """End the process; the next question starts another."""
        with self._lock:
            self._stop()

    def _running(self) -> Child:
        if self._child is not None and self._child.alive:
            return self._child
        self._stop()
        command = self._command or (str(ENVIRONMENT.python()), "-I", str(_SERVER))
        name = ""
        try:
            with tempfile.NamedTemporaryFile(prefix="hwnas-vela-", delete=False) as created:
                name = created.name
            self._words = open(name, "rb")  # noqa: SIM115  lives as long as the process
            self._child = Child((*command, name))
            self._versions = self._child.request("hello", {"limit_s": int(_START_S)}, timeout_s=_START_S)
        except (ConfigError, WorkerCrashedError, MeasurementTimeoutError) as e:
            said = self._words_since(0)
            self._stop()
            raise ToolEnvironmentError(
                f"{command[0]} cannot serve Vela and tflite-micro: {e}{f'; last words: {said}' if said else ''}; it "
                f"needs {', '.join(ENVIRONMENT.requirements)}. Unset {ENVIRONMENT.variable} if it is set, else remove "
                f"{ENVIRONMENT.folder}: it is made again"
            ) from e
        except BaseException:
            self._stop()
            raise
        finally:
            if name:
                os.unlink(name)  # both ends have it open; nothing stays behind, however they end
        return self._child

    def _stop(self) -> None:
        if self._child is not None:
            self._child.close()
        if self._words is not None:
            self._words.close()
        self._child = self._words = None

    def _words_said(self) -> int:
        return os.fstat(self._words.fileno()).st_size if self._words is not None else 0

    def _words_since(self, start: int) -> str:
        if self._words is None:
            return ""
        start = max(start, self._words_said() - _WORDS_SHOWN)
        text = os.pread(self._words.fileno(), _WORDS_SHOWN, start).decode(errors="replace")
        return " ".join(text.split())


def shared_tools() -> VelaTools:
    """The tools all runtimes of this process share: to start them takes as long as a hundred answers."""
    return _tools_of(os.getpid())  # a forked child must not speak through its parent's pipes


@cache
def _tools_of(pid: int) -> VelaTools:
    tools = VelaTools()

    def close() -> None:
        if os.getpid() == pid:
            tools.close()

    atexit.register(close)
    return tools
