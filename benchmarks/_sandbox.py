"""A place in which hostile inputs are tried, and a watch over what is done there.

Each attempt is a process of its own, with little memory and time, on whose path every program is a stand-in that only
notes that it was started. Python's audit events tell what is opened, written, started, imported and connected to, there
and in the measuring processes beneath it. Knows nothing of what is tried.
"""

from __future__ import annotations

import contextlib
import hashlib
import os
import resource
import shutil
import signal
import sys
import time
import traceback
from collections.abc import Callable, Sequence
from dataclasses import dataclass
from pathlib import Path

from hwnas._console import Console
from hwnas.errors import HwnasError

TIME_LIMIT_S = 15.0
MEMORY_LIMIT_MB = 1024  # resident
_ADDRESS_SPACE_BYTES = 4 << 30  # for libraries, which map more than they use
_FILE_BYTES = 64 << 20
_TRACEBACK_STATUS = 70
HOSTILE = 2  # the exit status of wrong input
SECRET = "the-secret-of-another-folder"
_STAND_INS = ("ssh", "scp", "sh", "bash", "python", "python3", "pip", "curl", "touch", "gs", "nc", "id")

# Installed in the attempt and, as sitecustomize, in every Python that it starts.
WATCH = """
import os, sys
_log = os.open(os.environ["HWNAS_WATCH_LOG"], os.O_WRONLY | os.O_APPEND | os.O_CREAT)
_root, _own = os.environ["HWNAS_WATCH_ROOT"], os.environ["HWNAS_WATCH_OWN"].split(os.pathsep)
_outside = os.path.join(_root, "outside")
_writing = os.O_WRONLY | os.O_RDWR | os.O_CREAT | os.O_TRUNC | os.O_APPEND
_never = ("os.system", "os.exec", "os.posix_spawn", "os.spawn", "os.startfile", "pty.spawn", "socket.connect",
          "socket.getaddrinfo", "socket.bind", "webbrowser.open", "ftplib.connect", "urllib.Request")
_changing = ("os.remove", "os.rename", "os.rmdir", "os.mkdir", "os.chmod", "os.chown", "os.link", "os.symlink",
             "os.truncate", "shutil.rmtree", "shutil.move")

def _note(what):
    os.write(_log, (what.replace("\\n", " ")[:500] + "\\n").encode(errors="replace"))

def _path(value):
    if isinstance(value, int) or value is None:
        return ""
    return os.path.realpath(os.fsdecode(value))

def _hook(event, args):
    if event == "open":
        path, flags = _path(args[0]), args[2] or 0
        if path.startswith(_outside):
            _note(f"opened {path}")
        elif flags & _writing and path and not path.startswith((*_own, "/dev/null", "/dev/fd", "/dev/shm")):
            _note(f"wrote {path}")
    elif event == "subprocess.Popen":
        command = [os.fsdecode(a) for a in args[1]] if not isinstance(args[1], (str, bytes)) else [str(args[1])]
        worker = command[0] == sys.executable and "hwnas.measure.worker" in command
        board = command[:4] == ["adb", "-s", "S1", "shell"]
        if not (worker or board):
            _note(f"started {command}")
    elif event in _never:
        _note(f"{event} {args}")
    elif event in _changing and any(isinstance(a, (str, bytes)) and _path(a).startswith(_outside) for a in args):
        _note(f"{event} {args}")
    elif event == "ctypes.dlopen" and args[0] and os.fsdecode(args[0]).startswith(_root):
        _note(f"loaded {args[0]}")
    elif event == "import" and args[1] and os.fsdecode(args[1]).startswith(_root):
        _note(f"imported {args[1]}")

sys.addaudithook(_hook)
"""


@dataclass(frozen=True, slots=True)
class Attack:
    """One hostile input.

    Attributes:
        kind: what it pretends to be.
        name: what is wrong with it.
        prepare: makes it in an empty folder, given the folder that nothing may touch; gives the arguments of `hwnas`,
            or what to call in its place.
        may_pass: whether it may be taken as what it says, where that does no harm.
        statuses: that its refusal may end with.
    """

    kind: str
    name: str
    prepare: Callable[[Path, Path], Sequence[str] | Callable[[], object]]
    may_pass: bool = False
    statuses: tuple[int, ...] = (HOSTILE,)


@dataclass(frozen=True, slots=True)
class Outcome:
    """What an attempt came to.

    Attributes:
        problems: what must not be; empty if it was refused as it should be.
        seconds: it took.
        memory_mb: resident, at most.
        status: it ended with.
        said: on standard error.
    """

    problems: tuple[str, ...]
    seconds: float
    memory_mb: float
    status: int
    said: str


class Sandbox:
    """The folders of all attempts.

    Args:
        root: an empty folder.
    """

    def __init__(self, root: Path) -> None:
        self._root = root.resolve()
        self._outside, self._programs = self._root / "outside", self._root / "bin"
        for folder in (self._outside, self._programs, self._root / "home" / ".ssh", self._root / "tmp"):
            folder.mkdir(parents=True)
        (self._root / "watch").mkdir()
        (self._root / "watch" / "sitecustomize.py").write_text(WATCH)
        (self._outside / "secret.txt").write_text(SECRET)
        self._log, self._started = self._root / "log.txt", self._root / "started.txt"
        for name in _STAND_INS:
            self._program(name, f'#!/bin/sh\necho "$0 $*" >> {self._started}\nexit 1\n')
        self._count = 0

    def board(self, python: str) -> None:
        """What `adb` leads to: whatever is asked of it, this Python program answers."""
        text = f"#!{sys.executable} -S\nimport os, shlex, sys\nwords = shlex.split(sys.argv[-1])\n"
        text += f"os.execv({sys.executable!r}, [{sys.executable!r}, '-S', {python!r}, *words[2:]])\n"
        self._program("adb", text)

    def attempt(self, attack: Attack) -> Outcome:
        """Try one input."""
        self._count += 1
        folder = self._root / "attempts" / str(self._count)
        folder.mkdir(parents=True)
        for log in (self._log, self._started):
            log.write_text("")
        made = attack.prepare(folder, self._outside)
        before = _state(self._outside)
        began = time.monotonic()
        pid = os.fork()
        if not pid:
            self._become(folder, made)
        status, memory_mb = _waited(pid)
        seconds = time.monotonic() - began
        said = (folder.parent / f"{folder.name}.err").read_text(errors="surrogateescape")
        printed = (folder.parent / f"{folder.name}.out").read_text(errors="surrogateescape")
        problems = [
            *self._log.read_text().splitlines(),
            *(f"started {s}" for s in self._started.read_text().splitlines()),
        ]
        if _state(self._outside) != before:
            problems.append("changed the folder outside")
        problems += _told_badly(attack, status, said, printed)
        if seconds > TIME_LIMIT_S:
            problems.append(f"took {seconds:.0f} s")
        if memory_mb > MEMORY_LIMIT_MB:
            problems.append(f"took {memory_mb:.0f} MB")
        shutil.rmtree(folder, ignore_errors=True)
        return Outcome(tuple(problems), seconds, memory_mb, status, said)

    def _program(self, name: str, text: str) -> None:
        path = self._programs / name
        path.write_text(text)
        path.chmod(0o755)

    def _become(self, folder: Path, made: Sequence[str] | Callable[[], object]) -> None:
        """The attempt itself, in the process that was forked off for it."""
        status = _TRACEBACK_STATUS
        try:
            os.setsid()
            for number, ending in ((1, "out"), (2, "err")):
                target = os.open(folder.parent / f"{folder.name}.{ending}", os.O_WRONLY | os.O_CREAT | os.O_TRUNC)
                os.dup2(target, number)
            os.chdir(folder)
            own = (folder, self._root / "tmp", self._root / "home", self._log, self._started)
            os.environ.update(
                PATH=str(self._programs),
                HOME=str(self._root / "home"),
                TMPDIR=str(self._root / "tmp"),
                PYTHONPATH=str(self._root / "watch"),
                PYTHONDONTWRITEBYTECODE="1",
                COLUMNS="200",
                HWNAS_LIES=str(folder),
                HWNAS_WATCH_LOG=str(self._log),
                HWNAS_WATCH_ROOT=str(self._root),
                HWNAS_WATCH_OWN=os.pathsep.join(map(str, own)),
            )
            import tempfile

            tempfile.tempdir = None
            resource.setrlimit(resource.RLIMIT_AS, (_ADDRESS_SPACE_BYTES, _ADDRESS_SPACE_BYTES))
            resource.setrlimit(resource.RLIMIT_FSIZE, (_FILE_BYTES, _FILE_BYTES))
            exec(compile(WATCH, "watch", "exec"), {})
            status = _call(made)
        except SystemExit as e:
            status = e.code if isinstance(e.code, int) else 0 if e.code is None else 1
        except BaseException:  # noqa: BLE001  this is what is looked for
            traceback.print_exc()
        finally:
            with contextlib.suppress(Exception):
                sys.stdout.flush()
                sys.stderr.flush()
            os._exit(status)


def _call(made: Sequence[str] | Callable[[], object]) -> int:
    if callable(made):
        try:
            made()
        except HwnasError as e:
            Console().failure(e)
            return e.exit_status
        return 0
    from hwnas.cli import main

    sys.argv = ["hwnas", *made]
    main()
    return 0


def _waited(pid: int) -> tuple[int, float]:
    """Exit status (128 and the signal's number for one) and megabytes; whatever the attempt left running is ended."""
    deadline = time.monotonic() + TIME_LIMIT_S + 5
    while True:
        done, status, usage = os.wait4(pid, os.WNOHANG)
        if done:
            break
        if time.monotonic() > deadline:
            os.killpg(pid, signal.SIGKILL)
        time.sleep(0.005)
    with contextlib.suppress(ProcessLookupError):
        os.killpg(pid, signal.SIGKILL)
    code = os.waitstatus_to_exitcode(status)
    return (code if code >= 0 else 128 - code), usage.ru_maxrss / 1024


def _told_badly(attack: Attack, status: int, said: str, printed: str) -> list[str]:
    problems = []
    errors = [line for line in said.splitlines() if line.startswith("error: ")]
    if "Traceback" in said:
        problems.append(f"traceback: {said.strip().splitlines()[-1][:200]}")
    if status not in (*attack.statuses, *([0] if attack.may_pass else [])):
        problems.append(f"ended with status {status}: {said[-200:]!r}")
    if status and len(errors) != 1:
        problems.append(f"{len(errors)} lines of error: {said[-200:]!r}")
    if any(
        (ord(c) < ord(" ") and c != "\n") or 0x7F <= ord(c) < 0xA0 or 0xDC80 <= ord(c) <= 0xDCFF for c in said + printed
    ):
        problems.append("control characters reach the terminal")
    if SECRET in said + printed:
        problems.append("told the secret")
    if len(said) > 10_000:
        problems.append(f"{len(said)} characters of error")
    return problems


def _state(folder: Path) -> dict[str, tuple[int, int, str]]:
    """Everything about a folder's files but when they were read."""
    return {
        str(path): (s.st_mode, s.st_mtime_ns, hashlib.sha256(path.read_bytes()).hexdigest() if path.is_file() else "")
        for path in sorted([folder, *folder.rglob("*")])
        for s in (path.lstat(),)
    }
