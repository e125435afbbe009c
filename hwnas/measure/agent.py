"""The program on a board: keeps artefacts, starts the measuring process there and passes requests on to it.

It answers JSON lines on its standard input (see protocol.py), opens no port and runs nothing but artefacts: the
operations are fixed, and every file is named by its hash. It ends with its standard input, and the measuring process
with it. It needs numpy and the runtime; must never know models, tables or how the board is reached.

Operations: `hello` (protocol, who measures, limits), `facts`, `offer` and `put` (a file for here), `get` (a file from
here), `drop`, `work` (a request to the measuring process, with a time limit that is kept here), `quit`.
"""

from __future__ import annotations

import base64
import fcntl
import json
import os
import platform
import queue
import shutil
import signal
import sys
import threading
import time
from collections.abc import Callable, Mapping
from contextlib import suppress
from pathlib import Path
from typing import IO, Any

import numpy as np

from hwnas.errors import ConfigError, MeasurementError, MeasurementTimeoutError, WorkerCrashedError
from hwnas.files import open_own, sha256_file
from hwnas.measure._child import Child
from hwnas.measure._store import Store, is_stored_name
from hwnas.measure.protocol import AGENT_PROTOCOL, answer, error_to_json

_LARGEST_BYTES = 2 << 30  # whatever the caller allows
_LONGEST_S = 3600.0  # likewise, for one request to the measuring process
_IDLE_S = 600.0  # without a request, the caller is taken to be gone: a cut link may never tell
_TAKEOVER_S, _BUSY_S = 10.0, 2.0  # until the lock is ours: our agent of before is ended; another one may just be ending
_FORWARDED = ("hello", "load", "time", "run", "info", "close")
_INPUTS_SUFFIX = ".npz"
_LONGEST_HOLDER = 10_000  # characters of a lock's content
_RUNNING = "running.npz"  # outputs that are being written

Request = Mapping[str, Any]


class BusyError(MeasurementError):
    """Somebody else measures on the board.

    What to do: wait until the other session ends, which the message names, and repeat the command.
    """


class Agent:
    """The state of one connection."""

    def __init__(self, folder: Path, *, worker_command: list[str]) -> None:
        """Nothing is opened yet.

        Args:
            folder: of everything this program writes.
            worker_command: starts the measuring process.
        """
        self._folder = folder
        self._worker_command = worker_command
        self._store: Store | None = None
        self._lock: IO[str] | None = None
        self._max_file_bytes = 0
        self._worker: Child | None = None
        self._loaded: dict[str, Path] = {}  # key -> the artefact that must stay while its session is open
        self._operations: dict[str, Callable[[Request], Any]] = {
            "hello": self._hello,
            "facts": lambda _: facts(self._folder),
            "offer": self._offer,
            "put": self._put,
            "get": self._get,
            "drop": self._drop,
            "work": self._work,
        }

    def answer(self, request: Request) -> dict[str, Any]:
        """The reply to one request; a failure is a reply too."""
        return answer(request, self._operations)

    def kill_worker(self) -> None:
        """End the measuring process at once. May be called from another thread, right before this process ends."""
        if self._worker is not None and self._worker.alive:
            # the whole group: a runtime may have started helpers
            with suppress(ProcessLookupError, PermissionError):
                os.killpg(self._worker.pid, signal.SIGKILL)

    def close(self) -> None:
        """End the measuring process politely and let others use the board."""
        self._end_worker()
        if self._lock is not None:
            self._lock.close()

    def _hello(self, request: Request) -> dict[str, Any]:
        if request["protocol"] != AGENT_PROTOCOL:
            raise ConfigError(
                f"the caller speaks agent protocol {request['protocol']}, this agent {AGENT_PROTOCOL}; "
                "write the agent anew with the caller's version: hwnas agent --write FILE"
            )
        try:
            self._lock = take_over(self._folder / "lock", session=request["session"], who=request["who"])
        except BusyError as e:
            return {"busy": str(e)}
        # the caller's limit, but never above ours: whoever signs in must not fill the disk
        self._max_file_bytes = min(request["max_file_bytes"], _LARGEST_BYTES)
        self._store = Store(
            self._folder / "store", max_file_bytes=self._max_file_bytes, cache_bytes=request["cache_bytes"]
        )
        self._remove_old_outputs()
        self._remove_old_agents()
        return {"busy": "", **facts(self._folder)}

    def _remove_old_outputs(self) -> None:
        """Those of runs that were cut off; nothing else goes, should the folder be one that others use too."""
        outputs = self._folder / "outputs"
        outputs.mkdir(exist_ok=True)
        for path in outputs.iterdir():
            if path.name == _RUNNING or is_stored_name(path.name):
                path.unlink(missing_ok=True)

    def _remove_old_agents(self) -> None:
        """Nobody else measures now, so agents of other versions are of no use."""
        for path in self._folder.glob("agent-*.pyz"):
            # we are read from that file while we run
            if path != Path(sys.argv[0]):
                path.unlink(missing_ok=True)

    def _offer(self, request: Request) -> dict[str, Any]:
        return self._stored().offer(
            request["sha256"], request["suffix"], size_bytes=request["size_bytes"], pinned=set(self._loaded.values())
        )

    def _put(self, request: Request) -> dict[str, Any]:
        try:
            data = base64.b64decode(request["data"], validate=True)
        except ValueError:
            return {"state": "corrupt"}
        return self._stored().put(
            request["sha256"],
            request["suffix"],
            size_bytes=request["size_bytes"],
            offset=request["offset"],
            data=data,
        )

    def _get(self, request: Request) -> dict[str, Any]:
        with open(self._output(request["sha256"]), "rb") as file:
            file.seek(request["offset"])
            return {"data": base64.b64encode(file.read(request["size_bytes"])).decode()}

    def _drop(self, request: Request) -> None:
        self._output(request["sha256"]).unlink(missing_ok=True)
        self._stored().drop(self._stored().path(request["sha256"], _INPUTS_SUFFIX))

    def _output(self, sha256: str) -> Path:
        return self._folder / "outputs" / self._stored().path(sha256, _INPUTS_SUFFIX).name

    def _work(self, request: Request) -> dict[str, Any]:
        """`{"result": ...}` or `{"error": ...}` of the measuring process; its death is an error too."""
        inner = dict(request["request"])
        op = inner.pop("op")
        if op not in _FORWARDED:
            raise ConfigError(f"{op!r} is not passed on; known: {', '.join(_FORWARDED)}")
        try:
            # a new greeting is a new process: nothing of the last one's runtime may be left
            if op == "hello":
                self._end_worker()
                self._worker = Child(self._worker_command)
            if self._worker is None or not self._worker.alive:
                raise WorkerCrashedError(f"the measuring process has ended before {op!r}")
            # kept here: after a cut link nobody else would end a run that hangs
            timeout_s = min(request["timeout_s"], _LONGEST_S)
            return self._pass_on(self._worker, op, inner, timeout_s=timeout_s)
        except (WorkerCrashedError, MeasurementTimeoutError) as e:
            self._end_worker()
            return {"error": error_to_json(e)}
        except MeasurementError as e:
            return {"error": error_to_json(e)}

    def _pass_on(self, worker: Child, op: str, inner: dict[str, Any], *, timeout_s: float) -> dict[str, Any]:
        store = self._stored()
        if op == "load":
            path = store.path(inner["artefact"]["sha256"], inner.pop("suffix"))
            inner["artefact"] = {**inner["artefact"], "path": str(path)}
            self._loaded[inner["key"]] = path
        if op == "run":
            output = self._folder / "outputs" / _RUNNING
            inner |= {"inputs": str(store.path(inner["inputs"], _INPUTS_SUFFIX)), "outputs": str(output)}
        # not raised here: an error travels on as it is, and the caller raises it under its own name
        reply = worker.exchange(op, inner, timeout_s=timeout_s)
        if op == "load" and not reply["ok"]:
            self._loaded.pop(inner["key"], None)
        if op == "close":
            for key in inner["keys"]:
                self._loaded.pop(key, None)
        if not reply["ok"]:
            return {"error": reply["error"]}
        if op == "run":
            return {"result": {**reply["result"], **self._keep_output(output)}}
        return {"result": reply["result"]}

    def _keep_output(self, path: Path) -> dict[str, Any]:
        size_bytes, digest = path.stat().st_size, sha256_file(path)
        if size_bytes > self._max_file_bytes:
            path.unlink()
            raise MeasurementError(f"outputs of {size_bytes} bytes are more than the {self._max_file_bytes} allowed")
        # named by its hash, as everything the caller can ask for
        path.replace(self._output(digest))
        return {"sha256": digest, "size_bytes": size_bytes}

    def _stored(self) -> Store:
        if self._store is None:
            raise ConfigError("the first request must be 'hello'")
        return self._store

    def _end_worker(self) -> None:
        self._loaded.clear()
        if self._worker is not None:
            self._worker.close()
            self._worker = None


def facts(folder: Path) -> dict[str, Any]:
    """What a person wants to know about the board."""
    return {
        "protocol": AGENT_PROTOCOL,
        "python": platform.python_version(),
        "executable": sys.executable,
        "numpy": np.__version__,
        "system": f"{platform.system()} {platform.release()} {platform.machine()}",
        "cores": os.cpu_count() or 1,
        "folder": str(folder),
        "free_bytes": shutil.disk_usage(folder).free,
        "clock_s": time.time(),  # told, never used
    }


def take_over(path: Path, *, session: str, who: str) -> IO[str]:
    """The lock of the board, held until the file is closed: two measurements at a time would spoil each other.

    The caller's own agent of before may still run, when the link was cut and nothing told it: it is ended.

    Raises:
        BusyError: somebody else measures.
        ConfigError: the lock is a symbolic link, or no regular file.
    """
    file = os.fdopen(open_own(path, create=True), "a+", encoding="utf-8")  # held as long as the agent lives
    start_s = time.monotonic()
    while True:
        try:
            fcntl.flock(file, fcntl.LOCK_EX | fcntl.LOCK_NB)
            break
        except OSError:
            file.seek(0)
            # the holder's name is only read for messages; the lock itself is the system's, and needs no file content
            with suppress(ValueError, KeyError, TypeError, RecursionError):  # being written
                holder = json.loads(file.read(_LONGEST_HOLDER))
                if holder["session"] == session:
                    with suppress(ProcessLookupError):
                        os.kill(holder["pid"], signal.SIGKILL)
                # an agent that is just ending gives the lock back within moments
                elif time.monotonic() > start_s + _BUSY_S:
                    file.close()
                    raise BusyError(f"{holder['who']} is measuring here (process {holder['pid']})") from None
        if time.monotonic() > start_s + _TAKEOVER_S:
            file.close()
            raise BusyError(f"the lock {path} is held")
        # short against the two limits, long against the work of looking
        time.sleep(0.1)
    file.seek(0)
    file.truncate()
    file.write(json.dumps({"pid": os.getpid(), "session": session, "who": who}))
    file.flush()
    return file


def main(folder: str) -> int:
    """Serve until `quit`, until the caller is gone, or until nothing was asked for a long time."""
    with suppress(ValueError):  # only the main thread may
        signal.signal(signal.SIGINT, signal.SIG_IGN)
    agent = Agent(Path(folder).expanduser().absolute(), worker_command=[sys.executable, sys.argv[0], "worker"])
    arrived: queue.SimpleQueue[str] = queue.SimpleQueue()
    # a thread of its own: only a read notices that the caller is gone while a run hangs
    threading.Thread(target=_read, args=(agent, arrived), daemon=True).start()
    while True:
        try:
            request = json.loads(arrived.get(timeout=_IDLE_S))
        except queue.Empty:
            agent.close()
            return 0
        except ValueError:  # damaged on the way: the caller connects again
            agent.close()
            sys.stderr.write("a request arrived damaged\n")
            return 1
        if request["op"] == "quit":
            agent.close()
        reply = {"id": request["id"], "ok": True, "result": None} if request["op"] == "quit" else agent.answer(request)
        sys.stdout.write(json.dumps(reply) + "\n")
        sys.stdout.flush()
        if request["op"] == "quit":
            return 0


def _read(agent: Agent, arrived: queue.SimpleQueue[str]) -> None:
    """Pass requests on; when the caller is gone, end at once, with a run that hangs."""
    for line in sys.stdin:
        arrived.put(line)
    agent.kill_worker()
    # not `sys.exit`: the main thread may be inside a runtime that never returns
    os._exit(0)
