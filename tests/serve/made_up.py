"""A catalogue of made-up networks, a server of it, and jobs that only talk."""

from __future__ import annotations

import contextlib
import http.client
import json
import socket
import sys
import threading
import time
from collections.abc import Iterator, Mapping, Sequence
from dataclasses import dataclass
from pathlib import Path
from typing import Any

import numpy as np
import uvicorn

from hwnas.catalogue import Catalogue, DeviceNetworks
from hwnas.cost import SlotBlocks, closed_form_costs
from hwnas.search import Study
from hwnas.serve.app import Served, make_app
from hwnas.serve.jobs import Jobs
from hwnas.testing.spaces import tiny_space
from hwnas.types import Direction, FloatArray, IntArray

SPACE = tiny_space()
_MACS = closed_form_costs(SlotBlocks.of(SPACE))["macs"]

# says what the process of a job says; what it is told decides how it ends
TALKER = """
import json, sys, time
request = json.load(sys.stdin)
say = lambda **event: print(json.dumps(event), flush=True)
say(kind="said", text=f"network of {len(request['architecture'])} choices")
mode = request["limits"].get("mode", 0)
for i in range(1, 5):
    say(kind="progress", label="fine-tune", done=i, total=4, note="")
    time.sleep(0.01)
if mode == 1:
    say(kind="error", type="InfeasibleError", message="the network misses a limit when measured")
    sys.exit(3)
if mode == 2:
    print("a fault", file=sys.stderr)
    sys.exit(-11 % 256)
if mode == 3:
    time.sleep(60)
say(kind="progress-end", label="fine-tune")
say(kind="result", result={"deployment": request["run"], "rows": [["size", "11 kB"], ["  part", "1"]], "notes": []})
"""
HANGS, FAILS, DIES = {"mode": 3.0}, {"mode": 1.0}, {"mode": 2.0}


def _costs(encodings: IntArray, slower: float) -> dict[str, FloatArray]:
    macs = _MACS.estimate(encodings).value
    return {"latency_ms": slower * macs / 1e6, "size_bytes": 100 * np.sqrt(macs)}


def _study(encodings: IntArray, accuracy: FloatArray, *, error: float, slower: float, source: str) -> Study:
    costs = _costs(encodings, slower)
    return Study(
        name="made-up",
        space_name=SPACE.name,
        choices=tuple(SPACE.choices),
        directions={"accuracy": Direction.MAXIMIZE, "latency_ms": Direction.MINIMIZE},
        limits={},
        numbers=np.arange(len(encodings)),
        encodings=encodings,
        values={"accuracy": accuracy, **costs},
        upper={"latency_ms": 1.05 * costs["latency_ms"]},
        standard_errors={"accuracy": np.full(len(encodings), error)},
        feasible=np.ones(len(encodings), dtype=bool),
        sources={"accuracy": source, "latency_ms": "estimated", "size_bytes": "estimated"},
    )


def made_up_networks(name: str, *, slower: float = 1.0, with_predicted: bool = True) -> DeviceNetworks:
    """40 evaluated networks of the tiny space, and 200 predicted ones."""
    rng = np.random.default_rng(0)
    encodings = rng.permutation(np.unique(SPACE.sample(400, rng), axis=0))
    macs = _MACS.estimate(encodings).value
    accuracy = 0.9 + 0.05 * np.log(macs / macs.max()) + rng.normal(0, 0.004, len(encodings))
    known, others = slice(0, 40), slice(40, 240)
    return DeviceNetworks(
        device=name,
        entry=name,
        runtime="fake",
        space=SPACE,
        evaluated=_study(
            encodings[known], accuracy[known], error=0.002, slower=slower, source="measured on 1,000 validation images"
        ),
        predicted=_study(
            encodings[others],
            accuracy[others],
            error=0.006,
            slower=slower,
            source="predicted from 40 evaluated networks",
        )
        if with_predicted
        else None,
        searched_for=("cpu",),
    )


def made_up_catalogue() -> Catalogue:
    return Catalogue({"cpu": made_up_networks("cpu"), "pi": made_up_networks("pi", slower=8.0, with_predicted=False)})


def served(folder: Path, *, command: Sequence[str] = (sys.executable, "-c", TALKER)) -> Served:
    return Served(catalogue=made_up_catalogue(), run=folder, jobs=Jobs(command=command))


@dataclass(frozen=True, kw_only=True)
class Answer:
    """What came back."""

    status: int
    headers: Mapping[str, str]
    text: str

    def json(self) -> Any:
        return json.loads(self.text)


class Client:
    """Asks a server, over the network.

    Args:
        url: of the server.
        token: that every request bears; empty: none.
    """

    def __init__(self, url: str, *, token: str = "") -> None:
        self.address = url.removeprefix("http://")
        self._headers = {"Authorization": f"Bearer {token}"} if token else {}

    def ask(
        self, method: str, path: str, *, body: str | None = None, headers: Mapping[str, str] | None = None
    ) -> Answer:
        connection = http.client.HTTPConnection(self.address, timeout=30)
        try:
            connection.request(method, path, body=body, headers=self._headers | dict(headers or {}))
            found = connection.getresponse()
            told = {name.lower(): value for name, value in found.getheaders()}
            return Answer(status=found.status, headers=told, text=found.read().decode())
        finally:
            connection.close()

    def get(self, path: str) -> Answer:
        return self.ask("GET", path)

    def delete(self, path: str) -> Answer:
        return self.ask("DELETE", path)

    def post(self, path: str, value: object) -> Answer:
        return self.send(path, json.dumps(value))

    def send(self, path: str, body: str) -> Answer:
        return self.ask("POST", path, body=body, headers={"Content-Type": "application/json"})


@contextlib.contextmanager
def running(what: Served, *, token: str = "") -> Iterator[str]:
    """The address of a server in a thread of this process."""
    listening = socket.create_server(("127.0.0.1", 0))
    app = make_app(what, token=token)
    server = uvicorn.Server(uvicorn.Config(app, lifespan="on", log_level="critical", timeout_graceful_shutdown=1))
    thread = threading.Thread(target=server.run, kwargs={"sockets": [listening]})
    thread.start()
    try:
        while not server.started:
            time.sleep(0.01)
        yield f"http://127.0.0.1:{listening.getsockname()[1]}"
    finally:
        server.should_exit = True
        thread.join()
        listening.close()


def architecture(networks: DeviceNetworks, row: int = 0) -> Mapping[str, object]:
    return networks.evaluated.architecture_at(row)
