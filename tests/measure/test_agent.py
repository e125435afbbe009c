"""`hwnas agent`, and the agent's own refusals: fixed operations, one measurement at a time, an end of its own."""

import fcntl
import json
import os
import subprocess
import sys
from pathlib import Path
from typing import Any

import pytest
from typer.testing import CliRunner

from hwnas.cli import app
from hwnas.measure import agent as agent_module
from hwnas.measure.agent import Agent, BusyError, take_over
from hwnas.measure.bundle import agent_bytes
from hwnas.measure.protocol import AGENT_PROTOCOL, PROTOCOL
from tests.measure.test_client import is_gone

HELLO = {
    "op": "hello",
    "protocol": AGENT_PROTOCOL,
    "session": "s",
    "who": "a test",
    "max_file_bytes": 1000,
    "cache_bytes": 1000,
}


def ask(agent: Agent, **request: Any) -> Any:
    return agent.answer({"id": 1, **request})


# ---------------------------------------------------------------- what it refuses


def test_operations_that_are_not_known_are_refused_with_those_that_are(tmp_path: Path) -> None:
    reply = ask(Agent(tmp_path, worker_command=[]), op="execute", command="rm")
    assert not reply["ok"]
    assert "offer, put, get, drop, work" in reply["error"]["message"]


def test_files_are_refused_before_the_greeting(tmp_path: Path) -> None:
    reply = ask(
        Agent(tmp_path, worker_command=[]), op="put", sha256="a" * 64, suffix="", size_bytes=1, offset=0, data=""
    )
    assert "the first request must be 'hello'" in reply["error"]["message"]


@pytest.mark.parametrize(
    "request_",
    [
        {"op": "get", "sha256": "../../etc/passwd", "offset": 0, "size_bytes": 10},
        {"op": "drop", "sha256": "/etc/passwd"},
        {"op": "offer", "sha256": "../x", "suffix": "", "size_bytes": 1},
        {"op": "work", "request": {"op": "quit"}, "timeout_s": 1.0},
    ],
)
def test_paths_and_foreign_operations_are_refused(tmp_path: Path, request_: dict[str, Any]) -> None:
    agent = Agent(tmp_path, worker_command=[])
    assert ask(agent, **HELLO)["ok"]
    reply = ask(agent, **request_)
    assert reply["error"]["type"] == "ConfigError"
    agent.close()


def test_the_measuring_process_never_gets_a_path_of_the_caller(tmp_path: Path) -> None:
    echo = "import sys, json\nfor line in sys.stdin:\n    r = json.loads(line)\n    print(json.dumps({'id': r['id'], "
    echo += "'ok': True, 'result': r}), flush=True)\n    if r['op'] == 'quit': break"
    agent = Agent(tmp_path, worker_command=[sys.executable, "-c", echo])
    assert ask(agent, **HELLO)["ok"]
    ask(agent, op="work", request={"op": "hello"}, timeout_s=20)
    load = {"op": "load", "key": "k", "artefact": {"sha256": "a" * 64, "path": "/etc/passwd"}, "suffix": ".onnx"}
    passed = ask(agent, op="work", request=load, timeout_s=20)["result"]["result"]
    assert passed["artefact"]["path"] == str(tmp_path / "store" / ("a" * 64 + ".onnx"))
    agent.close()


def test_files_of_others_in_its_folder_stay(tmp_path: Path) -> None:
    others = [
        tmp_path / "outputs" / "thesis.npz",
        tmp_path / "store" / "photo.jpg",
        tmp_path / "store" / "partial" / "x",
    ]
    for path in others:
        path.parent.mkdir(parents=True, exist_ok=True)
        path.write_bytes(bytes(5000))
    ours = tmp_path / "outputs" / f"{'a' * 64}.npz"
    ours.write_bytes(b"of a run that was cut off")
    agent = Agent(tmp_path, worker_command=[])
    assert ask(agent, **HELLO)["ok"]
    assert ask(agent, op="offer", sha256="b" * 64, suffix=".onnx", size_bytes=900)["ok"]  # makes room in the cache
    agent.close()
    assert all(path.exists() for path in others)
    assert not ours.exists()


def test_a_lock_that_is_a_link_is_not_followed(tmp_path: Path) -> None:
    (tmp_path / "thesis.tex").write_text("years of work")
    (tmp_path / "lock").symlink_to(tmp_path / "thesis.tex")
    reply = ask(Agent(tmp_path, worker_command=[]), **HELLO)
    assert "symbolic link" in reply["error"]["message"]
    assert (tmp_path / "thesis.tex").read_text() == "years of work"


@pytest.mark.parametrize("content", ["[]", "{}", '{"session": "s", "pid": "all"}', "[" * 10_000])
def test_a_lock_that_says_nothing_useful_is_no_end(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch, content: str
) -> None:
    monkeypatch.setattr(agent_module, "_TAKEOVER_S", 0.2)
    with open(tmp_path / "lock", "w+", encoding="utf-8") as held:
        held.write(content)
        held.flush()
        fcntl.flock(held, fcntl.LOCK_EX)
        with pytest.raises(BusyError, match="is held"):
            take_over(tmp_path / "lock", session="s", who="me")


def test_times_are_limited_whatever_the_caller_allows(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(agent_module, "_LONGEST_S", 0.3)
    agent = Agent(tmp_path, worker_command=[sys.executable, "-c", "import time; time.sleep(60)"])
    assert ask(agent, **HELLO)["ok"]
    reply = ask(agent, op="work", request={"op": "hello"}, timeout_s=1e9)
    assert reply["result"]["error"]["type"] == "MeasurementTimeoutError"
    agent.close()


# ---------------------------------------------------------------- one measurement at a time


_HOLDER = """
import sys
from pathlib import Path
from hwnas.measure.agent import take_over
file = take_over(Path(sys.argv[1]), session=sys.argv[2], who="the first")
print("held", flush=True)
sys.stdin.read()
"""


def holder(path: Path, session: str) -> subprocess.Popen[str]:
    process = subprocess.Popen(
        [sys.executable, "-c", _HOLDER, str(path), session], stdin=subprocess.PIPE, stdout=subprocess.PIPE, text=True
    )
    assert process.stdout is not None
    assert process.stdout.readline() == "held\n"
    return process


def test_our_own_agent_of_before_is_ended(tmp_path: Path) -> None:
    with holder(tmp_path / "lock", "ours") as process:
        with take_over(tmp_path / "lock", session="ours", who="the second"):
            assert json.loads((tmp_path / "lock").read_text())["pid"] == os.getpid()
        assert process.wait(10) < 0


def test_somebody_elses_is_not(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(agent_module, "_BUSY_S", 0.3)
    with holder(tmp_path / "lock", "theirs") as process:
        with pytest.raises(BusyError, match="the first is measuring here"):
            take_over(tmp_path / "lock", session="ours", who="the second")
        assert process.poll() is None
        process.communicate("")


# ---------------------------------------------------------------- its end


def started(folder: Path) -> subprocess.Popen[str]:
    path = folder / "agent.pyz"
    path.write_bytes(agent_bytes())
    process = subprocess.Popen(
        [sys.executable, str(path), str(folder)], stdin=subprocess.PIPE, stdout=subprocess.PIPE, text=True
    )
    say(process, **HELLO)
    return process


def say(process: subprocess.Popen[str], **request: Any) -> Any:
    assert process.stdin is not None
    assert process.stdout is not None
    process.stdin.write(json.dumps({"id": 1, **request}) + "\n")
    process.stdin.flush()
    return json.loads(process.stdout.readline())


def test_it_ends_with_its_standard_input_and_the_measuring_process_with_it(tmp_path: Path) -> None:
    with started(tmp_path) as process:
        device = {"name": "d", "runtime": "fake", "precisions": ["fp32"], "cores": []}
        reply = say(process, op="work", request={"op": "hello", "protocol": PROTOCOL, "device": device}, timeout_s=60)
        worker = reply["result"]["result"]["pid"]
        assert process.stdin is not None
        process.stdin.close()
        assert process.wait(10) == 0
    assert is_gone(worker)


def test_it_ends_when_a_request_arrives_damaged(tmp_path: Path) -> None:
    with started(tmp_path) as process:
        assert process.stdin is not None
        process.stdin.write('{"id": 1, "op\n')
        process.stdin.flush()
        assert process.wait(10) == 1


def test_it_ends_when_nothing_was_asked_for_a_long_time(tmp_path: Path) -> None:
    """A link that was cut may never tell: standard input stays open."""
    code = "import sys, hwnas.measure.agent as agent; agent._IDLE_S = 0.2; sys.exit(agent.main(sys.argv[1]))"
    with subprocess.Popen([sys.executable, "-c", code, str(tmp_path)], stdin=subprocess.PIPE) as process:
        assert process.wait(20) == 0


# ---------------------------------------------------------------- the command


def described(at: Path, **connection: object) -> Path:
    lines = ["schema = 1", 'runtime = "fake"', "[connection]"]
    path = at / "myboard.toml"
    path.write_text("\n".join([*lines, *(f"{k} = {json.dumps(v)}" for k, v in connection.items())]))
    return path


def test_check_tells_what_is_on_the_board(tmp_path: Path, board: Path) -> None:
    (board / "modules" / "sitecustomize.py").write_text("import time\ntime.time = lambda: 0.0\n")
    path = described(tmp_path, transport="adb", serial="S1", python=sys.executable, folder="~/agent")
    done = CliRunner().invoke(app, ["agent", "--check", str(path), "--json"])
    assert done.exit_code == 0, done.output
    result = json.loads(done.stdout)
    found = {f["name"]: f for f in result["findings"]}
    assert result["ready"] is True
    assert found["python"]["value"].startswith("3.")
    assert found["hardware"]["value"] == "simulated processor"
    assert "GB free" in found["agent's folder"]["value"]
    assert found["clock"]["state"] == "warning"
    assert found["clock"]["value"].startswith("-")


def test_check_of_a_board_without_the_runtime_says_what_to_install_and_fails(
    tmp_path: Path,
    board: Path,
) -> None:
    (board / "modules" / "onnx.py").write_text("raise ModuleNotFoundError(\"No module named 'onnx'\", name='onnx')\n")
    path = described(tmp_path, transport="adb", serial="S1", python=sys.executable, folder="~/agent")
    done = CliRunner().invoke(app, ["agent", "--check", str(path), "--json"])
    assert done.exit_code == 2
    result = json.loads(done.stdout)
    assert any("-m pip install onnx" in note for note in result["notes"])


def test_check_of_a_board_that_is_not_there_fails_with_advice(tmp_path: Path, board: Path) -> None:
    (board / "down").touch()
    done = CliRunner().invoke(app, ["agent", "--check", str(described(tmp_path, transport="adb", serial="S1"))])
    assert done.exit_code == 2
    assert "adb devices" in done.output


def test_check_looks_at_every_board_of_a_kind(tmp_path: Path, board: Path) -> None:
    for name in ("A", "B", "C"):
        (board / name / "modules").mkdir(parents=True)
    (board / "B" / "down").touch()
    (board / "C" / "options").write_text('{"hardware": "another processor"}')
    path = described(tmp_path, transport="adb", serials=["A", "B", "C"], python=sys.executable, folder="~/agent")
    done = CliRunner().invoke(app, ["agent", "--check", str(path), "--json"])
    assert done.exit_code == 2
    found = {f["name"]: f for f in json.loads(done.stdout)["findings"]}
    assert found["adb A: hardware"]["state"] == "ok"
    assert found["adb B: connection"]["state"] == "missing"
    assert "adb A: kind" not in found
    assert "against adb A, hardware is 'another processor'" in found["adb C: kind"]["advice"]


def test_check_of_this_machine_points_to_the_doctor() -> None:
    done = CliRunner().invoke(app, ["agent", "--check", "cpu"])
    assert done.exit_code == 2
    assert "hwnas doctor" in done.output


def test_write_writes_the_agent(tmp_path: Path) -> None:
    done = CliRunner().invoke(app, ["agent", "--write", str(tmp_path / "agent.pyz"), "--json"])
    assert done.exit_code == 0
    assert (tmp_path / "agent.pyz").read_bytes() == agent_bytes()
    assert json.loads(done.stdout)["size_bytes"] == len(agent_bytes())


def test_neither_or_both_is_wrong() -> None:
    assert CliRunner().invoke(app, ["agent"]).exit_code == 2
    assert CliRunner().invoke(app, ["agent", "--check", "cpu", "--write", "x"]).exit_code == 2
