"""An Arm board over SSH, on one that QEMU plays: agent, transport, runtime and kernels. No times.

Everything expensive is done once. Without QEMU or the board (`python -m tests.emulated.board` makes it) all skip.
"""

from __future__ import annotations

import os
import shutil
import signal
import socket
import subprocess
from collections.abc import Iterator
from pathlib import Path

import numpy as np
import pytest

from hwnas.devices import load_device
from hwnas.exporters.onnx import OnnxExporter
from hwnas.measure import Worker
from hwnas.measure.timing import TimingSettings
from hwnas.supernet.quantization import quantize
from hwnas.testing.exporter_suite import sample_blocks, sample_images, sample_network
from hwnas.types import Device, Statistic
from tests.emulated.board import CannotEmulateError, cache_folder, emulated_python
from tests.measure import test_remote_ssh as ssh

pytestmark = [pytest.mark.timeout(600)]
QUICK = TimingSettings(rounds=3, min_rounds=3, timeout_s=60.0, group_size=2)
EMULATED = "emulated: correctness only"


@pytest.fixture(scope="module")
def description(tmp_path_factory: pytest.TempPathFactory) -> Iterator[Path]:
    """A described Raspberry Pi, behind an SSH server on this machine, whose python is emulated."""
    try:
        python = emulated_python(cache_folder())
    except CannotEmulateError as e:
        pytest.skip(f"no emulated Arm board: {e}")
    if ssh._SSHD is None or shutil.which("ssh") is None or os.geteuid() != 0:
        pytest.skip("an SSH server of one's own needs root, sshd and ssh")
    folder = tmp_path_factory.mktemp("board")
    ssh.write_configuration(folder, "127.0.0.1")
    with socket.socket() as free:
        free.bind(("127.0.0.1", 0))
        port = free.getsockname()[1]
    for name in ("known_hosts", ".ssh/config", "sshd_config"):
        path = folder / name
        path.write_text(path.read_text().replace("2222", str(port)))
    Path("/run/sshd").mkdir(exist_ok=True)
    with (folder / "sshd.log").open("wb") as log, pytest.MonkeyPatch.context() as patch:
        patch.setenv("HOME", str(folder))  # where a configuration of ssh may be
        server = subprocess.Popen([ssh._SSHD, "-D", "-e", "-f", str(folder / "sshd_config")], stderr=log)
        try:
            ssh.wait_for_server(folder)
            described = folder / "emulated-pi.toml"
            described.write_text(
                'schema = 1\ndescription = "Raspberry Pi 4, emulated"\nruntime = "onnxruntime"\n'
                'precisions = ["int8"]\n'
                f'[connection]\ntransport = "ssh"\nhost = "board"\nconfig_file = "{folder / ".ssh/config"}"\n'
                f'python = "{python}"\nfolder = "{folder / "agent"}"\nconnect_timeout_s = 60\n'
            )
            yield described
        finally:
            server.terminate()
            server.wait(10)


def test_an_agent_that_is_killed_comes_back_and_bits_equal_those_of_x86(description: Path, tmp_path: Path) -> None:
    """In one session, because every start of Python costs seconds there. Of 7 bits no x86 processor saturates."""
    device = load_device(description)
    images = sample_images(8)
    exporter = OnnxExporter()
    network = quantize(sample_network(sample_blocks("iiii", se_channels=4, integers="int8-w7")), [images])
    artefact = exporter.export(network, images[:1], tmp_path / "m.onnx", precision="int8-w7")
    blocks = sample_blocks("iiii", integers="int8-w7")[1:4]
    artefacts = {b.key: exporter.export_block(b, tmp_path / f"{i}.onnx") for i, b in enumerate(blocks)}
    killed: list[int] = []

    def kill(key: str, result: object) -> None:
        if not killed:
            killed.extend(agents(device))
            for pid in killed:
                os.kill(pid, signal.SIGKILL)

    with Worker(device) as worker:
        assert worker.context()["machine"] == "aarch64"
        assert worker.context()["source"] == EMULATED
        found = worker.run(artefact, [images.numpy()])[0]
        results = worker.measure(artefacts, settings=QUICK, on_result=kill)
    assert killed
    assert list(results) == list(artefacts)
    assert all(isinstance(r, Statistic) for r in results.values())
    with Worker(Device(name="here", runtime="onnxruntime")) as here:
        np.testing.assert_array_equal(found, here.run(artefact, [images.numpy()])[0])


def agents(device: Device) -> list[int]:
    """Processes of this test's agent and its measuring process."""
    folder = str(device.connection["folder"]).encode()
    found = []
    for path in Path("/proc").glob("[0-9]*/cmdline"):
        try:
            words = path.read_bytes().split(b"\0")
        except OSError:
            continue
        if words[0].endswith(b"qemu-aarch64-static") and any(
            w.startswith(folder) and w.endswith(b".pyz") for w in words
        ):
            found.append(int(path.parent.name))
    return found
