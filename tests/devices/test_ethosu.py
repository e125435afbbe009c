"""Ethos-U: what Vela estimates is told as it is, and what goes wrong in its process is told in its words."""

from __future__ import annotations

import csv
import json
import os
import signal
import subprocess
import sys
import time
from collections.abc import Iterator
from dataclasses import replace
from pathlib import Path
from typing import Any

import numpy as np
import pytest

from hwnas.cost import NetworkSample, fit_correction
from hwnas.devices import _vela_server, load_device
from hwnas.devices._environments import ToolEnvironmentError
from hwnas.devices._vela import ENVIRONMENT, VelaTools
from hwnas.devices.ethosu import EthosURuntime
from hwnas.errors import ArtefactError, ConfigError, MeasurementError, MeasurementTimeoutError, WorkerCrashedError
from hwnas.measure.artefacts import artefact_from_file
from hwnas.supernet.untrained import untrained_block, untrained_network
from hwnas.types import Artefact, Device
from tests.devices import tflite_models
from tests.devices.ethosu_tools import require_tools, stub_tools

DEVICES = ("ethos-u55-128", "ethos-u65-256", "ethos-u85-256")
ESTIMATE: dict[str, Any] = {
    "inference_ns": 1500.5,
    "cycles": 750,
    "npu_cycles": 700,
    "access_cycles": {"Sram": 300},
    "peak_bytes": {"Sram": 2048, "OffChipFlash": 512},
    "macs": 48_000,
    "macs_per_cycle": 128,
    "npu_operators": 3,
    "cascaded_operators": 0,
    "cpu_operators": {},
    "compiled_bytes": 4096,
    "words": "",
}


@pytest.fixture(scope="module")
def tools() -> VelaTools:
    return require_tools()


@pytest.fixture
def device() -> Device:
    return load_device("ethos-u55-128")


@pytest.fixture
def model(tmp_path: Path) -> Artefact:
    """A file that passes for TFLite: no stub reads it."""
    path = tmp_path / "model.tflite"
    path.write_bytes(b"\x00\x00\x00\x00TFL3 and more")
    return artefact_from_file(path, format="tflite", precision="int8")


class Stubs:
    """Makes runtimes whose tools are a stub, and ends their processes."""

    def __init__(self, folder: Path) -> None:
        self._folder = folder
        self.made: list[VelaTools] = []

    def __call__(self, behaviour: str, *, limit_s: float = 20.0) -> EthosURuntime:
        self.made.append(stub_tools(self._folder, behaviour, limit_s=limit_s))
        return EthosURuntime(self.made[-1])

    def estimating(self, **changes: Any) -> EthosURuntime:
        return self(f"return json.loads({json.dumps({**ESTIMATE, **changes})!r})")


@pytest.fixture
def stubs(tmp_path: Path) -> Iterator[Stubs]:
    found = Stubs(tmp_path)
    yield found
    for tools in found.made:
        tools.close()


# ---------------------------------------------------------------- what is told


def test_time_is_the_estimate_times_the_iterations(stubs: Stubs, model: Artefact, device: Device) -> None:
    with stubs.estimating().load(model, device) as session:
        assert session.time_ns(iterations=1000) == 1_500_500
        assert session.time_ns(iterations=2) == session.time_ns(iterations=2) == 3001


def test_a_file_of_which_nothing_runs_on_the_npu_takes_a_nanosecond(
    stubs: Stubs, model: Artefact, device: Device
) -> None:
    runtime = stubs.estimating(inference_ns=0.0, cycles=0, cpu_operators={"Quantize": 1}, peak_bytes={})
    with runtime.load(model, device) as session:
        assert session.time_ns(iterations=7) == 7
        assert session.info()["macs_utilisation"].startswith("0.0 %")


def test_info_says_that_it_is_an_estimate_and_what_stays_on_the_cpu(
    stubs: Stubs, model: Artefact, device: Device
) -> None:
    with stubs.estimating(cpu_operators={"Quantize": 1}).load(model, device) as session:
        info = session.info()
    assert info["provider"] == "Arm Ethos-U55-128 (estimated by Vela 0)"
    assert info["cpu_operators"] == "Quantize 1"
    assert info["macs_utilisation"] == "50.0 % of 128 MACs a cycle"
    assert "tflite-micro" in info["outputs_by"]


def test_operators_left_to_the_cpu_are_refused_with_velas_reasons(
    stubs: Stubs, model: Artefact, device: Device
) -> None:
    runtime = stubs.estimating(cpu_operators={"Sin": 2, "Quantize": 1}, words="SIN: Unsupported opType.")
    with pytest.raises(MeasurementError, match=r"leaves Sin 2 to the CPU.*SIN: Unsupported opType.*cpu_operators"):
        runtime.load(model, device)


def test_operators_left_to_the_cpu_can_be_accepted(stubs: Stubs, model: Artefact, device: Device) -> None:
    accepting = replace(device, options={**device.options, "cpu_operators": True})
    with stubs.estimating(cpu_operators={"Sin": 2}).load(model, accepting) as session:
        assert session.info()["cpu_operators"] == "Sin 2"


def test_costs_are_the_npus_sram_the_compiled_file_and_the_arena(stubs: Stubs, model: Artefact, device: Device) -> None:
    runtime = stubs(f"return 9000 if request['op'] == 'arena' else json.loads({json.dumps(ESTIMATE)!r})")
    with runtime.load(model, device) as session:
        assert session.costs() == {"memory_bytes": 2048.0, "flash_bytes": 4096.0, "arena_bytes": 9000.0}


def test_the_arena_is_left_out_where_tflite_micro_has_not_the_operators(
    stubs: Stubs, model: Artefact, device: Device
) -> None:
    runtime = stubs(
        "if request['op'] == 'arena': raise ValueError('no such operator')\n"
        f"return json.loads({json.dumps(ESTIMATE)!r})"
    )
    with runtime.load(model, device) as session:
        assert session.costs() == {"memory_bytes": 2048.0, "flash_bytes": 4096.0}


# ---------------------------------------------------------------- what goes wrong


def test_a_crash_is_a_measurement_error_with_the_tools_last_words(
    stubs: Stubs, model: Artefact, device: Device
) -> None:
    runtime = stubs("say('Buffer contents inconsistent'); os.kill(os.getpid(), signal.SIGSEGV)")
    with pytest.raises(MeasurementError, match=r"model\.tflite.*SIGSEGV.*Buffer contents inconsistent") as caught:
        runtime.load(model, device)
    assert not isinstance(caught.value, WorkerCrashedError)  # that would be the measuring process, which lives


def test_a_tool_that_hangs_is_stopped_and_named(stubs: Stubs, model: Artefact, device: Device) -> None:
    with pytest.raises(MeasurementError, match=r"model\.tflite.*within 0\.5 s") as caught:
        stubs("time.sleep(60)", limit_s=0.5).load(model, device)
    assert not isinstance(caught.value, MeasurementTimeoutError)


def test_after_a_crash_the_next_file_is_answered(stubs: Stubs, model: Artefact, device: Device, tmp_path: Path) -> None:
    other = tmp_path / "other.tflite"
    other.write_bytes(model.path.read_bytes())
    runtime = stubs(
        "if 'other' in request['path']: os.kill(os.getpid(), signal.SIGKILL)\n"
        f"return json.loads({json.dumps(ESTIMATE)!r})"
    )
    with pytest.raises(MeasurementError):
        runtime.load(artefact_from_file(other, format="tflite", precision="int8"), device)
    with runtime.load(model, device) as session:
        assert session.time_ns(iterations=1) > 0


def test_what_a_tool_refuses_names_the_file(stubs: Stubs, model: Artefact, device: Device) -> None:
    with pytest.raises(MeasurementError, match=r"model\.tflite: too large"):
        stubs("raise ValueError('too large')").load(model, device)


def test_words_of_earlier_files_are_not_taken_for_those_of_a_crash(
    stubs: Stubs, model: Artefact, device: Device
) -> None:
    runtime = stubs(
        "if request['op'] == 'arena': os.kill(os.getpid(), signal.SIGKILL)\n"
        f"say('earlier'); return json.loads({json.dumps(ESTIMATE)!r})"
    )
    session = runtime.load(model, device)
    with pytest.raises(MeasurementError) as caught:
        stubs.made[-1].ask("arena", {"path": ""}, about="it")
    assert "earlier" not in str(caught.value)
    session.__exit__(None, None, None)


def test_a_python_without_the_tools_says_what_it_lacks_and_what_to_do(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setenv(ENVIRONMENT.variable, sys.executable)
    with pytest.raises(ToolEnvironmentError, match=r"ethosu.*ethos-u-vela==.*Unset HWNAS_PYTHON_ETHOS_U"):
        VelaTools().versions()


def test_nothing_stays_on_disk(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    (tmp_path / "temporary").mkdir()
    monkeypatch.setattr("tempfile.tempdir", str(tmp_path / "temporary"))
    tools = stub_tools(tmp_path, "return 1")
    assert tools.ask("arena", {}, about="it") == 1
    assert not list((tmp_path / "temporary").iterdir())
    tools.close()


def test_a_file_without_the_formats_mark_is_refused_unread(stubs: Stubs, device: Device, tmp_path: Path) -> None:
    path = tmp_path / "model.tflite"
    path.write_bytes(b"PK\x03\x04 a zip")
    artefact = artefact_from_file(path, format="tflite", precision="int8")
    with pytest.raises(ArtefactError, match="not a TFLite model"):
        stubs("os.kill(os.getpid(), signal.SIGKILL)").load(artefact, device)


@pytest.mark.parametrize("option", ["accelerator", "system_config", "memory_mode"])
def test_a_device_must_say_what_it_is(stubs: Stubs, device: Device, option: str) -> None:
    options = {name: value for name, value in device.options.items() if name != option}
    with pytest.raises(ConfigError, match=f"no option '{option}'.*ethos-u55-128"):
        stubs.estimating().context(replace(device, options=options))


# ---------------------------------------------------------------- the server, without its tools


def test_the_server_ends_when_its_parent_is_gone(tmp_path: Path) -> None:
    (tmp_path / "words").touch()
    command = [sys.executable, "-I", _vela_server.__file__, str(tmp_path / "words")]
    with subprocess.Popen(command, stdin=subprocess.PIPE, stdout=subprocess.DEVNULL) as process:
        assert process.stdin is not None
        process.stdin.close()
        assert process.wait(30) == 0


def test_a_tool_that_holds_the_interpreter_for_ever_is_ended_by_an_alarm() -> None:
    script = (
        "import time; from hwnas.devices import _vela_server as s; server = s.ToolServer(2); "
        "server.operations['hang'] = lambda request: time.sleep(60); "
        "server.answer({'id': 1, 'op': 'hang', 'limit_s': 1})"
    )
    done = subprocess.run([sys.executable, "-c", script], check=False, timeout=30)
    assert done.returncode == -signal.SIGALRM


def test_the_server_survives_what_an_operation_raises() -> None:
    server = _vela_server.ToolServer(2)
    assert server.answer({"id": 3, "op": "dance"}) == {
        "id": 3,
        "ok": False,
        "error": {"type": "MeasurementError", "message": "KeyError: 'dance'"},
    }


# ---------------------------------------------------------------- the real tools


@pytest.mark.parametrize("name", DEVICES)
def test_the_context_says_that_times_are_estimated_and_for_what(tools: VelaTools, name: str) -> None:
    context = EthosURuntime().context(load_device(name))
    assert context["source"] == "estimated by Vela 5.2.0"
    assert context["hardware"] == f"Arm {name.title()} (estimated by Vela 5.2.0)"
    assert context["clock_mhz"] == "500"


def test_a_system_of_ones_own_is_told_apart_by_what_is_in_its_file(
    tools: VelaTools, device: Device, tmp_path: Path
) -> None:
    own = tmp_path / "board.ini"
    shipped = next(ENVIRONMENT.python().parents[1].glob("lib/*/site-packages/ethosu/config_files/Arm/vela.ini"))
    seen = set()
    for clock in ("500e6", "250e6"):
        own.write_text(shipped.read_text().replace("core_clock=500e6", f"core_clock={clock}"))
        context = EthosURuntime().context(replace(device, options={**device.options, "config": str(own)}))
        assert context["clock_mhz"] == f"{float(clock) / 1e6:g}"
        seen.add(context["hardware"])
    assert len(seen) == 2
    assert all("board.ini" in hardware for hardware in seen)


@pytest.mark.parametrize("option", ["accelerator", "system_config", "memory_mode", "config"])
def test_an_unknown_system_is_refused_and_the_known_ones_named(tools: VelaTools, device: Device, option: str) -> None:
    wrong = replace(device, options={**device.options, option: "nonsense.ini" if option == "config" else "nonsense"})
    with pytest.raises(ConfigError, match=r"nonsense.*(known: (ethos-u55-32|Ethos_U55|Sram_Only)|No such file)"):
        EthosURuntime().context(wrong)


@pytest.mark.parametrize("name", DEVICES)
def test_the_estimate_is_that_of_velas_command_line(tools: VelaTools, name: str, tmp_path: Path) -> None:
    device, artefact = load_device(name), tflite_models.write_tflite(tmp_path / "m.tflite", precision="int8", size=3)
    o = device.options
    options = {
        "--accelerator-config": o["accelerator"],
        "--config": "Arm/vela.ini",
        "--system-config": o["system_config"],
        "--memory-mode": o["memory_mode"],
        "--output-dir": tmp_path / "out",
    }
    settings = [str(part) for option in options.items() for part in option]
    command = [ENVIRONMENT.python(), "-I", "-m", "ethosu.vela", artefact.path, *settings]
    subprocess.run(command, check=True, capture_output=True)
    with open(tmp_path / "out" / f"m_summary_{o['system_config']}.csv", newline="") as file:
        (row,) = csv.DictReader(file)
    with EthosURuntime().load(artefact, device) as session:
        assert session.time_ns(iterations=1000) * 1e-12 == pytest.approx(float(row["inference_time"]), rel=1e-6)
        costs = session.costs()
    (compiled,) = EthosURuntime().compile_for_board(artefact, device, tmp_path)
    assert compiled.read_bytes() == (tmp_path / "out" / "m_vela.tflite").read_bytes()
    assert costs["memory_bytes"] / 1024 == float(row["sram_memory_used"])
    assert costs["flash_bytes"] == (tmp_path / "out" / "m_vela.tflite").stat().st_size


def test_outputs_are_those_of_litert_reference_kernels_bit_for_bit(
    tools: VelaTools, device: Device, tmp_path: Path
) -> None:
    interpreter = pytest.importorskip("ai_edge_litert.interpreter", reason="the extra 'litert' is not installed")
    artefact = tflite_models.write_tflite(tmp_path / "m.tflite", precision="int8", size=3, layout="NHWC")
    images = np.random.default_rng(1).integers(-128, 128, (5, 8, 8, 3), dtype=np.int8)
    reference = interpreter.Interpreter(
        str(artefact.path), experimental_op_resolver_type=interpreter.OpResolverType.BUILTIN_REF
    )
    reference.allocate_tensors()
    expected = []
    for image in images:
        reference.set_tensor(reference.get_input_details()[0]["index"], image[None])
        reference.invoke()
        expected.append(reference.get_tensor(reference.get_output_details()[0]["index"]))
    with EthosURuntime().load(artefact, device) as session:
        (found,) = session.run([images])
    np.testing.assert_array_equal(found, np.concatenate(expected))


def test_each_sample_of_a_batch_has_the_time_of_one_answer(tmp_path: Path, device: Device, model: Artefact) -> None:
    estimate = json.dumps(ESTIMATE)
    tools = stub_tools(
        tmp_path, f"if request['op'] == 'run': time.sleep(1.0); return 0\nreturn json.loads({estimate!r})", limit_s=0.6
    )
    with EthosURuntime(tools).load(model, device) as session, pytest.raises(MeasurementError, match=r"within 0\.6 s"):
        session.run([np.zeros((1, 2), np.int8)])
    with EthosURuntime(tools).load(model, device) as session, pytest.raises(FileNotFoundError):
        session.run([np.zeros((4, 2), np.int8)])  # (the stub writes no outputs: it was waited for)
    tools.close()


def test_a_damaged_file_is_refused_in_velas_words_and_the_next_is_compiled(
    tools: VelaTools, device: Device, tmp_path: Path
) -> None:
    good = tflite_models.write_tflite(tmp_path / "good.tflite", precision="int8", layout="NHWC")
    bad = tmp_path / "bad.tflite"
    bad.write_bytes(good.path.read_bytes()[:-200])
    with pytest.raises(MeasurementError, match=r"bad\.tflite.*Failed to load TfLite model"):
        EthosURuntime().load(artefact_from_file(bad, format="tflite", precision="int8"), device)
    with EthosURuntime().load(good, device) as session:
        assert session.time_ns(iterations=1) > 0


def test_a_file_that_changed_after_it_was_loaded_is_not_run(tools: VelaTools, device: Device, tmp_path: Path) -> None:
    artefact = tflite_models.write_tflite(tmp_path / "m.tflite", precision="int8", layout="NHWC")
    with EthosURuntime().load(artefact, device) as session:
        tflite_models.write_tflite(artefact.path, precision="int8", size=2, layout="NHWC")
        with pytest.raises(ArtefactError, match=r"m\.tflite has changed"):
            session.run([np.zeros((1, 8, 8, 3), np.int8)])
        artefact.path.unlink()
        with pytest.raises(ArtefactError, match=r"cannot read .*m\.tflite"):
            session.costs()


@pytest.mark.parametrize("name", DEVICES)
def test_sums_of_blocks_predict_whole_networks_within_five_percent(tools: VelaTools, name: str, tmp_path: Path) -> None:
    from hwnas.exporters.litert import LiteRtExporter
    from hwnas.testing.spaces import tiny_space

    space, exporter, device = tiny_space(3).restrict(precisions=("int8",)), LiteRtExporter(), load_device(name)

    def estimate(artefact: Artefact) -> float:
        with EthosURuntime().load(artefact, device) as session:
            return session.time_ns(iterations=1000) * 1e-9

    file = tmp_path / "m.tflite"
    entries = {block.key: estimate(untrained_block(block).write(exporter, file)) for block in space.distinct_blocks()}
    samples = []
    for encoding in space.sample(30, np.random.default_rng(0), over="encodings"):
        blocks = [block for _, block in space.named_blocks(encoding)]
        measured = estimate(untrained_network(blocks, precision="int8").write(exporter, file))
        samples.append(NetworkSample(blocks=tuple(block.key for block in blocks), measured=measured))
    assert fit_correction(samples, entries, seed=0).quality.within_5 >= 0.95


def test_the_tools_end_with_the_process_that_asked_them(tools: VelaTools) -> None:
    script = (
        "from hwnas.devices._vela import shared_tools; import os, signal; tools = shared_tools(); tools.versions(); "
        "print(tools._child.pid, flush=True); os.kill(os.getpid(), signal.SIGKILL)"
    )
    done = subprocess.run([sys.executable, "-c", script], capture_output=True, text=True, check=False)
    pid, deadline = int(done.stdout), time.monotonic() + 10
    while Path(f"/proc/{pid}").exists() and time.monotonic() < deadline:
        time.sleep(0.05)
    with pytest.raises(ProcessLookupError):
        os.kill(pid, 0)
