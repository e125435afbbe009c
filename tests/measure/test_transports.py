"""The commands that lead to a board: arguments arrive as they are, and nothing weakens who is trusted."""

import shlex
import subprocess
import sys

import pytest

from hwnas.measure.connection import open_connection
from hwnas.measure.transports._shell import shell_line
from hwnas.measure.transports.adb import AdbTransport
from hwnas.measure.transports.ssh import SshTransport
from hwnas.types import Option


@pytest.mark.parametrize("argument", ["plain", "two words", "it's", '"', "$HOME", "a\nb", "*", "-x", "", "~/x"])
def test_arguments_arrive_on_the_board_as_they_are(argument: str) -> None:
    line = shell_line([sys.executable, "-c", "import sys; sys.stdout.write(sys.argv[1])", argument])
    assert subprocess.run(["sh", "-c", line], capture_output=True, text=True, check=True).stdout == argument


def test_a_program_in_the_home_folder_there_is_found() -> None:
    assert shell_line(["~/my venv/bin/python", "-V"]) == "exec \"$HOME\"/'my venv/bin/python' -V"


def test_ssh_gets_the_place_and_the_command_apart() -> None:
    settings: dict[str, Option] = {
        "host": "pi@board",
        "port": 2222,
        "identity_file": "/k",
        "config_file": "/c",
        "jump": "gate",
    }
    command = SshTransport(settings).command(["python3", "-c", "a b"], timeout_s=2.5)
    assert command[:9] == ["ssh", "-F", "/c", "-p", "2222", "-i", "/k", "-J", "gate"]
    assert command[-3:] == ["--", "pi@board", "exec python3 -c 'a b'"]
    assert "ConnectTimeout=3" in command


def test_ssh_never_asks_and_never_trusts_more_than_the_user_does() -> None:
    text = shlex.join(SshTransport({"host": "b"}).command(["true"], timeout_s=1))
    assert "BatchMode=yes" in text
    for weakening in ("StrictHostKeyChecking", "KnownHosts", "PasswordAuthentication", "ForwardAgent=yes"):
        assert weakening not in text


@pytest.mark.parametrize(
    ("words", "advice"),
    [
        ("pi@b: Permission denied (publickey,password).", "ssh-copy-id"),
        ("Host key verification failed.", "fingerprint"),
        ("ssh: connect to host b port 22: Connection refused", "SSH server"),
        ("ssh: Could not resolve hostname b: Name or service not known", "name of the board"),
        ("something else", ""),
    ],
)
def test_ssh_says_what_to_do(words: str, advice: str) -> None:
    given = SshTransport({"host": "b"}).advice(words)
    assert advice in given
    assert bool(given) == bool(advice)


def test_adb_gets_the_serial_and_pipes_instead_of_a_terminal() -> None:
    command = AdbTransport({"serial": "10.0.0.7:5555"}).command(["python3", "x"], timeout_s=1)
    assert command == ["adb", "-s", "10.0.0.7:5555", "shell", "-T", "exec python3 x"]


def test_defaults_are_kept_and_numbers_may_be_whole() -> None:
    connection, transport = open_connection({"transport": "ssh", "host": "b", "reconnect_s": 7})
    assert (connection.python, connection.reconnect_s) == ("python3", 7)
    assert transport.board == "b"
