"""The measuring process: results, crashes, hangs, Ctrl-C, and what must never reach the parent."""

import os
import signal
import subprocess
import sys
import threading
import time
from collections.abc import Iterator, Mapping
from pathlib import Path
from types import SimpleNamespace

import numpy as np
import pytest

from hwnas.errors import (
    ArtefactError,
    ConfigError,
    MeasurementError,
    MeasurementTimeoutError,
    UnknownNameError,
    WorkerCrashedError,
)
from hwnas.measure import client
from hwnas.measure.artefacts import artefact_from_file
from hwnas.measure.client import Worker
from hwnas.measure.protocol import PROTOCOL
from hwnas.measure.timing import TimingSettings
from hwnas.testing.fake import FakeRuntime, fake_device
from hwnas.testing.simulation import simulated_cost_ns
from hwnas.types import Artefact, Device, MeasurementFailure, Option, Statistic
from tests.measure.onnx_models import write_model

QUICK = TimingSettings(rounds=3, min_rounds=3, timeout_s=20.0)
STILL: Mapping[str, Option] = {"noise": 0.0, "drift": 0.0}


def models(folder: Path, n: int) -> dict[str, Artefact]:
    return {f"m{i}": write_model(folder / f"m{i}.onnx", size=i + 1) for i in range(n)}


def device(**options: Option) -> Device:
    return fake_device(options={**STILL, **options})


@pytest.fixture(scope="module")
def still_worker() -> Iterator[Worker]:
    """One process for all tests that do it no harm."""
    with Worker(device()) as worker:
        yield worker


def is_gone(pid: int) -> bool:
    for _ in range(200):
        try:
            state = Path(f"/proc/{pid}/stat").read_text().rsplit(")", 1)[1].split()[0]
        except FileNotFoundError:
            return True
        if state == "Z":  # dead; its parent has not looked yet
            return True
        time.sleep(0.05)
    return False


# ---------------------------------------------------------------- measuring


def test_a_still_device_is_measured_exactly(tmp_path: Path, still_worker: Worker) -> None:
    artefacts = models(tmp_path, 3)
    results = still_worker.measure(artefacts, settings=QUICK)
    for key, artefact in artefacts.items():
        result = results[key]
        assert isinstance(result, Statistic)
        assert result.median == pytest.approx(simulated_cost_ns(artefact.path) * 1e-6, rel=1e-3)


def test_a_drifting_device_is_corrected_to_the_tables_anchor_time(tmp_path: Path) -> None:
    artefacts = models(tmp_path, 20)
    anchor = write_model(tmp_path / "reference.onnx", size=6)
    anchor_ms = simulated_cost_ns(anchor.path) * 1e-6
    drifting = fake_device(options={"drift": 0.6, "noise": 0.01, "drift_period_s": 0.5})
    with Worker(drifting) as worker:
        results = worker.measure(artefacts, anchor=anchor, anchor_ms=anchor_ms)
    for key, artefact in artefacts.items():
        result = results[key]
        assert isinstance(result, Statistic)
        assert result.median == pytest.approx(simulated_cost_ns(artefact.path) * 1e-6, rel=0.03), key
    assert max(r.drift for r in results.values() if isinstance(r, Statistic)) > 1.1


def test_without_an_anchor_time_the_anchor_is_measured_first(tmp_path: Path, still_worker: Worker) -> None:
    artefacts, anchor = models(tmp_path, 2), write_model(tmp_path / "reference.onnx", size=6)
    results = still_worker.measure(artefacts, anchor=anchor, settings=QUICK)
    assert still_worker.measure_anchor(anchor).median == pytest.approx(simulated_cost_ns(anchor.path) * 1e-6, rel=1e-3)
    assert all(isinstance(r, Statistic) and r.drift == pytest.approx(1.0) for r in results.values())


@pytest.mark.parametrize(("context", "pauses"), [({"load": "0.10"}, 7), ({}, 0)], ids=["a machine", "a simulation"])
def test_the_anchor_is_waited_for_only_where_a_neighbour_may_disturb_it(
    tmp_path: Path, still_worker: Worker, monkeypatch: pytest.MonkeyPatch, context: dict[str, str], pauses: int
) -> None:
    slept: list[float] = []
    monkeypatch.setattr(client, "time", SimpleNamespace(sleep=slept.append))
    monkeypatch.setattr(still_worker._link, "context", lambda: context)
    still_worker.measure_anchor(write_model(tmp_path / "reference.onnx", size=6), settings=QUICK)
    assert len(slept) == pauses


def test_a_simulated_measurement_repeats_exactly(tmp_path: Path) -> None:
    artefacts, anchor = models(tmp_path, 4), write_model(tmp_path / "reference.onnx", size=6)
    results = []
    for _ in range(2):
        with Worker(fake_device()) as worker:
            results.append(worker.measure(artefacts, anchor=anchor))
    assert results[0] == results[1]


def test_results_and_progress_are_told_group_by_group_in_order(tmp_path: Path, still_worker: Worker) -> None:
    artefacts = models(tmp_path, 5)
    told: list[object] = []
    settings = TimingSettings(rounds=3, min_rounds=3, group_size=2)
    results = still_worker.measure(
        artefacts,
        settings=settings,
        on_result=lambda key, _: told.append(key),
        progress=lambda done, total, note: told.append((done, total)),
    )
    assert told == ["m0", "m1", (2, 5), "m2", "m3", (4, 5), "m4", (5, 5)]
    assert list(results) == list(artefacts)


def test_nothing_to_measure_starts_no_process() -> None:
    with Worker(device()) as worker:
        assert worker.measure({}) == {}
        assert worker.pid is None


def test_two_anchors_are_not_mixed_up(tmp_path: Path, still_worker: Worker) -> None:
    artefacts = models(tmp_path, 1)
    for size in (4, 8):
        anchor = write_model(tmp_path / f"reference{size}.onnx", size=size)
        exact = simulated_cost_ns(anchor.path) * 1e-6
        result = still_worker.measure(artefacts, anchor=anchor, anchor_ms=exact, settings=QUICK)["m0"]
        assert isinstance(result, Statistic)
        assert result.drift == pytest.approx(1.0, rel=1e-3)


# ---------------------------------------------------------------- faults of single artefacts


@pytest.mark.parametrize(
    ("fault", "fault_at", "words"),
    [
        ("crash_on", "load", "SIGABRT"),
        ("crash_on", "timing", "SIGABRT"),
        ("fail_on", "run", "refuses m3"),
        ("fail_on", "timing", "refuses m3"),
    ],
)
def test_a_bad_artefact_is_found_and_the_others_are_measured(
    tmp_path: Path, fault: str, fault_at: str, words: str
) -> None:
    artefacts = models(tmp_path, 6)
    with Worker(device(**{fault: "m3", "fault_at": fault_at})) as worker:
        results = worker.measure(artefacts, settings=QUICK)
    bad = results.pop("m3")
    assert isinstance(bad, MeasurementFailure)
    assert words in bad.reason
    assert len(results) == 5
    for key, result in results.items():
        assert isinstance(result, Statistic), key
        assert result.median == pytest.approx(simulated_cost_ns(artefacts[key].path) * 1e-6, rel=1e-3)


def test_a_crash_shows_what_the_runtime_said_last(tmp_path: Path) -> None:
    with Worker(device(crash_on="m0")) as worker:
        result = worker.measure(models(tmp_path, 1), settings=QUICK)["m0"]
    assert isinstance(result, MeasurementFailure)
    assert "simulated crash on m0.onnx" in result.reason


@pytest.mark.parametrize("fault_at", ["load", "timing"])
def test_an_artefact_that_hangs_is_stopped_and_the_others_are_measured(tmp_path: Path, fault_at: str) -> None:
    settings = TimingSettings(rounds=3, min_rounds=3, timeout_s=2.0, candidate_limit_s=0.05)
    with Worker(device(hang_on="m1", fault_at=fault_at)) as worker:
        results = worker.measure(models(tmp_path, 3), settings=settings)
    bad = results.pop("m1")
    assert isinstance(bad, MeasurementFailure)
    assert "did not answer" in bad.reason
    assert all(isinstance(r, Statistic) for r in results.values())


def test_two_bad_artefacts_in_a_group_are_both_found(tmp_path: Path) -> None:
    artefacts = models(tmp_path, 4) | {f"bad{i}": write_model(tmp_path / f"bad{i}.onnx", size=2) for i in range(2)}
    with Worker(device(crash_on="bad", fault_at="timing")) as worker:
        results = worker.measure(artefacts, settings=QUICK)
    assert {k for k, r in results.items() if isinstance(r, MeasurementFailure)} == {"bad0", "bad1"}


def test_a_file_that_changed_is_a_failure_of_that_artefact(tmp_path: Path, still_worker: Worker) -> None:
    artefacts = models(tmp_path, 2)
    artefacts["m1"].path.write_bytes(b"something else")
    results = still_worker.measure(artefacts, settings=QUICK)
    assert isinstance(results["m0"], Statistic)
    assert isinstance(results["m1"], MeasurementFailure)
    assert "changed" in results["m1"].reason


# ---------------------------------------------------------------- faults of everything


def test_an_anchor_that_crashes_ends_the_measurement(tmp_path: Path) -> None:
    anchor = write_model(tmp_path / "reference.onnx")
    with Worker(device(crash_on="reference")) as worker, pytest.raises(WorkerCrashedError, match="SIGABRT"):
        worker.measure(models(tmp_path, 2), anchor=anchor, anchor_ms=1.0, settings=QUICK)


def test_a_runtime_that_dies_on_everything_ends_the_measurement(tmp_path: Path) -> None:
    with Worker(device(crash_on="m")) as worker, pytest.raises(MeasurementError, match="does not work here"):
        worker.measure(models(tmp_path, 12), settings=QUICK)


def test_a_worker_works_again_after_a_crash(tmp_path: Path) -> None:
    artefacts = models(tmp_path, 2)
    with Worker(device(crash_on="m1")) as worker:
        with pytest.raises(WorkerCrashedError):
            worker.run(artefacts["m1"], [np.zeros((1, 3, 8, 8), np.float32)])
        assert worker.run(artefacts["m0"], [np.zeros((1, 3, 8, 8), np.float32)])[0].shape == (1, 8, 8, 8)


def test_a_child_killed_from_outside_is_a_crash_that_names_the_signal(tmp_path: Path) -> None:
    with Worker(device(hang_on="m0")) as worker:
        worker.context()
        pid = worker.pid
        assert pid is not None
        killer = threading.Timer(0.5, os.kill, (pid, signal.SIGKILL))
        killer.start()
        with pytest.raises(WorkerCrashedError, match="SIGKILL"):
            worker.run(models(tmp_path, 1)["m0"], [], timeout_s=20)
        killer.join()


def test_an_unknown_runtime_and_an_unknown_option_are_told_before_anything_is_measured() -> None:
    with (
        Worker(Device(name="d", runtime="abacus")) as worker,
        pytest.raises((UnknownNameError, MeasurementError), match="abacus"),
    ):
        worker.context()
    with (
        Worker(Device(name="d", runtime="fake", options={"colour": 1})) as worker,
        pytest.raises(ConfigError, match="colour"),
    ):
        worker.context()


def test_a_command_that_does_not_exist_is_a_clear_error() -> None:
    with (
        Worker(device(), command=["/no/such/program"]) as worker,
        pytest.raises(WorkerCrashedError, match="/no/such/program"),
    ):
        worker.context()


def test_a_child_that_says_nothing_is_stopped() -> None:
    silent = [sys.executable, "-c", "import time; time.sleep(60)"]
    with (
        Worker(device(), command=silent, start_timeout_s=0.5) as worker,
        pytest.raises(MeasurementTimeoutError, match=r"0\.5 s"),
    ):
        worker.context()


def test_a_child_that_talks_nonsense_for_ever_is_stopped() -> None:
    babbling = [sys.executable, "-c", "while True: print('{\"id\": 99}\\nhello [')"]
    with Worker(device(), command=babbling, start_timeout_s=1.0) as worker, pytest.raises(MeasurementTimeoutError):
        worker.context()


def test_another_protocol_is_refused_with_both_numbers(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr("hwnas.measure._link.PROTOCOL", 999)
    with Worker(device()) as worker, pytest.raises(ConfigError, match=rf"999.*{PROTOCOL}"):
        worker.context()


# ---------------------------------------------------------------- running, and the process itself


def test_outputs_come_back_exactly(tmp_path: Path, still_worker: Worker) -> None:
    artefact = write_model(tmp_path / "m.onnx", batch="batch")
    x = np.random.default_rng(0).standard_normal((5, 3, 8, 8)).astype(np.float32)
    (y,) = still_worker.run(artefact, [x])
    assert y.shape == (5, 8, 8, 8)
    assert y.dtype == np.float32
    for i in range(5):
        np.testing.assert_allclose(still_worker.run(artefact, [x[i : i + 1]])[0][0], y[i], rtol=1e-5, atol=1e-6)


def test_an_artefact_error_in_the_child_is_one_in_the_parent(tmp_path: Path, still_worker: Worker) -> None:
    artefact = write_model(tmp_path / "m.onnx")
    artefact.path.unlink()
    with pytest.raises(ArtefactError, match=r"m\.onnx"):
        still_worker.run(artefact, [])


def test_a_runtime_that_prints_does_not_disturb_the_protocol(tmp_path: Path) -> None:
    with Worker(device(chatter=True)) as worker:
        assert isinstance(worker.measure(models(tmp_path, 2), settings=QUICK)["m1"], Statistic)


def test_info_comes_from_the_session(tmp_path: Path, still_worker: Worker) -> None:
    assert still_worker.info(write_model(tmp_path / "m.onnx"))["provider"] == "simulated"


def test_leaving_the_context_ends_the_process() -> None:
    with Worker(device()) as worker:
        worker.context()
        pid = worker.pid
    assert pid is not None
    assert is_gone(pid)
    assert worker.pid is None


_PARENT = """
import sys
from hwnas.measure.client import Worker
from hwnas.measure.artefacts import artefact_from_file
from hwnas.testing.fake import fake_device
from pathlib import Path
with Worker(fake_device(options={"hang_on": "m0"})) as worker:
    worker.context()
    print(worker.pid, flush=True)
    worker.run(artefact_from_file(Path(sys.argv[1]), format="onnx", precision="fp32"), [])
"""


@pytest.mark.parametrize("signal_number", [signal.SIGINT, signal.SIGTERM, signal.SIGKILL])
def test_the_child_dies_with_its_parent_even_when_it_hangs(tmp_path: Path, signal_number: int) -> None:
    artefact = write_model(tmp_path / "m0.onnx")
    with subprocess.Popen(
        [sys.executable, "-c", _PARENT, str(artefact.path)], stdout=subprocess.PIPE, stderr=subprocess.DEVNULL
    ) as parent:
        assert parent.stdout is not None
        child = int(parent.stdout.readline())
        time.sleep(0.3)  # let it hang
        parent.send_signal(signal_number)
        assert parent.wait(20) != 0
    assert is_gone(child)


def test_the_child_imports_neither_torch_nor_tables() -> None:
    code = (
        "import sys, hwnas.measure.worker; from hwnas import registry; registry.load('runtimes', 'onnxruntime')();"
        "heavy = {'torch', 'onnx', 'optuna', 'pydantic', 'scipy', 'sklearn'};"
        "print([m for m in sys.modules if m.split('.')[0] in heavy"
        " or m.startswith(('hwnas.cost', 'hwnas.supernet', 'hwnas.spaces', 'hwnas.search'))])"
    )
    done = subprocess.run([sys.executable, "-c", code], capture_output=True, text=True, check=True)
    assert done.stdout.strip() == "[]"


def test_a_description_of_an_absent_file_is_an_artefact_error(tmp_path: Path) -> None:
    with pytest.raises(ArtefactError, match="absent"):
        artefact_from_file(tmp_path / "absent.onnx", format="onnx", precision="fp32")


def test_an_adapter_may_need_longer_to_start_than_a_minute(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(FakeRuntime, "start_timeout_s", 0.05, raising=False)
    silent = (sys.executable, "-c", "import time; time.sleep(60)")
    with Worker(device(), command=silent) as worker, pytest.raises(MeasurementTimeoutError, match=r"within 0\.05 s"):
        worker.context()
