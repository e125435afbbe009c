"""A board over OpenSSH for real: a server in a network namespace of its own, whose link is cut and brought back.

The namespace, the keys, the known hosts and both configurations are made for these tests; the user's are not read.
"""

import os
import shutil
import signal
import subprocess
import sys
import threading
from collections.abc import Iterator, Mapping
from dataclasses import dataclass, replace
from pathlib import Path

import numpy as np
import pytest

from hwnas.errors import MeasurementError
from hwnas.measure import Worker
from hwnas.measure._wire import BoardSetupError
from hwnas.measure.timing import TimingSettings
from hwnas.testing.fake import fake_device
from hwnas.types import Artefact, Device, Option, Statistic
from tests.measure.onnx_models import write_model
from tests.measure.ssh_server import SSHD, wait_for_server, write_configuration
from tests.measure.test_client import is_gone, models

_MISSING = [
    what
    for what, there in (
        ("root", os.geteuid() == 0),
        ("sshd", SSHD is not None),
        ("ssh", shutil.which("ssh") is not None),
        ("ssh-keygen", shutil.which("ssh-keygen") is not None),
        ("ip", shutil.which("ip") is not None),
        ("mount", shutil.which("mount") is not None),
    )
    if not there
]
pytestmark = [
    pytest.mark.skipif(bool(_MISSING), reason=f"a network namespace with an SSH server needs {', '.join(_MISSING)}"),
    pytest.mark.timeout(120),
]
QUICK = TimingSettings(rounds=3, min_rounds=3, timeout_s=20.0, group_size=2)


@dataclass(frozen=True)
class Net:
    """A board behind a virtual cable."""

    folder: Path
    namespace: str
    cable: str  # our end
    address: str

    def device(self, device: Device | None = None, **connection: Option) -> Device:
        settings: dict[str, Option] = {
            "transport": "ssh",
            "host": "board",
            "config_file": str(self.folder / ".ssh" / "config"),
            "python": sys.executable,
            "folder": str(self.folder / "agent"),
            "alive_s": 1,
            "connect_timeout_s": 2,
            **connection,
        }
        return replace(device or fake_device(), connection=settings)

    def plug(self, state: str) -> None:
        run("ip", "link", "set", self.cable, state)


def run(*command: str) -> str:
    done = subprocess.run(command, capture_output=True, text=True, check=False)
    assert done.returncode == 0, f"{' '.join(command)}: {done.stderr}"
    return done.stdout


@pytest.fixture(scope="module")
def net(tmp_path_factory: pytest.TempPathFactory) -> Iterator[Net]:
    folder = tmp_path_factory.mktemp("ssh")
    with pytest.MonkeyPatch.context() as patch:
        patch.setenv("HOME", str(folder))  # where a configuration of ssh may be
        yield from make_net(folder)


def make_net(folder: Path) -> Iterator[Net]:
    tag = f"hw{os.getpid() % 100000:05}"  # interfaces have names of at most 15 characters
    octet = os.getpid() % 250 + 1
    here, there = f"10.231.{octet}.1", f"10.231.{octet}.2"
    try:
        run("ip", "netns", "add", tag)
        run("ip", "link", "add", f"{tag}a", "type", "veth", "peer", "name", f"{tag}b")
        run("ip", "link", "set", f"{tag}b", "netns", tag)
    except AssertionError as e:
        subprocess.run(["ip", "netns", "del", tag], capture_output=True, check=False)
        pytest.skip(f"no network namespace can be made here: {e}")
    try:
        run("ip", "addr", "add", f"{here}/30", "dev", f"{tag}a")
        run("ip", "link", "set", f"{tag}a", "up")
        for command in (f"addr add {there}/30 dev {tag}b", f"link set {tag}b up", "link set lo up"):
            run("ip", "-n", tag, *command.split())
        write_configuration(folder, there)
        (folder / "disk").mkdir()  # mounted before the server starts: it has a view of its own on mounts
        run("mount", "-t", "tmpfs", "-o", "size=3m", "tmpfs", str(folder / "disk"))
        assert SSHD is not None
        Path("/run/sshd").mkdir(exist_ok=True)  # where sshd drops its privileges
        with (folder / "sshd.log").open("wb") as log:
            server = subprocess.Popen(
                ["ip", "netns", "exec", tag, SSHD, "-D", "-e", "-f", str(folder / "sshd_config")], stderr=log
            )
        try:
            wait_for_server(folder)
            yield Net(folder=folder, namespace=tag, cable=f"{tag}a", address=there)
        finally:
            server.terminate()
            server.wait(10)
            run("umount", str(folder / "disk"))
    finally:
        run("ip", "link", "del", f"{tag}a")
        run("ip", "netns", "del", tag)


def agents(net: Net) -> list[int]:
    """Processes in the board's namespace that run the agent or its measuring process."""
    pids = [int(n) for n in run("ip", "netns", "pids", net.namespace).split()]
    found = []
    for pid in pids:
        try:
            command = Path(f"/proc/{pid}/cmdline").read_bytes()
        except OSError:
            continue
        if b".pyz" in command:
            found.append(pid)
    return found


def all_measured(results: Mapping[str, object], artefacts: Mapping[str, Artefact]) -> bool:
    return list(results) == list(artefacts) and all(isinstance(r, Statistic) for r in results.values())


def test_onnx_runtime_is_measured_on_the_board(net: Net, tmp_path: Path) -> None:
    artefacts, anchor = models(tmp_path, 3), write_model(tmp_path / "reference.onnx", size=6)
    real = Device(name="b", runtime="onnxruntime")
    with Worker(net.device(real)) as there, Worker(real) as here:
        for field in ("runtime_version", "hardware", "os", "cores"):
            assert there.context()[field] == here.context()[field]
        assert there.info(anchor) == here.info(anchor)
        assert all_measured(there.measure(artefacts, anchor=anchor, settings=QUICK), artefacts)
        x = np.random.default_rng(0).standard_normal((1, 3, 8, 8)).astype(np.float32)
        np.testing.assert_array_equal(there.run(anchor, [x])[0], here.run(anchor, [x])[0])
        (agent, worker) = agents(net)
    assert is_gone(agent)
    assert is_gone(worker)


def test_the_fake_device_gives_the_same_numbers_there(net: Net, tmp_path: Path) -> None:
    artefacts, anchor = models(tmp_path, 4), write_model(tmp_path / "reference.onnx", size=6)
    with Worker(net.device()) as there, Worker(fake_device()) as here:
        expected = here.measure(artefacts, anchor=anchor, settings=QUICK)
        assert there.measure(artefacts, anchor=anchor, settings=QUICK) == expected


@pytest.mark.parametrize("how", ["cable", "client"])
def test_a_link_cut_half_way_resumes_and_every_entry_is_there(net: Net, tmp_path: Path, how: str) -> None:
    """The cable: packets vanish and no end is told, so the agent there lives on until its successor ends it."""
    artefacts, anchor = models(tmp_path, 8), write_model(tmp_path / "reference.onnx", size=6)
    told: list[str] = []
    orphans: list[int] = []
    back = threading.Timer(5.0, net.plug, ("up",))

    def cut(key: str, _: object) -> None:
        told.append(key)
        if len(told) == 4 and how == "cable":
            orphans.extend(agents(net))
            net.plug("down")
            back.start()
        elif len(told) == 4:
            assert worker.pid
            os.kill(worker.pid, signal.SIGKILL)

    with Worker(net.device(reconnect_s=40)) as worker:
        results = worker.measure(artefacts, anchor=anchor, settings=QUICK, on_result=cut)
    if how == "cable":
        back.join()
        assert len(orphans) == 2
        assert all(is_gone(pid) for pid in orphans)
    assert all_measured(results, artefacts)
    assert told == list(artefacts)


def test_a_link_cut_while_a_group_is_timed_resumes(net: Net, tmp_path: Path) -> None:
    artefacts = models(tmp_path, 4)
    long = TimingSettings(rounds=500, min_rounds=500, candidate_limit_s=30.0, timeout_s=30.0)  # 4 s at least
    with Worker(net.device(Device(name="b", runtime="onnxruntime"), reconnect_s=40)) as worker:
        worker.context()
        first = worker.pid
        assert first
        cut = threading.Timer(1.5, os.kill, (first, signal.SIGKILL))
        cut.start()
        results = worker.measure(artefacts, settings=long)
        cut.join()
        assert worker.pid != first
    assert all_measured(results, artefacts)


def test_a_full_disk_on_the_board_is_told_with_the_space_needed_and_then_the_run_goes_on(
    net: Net, tmp_path: Path
) -> None:
    filling = net.folder / "disk" / "filling"
    artefacts = models(tmp_path, 4)
    told: dict[str, object] = {}

    def fill(key: str, result: object) -> None:
        told[key] = result
        if not filling.exists():
            filling.write_bytes(bytes(shutil.disk_usage(filling.parent).free - 4096))

    device = net.device(folder=str(net.folder / "disk" / "agent"))
    with (
        Worker(device) as worker,
        pytest.raises(BoardSetupError, match=r"board is full: \S+ needs \d+ bytes.*kept"),
    ):
        worker.measure(artefacts, settings=QUICK, on_result=fill)
    assert set(told) == {"m0", "m1"}
    filling.unlink()
    rest = {key: artefact for key, artefact in artefacts.items() if key not in told}
    with Worker(device) as worker:
        assert all_measured(worker.measure(rest, settings=QUICK), rest)


def test_the_least_recently_used_make_room_on_the_board(net: Net, tmp_path: Path) -> None:
    artefacts = {f"m{i}": write_model(tmp_path / f"m{i}.onnx", size=40 + i) for i in range(6)}  # about 100 kB each
    device = net.device(folder=str(net.folder / "small"), cache_mb=0.35)
    with Worker(device) as worker:
        assert all_measured(worker.measure(artefacts, settings=QUICK), artefacts)
    kept = {p.stem for p in (net.folder / "small" / "store").glob("*.onnx")}
    assert artefacts["m5"].sha256 in kept
    assert artefacts["m0"].sha256 not in kept


def test_a_host_whose_key_is_not_known_is_refused(net: Net, tmp_path: Path) -> None:
    config = net.folder / ".ssh" / "unknown_host"
    text = (net.folder / ".ssh" / "config").read_text()
    config.write_text(text.replace(f"{net.folder}/known_hosts", f"{tmp_path}/none"))
    with Worker(net.device(config_file=str(config))) as worker, pytest.raises(BoardSetupError, match="fingerprint"):
        worker.context()
    assert not (tmp_path / "none").exists()


def test_a_key_that_the_board_does_not_know_is_told_without_a_prompt(net: Net) -> None:
    config = net.folder / ".ssh" / "stranger"
    config.write_text((net.folder / ".ssh" / "config").read_text().replace("user_key", "stranger_key"))
    with Worker(net.device(config_file=str(config))) as worker, pytest.raises(MeasurementError, match="ssh-copy-id"):
        worker.context()
