"""An OpenSSH server of one's own, with keys, known hosts and both configurations: the user's are not read."""

from __future__ import annotations

import contextlib
import os
import shutil
import socket
import subprocess
import time
from collections.abc import Iterator
from pathlib import Path

SSHD = shutil.which("sshd", path=f"{os.environ.get('PATH', '')}:/usr/sbin:/usr/local/sbin")


def write_configuration(folder: Path, address: str, *, port: int = 2222) -> None:
    """Keys, and what server and client (`.ssh/config`, host `board`) read.

    Args:
        folder: for all of it; empty.
        address: the server listens on.
        port: likewise.
    """
    for key in ("host_key", "user_key", "stranger_key"):
        path = str(folder / key)
        subprocess.run(["ssh-keygen", "-q", "-t", "ed25519", "-N", "", "-f", path], check=True, capture_output=True)
    public = " ".join((folder / "host_key.pub").read_text().split()[:2])
    (folder / "known_hosts").write_text(f"[{address}]:{port} {public}\n")
    (folder / ".ssh").mkdir()
    (folder / ".ssh" / "config").write_text(
        f"Host board\n HostName {address}\n Port {port}\n User root\n IdentityFile {folder}/user_key\n"
        f" IdentitiesOnly yes\n UserKnownHostsFile {folder}/known_hosts\n GlobalKnownHostsFile none\n"
    )
    (folder / "sshd_config").write_text(
        f"Port {port}\nListenAddress {address}\nHostKey {folder}/host_key\nAuthorizedKeysFile {folder}/user_key.pub\n"
        "PidFile none\nUsePAM no\nStrictModes no\nPasswordAuthentication no\nKbdInteractiveAuthentication no\n"
        "PermitRootLogin prohibit-password\n"
    )


def wait_for_server(folder: Path) -> None:
    """Until one can sign in."""
    for _ in range(100):
        done = subprocess.run(
            ["ssh", "-F", str(folder / ".ssh" / "config"), "-o", "BatchMode=yes", "board", "true"],
            capture_output=True,
            text=True,
            check=False,
        )
        if done.returncode == 0:
            return
        time.sleep(0.1)
    raise AssertionError(f"{done.stderr}\n{(folder / 'sshd.log').read_text()}")


@contextlib.contextmanager
def loopback_server(folder: Path) -> Iterator[None]:
    """A server on this machine while the context lasts. Needs root, sshd and ssh.

    The client's configuration counts only in the home folder: set `HOME` to `folder`.
    """
    assert SSHD is not None
    with socket.socket() as free:
        free.bind(("127.0.0.1", 0))
        port = free.getsockname()[1]
    write_configuration(folder, "127.0.0.1", port=port)
    Path("/run/sshd").mkdir(exist_ok=True)  # where sshd drops its privileges
    with (folder / "sshd.log").open("wb") as log:
        server = subprocess.Popen([SSHD, "-D", "-e", "-f", str(folder / "sshd_config")], stderr=log)
    try:
        wait_for_server(folder)
        yield
    finally:
        server.terminate()
        server.wait(10)
