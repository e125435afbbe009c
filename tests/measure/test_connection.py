"""Connections that name several boards of a kind: what they mean, what is refused, which board one is enough for."""

from __future__ import annotations

import sys
from collections.abc import Mapping
from pathlib import Path

import pytest

from hwnas.errors import ConfigError
from hwnas.measure import Worker, first_reachable
from hwnas.measure._wire import BoardSetupError
from hwnas.measure.connection import (
    boards_of,
    check_board_is_named,
    check_connection,
    command_to_name_it,
    open_connection,
    reached,
)
from hwnas.testing.fake import fake_device
from hwnas.types import Device, Setting

HOSTS: Mapping[str, Setting] = {"transport": "ssh", "hosts": ("pi@a", "pi@b"), "port": 2222}


def device(connection: Mapping[str, Setting]) -> Device:
    return Device(name="pi", runtime="fake", connection=connection)


def fakes(*serials: str) -> Device:
    """Devices that `tests.measure.fake_adb` plays."""
    connection = {"transport": "adb", "serials": serials, "python": sys.executable, "folder": "~/agent"}
    return Device(name="fakes", runtime="fake", connection=connection)


def test_boards_of_a_kind_are_reached_with_the_same_settings() -> None:
    check_connection(HOSTS)
    assert [b.connection for b in boards_of(device(HOSTS))] == [
        {"transport": "ssh", "host": "pi@a", "port": 2222},
        {"transport": "ssh", "host": "pi@b", "port": 2222},
    ]
    serials: dict[str, Setting] = {"transport": "adb", "serials": ("1A", "2B")}
    assert [b.connection["serial"] for b in boards_of(device(serials))] == ["1A", "2B"]


@pytest.mark.parametrize("connection", [{}, {"transport": "ssh"}, {"transport": "ssh", "host": "pi@a"}])
def test_one_board_or_this_machine_is_the_device_itself(connection: dict[str, Setting]) -> None:
    one = device(connection)
    assert boards_of(one) == (one,)


@pytest.mark.parametrize(
    ("change", "words"),
    [
        ({"host": "pi@c"}, "both host and hosts; name one board in host, or all of them in hosts"),
        ({"hosts": ("pi@a", "pi@b", "pi@a")}, "hosts names pi@a twice"),
        ({"hosts": ()}, r"hosts is \(\); allowed: a list of boards of a kind, like \[\"pi@board.local\"\]"),
        ({"hosts": "pi@a"}, "hosts is 'pi@a'; allowed: a list"),
        ({"hosts": ("pi@a", "-oProxyCommand=x")}, "host is '-oProxyCommand=x'"),
        ({"serials": ("1A",)}, "unknown setting 'serials'.*hosts"),
        ({"jump": ("a", "b")}, r"jump is \('a', 'b'\)"),
    ],
)
def test_what_names_no_boards_of_a_kind_is_refused(change: dict[str, Setting], words: str) -> None:
    with pytest.raises(ConfigError, match=words):
        check_connection({**HOSTS, **change})


def test_what_takes_one_board_refuses_several() -> None:
    with pytest.raises(ConfigError, match="hosts names boards of a kind, and here it takes one"):
        open_connection(HOSTS)
    with pytest.raises(ConfigError, match="hosts names boards of a kind"):
        Worker(device(HOSTS))


def test_people_are_told_all_of_them() -> None:
    assert reached(device(HOSTS)) == "ssh pi@a, pi@b"
    assert command_to_name_it(device(HOSTS)) == ""
    check_board_is_named(device(HOSTS))


# ---------------------------------------------------------------- what one board is enough for


def test_one_that_is_named_alone_is_not_contacted_before_it_is_asked(board: Path) -> None:
    (board / "down").touch()
    with first_reachable(fakes("A"), tell=pytest.fail) as worker:
        assert worker.pid is None
    with first_reachable(fake_device(), tell=pytest.fail) as worker:
        assert worker.pid is None


def test_of_several_the_first_that_answers_is_taken_and_told(board: Path) -> None:
    for name in ("A", "B"):
        (board / name / "modules").mkdir(parents=True)
    (board / "A" / "down").touch()
    told: list[str] = []
    with first_reachable(fakes("A", "B"), tell=told.append) as worker:
        assert worker.device.connection["serial"] == "B"
        assert worker.context()["hardware"] == "simulated processor"
    assert "'A' not found" in told[0]
    assert told[1:] == ["measured on adb B, the first of 2 boards that answers"]


def test_where_none_of_several_answers_the_error_is_of_the_first(board: Path) -> None:
    (board / "down").touch()
    told: list[str] = []
    with pytest.raises(BoardSetupError, match="'A' not found"):
        first_reachable(fakes("A", "B"), tell=told.append)
    assert len(told) == 2
