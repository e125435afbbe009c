"""An environment of its own for a tool whose dependencies clash with ours, made on demand.

It is a virtual environment in the user's cache folder, made once for each set of pinned requirements and each Python,
and needs a network only then. This module knows venv, pip and files; not what the tool is for.
"""

from __future__ import annotations

import fcntl
import hashlib
import os
import shutil
import subprocess
import sys
import sysconfig
import tempfile
import time
from collections.abc import Iterator, Sequence
from contextlib import contextmanager
from dataclasses import dataclass
from pathlib import Path

from hwnas._places import cache_folder
from hwnas.errors import MeasurementError
from hwnas.files import open_own

_LIMIT_S = 900.0  # of each of making, installing, and waiting for another process that does
_POLL_S = 0.2
_LINES_SHOWN = 8  # of pip's last words


class ToolEnvironmentError(MeasurementError):
    """A tool's environment cannot be made or used.

    What to do: see in the message what pip said; delete the folder of the environment to have it made anew.
    """


@dataclass(frozen=True, slots=True, kw_only=True)
class ToolEnvironment:
    """Where a tool lives.

    Attributes:
        name: of the tool: letters, digits and dashes.
        requirements: what pip installs, all of it pinned, so that every machine has the same.
    """

    name: str
    requirements: tuple[str, ...]

    @property
    def variable(self) -> str:
        """The environment variable that names a Python which has the tool already: `HWNAS_PYTHON_<NAME>`."""
        return f"HWNAS_PYTHON_{self.name.upper().replace('-', '_')}"

    @property
    def folder(self) -> Path:
        """Where the environment is once it is complete; it is complete whenever this exists."""
        what = "\n".join((*sorted(self.requirements), str(sys.implementation.cache_tag), sysconfig.get_platform()))
        digest = hashlib.sha256(what.encode()).hexdigest()[:12]
        return cache_folder() / "hwnas" / "environments" / f"{self.name}-{digest}"

    def python(self) -> Path:
        """The environment's Python; the environment is made first if there is none.

        Start it with `-m` or a script's path: console scripts do not survive the environment's move to its place.

        Raises:
            ToolEnvironmentError: it cannot be made; says what failed, pip's last words, and what to do.
        """
        if given := os.environ.get(self.variable):
            if not os.access(given, os.X_OK) or Path(given).is_dir():
                raise ToolEnvironmentError(
                    f"{self.variable} is {given!r}, which is no program that can be started; set it to a Python that "
                    f"has {', '.join(self.requirements)}, or unset it"
                )
            return Path(given)
        python = _python_of(self.folder)
        if not python.exists():
            self._make()
        return python

    def _make(self) -> None:
        folder = self.folder
        try:
            folder.parent.mkdir(parents=True, exist_ok=True)
            with _locked(folder.with_name(f".{folder.name}.lock"), what=self.name):
                if not _python_of(folder).exists():  # another process may have been faster
                    self._build(folder)
        except OSError as e:
            raise ToolEnvironmentError(
                f"cannot make the environment of {self.name} in {folder}: {e.strerror or e}; give XDG_CACHE_HOME "
                f"another folder, or set {self.variable} to a Python that has {', '.join(self.requirements)}"
            ) from e

    def _build(self, folder: Path) -> None:
        """Build beside the place and rename: whatever ends this process, nothing incomplete has the final name."""
        prefix = f".{folder.name}.building-"
        for stale in (*folder.parent.glob(f"{prefix}*"), folder):  # of builders that were killed; without its Python
            shutil.rmtree(stale, ignore_errors=True)
        print(f"making an environment for {self.name} in {folder} (once) ...", file=sys.stderr, flush=True)
        building = Path(tempfile.mkdtemp(prefix=prefix, dir=folder.parent))
        try:
            self._step("a virtual environment", (sys.executable, "-I", "-m", "venv", str(building)))
            pip = (str(_python_of(building)), "-I", "-m", "pip", "--disable-pip-version-check", "--no-input")
            self._step("pip", (*pip, "install", "--quiet", *self.requirements))
            building.rename(folder)
        finally:
            shutil.rmtree(building, ignore_errors=True)  # not there any more if all went well
        print(f"the environment for {self.name} is ready", file=sys.stderr, flush=True)

    def _step(self, what: str, command: Sequence[str]) -> None:
        try:
            done = subprocess.run(
                command,
                stdin=subprocess.DEVNULL,
                stdout=subprocess.PIPE,
                stderr=subprocess.STDOUT,
                timeout=_LIMIT_S,
                check=False,
            )
        except subprocess.TimeoutExpired as e:
            raise self._failure(what, f"it took longer than {_LIMIT_S:g} s", e.stdout or b"") from e
        if done.returncode:
            raise self._failure(what, f"exit status {done.returncode}", done.stdout)

    def _failure(self, what: str, how: str, output: bytes) -> ToolEnvironmentError:
        said = [line for line in output.decode(errors="replace").splitlines() if line.strip()]
        words = "\n  ".join(said[-_LINES_SHOWN:]) or "nothing"
        return ToolEnvironmentError(
            f"cannot make the environment of {self.name}: {what} failed ({how}). Its last words:\n  {words}\n"
            f"This needs a network, once. Without one, install {' '.join(self.requirements)} elsewhere and set "
            f"{self.variable} to that Python; on Debian, venv is the package python3-venv"
        )


def _python_of(folder: Path) -> Path:
    return folder / "bin" / "python"


@contextmanager
def _locked(path: Path, *, what: str) -> Iterator[None]:
    """Hold a lock that the system frees if this process dies."""
    with os.fdopen(open_own(path, create=True)) as file:  # not inherited: a pip that outlives its parent has it not
        deadline = time.monotonic() + _LIMIT_S
        said = False
        while True:
            try:
                fcntl.flock(file, fcntl.LOCK_EX | fcntl.LOCK_NB)
                break
            except BlockingIOError:
                if time.monotonic() > deadline:
                    raise ToolEnvironmentError(
                        f"another process has been making the environment of {what} for {_LIMIT_S:g} s and still "
                        f"holds {path}; end it and try again"
                    ) from None
                if not said:
                    print(f"waiting for another process to make the environment of {what} ...", file=sys.stderr)
                    said = True
                time.sleep(_POLL_S)
        yield
