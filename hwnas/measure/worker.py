"""The measuring process: `python -m hwnas.measure.worker` answers requests on its standard input.

A runtime that crashes, hangs or prints ends or disturbs this process only. It imports numpy and the runtime's
adapter, so that a board needs nothing more; never torch, models or tables. What it says is in protocol.py.
"""

from __future__ import annotations

import json
import os
import queue
import signal
import sys
import threading
from collections.abc import Callable, Mapping
from contextlib import suppress
from typing import IO, Any

import numpy as np

from hwnas import registry
from hwnas.errors import ConfigError, MeasurementError
from hwnas.measure.energy import Meter, measure_energies, open_meter
from hwnas.measure.protocol import (
    PROTOCOL,
    answer,
    artefact_from_json,
    can_be_disturbed,
    device_from_json,
    settings_from_json,
)
from hwnas.measure.timing import time_rounds
from hwnas.types import Device, Runtime, Session

Request = Mapping[str, Any]


class Server:
    """Holds the runtime and the loaded sessions, and carries requests out one after the other."""

    def __init__(self) -> None:
        self._runtime: Runtime | None = None
        self._device: Device | None = None
        self._meter: Meter | None = None
        self._sessions: dict[str, Session] = {}
        self._operations: dict[str, Callable[[Request], Any]] = {
            "hello": self._hello,
            "load": self._load,
            "time": self._time,
            "run": self._run,
            "info": self._info,
            "close": self._close,
        }

    def answer(self, request: Request) -> dict[str, Any]:
        """The reply to one request. A failure is a reply too, whatever the runtime raised."""
        return answer(request, self._operations)

    def close_all(self) -> None:
        """Free every session."""
        for key in list(self._sessions):
            self._sessions.pop(key).__exit__(None, None, None)

    def _hello(self, request: Request) -> dict[str, Any]:
        if request["protocol"] != PROTOCOL:
            raise ConfigError(
                f"the caller speaks protocol {request['protocol']}, this worker {PROTOCOL}; "
                "install the same version of hwnas on both sides"
            )
        self._device = device_from_json(request["device"])
        if self._device.cores:  # before the runtime starts its threads: they inherit it
            registry.load_object("hwnas.devices.host:pin", needed_for="the device's cores")(self._device.cores)
        # in this process only: a runtime that crashes on import takes nothing else with it
        runtime: Runtime = registry.load("runtimes", self._device.runtime)()
        self._runtime = runtime
        self._meter = open_meter(self._device)
        context = dict(runtime.context(self._device))
        if self._meter is not None:
            context["meter"] = f"{self._meter.info.name} ({self._meter.info.covers})"
        return {
            "protocol": PROTOCOL,
            "pid": os.getpid(),
            "context": context,
            "warnings": _host_warnings(self._device, context),
        }

    def _load(self, request: Request) -> dict[str, Any]:
        if self._runtime is None or self._device is None:
            raise ConfigError("the first request must be 'hello'")
        key = request["key"]
        # freed first: two large models at a time may not fit a board
        self._close({"keys": [key]})
        session = self._runtime.load(artefact_from_json(request["artefact"]), self._device)
        self._sessions[key] = session
        try:
            # Run once here, so that a file that crashes or hangs its runtime is known by name.
            return {"first_run_ns": session.time_ns(iterations=1), "costs": dict(session.costs())}
        except Exception:
            self._close({"keys": [key]})
            raise

    def _time(self, request: Request) -> dict[str, Any]:
        anchor = request["reference"]
        keys = [*request["keys"], *([anchor] if anchor is not None else [])]
        times = time_rounds(
            {key: self._session(key) for key in keys},
            anchor=anchor,
            settings=settings_from_json(request["settings"]),
            rng=np.random.default_rng(request["seed"]),
            anchor_ms=request["reference_ms"],
        )
        run_ms = {key: float(minima.min()) for key, minima in times.minima_ms.items()}
        if anchor is not None:
            # the anchor has no samples of its own, only those around the candidates'
            run_ms[anchor] = min(float(pairs.min()) for pairs in times.around_ms.values())
        return {
            "samples_ms": {key: samples.tolist() for key, samples in times.samples_ms.items()},
            "reference_ms": {key: samples.tolist() for key, samples in times.anchor_ms.items()},
            "iterations": dict(times.iterations),
            "fastest_ms": {key: minima.tolist() for key, minima in times.minima_ms.items()},
            "around_ms": {key: pairs.tolist() for key, pairs in times.around_ms.items()},
            # after timing: how long a run takes decides how many fit a window of the meter
            "costs": self._energies(request, run_ms),
        }

    def _energies(self, request: Request, run_ms: Mapping[str, float]) -> dict[str, dict[str, float]]:
        """What the device's meter shows for what was just timed: candidate -> costs; empty if nobody asked."""
        if self._meter is None or self._device is None or not request.get("energy"):
            return {}
        energies = measure_energies(
            {key: self._session(key) for key in run_ms},
            self._meter,
            run_ms=run_ms,
            anchor=request["reference"],
            idle_w=self._device.idle_w,
            rng=np.random.default_rng(request["seed"]),
        )
        return {key: energy.costs() for key, energy in energies.items()}

    def _run(self, request: Request) -> dict[str, Any]:
        # pickles are programs, and the file comes from elsewhere
        with np.load(request["inputs"], allow_pickle=False) as file:
            inputs = [file[f"array_{i}"] for i in range(len(file.files))]
        # files, not JSON: logits must arrive to the last bit
        outputs = self._session(request["key"]).run(inputs)
        np.savez(request["outputs"], **{f"array_{i}": a for i, a in enumerate(outputs)})  # type: ignore[arg-type]
        return {"n_outputs": len(outputs)}

    def _info(self, request: Request) -> dict[str, str]:
        return dict(self._session(request["key"]).info())

    def _close(self, request: Request) -> None:
        for key in request["keys"]:
            if key in self._sessions:
                self._sessions.pop(key).__exit__(None, None, None)

    def _session(self, key: str) -> Session:
        if key not in self._sessions:
            raise MeasurementError(f"{key!r} is not loaded; loaded: {', '.join(self._sessions) or 'nothing'}")
        return self._sessions[key]


def _host_warnings(device: Device, context: Mapping[str, str]) -> list[str]:
    """What spoils a measurement here."""
    if not can_be_disturbed(context):
        return []
    tell = registry.load_object("hwnas.devices.host:warnings", needed_for="what disturbs a measurement")
    # by name, through the registry: this package must not import devices
    return list(tell(threads=device.threads, pinned=device.cores))


def main() -> int:
    """Serve until `quit` or until the parent is gone."""
    with suppress(ValueError):  # only the main thread may; a Ctrl-C is the parent's to handle
        signal.signal(signal.SIGINT, signal.SIG_IGN)
    requests, replies = _take_over_pipes()
    arrived: queue.SimpleQueue[str] = queue.SimpleQueue()
    threading.Thread(target=_read, args=(requests, arrived), daemon=True).start()
    server = Server()
    while True:
        request = json.loads(arrived.get())
        if request["op"] == "quit":
            server.close_all()
            _send(replies, {"id": request["id"], "ok": True, "result": None})
            return 0
        _send(replies, server.answer(request))


def _take_over_pipes() -> tuple[IO[str], IO[str]]:
    """Keep the protocol's pipes to ourselves: what a runtime prints on fd 1 goes to fd 2, fd 0 is empty."""
    requests = os.fdopen(os.dup(0), "r", encoding="utf-8")
    replies = os.fdopen(os.dup(1), "w", encoding="utf-8")
    # runtimes print banners and progress, some from C, where `sys.stdout` cannot be replaced
    os.dup2(2, 1)
    empty = os.open(os.devnull, os.O_RDONLY)
    os.dup2(empty, 0)
    os.close(empty)
    return requests, replies


def _read(requests: IO[str], arrived: queue.SimpleQueue[str]) -> None:
    """Pass requests on; when the parent is gone, end at once, even in the middle of a run that hangs.

    The thread sleeps in a read between requests, so it takes nothing from a timed run.
    """
    for line in requests:
        arrived.put(line)
    os._exit(0)


def _send(replies: IO[str], reply: Mapping[str, Any]) -> None:
    replies.write(json.dumps(reply) + "\n")
    replies.flush()


if __name__ == "__main__":
    sys.exit(main())
