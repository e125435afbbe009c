"""How the server begins and ends, and what it says."""

from __future__ import annotations

import io
import json
import os
import signal
import socket
import subprocess
import sys
import time
from pathlib import Path
from typing import Any

import pytest
from typer.testing import CliRunner

from hwnas import pipeline, registry
from hwnas._console import Console
from hwnas.cli import app
from hwnas.config import Config, load_config
from hwnas.errors import ConfigError, InfeasibleError, MissingPackageError
from hwnas.serve import job_process, running
from hwnas.serve.job_process import EventConsole
from hwnas.serve.running import Address, serve
from tests.runs import MadeUp, ReadConsole
from tests.serve.made_up import Client

TOKEN = "a-token-of-some-length"


@pytest.mark.parametrize("host", ["127.0.0.1", "127.0.0.2", "::1", "localhost"])
def test_this_machine_alone_needs_no_token(host: str) -> None:
    assert Address(host=host).with_token().token == ""


@pytest.mark.parametrize("host", ["0.0.0.0", "::", "192.168.0.7", "board-7"])
def test_whoever_lets_others_ask_gets_a_token(host: str) -> None:
    made = Address(host=host).with_token().token
    assert len(made) >= 24
    assert made != Address(host=host).with_token().token
    assert Address(host=host, token=TOKEN).with_token().token == TOKEN


def test_a_token_that_can_be_guessed_is_refused() -> None:
    with pytest.raises(ConfigError, match="the token has 5 characters"):
        Address(token="short").with_token()


def test_a_port_that_is_taken_is_named(config: Config, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(running, "open_catalogue", pytest.fail)
    with socket.create_server(("127.0.0.1", 0)) as taken:
        port = taken.getsockname()[1]
        with pytest.raises(ConfigError, match=rf"port {port} is in use on 127.0.0.1.*--port 0"):
            serve(config, console=ReadConsole(), address=Address(port=port))


def test_a_host_that_is_not_of_this_machine_is_refused(config: Config) -> None:
    with pytest.raises(ConfigError, match="cannot be listened on"):
        serve(config, console=ReadConsole(), address=Address(host="192.0.2.1", port=0))


def test_without_its_packages_the_extra_is_named(config: Config, monkeypatch: pytest.MonkeyPatch) -> None:
    def missing(target: str, *, extra: str, needed_for: str) -> Any:
        raise MissingPackageError("fastapi", extra, needed_for=needed_for)

    monkeypatch.setattr(registry, "load_object", missing)
    with pytest.raises(
        MissingPackageError, match=r"hwnas serve needs the package 'fastapi'.*pip install 'hwnas\[serve\]'"
    ):
        serve(config, console=ReadConsole())


def test_the_command_passes_on_what_was_typed(config: Config, monkeypatch: pytest.MonkeyPatch) -> None:
    asked: list[dict[str, Any]] = []
    monkeypatch.setattr("hwnas.serve.serve", lambda config, **given: asked.append(given))
    arguments = ["--host", "0.0.0.0", "--port", "0", "--token", TOKEN, "--device", "cpu", "--device", "x.toml"]
    ended = CliRunner().invoke(app, ["serve", config.output.folder, *arguments])
    assert ended.exit_code == 0, ended.stderr
    assert asked[0]["address"] == Address(host="0.0.0.0", port=0, token=TOKEN)
    assert asked[0]["devices"] == ["cpu", "x.toml"]
    assert CliRunner().invoke(app, ["serve", config.output.folder, "--port", "70000"]).exit_code == 2
    assert CliRunner().invoke(app, ["serve", "/no/such/run"]).exit_code == 2


_SERVER = """
import sys
from hwnas._commands import signals, speaking
from hwnas.config import load_config
from hwnas.serve import running
from tests.serve.made_up import made_up_catalogue
running.open_catalogue = lambda *_, **__: made_up_catalogue()
with signals(), speaking(json_output=False, debug=False) as console:
    running.serve(load_config(sys.argv[1]), console=console, address=running.Address(port=0, token=sys.argv[2]))
"""


@pytest.mark.parametrize("number", [signal.SIGINT, signal.SIGTERM])
def test_it_tells_its_address_answers_with_the_token_and_ends_on_a_signal(
    config: Config, number: signal.Signals
) -> None:
    process = subprocess.Popen(
        [sys.executable, "-c", _SERVER, config.output.folder, TOKEN],
        stderr=subprocess.PIPE,
        text=True,
        cwd=Path(__file__).parents[2],
        env={**os.environ, "PYTHONUNBUFFERED": "1"},
    )
    assert process.stderr is not None
    said = []
    try:
        for line in process.stderr:
            said.append(line.strip())
            if line.startswith("serving on"):
                break
        url, _, token = said[-1].split()[2].partition("/#token=")
        assert token == TOKEN
        assert Client(url).get("/api/run").status == 401
        assert Client(url, token=TOKEN).get("/api/run").json()["run"] == str(Path(config.output.folder).resolve())
        process.send_signal(number)
        rest = process.stderr.read()
        assert process.wait(timeout=20) == 0, rest
    finally:
        process.kill()
        process.stderr.close()
    assert rest.strip() == "stopped"
    assert "cpu: 40 evaluated networks, 200 predicted networks" in said


# ---------------------------------------------------------------- the process of a job


def events(out: io.StringIO) -> list[dict[str, Any]]:
    return [json.loads(line) for line in out.getvalue().splitlines()]


def test_a_job_exports_the_network_of_its_request(config: Config, monkeypatch: pytest.MonkeyPatch) -> None:
    asked: list[tuple[Config, dict[str, object]]] = []

    def export(part: Config, architecture: dict[str, object], *, console: Console) -> MadeUp:
        asked.append((part, architecture))
        console.note("candidate 1")
        console.warn("the machine was slow")
        with console.progress("fine-tune") as update:
            update(1, 2, "")
            update(2, 2, "")
        return MadeUp(more={"deployment": Path("/there")})

    monkeypatch.setattr(pipeline, "export_network", export)
    out = io.StringIO()
    request = {"run": config.output.folder, "device": "cpu", "architecture": {"a": 1}, "limits": {"latency_ms": 2.0}}
    job_process.deploy(request, EventConsole(out))
    (part, architecture), found = asked[0], events(out)
    assert (part.device.name, part.limits.given(), architecture) == ("cpu", {"latency_ms": 2.0}, {"a": 1})
    assert part.whole.output.folder == load_config(config.output.folder).output.folder
    assert [e["kind"] for e in found] == ["said", "said", "said", "progress", "progress", "progress-end", "result"]
    assert found[2]["text"] == "warning: the machine was slow"
    assert (found[4]["done"], found[4]["total"]) == (2, 2)
    assert found[-1]["result"]["deployment"] == "/there"


_FAILING = """
from hwnas.errors import InfeasibleError
from hwnas.serve import job_process
def failing(request, console):
    print("somebody's own text", request)
    raise InfeasibleError("the network misses a limit", metric="latency_ms", limit=1.0)
job_process.deploy = failing
raise SystemExit(job_process.main())
"""


def test_what_a_job_fails_with_is_its_last_event_and_nothing_else_is_among_them() -> None:
    done = subprocess.run(
        [sys.executable, "-c", _FAILING], input='{"a": 1}', capture_output=True, text=True, check=False
    )
    assert done.returncode == InfeasibleError.exit_status
    (event,) = (json.loads(line) for line in done.stdout.splitlines())
    assert event == {"kind": "error", "type": "InfeasibleError", "message": "the network misses a limit"}
    assert done.stderr == "somebody's own text {'a': 1}\n"


def test_progress_is_told_now_and_then(monkeypatch: pytest.MonkeyPatch) -> None:
    clock = iter(0.05 * i for i in range(1, 1000))
    monkeypatch.setattr(time, "monotonic", lambda: next(clock))
    out = io.StringIO()
    with EventConsole(out).progress("train") as update:
        for done in range(1, 101):
            update(done, 100, "")
    told = [e["done"] for e in events(out) if e["kind"] == "progress"]
    assert told[-1] == 100
    assert 10 < len(told) < 60
