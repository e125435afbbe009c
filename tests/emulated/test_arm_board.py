"""An Arm board over SSH, on one that QEMU plays: agent, transport, runtime and kernels. No times.

Everything expensive is done once. Without QEMU or the board (`python -m tests.emulated.board` makes it) all skip.
"""

from __future__ import annotations

import os
import shutil
import signal
from collections.abc import Iterator, Mapping
from pathlib import Path

import numpy as np
import pytest

from hwnas.devices import load_device
from hwnas.exporters.litert import LiteRtExporter
from hwnas.exporters.onnx import OnnxExporter
from hwnas.measure import Worker
from hwnas.measure.timing import TimingSettings
from hwnas.packages import installed_version
from hwnas.supernet.quantization import quantize
from hwnas.supernet.untrained import untrained_block
from hwnas.testing.exporter_suite import sample_blocks, sample_images, sample_network
from hwnas.types import Device, Statistic
from tests.emulated.board import CannotEmulateError, cache_folder, describe, emulated_python
from tests.measure.ssh_server import SSHD, loopback_server

pytestmark = [pytest.mark.timeout(600)]
QUICK = TimingSettings(rounds=3, min_rounds=3, timeout_s=60.0, group_size=2)
EMULATED = "emulated: correctness only"


@pytest.fixture(scope="module")
def descriptions(tmp_path_factory: pytest.TempPathFactory) -> Iterator[Mapping[str, Path]]:
    """Runtime -> a described Raspberry Pi, behind an SSH server on this machine, whose python is emulated."""
    try:
        python = emulated_python(cache_folder())
    except CannotEmulateError as e:
        pytest.skip(f"no emulated Arm board: {e}")
    if SSHD is None or shutil.which("ssh") is None or os.geteuid() != 0:
        pytest.skip("an SSH server of one's own needs root, sshd and ssh")
    folder = tmp_path_factory.mktemp("board")
    with pytest.MonkeyPatch.context() as patch:
        patch.setenv("HOME", str(folder))  # where a configuration of ssh may be
        with loopback_server(folder):
            yield {name: describe(folder, python, runtime=name) for name in ("onnxruntime", "litert")}


def test_an_agent_that_is_killed_comes_back_and_bits_equal_those_of_x86(
    descriptions: Mapping[str, Path], tmp_path: Path
) -> None:
    """In one session, because every start of Python costs seconds there. Of 7 bits no x86 processor saturates."""
    device = load_device(descriptions["onnxruntime"])
    images = sample_images(8)
    exporter = OnnxExporter()
    network = quantize(sample_network(sample_blocks("iiii", se_channels=4, integers="int8-w7")), [images])
    artefact = exporter.export(network, images[:1], tmp_path / "m.onnx", precision="int8-w7")
    blocks = sample_blocks("iiii", integers="int8-w7")[1:4]
    artefacts = {b.key: untrained_block(b).write(exporter, tmp_path / f"{i}.onnx") for i, b in enumerate(blocks)}
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


def test_litert_computes_there_what_it_computes_on_x86(descriptions: Mapping[str, Path], tmp_path: Path) -> None:
    if installed_version("ai-edge-litert") is None:
        pytest.skip("LiteRT is not installed here, so not on the board")
    images = sample_images(8)
    network = quantize(sample_network(sample_blocks("iiii", se_channels=4)), [images])
    artefact = LiteRtExporter().export(network, images[:1], tmp_path / "m.tflite", precision="int8")
    with Worker(load_device(descriptions["litert"])) as worker:
        assert worker.context()["source"] == EMULATED
        found = worker.predict(artefact, images.numpy())
    with Worker(Device(name="here", runtime="litert")) as here:
        np.testing.assert_array_equal(found, here.predict(artefact, images.numpy()))


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
