"""How commands end: what was typed wrongly, errors of the system, signals, closed pipes, odd locales."""

from __future__ import annotations

import errno
import json
import os
import signal
import subprocess
import sys
import time
from pathlib import Path
from typing import Any

import pytest
from typer.testing import CliRunner, Result

from hwnas import pipeline
from hwnas._commands import Terminated, signals
from hwnas._console import Console
from hwnas.cli import app
from hwnas.config import Config
from tests.runs import MadeUp, hwnas


def invoke(*arguments: object) -> Result:
    return CliRunner().invoke(app, [str(a) for a in arguments])


def failing(monkeypatch: pytest.MonkeyPatch, error: BaseException) -> None:
    def stage(config: Config, *, console: Console) -> dict[str, Any]:
        raise error

    monkeypatch.setattr(pipeline, "train", stage, raising=False)


# ---------------------------------------------------------------- what was typed wrongly


@pytest.mark.parametrize(
    ("arguments", "said"),
    [
        (("train", "--nope"), "No such option: --nope; see: hwnas train --help"),
        (("nope",), "No such command 'nope'"),
        (("verify",), "Missing argument 'DEPLOYMENT'"),
        (("query", "run", "--top", "0"), "'--top'"),
        (("query", "run", "--top", "0"), "but is '0'"),
        (("query", "run", "--top", "x"), "but is 'x'"),
        (("train", "--set"), "'--set' requires an argument"),
        (("train", ""), "'' is blank (from a variable that is not set?)"),
        (("train", "--output", ""), "'' is blank"),
        (("train", "--output", " "), "' ' is blank"),
        (("train", "--set", ""), "'' is blank"),
        (("search", "--limit", ""), "'' is blank"),
        (("run", "--device", ""), "'' is blank"),
        (("verify", ""), "'' is blank"),
        (("query", ""), "'' is blank"),
        (("devices", "show", ""), "'' is blank"),
        (("devices", "audit", "cpu", "--output", ""), "'' is blank"),
        (("devices", "new", "x", "--yes", "--offline", "--host", ""), "'' is blank"),
        (("devices", "new", "x", "--yes", "--offline", "--precision", ""), "'' is blank"),
        (("devices", "new", "x", "--yes", "--offline", "--threads", "0"), "but is '0'"),
        (("devices", "new", "x", "--yes", "--offline", "--power-w", "nan"), "nan is not a number that can be used"),
        (("devices", "new", "x", "--yes", "--offline", "--idle-w", "inf"), "inf is not a number that can be used"),
        (("devices", "new", "x", "--yes", "--offline", "--option", "a=1", "--option", "a=2"), "a is given twice"),
        (("spaces", ""), "'' is blank"),
        (("agent", "--check", ""), "'' is blank"),
        (("agent", "--write", ""), "'' is blank"),
        (("train", "--output", "a\0b"), "has a NUL character"),
        (("train", "--set", "train.steps=1", "--set", "train.steps=2"), "train.steps is given twice"),
        (("train", "--output", "a", "--set", "output.folder=b"), "give --output or --set output.folder, not both"),
        (("search", "--workers", "2", "--set", "search.workers=3"), "give --workers or --set search.workers, not both"),
        (("search", "--ray", " "), "' ' is blank"),
        (("search", "--workers", "0"), "search.workers is 0, but should be greater than or equal to 1"),
        (("search", "--storage", "study.log"), "search.storage is 'study.log', but should be a URL"),
        (("search", "--storage", "postgresql://a:b@c/d"), "search.storage: has a password; leave it out"),
        (("train", "--set", "train.seed=18446744073709551616"), "train.seed is 18446744073709551616"),
        (("train", "--set", "train.steps=" + "9" * 5000), "train.steps is '999"),
    ],
)
def test_what_is_typed_wrongly_is_one_line_that_says_what_was_given(arguments: tuple[str, ...], said: str) -> None:
    result = invoke(*arguments)
    assert result.exit_code == 2
    assert said in result.stderr
    assert result.stderr.startswith("error: ")
    assert result.stderr.count("\n") == 1


def test_json_holds_what_was_typed_wrongly() -> None:
    document = json.loads(invoke("train", "--nope", "--json").stdout)
    assert document["exit_status"] == 2
    assert "No such option: --nope" in document["error"]["message"]


def test_a_question_that_nobody_answers_is_wrong_input(tmp_path: Path) -> None:
    result = invoke("devices", "new", "board", "--offline", "--output", tmp_path)
    assert result.exit_code == 2
    assert "take the defaults with --yes" in result.stderr
    assert not list(tmp_path.iterdir())


# ---------------------------------------------------------------- errors of the system


@pytest.mark.parametrize("name", ["ENOTDIR", "EISDIR", "ENOENT", "EACCES", "EROFS", "ELOOP", "ENAMETOOLONG", "EEXIST"])
def test_a_place_that_cannot_be_used_is_wrong_input(monkeypatch: pytest.MonkeyPatch, name: str) -> None:
    number = getattr(errno, name)
    failing(monkeypatch, OSError(number, os.strerror(number), "/a/b"))
    result = invoke("train")
    assert result.exit_code == 2
    assert result.stderr.startswith("error: /a/b: ")
    assert "again" not in result.stderr


@pytest.mark.parametrize("name", ["ENOSPC", "EDQUOT", "EIO"])
def test_what_may_pass_says_how_to_go_on(monkeypatch: pytest.MonkeyPatch, name: str) -> None:
    failing(monkeypatch, OSError(getattr(errno, name), "too bad", "/a/b"))
    result = invoke("train")
    assert result.exit_code == 1
    assert result.stderr == "error: /a/b: too bad; run the same command again to go on\n"


@pytest.mark.parametrize("debug", [False, True])
def test_a_package_that_is_asked_for_and_not_there_is_one_line(monkeypatch: pytest.MonkeyPatch, debug: bool) -> None:
    failing(monkeypatch, ModuleNotFoundError("No module named 'torch'", name="torch"))
    result = invoke("train", *(["--debug"] if debug else []))
    assert result.exit_code == 2
    last = result.stderr.splitlines()[-1]
    assert last.startswith("error: hwnas train needs the package 'torch', which is not installed; ")
    assert last.endswith("; install it with: pip install 'torch>=2.6'")
    assert ("Traceback" in result.stderr) == debug


def test_a_package_of_a_user_s_own_module_is_left_to_python(monkeypatch: pytest.MonkeyPatch) -> None:
    failing(monkeypatch, ModuleNotFoundError("No module named 'pandas'", name="pandas"))
    assert isinstance(invoke("train").exception, ModuleNotFoundError)


def test_memory_that_does_not_suffice_is_one_line(monkeypatch: pytest.MonkeyPatch) -> None:
    failing(monkeypatch, MemoryError("Unable to allocate 9 TiB"))
    result = invoke("train")
    assert result.exit_code == 1
    assert result.stderr.startswith("error: the memory did not suffice (Unable to allocate 9 TiB)")


def test_files_where_folders_should_be_are_wrong_input(tmp_path: Path) -> None:
    (tmp_path / "file").write_text("")
    below = tmp_path / "file" / "x"
    for arguments in (
        ("train", below),
        ("verify", below),
        ("query", below),
        ("devices", "show", f"{below}.toml"),
        ("devices", "audit", "fake", "--output", below),
        ("devices", "new", "x", "--yes", "--offline", "--output", below),
        ("agent", "--write", below),
    ):
        result = invoke(*arguments)
        assert (result.exit_code, result.stderr.count("\n")) == (2, 1), arguments


# ---------------------------------------------------------------- signals


@pytest.mark.parametrize(("number", "error"), [(signal.SIGINT, KeyboardInterrupt), (signal.SIGTERM, Terminated)])
def test_only_the_first_request_to_end_disturbs(number: signal.Signals, error: type[BaseException]) -> None:
    before = {n: signal.getsignal(n) for n in (signal.SIGINT, signal.SIGTERM, signal.SIGHUP)}
    tidied = False
    try:
        with signals():
            try:
                os.kill(os.getpid(), number)
                pytest.fail("nothing was raised")
            except error:
                os.kill(os.getpid(), number)  # while it cleans up
                tidied = True
    finally:
        for each, handler in before.items():
            signal.signal(each, handler)
    assert tidied


_STAGE = """
import sys, time
from hwnas import pipeline
from hwnas.cli import main
def stage(config, *, console):
    try:
        print("begun")
        time.sleep(60)
    finally:
        print("tidying")
        time.sleep({tidying_s})
        print("tidied")
pipeline.train = stage
sys.argv = ["hwnas", "train"]
main()
"""


def stopped(number: signal.Signals, *, times: int, tidying_s: float) -> tuple[int, str]:
    """Status and what is said of a stage that gets a signal, and then again while it tidies up."""
    code = _STAGE.format(tidying_s=tidying_s)
    with subprocess.Popen([sys.executable, "-c", code], stderr=subprocess.PIPE, text=True) as process:
        assert process.stderr is not None
        assert process.stderr.readline() == "begun\n"
        process.send_signal(number)
        assert process.stderr.readline() == "tidying\n"
        for _ in range(times - 1):
            process.send_signal(number)
            time.sleep(0.1)  # two at once would count as one
        return process.wait(20), process.stderr.read()


def test_ctrl_c_twice_lets_the_first_tidy_up() -> None:
    told = "tidied\nerror: interrupted; run the same command again to go on\n"
    assert stopped(signal.SIGINT, times=2, tidying_s=0.3) == (130, told)


def test_ctrl_c_three_times_ends_at_once() -> None:
    assert stopped(signal.SIGINT, times=3, tidying_s=30) == (130, "")


def test_a_process_that_is_asked_to_end_tidies_up() -> None:
    told = "tidied\nerror: stopped by SIGTERM; run the same command again to go on\n"
    assert stopped(signal.SIGTERM, times=1, tidying_s=0) == (143, told)


# ---------------------------------------------------------------- what others print

_NOISY = """
import ctypes, os, subprocess
def data():
    print("by Python")
    os.write(1, b"by its number\\n")
    subprocess.run(["echo", "by a child"])
    ctypes.CDLL(None).puts(b"by C")  # stays in a buffer of C until the process ends
    return {"x_train": [[0]], "y_train": [0]}
"""
_LOADING = """
from hwnas import pipeline
from hwnas.cli import main
from hwnas.data import load_data
from hwnas.errors import DataError
from hwnas.results import Shown
from tests.runs import MadeUp
def stage(config, *, console):
    try:
        load_data(config.data.source, seed=0)
    except DataError:
        return MadeUp(told=Shown(notes=("no images",)))
pipeline.train = stage
main()
"""


@pytest.mark.parametrize("json_output", [(), ("--json",)])
def test_standard_output_is_the_results_alone_whoever_prints(tmp_path: Path, json_output: tuple[str, ...]) -> None:
    (tmp_path / "noisy.py").write_text(_NOISY)
    done = subprocess.run(
        [sys.executable, "-c", _LOADING, "train", "--set", "data.source=python:noisy:data", *json_output],
        capture_output=True,
        text=True,
        check=False,
        cwd=tmp_path,
        env={**os.environ, "PYTHONPATH": str(Path(__file__).parents[1])},
    )
    assert done.returncode == 0, done.stderr
    shown = json.loads(done.stdout)["notes"] if json_output else done.stdout.splitlines()
    assert shown == ["no images"]
    assert set(done.stderr.splitlines()) == {"by Python", "by its number", "by a child", "by C"}


def test_what_is_printed_within_a_command_is_not_its_result(monkeypatch: pytest.MonkeyPatch) -> None:
    def stage(config: Config, *, console: Console) -> MadeUp:
        print("by a library")
        return MadeUp(more={"made": 1})

    monkeypatch.setattr(pipeline, "train", stage, raising=False)
    done = invoke("train", "--json")
    assert (json.loads(done.stdout)["made"], done.stderr) == (1, "by a library\n")


# ---------------------------------------------------------------- pipes, locales, terminals


def test_a_reader_that_has_seen_enough_is_no_error() -> None:
    command = f"{sys.executable} -m hwnas spaces mobilenet-v3-large --json | head -c 1; echo ${{PIPESTATUS[0]}}"
    done = subprocess.run(["bash", "-c", command], capture_output=True, text=True, check=False)
    assert done.stdout in ("{141\n", "{0\n")  # 0: it had written all before the reader was gone
    assert done.stderr == ""


def test_a_closed_standard_output_is_no_error() -> None:
    done = subprocess.run(["bash", "-c", f"{sys.executable} -m hwnas devices >&-"], capture_output=True, check=False)
    assert (done.returncode, done.stderr) == (0, b"")


def test_with_standard_error_closed_the_result_stays_alone() -> None:
    command = f"{sys.executable} -m hwnas train nowhere.toml --json 2>&-"
    done = subprocess.run(["bash", "-c", command], capture_output=True, check=False)
    assert (done.returncode, json.loads(done.stdout)["exit_status"]) == (2, 2)


NO_UTF_8 = {"LC_ALL": "C", "PYTHONUTF8": "0", "PYTHONCOERCECLOCALE": "0"}


def test_a_locale_without_utf_8_reads_and_names_files_as_any_other(tmp_path: Path) -> None:
    (tmp_path / "grün.toml").write_text("[space]\npreset = 'größer'\n", encoding="utf-8")
    done = hwnas("train", tmp_path / "grün.toml", environment=NO_UTF_8)
    assert done.returncode == 2
    assert "unknown space 'größer'" in done.stderr


@pytest.mark.parametrize("json_output", [(), ("--json",)])
def test_a_terminal_that_lacks_letters_shows_escapes(json_output: tuple[str, ...]) -> None:
    done = hwnas("train", "nö.toml", *json_output, environment={"PYTHONIOENCODING": "ascii"})
    assert done.returncode == 2
    assert "n\\xf6.toml" in done.stderr
    if json_output:
        assert "nö.toml" in json.loads(done.stdout)["error"]["message"]
