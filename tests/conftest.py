"""One run on the fake device, made once by the command line and copied by the tests that change it."""

from __future__ import annotations

import gc
import shutil
import signal
from collections.abc import Generator, Mapping
from pathlib import Path

import pytest

from hwnas.accuracy import SubnetEvaluator
from hwnas.config import Config, load_config
from hwnas.cost.table import LatencyTable
from hwnas.measure import Worker
from hwnas.pipeline import costs
from hwnas.supernet import program
from hwnas.testing.run import tiny_config
from hwnas.types import Artefact
from hwnas.workspace import Workspace
from tests.once import made_once
from tests.runs import FinishedRun, hwnas

# a shell that starts something in the background may have it ignore Ctrl-C, which its children inherit: tests of it
# would wait for an end that does not come
if signal.getsignal(signal.SIGINT) is signal.SIG_IGN:
    signal.signal(signal.SIGINT, signal.default_int_handler)


@pytest.hookimpl(wrapper=True)
def pytest_collection() -> Generator[None, object, object]:
    """What is there when all tests are found, torch above all, stays: no garbage collection walks over it later."""
    gc.disable()
    try:
        return (yield)
    finally:
        gc.freeze()
        gc.set_threshold(20_000, *gc.get_threshold()[1:])  # a test makes thousands of objects, few of them in circles
        gc.enable()


@pytest.fixture(scope="session")
def finished(tmp_path_factory: pytest.TempPathFactory) -> FinishedRun:
    def config_in(folder: Path) -> Config:
        return tiny_config(folder / "run", {"deploy.torch_program": True})

    def make(folder: Path) -> None:
        (folder / "run.toml").write_text(config_in(folder).to_toml())
        done = hwnas("run", folder / "run.toml", "--json")
        assert done.returncode == 0, done.stderr
        (folder / "stdout").write_text(done.stdout)
        (folder / "stderr").write_text(done.stderr)

    folder = made_once(tmp_path_factory, "finished", make)
    stdout, stderr = ((folder / name).read_text() for name in ("stdout", "stderr"))
    return FinishedRun(given=config_in(folder), stdout=stdout, stderr=stderr)


@pytest.fixture
def config(finished: FinishedRun, tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> Config:
    """The configuration of a copy of the finished run."""
    folder = tmp_path / "run"
    shutil.copytree(finished.folder, folder)
    # they take as long as all the rest of a deployment; the finished run has a real one
    monkeypatch.setattr(program, "torch_program", lambda network, *, in_shape: b"a torch program")
    moved = load_config(folder)
    (folder / "config.toml").write_text(moved.to_toml())
    return moved


@pytest.fixture
def deployment(finished: FinishedRun, tmp_path: Path) -> Path:
    """A copy of the finished run's deployment."""
    folder = tmp_path / "deployment"
    shutil.copytree(finished.deployment, folder)
    return folder


@pytest.fixture
def evaluated(monkeypatch: pytest.MonkeyPatch) -> list[object]:
    """Grows with every sub-network that is evaluated."""
    made: list[object] = []
    evaluate = SubnetEvaluator.__call__

    def counting(self: SubnetEvaluator, blocks: object) -> float:
        made.append(blocks)
        return evaluate(self, blocks)  # type: ignore[arg-type]

    monkeypatch.setattr(SubnetEvaluator, "__call__", counting)
    return made


@pytest.fixture
def table_readings(monkeypatch: pytest.MonkeyPatch) -> list[object]:
    """Grows with every time that a device's tables are read to fit costs to them."""
    made: list[object] = []
    read = costs._open_tables

    def counting(work: Workspace) -> Mapping[str, LatencyTable]:
        made.append(work)
        return read(work)

    monkeypatch.setattr(costs, "_open_tables", counting)
    return made


@pytest.fixture
def measured(monkeypatch: pytest.MonkeyPatch) -> list[str]:
    """Grows with the key of everything that a measuring process is to time, the anchor aside."""
    made: list[str] = []
    measure = Worker.measure

    def counting(self: Worker, artefacts: Mapping[str, Artefact], **arguments: object) -> object:
        made.extend(artefacts)
        return measure(self, artefacts, **arguments)  # type: ignore[arg-type]

    monkeypatch.setattr(Worker, "measure", counting)
    return made
