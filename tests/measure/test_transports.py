"""The commands that lead to a board: arguments arrive as they are, and nothing weakens who is trusted."""

import shlex
import subprocess
import sys
from pathlib import Path

import pytest

from hwnas.errors import ConfigError
from hwnas.measure.connection import check_connection, open_connection, where_to
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
        "config_file": "/etc/ssh/c",
        "jump": "gate",
    }
    command = SshTransport(settings).command(["python3", "-c", "a b"], timeout_s=2.5)
    assert command[:9] == ["ssh", "-F", "/etc/ssh/c", "-p", "2222", "-i", "/k", "-J", "gate"]
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


HOSTILE = (
    "$(touch x)",
    "`touch x`",
    "a;b",
    "a|b",
    "a&b",
    "a\nb",
    "-oProxyCommand=x",
    "a b",
    "a'b",
    'a"b',
    "a>b",
    "%h",
    "",
)


@pytest.mark.parametrize("value", HOSTILE)
@pytest.mark.parametrize("key", ["host", "jump", "config_file", "identity_file", "python", "folder"])
def test_nothing_a_shell_knows_is_taken_for_a_name(key: str, value: str) -> None:
    if (key, value) in {("identity_file", "a b"), ("folder", "a b")}:
        return  # quoted wherever they go
    settings: dict[str, Option] = {"transport": "ssh", "host": "board", key: value}
    with pytest.raises(ConfigError, match=f"{key} is .*allowed"):
        open_connection(settings)


@pytest.mark.parametrize("value", HOSTILE)
def test_nothing_a_shell_knows_is_taken_for_a_serial(value: str) -> None:
    with pytest.raises(ConfigError, match=r"serial is .*allowed"):
        open_connection({"transport": "adb", "serial": value})


@pytest.mark.parametrize(
    "host", ["board", "pi@raspberrypi.local", "10.0.0.7", "pi@fe80::1%eth0", "me@corp.example@board", "a_b-c.d"]
)
def test_hosts_are_names_and_addresses(host: str) -> None:
    assert open_connection({"transport": "ssh", "host": host})[1].board == host


@pytest.mark.parametrize("jump", ["gate", "me@gate:2222", "a,b@c:1,[fe80::1]:22"])
def test_jumps_are_hosts_with_ports(jump: str) -> None:
    open_connection({"transport": "ssh", "host": "b", "jump": jump})


def test_a_configuration_of_ssh_is_taken_from_where_the_user_keeps_them(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setenv("HOME", str(tmp_path))
    for path in ("~/.ssh/lab", f"{tmp_path}/.ssh/sub/lab", "/etc/ssh/lab"):
        open_connection({"transport": "ssh", "host": "b", "config_file": path})
    for path in ("lab", "./.ssh/lab", "~/lab", "~/.ssh/../lab", "/tmp/lab", "~/.sshx/lab", "~/.ssh"):
        with pytest.raises(ConfigError, match=r"may run programs"):
            open_connection({"transport": "ssh", "host": "b", "config_file": path})


@pytest.mark.parametrize(
    ("key", "value"),
    [
        ("port", 99999),
        ("alive_s", 10**6),
        ("connect_timeout_s", 1e300),
        ("reconnect_s", 10**400),
        ("max_file_mb", 1e12),
        ("python", "env X=1 python"),
        ("host", "x" * 300),
        ("folder", "x" * 5000),
    ],
)
def test_settings_are_bounded(key: str, value: Option) -> None:
    with pytest.raises(ConfigError, match=f"{key} is .*allowed") as caught:
        open_connection({"transport": "ssh", "host": "b", key: value})
    assert len(str(caught.value)) < 700


def test_a_board_that_is_not_named_yet_may_be_described() -> None:
    check_connection({"transport": "ssh", "python": "~/bin/python"})
    check_connection({"transport": "adb"})
    with pytest.raises(ConfigError, match="host"):
        check_connection({"transport": "ssh", "host": ""})
    with pytest.raises(ConfigError, match="jump"):
        check_connection({"transport": "ssh", "jump": "$(x)"})


def test_where_a_connection_leads_is_told_in_one_line() -> None:
    assert where_to({"transport": "ssh", "host": "pi@b\x1b[2J\n"}) == r"transport ssh, host pi@b\x1b[2J "


def test_defaults_are_kept_and_numbers_may_be_whole() -> None:
    connection, transport = open_connection({"transport": "ssh", "host": "b", "reconnect_s": 7})
    assert (connection.python, connection.reconnect_s) == ("python3", 7)
    assert transport.board == "b"
