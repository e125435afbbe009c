"""Start and end of the server: its address, its token, what is said on the terminal.

Knows configurations and sockets; FastAPI and uvicorn are loaded late, since they are an extra.
"""

from __future__ import annotations

import contextlib
import errno
import ipaddress
import secrets
import socket
from collections.abc import Sequence
from dataclasses import dataclass
from typing import Any

from hwnas import registry
from hwnas._console import Console
from hwnas.catalogue import Catalogue, open_catalogue
from hwnas.config import Config
from hwnas.errors import ConfigError
from hwnas.quantities import count
from hwnas.serve.jobs import Jobs
from hwnas.workspace import Workspace

LOCAL = "127.0.0.1"
PORT = 8765
_SHORTEST_TOKEN = 16
_AT_ONCE = 200  # connections


@dataclass(frozen=True, slots=True, kw_only=True)
class Address:
    """Where the server listens, and who may ask it.

    Attributes:
        host: a name or address of this machine.
        port: 0: any that is free.
        token: that the API wants; empty: made where the host is not this machine alone.
    """

    host: str = LOCAL
    port: int = PORT
    token: str = ""

    @property
    def is_local(self) -> bool:
        """Whether only this machine can reach it."""
        if self.host.lower() == "localhost":
            return True
        try:
            return ipaddress.ip_address(self.host).is_loopback
        except ValueError:
            return False

    def with_token(self) -> Address:
        """The same with a token, if it needs one and has none.

        Raises:
            ConfigError: its token is too short to keep anybody out.
        """
        if self.token and len(self.token) < _SHORTEST_TOKEN:
            raise ConfigError(
                f"the token has {len(self.token)} characters; {_SHORTEST_TOKEN} or more cannot be guessed "
                "(without --token one is made)"
            )
        if self.token or self.is_local:
            return self
        return Address(host=self.host, port=self.port, token=secrets.token_urlsafe(24))


def serve(config: Config, *, console: Console, address: Address | None = None, devices: Sequence[str] = ()) -> None:
    """Serve a run's budgets until Ctrl-C.

    Args:
        config: of the run.
        console: to speak on.
        address: where to listen; None: on this machine alone.
        devices: see `hwnas.catalogue.open_catalogue`.

    Raises:
        MissingPackageError: FastAPI or uvicorn is not installed; names the extra.
        ConfigError: the port is in use, or the host is not of this machine; the token is too short.
        TableError, StudyError: see `hwnas.catalogue.open_catalogue`.
    """
    make_app = registry.load_object("hwnas.serve.app:make_app", extra="serve", needed_for="hwnas serve")
    server_of = registry.load_object("uvicorn:Server", extra="serve", needed_for="hwnas serve")
    address = (address or Address()).with_token()
    # before anything that takes time: a port that is taken is told at once
    with bound(address) as listening:
        catalogue = open_catalogue(config, console=console, devices=devices)
        served = _served(config, catalogue)
        names = frozenset({socket.gethostname(), address.host})
        app = make_app(served, token=address.token, names=names)
        _tell(console, catalogue, address=address, port=listening.getsockname()[1])
        server = server_of(settings(app))
        _run(server, listening)
    console.note("stopped")


def _served(config: Config, catalogue: Catalogue) -> Any:
    served_of = registry.load_object("hwnas.serve.app:Served", extra="serve", needed_for="hwnas serve")
    # processes of jobs may be started from anywhere: the run is named by its whole path
    return served_of(catalogue=catalogue, run=Workspace(config.whole).folder.resolve(), jobs=Jobs())


def settings(app: Any) -> Any:
    """Uvicorn's, for an application of ours."""
    config_of = registry.load_object("uvicorn:Config", extra="serve", needed_for="hwnas serve")
    return config_of(
        app,
        lifespan="on",
        # a line for each move of a slider, or for each request that is one too many, would hide what is worth reading
        access_log=False,
        log_level="error",
        server_header=False,
        ws="none",
        limit_concurrency=_AT_ONCE,
        timeout_keep_alive=30,
        # followers of jobs would hold up the end
        timeout_graceful_shutdown=2,
    )


def _run(server: Any, listening: socket.socket) -> None:
    """Serve until a signal comes; then everything is tidied up, and the signal counts as answered."""
    # uvicorn ends in order, and raises the signal again
    with contextlib.suppress(KeyboardInterrupt):
        server.run(sockets=[listening])


def bound(address: Address) -> socket.socket:
    """A socket that listens at an address. It knows that it speaks TCP, without which every answer waits for 40 ms.

    Raises:
        ConfigError: it cannot be.
    """
    where = f"{address.host}:{address.port}"
    try:
        found = socket.getaddrinfo(address.host, address.port, type=socket.SOCK_STREAM, flags=socket.AI_PASSIVE)
    except OSError as e:
        raise ConfigError(f"the host {address.host!r} is not known ({e.strerror}); try {LOCAL}") from e
    family, kind, protocol, _, target = found[0]
    opened = socket.socket(family, kind, protocol)
    try:
        # a server that ended a moment ago shall not be in the way; one that runs is
        opened.setsockopt(socket.SOL_SOCKET, socket.SO_REUSEADDR, 1)
        opened.bind(target)
        opened.listen(128)
    except OSError as e:
        opened.close()
        if e.errno == errno.EADDRINUSE:
            raise ConfigError(
                f"port {address.port} is in use on {address.host}, perhaps by another `hwnas serve`; name another "
                "with --port, or --port 0 for any that is free"
            ) from e
        raise ConfigError(f"{where} cannot be listened on: {e.strerror}") from e
    return opened


def _tell(console: Console, catalogue: Catalogue, *, address: Address, port: int) -> None:
    for networks in catalogue.values():
        predicted = "" if networks.predicted is None else f", {count(len(networks.predicted), 'predicted network')}"
        console.note(f"{networks.device}: {count(len(networks.evaluated), 'evaluated network')}{predicted}")
    host = f"[{address.host}]" if ":" in address.host else address.host
    shown = f"http://{host}:{port}/"
    if address.token:
        # behind `#`, which no browser sends and no server logs
        shown += f"#token={address.token}"
        console.note(f"the API wants the header `Authorization: Bearer {address.token}`")
    if not address.is_local:
        console.warn("other machines can reach this server, over a connection that anyone on the way can read")
    console.note(f"serving on {shown}  (Ctrl-C ends it)")
