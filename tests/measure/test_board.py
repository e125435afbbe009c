"""A board over a stand-in for adb: the same results as here, and every fault on the way survived."""

import json
import os
import signal
import sys
import threading
from dataclasses import replace
from pathlib import Path

import numpy as np
import pytest

from hwnas.errors import ArtefactError, ConfigError, MeasurementError
from hwnas.measure import Worker
from hwnas.measure._replies import WorkerError
from hwnas.measure._wire import BoardError, BoardSetupError
from hwnas.measure.board import Board
from hwnas.measure.bundle import agent_bytes
from hwnas.measure.timing import TimingSettings
from hwnas.testing.fake import fake_device
from hwnas.types import Artefact, Device, MeasurementFailure, Option, Statistic
from tests.measure.onnx_models import write_model
from tests.measure.test_client import is_gone, models

QUICK = TimingSettings(rounds=3, min_rounds=3, timeout_s=20.0, group_size=2)


def on_board(device: Device | None = None, **connection: Option) -> Device:
    settings = {"transport": "adb", "serial": "S1", "python": sys.executable, "folder": "~/agent", **connection}
    return replace(device or fake_device(), connection=settings)


def lock(board: Path) -> dict[str, int]:
    holder: dict[str, int] = json.loads((board / "agent" / "lock").read_text())
    return holder


def stored(board: Path) -> list[str]:
    return sorted(p.name for p in (board / "agent" / "store").iterdir() if p.is_file())


@pytest.fixture(autouse=True)
def _quick_reconnects(monkeypatch: pytest.MonkeyPatch) -> None:
    """Attempts follow each other faster."""
    monkeypatch.setattr("hwnas.measure.board._BACKOFF_S", (0.1, 0.5))


# ---------------------------------------------------------------- the same as here


def test_a_board_gives_the_same_results_as_a_process_here(tmp_path: Path, board: Path) -> None:
    artefacts, anchor = models(tmp_path, 5), write_model(tmp_path / "reference.onnx", size=6)
    told: list[str] = []
    with Worker(on_board()) as there, Worker(fake_device()) as here:
        expected = here.measure(artefacts, anchor=anchor, settings=QUICK)
        assert there.context() == here.context()
        results = there.measure(artefacts, anchor=anchor, settings=QUICK, on_result=lambda key, _: told.append(key))
    assert results == expected
    assert told == list(artefacts)
    assert len(stored(board)) == 6


def test_energy_is_measured_on_the_board_too(tmp_path: Path, board: Path) -> None:
    metered = replace(fake_device(), meter="fake")
    with Worker(on_board(metered)) as worker:
        result = worker.measure(models(tmp_path, 1), settings=QUICK)["m0"]
    assert isinstance(result, Statistic)
    assert result.costs["energy_mj"] > 0


def test_inputs_and_outputs_travel_in_pieces(tmp_path: Path, board: Path) -> None:
    artefact = write_model(tmp_path / "m.onnx", batch="batch")
    x = np.random.default_rng(0).standard_normal((1000, 3, 8, 8)).astype(np.float32)  # 768 kB in, 2 MB out
    with Worker(on_board()) as there, Worker(fake_device()) as here:
        np.testing.assert_array_equal(there.run(artefact, [x])[0], here.run(artefact, [x])[0])
        assert there.info(artefact) == here.info(artefact)
    assert stored(board) == [f"{artefact.sha256}.onnx"]
    assert not list((board / "agent" / "outputs").iterdir())


def test_an_artefact_is_sent_once(tmp_path: Path, board: Path) -> None:
    artefacts = models(tmp_path, 1)
    for damage in ("", "1000"):  # the second time, anything sent would arrive damaged
        if damage:
            (board / "damage").write_text(damage)
        with Worker(on_board()) as worker:
            assert isinstance(worker.measure(artefacts, settings=QUICK)["m0"], Statistic)


@pytest.mark.parametrize("fault_at", ["load", "timing"])
def test_an_artefact_that_crashes_on_the_board_is_named(tmp_path: Path, board: Path, fault_at: str) -> None:
    artefacts = models(tmp_path, 4)
    faulty = fake_device(options={"crash_on": artefacts["m2"].sha256, "fault_at": fault_at})
    with Worker(on_board(faulty)) as worker:
        results = worker.measure(artefacts, settings=QUICK)
    bad = results.pop("m2")
    assert isinstance(bad, MeasurementFailure)
    assert "SIGABRT" in bad.reason
    assert "simulated crash" in bad.reason
    assert all(isinstance(r, Statistic) for r in results.values())


def test_an_artefact_that_hangs_is_stopped_by_the_board(tmp_path: Path, board: Path) -> None:
    artefacts = models(tmp_path, 2)
    faulty = fake_device(options={"hang_on": artefacts["m0"].sha256})
    with Worker(on_board(faulty)) as worker:
        results = worker.measure(artefacts, settings=replace(QUICK, timeout_s=1.0))
    assert isinstance(results["m0"], MeasurementFailure)
    assert "did not answer 'load' within 1 s" in results["m0"].reason
    assert isinstance(results["m1"], Statistic)


def test_a_file_that_changed_here_does_not_travel(tmp_path: Path, board: Path) -> None:
    artefacts = models(tmp_path, 2)
    artefacts["m0"].path.write_bytes(b"something else")
    with Worker(on_board()) as worker:
        results = worker.measure(artefacts, settings=QUICK)
        with pytest.raises(ArtefactError, match="changed"):
            worker.run(artefacts["m0"], [])
    assert isinstance(results["m0"], MeasurementFailure)
    assert stored(board) == [f"{artefacts['m1'].sha256}.onnx"]


def test_a_file_larger_than_allowed_does_not_travel(tmp_path: Path, board: Path) -> None:
    artefact = write_model(tmp_path / "m.onnx", size=40)
    with Worker(on_board(max_file_mb=0.01)) as worker, pytest.raises(ArtefactError, match="max_file_mb"):
        worker.run(artefact, [])


def test_nothing_runs_on_the_board_afterwards(tmp_path: Path, board: Path) -> None:
    with Worker(on_board()) as worker:
        worker.context()
        agent = lock(board)["pid"]
        worker_there = children(agent)
        assert worker_there
    assert all(is_gone(pid) for pid in (agent, *worker_there))


def test_what_hangs_on_the_board_ends_with_the_caller(tmp_path: Path, board: Path) -> None:
    artefact = write_model(tmp_path / "m.onnx")
    with Worker(on_board(fake_device(options={"hang_on": artefact.sha256}))) as worker:
        worker.context()
        agent = lock(board)["pid"]
        there = children(agent)
        main = threading.main_thread().ident
        interrupted = threading.Timer(0.5, signal.pthread_kill, (main, signal.SIGINT))
        interrupted.start()
        with pytest.raises(KeyboardInterrupt):
            worker.run(artefact, [], timeout_s=60)
        interrupted.join()
    assert all(is_gone(pid) for pid in (agent, *there))


def children(pid: int) -> list[int]:
    return [int(n) for n in Path(f"/proc/{pid}/task/{pid}/children").read_text().split()]


# ---------------------------------------------------------------- the link


def cut(pid: int | None) -> None:
    """End the program that leads to the board."""
    if pid:
        os.kill(pid, signal.SIGKILL)


def measured_with(worker: Worker, artefacts: dict[str, Artefact], fault: object) -> dict[str, object]:
    """All results, the fault having struck after the first group."""
    struck: list[bool] = []

    def strike(key: str, _: object) -> None:
        if not struck:
            struck.append(True)
            fault()  # type: ignore[operator]

    return dict(worker.measure(artefacts, settings=QUICK, on_result=strike))


def test_a_link_cut_between_requests_is_made_again(tmp_path: Path, board: Path) -> None:
    artefacts = models(tmp_path, 6)
    with Worker(on_board()) as worker:
        results = measured_with(worker, artefacts, lambda: cut(worker.pid))
    assert all(isinstance(r, Statistic) for r in results.values())
    assert len(results) == 6


def test_a_link_cut_again_and_again_while_something_is_timed_loses_no_entry(tmp_path: Path, board: Path) -> None:
    artefacts, anchor = models(tmp_path, 4), write_model(tmp_path / "reference.onnx", size=6)
    (board / "cut").write_text("3")
    with Worker(on_board()) as worker:
        results = worker.measure(artefacts, anchor=anchor, anchor_ms=1.0, settings=QUICK)
    assert not (board / "cut").exists()
    assert list(results) == list(artefacts)
    assert all(isinstance(r, Statistic) for r in results.values())


def test_an_agent_that_is_killed_is_started_again(tmp_path: Path, board: Path) -> None:
    artefacts = models(tmp_path, 4)
    with Worker(on_board()) as worker:
        results = measured_with(worker, artefacts, lambda: os.kill(lock(board)["pid"], signal.SIGKILL))
    assert all(isinstance(r, Statistic) for r in results.values())


def test_a_board_that_is_away_for_a_while_is_waited_for(tmp_path: Path, board: Path) -> None:
    artefacts = models(tmp_path, 4)
    back = threading.Timer(1.0, (board / "down").unlink)

    def reboot() -> None:
        (board / "down").touch()
        back.start()
        os.kill(lock(board)["pid"], signal.SIGKILL)

    with Worker(on_board()) as worker:
        results = measured_with(worker, artefacts, reboot)
    back.join()
    assert all(isinstance(r, Statistic) for r in results.values())


def test_a_board_that_stays_away_ends_the_measurement_and_blames_no_artefact(tmp_path: Path, board: Path) -> None:
    artefacts = models(tmp_path, 6)
    told: dict[str, object] = {}

    def unplug(key: str, result: object) -> None:
        told[key] = result
        (board / "down").touch()
        cut(worker.pid)

    with (
        Worker(on_board(reconnect_s=1.0)) as worker,
        pytest.raises(BoardError, match=r"not found again within 1 s.*kept"),
    ):
        worker.measure(artefacts, settings=QUICK, on_result=unplug)
    assert set(told) == {"m0", "m1"}
    assert all(isinstance(r, Statistic) for r in told.values())


def test_what_cannot_be_loaded_again_is_not_blamed_on_what_was_asked_for(tmp_path: Path, board: Path) -> None:
    artefacts, anchor = models(tmp_path, 4), write_model(tmp_path / "reference.onnx", size=6)

    def lose(key: str, _: object) -> None:
        anchor.path.unlink(missing_ok=True)
        cut(worker.pid)

    with Worker(on_board()) as worker, pytest.raises(BoardError, match=r"brought back.*reference\.onnx"):
        worker.measure(artefacts, anchor=anchor, anchor_ms=1.0, settings=QUICK, on_result=lose)


def test_a_board_that_goes_down_with_one_artefact_ends_the_measurement_and_names_it(
    tmp_path: Path, board: Path
) -> None:
    artefact = write_model(tmp_path / "deadly.onnx")
    (board / "modules" / "sitecustomize.py").write_text(_AGENT_DIES_ON_LOAD)
    with Worker(on_board()) as worker, pytest.raises(BoardError, match=r"lost 5 times.*deadly\.onnx"):
        worker.run(artefact, [])


_AGENT_DIES_ON_LOAD = """
import json
parse = json.loads
def loads(text, **options):
    value = parse(text, **options)
    if isinstance(value, dict) and value.get("request", {}).get("op") == "load":
        import os
        os._exit(1)
    return value
json.loads = loads
"""


def test_a_board_that_is_not_there_at_first_is_told_at_once(board: Path) -> None:
    (board / "down").touch()
    with Worker(on_board()) as worker, pytest.raises(BoardSetupError, match=r"S1.*adb devices"):
        worker.context()


def test_a_program_for_the_way_that_is_absent_here_is_told(board: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setenv("PATH", "/nowhere")
    with Worker(on_board()) as worker, pytest.raises(BoardSetupError, match=r"adb cannot be started; install adb"):
        worker.context()


def test_a_board_on_which_somebody_else_measures_is_refused(board: Path) -> None:
    with Worker(on_board()) as first, Worker(on_board()) as second:
        first.context()
        with pytest.raises(MeasurementError, match=rf"{os.getpid()}.*is measuring here"):
            second.context()
        assert first.context()


# ---------------------------------------------------------------- files on the way


def test_a_file_damaged_on_the_way_is_sent_again(tmp_path: Path, board: Path) -> None:
    (board / "damage").write_text("2")
    artefacts = models(tmp_path, 2)
    with Worker(on_board()) as worker:
        results = worker.measure(artefacts, settings=QUICK)
    assert not (board / "damage").exists()
    assert all(isinstance(r, Statistic) for r in results.values())


def test_a_file_that_never_arrives_whole_blames_the_connection(tmp_path: Path, board: Path) -> None:
    (board / "damage").write_text("1000")
    with Worker(on_board()) as worker, pytest.raises(BoardError, match="damaged on the board S1 3 times"):
        worker.measure(models(tmp_path, 2), settings=QUICK)
    assert not stored(board)


def test_a_stored_file_that_the_disk_did_not_keep_is_sent_again(tmp_path: Path, board: Path) -> None:
    artefact = write_model(tmp_path / "m.onnx")
    with Worker(on_board()) as worker:
        worker.info(artefact)
        (board / "agent" / "store" / f"{artefact.sha256}.onnx").write_bytes(b"rot")
        assert worker.info(artefact)


def test_a_runtime_that_cannot_write_on_a_full_disk_blames_no_artefact(tmp_path: Path, board: Path) -> None:
    (board / "modules" / "onnx.py").write_text(_NO_SPACE)
    with Worker(on_board()) as worker, pytest.raises(BoardSetupError, match="the board S1 is full"):
        worker.measure(models(tmp_path, 2), settings=QUICK)


_NO_SPACE = """
class checker:
    class ValidationError(Exception): pass
class shape_inference:
    class InferenceError(Exception): pass
def load(path):
    raise OSError(28, "No space left on device")
"""


# ---------------------------------------------------------------- what the board lacks


def test_a_runtime_that_is_absent_on_the_board_says_what_to_install_there(tmp_path: Path, board: Path) -> None:
    (board / "modules" / "onnxruntime.py").write_text(
        "raise ModuleNotFoundError(\"No module named 'onnxruntime'\", name='onnxruntime')\n"
    )
    device = on_board(Device(name="d", runtime="onnxruntime"))
    with Worker(device) as worker, pytest.raises(BoardSetupError, match=r"S1.*-m pip install onnxruntime"):
        worker.measure(models(tmp_path, 3), settings=QUICK)


def test_what_to_install_is_what_the_runtime_needs_there() -> None:
    board = Board(on_board(Device(name="d", runtime="litert")))
    message = "runtime 'litert' needs the package 'ai_edge_litert', which ..."
    told = str(board.lacks(WorkerError(type="MissingPackageError", message=message), python="/usr/bin/python3"))
    assert "lacks (ai_edge_litert)" in told
    assert "/usr/bin/python3 -m pip install ai-edge-litert" in told


def test_numpy_that_is_absent_on_the_board_says_what_to_install_there(board: Path) -> None:
    (board / "modules" / "numpy.py").write_text("raise ImportError(\"No module named 'numpy'\")\n")
    with Worker(on_board()) as worker, pytest.raises(BoardSetupError, match="-m pip install numpy"):
        worker.context()


def test_a_python_that_is_absent_on_the_board_is_named(board: Path) -> None:
    with Worker(on_board(python="python7")) as worker, pytest.raises(BoardSetupError, match="python7"):
        worker.context()


def test_a_python_that_is_too_old_is_refused(board: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr("hwnas.measure._wire.OLDEST_PYTHON", "4.0")
    with Worker(on_board()) as worker, pytest.raises(BoardSetupError, match=r"needs 4\.0 or newer"):
        worker.context()


def test_a_folder_that_cannot_be_made_is_named(board: Path) -> None:
    with Worker(on_board(folder="/proc/nowhere")) as worker, pytest.raises(BoardSetupError, match="/proc/nowhere"):
        worker.context()


def test_an_agent_put_there_by_hand_is_used(tmp_path: Path, board: Path) -> None:
    (board / "by-hand.pyz").write_bytes(agent_bytes())
    with Worker(on_board(agent="~/by-hand.pyz")) as worker:
        assert worker.context()["hardware"] == "simulated processor"
    assert not list((board / "agent").glob("*.pyz"))


def test_an_agent_of_another_protocol_is_refused(board: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr("hwnas.measure._wire.AGENT_PROTOCOL", 999)
    with Worker(on_board()) as worker, pytest.raises(BoardSetupError, match=r"999.*hwnas agent --write"):
        worker.context()


def test_an_agent_of_an_older_version_is_replaced(board: Path) -> None:
    (board / "agent").mkdir()
    (board / "agent" / "agent-0123456789abcdef.pyz").write_bytes(b"old")
    with Worker(on_board()) as worker:
        worker.context()
    assert len(list((board / "agent").glob("*.pyz"))) == 1


def test_an_agent_that_was_cut_off_is_sent_again(board: Path) -> None:
    with Worker(on_board()) as worker:
        worker.context()
    (agent,) = (board / "agent").glob("*.pyz")
    agent.write_bytes(agent.read_bytes()[:1000])
    with Worker(on_board()) as worker:
        worker.context()
    assert agent.read_bytes() == agent_bytes()


def test_a_board_whose_clock_is_wrong_measures_all_the_same(tmp_path: Path, board: Path) -> None:
    (board / "modules" / "sitecustomize.py").write_text("import time\ntime.time = lambda: 0.0\n")
    with Worker(on_board()) as worker:
        results = worker.measure(models(tmp_path, 3), settings=QUICK)
    assert all(isinstance(r, Statistic) for r in results.values())


def test_a_board_that_comes_back_changed_is_refused() -> None:
    board = Board(on_board())
    board.check_context({"runtime_version": "1", "hardware": "h", "governor": "powersave"})
    board.check_context({"runtime_version": "1", "hardware": "h", "governor": "performance"})
    with pytest.raises(BoardError, match="runtime_version was '1', is '2'"):
        board.check_context({"runtime_version": "2", "hardware": "h"})


# ---------------------------------------------------------------- settings


@pytest.mark.parametrize(
    ("connection", "words"),
    [
        ({"serial": "S1"}, "needs a transport, one of adb, ssh"),
        ({"transport": "adb"}, "serial is ''"),
        ({"transport": "adb", "serial": "-x"}, "serial is '-x'"),
        ({"transport": "ssh"}, "host is ''"),
        ({"transport": "ssh", "host": "-oProxyCommand=x"}, "host is '-oProxyCommand"),
        ({"transport": "ssh", "host": "h", "prot": 22}, "unknown setting 'prot' .did you mean 'port'.*python"),
        ({"transport": "ssh", "host": "h", "port": "22"}, "port is '22'; allowed: a number"),
        ({"transport": "ssh", "host": "h", "port": 2.5}, "port is 2.5; allowed: a whole number"),
        ({"transport": "ssh", "host": "h", "reconnect_s": -1}, "reconnect_s is -1"),
        ({"transport": "ssh", "host": "h", "folder": "a\nb"}, "control characters"),
    ],
)
def test_a_wrong_setting_is_told_with_what_is_allowed(connection: dict[str, Option], words: str) -> None:
    with pytest.raises(ConfigError, match=words):
        Worker(replace(fake_device(), connection=connection))
