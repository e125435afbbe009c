"""What a login prints before the board answers, or instead: it is passed over, or told."""

from __future__ import annotations

import sys
import time
from dataclasses import replace
from pathlib import Path

import pytest

from hwnas.errors import MeasurementError
from hwnas.measure._wire import BoardSetupError
from hwnas.measure.check import look_at_board
from hwnas.testing import lying
from hwnas.testing.fake import fake_device
from hwnas.types import Device

_SSH = """#!/bin/sh
. "$(dirname "$0")/login"
for command; do :; done
exec sh -c "$command"
"""


@pytest.fixture
def login(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> Path:
    """A shell script: what the login of a board does before the command runs."""
    programs, python = tmp_path / "bin", tmp_path / "python"
    programs.mkdir()
    for path, text in (
        (programs / "ssh", _SSH),
        (python, f'#!/bin/sh\nexec {sys.executable} -S {lying.__file__} "$@"\n'),
    ):
        path.write_text(text)
        path.chmod(0o755)
    monkeypatch.setenv("PATH", f"{programs}:/usr/bin:/bin")
    return programs / "login"


def device(tmp_path: Path) -> Device:
    settings = {
        "transport": "ssh",
        "host": "pi@board",
        "python": str(tmp_path / "python"),
        "folder": str(tmp_path / "a"),
    }
    return replace(fake_device(), connection={**settings, "connect_timeout_s": 1.0, "reconnect_s": 0.1})


@pytest.mark.parametrize(
    "noise",
    [
        "printf 'Welcome to the robot> '",
        'echo \'{"motd": "hello", "id": 1}\'',
        'echo \'{"id": 1, "ok": true, "result": {"wanted": false}}\'',
        "echo '[1, 2]'; echo 3; echo null",
        "head -c 300000 /dev/urandom",
        "head -c 3000000 /dev/zero | tr '\\0' x",
        "printf '\\033[33mOnly /data is kept\\033[0m\\n'",
        "echo 'setlocale: cannot change locale' >&2",
        "set -x",
        'echo "$*"',  # a shell that shows the command
    ],
)
def test_what_a_login_prints_is_passed_over(login: Path, tmp_path: Path, noise: str) -> None:
    login.write_text(noise + "\n")
    assert look_at_board(device(tmp_path)).problem == ""


@pytest.mark.parametrize(
    ("script", "words"),
    [
        ("echo 'This account is currently not available.'; exit 1", "printed: This account is currently.*have a shell"),
        ("echo 'WARNING: Your password has expired.'; exit 1", "Your password has expired.*change it: ssh pi@board"),
        ("echo 'Permission denied (publickey).' >&2; exit 255", "Permission denied.*ssh-copy-id"),
        ("printf '\\033[2Jlogin: '; exit 3", r"printed: \\x1b\[2Jlogin:.*status 3"),
        ("exit 0", "status 0; is '.*python' there Python"),
    ],
)
def test_what_a_login_says_instead_is_told_in_one_line(login: Path, tmp_path: Path, script: str, words: str) -> None:
    login.write_text(script + "\n")
    with pytest.raises(BoardSetupError, match=words) as caught:
        look_at_board(device(tmp_path))
    assert "\n" not in str(caught.value)


def test_a_menu_that_waits_is_told_when_the_time_to_connect_is_over(login: Path, tmp_path: Path) -> None:
    login.write_text("printf '1) shell 2) reboot'; exec sleep 60\n")
    start_s = time.monotonic()
    with pytest.raises(
        BoardSetupError, match=r"printed: 1\) shell 2\) reboot; nothing else came within 2 s.*ask nothing"
    ):
        look_at_board(device(tmp_path))
    assert time.monotonic() - start_s < 10


def test_a_login_that_never_stops_printing_is_ended(login: Path, tmp_path: Path) -> None:
    login.write_text("exec yes 'no end'\n")
    slow = replace(device(tmp_path), connection={**device(tmp_path).connection, "connect_timeout_s": 60.0})
    with pytest.raises(MeasurementError, match=r"printed more than .* no end"):
        look_at_board(slow)
