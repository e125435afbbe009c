"""Who may ask the server, and how much they may say."""

from __future__ import annotations

import asyncio
from collections.abc import Mapping
from typing import Any

import pytest

from hwnas.serve.access import MOST_BYTES, BodyTooLargeError, Guard, Message, Receive, Scope, Send

TOKEN = "a-token-of-some-length"
LOCAL = {"host": "127.0.0.1:8765"}


async def _app(scope: Scope, receive: Receive, send: Send) -> None:
    """Reads all that is sent, and answers 200."""
    while (await receive()).get("more_body"):
        pass
    await send({"type": "http.response.start", "status": 200, "headers": [(b"cache-control", b"own")]})
    await send({"type": "http.response.body", "body": b"{}"})


def ask(
    headers: Mapping[str, str],
    *,
    path: str = "/api/run",
    method: str = "GET",
    token: str = "",
    names: frozenset[str] = frozenset(),
    body: tuple[bytes, ...] = (b"",),
) -> tuple[int, dict[str, str]]:
    """Status and headers of the answer to one request."""
    sent: list[Message] = []
    parts = [{"type": "http.request", "body": b, "more_body": i < len(body) - 1} for i, b in enumerate(body)]

    async def receive() -> Message:
        return parts.pop(0)

    async def send(message: Message) -> None:
        sent.append(message)

    scope: Any = {
        "type": "http",
        "path": path,
        "method": method,
        "headers": [(k.encode(), v.encode()) for k, v in headers.items()],
    }
    asyncio.run(Guard(_app, token=token, names=names)(scope, receive, send))
    return sent[0]["status"], {k.decode(): v.decode() for k, v in sent[0]["headers"]}


@pytest.mark.parametrize(
    "host", ["127.0.0.1", "127.0.0.1:1", "localhost:8765", "LOCALHOST", "[::1]:8765", "192.168.0.7"]
)
def test_addresses_and_localhost_are_this_machine(host: str) -> None:
    assert ask({"host": host})[0] == 200


@pytest.mark.parametrize(
    "host", ["evil.example", "evil.example:8765", "127.0.0.1.evil.example", "localhost.evil.example", ""]
)
def test_a_name_that_somebody_points_here_is_refused(host: str) -> None:
    for path in ("/", "/api/run"):
        assert ask({"host": host}, path=path)[0] == 421
    assert ask({}, path="/")[0] == 421


def test_the_machine_may_be_asked_by_its_own_name() -> None:
    assert ask({"host": "board-7:8765"}, names=frozenset({"Board-7"}))[0] == 200


@pytest.mark.parametrize("origin", ["http://evil.example", "null", "http://127.0.0.1:9", "https://127.0.0.1:8765.evil"])
def test_pages_of_other_sites_are_refused(origin: str) -> None:
    assert ask(LOCAL | {"origin": origin})[0] == 403


def test_the_own_page_is_not() -> None:
    assert ask(LOCAL | {"origin": "http://127.0.0.1:8765"})[0] == 200


@pytest.mark.parametrize(
    "given", [None, "", "Bearer", "Bearer wrong", f"bearer {TOKEN}", f"Bearer {TOKEN}x", f"Basic {TOKEN}"]
)
def test_without_the_token_the_api_tells_nothing(given: str | None) -> None:
    headers = LOCAL if given is None else LOCAL | {"authorization": given}
    assert ask(headers, token=TOKEN)[0] == 401


def test_with_it_it_does_and_the_page_needs_none() -> None:
    assert ask(LOCAL | {"authorization": f"Bearer {TOKEN}"}, token=TOKEN)[0] == 200
    assert ask(LOCAL, token=TOKEN, path="/")[0] == 200
    assert ask(LOCAL, token=TOKEN, path="/api/openapi.json")[0] == 401


@pytest.mark.parametrize(
    "kind", [None, "text/plain", "application/x-www-form-urlencoded", "text/plain; x=application/json"]
)
def test_what_a_page_may_send_anywhere_is_refused(kind: str | None) -> None:
    headers = LOCAL if kind is None else LOCAL | {"content-type": kind}
    assert ask(headers, method="POST")[0] == 415


def test_json_is_taken() -> None:
    assert ask(LOCAL | {"content-type": "application/json; charset=utf-8"}, method="POST")[0] == 200


@pytest.mark.parametrize("length", [str(MOST_BYTES + 1), "9" * 40, "-1", "x"])
def test_what_says_that_it_is_too_large_is_refused(length: str) -> None:
    headers = LOCAL | {"content-type": "application/json", "content-length": length}
    assert ask(headers, method="POST")[0] == 413


def test_what_does_not_end_is_not_read_on() -> None:
    piece = b"x" * (MOST_BYTES // 2 + 1)
    with pytest.raises(BodyTooLargeError):
        ask(LOCAL | {"content-type": "application/json"}, method="POST", body=(piece, piece, piece))


def test_every_answer_forbids_what_the_page_does_not_need() -> None:
    for status, headers in (ask(LOCAL), ask({"host": "evil.example"})):
        assert "default-src 'none'" in headers["content-security-policy"], status
        assert headers["x-content-type-options"] == "nosniff"
        assert "access-control-allow-origin" not in headers
    # what the application says itself stays
    assert ask(LOCAL)[1]["cache-control"] == "own"
