"""Who may speak with the server, and how much they may say: checked before anything of the application runs.

A page of somebody else in the same browser must not reach it: the Host header names this machine (no DNS rebinding),
the Origin header, where there is one, the same host, and bodies are JSON, which no page may send elsewhere without
being allowed to. Knows the protocol (ASGI) and texts; never what is served.
"""

from __future__ import annotations

import hmac
import ipaddress
import json
from collections.abc import Awaitable, Callable, MutableMapping
from typing import Any

Scope = MutableMapping[str, Any]
Message = MutableMapping[str, Any]
Receive = Callable[[], Awaitable[Message]]
Send = Callable[[Message], Awaitable[None]]
App = Callable[[Scope, Receive, Send], Awaitable[None]]

MOST_BYTES = 64 * 1024  # of a request's body
API = "/api"
_HEADERS = {
    # nothing from elsewhere, no frames around it, and scripts from files alone
    "content-security-policy": (
        "default-src 'none'; script-src 'self'; style-src 'self' 'unsafe-inline'; img-src 'self' data:; "
        "connect-src 'self'; base-uri 'none'; form-action 'none'; frame-ancestors 'none'"
    ),
    "x-content-type-options": "nosniff",
    "referrer-policy": "no-referrer",
    "cross-origin-resource-policy": "same-origin",
    "cache-control": "no-store",
}


class Guard:
    """Lets through what may be answered, and answers the rest.

    Args:
        app: what is guarded.
        token: that requests of the API must bear; empty: none.
        names: of this machine, beside its addresses and `localhost`.
    """

    def __init__(self, app: App, *, token: str = "", names: frozenset[str] = frozenset()) -> None:
        self._app, self._token, self._names = app, token.encode(), frozenset(n.lower() for n in names)

    async def __call__(self, scope: Scope, receive: Receive, send: Send) -> None:
        """One request."""
        if scope["type"] != "http":
            if scope["type"] == "lifespan":
                await self._app(scope, receive, send)
            return
        headers = {name.lower(): value for name, value in scope["headers"]}
        refused = self._refusal(scope, headers)
        if refused is not None:
            await _answer(send, *refused)
            return
        await self._app(scope, _Bounded(receive), _with_headers(send))

    def _refusal(self, scope: Scope, headers: MutableMapping[bytes, bytes]) -> tuple[int, str, str] | None:
        """Status, type and text of the answer to a request that may not be answered."""
        host = headers.get(b"host", b"").decode("latin-1")
        if not self._is_ours(host):
            return 421, "HostError", f"this server is not {host!r}; ask it by its address or as localhost"
        origin = headers.get(b"origin")
        if origin is not None and origin.decode("latin-1").partition("://")[2] != host:
            return 403, "OriginError", "pages of other sites may not ask this server"
        if not scope["path"].startswith(API):
            return None  # the page itself, which holds nothing of the run
        if self._token and not hmac.compare_digest(headers.get(b"authorization", b""), b"Bearer " + self._token):
            return 401, "TokenError", "the token is missing or wrong; `hwnas serve` printed it when it started"
        if scope["method"] in ("POST", "PUT", "PATCH"):
            kind = headers.get(b"content-type", b"").partition(b";")[0].strip().lower()
            if kind != b"application/json":
                return 415, "ContentError", "send application/json"
            if _length(headers) > MOST_BYTES:
                return 413, "SizeError", f"a request holds at most {MOST_BYTES:,} bytes"
        return None

    def _is_ours(self, host: str) -> bool:
        """Whether a Host header names this machine: an address cannot be made to point elsewhere, a name can."""
        name = host.rpartition("]")[0].removeprefix("[") if host.startswith("[") else host.partition(":")[0]
        if name.lower() == "localhost" or name.lower() in self._names:
            return True
        try:
            ipaddress.ip_address(name)
        except ValueError:
            return False
        return True


class BodyTooLargeError(Exception):
    """A request's body goes on after it said, or should have, that it ends."""


class _Bounded:
    """What is received, up to the largest body."""

    def __init__(self, receive: Receive) -> None:
        self._receive, self._seen = receive, 0

    async def __call__(self) -> Message:
        message = await self._receive()
        self._seen += len(message.get("body", b""))
        if self._seen > MOST_BYTES:
            raise BodyTooLargeError
        return message


def _length(headers: MutableMapping[bytes, bytes]) -> int:
    given = headers.get(b"content-length", b"0")
    return int(given) if given.isdigit() and len(given) < 16 else MOST_BYTES + 1


def _with_headers(send: Send) -> Send:
    async def sending(message: Message) -> None:
        if message["type"] == "http.response.start":
            own = {name for name, _ in message["headers"]}
            more = [(k.encode(), v.encode()) for k, v in _HEADERS.items() if k.encode() not in own]
            message["headers"] = [*message["headers"], *more]
        await send(message)

    return sending


async def _answer(send: Send, status: int, kind: str, text: str) -> None:
    body = json.dumps({"error": {"type": kind, "message": text}}).encode()
    start = {"type": "http.response.start", "status": status, "headers": [(b"content-type", b"application/json")]}
    sending = _with_headers(send)
    await sending(start)
    await sending({"type": "http.response.body", "body": body})
