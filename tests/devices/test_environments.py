"""Environments made on demand: made once, whole or not at all, and clear about what went wrong."""

from __future__ import annotations

import base64
import fcntl
import hashlib
import shutil
import subprocess
import sys
import threading
import zipfile
from collections.abc import Sequence
from pathlib import Path

import pytest

from hwnas.devices import _environments
from hwnas.devices._environments import ToolEnvironment, ToolEnvironmentError

ABSENT = "hwnas-there-is-no-such-package==1"


@pytest.fixture(autouse=True)
def cache(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> Path:
    """A cache folder of the test's own, and pip without a network."""
    monkeypatch.setenv("XDG_CACHE_HOME", str(tmp_path / "cache"))
    monkeypatch.setenv("PIP_NO_INDEX", "1")
    monkeypatch.delenv("HWNAS_PYTHON_SOME_TOOL", raising=False)
    return tmp_path / "cache" / "hwnas" / "environments"


@pytest.fixture
def steps(monkeypatch: pytest.MonkeyPatch) -> list[str]:
    """What a build does, without doing it: venv leaves something that looks like a Python."""
    done: list[str] = []

    def step(self: ToolEnvironment, what: str, command: Sequence[str]) -> None:
        done.append(what)
        if what != "pip":
            fill(Path(command[-1]))

    monkeypatch.setattr(ToolEnvironment, "_step", step)
    return done


def fill(folder: Path) -> None:
    (folder / "bin").mkdir(parents=True)
    (folder / "bin" / "python").write_text("a Python")


def environment(*requirements: str) -> ToolEnvironment:
    return ToolEnvironment(name="some-tool", requirements=requirements)


def wheel(folder: Path) -> Path:
    """A package `some_tool` with one module."""
    record = "some_tool-1.dist-info/RECORD"
    contents = {
        "some_tool.py": "ANSWER = 42\n",
        "some_tool-1.dist-info/METADATA": "Metadata-Version: 2.1\nName: some-tool\nVersion: 1\n",
        "some_tool-1.dist-info/WHEEL": "Wheel-Version: 1.0\nGenerator: t\nRoot-Is-Purelib: true\nTag: py3-none-any\n",
    }
    path = folder / "some_tool-1-py3-none-any.whl"
    with zipfile.ZipFile(path, "w") as file:
        lines = []
        for name, text in contents.items():
            file.writestr(name, text)
            digest = base64.urlsafe_b64encode(hashlib.sha256(text.encode()).digest()).rstrip(b"=").decode()
            lines.append(f"{name},sha256={digest},{len(text)}")
        file.writestr(record, "\n".join([*lines, f"{record},,", ""]))
    return path


@pytest.fixture(scope="module")
def made(tmp_path_factory: pytest.TempPathFactory) -> Path:
    """The Python of an environment that was really made."""
    folder = tmp_path_factory.mktemp("made")
    with pytest.MonkeyPatch.context() as patch:
        patch.setenv("XDG_CACHE_HOME", str(folder / "cache"))
        patch.setenv("PIP_NO_INDEX", "1")
        patch.delenv("HWNAS_PYTHON_SOME_TOOL", raising=False)
        return environment(str(wheel(folder))).python()


def test_an_environment_is_made_and_its_python_has_the_tool_and_nothing_of_ours(made: Path) -> None:
    script = "import some_tool, importlib.util as u; print(some_tool.ANSWER, u.find_spec('hwnas'))"
    said = subprocess.run([made, "-I", "-c", script], capture_output=True, text=True, check=True)
    assert said.stdout.split() == ["42", "None"]


def test_a_failed_installation_tells_pips_words_and_what_to_do_and_leaves_nothing(
    cache: Path, made: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    step = ToolEnvironment._step

    def copying(self: ToolEnvironment, what: str, command: Sequence[str]) -> None:
        if what == "pip":
            return step(self, what, command)
        shutil.copytree(made.parents[1], command[-1], symlinks=True, dirs_exist_ok=True)  # a pip takes seconds to make

    monkeypatch.setattr(ToolEnvironment, "_step", copying)
    with pytest.raises(ToolEnvironmentError) as caught:
        environment(ABSENT).python()
    message = str(caught.value)
    assert "No matching distribution" in message
    assert f"install {ABSENT} elsewhere and set HWNAS_PYTHON_SOME_TOOL" in message
    assert [path.suffix for path in cache.iterdir()] == [".lock"]


def test_an_environment_that_exists_is_used_as_it_is(steps: list[str]) -> None:
    fill(environment("a==1").folder)
    assert environment("a==1").python() == environment("a==1").folder / "bin" / "python"
    assert not steps


def test_other_requirements_are_another_environment() -> None:
    assert environment("a==1").folder != environment("a==2").folder
    assert environment("a==1", "b==1").folder == environment("b==1", "a==1").folder


def test_what_a_killed_build_left_is_removed_and_not_used(cache: Path, steps: list[str]) -> None:
    tool = environment("a==1")
    left = cache / f".{tool.folder.name}.building-left"
    fill(left)
    tool.python()
    assert len(steps) == 2
    assert not left.exists()


def test_an_environment_whose_python_is_gone_is_made_again(steps: list[str]) -> None:
    tool = environment("a==1")
    (tool.folder / "bin").mkdir(parents=True)
    (tool.folder / "bin" / "python").symlink_to("/no/such/python")
    assert tool.python().read_text() == "a Python"


def test_of_two_that_want_it_at_once_one_builds(steps: list[str], capfd: pytest.CaptureFixture[str]) -> None:
    found: list[Path] = []
    threads = [threading.Thread(target=lambda: found.append(environment("a==1").python())) for _ in range(4)]
    for thread in threads:
        thread.start()
    for thread in threads:
        thread.join()
    assert len(found) == 4
    assert len(steps) == 2
    assert capfd.readouterr().err.count("is ready") == 1


def test_who_waits_too_long_for_another_builder_is_told_for_what(cache: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(_environments, "_LIMIT_S", 0.1)
    tool = environment("a==1")
    cache.mkdir(parents=True)
    with open(cache / f".{tool.folder.name}.lock", "w") as file:
        fcntl.flock(file, fcntl.LOCK_EX)
        with pytest.raises(ToolEnvironmentError, match=r"still holds .*\.lock"):
            tool.python()


def test_a_step_that_hangs_is_stopped(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(_environments, "_LIMIT_S", 0.5)
    command = (sys.executable, "-c", "import time; print('at it', flush=True); time.sleep(60)")
    with pytest.raises(ToolEnvironmentError, match=r"(?s)longer than 0.5 s.*at it"):
        environment("a==1")._step("pip", command)


def test_a_cache_that_cannot_be_written_is_named(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    (tmp_path / "file").touch()
    monkeypatch.setenv("XDG_CACHE_HOME", str(tmp_path / "file"))
    with pytest.raises(ToolEnvironmentError, match=r"file/hwnas.*XDG_CACHE_HOME"):
        environment("a==1").python()


def test_a_python_that_has_the_tool_already_can_be_named(monkeypatch: pytest.MonkeyPatch, steps: list[str]) -> None:
    monkeypatch.setenv("HWNAS_PYTHON_SOME_TOOL", sys.executable)
    assert environment("a==1").python() == Path(sys.executable)
    assert not steps


def test_a_named_python_that_cannot_be_started_is_refused(monkeypatch: pytest.MonkeyPatch, tmp_path: Path) -> None:
    monkeypatch.setenv("HWNAS_PYTHON_SOME_TOOL", str(tmp_path))
    with pytest.raises(ToolEnvironmentError, match=r"HWNAS_PYTHON_SOME_TOOL is .* no program"):
        environment("a==1").python()
