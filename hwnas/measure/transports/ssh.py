"""Reach a board by the system's OpenSSH client, with the user's own configuration, keys and known hosts.

Knows `ssh`'s options; nothing here weakens the check of a host's key, and nothing asks for a password.
"""

from __future__ import annotations

import math
import os
import re
from collections.abc import Mapping, Sequence

from hwnas.errors import ConfigError
from hwnas.foreign import as_written
from hwnas.measure.transports._shell import shell_line
from hwnas.types import Option

# What a place may be called. OpenSSH puts the jump host and the configuration's path into a line for the shell here, so
# that nothing a shell knows may stand in them; nothing may look like an option either.
_USER = r"[A-Za-z0-9_][A-Za-z0-9._+-]*(@[A-Za-z0-9_][A-Za-z0-9._-]*)?"  # (a domain may belong to it)
_NAME = r"[A-Za-z0-9_][A-Za-z0-9._-]*"
_ADDRESS = r"[0-9A-Fa-f:]*:[0-9A-Fa-f:.]*(%[A-Za-z0-9._-]+)?"  # of IPv6
_HOST = re.compile(rf"({_USER}@)?({_NAME}|{_ADDRESS})")
_HOP = rf"({_USER}@)?({_NAME}|\[{_ADDRESS}\])(:[0-9]{{1,5}})?"
_JUMP = re.compile(rf"{_HOP}(,{_HOP})*")
_PATH = re.compile(r"[A-Za-z0-9._~/+@ -]+")
_CONFIG_PATH = re.compile(r"[A-Za-z0-9._~/+@-]+")
_CONFIG_FOLDERS = ("~/.ssh", "/etc/ssh")
_LONGEST_NAME, _LONGEST_PATH = 255, 4096  # characters
_LAST_PORT, _LONGEST_ALIVE_S = 65535, 3600
_ALIVE_S, _ALIVE_COUNT = 5, 3  # a link that was cut is noticed after 15 s, also in a long run that says nothing
_OPTIONS = (
    "BatchMode=yes",  # never a prompt: nobody is there to answer
    f"ServerAliveCountMax={_ALIVE_COUNT}",
    "ControlMaster=no",  # a connection of our own: one that is shared may be cut by others
    "ControlPath=none",
    "ClearAllForwardings=yes",
    "ForwardAgent=no",
    "ForwardX11=no",
    "PermitLocalCommand=no",
    "RemoteCommand=none",
    "RequestTTY=no",
    "LogLevel=ERROR",
)
# in the order looked for, all in lower case
_ADVICE = {  # what ssh says -> what to do
    "host key verification failed": "the host's key is not known or has changed: connect once by hand, compare the "
    "fingerprint, and accept it: {by_hand}",
    "password has expired": "sign in once by hand and change it: {by_hand}",
    "not available": "the account there must have a shell that runs commands; try: {by_hand} true",
    "permission denied": "signing in must work without a password: put a key there with ssh-copy-id, and unlock it "
    "with ssh-add if it has a passphrase; try: {by_hand}",
    "could not resolve hostname": "is the name of the board right? try: {by_hand}",
    "connection refused": "the board answers, but no SSH server does: is it running, and is the port right?",
    "timed out": "is the board on, and in this network? try: {by_hand}",
    "no route to host": "is the board on, and in this network? try: {by_hand}",
    "cannot be started": "install an OpenSSH client",
}


class SshTransport:
    """A board signed in to by OpenSSH.

    Settings: `host` (`pi@board`, or a name in the configuration), and where the configuration does not say it: `port`,
    `identity_file`, `config_file` (instead of ~/.ssh/config, in the same folder or in /etc/ssh), `jump` (a host in
    between), `alive_s` (seconds between signs of life; three are waited for).
    """

    keys: Mapping[str, type] = {
        "host": str,
        "port": int,
        "identity_file": str,
        "config_file": str,
        "jump": str,
        "alive_s": int,
    }

    named_by = "host"
    example = "pi@board.local"
    setting_notes: Mapping[str, str] = {"host": "as for ssh", "hosts": "boards of a kind, each as for ssh"}

    def __init__(self, settings: Mapping[str, Option]) -> None:
        """Check the settings.

        A configuration of OpenSSH may run programs here (`ProxyCommand`, `Match exec`), so one is taken only from where
        the user keeps those: a description from elsewhere must not bring its own.

        Raises:
            ConfigError: there is no host, or a setting is not what such a name may be.
        """
        host, jump = str(settings.get("host", "")), str(settings.get("jump", ""))
        if len(host) > _LONGEST_NAME or not _HOST.fullmatch(host):
            raise _refused("host", host, "a name or address for ssh, like 'pi@raspberrypi.local'")
        if "jump" in settings and (len(jump) > _LONGEST_NAME or not _JUMP.fullmatch(jump)):
            raise _refused("jump", jump, "hosts for ssh -J, like 'me@gate:2222'; several with commas between")
        if int(settings.get("port", 22)) > _LAST_PORT:
            raise ConfigError(f"connection: port is {settings['port']}; allowed: 1 to {_LAST_PORT}")
        if int(settings.get("alive_s", _ALIVE_S)) > _LONGEST_ALIVE_S:
            raise ConfigError(f"connection: alive_s is {settings['alive_s']}; allowed: 1 to {_LONGEST_ALIVE_S}")
        key = str(settings.get("identity_file", "~"))
        if not _PATH.fullmatch(key) or key.startswith("-") or len(key) > _LONGEST_PATH:
            raise _refused("identity_file", key, "the path of a key, of letters, digits, spaces and . _ ~ / + @ -")
        if "config_file" in settings:
            _check_config_file(str(settings["config_file"]))
        self.board = host
        self._settings = settings

    def command(self, arguments: Sequence[str], *, timeout_s: float) -> list[str]:
        """`ssh -T ... host 'exec program arguments'`."""
        alive_s = self._settings.get("alive_s", _ALIVE_S)
        options = [*_OPTIONS, f"ServerAliveInterval={alive_s}", f"ConnectTimeout={max(1, math.ceil(timeout_s))}"]
        # -T: a terminal would change bytes and mix standard error in
        command = ["ssh", *self._place(), "-T", *(word for option in options for word in ("-o", option))]
        # --: whatever a host is called, it is no option
        return [*command, "--", self.board, shell_line(arguments)]

    def advice(self, words: str) -> str:
        """Advice for what OpenSSH says most often."""
        for said, advice in _ADVICE.items():
            if said in words.lower():
                return advice.format(by_hand=" ".join(["ssh", *self._place(), self.board]))
        return ""

    def _place(self) -> list[str]:
        flags = {"config_file": "-F", "port": "-p", "identity_file": "-i", "jump": "-J"}
        place: list[str] = []
        for key, flag in flags.items():
            if key in self._settings:
                value = str(self._settings[key])
                place += [flag, os.path.expanduser(value) if key.endswith("_file") else value]
        return place


def _check_config_file(path: str) -> None:
    # normalised: ~/.ssh/../evil is not in ~/.ssh
    whole = os.path.normpath(os.path.expanduser(path))
    places = [os.path.expanduser(folder) for folder in _CONFIG_FOLDERS]
    if not _CONFIG_PATH.fullmatch(path) or not any(whole.startswith(place + os.sep) for place in places):
        raise _refused(
            "config_file",
            path,
            f"a file in {' or '.join(_CONFIG_FOLDERS)}, of letters, digits and . _ ~ / + @ -: a configuration of ssh "
            "may run programs, so it is only taken from there. Copy it there, or Include it in ~/.ssh/config and leave "
            "config_file out",
        )


def _refused(key: str, value: str, allowed: str) -> ConfigError:
    return ConfigError(f"connection: {key} is {as_written(value)}; allowed: {allowed}")
