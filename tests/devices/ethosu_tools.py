"""The tools behind the runtime `ethos-u` in tests: the real ones where they can be had, or a stub."""

from __future__ import annotations

import os
import sys
from pathlib import Path

import pytest

from hwnas.devices._environments import ToolEnvironmentError
from hwnas.devices._vela import VelaTools, shared_tools


def require_tools() -> VelaTools:
    """The real tools; the environment is made if there is none. Skips where that fails, but not in CI."""
    try:
        shared_tools().versions()
    except ToolEnvironmentError as e:
        if os.environ.get("CI"):
            raise
        pytest.skip(f"Vela and tflite-micro cannot be had here: {e}")
    return shared_tools()


def stub_tools(folder: Path, behaviour: str, *, limit_s: float = 20.0) -> VelaTools:
    """Tools whose process answers `hello`, and everything else by this body of `def answer(request)`."""
    script = folder / "stub.py"
    body = "\n".join(f"    {line}" for line in behaviour.strip().splitlines())
    script.write_text(
        "import json, os, signal, sys, time\n"
        "words = open(sys.argv[1], 'a')\n"
        "def say(text): print(text, file=words, flush=True)\n"
        f"def answer(request):\n{body}\n"
        "def reply_to(request):\n"
        "    if request['op'] == 'hello': return {'ok': True, 'result': {'vela': '0', 'tflite_micro': '0'}}\n"
        "    if request['op'] == 'quit': return {'ok': True, 'result': None}\n"
        "    try: return {'ok': True, 'result': answer(request)}\n"
        "    except ValueError as e: return {'ok': False, 'error': {'type': 'MeasurementError', 'message': str(e)}}\n"
        "for line in sys.stdin:\n"
        "    request = json.loads(line)\n"
        "    print(json.dumps({'id': request['id'], **reply_to(request)}), flush=True)\n"
        "    if request['op'] == 'quit': break\n"
    )
    return VelaTools((sys.executable, str(script)), limit_s=limit_s)
