"""A PostgreSQL server that lasts as long as a test: real, on this machine, empty.

Knows the programs `initdb` and `postgres`; never studies.
"""

from __future__ import annotations

import contextlib
import os
import pwd
import shutil
import socket
import subprocess
import tempfile
import time
from collections.abc import Iterator, Sequence
from dataclasses import dataclass
from pathlib import Path

USER = "hwnas"
PASSWORD = "not-to-be-shown"
_START_S = 30.0


def missing() -> str:
    """Why there can be no server here, empty if there can."""
    if _program("initdb") is None or _program("postgres") is None:
        return "PostgreSQL is not installed (Debian: postgresql)"
    if os.geteuid() == 0 and shutil.which("setpriv") is None:
        return "PostgreSQL does not run as root, and there is no setpriv to become somebody else"
    return ""


@dataclass(frozen=True, kw_only=True)
class Server:
    """A server that runs.

    Attributes:
        port: on 127.0.0.1.
        folder: of its data.
    """

    port: int
    folder: Path

    def url(self, *, password: bool = False) -> str:
        """The address of its database, with the password in it if that is asked for."""
        secret = f":{PASSWORD}" if password else ""
        return f"postgresql://{USER}{secret}@127.0.0.1:{self.port}/postgres"


@contextlib.contextmanager
def server() -> Iterator[Server]:
    """Start a server that wants a password; it is stopped, and its data deleted, with the context."""
    # not within a test's own folder: that may be closed to the user who runs the server
    folder = Path(tempfile.mkdtemp(prefix="hwnas-postgresql-"))
    try:
        (folder / "password").write_text(PASSWORD, encoding="utf-8")
        if os.geteuid() == 0:
            nobody = pwd.getpwnam("nobody")
            for path in (folder, folder / "password"):
                os.chown(path, nobody.pw_uid, nobody.pw_gid)
        data, port = folder / "data", _free_port()
        made = subprocess.run(
            _as_nobody(
                [
                    *(str(_program("initdb")), "--pgdata", str(data), "--username", USER, "--no-sync"),
                    *("--auth", "scram-sha-256", "--pwfile", str(folder / "password"), "--encoding", "UTF8"),
                ]
            ),
            capture_output=True,
            text=True,
            check=False,
            cwd=folder,
        )
        assert made.returncode == 0, made.stderr
        # nothing is to survive a power cut
        options = {"listen_addresses": "127.0.0.1", "port": port, "unix_socket_directories": folder, "fsync": "off"}
        command = [str(_program("postgres")), "-D", str(data), *(f"--{k}={v}" for k, v in options.items())]
        with (
            (folder / "log").open("w") as log,
            subprocess.Popen(_as_nobody(command), stdout=log, stderr=log, cwd=folder) as process,
        ):
            try:
                _wait_for(port, process, folder / "log")
                yield Server(port=port, folder=folder)
            finally:
                process.terminate()
                try:
                    process.wait(10)
                except subprocess.TimeoutExpired:
                    process.kill()
    finally:
        shutil.rmtree(folder, ignore_errors=True)


def _program(name: str) -> Path | None:
    """Where a program is: on the path, or where Debian keeps those of a version."""
    found = shutil.which(name)
    if found is not None:
        return Path(found)
    return next(iter(sorted(Path("/usr/lib/postgresql").glob(f"*/bin/{name}"), reverse=True)), None)


def _as_nobody(command: Sequence[str]) -> list[str]:
    """A command that root runs as another user: PostgreSQL refuses to run as root."""
    if os.geteuid() != 0:
        return list(command)
    return ["setpriv", "--reuid=nobody", "--regid=nogroup", "--clear-groups", "--pdeathsig=TERM", *command]


def _free_port() -> int:
    with socket.socket() as taken:
        taken.bind(("127.0.0.1", 0))
        port: int = taken.getsockname()[1]
        return port


def _wait_for(port: int, process: subprocess.Popen[bytes], log: Path) -> None:
    until = time.monotonic() + _START_S
    while time.monotonic() < until:
        assert process.poll() is None, log.read_text(encoding="utf-8")
        if "ready to accept connections" in log.read_text(encoding="utf-8", errors="replace"):
            return
        time.sleep(0.05)
    raise AssertionError(f"no server on port {port} within {_START_S:g} s: {log.read_text(encoding='utf-8')}")
