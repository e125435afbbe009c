"""A board that lies: it stands where a board's Python does, says what an agent would, and one thing as it is told to.

    [connection] python = "path of this file, made executable"

In the folder above the agent's (or that of the environment variable `HWNAS_LIES`) lies `lie.json`: `op`, of the agent
or of the measuring process, and `line`, what is answered to it, in which `ID` stands for the request's number; `times`,
how often the line is written, and `then`, which may be `hang` or `end`. Without it nothing is a lie.

It needs the standard library alone. With it, tests and benchmarks/attacks.py show that no reply is believed because it
was sent.
"""

from __future__ import annotations

import base64
import hashlib
import io
import json
import os
import sys
import time
import zipfile
from pathlib import Path
from typing import Any

_TOKEN = 3  # after the folder: digest, oldest Python, token
_MS = 1.0
_OUTPUT = (
    b"\x93NUMPY\x01\x00v\x00"
    + b"{'descr': '<f4', 'fortran_order': False, 'shape': (1, 2), }".ljust(117)
    + b"\n"
    + bytes(8)
)


def honest_outputs() -> bytes:
    """What `run` would give: two zeros for one image."""
    file = io.BytesIO()
    with zipfile.ZipFile(file, "w") as archive:
        archive.writestr("array_0.npy", _OUTPUT)
    return file.getvalue()


def honest(op: str, request: dict[str, Any], outputs: bytes) -> object:
    """The result that an agent, or the process behind it, would give."""
    keys = request.get("keys", [])
    reference = request.get("reference")
    facts = {"python": "3.11.2", "executable": "/usr/bin/python3", "numpy": "2.0", "system": "Linux", "cores": 4}
    facts |= {"folder": "/agent", "free_bytes": 10**9, "clock_s": time.time(), "protocol": 1}
    digest = hashlib.sha256(outputs).hexdigest()
    offset, n_bytes = request.get("offset", 0), request.get("size_bytes", 0)
    return {
        "boot": {"wanted": False},
        "facts": facts,
        "agent.hello": {"busy": "", **facts},
        "offer": {"have": True},
        "get": {"data": base64.b64encode(outputs[offset : offset + n_bytes]).decode()},
        "hello": {"protocol": 3, "pid": 1, "context": {"runtime_version": "1", "hardware": "h"}, "warnings": []},
        "load": {"first_run_ns": 1e6, "costs": {}},
        "info": {"provider": "p"},
        "run": {"n_outputs": 1, "sha256": digest, "size_bytes": len(outputs)},
        "time": {
            "samples_ms": {key: [_MS] * 5 for key in keys},
            "reference_ms": {key: [_MS] * 5 for key in keys} if reference else {},
            "iterations": {},
            "fastest_ms": {key: [_MS] * 5 for key in keys},
            "around_ms": {key: [[_MS] * 2] * 5 for key in keys} if reference else {},
            "costs": {},
        },
    }.get(op)


def main(folder: str, token: str) -> None:
    """Answer until the standard input ends."""
    place = Path(os.environ.get("HWNAS_LIES") or Path(folder).expanduser().parent)
    lie = json.loads((place / "lie.json").read_text()) if (place / "lie.json").exists() else {}
    outputs = base64.b64decode(lie["outputs"]) if "outputs" in lie else honest_outputs()
    out = sys.stdout.buffer
    out.write(hashlib.sha256(token.encode()).hexdigest().encode())
    for line in sys.stdin:
        request = json.loads(line)
        op = "agent.hello" if request["op"] == "hello" else request["op"]
        inner = op == "work"
        asked = request["request"] if inner else request
        op = asked["op"] if inner else op
        if op == lie.get("op") and "line" in lie:
            for _ in range(lie.get("times", 1)):
                out.write(lie["line"].replace("ID", str(request["id"])).encode(errors="surrogateescape"))
            out.flush()
            time.sleep(600 if lie.get("then") == "hang" else 0)
            if lie.get("then") == "end":
                return
            continue
        result = lie["result"] if op == lie.get("op") and "result" in lie else honest(op, asked, outputs)
        reply = {"id": request["id"], "ok": True, "result": {"result": result} if inner else result}
        out.write(json.dumps(reply).encode() + b"\n")
        out.flush()


if __name__ == "__main__":
    given = sys.argv[-_TOKEN - 1 :]
    main(given[0], given[_TOKEN])
